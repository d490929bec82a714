"""The fusion of a fitted classifier, learnt on validation images: P(c), temperatures, calibration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.errors import CausalFTError
from causalft.methods.estimators import FUSIONS
from causalft.methods.estimators.fusion import (
    Kind,
    check_pair,
    cooled,
    fit_stratum_temperatures,
    label_log_probabilities,
    log_table,
    stratum_weights,
    temperature_of_table,
)
from causalft.methods.estimators.probabilities import FLOOR, member_blocks, members_rows, normalised
from causalft.runs.documents import Document
from causalft.runs.notebook import ShownAsTable

__all__ = ["Mixing", "StratumPrior", "check_mixing", "estimate_stratum_prior", "fit_mixing"]


_GAP, _GAP_OF_DRAWS = 1e-7, 1e-5  # nats per sample below the maximum
_MOST_STEPS = 2_000
_FLOOR = 1e-12  # a weight of 0 would stay there


@dataclass(frozen=True, repr=False)
class StratumPrior(ShownAsTable):
    """Estimated P(C).

    Attributes
    ----------
    weights : (M,) array
        P(C=c), sums to 1.
    ci95 : (M, 2) array
        Percentile intervals of a bootstrap over images, stratified by class; never of width zero.
    n_iter : int
        EM steps.
    loglik : float
        Of the labelled images, in nats, without the smoothing.
    gap : float
        Upper bound on what the (smoothed) likelihood can still gain, nats per sample.
    path : tuple of float
        The (smoothed) log-likelihood before each step and at the end: it never falls.
    """

    weights: NDArray[np.float64] = field(compare=False)
    ci95: NDArray[np.float64] = field(compare=False)
    n_iter: int
    loglik: float
    gap: float
    path: tuple[float, ...] = field(compare=False)

    @property
    def converged(self) -> bool:
        """Whether the estimate is within 1e-7 nats per sample of the maximum."""
        return self.gap <= _GAP

    def _table(self) -> tuple[list[str], list[list[Any]]]:
        rows = [
            [c, float(w), float(low), float(high)]
            for c, (w, (low, high)) in enumerate(zip(self.weights, self.ci95))
        ]
        return ["stratum", "P(c)", "low", "high"], rows

    def __repr__(self) -> str:
        cells = ", ".join(
            f"{w:.2f} [{low:.2f}, {high:.2f}]" for w, (low, high) in zip(self.weights, self.ci95, strict=True)
        )
        state = "" if self.converged else ", NOT converged"
        return f"StratumPrior(P(c) = {cells}; {self.n_iter} EM steps{state})"


def estimate_stratum_prior(
    val_probs: ArrayLike,
    labels: ArrayLike,
    seed: int = 0,
    *,
    weights: ArrayLike | None = None,
    n_boot: int = 500,
    concentration: float = 1.0,
    kind: Kind = None,
) -> StratumPrior:
    """Estimate P(C=c) on labelled images that no member was tuned on.

    Parameters
    ----------
    val_probs : (M, n, K) array
        P(Y|b,c) of each stratum, as ``kind`` says.
    labels : (n,) array of int in [0, K)
    seed : int
        Of the bootstrap.
    weights : (n,) array of positive numbers, optional
        Weight of each image; scaled to sum to n.
    n_boot : int
        Draws, at least 20.
    concentration : float
        Of a symmetric Dirichlet prior on P(C), 1 or more: 1 is maximum likelihood, a larger one keeps every stratum in.
    kind : {"probabilities", "log-probabilities", "logits"}, or one of these for each member, optional
        As in :func:`causalft.methods.estimators.fusion.fuse`.

    Raises
    ------
    CausalFTError
        If shapes do not agree, or the concentration is below 1.

    Examples
    --------
    >>> knows, guesses = [[.9, .1]] * 9 + [[.1, .9]], [[.5, .5]] * 10
    >>> found = estimate_stratum_prior([knows, guesses], [0] * 10, n_boot=20)
    >>> bool(found.weights[0] > .9), found.converged
    (True, True)
    """
    return stratum_prior_of(
        label_log_probabilities(val_probs, labels, kind=kind),
        labels,
        seed,
        weights=weights,
        n_boot=n_boot,
        concentration=concentration,
    )


def stratum_prior_of(
    of_label: NDArray[np.float64],
    labels: ArrayLike,
    seed: int = 0,
    *,
    weights: ArrayLike | None = None,
    n_boot: int = 500,
    concentration: float = 1.0,
) -> StratumPrior:
    """:func:`estimate_stratum_prior` of the log-probabilities (M, n) of the labels."""
    if not (np.isfinite(concentration) and concentration >= 1):
        raise CausalFTError(f"concentration is {concentration}; give 1 (none) or a larger number")
    if n_boot < 20:
        raise CausalFTError(f"n_boot is {n_boot}; an interval needs 20 draws or more")
    log_p = of_label.T
    highest = log_p.max(axis=1, keepdims=True)
    likelihood = np.exp(log_p - highest)
    n, n_strata = likelihood.shape
    counted = np.ones(n) if weights is None else np.asarray(weights, dtype=float)
    if counted.shape != (n,) or not (np.isfinite(counted).all() and (counted > 0).all()):
        raise CausalFTError(f"weights must be {n} positive numbers")
    if weights is not None:
        counted = counted * (n / counted.sum())
    log_scale = float(counted @ highest[:, 0])
    extra = concentration - 1
    start = np.full((n_strata, 1), 1 / n_strata)
    path: list[float] = []
    found, gap = _em(likelihood, counted[:, None], start, extra, _GAP, path)
    rng = np.random.default_rng(seed)
    counts = stratified_counts(np.asarray(labels), n_boot, rng) * counted[:, None]
    # To every draw one image is added that a stratum, drawn by lot, explains alone. Without it a stratum that explains
    # every image would have the interval [1, 1]; with it the limits are those of "none of n", as for a share.
    lot = rng.exponential(size=n_boot) * np.eye(n_strata)[rng.integers(n_strata, size=n_boot)].T
    seen, counts = np.concatenate([likelihood, np.eye(n_strata)]), np.concatenate([counts, lot])
    # A weight at 0 would never leave it: a draw starts from the middle between the estimate and uniform.
    draws, _ = _em(seen, counts, np.repeat((found + start) / 2, n_boot, axis=1), extra, _GAP_OF_DRAWS)
    return StratumPrior(
        weights=found[:, 0],
        ci95=np.quantile(draws, [0.025, 0.975], axis=1).T,
        n_iter=len(path) - 1,
        loglik=float(counted @ np.log(likelihood @ found)[:, 0] + log_scale),
        gap=float(gap[0]),
        path=tuple(float(value + log_scale) for value in path),
    )


def _em(
    likelihood: NDArray[np.float64],
    counts: NDArray[np.float64],
    start: NDArray[np.float64],
    extra: float,
    tolerance: float,
    path: list[float] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """EM for B weightings (n, B) of the images at once: P(c) as (M, B), and the gaps (B,).

    Two EM steps are extrapolated along their line (SQUAREM, Varadhan and Roland, 2008) if that raises the likelihood:
    plain EM creeps towards a useless stratum. The log-likelihoods of the first weighting are appended to ``path``.
    """
    found, gaps = start.copy(), np.full(start.shape[1], np.inf)
    running = np.arange(start.shape[1])
    images = counts.sum(axis=0)

    def step(
        weights: NDArray[np.float64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """The next weights, the log-likelihood at the present ones, and what is left to gain there."""
        drawn, mixed = counts[:, running], likelihood @ weights
        loglik = np.einsum("nb,nb->b", drawn, np.log(mixed))
        if extra:
            loglik = loglik + extra * np.log(weights).sum(axis=0)
        # E step: how many images each stratum explains. M step: its share of them.
        updated = (weights * (likelihood.T @ (drawn / mixed)) + extra) / (
            images[running] + len(start) * extra
        )
        # No derivative towards a stratum is positive at the maximum; the largest one bounds what is left to gain.
        ratio = np.divide(updated, weights, out=np.ones_like(updated), where=weights > 0)
        return updated, loglik, (ratio.max(axis=0) - 1) * (1 + len(start) * extra / images[running])

    for _ in range(_MOST_STEPS):
        weights = found[:, running]
        once, loglik, gaps[running] = step(weights)
        if path is not None:
            path.append(float(loglik[0]))
        going_on = gaps[running] > tolerance
        if not going_on.any():
            break
        twice, _, _ = step(once)
        first, second = once - weights, twice - 2 * once + weights
        length = np.sqrt((first**2).sum(axis=0) / np.maximum((second**2).sum(axis=0), 1e-300))
        far = np.maximum(length, 1.0)
        ahead = np.maximum(weights + 2 * far * first + far**2 * second, _FLOOR)
        stable, at_ahead, _ = step(ahead / ahead.sum(axis=0))
        _, at_twice, _ = step(twice)
        updated = np.where(at_ahead >= at_twice, stable, twice)
        running = running[going_on]
        found[:, running] = updated[:, going_on]
    return found, gaps


def stratified_counts(
    labels: NDArray[np.int64], n_boot: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """How often each image is drawn, class sizes kept: (n, n_boot). Classes with one image are pooled."""
    counts = np.zeros((len(labels), n_boot))
    _, place, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    of_group = np.where(sizes[place] == 1, -1, place)
    for group in np.unique(of_group):
        rows = np.flatnonzero(of_group == group)
        counts[rows] = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=n_boot).T
    return counts


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
    class_weights, offsets : tuples of M tuples of K floats, optional
        Of the adjusted fusion (:class:`causalft.methods.estimators.adjustment.Adjustment`): P(c | y) in place of P(c),
        and what is added to the log-probabilities of each stratum before the fusion.
    """

    fusion: str
    stratum_prior: tuple[float, ...]
    temperature: float
    stratum_temperatures: tuple[float, ...] | None = None
    stratum_prior_ci95: tuple[tuple[float, float], ...] | None = None
    class_weights: tuple[tuple[float, ...], ...] | None = field(default=None, repr=False)
    offsets: tuple[tuple[float, ...], ...] | None = field(default=None, repr=False)

    def __call__(self, probs: ArrayLike, *, kind: Kind = "probabilities") -> NDArray[np.float64]:
        """Fuse and calibrate what ``kind`` says, of shape (M, n, K): (n, K), rows sum to 1."""
        members = members_rows(probs, kind)
        found = np.empty((members[0].n, members[0].n_classes))
        for rows, log_p in member_blocks(members):
            found[rows] = self.of_log_probabilities(log_p)
        return found.reshape(members[0].shape)

    def of_log_probabilities(self, log_p: NDArray[np.float64]) -> NDArray[np.float64]:
        """Fuse and calibrate normalised log-probabilities, (M, ..., K) to (..., K); rows sum to 1."""
        return cooled(self.log_fused(self.scaled(log_p)), self.temperature)

    def log_fused(self, scaled: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log-probabilities (..., K) before the temperature, of what :meth:`scaled` gives."""
        return _log_fused(scaled, self.weights, self.fusion)

    def scaled(self, log_p: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log-probabilities (M, ..., K) of the strata as they are fused: at their temperatures, with their offsets."""
        return _scaled(log_p, self.stratum_temperatures, self._offsets)

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """Weights of the strata in the fusion: P(c), (M,), or P(c | y), (M, K)."""
        if self.class_weights is not None:
            return np.array(self.class_weights)
        return stratum_weights(self.stratum_prior, len(self.stratum_prior))

    @cached_property
    def _offsets(self) -> NDArray[np.float64] | None:
        return None if self.offsets is None else np.array(self.offsets)

    def to_metrics(self) -> Document:
        """A JSON document; `Mixing.from_metrics` reads it."""
        found = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in found.items() if value is not None}

    @classmethod
    def from_metrics(cls, document: Document) -> Mixing:
        """Read what `to_metrics` gave, after JSON made lists of the tuples."""
        intervals = document.get("stratum_prior_ci95")
        temperatures = document.get("stratum_temperatures")
        tables = [document.get(name) for name in ("class_weights", "offsets")]
        return cls(
            document["fusion"],
            tuple(document["stratum_prior"]),
            document["temperature"],
            None if temperatures is None else tuple(temperatures),
            None if intervals is None else tuple((low, high) for low, high in intervals),
            *(None if table is None else tuple(map(tuple, table)) for table in tables),
        )


class Adjusted(Protocol):
    """What an adjustment gives to a fusion: two (M, K) arrays."""

    @property
    def class_weights(self) -> NDArray[np.float64]: ...
    @property
    def offsets(self) -> NDArray[np.float64]: ...


def check_mixing(
    fusion: str, stratum_prior: Sequence[float] | str | None, n_strata: int, names: Sequence[str] = ()
) -> None:
    """Refuse an unknown fusion or a P(c) that does not fit; ``names`` of the strata are for messages."""
    FUSIONS.get_or_refuse(fusion)
    if isinstance(stratum_prior, str):
        if stratum_prior not in ("uniform", "em"):
            raise CausalFTError(
                f"P(c) is {stratum_prior!r}; use uniform, em, or numbers that sum to 1 such as 0.5,0.3,0.2"
            )
        return
    stratum_weights(stratum_prior, n_strata, names)


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
    adjust: Callable[[ArrayLike | None, Sequence[float] | None], Adjusted] | None = None,
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
        Weight of each image; :func:`causalft.data.groups.balancing_weights` for images of unequal classes.
    kind : {"probabilities", "log-probabilities", "logits"}, or one of these for each member
        As in :func:`causalft.methods.estimators.fusion.fuse`.
    adjust : callable, optional
        ``adjust(P(c), temperatures of the strata)`` gives class weights and offsets; for a fusion that has some
        (:func:`causalft.methods.estimators.adjustment.fit_fusion`).

    Examples
    --------
    >>> strata = [[[.9, .1], [.4, .6]], [[.6, .4], [.1, .9]]]
    >>> fit_mixing(strata, [0, 1]).stratum_prior
    (0.5, 0.5)
    """
    members, y = members_rows(probs, kind), np.asarray(labels)
    n_strata = len(members)
    check_mixing(fusion, stratum_prior, n_strata)
    check_pair(members[0].shape, y)
    temperatures = None
    if calibrate_strata:
        temperatures = tuple(fit_stratum_temperatures(probs, y, weights, kind=kind).tolist())
    intervals = None
    if stratum_prior == "em":
        of_label = np.empty((n_strata, len(y)))
        for rows, log_p in member_blocks(members):
            scaled = _scaled(log_p, temperatures)
            of_label[:, rows] = scaled[:, np.arange(scaled.shape[1]), y[rows]]
        estimated = stratum_prior_of(of_label, y, seed, weights=weights)
        p_c, intervals = estimated.weights, estimated.ci95
    else:
        p_c = stratum_weights(None if isinstance(stratum_prior, str) else stratum_prior, n_strata)
    found = Mixing(
        fusion,
        tuple(map(float, p_c)),
        1.0,
        temperatures,
        None if intervals is None else tuple((float(low), float(high)) for low, high in intervals),
    )
    if FUSIONS[fusion].adjusts:
        if adjust is None:
            raise CausalFTError(
                f"the fusion {fusion!r} needs label priors; use causalft.methods.estimators.adjustment.fit_fusion"
            )
        adjusted = adjust(p_c, temperatures)
        tables = (adjusted.class_weights, adjusted.offsets)
        class_weights, offsets = (tuple(map(tuple, each.tolist())) for each in tables)
        found = replace(found, class_weights=class_weights, offsets=offsets)
    table = log_table(members[0].n, members[0].n_classes)
    for rows, log_p in member_blocks(members):
        table[rows] = _log_fused(found.scaled(log_p), found.weights, fusion)
    return replace(found, temperature=temperature_of_table(table, y, weights))


def _scaled(
    log_p: NDArray[np.float64],
    temperatures: Sequence[float] | None,
    offsets: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Log-probabilities (M, ..., K) of the strata at their own temperatures, with offsets (M, K), then unnormalised."""
    if temperatures is not None:
        log_p = np.stack([normalised(each / t) for each, t in zip(log_p, temperatures, strict=True)])
    if offsets is None:
        return log_p
    return np.stack([each + offset for each, offset in zip(log_p, offsets, strict=True)])


def _log_fused(
    scaled: NDArray[np.float64], stratum_prior: NDArray[np.float64], fusion: str
) -> NDArray[np.float64]:
    """Log-probabilities of the fusion before its temperature, (..., K)."""
    fused = FUSIONS[fusion].fuse(scaled, stratum_prior)
    return np.log(np.maximum(fused, FLOOR, out=fused), out=fused)
