"""What a strength costs: cross-fitted accuracy and gap on validation images, and a guard that lowers the strength."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from causalft.data.groups import class_accuracy
from causalft.methods.estimators.equal_recall import STRENGTHS, Chooser, decisions, own_gap, root_of
from causalft.methods.estimators.fusion import MIXTURE
from causalft.methods.estimators.pool import Floats, Pool
from causalft.runs.documents import Document
from causalft.runs.intervals import paired_interval

__all__ = ["STEPS", "Guard", "Judged", "choose_guarded", "guard_notes", "judge"]


@dataclass(frozen=True)
class Guard:
    """What the strength costs on validation images that took no part in it, beside its tolerance.

    Attributes
    ----------
    tolerance : float
        Fraction.
    difference : (estimate, low, high)
        Accuracy at the strength in use less that of the same pool at strength 0, with its paired 95 % interval.
    over_product, over_mixture : (estimate, low, high)
        The same less the product and the mixture of the strata.
    before : float
        The strength that was asked for; a larger one than in use if the guard lowered it.
    decision : {"kept", "lowered", "nothing adjusted"}
        Lowered until the lower end of the interval is above minus the tolerance. Nothing is adjusted if the pool is
        shown to be worse than the product by more than the tolerance: the whole interval is below.
    """

    tolerance: float
    difference: tuple[float, float, float]
    over_product: tuple[float, float, float]
    over_mixture: tuple[float, float, float]
    before: float
    decision: str

    def to_json(self) -> Document:
        """``{tolerance, decision, strength_before, difference, over_product, over_mixture}``; fractions."""
        found: Document = {
            "tolerance": self.tolerance,
            "decision": self.decision,
            "strength_before": self.before,
        }
        for name in ("difference", "over_product", "over_mixture"):
            estimate, low, high = getattr(self, name)
            found[name] = {"estimate": estimate, "ci95": [low, high]}
        return found


STEPS = 10
"""The guard lowers the strength by tenths."""

_LEAST = 0.005  # of a strength that is not printed as 0.00


@dataclass(frozen=True)
class Judged:
    """Right answers to validation images by pools that were fitted without them.

    Attributes
    ----------
    right : (L, n) array of bool
        At each of `STRENGTHS`.
    chosen : (STEPS + 1, n) array of bool
        At tenths of the strength that the other folds chose; the last is the whole.
    product, mixture : (n,) arrays of bool
        Of the strata with nothing adjusted but the target law.
    others : (R, n) array of bool
    """

    work: Chooser
    right: NDArray[np.bool_]
    chosen: NDArray[np.bool_]
    product: NDArray[np.bool_]
    mixture: NDArray[np.bool_]
    others: NDArray[np.bool_]

    def scores(self, right: NDArray[np.bool_], balance: Floats) -> tuple[float, float]:
        """Accuracy, and own gap counted with the labels."""
        accuracy = float(np.average(right, weights=balance))
        return accuracy, float(self.gaps(right[None])[0])

    def gaps(self, right: NDArray[np.bool_]) -> Floats:
        """(L, n) to (L,)."""
        work = self.work
        if work.single or not len(self.others):
            return np.full(len(right), np.nan)
        y, n_classes = work.labels, work.strata.n_classes
        tested = np.bincount(y, minlength=n_classes) > 0
        found = class_accuracy(right, y, n_classes), class_accuracy(self.others, y, n_classes)
        return own_gap(*found, work.gap_of(tested), work.others is not None)

    def by_labels(self, balance: Floats) -> float:
        """The strength at which the counted gap is zero."""
        gaps = self.gaps(self.right)
        return float("nan") if np.isnan(gaps).any() else root_of(gaps)[0]


def judge(
    work: Chooser, folds: NDArray[np.int64], pools: Sequence[Pool], strengths: Floats, balance: Floats
) -> Judged:
    n = work.strata.n
    right = np.zeros((len(STRENGTHS), n), dtype=bool)
    chosen = np.zeros((STEPS + 1, n), dtype=bool)
    product, mixture = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
    apart = work.others is not None
    # unlabelled images of other models say nothing of the labels
    n_others = 0 if apart and not work.labelled else (work.others.n_strata if apart else work.strata.n_strata)  # type: ignore[union-attr]
    others = np.zeros((n_others, n), dtype=bool)
    steps = np.arange(STEPS + 1) / STEPS
    for rows, log_p in work.strata.blocks():
        y = work.labels[rows]
        weights = work.priors.stratum_prior
        mixed = np.log(np.maximum(MIXTURE.fuse(log_p, weights), 1e-300))
        mixture[rows] = (mixed + work.log_target).argmax(axis=1) == y
        if n_others and not apart:
            others[:, rows] = (log_p + work.log_target).argmax(axis=2) == y
        for fold, (pool, strength) in enumerate(zip(pools, strengths)):
            at = np.flatnonzero(folds[rows] == fold)
            if not len(at):
                continue
            plain = Pool(sharpness=pool.sharpness)
            (unadjusted,) = decisions(
                log_p[:, at], plain, plain.class_weights(work.priors), work, np.zeros(1)
            )
            tried = np.concatenate([STRENGTHS, strength * steps])
            of_fold = pool.class_weights(work.priors)
            found = np.stack(list(decisions(log_p[:, at], pool, of_fold, work, tried))) == y[at]
            into = at + rows.start
            product[into] = unadjusted == y[at]
            right[:, into], chosen[:, into] = found[: len(STRENGTHS)], found[len(STRENGTHS) :]
    if n_others and apart:
        assert work.others is not None
        for rows, log_p in work.others.blocks():
            others[:, rows] = (log_p + work.log_target).argmax(axis=2) == work.labels[rows]
    return Judged(work, right, chosen, product, mixture, others)


def choose_guarded(judged: Judged, strength: float, tolerance: float, balance: Floats) -> tuple[Guard, float]:
    """The guard, and the share of the strength that it keeps."""

    def over(right: NDArray[np.bool_], reference: NDArray[np.bool_]) -> tuple[float, float, float]:
        return paired_interval(right, reference, balance)

    none = strength < _LEAST  # nothing to lower
    step = 0 if none else STEPS
    while step and over(judged.chosen[step], judged.chosen[0])[1] < -tolerance:
        step -= 1
    right = judged.chosen[step]
    of_product = over(right, judged.product)
    decision = "kept" if step == STEPS or none else "lowered"
    if of_product[2] < -tolerance:
        right, decision = judged.product, "nothing adjusted"
    guard = Guard(
        tolerance,
        over(right, judged.chosen[0]),
        of_product,
        over(right, judged.mixture),
        strength,
        decision,
    )
    return guard, 0.0 if decision == "nothing adjusted" else step / STEPS


def guard_notes(guard: Guard) -> list[str]:
    if guard.decision == "lowered" and guard.difference[0] == 0 and guard.difference[1] < -guard.tolerance:
        return [
            f"the guard took the strength of {guard.before:.2f} back: so few validation images cannot tell that any "
            f"costs less than {100 * guard.tolerance:g} points of accuracy; give more of them, or a larger --tolerance"
        ]
    if guard.decision == "lowered":
        return [
            f"the guard lowered the strength from {guard.before:.2f}: more could cost over "
            f"{100 * guard.tolerance:g} points of validation accuracy (--tolerance)"
        ]
    if guard.decision == "nothing adjusted":
        lost = -100 * guard.over_product[0]
        return [
            f"nothing is adjusted: the pool loses {lost:.1f} points of validation accuracy to the product"
        ]
    return []
