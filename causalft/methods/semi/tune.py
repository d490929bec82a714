"""The one loop of all semi-supervised methods: strata learn from labelled and unlabelled images."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from causalft.data.hidden import Unlabelled
from causalft.data.image_set import ImageSet
from causalft.errors import CausalFTError, CausalFTWarning
from causalft.methods.adaptation.settings import Tuning
from causalft.methods.adaptation.tune import EpochProgress, balanced_risk, encode_zero_shot, start_of_head
from causalft.methods.adaptation.tuned import TunedStratum
from causalft.methods.semi.method import Answers, Method, Step, Task
from causalft.methods.semi.pseudo_labels import PseudoLabels
from causalft.methods.semi.settings import SemiSettings
from causalft.methods.semi.views import LabelledDraw, Views, views_of
from causalft.methods.semi.watch import Watch
from causalft.models.features.encoder import Crops
from causalft.models.strata.stratum import Stratum
from causalft.models.tuning.checkpoint import trained_state
from causalft.models.tuning.devices import autocast, to_device
from causalft.models.tuning.recipe import History
from causalft.models.tuning.team import current_team
from causalft.models.tuning.train import train
from causalft.runs.documents import Document

__all__ = ["Supervision", "supervised_by", "tune_semi"]

_LARGEST_SHARE = 0.9
_LARGEST_RISE = 2.0
_FIRST_LOOK = 1_000  # unlabelled images that the start of the heads is asked about


@dataclass(frozen=True, eq=False, repr=False)
class Supervision:
    """What a semi-supervised training learns from, beside the labelled images.

    Attributes
    ----------
    settings : SemiSettings
        With a method.
    unlabelled : Unlabelled
        Only the watch counts with hidden labels.
    stops_at_collapse : bool
        Whether pseudo-labels that collapse are an error. Otherwise the training ends with the state before, and warns.
    """

    settings: SemiSettings
    unlabelled: Unlabelled
    stops_at_collapse: bool = True

    @property
    def identity(self) -> Document:
        """Tells this training from others; a JSON document."""
        return {
            **vars(self.settings),
            "unlabelled": self.unlabelled.fingerprint,
        }

    def __repr__(self) -> str:
        return f"Supervision({self.settings.method}, {len(self.unlabelled)} unlabelled images)"


def supervised_by(settings: SemiSettings, unlabelled: Unlabelled | None) -> Supervision | None:
    """Return what a method learns from; None for one that learns from labelled images alone.

    Raises
    ------
    CausalFTError
        If the method needs unlabelled images and there is none.
    """
    if not settings.record.unlabelled:
        return None
    if unlabelled is None or not len(unlabelled):
        raise CausalFTError(
            f"the method {settings.method} learns from unlabelled images; give some with --unlabeled"
        )
    return Supervision(settings, unlabelled)


class _Collapse(Exception):
    """Nearly all pseudo-labels are one class; says how."""


class _Together(nn.Module):
    """Strata, their methods and the watch as one module to train."""

    def __init__(self, members: Sequence[TunedStratum], methods: Sequence[Method], watch: Watch) -> None:
        super().__init__()
        self.members, self.methods, self.watch = nn.ModuleList(members), nn.ModuleList(methods), watch


def tune_semi(
    strata: Sequence[Stratum],
    labelled: Sequence[Crops],
    unlabelled: Sequence[Crops],
    class_names: Sequence[str],
    tunings: Sequence[Tuning],
    supervision: Supervision,
    *,
    validation: Sequence[Crops] | None = None,
    weights: Sequence[Tensor] | None = None,
    release: bool = False,
    progress: bool | None = None,
    checkpoint: Path | None = None,
    log_dir: Path | None = None,
) -> tuple[list[TunedStratum], History, PseudoLabels]:
    """Tune one or more strata by a semi-supervised method.

    A step shows ``batch_size`` unlabelled images and ``batch_size / unlabeled_ratio`` labelled ones, drawn with
    replacement; an epoch shows every unlabelled image once. Several strata share pseudo-labels: what each believes of
    its weak view is averaged before targets are chosen.

    Parameters
    ----------
    strata : sequence of M Stratum
        On one device.
    labelled, unlabelled : sequences of M Crops
        The same images, as each stratum takes them.
    class_names : sequence of K str
    tunings : sequence of M Tuning
        Of :func:`causalft.methods.semi.settings.semi_tuning`; equal but for the seed.
    supervision : Supervision
    validation, weights, release, progress, checkpoint, log_dir
        As in :func:`causalft.methods.adaptation.joint.tune_together`.

    Returns
    -------
    list of M TunedStratum
    History
    PseudoLabels

    Raises
    ------
    CausalFTError
        As :func:`causalft.methods.adaptation.tune.tune`; and if one class takes nearly all pseudo-labels, when the last
        checkpoint stays.
    """
    tuning, settings = tunings[0], supervision.settings
    for each in tunings:
        each.check()
    images, device = labelled[0].images, strata[0].device
    n, n_classes = len(supervision.unlabelled), len(class_names)
    if weights is None:
        weights = [start_of_head(s, c, class_names, tuning) for s, c in zip(strata, labelled, strict=True)]
    methods = [_method(settings, tuning, images, weight, n).to(device) for weight in weights]
    for number, method in enumerate(methods):
        if method.needs_zero_shot:
            method.see_zero_shot(
                _zero_shot(strata[number], labelled[number], unlabelled[number], class_names, tuning).to(
                    device
                )
            )
    members = [TunedStratum(s, w, t) for s, w, t in zip(strata, weights, tunings, strict=True)]
    for member in members:
        member.head.requires_grad_(False)  # the heads of the method are trained, and put there at the end
        if release and member.lowered:
            member.stratum.release()
    watch = Watch(n_classes, tuning.epochs, supervision.unlabelled.hidden)
    model = _Together(members, methods, watch)
    progress_of_epochs = EpochProgress(tuning.epochs)
    shown = [
        [
            views_of(
                member,
                crops,
                tuning.augmentation,
                progress=progress_of_epochs,
                magnitude=settings.strong_magnitude,
                seed=tuning.seed,
                n_together=2 * len(members),
                **({"n_strong": 0} if crops is not unlabelled[number] else {}),
            )
            for crops in (labelled[number], unlabelled[number])
        ]
        for number, member in enumerate(members)
    ]
    labels = torch.from_numpy(images.labels)

    def answer(number: int, views: Views, tokens: Tensor) -> Answers:
        features = views.features(tokens)
        with autocast(device, "fp32"):
            found: Answers = methods[number](features.float())
        return found

    def batch_loss(model: nn.Module, rows: Tensor, generator: torch.Generator) -> Tensor:
        n_labelled = max(1, len(rows) // settings.unlabeled_ratio)
        for method in methods:
            method.generator = generator
        drawn = LabelledDraw.draw(n_labelled, labels, methods[0].joined, generator)
        truth = to_device(drawn.labels, device)
        state = generator.get_state()
        weak: list[Answers] = []
        with torch.no_grad():
            for number, (_, of_unlabelled) in enumerate(shown):
                generator.set_state(state)
                weak.append(answer(number, of_unlabelled, of_unlabelled.weak(rows, generator)))
                if methods[number].needs_blank:
                    methods[number].see_blank(_blank(members[number], methods[number]))
            beliefs = [method.beliefs(each) for method, each in zip(methods, weak, strict=True)]
            common = torch.stack(beliefs).mean(0) if len(beliefs) > 1 else beliefs[0]
            targets = [method.choose(common, rows) for method in methods]
            watch.look(common, targets[0], rows, methods[0].main)
        state, losses = generator.get_state(), []
        for number, (of_labelled, of_unlabelled) in enumerate(shown):
            generator.set_state(state)
            known = drawn.weak(of_labelled, of_unlabelled, generator)
            both = torch.cat([known, of_unlabelled.strong(rows, generator)])
            answers = answer(number, of_unlabelled, both)
            method, mine = methods[number], answers[slice(0, n_labelled)]
            losses.append(
                method.labelled_loss(mine, truth)
                + method.unlabelled_loss(answers[slice(n_labelled, None)], targets[number])
            )
            with torch.no_grad():
                detached = Answers(mine.features.detach(), mine.logits.detach())
                method.observe(Step(detached, truth, weak[number], common, targets[number], rows))
        return torch.stack(losses).sum()  # the strata share no weight: each has its own gradient in full

    # What the start of the heads makes of some images; the same before a resumed training.
    with torch.no_grad():
        some = torch.randperm(n, generator=torch.Generator().manual_seed(0))[:_FIRST_LOOK].sort().values
        drawn = [answer(k, views, views.weak(some, torch.Generator())) for k, (_, views) in enumerate(shown)]
        mean = torch.stack([each.logits[:, m.main].softmax(-1) for each, m in zip(drawn, methods)]).mean(0)
        first = torch.bincount(mean.argmax(1).cpu(), minlength=n_classes) / len(some)
    silent: list[int] = []
    before: dict[str, Tensor] = {}

    def at_epoch(number: int) -> None:
        progress_of_epochs(number)
        if not supervision.stops_at_collapse:
            before.update({name: value.detach().clone() for name, value in trained_state(model).items()})

    def after_epoch(number: int) -> None:
        kept, likeliest = watch.kept[number].sum(), watch.likeliest[number]
        share = likeliest / likeliest.sum().clamp(min=1)
        most = int(share.argmax())
        if share[most] > _LARGEST_SHARE and share[most] > _LARGEST_RISE * first[most]:
            raise _Collapse(
                f"in epoch {number + 1} {100 * float(share[most]):.0f} % of the unlabelled images are taken for "
                f"{class_names[most]!r} ({100 * float(first[most]):.0f} % before the training)"
            )
        if kept == 0:
            silent.append(number + 1)
            if len(silent) == 1:
                warnings.warn(
                    f"epoch {number + 1}: no unlabelled image was as probable as the threshold "
                    f"{methods[0].least_confidence:g}, so only labelled ones were learnt from; lower the threshold",
                    CausalFTWarning,
                    stacklevel=2,
                )
        for method in methods:
            method.end_epoch(number)
        watch.end_epoch()

    def risk(model: nn.Module) -> float:
        assert validation is not None
        _take_heads(members, methods)
        found = [m.logits(part) for m, part in zip(members, validation, strict=True)]
        return balanced_risk(torch.from_numpy(np.mean(found, axis=0)), validation[0].images.labels)

    precisions = {member.precision for member in members}
    try:
        history = train(
            model,
            n,
            batch_loss,
            replace(tuning.recipe, precision=precisions.pop() if len(precisions) == 1 else "fp32"),  # type: ignore[arg-type]
            label=f"{settings.method}: {', '.join(stratum.name for stratum in strata)}",
            progress=progress,
            checkpoint=checkpoint,
            validate=None if tuning.patience is None or validation is None else risk,
            log_dir=log_dir,
            at_epoch=at_epoch,
            after_epoch=after_epoch,
            cut_batches="other",  # methods follow what each part shows
        )
    except _Collapse as collapse:
        # without a single pseudo-label, a higher threshold cannot help
        learnt = bool(watch.kept.sum())
        what = "pseudo-labels have" if learnt else "training on the labelled images alone has"
        told = f"the {what} collapsed: {collapse}"
        if supervision.stops_at_collapse:
            higher = " or a higher threshold" if learnt else ""
            there = checkpoint is not None and checkpoint.exists()
            stays = f"; {checkpoint} keeps the last state before" if there else ""
            raise CausalFTError(
                f"{told}; start a new run with a lower learning rate (now {tuning.lr:g}){higher}{stays}"
            ) from None
        warnings.warn(f"{told}; the training ends with the state before", CausalFTWarning, stacklevel=2)
        history = History([], 0.0)
        with torch.no_grad():
            for name, value in trained_state(model).items():
                value.copy_(before[name])
        if checkpoint is not None and current_team().is_main:
            checkpoint.unlink(missing_ok=True)
    _take_heads(members, methods)
    for member in members:
        member.head.eval()
        member.requires_grad_(False)
    return members, history, watch.found(images.class_counts)


def _method(
    settings: SemiSettings, tuning: Tuning, images: ImageSet, weight: Tensor, n_unlabelled: int
) -> Method:
    record = settings.record
    task = Task(
        counts=torch.from_numpy(images.class_counts).float(),
        weight=weight.detach(),
        n_unlabelled=n_unlabelled,
        epochs=tuning.epochs,
        adjust=tuning.loss == "LA",
        scale=tuning.scale_of_head,
        ratio=settings.unlabeled_ratio,
        seed=tuning.seed,
    )
    method: Method = record.make(task, **record.settings_with(dict(settings.method_settings)))
    return method


def _zero_shot(
    stratum: Stratum, labelled: Crops, unlabelled: Crops, class_names: Sequence[str], tuning: Tuning
) -> Tensor:
    """Probabilities (n_unlabelled, K) by captions, or by class means of a stratum without a text tower."""
    train = None if stratum.has_text else labelled
    found = encode_zero_shot(stratum, class_names, tuning, [unlabelled], train=train, progress=False)
    return torch.from_numpy(found.logits[0]).softmax(-1)


def _take_heads(members: Sequence[TunedStratum], methods: Sequence[Method]) -> None:
    """Put the classifiers of the methods into the heads of the strata."""
    for member, method in zip(members, methods, strict=True):
        with torch.no_grad():
            if method.needs_blank:
                method.see_blank(_blank(member, method))
            weight, bias = method.final()
            member.head.load_state_dict({"weight": weight, "bias": bias})


def _blank(member: TunedStratum, method: Method) -> Answers:
    """Answers to a grey image."""
    side = member.stratum.image_size
    grey = torch.full((1, side, side, 3), 127, dtype=torch.uint8)
    features = member.features(member.tokens(member.stratum.normalise(grey)))
    with autocast(features.device, "fp32"):
        found: Answers = method(features.float())
    return found
