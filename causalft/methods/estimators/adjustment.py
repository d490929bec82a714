"""The adjusted fusion: the strength that closes the gap, its price on validation images, and a guard.

What is equalised, and how the strength is found: :mod:`causalft.methods.estimators.equal_recall`. Whatever judges a
strength is cross-fitted: the pool and the strength of a fold are found without its images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.data.groups import balancing_weights
from causalft.errors import CausalFTError
from causalft.methods.estimators.equal_recall import STRENGTHS, Chooser, interval_of, strength_of
from causalft.methods.estimators.fusion import check_pair
from causalft.methods.estimators.guard import STEPS, Guard, choose_guarded, guard_notes, judge
from causalft.methods.estimators.mixing import Mixing, fit_mixing
from causalft.methods.estimators.pool import Floats, Pool, Priors, StrataRows, fit_pool
from causalft.methods.estimators.probabilities import Kind
from causalft.runs.documents import Document
from causalft.runs.notebook import ShownAsTable

__all__ = ["TOLERANCE", "Adjusting", "Adjustment", "FrontierPoint", "Guard", "fit_adjustment", "fit_fusion"]

TOLERANCE = 3.0
"""Points of validation accuracy that an adjustment may cost."""

_FIT_ENTRIES = 16_000_000
"""Log-probabilities that are enough for the four numbers of a pool."""

_SHOWN = 5  # of the strengths that are tried, each fifth is a point of the frontier
_FOLDS = 5


@dataclass(frozen=True)
class FrontierPoint:
    """Cross-fitted validation scores at one strength.

    Attributes
    ----------
    strength : float
    accuracy : float
        Classes weighted by the target law, by default alike.
    gap : float
        Own P gap beyond class difficulty, counted with the labels; NaN for one stratum.
    """

    strength: float
    accuracy: float
    gap: float


@dataclass(frozen=True, repr=False)
class Adjustment(ShownAsTable):
    """The adjusted fusion of M strata: what was chosen, on what, at which price.

    Attributes
    ----------
    strength : float
        Share of the log priors that is taken out, 0 to 1.
    ci95 : tuple of (float, float)
        By a bootstrap over the images that chose it; down to the strength in use if the guard lowered that. (0, 1)
        for one stratum.
    pool : Pool
        The likeliest pool; its ``prior_share`` is not the strength.
    frontier : tuple of FrontierPoint
    accuracy, gap : float
        Cross-fitted, of the strength that each fold chose without its own images.
    guard : Guard
    chosen_on : {"validation", "unlabelled"}
    n_images : int
        That chose the strength.
    by_labels : float
        The strength at which the gap counted with labels is closest to zero: a check of the expected one. NaN for one
        stratum.
    class_weights, offsets : (M, K) arrays
        P(c | y), columns sum to 1; what is added to the log-probabilities of each stratum.
    notes : tuple of str
    """

    strength: float
    ci95: tuple[float, float]
    pool: Pool
    frontier: tuple[FrontierPoint, ...]
    accuracy: float
    gap: float
    guard: Guard
    chosen_on: str
    n_images: int
    by_labels: float
    class_weights: Floats = field(compare=False)
    offsets: Floats = field(compare=False)
    notes: tuple[str, ...] = ()

    def to_json(self) -> Document:
        """``{strength, ci95, frontier, guard, ...}`` of the metrics."""
        return {
            "strength": self.strength,
            "ci95": list(self.ci95),
            "frontier": [
                {"strength": p.strength, "accuracy": p.accuracy, "gap": _or_null(p.gap)}
                for p in self.frontier
            ],
            "guard": self.guard.to_json(),
            "validation": {"accuracy": self.accuracy, "gap": _or_null(self.gap)},
            "by_labels": _or_null(self.by_labels),
            "chosen_on": self.chosen_on,
            "n_images": self.n_images,
            "pool": vars(self.pool),
            "notes": list(self.notes),
        }

    def _table(self) -> tuple[list[str], list[list[Any]]]:
        return ["strength", "accuracy", "own P gap"], [[p.strength, p.accuracy, p.gap] for p in self.frontier]

    def __repr__(self) -> str:
        low, high = self.ci95
        return (
            f"Adjustment(strength {self.strength:.2f} [{low:.2f}, {high:.2f}] by {self.n_images} {self.chosen_on} "
            f"images; guard: {self.guard.decision})"
        )


def _or_null(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def fit_adjustment(
    probs: ArrayLike,
    labels: ArrayLike,
    priors: ArrayLike,
    *,
    class_counts: ArrayLike | None = None,
    stratum_prior: ArrayLike | None = None,
    stratum_temperatures: Sequence[float] | None = None,
    unlabeled: ArrayLike | None = None,
    target_law: ArrayLike | None = None,
    others: ArrayLike | None = None,
    tolerance: float = TOLERANCE,
    seed: int = 0,
    kind: Kind = "probabilities",
) -> Adjustment:
    """Choose how much of the strata's label priors to take out.

    Parameters
    ----------
    probs : (M, n, K) array
        P(Y | b, c) of labelled images that no stratum was tuned on, as ``kind`` says. Classes are weighted alike.
    labels : (n,) array of int in [0, K)
    priors : (M, K) array of positive numbers
        Label prior of each stratum, known or estimated.
    class_counts : (K,) array, optional
        Training images; what is left of their prior is taken out too.
    stratum_prior : (M,) array, optional
        P(c), sums to 1. Default: uniform.
    stratum_temperatures : sequence of M floats, optional
    unlabeled : (M, m, K) array, optional
        The same of images without labels, which then choose the strength in place of the labelled ones.
    target_law : (K,) array, optional
        Class law of the images to be classified, and of the unlabelled ones. Default: uniform.
    others : (R, n, K) array, optional
        Models whose priors are none of ``priors``, which give the difficulty of the classes: for members that share
        one prior. Of the unlabelled images, if there are any. Default: for each prior, the other members.
    tolerance : float
        Points of validation accuracy that the strength may cost, by the lower end of a paired interval (`Guard`).
    seed : int
        Of the folds.
    kind : {"probabilities", "log-probabilities", "logits"}, or one of these for each member

    Raises
    ------
    CausalFTError
        If there is no labelled image, or shapes, priors or the target law do not fit.

    Examples
    --------
    Half of each stratum's log prior is left in its logits:

    >>> rng = np.random.default_rng(0)
    >>> law = 0.8 ** np.arange(20)
    >>> priors = np.stack([rng.permutation(law / law.sum()) for _ in range(3)])
    >>> y = np.repeat(np.arange(20), 30)
    >>> logits = np.eye(20)[y] + rng.normal(size=(3, 600, 20)) + 0.5 * np.log(priors)[:, None]
    >>> found = fit_adjustment(logits, y, priors, kind="logits")
    >>> bool(found.ci95[0] < 0.5 < found.ci95[1]), round(found.strength, 1)
    (True, 0.5)
    """
    y = np.asarray(labels)
    if not len(y):
        raise CausalFTError(
            "the adjusted fusion needs labelled images that no stratum was tuned on, to calibrate the strata; give "
            "validation images"
        )
    strata = StrataRows(probs, kind, stratum_temperatures)
    check_pair((strata.n, strata.n_classes), y)
    known = Priors.of(priors, class_counts, stratum_prior)
    if known.log_q.shape != (strata.n_strata, strata.n_classes):
        raise CausalFTError(
            f"priors have shape {known.log_q.shape}; give one row for each of {strata.n_strata} strata, of "
            f"{strata.n_classes} classes"
        )
    log_target = _log_law(target_law, strata.n_classes)
    if not (np.isfinite(tolerance) and tolerance >= 0):
        raise CausalFTError(f"tolerance {tolerance} must be a number of points, 0 or more")
    choosing = strata if unlabeled is None else StrataRows(unlabeled, kind, stratum_temperatures)
    if (choosing.n_strata, choosing.n_classes) != (strata.n_strata, strata.n_classes):
        raise CausalFTError(
            f"unlabeled images have {choosing.n_strata} strata and {choosing.n_classes} classes, labelled ones "
            f"{strata.n_strata} and {strata.n_classes}; give the same models"
        )
    reference = None if others is None else StrataRows(others, kind)
    if reference is not None and (reference.n, reference.n_classes) != (choosing.n, strata.n_classes):
        raise CausalFTError(
            f"others hold {reference.n} images of {reference.n_classes} classes, not {choosing.n} of "
            f"{strata.n_classes}"
        )
    work = Chooser(strata, y, known, choosing, reference, log_target, unlabeled is None)
    return _chosen(work, tolerance / 100, seed)


@dataclass(frozen=True)
class Adjusting:
    """What an adjusted fusion needs beside probabilities and labels: arguments of :func:`fit_adjustment`."""

    priors: ArrayLike
    class_counts: ArrayLike | None = None
    unlabeled: Any = None
    target_law: ArrayLike | None = None
    others: Any = None
    tolerance: float = TOLERANCE


def fit_fusion(
    probs: ArrayLike,
    labels: ArrayLike,
    adjusting: Adjusting,
    *,
    fusion: str = "adjusted",
    stratum_prior: Sequence[float] | str | None = None,
    calibrate_strata: bool = False,
    seed: int = 0,
    weights: ArrayLike | None = None,
    kind: Kind = "probabilities",
) -> tuple[Mixing, Adjustment | None]:
    """Learn any fusion on validation images: :func:`~causalft.methods.estimators.mixing.fit_mixing`, adjusted or not.

    Parameters
    ----------
    probs, labels, fusion, stratum_prior, calibrate_strata, seed, weights, kind
        As in :func:`~causalft.methods.estimators.mixing.fit_mixing`.
    adjusting : Adjusting
        Used by a fusion that adjusts; of the others only its target law, which weights the images of the calibration.

    Returns
    -------
    mixing : Mixing
    adjustment : Adjustment or None
        None for the other fusions.
    """
    made: list[Adjustment] = []

    def adjust(p_c: ArrayLike | None, temperatures: Sequence[float] | None) -> Adjustment:
        found = fit_adjustment(
            probs,
            labels,
            stratum_prior=p_c,
            stratum_temperatures=temperatures,
            seed=seed,
            kind=kind,
            **vars(adjusting),
        )
        made.append(found)
        return found

    if adjusting.target_law is not None:
        y = np.asarray(labels)
        law = np.exp(_log_law(adjusting.target_law, len(np.asarray(adjusting.target_law))))
        weights = (np.ones(len(y)) if weights is None else np.asarray(weights, dtype=float)) * law[y]
    mixing = fit_mixing(
        probs,
        labels,
        fusion=fusion,
        stratum_prior=stratum_prior,
        calibrate_strata=calibrate_strata,
        seed=seed,
        weights=weights,
        kind=kind,
        adjust=adjust,
    )
    return mixing, made[0] if made else None


def _log_law(law: ArrayLike | None, n_classes: int) -> Floats:
    """Log of a class law over its geometric mean, (K,)."""
    if law is None:
        return np.zeros(n_classes)
    values = np.asarray(law, dtype=float)
    if values.shape != (n_classes,):
        raise CausalFTError(
            f"the target law has {values.size} entries, and there are {n_classes} classes; give one share per class"
        )
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise CausalFTError("the target law must hold a positive share for every class")
    logs: Floats = np.log(values)
    return logs - logs.mean()


def _chosen(work: Chooser, tolerance: float, seed: int) -> Adjustment:
    """Fit, choose and judge."""
    y, n_classes = work.labels, work.strata.n_classes
    balance = balancing_weights(y, n_classes)
    folds = _folds(y, seed)
    other_folds = folds if work.labelled else _folds(np.zeros(work.choosing.n, dtype=np.int64), seed)
    uniform = np.ones(work.choosing.n)
    few = _enough(work.strata, folds)
    fitted, y_fit, balance_fit, folds_fit = work.strata, y, balance, folds
    if len(few) < len(y):
        fitted, y_fit, balance_fit, folds_fit = work.strata.take(few), y[few], balance[few], folds[few]
    whole = fit_pool(fitted, y_fit, balance_fit, work.priors)
    weights = balance if work.labelled else uniform
    strength, ended = strength_of(work, whole, weights)
    numbers = list(range(folds.max() + 1))
    of_others = [balance_fit * (folds_fit != fold) for fold in numbers]
    # a single image leaves nothing to the others
    pools = [fit_pool(fitted, y_fit, w, work.priors, whole) if w.any() else whole for w in of_others]
    strengths = np.array(
        [strength_of(work, pool, weights * (other_folds != fold))[0] for fold, pool in zip(numbers, pools)]
    )
    # accuracy is judged under the law of the images to come; recall and likelihood need no law
    balance = balance * np.exp(work.log_target)[y]
    judged = judge(work, folds, pools, strengths, balance)
    guard, share = choose_guarded(judged, strength, tolerance, balance)
    kept = strength * share
    low, high = interval_of(work, whole, weights, strength, seed)
    notes = [*ended, *guard_notes(guard)]
    pool = replace(whole, prior_share=kept)
    if guard.decision == "nothing adjusted":
        pool = Pool(sharpness=whole.sharpness)
    offsets = pool.offsets(work.priors) + work.log_target / (work.strata.n_strata * whole.sharpness)
    chosen = int(np.rint(share * STEPS))
    return Adjustment(
        strength=kept,
        ci95=(max(0.0, min(low, kept)), min(1.0, max(high, kept))),
        pool=whole,
        frontier=tuple(
            FrontierPoint(float(STRENGTHS[i]), *judged.scores(judged.right[i], balance))
            for i in range(0, len(STRENGTHS), _SHOWN)
        ),
        accuracy=judged.scores(judged.chosen[chosen], balance)[0],
        gap=judged.scores(judged.chosen[chosen], balance)[1],
        guard=guard,
        chosen_on="validation" if work.labelled else "unlabelled",
        n_images=work.choosing.n,
        by_labels=judged.by_labels(balance),
        class_weights=pool.class_weights(work.priors),
        offsets=offsets,
        notes=tuple(notes),
    )


def _folds(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """A fold for each image, as many as five; each class is spread over them evenly."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    found = np.empty(len(labels), dtype=np.int64)
    found[order] = np.arange(len(labels)) % min(_FOLDS, len(labels))
    return found


def _enough(strata: StrataRows, folds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows that fit a pool: all of them, or an even share of every fold and so of every class."""
    most = max(500, _FIT_ENTRIES // (strata.n_strata * strata.n_classes))
    if strata.n <= most:
        return np.arange(strata.n)
    order = np.argsort(np.random.default_rng(0).random(strata.n), kind="stable")
    return np.sort(order[:most])
