"""How far an unobserved confounder U can move P(Y | do(X)): bounding factor, E-value, and the strength of a known U."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.errors import CausalFTError
from causalft.scm.exact import PositivityError, interventional, query
from causalft.scm.identify import check_adjustment_set
from causalft.scm.mechanisms import DiscreteSCM

__all__ = ["Strength", "bounding_factor", "confounding_bounds", "e_value", "strength_of"]


def bounding_factor(with_x: ArrayLike, with_y: ArrayLike) -> NDArray[np.float64]:
    """The most by which an unobserved U can scale a probability: ``a b / (a + b - 1)``.

    Parameters
    ----------
    with_x : array of numbers, 1 or more
        Association of U with X: the largest P(u | x) / P(u), or P(u) / P(u | x), over the values of U.
    with_y : array of numbers, 1 or more
        Association of U with the outcome: the largest P(y | x, u) over the smallest, over the values of U; may be
        infinite.

    Raises
    ------
    CausalFTError
        For a number below 1, or NaN.

    References
    ----------
    Ding and VanderWeele, "Sensitivity analysis without assumptions", Epidemiology 2016.

    Examples
    --------
    >>> float(bounding_factor(2, 2)), float(bounding_factor(1, 9)), float(bounding_factor(3, np.inf))
    (1.3333333333333333, 1.0, 3.0)
    """
    a, b = np.broadcast_arrays(np.asarray(with_x, dtype=float), np.asarray(with_y, dtype=float))
    for value in (a, b):
        if not (value >= 1).all():
            raise CausalFTError(
                f"a strength of {np.min(value):g} is no largest ratio of probabilities; give 1 or more"
            )
    # a b / (a + b - 1) as 1 / (1/a + 1/b - 1/(a b)): an infinite strength needs no case of its own.
    below = 1 / a + 1 / b - 1 / a / b
    return np.divide(1.0, below, out=np.full(a.shape, np.inf), where=below > 0)


@overload
def e_value(risk_ratio: float) -> float: ...
@overload
def e_value(risk_ratio: NDArray[np.float64]) -> NDArray[np.float64]: ...
def e_value(risk_ratio: float | NDArray[np.float64]) -> float | NDArray[np.float64]:
    """The least ratio that an unobserved U needs with both treatment and outcome to explain a risk ratio away.

    ``RR + sqrt(RR (RR - 1))`` for RR >= 1, and that of 1 / RR below; 1 if nothing needs explaining, infinite for 0.

    Parameters
    ----------
    risk_ratio : float or array, 0 or more

    Raises
    ------
    CausalFTError
        If a ratio is negative or not a number.

    References
    ----------
    VanderWeele and Ding, "Sensitivity analysis in observational research: introducing the E-value", Annals of Internal
    Medicine 2017.

    Examples
    --------
    >>> round(e_value(3.9), 2), round(e_value(1 / 3.9), 2), e_value(1.0)
    (7.26, 7.26, 1.0)
    >>> e_value(np.array([1.0, 2.0, np.inf])).round(2).tolist()
    [1.0, 3.41, inf]
    """
    ratio = np.asarray(risk_ratio, dtype=float)
    if not (ratio >= 0).all():
        raise CausalFTError(f"risk ratio {risk_ratio} is no ratio of probabilities; it must be 0 or larger")
    with np.errstate(divide="ignore", over="ignore"):
        above = np.where(ratio >= 1, ratio, 1 / ratio)
        found = above + np.sqrt(above) * np.sqrt(above - 1)
    return float(found) if ratio.ndim == 0 else found


def confounding_bounds(
    p: ArrayLike, with_x: ArrayLike, with_y: ArrayLike, with_not_y: ArrayLike = np.inf
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bounds of P(y | do(x)) from its value without U: P(y | x), or its adjustment for what is observed.

    With the bounding factors B of y and B' of not-y, ``p / B <= P(y | do(x)) <= p B``, and the same of not-y:
    ``1 - (1 - p) B' <= P(y | do(x)) <= 1 - (1 - p) / B'``. The tighter of both is returned.

    Parameters
    ----------
    p : array of probabilities
    with_x : array of numbers, 1 or more
        As in :func:`bounding_factor`; given other observed causes C, the largest over the values of C.
    with_y, with_not_y : array of numbers, 1 or more
        Association of U with y, and with not-y. Without the second, only the bounds of y are used.

    Returns
    -------
    low, high : arrays in [0, 1]

    Raises
    ------
    CausalFTError
        If ``p`` is no probability, or for a strength below 1.

    References
    ----------
    Ding and VanderWeele, Epidemiology 2016: their lemma bounds the ratio of two means of P(y | x, u), here over
    P(u | x) and over P(u), so it needs no second treatment.

    Examples
    --------
    >>> low, high = confounding_bounds([0.6, 0.3], 2.0, 2.0)
    >>> low.round(3).tolist(), high.round(3).tolist()
    ([0.45, 0.225], [0.8, 0.4])
    """
    values = np.asarray(p, dtype=float)
    if not ((values >= 0) & (values <= 1)).all():
        raise CausalFTError(f"p holds numbers from {values.min():g} to {values.max():g}; give probabilities")
    of_y, of_not_y = bounding_factor(with_x, with_y), bounding_factor(with_x, with_not_y)
    with np.errstate(invalid="ignore"):  # 0 times infinity
        low = np.maximum(values / of_y, np.nan_to_num(1 - (1 - values) * of_not_y, nan=0.0))
        high = np.minimum(np.nan_to_num(values * of_y, nan=1.0), 1 - (1 - values) / of_not_y)
    return np.clip(low, 0, 1), np.clip(high, 0, 1)


@dataclass(frozen=True)
class Strength:
    """How strong U is in a model: what :func:`confounding_bounds` needs, exactly.

    Attributes
    ----------
    with_x : (n_x,) array
        Largest P(u | x, c) / P(u | c) or P(u | c) / P(u | x, c) over u and c; infinite if a value of U never goes with
        x.
    with_y, with_not_y : (n_x, n_y) arrays
        Largest P(y | x, c, u) over the smallest at the same c, and the same of not-y; infinite if the smallest is 0.
    adjusted, true : (n_x, n_y) arrays
        sum_c P(y | x, c) P(c), in which U is not adjusted for; and P(y | do(x)).
    """

    with_x: NDArray[np.float64]
    with_y: NDArray[np.float64]
    with_not_y: NDArray[np.float64]
    adjusted: NDArray[np.float64]
    true: NDArray[np.float64]


def strength_of(
    scm: DiscreteSCM,
    unobserved: str,
    outcome: str,
    treatment: str,
    adjustment_set: Sequence[str] = (),
    *,
    checked: bool = False,
) -> Strength:
    """Measure in a model how strongly a node that is not adjusted for confounds the effect of the treatment.

    Parameters
    ----------
    scm : DiscreteSCM
    unobserved : str
        A node that, together with ``adjustment_set``, blocks every backdoor path.
    outcome, treatment : str
    adjustment_set : sequence of str
        What is observed and adjusted for.
    checked : bool
        The caller has asked this graph already whether the two together block every backdoor path.

    Raises
    ------
    CausalFTError
        If the two together leave a backdoor path open.
    PositivityError
        If some (treatment, adjustment set) has probability 0.

    Examples
    --------
    >>> graph = [("U", "X"), ("U", "Y"), ("X", "Y")]
    >>> tables = {"U": [.5, .5], "X": [[.8, .2], [.2, .8]], "Y": [[[.9, .1], [.6, .4]], [[.6, .4], [.3, .7]]]}
    >>> scm = DiscreteSCM(graph, {name: "01" for name in "UXY"}, tables)
    >>> found = strength_of(scm, "U", "Y", "X")
    >>> low, high = confounding_bounds(found.adjusted, found.with_x[:, None], found.with_y, found.with_not_y)
    >>> bool(((low <= found.true) & (found.true <= high)).all())
    True
    """
    chosen = list(adjustment_set)
    if not checked:
        check_adjustment_set(scm.graph, treatment, outcome, [*chosen, unobserved])
    n_x, n_y, n_u = (scm.n_states(name) for name in (treatment, outcome, unobserved))
    joint = query(scm, (treatment, *chosen, unobserved, outcome)).p.reshape(n_x, -1, n_u, n_y)
    joint = joint[:, joint.sum((0, 2, 3)) > 0]  # values of the set that occur
    p_xcu = joint.sum(3)
    p_xc, p_cu = p_xcu.sum(2), p_xcu.sum(0)
    if not p_xc.all():
        never = sorted({scm.states[treatment][x] for x, _ in np.argwhere(p_xc == 0)})
        what = f"adjusting for {', '.join(chosen) or 'nothing'}"
        raise PositivityError((treatment,), [(name,) for name in never], what)
    p_c = p_cu.sum(1)
    # The criterion holds with U only: this is the estimate of whoever does not know of U.
    adjusted = np.einsum("xcy,c->xy", joint.sum(2) / p_xc[:, :, None], p_c)
    of_x, of_c = p_xcu / p_xc[:, :, None], p_cu / p_c[:, None]  # P(u | x, c), P(u | c)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(of_c > 0, np.maximum(of_x / of_c, of_c / of_x), 1.0)
        p_y = joint / p_xcu[..., None]  # NaN where (x, c, u) never occurs
    of_y, of_not_y = (_largest_ratio(p, p_cu > 0) for p in (p_y, 1 - p_y))
    return Strength(ratio.max((1, 2)), of_y, of_not_y, adjusted, interventional(scm, outcome, treatment))


def _largest_ratio(p: NDArray[np.float64], occurs: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Largest over smallest along u of (n_x, n_c, n_u, n_y), the largest of which over c is kept: (n_x, n_y).

    ``occurs`` (n_c, n_u): which u are possible. One of them that never goes with x says nothing of P(y | x, c, u).
    """
    there = occurs[None, :, :, None]
    unknown = (np.isnan(p) & there).any(axis=2)
    most = np.where(there, p, -np.inf).max(axis=2)
    least = np.where(there, p, np.inf).min(axis=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(most > 0, most / least, 1.0)
    return np.where(unknown, np.inf, np.maximum(ratio, 1.0)).max(axis=1)
