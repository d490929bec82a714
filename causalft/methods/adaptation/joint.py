"""Strata tuned together in one training: by one loss on the fused logits, or each by its own and a common term."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from causalft.data.image_set import ImageSet
from causalft.errors import CausalFTError
from causalft.methods.adaptation.settings import Tuning
from causalft.methods.adaptation.terms import Term
from causalft.methods.adaptation.tune import (
    EpochProgress,
    balanced_risk,
    finish_tuning,
    start_of_head,
    tokens_of_batches,
)
from causalft.methods.adaptation.tuned import TunedStratum
from causalft.models.features.encoder import Crops
from causalft.models.strata.stratum import Stratum
from causalft.models.tuning.devices import autocast, to_device
from causalft.models.tuning.losses import LOSSES, make_loss
from causalft.models.tuning.recipe import History
from causalft.models.tuning.samplers import expected_counts, make_sampler
from causalft.models.tuning.team import current_team
from causalft.models.tuning.train import train

__all__ = ["BesideStrata", "JointStrata", "tune_together"]

FuseLogits = Callable[[Tensor], Tensor]
"""``(M, n, K) -> (n, K)``."""


class JointStrata(nn.Module):
    """Tuned strata as one module.

    Parameters
    ----------
    members : sequence of M TunedStratum
    fuse : callable
        Logits (M, n, K) of the members to those of their fusion (n, K).
    """

    def __init__(self, members: Sequence[TunedStratum], fuse: FuseLogits) -> None:
        super().__init__()
        self.members, self.fuse = nn.ModuleList(members), fuse
        self.eval()

    def forward(self, tokens: Sequence[Tensor]) -> Tensor:
        """Fused logits (n, K) from the tokens of each member's frozen prefix, in fp32."""
        logits = torch.stack([member(each) for member, each in zip(self.members, tokens, strict=True)])
        with autocast(logits.device, "fp32"):
            return self.fuse(logits.float())


class BesideStrata(nn.Module):
    """Tuned strata side by side in one module, which answer each by itself.

    Parameters
    ----------
    members : sequence of M TunedStratum
    """

    def __init__(self, members: Sequence[TunedStratum]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.eval()

    def forward(self, tokens: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Logits (M, n, K) in fp32 and M features (n, d), from the tokens of each member's frozen prefix."""
        members: Any = self.members
        features = [member.features(each) for member, each in zip(members, tokens, strict=True)]
        with autocast(features[0].device, "fp32"):
            logits = [member.head(each).float() for member, each in zip(members, features, strict=True)]
        return torch.stack(logits), features


def tune_together(
    strata: Sequence[Stratum],
    crops: Sequence[Crops],
    class_names: Sequence[str],
    tunings: Sequence[Tuning],
    fuse: FuseLogits,
    *,
    term: Term | None = None,
    validation: Sequence[Crops] | None = None,
    weights: Sequence[Tensor] | None = None,
    release: bool = False,
    progress: bool | None = None,
    checkpoint: Path | None = None,
    log_dir: Path | None = None,
) -> tuple[list[TunedStratum], History]:
    """Tune M strata as one model: one loss on their fused logits, one optimiser, one order of the images.

    Every member sees an image under the same random augmentation. With one member it is
    :func:`causalft.methods.adaptation.tune.tune`.

    Parameters
    ----------
    strata : sequence of M Stratum
        On one device.
    crops : sequence of M Crops
        The same training images, as each stratum takes them.
    class_names : sequence of K str
    tunings : sequence of M Tuning
        Equal but for the seed, which draws the member's tuner; the first one's orders the images.
    fuse : callable
        Differentiable, logits (M, n, K) to (n, K): for instance the mean over the members.
    term : Term, optional
        The loss is then the sum of the members' own losses plus this term, and ``fuse`` only judges an early stop. A
        member steps as it would alone, and by the term.
    validation : sequence of M Crops, optional
        The risk of the fusion on them (NLL, classes weighted alike) decides an early stop, if ``patience`` is set.
    weights : sequence of M (K, d) Tensors, optional
        Starts of the heads; by default :func:`causalft.methods.adaptation.tune.start_of_head`. Not changed.
    release : bool
        Release the fp32 weights of strata whose tower has its own.
    progress, checkpoint, log_dir
        As in :func:`causalft.models.tuning.train.train`.

    Returns
    -------
    list of M TunedStratum
    History

    Raises
    ------
    CausalFTError
        As :func:`causalft.methods.adaptation.tune.tune`; and for a loss that needs the label prior of one model, of
        which a fusion has several, or a term that does not fit.
    """
    tuning = tunings[0]
    for each in tunings:
        each.check()
    if term is not None:
        term.check(len(strata), len(class_names), tuning.accumulation * current_team().count)
    record = LOSSES[tuning.loss]
    if record.needs_model_prior:
        raise CausalFTError(
            f"the loss {tuning.loss} needs the label prior of one foundation model, and strata that are tuned together "
            "have several; use LA"
        )
    if weights is None:
        weights = [
            start_of_head(stratum, found, class_names, tuning)
            for stratum, found in zip(strata, crops, strict=True)
        ]
    members = [
        TunedStratum(stratum, weight, each)
        for stratum, weight, each in zip(strata, weights, tunings, strict=True)
    ]
    for member in members:
        if release and member.lowered:
            member.stratum.release()
    if not members[0].tuned.trains_head:  # zero-shot: nothing is trained
        return [member.requires_grad_(False) for member in members], History([], 0.0)
    images: ImageSet = crops[0].images
    labels, device = torch.from_numpy(images.labels), strata[0].device
    loss = make_loss(
        tuning.loss,
        expected_counts(tuning.sampler, images.class_counts),
        class_names=class_names,
        **tuning.loss_settings,
    )
    starts = [member.trained_state() if tuning.wise_ft < 1 else {} for member in members]
    progress_of_epochs = EpochProgress(tuning.epochs)
    tokens_of = [
        tokens_of_batches(member, found, tuning.augmentation, progress_of_epochs, n_together=len(members))
        for member, found in zip(members, crops, strict=True)
    ]

    def batch_loss(model: nn.Module, indices: Tensor, generator: torch.Generator) -> Tensor:
        drawn, tokens = generator.get_state(), []
        for each in tokens_of:
            generator.set_state(drawn)
            tokens.append(each(indices, generator))
        seen = to_device(labels[indices], device)
        if term is None:
            return loss(model(tokens), seen)
        logits, features = model(tokens)
        return torch.stack([loss(each, seen) for each in logits]).sum() + term(logits, features, seen)

    def risk(model: nn.Module) -> float:
        assert validation is not None
        for member in members:
            member.head.eval()  # the loop restores the mode
        found = [member.logits(part) for member, part in zip(members, validation, strict=True)]
        return balanced_risk(fuse(torch.from_numpy(np.stack(found))), validation[0].images.labels)

    precisions = {member.precision for member in members}
    together = JointStrata(members, fuse) if term is None else BesideStrata(members)
    for member in members:
        member.head.train()  # the towers stay as they predict
    history = train(
        together,
        len(images),
        batch_loss,
        # Each member computes in its own precision; the loop's, which scales fp16 losses, is theirs if they agree.
        replace(tuning.recipe, precision=precisions.pop() if len(precisions) == 1 else "fp32"),  # type: ignore[arg-type]
        label=f"tuning {', '.join(stratum.name for stratum in strata)} together",
        progress=progress,
        checkpoint=checkpoint,
        sampler=make_sampler(tuning.sampler, images.labels),
        validate=None if tuning.patience is None or validation is None else risk,
        log_dir=log_dir,
        at_epoch=progress_of_epochs,
        cut_batches="never" if term is not None and term.few else "other" if record.of_batch else "same",
    )
    parts: Sequence[Crops | None] = validation or [None] * len(members)
    tuned = [
        finish_tuning(member, tuning, start, part)
        for member, start, part in zip(members, starts, parts, strict=True)
    ]
    return tuned, history
