"""The truth of a discrete causal model, and bias and coverage of the estimators by number of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import rel_entr

from causalft.analysis.confounding.estimates import ESTIMATORS, estimate_do, interval
from causalft.errors import CausalFTError
from causalft.runs.documents import Document
from causalft.runs.folder import plain
from causalft.runs.intervals import wilson
from causalft.runs.notebook import ShownAsTable
from causalft.runs.progress import named, phase
from causalft.scm.exact import PositivityError, interventional, query
from causalft.scm.mechanisms import DiscreteSCM

__all__ = [
    "Curve",
    "CurvePoint",
    "MIN_RUNS",
    "SELECTION",
    "Truth",
    "curve",
    "label_of_code",
    "law_and_truth",
    "total_variation",
    "truth",
]


SELECTION = ("S", "yes")
"""The node and the state of a row that is kept, in a model with selection."""


@dataclass(frozen=True)
class Truth(ShownAsTable):
    """What a perfect observer sees and what a perfect experimenter would find; all probabilities are exact.

    Attributes
    ----------
    codes : M names, the values of the treatment X.
    labels : K names, the values of the outcome Y.
    p_x : (M,), P(X), given that the row is selected; sums to 1.
    p_y_given_x : (M, K), P(Y | X), given that the row is selected; rows sum to 1.
    p_y_do_x : (M, K), P(Y | do(X)) in the whole population; rows sum to 1.
    selected : whether rows are selected.
    """

    codes: tuple[str, ...]
    labels: tuple[str, ...]
    p_x: np.ndarray
    p_y_given_x: np.ndarray
    p_y_do_x: np.ndarray
    selected: bool = False

    def __repr__(self) -> str:
        kept = ", selected rows" if self.selected else ""
        return (
            f"Truth({len(self.codes)} values of X, {len(self.labels)} of Y{kept}: P(Y | X) is {100 * self.tv:.1f} "
            f"points of total variation from P(Y | do(X)); KL {self.kl:.3f} nats)"
        )

    @property
    def tv_per_code(self) -> np.ndarray:
        """Total variation between P(Y | x) and P(Y | do(x)), (M,), in [0, 1]."""
        return total_variation(self.p_y_given_x, self.p_y_do_x)

    @property
    def kl_per_code(self) -> np.ndarray:
        """KL(P(Y | x) || P(Y | do(x))) in nats, (M,); inf where seeing allows a label that doing never gives."""
        return np.maximum(rel_entr(self.p_y_given_x, self.p_y_do_x).sum(-1), 0.0)

    @property
    def tv(self) -> float:
        """Mean of `tv_per_code` over P(X)."""
        return float(self.p_x @ self.tv_per_code)

    @property
    def kl(self) -> float:
        """Mean of `kl_per_code` over P(X)."""
        return float(self.p_x @ self.kl_per_code)

    def to_metrics(self) -> Document:
        """The document of ``metrics.json``; an infinite KL is written as null."""
        return plain(
            {
                "codes": self.codes,
                "labels": self.labels,
                "p_x": self.p_x,
                "p_y_given_x": self.p_y_given_x,
                "p_y_do_x": self.p_y_do_x,
                "tv": self.tv,
                "kl": self.kl,
                "tv_per_code": self.tv_per_code,
                "kl_per_code": self.kl_per_code,
                "selected": self.selected,
            }
        )


@named("working out the exact truth")
def truth(scm: DiscreteSCM, *, selected: bool = False, treatment: str = "X", outcome: str = "Y") -> Truth:
    """Work out the truth of a model by variable elimination (`causalft.scm.exact`).

    P(Y | do(X)) is that of the population even when only selected rows are seen: the question is what the image does to
    the label.

    Parameters
    ----------
    scm : DiscreteSCM
    selected : whether only the rows with ``S = yes`` are seen (`SELECTION`).
    treatment, outcome : names of two nodes.

    Raises
    ------
    CausalFTError
        If a node is unknown, or ``selected`` is set for a model without S.
    PositivityError
        If some value of the treatment never occurs.

    Examples
    --------
    >>> from causalft.scm import DiscreteSCM
    >>> scm = DiscreteSCM(
    ...     [("C", "X"), ("C", "Y"), ("X", "Y")],
    ...     states={"C": ["0", "1"], "X": ["head", "tail"], "Y": ["cat", "dog"]},
    ...     tables={"C": [0.5, 0.5], "X": [[0.9, 0.1], [0.1, 0.9]],
    ...             "Y": [[[1, 0], [1, 0]], [[0, 1], [0, 1]]]},
    ... )
    >>> truth(scm)
    Truth(2 values of X, 2 of Y: P(Y | X) is 40.0 points of total variation from P(Y | do(X)); KL 0.368 nats)
    """
    node, state = SELECTION
    if selected and (node not in scm.graph or state not in scm.states[node]):
        raise CausalFTError(
            f"the model has no node {node!r} with a state {state!r}: it selects nothing; use selected=False"
        )
    joint = query(scm, (treatment, outcome), given={node: state} if selected else None).p
    p_x = joint.sum(1)
    if not p_x.all():
        never = [(scm.states[treatment][i],) for i in np.flatnonzero(p_x == 0)]
        raise PositivityError((treatment,), never, f"P({outcome} | {treatment})")
    return Truth(
        codes=scm.states[treatment],
        labels=scm.states[outcome],
        p_x=p_x / p_x.sum(),
        p_y_given_x=joint / p_x[:, None],
        p_y_do_x=interventional(scm, outcome, treatment),
        selected=selected,
    )


def total_variation(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Half the sum of |p - q| over the last axis: the largest difference that any event can show, in [0, 1].

    Examples
    --------
    >>> float(total_variation(np.array([0.5, 0.5]), np.array([1.0, 0.0])))
    0.5
    """
    return 0.5 * np.abs(p - q).sum(-1)


MIN_RUNS = 20
"""The fewest runs with an estimate from which bias and coverage are computed."""


@dataclass(frozen=True)
class CurvePoint:
    """One estimator at one number of rows, over all repetitions: about P(Y = look | do(X = x)), the probability of the
    class that is drawn, as a fraction.

    Attributes
    ----------
    estimator, n : which, and how many rows.
    bias : signed, weighted by P(x) over the codes with an estimate, averaged over runs.
    bias_ci95 : its Monte-Carlo interval.
    bias_per_code : (M,), NaN where no run has an estimate.
    bias_size : mean over P(x) of the absolute biases of the codes, which do not cancel as signed ones may (in
    ``selection`` they do); Monte-Carlo noise keeps it a little above 0.
    rmse : root of the mean square error, weighted likewise.
    tv_to_truth : mean total variation between the estimate and P(Y | do(x)), all labels.
    coverage : share of the nominal 95 % intervals that hold the truth, over runs and codes with an estimate.
    coverage_ci95 : its Wilson interval for the effective number of intervals, which are clustered by run.
    failures : share of runs in which some code lacks overlap.
    undefined : share of codes without an estimate, over all runs.

    Where fewer than `MIN_RUNS` runs have an estimate, all but the last two are NaN.
    """

    estimator: str
    n: int
    bias: float
    bias_ci95: tuple[float, float]
    bias_per_code: tuple[float, ...]
    bias_size: float
    rmse: float
    tv_to_truth: float
    coverage: float
    coverage_ci95: tuple[float, float]
    failures: float
    undefined: float

    def to_metrics(self) -> Document:
        """A JSON document; what has no value is null."""
        return plain(vars(self))


@dataclass(frozen=True)
class Curve(ShownAsTable):
    """What `curve` found.

    Attributes
    ----------
    points : one for each estimator and number of rows.
    ns : numbers of rows.
    repetitions, seed : int
    truth : the exact answers.
    difference_per_code : (M,), exact P(Y = look | x) - P(Y = look | do(x)): what the naive bias tends to.
    """

    points: tuple[CurvePoint, ...]
    ns: tuple[int, ...]
    repetitions: int
    seed: int
    truth: Truth
    difference_per_code: np.ndarray

    @property
    def difference(self) -> float:
        """Mean of the exact difference over P(x)."""
        return float(self.truth.p_x @ self.difference_per_code)

    @property
    def difference_size(self) -> float:
        """Mean of its absolute value over P(x): what the naive ``bias_size`` tends to."""
        return float(self.truth.p_x @ np.abs(self.difference_per_code))

    def point(self, estimator: str, n: int) -> CurvePoint:
        """The point of one estimator and one number of rows."""
        for point in self.points:
            if (point.estimator, point.n) == (estimator, n):
                return point
        raise CausalFTError(
            f"the curve has no point {estimator!r} at n = {n}; it has {', '.join(self.estimators)} "
            f"at n = {', '.join(map(str, self.ns))}"
        )

    @property
    def estimators(self) -> tuple[str, ...]:
        """Their names, in the order of the points."""
        return tuple(dict.fromkeys(point.estimator for point in self.points))

    def __repr__(self) -> str:
        def row(name: object, n: object, *cells: str) -> str:
            bias, size, rmse, coverage, undefined = cells
            return f"{name!s:<10} {n!s:>6}   {bias:<22} {size:>6} {rmse:>6}   {coverage:<18} {undefined:>9}"

        lines = [
            f"Curve({self.repetitions} repetitions; in points; exact P(look | x) - P(look | do(x)): "
            f"{100 * self.difference:.2f}, |...| {100 * self.difference_size:.2f})",
            row("estimator", "n", "bias", "|bias|", "rmse", "coverage of 95 %", "undefined"),
        ]
        for p in self.points:
            undefined = f"{100 * p.undefined:.1f} %"
            if np.isnan(p.bias):
                lines.append(row(p.estimator, p.n, "no overlap", "", "", "", undefined))
                continue
            bias, low, high = (f"{100 * value:6.2f}" for value in (p.bias, *p.bias_ci95))
            size, rmse = f"{100 * p.bias_size:.2f}", f"{100 * p.rmse:.2f}"
            share, least, most = (f"{100 * value:.1f}" for value in (p.coverage, *p.coverage_ci95))
            cells = (f"{bias} [{low},{high}]", size, rmse, f"{share} [{least}, {most}]", undefined)
            lines.append(row(p.estimator, p.n, *cells))
        return "\n".join(lines)

    def to_metrics(self) -> Document:
        """A JSON document."""
        return {
            "ns": list(self.ns),
            "repetitions": self.repetitions,
            "seed": self.seed,
            "difference": self.difference,
            "difference_size": self.difference_size,
            "difference_per_code": self.difference_per_code.tolist(),
            "truth": self.truth.to_metrics(),
            "points": [point.to_metrics() for point in self.points],
        }


def label_of_code(n_codes: int, n_labels: int) -> np.ndarray:
    """The class that each code draws, (M,): codes stand class by class.

    Examples
    --------
    >>> label_of_code(6, 3).tolist()
    [0, 0, 1, 1, 2, 2]
    """
    if n_codes % n_labels:
        raise CausalFTError(
            f"{n_codes} codes do not stand for {n_labels} classes with the same number of parts each"
        )
    return np.arange(n_codes) // (n_codes // n_labels)


def law_and_truth(source: Any, which: str = "B") -> tuple[np.ndarray, Truth]:
    """P(C, X, B, Y) of a design's set or of a model (given selection), and its `Truth`.

    Parameters
    ----------
    source : a design (`synthetic.designs.Design`) or a DiscreteSCM with nodes C, X, B, Y and perhaps S.
    which : set of the design.
    """
    scm: DiscreteSCM = source if isinstance(source, DiscreteSCM) else source.scm(which)
    selected = SELECTION[0] in scm.graph
    law = query(scm, ("C", "X", "B", "Y"), given=dict([SELECTION]) if selected else None).p
    return law, truth(scm, selected=selected)


def curve(
    source: Any,
    ns: Sequence[int] = (300, 1000, 3000, 10_000, 20_000),
    repetitions: int = 200,
    seed: int = 0,
    *,
    which: str = "B",
    estimators: Sequence[str] = tuple(ESTIMATORS),
    progress: bool | None = None,
) -> Curve:
    """Draw tables of rows from the exact law, estimate, and compare with the truth.

    Parameters
    ----------
    source : a design or a DiscreteSCM, as in `law_and_truth`.
    ns : numbers of rows, each 1 or more.
    repetitions : tables for each number of rows, 2 or more.
    seed : of the draws; every number of rows has its own stream.
    which : set of the design.
    estimators : names in `causalft.analysis.confounding.estimates.ESTIMATORS`.
    progress : show a bar; by default on a terminal.

    Raises
    ------
    CausalFTError
        For bad numbers or an unknown estimator.

    Examples
    --------
    >>> from causalft.scm import DiscreteSCM
    >>> scm = DiscreteSCM(
    ...     [("C", "X"), ("C", "Y"), ("X", "B"), ("B", "Y")],
    ...     states={"C": "01", "X": ["cat", "dog"], "B": ["cat", "dog"], "Y": ["cat", "dog"]},
    ...     tables={"C": [0.5, 0.5], "X": [[0.8, 0.2], [0.2, 0.8]], "B": [[0.9, 0.1], [0.1, 0.9]],
    ...             "Y": [[[0.9, 0.1], [0.6, 0.4]], [[0.4, 0.6], [0.1, 0.9]]]},
    ... )
    >>> found = curve(scm, ns=[2000], repetitions=50, progress=False)
    >>> round(found.difference, 3), round(found.point("naive", 2000).bias, 2)
    (0.15, 0.15)
    >>> abs(found.point("backdoor", 2000).bias) < 0.01
    True
    """
    ns = tuple(int(n) for n in ns)
    if not ns or min(ns) < 1:
        raise CausalFTError(f"numbers of rows {list(ns)}: give one or more, each at least 1")
    if repetitions < 2:
        raise CausalFTError(
            f"{repetitions} repetitions: use at least 2, and 200 for a coverage worth printing"
        )
    if seed < 0:
        raise CausalFTError(f"seed {seed} is negative; use 0 or larger")
    for name in estimators:
        estimate_do(name, np.ones((1, 1, 1, 1)))
    law, exact = law_and_truth(source, which)
    look = label_of_code(len(exact.codes), len(exact.labels))
    m = np.arange(len(look))
    points: dict[tuple[str, int], CurvePoint] = {}
    with phase("bias curve", len(ns) * len(estimators), unit="point", progress=progress) as bar:
        for n in ns:
            rng = np.random.default_rng([seed, n])
            counts = rng.multinomial(n, law.ravel() / law.sum(), size=repetitions)
            tables = counts.reshape(repetitions, *law.shape).astype(float)
            for name in estimators:
                low, high = (limit[:, m, look] for limit in interval(name, tables))
                points[name, n] = _point(name, n, estimate_do(name, tables), low, high, exact, look)
                bar.update()
    return Curve(
        points=tuple(points[name, n] for name in estimators for n in ns),
        ns=ns,
        repetitions=repetitions,
        seed=seed,
        truth=exact,
        difference_per_code=(exact.p_y_given_x - exact.p_y_do_x)[m, look],
    )


def _point(
    name: str, n: int, p: np.ndarray, low: np.ndarray, high: np.ndarray, exact: Truth, look: np.ndarray
) -> CurvePoint:
    """Summarise estimates p (R, M, K) and intervals (R, M) of the class that each code draws."""
    m = np.arange(len(look))
    target = exact.p_y_do_x[m, look]
    error = p[:, m, look] - target  # (R, M)
    defined = ~np.isnan(error)
    runs = defined.any(1)
    failures, undefined = float(np.mean(~defined.all(1))), float(np.mean(~defined))
    if runs.sum() < min(MIN_RUNS, len(runs)):
        nan = float("nan")
        nowhere = (nan,) * len(m)
        return CurvePoint(
            name, n, nan, (nan, nan), nowhere, nan, nan, nan, nan, (nan, nan), failures, undefined
        )
    weight = np.where(defined, exact.p_x, 0.0)[runs]
    weight /= weight.sum(1, keepdims=True)
    error0 = np.nan_to_num(error[runs])
    per_run = (weight * error0).sum(1)
    reach = float(1.96 * per_run.std(ddof=1) / np.sqrt(len(per_run)))
    bias = float(per_run.mean())
    distance = np.nan_to_num(total_variation(p, exact.p_y_do_x)[runs])
    covers = (defined & (low <= target) & (target <= high))[runs].sum(1)
    coverage, coverage_ci95 = _clustered_share(covers, defined[runs].sum(1))
    times = defined.sum(0)
    per_code = np.where(times > 0, np.nan_to_num(error).sum(0) / np.maximum(times, 1), np.nan)
    return CurvePoint(
        estimator=name,
        n=n,
        bias=bias,
        bias_ci95=(bias - reach, bias + reach),
        bias_per_code=tuple(per_code.tolist()),
        bias_size=float(np.nansum(exact.p_x * np.abs(per_code)) / exact.p_x[times > 0].sum()),
        rmse=float(np.sqrt((weight * error0**2).sum(1).mean())),
        tv_to_truth=float((weight * distance).sum(1).mean()),
        coverage=coverage,
        coverage_ci95=coverage_ci95,
        failures=failures,
        undefined=undefined,
    )


def _clustered_share(hits: np.ndarray, of: np.ndarray) -> tuple[float, tuple[float, float]]:
    """A share over clusters and its Wilson interval for the effective number of trials (Korn and Graubard 1998)."""
    trials = float(of.sum())
    share = float(hits.sum() / trials)
    spread = float(np.sum((hits - share * of) ** 2)) / trials**2  # the variance of a ratio, by linearisation
    effective = min(trials, share * (1 - share) / spread) if spread > 0 and 0 < share < 1 else float(len(of))
    low, high = wilson(np.array(share), np.array(effective))
    return share, (float(low), float(high))
