"""An estimated label prior beside the known one: rank correlation, divergence, calibration and P groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.data.groups import GROUPS, prior_groups
from causalft.errors import CausalFTError
from causalft.methods.priors.bootstrap import PriorIntervals
from causalft.methods.priors.estimate import PriorEstimate, kl_divergence, rank_correlation
from causalft.methods.priors.misfit import measured_misfit, with_misfit
from causalft.runs.documents import Document

__all__ = ["PriorComparison", "compare_priors", "comparison_line"]


@dataclass(frozen=True)
class PriorComparison:
    """An estimated prior beside the known one, over the classes whose prior is known.

    Attributes
    ----------
    n_known : int
        Classes compared.
    imbalance : float
        Largest over smallest known prior.
    spearman : float
        NaN if one is constant.
    kl, kl_of_uniform : float
        KL divergence of the estimate, and of a uniform prior, from the known one, in nats.
    group_counts : dict of str to dict of str to int
        Classes by known P group (outer key) and estimated P group.
    n_inside : int, optional
        Classes whose interval contains the known prior; None without intervals.
    level : float, optional
        Nominal coverage of the intervals.
    misfit : float, optional
        Of the model, as the known prior shows it (:func:`causalft.methods.priors.misfit.measured_misfit`).
    n_inside_wider : int, optional
        Classes whose interval contains the known prior if it allows for an expected misfit.
    """

    n_known: int
    imbalance: float
    spearman: float
    kl: float
    kl_of_uniform: float
    group_counts: dict[str, dict[str, int]]
    n_inside: int | None = None
    level: float | None = None
    misfit: float | None = None
    n_inside_wider: int | None = None

    @property
    def n_same_group(self) -> int:
        """Classes in the same P group under both."""
        return sum(self.group_counts[group][group] for group in GROUPS)

    def to_json(self) -> Document:
        """A JSON document."""
        return {
            "n_known": self.n_known,
            "imbalance": self.imbalance,
            "spearman": self.spearman if np.isfinite(self.spearman) else None,
            "kl": self.kl,
            "kl_of_uniform": self.kl_of_uniform,
            "n_inside_ci95": self.n_inside,
            "share_inside_ci95": None if self.n_inside is None else self.n_inside / self.n_known,
            "n_inside_with_misfit": self.n_inside_wider,
            "misfit": self.misfit,
            "n_same_group": self.n_same_group,
            "groups": self.group_counts,
        }


def compare_priors(
    known: ArrayLike,
    estimate: PriorIntervals | PriorEstimate | NDArray[np.float64],
    *,
    misfit: float | None = None,
) -> PriorComparison:
    """Compare an estimated prior with the known one.

    Parameters
    ----------
    known : (K,) array of positive numbers
        Known prior, or anything in proportion to it; NaN where it is not known. Such classes are left out, and both
        priors are shares of the others.
    estimate : PriorIntervals, PriorEstimate, or (K,) array
        Only the first has intervals to check.
    misfit : float, optional
        Also check intervals that allow for it (:func:`causalft.methods.priors.misfit.with_misfit`).

    Raises
    ------
    CausalFTError
        If fewer than two classes are known, or the lengths differ.

    Examples
    --------
    >>> found = compare_priors([6, 3, 1, np.nan], np.array([.5, .2, .1, .2]))
    >>> found.n_known, found.spearman, round(found.kl, 4), found.n_same_group
    (3, 1.0, 0.0079, 3)
    """
    intervals = estimate if isinstance(estimate, PriorIntervals) else None
    if isinstance(estimate, PriorIntervals):
        estimate = estimate.estimate
    q = estimate.prior if isinstance(estimate, PriorEstimate) else np.asarray(estimate, dtype=float)
    truth = np.asarray(known, dtype=float)
    if truth.shape != q.shape or not (truth[~np.isnan(truth)] > 0).all():
        raise CausalFTError(f"the known prior must hold {len(q)} positive numbers (or NaN), one per class")
    there = ~np.isnan(truth)
    if there.sum() < 2:
        raise CausalFTError(f"the prior of {int(there.sum())} class is known; a comparison needs two or more")
    truth = truth[there] / truth[there].sum()
    kept = q[there].sum()
    by_known, by_estimate = prior_groups(truth), prior_groups(q[there])

    def inside(bounds: NDArray[np.float64]) -> int:
        low, high = bounds[there].T - np.log(kept)
        return int(((low <= np.log(truth)) & (np.log(truth) <= high)).sum())

    return PriorComparison(
        n_known=len(truth),
        imbalance=float(truth.max() / truth.min()),
        spearman=rank_correlation(truth, q[there]),
        kl=kl_divergence(truth, q[there] / kept),
        kl_of_uniform=kl_divergence(truth, np.full(len(truth), 1 / len(truth))),
        group_counts={
            a: {b: int(((by_known == a) & (by_estimate == b)).sum()) for b in GROUPS} for a in GROUPS
        },
        n_inside=None if intervals is None else inside(intervals.log_prior),
        level=None if intervals is None else intervals.level,
        misfit=None if intervals is None else measured_misfit(known, intervals),
        n_inside_wider=None
        if intervals is None or misfit is None
        else inside(with_misfit(intervals, misfit)),
    )


def comparison_line(name: str, found: PriorComparison, *, gla: bool) -> str:
    """Say how an estimate compares with the known prior that a run uses.

    Parameters
    ----------
    name : str
        The model.
    found : PriorComparison
    gla : bool
        Whether GLA subtracts the known prior; otherwise it lacks classes.

    Examples
    --------
    >>> p = np.array([.4, .3, .2, .1])
    >>> comparison_line("clip", compare_priors(p, p), gla=True).partition(";")[0]
    'clip: P groups, slope and GLA use the known prior (imbalance 4)'
    """
    uses = "P groups, slope and GLA use" if gla else "P groups and slope use"
    without = "" if gla else "; GLA subtracts the estimate, because the known prior lacks classes"
    spearman = f"{found.spearman:.2f}" if np.isfinite(found.spearman) else "none"
    return (
        f"{name}: {uses} the known prior (imbalance {found.imbalance:.3g}); the estimate has Spearman {spearman} with "
        f"it, KL {found.kl:.3f} from it (uniform {found.kl_of_uniform:.3f}), and puts {found.n_same_group} of "
        f"{found.n_known} classes into the same P group{without}"
    )
