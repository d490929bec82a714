"""Strata tuned together, by one loss on their fused logits or by a common term: predictions of all, kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from causalft.data.groups import balancing_weights
from causalft.data.splits import Splits
from causalft.errors import CausalFTError
from causalft.methods.adaptation.joint import tune_together
from causalft.methods.adaptation.settings import Tuning
from causalft.methods.adaptation.terms import Term
from causalft.methods.adaptation.tuned import TunedStratum
from causalft.methods.estimators import FUSIONS
from causalft.methods.estimators.fusion import nll, stratum_weights
from causalft.methods.estimators.member_prediction import MemberPrediction
from causalft.methods.estimators.probabilities import log_probabilities
from causalft.methods.estimators.stored_logits import read_rows, row_blocks
from causalft.methods.estimators.together import Together, fit_together
from causalft.models.features.cache import FeatureCache
from causalft.models.strata.zoo import Zoo
from causalft.runs.documents import Document
from causalft.runs.notebook import ShownAsTable

__all__ = ["JointPrediction", "fit_joint", "fused_logits"]


def fused_logits(
    logits: Sequence[Any], fusion: str = "logit", stratum_prior: ArrayLike | None = None
) -> NDArray[np.float32]:
    """Return logits (n, K) whose softmax is :func:`causalft.methods.estimators.fusion.fuse` of the members' softmax.

    Parameters
    ----------
    logits : sequence of M (n, K) arrays
    fusion : {"mixture", "logit", "product"}
        ``logit`` is the mean, ``product`` the sum, ``mixture`` the log of the mean of the probabilities.
    stratum_prior : (M,) array, optional
        P(C), sums to 1. Default: uniform.

    Raises
    ------
    CausalFTError
        For an unknown fusion or a prior that does not fit.

    Examples
    --------
    >>> fused_logits([[[2.0, 0.0]], [[0.0, 0.0]]]).tolist()
    [[1.0, 0.0]]
    """
    rule = FUSIONS.get_or_refuse(fusion)
    members = [np.asarray(each) if isinstance(each, list) else each for each in logits]
    prior = torch.from_numpy(stratum_weights(stratum_prior, len(members)))
    found = np.empty(members[0].shape, np.float32)
    for rows in row_blocks(*found.shape):
        block = torch.from_numpy(np.stack([read_rows(each, rows) for each in members]))
        found[rows] = rule.fuse_logits(block, prior).numpy()
    return found


@dataclass(frozen=True, repr=False)
class JointPrediction(ShownAsTable):
    """What strata that were tuned together predict for the validation and test images.

    Attributes
    ----------
    members : dict of str to MemberPrediction
        Each on its own. Without a term only the fused logits were fitted to the labels: a member alone is then no
        classifier to compare with.
    fusion : {"mixture", "logit", "product"}
        The fusion that was trained, or by which separately trained members answer.
    stratum_prior : tuple of float
        P(C) of the fusion.
    seconds : float
        In the call that finished it.
    """

    members: dict[str, MemberPrediction]
    fusion: str
    stratum_prior: tuple[float, ...]
    seconds: float

    @property
    def validation_logits(self) -> NDArray[np.float32]:
        """Fused logits of the validation images, (n, K)."""
        return self._fused([member.validation_logits for member in self.members.values()])

    @property
    def test_logits(self) -> NDArray[np.float32]:
        """Fused logits of the test images, (n, K)."""
        return self._fused([member.test_logits for member in self.members.values()])

    @property
    def validation_probs(self) -> NDArray[np.float64]:
        """P(Y | do(x)) of the validation images before any calibration, (n, K); rows sum to 1."""
        return np.exp(log_probabilities(self.validation_logits, "logits"))

    @property
    def test_probs(self) -> NDArray[np.float64]:
        """P(Y | do(x)) of the test images before any calibration, (n, K); rows sum to 1."""
        return np.exp(log_probabilities(self.test_logits, "logits"))

    @property
    def lr(self) -> float:
        """The learning rate used."""
        return next(iter(self.members.values())).lr

    @property
    def n_tuned(self) -> int:
        """Trained parameters of all members."""
        return sum(member.n_tuned for member in self.members.values())

    @property
    def read_back(self) -> bool:
        """Whether it was read from its folder."""
        return all(member.read_back for member in self.members.values())

    def _fused(self, logits: list[NDArray[Any]]) -> NDArray[np.float32]:
        return fused_logits(logits, self.fusion, self.stratum_prior)

    def _table(self) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        return ("member", "learning rate", "tuned parameters"), [
            (name, member.lr, member.n_tuned) for name, member in self.members.items()
        ]

    def __repr__(self) -> str:
        n = len(next(iter(self.members.values())).test_logits)
        return f"JointPrediction({', '.join(self.members)}; {self.fusion}, {n} test images)"


def fit_joint(
    splits: Splits,
    names: Sequence[str],
    zoo: Zoo,
    tuning: Tuning,
    *,
    fusion: str = "logit",
    stratum_prior: ArrayLike | None = None,
    term: Term | None = None,
    learning_rates: tuple[float, ...] = (),
    known_priors: Mapping[str, ArrayLike] | None = None,
    device: str = "auto",
    folder: Path | None = None,
    cache: FeatureCache | None = None,
    log_dir: Path | None = None,
    progress: bool | None = None,
) -> tuple[JointPrediction, dict[str, TunedStratum]]:
    """Tune several strata as one model and predict validation and test images.

    The joint training of Chen et al. (ICML 2025), which they compare with strata that are tuned one by one: one loss on
    the fused logits, one optimiser, the same recipe and number of epochs. The paper does not print its details; the
    fusion, P(C) inside the loss and the shared augmentation are this project's reading. With the mean of logits, each
    member's gradient is a share 1/M of that of a member alone.

    Parameters
    ----------
    splits : Splits
        Long-tailed train; validation and test. Test images are only predicted.
    names : sequence of str
        Strata of the zoo; ``clip#1`` is ``clip`` again, with another seed of its tuner.
    zoo : causalft.models.strata.zoo.Zoo
    tuning : Tuning
    fusion : {"logit", "mixture", "product"}
        What the loss is computed on: the mean of the logits, the log of the mean of the probabilities (Eq. 7), or the
        sum of the logits.
    stratum_prior : (M,) array, optional
        P(C), sums to 1. Default: uniform.
    term : Term, optional
        Each member then learns by its own loss, and by this term that all have in common; the fusion is not trained.
    learning_rates : tuple of float
        With two or more, the one with the lowest validation risk of the fusion (NLL, classes weighted alike) is kept.
    known_priors : mapping of str to (K,) arrays, optional
        Known label priors of strata, NaN where not known; for P groups.
    device : str
    folder : pathlib.Path, optional
        One folder in it per member, as :func:`causalft.methods.estimators.member.fit_member` writes them; if all are
        complete, nothing is trained again.
    cache : causalft.models.features.cache.FeatureCache, optional
        Keeps the frozen features of validation and test images beyond this run.
    log_dir : pathlib.Path, optional
        For TensorBoard.
    progress : bool, optional

    Returns
    -------
    JointPrediction
    dict of str to TunedStratum

    Raises
    ------
    CausalFTError
        If no stratum is named, or one twice; for an unknown fusion; a folder made with other settings; and see
        :func:`causalft.methods.adaptation.joint.tune_together`.

    Examples
    --------
    >>> from causalft.data.creatures import creatures_longtail
    >>> from causalft.models.strata.zoo import open_zoo
    >>> splits = creatures_longtail(n_max=6, imbalance_factor=3, n_validation=2, n_test=1)
    >>> quick = Tuning(epochs=1, lr=0.05)
    >>> found, _ = fit_joint(splits, ["clip", "openclip"], open_zoo("mini"), quick, progress=False)
    >>> found, found.test_logits.shape
    (JointPrediction(clip, openclip; logit, 60 test images), (60, 60))
    """
    tuning.check()
    if not names or len(set(names)) < len(names):
        raise CausalFTError(f"give one stratum or more, each once, to tune together; not {list(names)}")
    rule = FUSIONS.get_or_refuse(fusion)
    weights = stratum_weights(stratum_prior, len(names))
    prior = torch.from_numpy(weights)
    labels, n_classes = splits.validation.labels, len(splits.train.class_names)
    balance = balancing_weights(labels, n_classes)

    def fuse(logits: torch.Tensor) -> torch.Tensor:
        fused: torch.Tensor = rule.fuse_logits(logits, prior.to(logits.dtype).to(logits.device))
        return fused

    def tune(strata: Any, crops: Any, class_names: Any, tunings: Any, **options: Any) -> Any:
        return tune_together(strata, crops, class_names, tunings, fuse, term=term, **options)[0], {}

    def risk(logits: Sequence[NDArray[Any]]) -> float:
        return nll(fused_logits(logits, fusion, weights), labels, balance, kind="logits")

    made_with: Document = {
        "joint": {"strata": list(names), "fusion": fusion, "stratum_prior": weights.tolist()}
        | ({} if term is None else {"term": term.document})
    }
    found, tuned = fit_together(
        splits,
        names,
        zoo,
        tuning,
        Together("joint", made_with, tune, risk, as_one=term is None),
        learning_rates=learning_rates,
        known_priors=known_priors,
        device=device,
        folder=folder,
        cache=cache,
        log_dir=log_dir,
        progress=progress,
    )
    seconds = sum(prediction.seconds for prediction in found.values())
    return JointPrediction(found, fusion, tuple(weights.tolist()), seconds), tuned
