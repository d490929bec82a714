"""How far an estimated label prior is from another one: divergence and rank correlation."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import rel_entr
from scipy.stats import rankdata

from causalft.errors import CausalFTError
from causalft.priors.checks import check_simplex

__all__ = ["kl_divergence", "rank_correlation"]


def kl_divergence(truth: ArrayLike, estimate: ArrayLike) -> float:
    """KL(truth || estimate) of two label priors, in nats; 0 if they agree.

    Examples
    --------
    >>> kl_divergence([.5, .5], [.5, .5])
    0.0
    """
    p = check_simplex(truth, len(np.asarray(truth)), "truth")
    return float(rel_entr(p, check_simplex(estimate, len(p), "estimate")).sum())


def rank_correlation(a: ArrayLike, b: ArrayLike) -> float:
    """Spearman correlation of two vectors (average ranks for ties); NaN if one is constant.

    Examples
    --------
    >>> rank_correlation([.1, .2, .7], [1, 2, 3])
    1.0
    """
    ranks_a, ranks_b = (rankdata(np.asarray(v, dtype=float)) for v in (a, b))
    if len(ranks_a) != len(ranks_b) or len(ranks_a) < 2:
        lengths = f"{len(ranks_a)} and {len(ranks_b)}"
        raise CausalFTError(f"rank correlation needs two vectors of one length, at least 2, not {lengths}")
    ranks_a, ranks_b = ranks_a - ranks_a.mean(), ranks_b - ranks_b.mean()
    scale = np.sqrt((ranks_a @ ranks_a) * (ranks_b @ ranks_b))
    return float(np.round(ranks_a @ ranks_b / scale, 12)) if scale > 0 else float("nan")
