"""How strong an unobserved confounder would have to be to explain an effect away: E-values of risk ratios."""

from __future__ import annotations

import numpy as np

from causalft.analysis.confounding.estimates import backdoor, count_table, resample
from causalft.analysis.confounding.tests import Evidence
from causalft.errors import CausalFTError

__all__ = ["e_value", "e_value_of_ratio", "unobserved_confounder"]


def e_value(risk_ratio: float) -> float:
    """The least risk ratio that an unobserved U needs with both treatment and outcome to explain a ratio away.

    ``RR + sqrt(RR (RR - 1))`` for RR >= 1, and that of 1 / RR below. 1 means that nothing needs explaining.

    Raises
    ------
    CausalFTError
        If the ratio is negative or not a number.

    References
    ----------
    VanderWeele and Ding, "Sensitivity analysis in observational research: introducing the E-value", Annals of Internal
    Medicine 2017.

    Examples
    --------
    >>> round(e_value(3.9), 2), round(e_value(1 / 3.9), 2), e_value(1.0)
    (7.26, 7.26, 1.0)
    """
    if not risk_ratio >= 0:
        raise CausalFTError(f"risk ratio {risk_ratio} is no ratio of probabilities; it must be 0 or larger")
    if risk_ratio == 0 or np.isinf(risk_ratio):
        return float("inf")
    ratio = max(risk_ratio, 1 / risk_ratio)
    return float(ratio + np.sqrt(ratio * (ratio - 1)))


def e_value_of_ratio(estimate: float, ci95: tuple[float, float]) -> tuple[float, float]:
    """E-values of a risk ratio and of the limit of its interval that is nearest to 1 (1 if the interval holds 1).

    Parameters
    ----------
    estimate : risk ratio, or a ratio of accuracies.
    ci95 : (low, high), its interval.

    Examples
    --------
    >>> [round(value, 2) for value in e_value_of_ratio(3.9, (1.8, 8.7))]
    [7.26, 3.0]
    >>> e_value_of_ratio(1.2, (0.9, 1.6))[1]
    1.0
    """
    low, high = ci95
    if not low <= estimate <= high:
        raise CausalFTError(f"the ratio {estimate:g} does not lie in its interval [{low:g}, {high:g}]")
    nearest_to_one = 1.0 if low <= 1 <= high else (low if low > 1 else high)
    return e_value(estimate), e_value(nearest_to_one)


def unobserved_confounder(
    c: np.ndarray, t: np.ndarray, o: np.ndarray, *, seed: int = 0, resamples: int = 2000
) -> Evidence:
    """E-value of the effect of T on O that is left after adjustment for C: how strong must a further U be?

    The risk ratio is P(O=1 | do(T=1)) / P(O=1 | do(T=0)), stratified by C; the interval of its logarithm and the
    p-value of a ratio of 1 come from a multinomial bootstrap.

    Parameters
    ----------
    c, t, o : int arrays of shape (n,), each of 0 and 1.
    seed, resamples : of the bootstrap.

    Returns
    -------
    Evidence
        ``estimate`` is the E-value, ``ci95`` those of the interval's limits (nearest to 1 first).
    """
    table = count_table(c, t, np.zeros(len(c), dtype=int), o, (2, 2, 1, 2))
    rng = np.random.default_rng([seed, 5])
    tables = resample(table, resamples, rng)
    # Half a row in each cell keeps the logarithm of an empty one finite (Haldane's correction).
    seen = np.log(_ratio(table + 0.5))
    draws = np.log(_ratio(tables + 0.5))
    spread = float(draws.std(ddof=1))
    from scipy import stats

    p = float(2 * stats.norm.sf(abs(seen) / spread))
    low, high = float(np.exp(seen - 1.96 * spread)), float(np.exp(seen + 1.96 * spread))
    ratio = float(np.exp(seen))
    strength, least = e_value_of_ratio(ratio, (low, high))
    most = max(e_value(low), e_value(high))
    numbers = f"the adjusted risk ratio is {ratio:.2f} [{low:.2f}, {high:.2f}]"
    if least > 1:
        words = (
            f"{numbers}: to explain it away, an unobserved U would have to raise both the treatment and the outcome "
            f"{strength:.1f}-fold ({least:.1f}-fold to make it uncertain)"
        )
    else:
        words = f"{numbers}: there is no certain effect to explain away"
    return Evidence(strength, (least, most), p, words)


def _ratio(tables: np.ndarray) -> np.ndarray:
    done = backdoor(tables)[..., 1]
    return done[..., 1] / done[..., 0]
