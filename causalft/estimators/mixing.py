"""The fusion of a fitted classifier, learnt on validation images: P(c), temperatures, one calibration at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.errors import CausalFTError, nearest
from causalft.estimators.fusion import (
    FUSIONS,
    apply_stratum_temperatures,
    apply_temperature,
    fit_stratum_temperatures,
    fit_temperature,
    fuse,
    stratum_weights,
)
from causalft.estimators.kinds import Kind
from causalft.estimators.stratum_prior import estimate_stratum_prior
from causalft.runs.notebook import ShownAsTable

__all__ = ["Mixing", "check_mixing", "fit_mixing"]


@dataclass(frozen=True)
class Mixing(ShownAsTable):
    """How P(Y | b, c) of the strata become P(Y | do(X)).

    Attributes
    ----------
    fusion : {"mixture", "logit", "product"}
    stratum_prior : tuple of M floats
        P(c), sums to 1.
    temperature : float
        Of the fused probabilities.
    stratum_temperatures : tuple of M floats, optional
        Of each stratum before the fusion.
    stratum_prior_ci95 : tuple of M pairs, optional
        Where P(c) was estimated.
    """

    fusion: str
    stratum_prior: tuple[float, ...]
    temperature: float
    stratum_temperatures: tuple[float, ...] | None = None
    stratum_prior_ci95: tuple[tuple[float, float], ...] | None = None

    def __call__(self, probs: ArrayLike, *, kind: Kind = "probabilities") -> NDArray[np.float64]:
        """Fuse and calibrate what ``kind`` says, of shape (M, n, K): (n, K), rows sum to 1."""
        if self.stratum_temperatures is not None:
            probs = apply_stratum_temperatures(probs, self.stratum_temperatures, kind=kind)
            kind = "probabilities"
        fused = fuse(probs, self.stratum_prior, self.fusion, kind=kind)
        return apply_temperature(fused, self.temperature, kind="probabilities")

    def to_metrics(self) -> dict[str, Any]:
        """A JSON document; `Mixing.from_metrics` reads it."""
        return {name: value for name, value in vars(self).items() if value is not None}

    @classmethod
    def from_metrics(cls, document: dict[str, Any]) -> Mixing:
        """Read what `to_metrics` gave, after JSON made lists of the tuples."""
        intervals = document.get("stratum_prior_ci95")
        temperatures = document.get("stratum_temperatures")
        return cls(
            document["fusion"],
            tuple(document["stratum_prior"]),
            document["temperature"],
            None if temperatures is None else tuple(temperatures),
            None if intervals is None else tuple((low, high) for low, high in intervals),
        )


def check_mixing(fusion: str, stratum_prior: Sequence[float] | str | None, n_strata: int) -> None:
    """Refuse an unknown fusion or a P(c) that does not fit, before anything is trained."""
    if fusion not in FUSIONS:
        raise CausalFTError(f"unknown fusion {fusion!r}; {nearest(fusion, FUSIONS)}")
    if isinstance(stratum_prior, str):
        if stratum_prior not in ("uniform", "em"):
            raise CausalFTError(
                f"P(c) is {stratum_prior!r}; use uniform, em, or numbers that sum to 1 such as 0.5,0.3,0.2"
            )
        return
    stratum_weights(stratum_prior, n_strata)


def fit_mixing(
    probs: ArrayLike,
    labels: ArrayLike,
    *,
    fusion: str = "mixture",
    stratum_prior: Sequence[float] | str | None = None,
    calibrate_strata: bool = False,
    seed: int = 0,
    weights: ArrayLike | None = None,
    kind: Kind = "probabilities",
) -> Mixing:
    """Learn a fusion on validation images.

    Parameters
    ----------
    probs : (M, n, K) array
        P(Y | b, c) of the validation images, as ``kind`` says.
    labels : (n,) array of int
    fusion : {"mixture", "logit", "product"}
    stratum_prior : sequence of M floats, ``"uniform"`` or ``"em"``, optional
        P(c); uniform by default. ``"em"`` estimates it, with an interval.
    calibrate_strata : bool
        Fit a temperature for each stratum before the fusion.
    seed : int
        Of the bootstrap behind the interval.
    weights : (n,) array of positive numbers, optional
        How often each image counts; default: once. Validation images of unequal classes take
        :func:`causalft.data.groups.balancing_weights`.
    kind : {"probabilities", "log-probabilities", "logits"}, or one of these for each member
        As in :func:`causalft.estimators.fusion.fuse`.

    Returns
    -------
    Mixing

    Examples
    --------
    >>> strata = [[[.9, .1], [.4, .6]], [[.6, .4], [.1, .9]]]
    >>> fit_mixing(strata, [0, 1]).stratum_prior
    (0.5, 0.5)
    """
    n_strata = len(probs)  # type: ignore[arg-type]
    check_mixing(fusion, stratum_prior, n_strata)
    temperatures = None
    if calibrate_strata:
        temperatures = fit_stratum_temperatures(probs, labels, weights, kind=kind)
        probs, kind = apply_stratum_temperatures(probs, temperatures, kind=kind), "probabilities"
    intervals = None
    if stratum_prior == "em":
        found = estimate_stratum_prior(probs, labels, seed, weights=weights, kind=kind)
        p_c, intervals = found.weights, found.ci95
    else:
        p_c = stratum_weights(None if isinstance(stratum_prior, str) else stratum_prior, n_strata)
    return Mixing(
        fusion,
        tuple(map(float, p_c)),
        fit_temperature(fuse(probs, p_c, fusion, kind=kind), labels, weights, kind="probabilities"),
        None if temperatures is None else tuple(map(float, temperatures)),
        None if intervals is None else tuple((float(low), float(high)) for low, high in intervals),
    )
