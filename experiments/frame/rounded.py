"""Strata that predict in int8 beside the same strata in fp32: agreement, and what it does to the accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from causalft.errors import CausalFTError

if TYPE_CHECKING:
    from experiments.frame.lab import Lab

__all__ = ["PRECISIONS", "compare_precisions", "logits_by_precision"]

PRECISIONS = ("fp32", "int8")

Logits = Mapping[str, Mapping[str, Sequence[NDArray[np.floating]]]]


def logits_by_precision(lab: Lab) -> dict[str, dict[str, list[NDArray[np.float64]]]]:
    """Logits (n, K) of the test images: precision to stratum to one array per seed. The tuning is the same for both.

    Raises
    ------
    CausalFTError
        If a stratum has no layer for int8.
    """
    from causalft.methods.adaptation.tuned import load_tuned
    from causalft.models.features.encoder import Crops
    from causalft.models.strata.cards import MemberName
    from experiments.frame.members import Member

    world = lab.world
    found: dict[str, dict[str, list[NDArray[np.float64]]]] = {precision: {} for precision in PRECISIONS}
    for name in world.roles.strata:
        member, crops = Member(name), None
        for seed in range(lab.seeds):
            lab.prediction(member, seed)  # tuned now if it is not yet
            splits = world.splits(seed)
            for precision in PRECISIONS:
                stratum = world.zoo.load(MemberName.parse(name).weights, device="cpu")
                if crops is None:  # the test images are those of every seed
                    crops = Crops(splits.test, stratum, progress=False)
                tuning = replace(member.tuning(world.settings.tuning, seed), precision=precision)
                classes = list(splits.train.class_names)
                tuned = load_tuned(stratum, lab.folder(member, seed), classes, tuning)
                if precision == "int8" and not tuned.lowered:
                    raise CausalFTError(f"{name} has no linear layer of a ViT, and int8 is for those")
                found[precision].setdefault(name, []).append(tuned.logits(crops))
    return found


def compare_precisions(logits: Logits, labels: NDArray[np.int64]) -> dict[str, Any]:
    """Agreement with fp32, and accuracy in int8 less that in fp32, of the mixture and of each stratum.

    Parameters
    ----------
    logits : mapping of precision to stratum to S (n, K) arrays
    labels : (n,) array of int

    Returns
    -------
    dict
        ``agreement``: name to ``{estimate, ci95}``, the share of images with the same most probable class, its interval
        for as many observations as there are images; ``accuracy``: precision to name to a fraction; ``difference``:
        name to ``{estimate, ci95, p}`` over images and seeds. The fusion is named ``fused``.
    """
    from causalft.methods.estimators.fusion import fuse
    from causalft.runs.intervals import share_interval
    from experiments.frame.means import mean_over_images

    classes: dict[str, dict[str, NDArray[np.int64]]] = {}
    for precision, of in logits.items():
        seeds = list(zip(*of.values(), strict=True))
        mixed = [fuse(list(each), fusion="mixture", kind="logits").argmax(axis=1) for each in seeds]
        alone = {name: np.stack([each.argmax(axis=1) for each in values]) for name, values in of.items()}
        classes[precision] = {"fused": np.stack(mixed), **alone}
    found: dict[str, Any] = {"agreement": {}, "accuracy": {p: {} for p in PRECISIONS}, "difference": {}}
    for name, whole in classes["fp32"].items():
        rounded = classes["int8"][name]
        share = float((whole == rounded).mean())
        limits = share_interval(share, len(labels))
        found["agreement"][name] = {"estimate": share, "ci95": [float(limit) for limit in limits]}
        right = {"fp32": whole == labels, "int8": rounded == labels}
        for precision, each in right.items():
            found["accuracy"][precision][name] = float(each.mean())
        found["difference"][name] = mean_over_images(right["int8"].astype(float) - right["fp32"])
    return found
