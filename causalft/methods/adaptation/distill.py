"""Distillation: one student learns the soft labels of a fused teacher, and the labels of the labelled images by LA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from causalft.data.groups import prior_groups
from causalft.data.image_set import ImageSet
from causalft.errors import CausalFTError
from causalft.methods.adaptation.same_view import SameView
from causalft.methods.adaptation.settings import Tuning
from causalft.methods.adaptation.tune import (
    EpochProgress,
    balanced_risk,
    finish_tuning,
    start_of_head,
    tokens_of_batches,
)
from causalft.methods.adaptation.tuned import TunedStratum
from causalft.models.features.augmentation import augment
from causalft.models.features.encoder import Crops
from causalft.models.strata.stratum import Stratum
from causalft.models.tuning.devices import to_device
from causalft.models.tuning.losses import class_counts_of
from causalft.models.tuning.recipe import History, Recipe
from causalft.models.tuning.train import train
from causalft.runs.documents import Document

__all__ = ["Lessons", "Rows", "distillation_loss", "shown_counts", "student_recipe", "tune_student"]

Floats = NDArray[np.float64]


class Rows(Protocol):
    """An (n, K) array, in memory, mapped from a file, or computed when a row is asked for."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, rows: Any) -> NDArray[Any]: ...


@dataclass(frozen=True, eq=False, repr=False)
class Lessons:
    """What a student is taught.

    Attributes
    ----------
    teacher : (n, K) array
        Probabilities of the teacher for the labelled training images; rows sum to 1.
    unlabelled : ImageSet, optional
        Further images; their labels are not read.
    unlabelled_teacher : (m, K) array, optional
        Probabilities of the teacher for these.
    label_weight : float
        Weight of the labels against the teacher on a labelled image, in [0, 1]. 1 without unlabelled images needs no
        teacher.
    prior : (K,) array, optional
        A label prior of the pre-training, whose P-few classes are shown at least as often as the average class.
        Default: every image once per epoch.
    target_law : (K,) array, optional
        Class law that the teacher answers under, positive, sums to 1; the labels teach the same. Default: uniform.
    same_view : callable, optional
        The teacher itself (:func:`causalft.methods.adaptation.same_view.same_view`). Where the training augments its
        images, it answers to each as it is shown; without it, to the image as it is.
    identity : dict
        Tells these lessons from others; a JSON document.
    """

    teacher: Rows
    unlabelled: ImageSet | None = None
    unlabelled_teacher: Rows | None = None
    label_weight: float = 0.2
    prior: Floats | None = None
    target_law: Floats | None = None
    same_view: SameView | None = None
    identity: Document | None = None

    def __len__(self) -> int:
        """Images of an epoch."""
        return len(self.teacher) + (0 if self.unlabelled is None else len(self.unlabelled))

    def __repr__(self) -> str:
        return f"Lessons({len(self.teacher)} labelled, {len(self) - len(self.teacher)} unlabelled images)"

    @property
    def likeliest(self) -> NDArray[np.int64]:
        """The teacher's most probable class of each unlabelled image, (m,)."""
        found = self.unlabelled_teacher
        return np.empty(0, dtype=np.int64) if found is None else np.argmax(found[:], axis=1)

    def check(self, labels: NDArray[np.int64], n_classes: int) -> None:
        """Refuse what does not fit the labelled images.

        Raises
        ------
        CausalFTError
        """
        if self.teacher.shape != (len(labels), n_classes):
            raise CausalFTError(
                f"the teacher's probabilities have shape {self.teacher.shape}; {len(labels)} training images of "
                f"{n_classes} classes need ({len(labels)}, {n_classes})"
            )
        m = 0 if self.unlabelled is None else len(self.unlabelled)
        found = (0, n_classes) if self.unlabelled_teacher is None else self.unlabelled_teacher.shape
        if found != (m, n_classes):
            raise CausalFTError(
                f"the teacher's probabilities of {m} unlabelled images have shape {found}; give ({m}, {n_classes})"
            )
        if not 0 <= self.label_weight <= 1:
            raise CausalFTError(f"the weight of the labels is {self.label_weight}; give a number from 0 to 1")


def shown_counts(class_counts: ArrayLike, prior: Floats | None = None) -> Floats:
    """Return how often an epoch shows each class: P-few classes at least as often as the average class, (K,).

    Parameters
    ----------
    class_counts : (K,) array of non-negative numbers
    prior : (K,) array, optional
        Decides the P groups; without one the counts are returned.

    Examples
    --------
    >>> prior = [.3, .3, .3, .02, .02, .02, .01, .01, .01, .01]
    >>> shown_counts([40, 9, 9, 9, 9, 9, 2, 2, 11, 0], np.array(prior)).tolist()
    [40.0, 9.0, 9.0, 9.0, 9.0, 9.0, 10.0, 10.0, 11.0, 0.0]
    """
    counts = np.asarray(class_counts, dtype=float)
    if prior is None:
        return counts
    few = (prior_groups(prior) == "few") & (counts > 0)
    return np.where(few, np.maximum(counts, counts.mean()), counts)


def distillation_loss(
    log_prior: ArrayLike | None, label_weight: float
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Make the loss of a student.

    On a labelled image it is ``(1 - w) H(T, softmax f) + w CE(f + log P_S - log pi, y)``, on an unlabelled one ``H(T,
    softmax f)``, with the cross-entropy H and the weight w of the labels. Both terms have their optimum at a posterior
    under the class law pi: that of the teacher T = P(Y | do(x)), and that of LA (Menon et al., ICLR 2021, Eq. 10, for
    a uniform pi).

    Parameters
    ----------
    log_prior : (K,) array, optional
        log P_S - log pi, up to a constant, with P_S of the labelled images as they are shown; not needed with
        ``label_weight`` 0.
    label_weight : float
        w, in [0, 1].

    Returns
    -------
    callable
        ``loss(logits (n, K), targets (n, K), labels (n,)) -> scalar``, the mean over the images; a label of -1 marks an
        unlabelled image.

    References
    ----------
    Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015, at temperature 1: the teacher is
    calibrated.

    Examples
    --------
    >>> loss = distillation_loss(np.log([0.9, 0.1]), 0.5)
    >>> targets = torch.tensor([[0.5, 0.5], [0.5, 0.5]])
    >>> logits, labels = torch.zeros(2, 2), torch.tensor([1, -1])
    >>> round(loss(logits, targets, labels).item(), 3)  # (0.5 log 2 + 0.5 log 10 + log 2) / 2
    1.096
    """
    shift = None if log_prior is None else torch.as_tensor(np.asarray(log_prior, dtype=np.float32))

    def loss(logits: Tensor, targets: Tensor, labels: Tensor) -> Tensor:
        logits = logits.float()
        each = -(targets * logits.log_softmax(1)).sum(1)
        if label_weight > 0 and bool((known := labels >= 0).any()):
            assert shift is not None
            hard = F.cross_entropy(logits[known] + shift.to(logits.device), labels[known], reduction="none")
            each = each.index_put((known,), (1 - label_weight) * each[known] + label_weight * hard)
        return each.mean()

    return loss


def student_recipe(tuning: Tuning) -> Recipe:
    """Return the recipe of a student: AdamW with a warm-up over a tenth of the training, then a cosine to zero.

    Where the whole tower is trained, AdamW needs far fewer epochs than the SGD of adapters.

    Examples
    --------
    >>> student_recipe(Tuning(epochs=5, lr=1e-3)).warmup_epochs
    0.5
    """
    return replace(tuning.recipe, optimizer="adamw", warmup_epochs=tuning.epochs / 10)


def tune_student(
    stratum: Stratum,
    crops: Crops,
    class_names: Sequence[str],
    tuning: Tuning,
    lessons: Lessons,
    *,
    unlabelled: Crops | None = None,
    validation: Crops | None = None,
    weight: Tensor | None = None,
    release: bool = False,
    progress: bool | None = None,
    checkpoint: Path | None = None,
    log_dir: Path | None = None,
) -> tuple[TunedStratum, History]:
    """Tune a stratum to the answers of a teacher.

    Parameters
    ----------
    stratum, crops, class_names, tuning, validation, weight, release, progress, checkpoint, log_dir
        As in :func:`causalft.methods.adaptation.tune.tune`; the loss of ``tuning`` must be LA.
    lessons : Lessons
    unlabelled : Crops, optional
        Of the unlabelled images of the lessons, as the student takes them; read here by default.

    Raises
    ------
    CausalFTError
        As :func:`causalft.methods.adaptation.tune.tune`; for lessons of other images or classes, and for a loss that
        is not LA.
    """
    tuning.check()
    if tuning.loss != "LA":
        raise CausalFTError(f"a student learns the labels by LA; leave the loss {tuning.loss} out")
    lessons.check(crops.images.labels, len(class_names))
    if lessons.unlabelled is not None and unlabelled is None:
        unlabelled = Crops(lessons.unlabelled, stratum, progress=progress)
    if weight is None:
        weight = start_of_head(stratum, crops, class_names, tuning)
    student = TunedStratum(stratum, weight, tuning)
    if not student.tuned.trains_head:
        raise CausalFTError("the tuner zero-shot trains nothing, so a student learns nothing; use full")
    if release and student.lowered:
        stratum.release()

    device, n, n_labelled = stratum.device, len(lessons), len(crops)
    labels = torch.cat([torch.from_numpy(crops.images.labels), torch.full((n - n_labelled,), -1)])
    classes = np.concatenate([crops.images.labels, lessons.likeliest])
    counts = np.bincount(classes, minlength=len(class_names))
    share = shown_counts(counts, lessons.prior) / np.maximum(counts, 1)  # of each image, by its class
    loss = distillation_loss(_log_prior(crops.images, share, lessons, class_names), lessons.label_weight)

    progress_of_epochs = EpochProgress(tuning.epochs)
    parts = [crops] if unlabelled is None else [crops, unlabelled]
    teachers = [lessons.teacher, lessons.unlabelled_teacher]
    asked = [None if lessons.label_weight == 1 else lessons.same_view, lessons.same_view]
    shown = [
        _Shown(student, part, of, tuning.augmentation, progress_of_epochs, view, len(parts))
        for part, of, view in zip(parts, teachers, asked, strict=False)
    ]

    def batch_loss(model: nn.Module, indices: Tensor, generator: torch.Generator) -> Tensor:
        mine = indices < n_labelled
        rows = [indices[mine], indices[~mine] - n_labelled]
        drawn = [each(chosen, generator) for each, chosen in zip(shown, rows, strict=False) if len(chosen)]
        tokens, targets = (torch.cat(each) for each in zip(*drawn, strict=True))
        ordered = torch.cat([labels[indices[mine]], labels[indices[~mine]]])
        return loss(model(tokens), to_device(targets, device), to_device(ordered, device))

    cumulated = torch.from_numpy(share[classes]).cumsum(0)

    def sampler(generator: torch.Generator) -> Tensor:
        drawn = torch.rand(n, dtype=torch.float64, generator=generator) * cumulated[-1]
        return torch.searchsorted(cumulated, drawn, right=True).clamp_(max=n - 1)

    def risk(model: nn.Module) -> float:
        assert validation is not None
        student.head.eval()  # the loop restores the mode
        return balanced_risk(torch.from_numpy(student.logits(validation)), validation.images.labels)

    start = student.trained_state() if tuning.wise_ft < 1 else {}
    student.head.train()  # the tower stays as it predicts
    history = train(
        student,
        n,
        batch_loss,
        replace(student_recipe(tuning), precision=student.precision),  # type: ignore[arg-type]
        label=f"distilling into {stratum.name}",
        progress=progress,
        checkpoint=checkpoint,
        sampler=None if lessons.prior is None else sampler,
        validate=None if tuning.patience is None or validation is None else risk,
        log_dir=log_dir,
        at_epoch=progress_of_epochs,
    )
    return finish_tuning(student, tuning, start, validation), history


class _Shown:
    """A set of images as a step shows it: what enters the tower of the student, and what the teacher says to it."""

    def __init__(
        self,
        student: TunedStratum,
        crops: Crops,
        teacher: Rows | None,
        augmentation: str,
        progress: EpochProgress,
        asked: SameView | None,
        n_together: int,
    ) -> None:
        assert teacher is not None
        self.tokens = tokens_of_batches(student, crops, augmentation, progress, n_together=n_together)
        self.teacher, self.augmentation, self.progress = teacher, augmentation, progress
        self.asked = asked(crops.images) if asked is not None and augmentation != "none" else None

    def __call__(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Tokens of the rows, and probabilities (n, K)."""
        before = generator.get_state()
        tokens = self.tokens(rows, generator)
        if self.asked is None:
            found = self.teacher[rows.numpy()]
        else:
            after = generator.get_state()

            def again(pictures: Tensor) -> Tensor:
                generator.set_state(before)
                return augment(pictures, self.augmentation, generator, self.progress.value)

            found = self.asked(rows, again)
            generator.set_state(after)
        return tokens, torch.from_numpy(np.asarray(found, dtype=np.float32))


def _log_prior(
    images: ImageSet, share: Floats, lessons: Lessons, class_names: Sequence[str]
) -> Floats | None:
    """log P_S of the labelled images as an epoch shows them, less the log of the target law."""
    if lessons.label_weight == 0:
        return None
    counts = class_counts_of(images.class_counts * share, class_names)
    counts.need_every_class("LA")
    return counts.log_prior if lessons.target_law is None else counts.log_prior - np.log(lessons.target_law)
