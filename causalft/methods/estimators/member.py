"""One member of a fusion: zero-shot logits, label prior, tuned logits; a finished member is read back."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from causalft.data.groups import balancing_weights
from causalft.data.splits import Splits
from causalft.errors import CausalFTError
from causalft.methods.adaptation.distill import Lessons, tune_student
from causalft.methods.adaptation.settings import Tuning, check_gla
from causalft.methods.adaptation.tune import encode_zero_shot, start_of_head, tune
from causalft.methods.adaptation.tuned import TunedStratum, Untouched, load_tuned, prior_left_in_logits
from causalft.methods.estimators.fusion import nll
from causalft.methods.estimators.member_prediction import (
    LOGITS,
    MemberPrediction,
    open_prediction,
    read_prediction,
    write_prediction,
)
from causalft.methods.estimators.run_documents import PREDICTIONS, folder_name
from causalft.methods.estimators.stored_logits import SummedLogits, as_kept, map_tensors
from causalft.methods.priors import PriorEstimate, prior_on_validation
from causalft.methods.semi.pseudo_labels import PseudoLabels
from causalft.methods.semi.tune import Supervision, tune_semi
from causalft.models.features.cache import FeatureCache
from causalft.models.features.encoder import Crops
from causalft.models.strata.stratum import Stratum
from causalft.models.strata.zoo import Zoo
from causalft.models.tuning.processes import is_main_process, pick_device
from causalft.models.tuning.team import current_team
from causalft.models.tuning.towers import open_tower
from causalft.models.tuning.tuners import check_tuner
from causalft.runs.documents import Document

__all__ = [
    "PREDICTIONS",
    "MemberPrediction",
    "ReadyMember",
    "fit_member",
    "folder_name",
    "gla_members",
    "keep_member",
    "open_prediction",
    "pick_device",
    "prepare_member",
    "read_prediction",
    "settings_of_member",
    "write_prediction",
]


def fit_member(
    splits: Splits,
    name: str,
    zoo: Zoo,
    tuning: Tuning,
    *,
    learning_rates: tuple[float, ...] = (),
    gla: bool = False,
    known_prior: ArrayLike | None = None,
    lessons: Lessons | None = None,
    supervision: Supervision | None = None,
    device: str = "auto",
    folder: Path | None = None,
    cache: FeatureCache | None = None,
    log_dir: Path | None = None,
    progress: bool | None = None,
) -> tuple[MemberPrediction, TunedStratum]:
    """Load a stratum, estimate its label prior, tune it, and predict validation and test images.

    Parameters
    ----------
    splits : Splits
        Long-tailed train; validation and test. Test images are only predicted.
    name : str
    zoo : causalft.models.strata.zoo.Zoo
    tuning : Tuning
    learning_rates : tuple of float
        With two or more, the one with the lowest validation risk (NLL, classes weighted alike) is kept.
    gla : bool
        GLA-FT: the tuned stratum adds the debiased zero-shot logits to its own. Training and the choice of a learning
        rate do without.
    known_prior : (n_classes,) array, optional
        The known label prior, NaN where it is not known (:attr:`causalft.methods.priors.KnownPrior.prior`). GLA
        subtracts it instead of the estimate, unless a class is not known.
    lessons : Lessons, optional
        What a teacher answers: the stratum is its student (:func:`causalft.methods.adaptation.distill.tune_student`).
    supervision : Supervision, optional
        Unlabelled images and the semi-supervised method that learns from them
        (:func:`causalft.methods.semi.tune.tune_semi`); the tuning is that of
        :func:`causalft.methods.semi.settings.semi_tuning`.
    device : str
    folder : pathlib.Path, optional
        For adapter, head and predictions; if complete, nothing is trained again.
    cache : causalft.models.features.cache.FeatureCache, optional
        Keeps the frozen features of validation and test images beyond this run.
    log_dir : pathlib.Path, optional
        For TensorBoard.
    progress : bool, optional

    Raises
    ------
    CausalFTError
        See :meth:`Zoo.load`, :func:`causalft.methods.adaptation.tune.tune` and, with ``gla``,
        :func:`causalft.methods.adaptation.settings.check_gla`.
    """
    started = time.perf_counter()
    tuning.check()
    if gla:
        check_gla(tuning)
    stratum = zoo.load(name, device=pick_device(device))
    class_names = list(splits.train.class_names)
    known = None if known_prior is None else np.asarray(known_prior, dtype=float)
    made_with = settings_of_member(tuning, learning_rates, known) | ({"gla": True} if gla else {})
    if lessons is not None:
        made_with |= {"lessons": lessons.identity}
    if supervision is not None:
        made_with |= {"semi": supervision.identity}
    if folder is not None and current_team().from_main((folder / PREDICTIONS).exists):
        found = read_prediction(folder / PREDICTIONS, stratum, splits, made_with)
        return found, load_tuned(stratum, folder, class_names, tuning, gla=gla, release=True)

    left = prior_left_in_logits(tuning, splits.train.class_counts) if gla else None
    if left is not None and left.min() == 0:
        raise CausalFTError(
            f"class {class_names[int(left.argmin())]!r} has no training image, and GLA-FT cannot take a share of 0 out "
            f"of logits tuned with {tuning.loss}; add images"
        )
    ready = prepare_member(splits, stratum, tuning, cache=cache, progress=progress)
    for_gla = ready.prior.prior if known is None or np.isnan(known).any() else known
    untouched = None
    if gla:
        shift = -np.log(for_gla) - (0 if left is None else np.log(left))
        anchors = torch.from_numpy(ready.anchors)
        untouched = Untouched(stratum, anchors, torch.from_numpy(shift), tuning.precision)

    unlabelled = (
        None if supervision is None else Crops(supervision.unlabelled.images, stratum, progress=progress)
    )
    best: tuple[float, TunedStratum, np.ndarray, float, PseudoLabels | None] | None = None
    rates = learning_rates or (tuning.lr,)
    balance = balancing_weights(splits.validation.labels, len(class_names))
    for lr in rates:
        options: dict[str, Any] = {
            "validation": ready.validation,
            "weight": ready.weight,
            "release": lr == rates[-1],
            "progress": progress,
            "checkpoint": None if folder is None else folder / f".lr-{lr:g}.checkpoint.safetensors",
            "log_dir": None if log_dir is None else log_dir / f"lr-{lr:g}",
        }
        with_lr, counted = replace(tuning, lr=lr), None
        if supervision is not None:
            assert unlabelled is not None
            options |= {"validation": [ready.validation], "weights": [options.pop("weight")]}
            (tuned,), _, counted = tune_semi(
                [stratum], [ready.train], [unlabelled], class_names, [with_lr], supervision, **options
            )
        elif lessons is None:
            tuned, _ = tune(stratum, ready.train, class_names, with_lr, model_prior=for_gla, **options)
        else:
            tuned, _ = tune_student(stratum, ready.train, class_names, with_lr, lessons, **options)
        logits = as_kept(tuned.logits(ready.validation))
        risk = nll(logits, splits.validation.labels, balance, kind="logits")
        if best is None or risk < best[0]:
            best = (risk, tuned, logits, lr, counted)
    assert best is not None
    _, tuned, validation_logits, lr, counted = best
    if untouched is not None:
        tuned.untouched = untouched
        validation_logits = as_kept(tuned.logits(ready.validation))
    prediction = ready.predict(name, tuned, validation_logits, lr, gla=gla, known_prior=known)
    prediction = replace(prediction, seconds=time.perf_counter() - started, pseudo_labels=counted)
    if folder is not None and is_main_process():
        prediction = keep_member(folder, tuned, prediction, made_with, splits.validation.labels)
    return prediction, tuned


def settings_of_member(
    tuning: Tuning, learning_rates: Sequence[float], known_prior: NDArray[np.float64] | None
) -> Document:
    """What a finished member is compared with before it is read back."""
    made_with: Document = {"tuning": asdict(tuning), "learning_rates": list(learning_rates)}
    if known_prior is not None:
        made_with["known_prior"] = hashlib.sha256(known_prior.tobytes()).hexdigest()
    return made_with


@dataclass(frozen=True, eq=False, repr=False)
class ReadyMember:
    """A stratum before it is tuned: its crops, zero-shot logits, label prior and the start of its head.

    Attributes
    ----------
    stratum : Stratum
    train, validation : Crops
    test : Crops, optional
        None without test images.
    zero_shot : pair of (n, K) arrays
        Logits of validation and test images, as kept.
    prior : PriorEstimate
    weight : (K, d) Tensor
        Where the head starts, for every learning rate.
    anchors : (K, d) array
        Class prototypes times the inverse temperature.
    """

    stratum: Stratum
    train: Crops
    validation: Crops
    test: Crops | None
    zero_shot: tuple[NDArray[Any], NDArray[Any]]
    prior: PriorEstimate
    weight: torch.Tensor
    anchors: NDArray[np.float32]

    def predict(
        self,
        name: str,
        tuned: TunedStratum,
        validation_logits: NDArray[Any],
        lr: float,
        *,
        gla: bool = False,
        joint: bool = False,
        known_prior: NDArray[np.float64] | None = None,
    ) -> MemberPrediction:
        """Predict the test images; the result has no seconds yet."""
        stratum, n_classes = self.stratum, len(self.weight)
        test = np.empty((0, n_classes)) if self.test is None else tuned.logits(self.test)
        card = stratum.card
        return MemberPrediction(
            name=name,
            zero_shot_validation=self.zero_shot[0],
            zero_shot_test=self.zero_shot[1],
            validation_logits=validation_logits,
            test_logits=as_kept(test),
            prior=self.prior,
            true_prior=None if card is None else card.prior_of(self.train.images.class_names),
            sha256=stratum.sha256,
            source=stratum.source,
            lr=lr,
            n_tuned=tuned.n_tuned,
            precision=tuned.precision,
            anchors="captions" if stratum.has_text else "class means",
            pretraining_loss=stratum.pretraining_loss,
            gla=gla,
            joint=joint,
            known_prior=known_prior,
            seconds=0.0,
        )


def prepare_member(
    splits: Splits,
    stratum: Stratum,
    tuning: Tuning,
    *,
    cache: FeatureCache | None = None,
    progress: bool | None = None,
) -> ReadyMember:
    """Read the crops of a stratum, and find its zero-shot logits, label prior and the start of its head.

    Raises
    ------
    CausalFTError
        See :func:`causalft.methods.adaptation.tune.encode_zero_shot` and
        :func:`causalft.methods.adaptation.tune.start_of_head`; before any image is read, for a text start of an
        image-only backbone and for a tuner that its tower does not support.
    """
    if tuning.head_start == "text":
        stratum.needs_text()
    check_tuner(open_tower(stratum.visual), tuning.tuner)
    class_names = list(splits.train.class_names)
    validation = Crops(splits.validation, stratum, progress=progress)
    test = Crops(splits.test, stratum, progress=progress) if len(splits.test) else None
    train = Crops(splits.train, stratum, progress=progress)
    of_images = not stratum.has_text or tuning.head_start != "text"  # the anchors, or the head
    untuned = encode_zero_shot(
        stratum,
        class_names,
        tuning,
        (validation,) if test is None else (validation, test),
        train=train if of_images else None,
        cache=cache,
        keep_train=False,
        progress=progress,
    )
    zero_shot = [as_kept(logits) for logits in untuned.logits]
    if test is None:
        zero_shot.append(as_kept(np.empty((0, len(class_names)))))
    return ReadyMember(
        stratum=stratum,
        train=train,
        validation=validation,
        test=test,
        zero_shot=(zero_shot[0], zero_shot[1]),
        prior=prior_on_validation(zero_shot[0], splits.validation.labels),
        weight=start_of_head(stratum, train, class_names, tuning, untuned.train),
        anchors=untuned.scale * untuned.anchors,
    )


def keep_member(
    folder: Path,
    tuned: TunedStratum,
    prediction: MemberPrediction,
    made_with: Document,
    validation_labels: NDArray[np.int64],
) -> MemberPrediction:
    """Write what was tuned and predicted; return the prediction with logits mapped from the file, to free memory."""
    tuned.save(folder)
    write_prediction(folder / PREDICTIONS, prediction, made_with, validation_labels)
    mapped, _ = map_tensors(folder / PREDICTIONS)
    on_disk: dict[str, Any] = {name: mapped[name] for name in LOGITS}
    return replace(prediction, **on_disk)


def gla_members(
    tuning: Tuning, class_counts: ArrayLike, members: Mapping[str, Sequence[MemberPrediction]]
) -> dict[str, list[MemberPrediction]]:
    """Replace the tuned logits of members by those of GLA-FT (:func:`causalft.methods.estimators.gla.gla_finetuned`),
    computed where they are read.

    Empty where it is undefined for this tuning (:func:`causalft.methods.adaptation.settings.check_gla`), where the
    members have it already or were tuned together, or where a class has no training image and its prior would be taken
    out.
    """
    try:
        left = prior_left_in_logits(tuning, class_counts)
    except CausalFTError:
        return {}
    if any(m.gla or m.joint for found in members.values() for m in found) or (
        left is not None and left.min() == 0
    ):
        return {}

    def adjusted(m: MemberPrediction) -> MemberPrediction:
        shift = -np.log(m.gla_prior) - (0 if left is None else np.log(left))
        logits: dict[str, Any] = {
            "validation_logits": SummedLogits(m.zero_shot_validation, m.validation_logits, shift),
            "test_logits": SummedLogits(m.zero_shot_test, m.test_logits, shift),
        }
        return replace(m, **logits)

    return {name: [adjusted(m) for m in found] for name, found in members.items()}
