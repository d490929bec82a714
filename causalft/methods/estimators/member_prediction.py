"""What one member of a fusion predicts, as a record and as a file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from causalft.data.splits import Splits
from causalft.errors import CausalFTError
from causalft.methods.adaptation.settings import Tuning
from causalft.methods.estimators.probabilities import log_probabilities
from causalft.methods.estimators.stored_logits import map_tensors
from causalft.methods.priors import PriorEstimate
from causalft.methods.semi.pseudo_labels import PseudoLabels
from causalft.models.strata.stratum import Stratum
from causalft.runs.documents import Document, check_shape
from causalft.runs.files import sort_metadata
from causalft.runs.folder import atomic_path, read_json, write_json
from causalft.runs.notebook import ShownAsTable

__all__ = [
    "LOGITS",
    "MemberPrediction",
    "open_prediction",
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
    joint : bool
        Whether it was tuned together with other strata, so that only the fused logits were fitted to the labels.
    read_back : bool
        Whether it was read from its folder.
    known_prior : numpy.ndarray, optional
        Shape (n_classes,): the known label prior that was given, NaN where it is not known.
    pseudo_labels : PseudoLabels, optional
        Of a semi-supervised training.
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
    joint: bool = False
    pseudo_labels: PseudoLabels | None = None

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


LOGITS = ("zero_shot_validation", "zero_shot_test", "validation_logits", "test_logits")
_PRIORS = ("true_prior", "known_prior")
_ARRAYS = (*LOGITS, *_PRIORS)
_PSEUDO = "pseudo_labels."


def write_prediction(
    path: Path, prediction: MemberPrediction, made_with: Document, validation_labels: np.ndarray
) -> None:
    """Write a prediction with its settings, and the labels for `causalft prior`."""
    arrays = {name: getattr(prediction, name) for name in _ARRAYS if getattr(prediction, name) is not None}
    arrays["prior"] = prediction.prior.prior
    arrays["validation_labels"] = np.asarray(validation_labels, dtype=np.int64)
    if prediction.pseudo_labels is not None:
        counts = prediction.pseudo_labels.arrays()
        arrays |= {f"{_PSEUDO}{name}": value for name, value in counts.items()}
    rest: Document = {
        each.name: getattr(prediction, each.name)
        for each in fields(prediction)
        if each.name not in (*_ARRAYS, "prior", "pseudo_labels", "read_back", "seconds")
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
        counted = {
            name.removeprefix(_PSEUDO): np.array(arrays.pop(name))
            for name in list(arrays)
            if name.startswith(_PSEUDO)
        }
        prior = PriorEstimate(prior=np.array(arrays.pop("prior")), **rest.pop("prior"))
        rest.setdefault("seconds", _seconds(path.with_name(TIMING)))  # older files hold it themselves
        kept: dict[str, Any] = {"true_prior": None, **arrays, **rest}
        if counted:
            kept["pseudo_labels"] = PseudoLabels(**counted)
        found = MemberPrediction(prior=prior, read_back=True, **kept)
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        why = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise CausalFTError(f"{path} is damaged ({why}); remove it to fit this stratum again") from error
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
