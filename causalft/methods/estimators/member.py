"""One member of a fusion: zero-shot logits, label prior, tuned logits; a finished member is read back."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from safetensors import SafetensorError
from safetensors.numpy import save_file

from causalft.data.groups import balancing_weights
from causalft.data.splits import Splits
from causalft.errors import CausalFTError
from causalft.methods.adaptation.settings import Tuning, check_gla
from causalft.methods.adaptation.tune import encode_zero_shot, start_of_head, tune
from causalft.methods.adaptation.tuned import TunedStratum, Untouched, load_tuned, prior_left_in_logits
from causalft.methods.estimators.fusion import nll
from causalft.methods.estimators.probabilities import log_probabilities
from causalft.methods.estimators.run_documents import PREDICTIONS, folder_name
from causalft.methods.estimators.stored_logits import SummedLogits, as_kept, map_tensors
from causalft.methods.priors import PriorEstimate, prior_on_validation
from causalft.models.features.cache import FeatureCache
from causalft.models.features.encoder import Crops
from causalft.models.strata.stratum import Stratum
from causalft.models.strata.zoo import Zoo
from causalft.models.tuning.processes import is_main_process, pick_device
from causalft.models.tuning.team import current_team
from causalft.runs.documents import Document, check_shape
from causalft.runs.files import sort_metadata
from causalft.runs.folder import atomic_path, read_json, write_json
from causalft.runs.notebook import ShownAsTable

__all__ = [
    "PREDICTIONS",
    "MemberPrediction",
    "fit_member",
    "folder_name",
    "gla_members",
    "open_prediction",
    "pick_device",
    "read_prediction",
    "write_prediction",
]


@dataclass(frozen=True, repr=False)
class MemberPrediction(ShownAsTable):
    """What one stratum predicts for the validation and test images, before and after tuning.

    Attributes
    ----------
    name : str
    zero_shot_validation, zero_shot_test, validation_logits, test_logits : numpy.ndarray
        Logits, shape (n, n_classes), as :func:`causalft.methods.estimators.stored_logits.as_kept` makes them; n is 0
        without test images. Those of a member with a folder are mapped from its file.
    prior : PriorEstimate
        GLA's estimate of P_P(Y) from the zero-shot logits on the validation set.
    true_prior : numpy.ndarray, optional
        Shape (n_classes,): known for minis, in the order of the data's classes.
    sha256, source : str
        Of the weights.
    lr : float
        The learning rate used.
    n_tuned : int
        Trained parameters.
    seconds : float
        In the call that finished it.
    precision : str
    anchors : {"captions", "class means"}
        The class prototypes; image-only backbones have no captions.
    pretraining_loss : str
    gla : bool
        Whether the tuned logits are those of GLA-FT.
    read_back : bool
        Whether it was read from its folder.
    known_prior : numpy.ndarray, optional
        Shape (n_classes,): the known label prior that was given, NaN where it is not known.
    """

    name: str
    zero_shot_validation: np.ndarray
    zero_shot_test: np.ndarray
    validation_logits: np.ndarray
    test_logits: np.ndarray
    prior: PriorEstimate
    true_prior: np.ndarray | None
    sha256: str
    source: str
    lr: float
    n_tuned: int
    seconds: float
    precision: str = "fp32"
    anchors: str = "captions"
    pretraining_loss: str = "unknown"
    gla: bool = False
    read_back: bool = False
    known_prior: np.ndarray | None = None

    @property
    def label_prior(self) -> np.ndarray:
        """The label prior of P groups and slopes, (K,): the known one if given (NaN: unknown), else the estimate."""
        return self.prior.prior if self.known_prior is None else self.known_prior

    @property
    def gla_prior(self) -> np.ndarray:
        """The label prior that GLA subtracts, (K,): the known one if it has all classes, else the estimate."""
        return self.prior.prior if np.isnan(self.label_prior).any() else self.label_prior

    @property
    def validation_probs(self) -> np.ndarray:
        """P(Y | b, c) on the validation images, (n, n_classes) of float64; rows sum to 1."""
        return _probabilities(self.validation_logits)

    @property
    def test_probs(self) -> np.ndarray:
        """P(Y | b, c) on the test images, (n, n_classes) of float64; rows sum to 1."""
        return _probabilities(self.test_logits)

    def __repr__(self) -> str:
        return f"MemberPrediction({self.name!r}, {len(self.test_logits)} test images, {self.n_tuned} tuned parameters)"


def _probabilities(logits: np.ndarray) -> np.ndarray:
    if not len(logits):
        return np.empty(logits.shape)
    found = log_probabilities(logits, "logits")
    return np.exp(found, out=found)


TIMING = "timing.json"
"""Seconds that a member took, beside its predictions."""


def _seconds(path: Path) -> float:
    """Seconds that a member took; 0 if the file is lost."""
    if not path.is_file():
        return 0.0
    return float(check_shape(read_json(path), dict[str, float], path).get("seconds", 0.0))


_LOGITS = ("zero_shot_validation", "zero_shot_test", "validation_logits", "test_logits")
_PRIORS = ("true_prior", "known_prior")
_ARRAYS = (*_LOGITS, *_PRIORS)


def write_prediction(
    path: Path, prediction: MemberPrediction, made_with: Document, validation_labels: np.ndarray
) -> None:
    """Write a prediction with its settings, and the labels for `causalft prior`."""
    arrays = {name: getattr(prediction, name) for name in _ARRAYS if getattr(prediction, name) is not None}
    arrays["prior"] = prediction.prior.prior
    arrays["validation_labels"] = np.asarray(validation_labels, dtype=np.int64)
    rest: Document = {
        each.name: getattr(prediction, each.name)
        for each in fields(prediction)
        if each.name not in (*_ARRAYS, "prior", "read_back", "seconds")
    }
    rest["prior"] = {k: v for k, v in asdict(prediction.prior).items() if k != "prior"}
    # Times are the one thing that differs between equal runs: they stand in a file of their own.
    write_json(path.with_name(TIMING), {"seconds": prediction.seconds})
    with atomic_path(path) as temporary:
        save_file(
            {k: np.ascontiguousarray(v) for k, v in arrays.items()},
            temporary,
            {"member": json.dumps(rest), "made_with": json.dumps(made_with)},
        )
        sort_metadata(temporary)


def open_prediction(path: Path) -> tuple[MemberPrediction, Document]:
    """Read what :func:`write_prediction` wrote, and the settings; the logits stay on disk until they are asked for.

    Raises
    ------
    CausalFTError
        If the file is damaged.
    """
    try:
        arrays, metadata = map_tensors(path)
        rest, made = json.loads(metadata["member"]), json.loads(metadata["made_with"])
        arrays.pop("validation_labels", None)
        arrays |= {name: np.array(arrays[name]) for name in _PRIORS if name in arrays}
        prior = PriorEstimate(prior=np.array(arrays.pop("prior")), **rest.pop("prior"))
        rest.setdefault("seconds", _seconds(path.with_name(TIMING)))  # older files hold it themselves
        kept: dict[str, Any] = {"true_prior": None, **arrays, **rest}
        found = MemberPrediction(prior=prior, read_back=True, **kept)
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise CausalFTError(f"{path} is damaged ({error}); remove it to fit this stratum again") from error
    return found, made


def read_prediction(path: Path, stratum: Stratum, splits: Splits, made_with: Document) -> MemberPrediction:
    """Read what :func:`write_prediction` wrote.

    Raises
    ------
    CausalFTError
        If the file is damaged, or was made with other weights, images or settings.
    """
    found, made = open_prediction(path)
    n_classes = len(splits.train.class_names)
    if (
        found.sha256 != stratum.sha256
        or _with_defaults(made) != json.loads(json.dumps(made_with))
        or found.validation_logits.shape != (len(splits.validation), n_classes)
        or found.test_logits.shape != (len(splits.test), n_classes)
    ):
        raise CausalFTError(
            f"{path} was made with other weights, images or settings; choose another folder (--out)"
        )
    if found.pretraining_loss == "unknown":  # not in files of before it was kept
        found = replace(found, pretraining_loss=stratum.pretraining_loss)
    return found


def _with_defaults(made: Document) -> Document:
    """The settings of a file with those that were added to the tuning since."""
    tuning = made.get("tuning")
    if not isinstance(tuning, dict):
        return made
    usual = json.loads(json.dumps(asdict(Tuning())))
    return {**made, "tuning": {**usual, **tuning}}


def fit_member(
    splits: Splits,
    name: str,
    zoo: Zoo,
    tuning: Tuning,
    *,
    learning_rates: tuple[float, ...] = (),
    gla: bool = False,
    known_prior: ArrayLike | None = None,
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
    made_with = {
        "tuning": asdict(tuning),
        "learning_rates": list(learning_rates),
        **({"gla": True} if gla else {}),
    }
    known = None if known_prior is None else np.asarray(known_prior, dtype=float)
    if known is not None:
        made_with["known_prior"] = hashlib.sha256(known.tobytes()).hexdigest()
    if folder is not None and current_team().from_main((folder / PREDICTIONS).exists):
        found = read_prediction(folder / PREDICTIONS, stratum, splits, made_with)
        return found, load_tuned(stratum, folder, class_names, tuning, gla=gla, release=True)

    validation = Crops(splits.validation, stratum, progress=progress)
    test = Crops(splits.test, stratum, progress=progress) if len(splits.test) else None
    train_crops = Crops(splits.train, stratum, progress=progress)
    left = prior_left_in_logits(tuning, splits.train.class_counts) if gla else None
    if left is not None and left.min() == 0:
        raise CausalFTError(
            f"class {class_names[int(left.argmin())]!r} has no training image, and GLA-FT cannot take a share of 0 out "
            f"of logits tuned with {tuning.loss}; add images"
        )
    of_images = not stratum.has_text or tuning.head_start != "text"  # the anchors, or the head
    untuned = encode_zero_shot(
        stratum,
        class_names,
        tuning,
        (validation,) if test is None else (validation, test),
        train=train_crops if of_images else None,
        cache=cache,
        keep_train=False,
        progress=progress,
    )
    nothing = as_kept(np.empty((0, len(class_names))))  # of no test images
    zero_shot = [as_kept(logits) for logits in untuned.logits]
    if test is None:
        zero_shot.append(nothing)
    prior = prior_on_validation(zero_shot[0], splits.validation.labels)
    for_gla = prior.prior if known is None or np.isnan(known).any() else known
    # One for all learning rates.
    weight = start_of_head(stratum, train_crops, class_names, tuning, untuned.train)
    untouched = None
    if gla:
        shift = -np.log(for_gla) - (0 if left is None else np.log(left))
        anchors = torch.from_numpy(untuned.scale * untuned.anchors)
        untouched = Untouched(stratum, anchors, torch.from_numpy(shift), tuning.precision)
    del untuned  # the features of the training images

    best: tuple[float, TunedStratum, np.ndarray, float] | None = None
    rates = learning_rates or (tuning.lr,)
    balance = balancing_weights(splits.validation.labels, len(class_names))
    for lr in rates:
        checkpoint = None if folder is None else folder / f".lr-{lr:g}.checkpoint.safetensors"
        tuned, _ = tune(
            stratum,
            train_crops,
            class_names,
            replace(tuning, lr=lr),
            validation=validation,
            model_prior=for_gla,
            weight=weight,
            release=lr == rates[-1],
            progress=progress,
            checkpoint=checkpoint,
            log_dir=None if log_dir is None else log_dir / f"lr-{lr:g}",
        )
        logits = as_kept(tuned.logits(validation))
        risk = nll(logits, splits.validation.labels, balance, kind="logits")
        if best is None or risk < best[0]:
            best = (risk, tuned, logits, lr)
    assert best is not None
    _, tuned, validation_logits, lr = best
    if untouched is not None:
        tuned.untouched = untouched
        validation_logits = as_kept(tuned.logits(validation))
    prediction = MemberPrediction(
        name=name,
        zero_shot_validation=zero_shot[0],
        zero_shot_test=zero_shot[1],
        validation_logits=validation_logits,
        test_logits=nothing if test is None else as_kept(tuned.logits(test)),
        prior=prior,
        true_prior=None if stratum.card is None else stratum.card.prior_of(class_names),
        sha256=stratum.sha256,
        source=stratum.source,
        lr=lr,
        n_tuned=tuned.n_tuned,
        precision=tuned.precision,
        anchors="captions" if stratum.has_text else "class means",
        pretraining_loss=stratum.pretraining_loss,
        gla=gla,
        known_prior=known,
        seconds=time.perf_counter() - started,
    )
    if folder is not None and is_main_process():
        tuned.save(folder)
        write_prediction(folder / PREDICTIONS, prediction, made_with, splits.validation.labels)
        mapped, _ = map_tensors(folder / PREDICTIONS)  # the logits themselves can be let go
        on_disk: dict[str, Any] = {name: mapped[name] for name in _LOGITS}
        prediction = replace(prediction, **on_disk)
    return prediction, tuned


def gla_members(
    tuning: Tuning, class_counts: ArrayLike, members: Mapping[str, Sequence[MemberPrediction]]
) -> dict[str, list[MemberPrediction]]:
    """Replace the tuned logits of members by those of GLA-FT (:func:`causalft.methods.estimators.gla.gla_finetuned`),
    computed where they are read.

    Empty where it is undefined for this tuning (:func:`causalft.methods.adaptation.settings.check_gla`), where the
    members have it already, or where a class has no training image and its prior would be taken out.
    """
    try:
        left = prior_left_in_logits(tuning, class_counts)
    except CausalFTError:
        return {}
    if any(m.gla for found in members.values() for m in found) or (left is not None and left.min() == 0):
        return {}

    def adjusted(m: MemberPrediction) -> MemberPrediction:
        shift = -np.log(m.gla_prior) - (0 if left is None else np.log(left))
        logits: dict[str, Any] = {
            "validation_logits": SummedLogits(m.zero_shot_validation, m.validation_logits, shift),
            "test_logits": SummedLogits(m.zero_shot_test, m.test_logits, shift),
        }
        return replace(m, **logits)

    return {name: [adjusted(m) for m in found] for name, found in members.items()}
