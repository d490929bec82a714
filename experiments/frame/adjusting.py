"""Rules that move a fused decision towards equal marginals or equal recall: the adjusted fusion and its rivals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from causalft.data.splits import Splits
    from causalft.methods.estimators.adjustment import Adjustment
    from causalft.methods.estimators.member import MemberPrediction
    from causalft.methods.estimators.mixing import Mixing
    from experiments.frame.lab import Lab
    from experiments.frame.members import Member
    from experiments.frame.scales import Roles

__all__ = ["ADJUSTING", "AT", "CLASS_WEIGHTS", "RIVALS", "STRENGTHS", "Fused", "beside", "chosen", "owned"]

Floats = NDArray[np.float64]

STRENGTHS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
"""Strengths of the frontier."""

AT = "adjusted, strength {:g}"
CLASS_WEIGHTS = "class weights alone"


@dataclass(frozen=True)
class Fused:
    """Members that are fused, and what a rule may use: validation images with labels, other images without.

    Attributes
    ----------
    members : sequence of MemberPrediction
    others : sequence of MemberPrediction
        Strata with other label priors, for members that share one; else empty.
    splits : Splits
    seed : int
    unlabelled : callable, optional
        Logits (M, n, K) of the members for images of which no label is read; called by the rule that asks for them.
    """

    members: Sequence[MemberPrediction]
    others: Sequence[MemberPrediction]
    splits: Splits
    seed: int
    unlabelled: Callable[[], NDArray[Any]] | None = None

    @property
    def priors(self) -> Floats:
        """Label priors of the members, (M, K)."""
        return np.stack([each.gla_prior for each in self.members])

    @property
    def labels(self) -> NDArray[np.int64]:
        """Of the validation images."""
        return self.splits.validation.labels

    @classmethod
    def of(cls, lab: Lab, members: Sequence[Member], seed: int) -> Fused:
        """Members of one seed as they were tuned, with the other strata beside them where they share one prior."""
        found = [lab.prediction(member, seed) for member in members]
        return cls(found, beside(lab, members, seed), lab.world.splits(seed, members[0].draw), seed)

    def log_p(self, what: str) -> Floats:
        """Log-probabilities (M, n, K) of ``validation_logits`` or ``test_logits``."""
        from causalft.methods.estimators.probabilities import member_log_probabilities

        return member_log_probabilities([getattr(each, what) for each in self.members], "logits")


def owned(members: Sequence[Member], roles: Roles) -> list[int]:
    """Indices of the strata whose label prior some of the members have."""
    from causalft.models.strata.cards import MemberName

    of = {MemberName.parse(member.name).stratum.removesuffix("-wide") for member in members}
    return [index for index, name in enumerate(roles.strata) if name in of]


def beside(lab: Lab, members: Sequence[Member], seed: int) -> list[MemberPrediction]:
    """The other strata, where several members share one prior; else nothing."""
    roles = lab.world.roles
    own = owned(members, roles)
    if len(own) != 1 or len(members) == 1:
        return []
    rest = [name for index, name in enumerate(roles.strata) if index not in own]
    return [lab.prediction(replace(members[0], name=name), seed) for name in rest]


def chosen(fused: Fused, priors: Floats | None = None, **options: Any) -> tuple[Mixing, Adjustment]:
    """The adjusted fusion of the members."""
    from causalft.data.groups import balancing_weights
    from causalft.methods.estimators.adjustment import Adjusting, fit_fusion

    adjusting = Adjusting(
        fused.priors if priors is None else priors,
        fused.splits.train.class_counts,
        others=[each.validation_logits for each in fused.others] or None,
        **options,
    )
    mixing, adjustment = fit_fusion(
        [each.validation_logits for each in fused.members],
        fused.labels,
        adjusting,
        seed=fused.seed,
        weights=balancing_weights(fused.labels, fused.splits.validation.n_classes),
        kind="logits",
    )
    assert adjustment is not None
    return mixing, adjustment


def _by(mixing: Mixing, fused: Fused) -> NDArray[np.int64]:
    found: NDArray[np.int64] = mixing([each.test_logits for each in fused.members], kind="logits").argmax(
        axis=1
    )
    return found


def _adjusted(fused: Fused) -> NDArray[np.int64]:
    return _by(chosen(fused)[0], fused)


def _without_labels(fused: Fused) -> NDArray[np.int64]:
    """The strength is chosen on images of which no label is read; validation images still calibrate the pool."""
    assert fused.unlabelled is not None
    return _by(chosen(fused, unlabeled=list(fused.unlabelled()))[0], fused)


def _null(fused: Fused) -> NDArray[np.int64]:
    """The priors are shuffled among the classes, by a seed of its own for each stratum."""
    rng = np.random.default_rng(1000 + fused.seed)
    return _by(chosen(fused, np.stack([rng.permutation(q) for q in fused.priors]))[0], fused)


def _at(strength: float, fused: Fused, with_shares: bool = True) -> NDArray[np.int64]:
    """The likeliest pool at a given strength; at 0 without shares a product with P(c | y) in place of P(c)."""
    from causalft.data.groups import balancing_weights
    from causalft.methods.estimators.pool import Priors, StrataRows, fit_pool, pooled

    priors = Priors.of(fused.priors, fused.splits.train.class_counts)
    weights = balancing_weights(fused.labels, fused.splits.validation.n_classes)
    rows = StrataRows([each.validation_logits for each in fused.members], "logits")
    pool = replace(
        fit_pool(rows, fused.labels, weights, priors, with_shares=with_shares), prior_share=strength
    )
    score = pooled(fused.log_p("test_logits"), pool.class_weights(priors), pool.offsets(priors))
    return score.argmax(axis=1)


def _fuse(log_p: Floats, rule: str) -> Floats:
    """Log-probabilities (n, K) of unnormalised strata (M, n, K), with uniform P(c)."""
    from scipy.special import logsumexp

    from causalft.methods.estimators.probabilities import normalised

    if rule == "mixture":
        return normalised(logsumexp(normalised(log_p), axis=0))
    return normalised(log_p.sum(axis=0) if rule == "product" else log_p.mean(axis=0))


def _less_prior(rule: str, log_p: Floats, log_q: Floats, strength: float) -> Floats:
    """Each stratum less a share of its log prior, fused: (M, n, K) to (n, K)."""
    return _fuse(log_p - strength * log_q[:, None], rule)


def _class_weighted(rule: str, log_p: Floats, log_q: Floats, strength: float) -> Floats:
    """The fusion with weights w_c(y) ~ q_c(y)^strength, columns sum to 1: (M, n, K) to (n, K)."""
    from scipy.special import log_softmax, logsumexp

    from causalft.methods.estimators.pool import pooled
    from causalft.methods.estimators.probabilities import normalised

    log_w = log_softmax(strength * log_q, axis=0)
    if rule == "product":
        return normalised(pooled(log_p, np.exp(log_w)))
    return normalised(logsumexp(log_p + log_w[:, None], axis=0))


def _equal_marginals(rule: str, fused: Fused) -> NDArray[np.int64]:
    """A strength for each stratum: mean predicted probabilities have no slope on its log prior (reads no label)."""
    from scipy.optimize import least_squares

    log_q = np.log(fused.priors)
    log_q -= log_q.mean(axis=1, keepdims=True)
    validation = fused.log_p("validation_logits")

    def slopes(strengths: Floats) -> Floats:
        moved = _fuse(validation - strengths[:, None, None] * log_q[:, None], rule)
        # a little ridge decides between members that share a prior
        return np.concatenate([log_q @ (np.exp(moved).mean(axis=0) - 1 / log_q.shape[1]), 1e-3 * strengths])

    found = least_squares(slopes, np.zeros(len(log_q)), bounds=(-1, 1)).x
    return _fuse(fused.log_p("test_logits") - found[:, None, None] * log_q[:, None], rule).argmax(axis=1)


def _equal_recall(
    rule: str, fused: Fused, scored: Callable[[str, Floats, Floats, float], Floats] = _less_prior
) -> NDArray[np.int64]:
    """One strength, at which the own P gap of validation images, counted with their labels, is zero."""
    from causalft.data.groups import class_accuracy, gap_vectors
    from causalft.methods.estimators import equal_recall

    y, n_classes = fused.labels, fused.splits.validation.n_classes
    log_q = np.log(fused.priors)
    log_q -= log_q.mean(axis=1, keepdims=True)
    validation = fused.log_p("validation_logits")
    moved = [scored(rule, validation, log_q, a).argmax(axis=1) == y for a in equal_recall.STRENGTHS]
    beside = [
        np.asarray(each.validation_logits).argmax(axis=1) == y for each in fused.others or fused.members
    ]
    curve = equal_recall.own_gap(
        class_accuracy(np.stack(moved), y, n_classes),
        class_accuracy(np.stack(beside), y, n_classes),
        gap_vectors(fused.priors, np.bincount(y, minlength=n_classes) > 0),
        bool(fused.others),
    )
    strength, _ = equal_recall.root_of(curve)
    return scored(rule, fused.log_p("test_logits"), log_q, strength).argmax(axis=1)


def _transport(rule: str, fused: Fused) -> NDArray[np.int64]:
    """The fusion with a threshold for each class, by optimal transport of validation images to the uniform law.

    The thresholds solve the semi-dual of entropic transport with regularisation 1 (Genevay et al., NeurIPS 2016): mean
    predicted probabilities become uniform.
    """
    from scipy.optimize import minimize
    from scipy.special import logsumexp, softmax

    scores = _fuse(fused.log_p("validation_logits"), rule)
    n_classes = scores.shape[1]

    def dual(thresholds: Floats) -> tuple[float, Floats]:
        moved = scores + thresholds
        slope = softmax(moved, axis=1).mean(axis=0) - 1 / n_classes
        return float(logsumexp(moved, axis=1).mean() - thresholds.mean()), slope

    found = minimize(dual, np.zeros(n_classes), jac=True, method="L-BFGS-B").x
    return (_fuse(fused.log_p("test_logits"), rule) + found).argmax(axis=1)


RIVALS: dict[str, Callable[[Fused], NDArray[np.int64]]] = {
    **{
        f"{rule}, equal marginals": partial(_equal_marginals, rule)
        for rule in ("product", "mixture", "logit mean")
    },
    **{f"{rule}, equal recall": partial(_equal_recall, rule) for rule in ("product", "mixture")},
    **{
        f"{rule}, class weights": partial(_equal_recall, rule, scored=_class_weighted)
        for rule in ("product", "mixture")
    },
    **{
        f"{rule}, optimal transport": partial(_transport, rule)
        for rule in ("product", "mixture", "logit mean")
    },
}
"""The other families. Only a rule that reads probabilities tells the logit mean from the product: decisions agree."""

ADJUSTING: dict[str, Callable[[Fused], NDArray[np.int64]]] = {
    "adjusted": _adjusted,
    "adjusted, strength without labels": _without_labels,
    "adjusted, priors shuffled": _null,
    CLASS_WEIGHTS: partial(_at, 0.0, with_shares=False),
    **RIVALS,
    **{AT.format(strength): partial(_at, strength) for strength in STRENGTHS},
}
"""Rules of an arm that are fitted on validation images."""
