"""The embedded zoo: which minis there are, and how each is pre-trained on the part world."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from causalft.errors import CausalFTError, nearest
from causalft.models.pretraining.pretrain import PRETRAINING, PretrainingLoss, pretrain_mini, save_mini
from causalft.models.strata.cards import ModelCard
from synthetic.creatures import (
    CLASS_NAMES,
    FACTORS,
    N_CLASSES,
    exponential_prior,
    factor_law,
    part_table,
    render_creatures,
)

__all__ = ["IMAGE_SIZE", "MEMBERS", "Member", "pretrain_member"]

IMAGE_SIZE = 40
IMBALANCE_FACTOR = 100.0


@dataclass(frozen=True)
class Member:
    """One mini of the embedded zoo.

    Attributes
    ----------
    name : str
    order_seed : int
        Seeds the class order of its long-tailed prior. The three orders and the downstream one were chosen for
        Spearman correlations within 0.006 of zero.
    favourite : {"head", "body", "tail"}
        The part it sees in 80 % of its pictures.
    seed : int
        Seeds weights, pictures and the order of training.
    loss : {"caption-bank", "in-batch"}
    role : str
    """

    name: str
    order_seed: int
    favourite: str
    seed: int
    loss: PretrainingLoss = "caption-bank"
    role: str = ""

    @property
    def prior(self) -> np.ndarray:
        """P_P(Y), shape (60,), sums to 1."""
        order = np.random.default_rng(self.order_seed).permutation(N_CLASSES)
        return exponential_prior(N_CLASSES, IMBALANCE_FACTOR, order)


_CLIP, _OPENCLIP, _METACLIP = 14, 18, 106

MEMBERS = {
    member.name: member
    for member in (
        Member("clip", _CLIP, "head", 0, role="stratum"),
        Member("openclip", _OPENCLIP, "body", 10, role="stratum"),
        Member("metaclip", _METACLIP, "tail", 20, role="stratum"),
        Member("clip@1", _CLIP, "head", 1, role="control: clip's prior and factor, another seed"),
        Member("clip@2", _CLIP, "head", 2, role="control: clip's prior and factor, another seed"),
        Member(
            "metaclip@1", _METACLIP, "tail", 21, role="control: metaclip's prior and factor, another seed"
        ),
        Member(
            "metaclip@2", _METACLIP, "tail", 22, role="control: metaclip's prior and factor, another seed"
        ),
        Member("clip-openclip-prior", _OPENCLIP, "head", 30, role="control: clip's factor, openclip's prior"),
        Member("clip-metaclip-prior", _METACLIP, "head", 31, role="control: clip's factor, metaclip's prior"),
        Member(
            "clip-infonce",
            _CLIP,
            "head",
            0,
            "in-batch",
            role="clip with in-batch InfoNCE: no prior in its logits",
        ),
    )
}


def pretrain_member(
    name: str,
    folder: Path,
    *,
    n_images: int = 30_000,
    epochs: int = PRETRAINING.epochs,
    progress: bool | None = None,
    checkpoint: bool = True,
) -> ModelCard:
    """Pre-train one member of the embedded zoo and write its weights and card into ``folder``.

    Parameters
    ----------
    name : str
        A key of :data:`MEMBERS`.
    folder : pathlib.Path
    n_images, epochs : int
        The shipped minis have the defaults.
    progress : bool, optional
    checkpoint : bool
        Keep a checkpoint after each epoch, so that a killed pre-training goes on where it stopped.

    Returns
    -------
    ModelCard

    Raises
    ------
    CausalFTError
        If there is no such member, or nothing to train on.
    """
    if name not in MEMBERS:
        raise CausalFTError(f"the embedded zoo has no member {name!r}; {nearest(name, MEMBERS)}")
    if n_images < 1 or epochs < 1:
        raise CausalFTError(f"{n_images} images and {epochs} epochs are no training; give 1 or more of each")
    member = MEMBERS[name]
    # One thread: sums are taken in one order, so the weights do not depend on how many cores the machine has.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rng = np.random.default_rng(1_000 + member.seed)
        labels = rng.choice(N_CLASSES, size=n_images, p=member.prior)
        law = factor_law(member.favourite)
        factors = rng.choice(len(FACTORS), size=n_images, p=law)
        pixels = render_creatures(part_table()[labels], factors, size=IMAGE_SIZE, seed=1_000 + member.seed)
        recipe = replace(PRETRAINING, seed=member.seed, epochs=epochs)
        trained = pretrain_mini(
            pixels,
            labels,
            list(CLASS_NAMES),
            loss=member.loss,
            recipe=recipe,
            label=f"pre-training {name}",
            progress=progress,
            checkpoint=folder / f".{name}.checkpoint.safetensors" if checkpoint else None,
        )
        return save_mini(
            trained,
            folder,
            name,
            world="creatures",
            loss=member.loss,
            prior=member.prior,
            view={"favourite": member.favourite, "factor_law": dict(zip(FACTORS, law.tolist(), strict=True))},
            recipe={
                **asdict(recipe),
                "n_images": n_images,
                "imbalance_factor": IMBALANCE_FACTOR,
                "role": member.role,
            },
        )
    finally:
        torch.set_num_threads(threads)
