"""What a model answers to the test images: a view of each member's logits, and a rule for several members."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from causalft.errors import CausalFTError, nearest

if TYPE_CHECKING:
    from causalft.data.splits import Splits
    from causalft.methods.adaptation.settings import Tuning
    from causalft.methods.estimators.member import MemberPrediction
    from causalft.methods.estimators.mixing import StratumPrior
    from experiments.frame.lab import Lab

__all__ = ["CHOOSE", "EACH", "RULES", "VIEWS", "answer", "estimated", "estimated_weights", "seen"]

Ints = NDArray[np.int64]


def seen(prediction: MemberPrediction, view: str, tuning: Tuning, counts: Ints) -> MemberPrediction:
    """The member with its tuned logits replaced by those of a view (:data:`VIEWS`).

    Raises
    ------
    CausalFTError
        For an unknown view, or one that this member does not have.
    """
    if view not in VIEWS:
        raise CausalFTError(f"no view of a member is named {view!r}; {nearest(view, VIEWS)}")
    return VIEWS[view](prediction, tuning, counts)


def _tuned(prediction: MemberPrediction, tuning: Tuning, counts: Ints) -> MemberPrediction:
    return prediction


def _zero_shot(prediction: MemberPrediction, tuning: Tuning, counts: Ints) -> MemberPrediction:
    return replace(
        prediction,
        validation_logits=prediction.zero_shot_validation,
        test_logits=prediction.zero_shot_test,
    )


def _gla_zs(prediction: MemberPrediction, tuning: Tuning, counts: Ints) -> MemberPrediction:
    from causalft.methods.priors import debias

    return replace(
        prediction,
        validation_logits=debias(prediction.zero_shot_validation, prediction.gla_prior),
        test_logits=debias(prediction.zero_shot_test, prediction.gla_prior),
    )


def _gla_ft(prediction: MemberPrediction, tuning: Tuning, counts: Ints) -> MemberPrediction:
    from causalft.methods.estimators.member import gla_members

    found = gla_members(tuning, counts, {prediction.name: [prediction]})
    if not found:
        raise CausalFTError(f"GLA-FT is not defined for {prediction.name} tuned with {tuning.loss}")
    return found[prediction.name][0]


def _gla_ft_known(prediction: MemberPrediction, tuning: Tuning, counts: Ints) -> MemberPrediction:
    if prediction.true_prior is None:
        raise CausalFTError(f"the label prior of {prediction.name} is not known")
    return _gla_ft(replace(prediction, known_prior=prediction.true_prior), tuning, counts)


VIEWS: dict[str, Callable[[MemberPrediction, Tuning, Ints], MemberPrediction]] = {
    "tuned": _tuned,
    "zero-shot": _zero_shot,
    "GLA-ZS": _gla_zs,
    "GLA-FT": _gla_ft,
    "GLA-FT, known prior": _gla_ft_known,
}
"""The tuned logits; zero-shot logits; those less the estimated log prior; GLA-FT, with the estimated or known prior."""


def answer(
    predictions: Sequence[MemberPrediction], rule: str, stratum_prior: str, splits: Splits, seed: int
) -> Ints:
    """Predicted classes of the test images, (n,).

    Parameters
    ----------
    predictions : sequence of M MemberPrediction
    rule : str
        A fusion, or one of :data:`RULES`; ignored for one member.
    stratum_prior : {"uniform", "em", "placebo"}
    splits : Splits
    seed : int
    """
    logits = [prediction.test_logits for prediction in predictions]
    if len(predictions) == 1:
        return np.asarray(logits[0]).argmax(axis=1)
    if rule in RULES:
        return RULES[rule](predictions, splits, seed)
    return _fuse(predictions, logits, rule, stratum_prior, splits, seed)


def _fuse(
    predictions: Sequence[MemberPrediction],
    logits: Sequence[Any],
    rule: str,
    stratum_prior: str,
    splits: Splits,
    seed: int,
) -> Ints:
    from causalft.methods.estimators.fusion import fuse

    weights = None if stratum_prior == "uniform" else estimated(predictions, splits, seed).weights
    if stratum_prior == "placebo" and weights is not None:
        weights = np.roll(weights, 1)
    return fuse(logits, weights, fusion=rule, kind="logits").argmax(axis=1)


def estimated(predictions: Sequence[MemberPrediction], splits: Splits, seed: int) -> StratumPrior:
    """P(c), by EM on the validation images."""
    from causalft.data.groups import balancing_weights
    from causalft.methods.estimators.mixing import estimate_stratum_prior

    labels = splits.validation.labels
    return estimate_stratum_prior(
        np.stack([p.validation_probs for p in predictions]),
        labels,
        seed,
        weights=balancing_weights(labels, splits.validation.n_classes),
    )


def estimated_weights(lab: Lab) -> dict[str, Any]:
    """``stratum_prior`` of the metrics: the estimated P(c) of the strata with LA, with its interval, for each seed."""
    from experiments.frame.members import Member

    strata = [Member(name) for name in lab.world.roles.strata]
    found = []
    for seed in range(lab.seeds):
        prior = estimated([lab.prediction(each, seed) for each in strata], lab.world.splits(seed), seed)
        found.append({"weights": prior.weights.tolist(), "ci95": prior.ci95.tolist()})
    return {"stratum_prior": found}


def _best_on_validation(predictions: Sequence[MemberPrediction], splits: Splits, seed: int) -> Ints:
    return _best(predictions, "validation_logits", splits.validation.labels, splits.validation.n_classes)


def _best_on_test(predictions: Sequence[MemberPrediction], splits: Splits, seed: int) -> Ints:
    return _best(predictions, "test_logits", splits.test.labels, splits.test.n_classes)


def _best(predictions: Sequence[MemberPrediction], logits: str, labels: Ints, n_classes: int) -> Ints:
    """Answers of the best member on these images."""
    return np.asarray(_best_of(predictions, logits, labels, n_classes).test_logits).argmax(axis=1)


def _best_of(
    predictions: Sequence[MemberPrediction], logits: str, labels: Ints, n_classes: int
) -> MemberPrediction:
    """The member with the highest mean class accuracy on these images."""
    from causalft.data.groups import class_accuracy

    right = np.stack([np.asarray(getattr(p, logits)).argmax(axis=1) == labels for p in predictions])
    scores = np.nanmean(class_accuracy(right, labels, n_classes), axis=1)
    return predictions[int(scores.argmax())]


def _each_on_validation(predictions: Sequence[MemberPrediction], splits: Splits, seed: int) -> Ints:
    """The product of the strata, each as the one of its tunings that is best on validation images."""
    labels, n_classes = splits.validation.labels, splits.validation.n_classes
    tunings: dict[str, list[MemberPrediction]] = {}
    for prediction in predictions:
        tunings.setdefault(prediction.name, []).append(prediction)
    chosen = [_best_of(each, "validation_logits", labels, n_classes) for each in tunings.values()]
    return _fuse(chosen, [each.test_logits for each in chosen], "product", "uniform", splits, seed)


def _shuffled(predictions: Sequence[MemberPrediction], splits: Splits, seed: int) -> Ints:
    """The mixture over M members drawn with replacement for each image."""
    from causalft.methods.estimators.fusion import fuse

    logits = [np.asarray(p.test_logits) for p in predictions]
    drawn = np.random.default_rng(seed).integers(len(logits), size=(len(logits), len(logits[0])))
    rows = np.arange(len(logits[0]))
    whole = np.stack(logits)
    return fuse([whole[which, rows] for which in drawn], kind="logits").argmax(axis=1)


EACH = "product, tunings chosen on validation"

RULES: dict[str, Callable[[Sequence[MemberPrediction], Splits, int], Ints]] = {
    "best on validation": _best_on_validation,
    "best on test": _best_on_test,
    "shuffled": _shuffled,
    EACH: _each_on_validation,
}
"""Rules beside the fusions: one member, chosen on validation or (an oracle) on test images; shuffled strata; the
product of strata that were tuned in several ways, the way chosen on validation."""

CHOOSE = ("best on validation", "best on test")
"""Those that choose one member for each seed."""
