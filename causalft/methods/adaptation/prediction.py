"""What one member of a fusion says of the validation and test images, and the file that lets a run resume."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from scipy.special import softmax

from causalft.data.splits import Splits
from causalft.errors import CausalFTError
from causalft.methods.estimators.run_documents import PREDICTIONS
from causalft.methods.priors import PriorEstimate
from causalft.models.strata.stratum import Stratum
from causalft.runs.documents import Document, check_shape
from causalft.runs.files import sort_metadata
from causalft.runs.folder import atomic_path, read_json, write_json
from causalft.runs.notebook import ShownAsTable

__all__ = ["PREDICTIONS", "MemberPrediction", "read_prediction", "write_prediction"]


@dataclass(frozen=True, repr=False)
class MemberPrediction(ShownAsTable):
    """What one stratum says of the validation and test images, before and after tuning.

    Attributes
    ----------
    name : str
    zero_shot_validation, zero_shot_test, validation_logits, test_logits : numpy.ndarray
        Logits, shape (n, n_classes), float64; n is 0 without test images.
    prior : PriorEstimate
        GLA's estimate of P_P(Y) from the zero-shot logits on the balanced validation set.
    true_prior : numpy.ndarray, optional
        Shape (n_classes,): known for minis, in the order of the data's classes.
    sha256, source : str
        Of the weights.
    lr : float
        The learning rate used (chosen on validation if there were several).
    n_tuned : int
        Trained parameters.
    seconds : float
        To make it, in the call that finished it.
    precision : str
        In which the tower ran.
    anchors : {"captions", "class means"}
        What the zero-shot logits compare a picture with; image-only backbones know no captions.
    pretraining_loss : str
        That of the stratum.
    gla : bool
        Whether the tuned logits are those of GLA-FT: zero-shot ones, debiased, are added.
    read_back : bool
        Whether it was found complete in its folder and not made in this call.
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

    @property
    def validation_probs(self) -> np.ndarray:
        """P(Y | b, c) on the validation images; rows sum to 1."""
        return softmax(self.validation_logits, axis=1)

    @property
    def test_probs(self) -> np.ndarray:
        """P(Y | b, c) on the test images; rows sum to 1."""
        return softmax(self.test_logits, axis=1)

    def __repr__(self) -> str:
        return f"MemberPrediction({self.name!r}, {len(self.test_logits)} test images, {self.n_tuned} tuned parameters)"


TIMING = "timing.json"
"""Seconds that a member took, beside its predictions."""


def _seconds(path: Path) -> float:
    """What a member took; 0 if its file was lost, which loses nothing else."""
    if not path.is_file():
        return 0.0
    return float(check_shape(read_json(path), dict[str, float], path).get("seconds", 0.0))


_ARRAYS = ("zero_shot_validation", "zero_shot_test", "validation_logits", "test_logits", "true_prior")


def write_prediction(
    path: Path, prediction: MemberPrediction, made_with: Document, validation_labels: np.ndarray
) -> None:
    """Write a prediction with the settings it was made with; the labels are there for `causalft prior`."""
    arrays = {name: getattr(prediction, name) for name in _ARRAYS if getattr(prediction, name) is not None}
    arrays["prior"] = prediction.prior.prior
    arrays["validation_labels"] = np.asarray(validation_labels, dtype=np.int64)
    rest: Document = {
        key: value
        for key, value in asdict(prediction).items()
        if key not in (*_ARRAYS, "prior", "read_back", "seconds")
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


def read_prediction(path: Path, stratum: Stratum, splits: Splits, made_with: Document) -> MemberPrediction:
    """Read what :func:`write_prediction` wrote.

    Raises
    ------
    CausalFTError
        If the file is damaged, or was made with other weights, images or settings.
    """
    try:
        with safe_open(path, framework="np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}
            metadata = file.metadata() or {}
            rest, made = json.loads(metadata["member"]), json.loads(metadata["made_with"])
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise CausalFTError(f"{path} is damaged ({error}); remove it to fit this stratum again") from error
    n_classes = len(splits.train.class_names)
    shapes = {"validation_logits": len(splits.validation), "test_logits": len(splits.test)}
    if (
        rest["sha256"] != stratum.sha256
        or made != json.loads(json.dumps(made_with))
        or any(arrays[name].shape != (n, n_classes) for name, n in shapes.items())
    ):
        raise CausalFTError(
            f"{path} was made with other weights, images or settings; choose another folder (--out)"
        )
    arrays.pop("validation_labels", None)
    prior = PriorEstimate(prior=arrays.pop("prior"), **rest.pop("prior"))
    rest.setdefault("seconds", _seconds(path.with_name(TIMING)))  # older files hold it themselves
    rest.setdefault("pretraining_loss", stratum.pretraining_loss)  # not in files of before it was kept
    return MemberPrediction(prior=prior, read_back=True, **{"true_prior": None, **arrays}, **rest)
