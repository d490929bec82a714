"""The battery of tests on the rows of B: path and placebo, DoWhy's refuters, E-values."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from causalft.analysis.confounding.dependence import c_to_x, c_to_y, open_backdoor_path, placebo_c
from causalft.analysis.confounding.estimates import backdoor, count_table, resample
from causalft.analysis.confounding.statistics import Evidence
from causalft.errors import CausalFTError
from causalft.runs.documents import Document
from causalft.runs.limits import words_of_seed
from causalft.runs.progress import named
from causalft.scm.exact import interventional, query
from causalft.scm.identify import import_dowhy
from causalft.scm.mechanisms import DiscreteSCM
from causalft.scm.unobserved import e_value
from synthetic.design import Design
from synthetic.designs import Rows

__all__ = [
    "Battery",
    "Refutation",
    "all_rows",
    "binary_roles",
    "e_value",
    "e_value_of_ratio",
    "effect",
    "groups_of",
    "path_evidence",
    "refute",
    "run_battery",
    "true_effect",
    "unobserved_confounder",
]


@dataclass(frozen=True)
class Refutation:
    """What the refuters found. Effects are differences of probabilities, P(O=1 | T=1) - P(O=1 | T=0).

    Attributes
    ----------
    naive : without adjustment.
    adjusted : adjusted for C by DoWhy's linear regression with the product T C, which is saturated: stratification.
    truth : the exact effect if the model is known, else None.
    tests : ``placebo_treatment``, ``dummy_outcome``, ``random_common_cause``, ``subset_stability`` -> Evidence.
    """

    naive: float
    adjusted: float
    truth: float | None
    tests: dict[str, Evidence]

    def to_metrics(self) -> Document:
        """A JSON document."""
        return {
            "naive": self.naive,
            "adjusted": self.adjusted,
            "truth": self.truth,
            "tests": {name: found.to_metrics() for name, found in self.tests.items()},
        }


def groups_of(majority: Sequence[int]) -> np.ndarray:
    """Group 1: the classes whose own part is part 1, or every second class if all have the same part.

    Examples
    --------
    >>> groups_of([0, 1, 1]).tolist(), groups_of([0, 0, 0]).tolist()
    ([0, 1, 1], [0, 1, 0])
    """
    own = np.asarray(majority, dtype=int)
    return own if own.min() != own.max() else np.arange(len(own)) % 2


def binary_roles(
    looks: np.ndarray, labels: np.ndarray, majority: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Treatment and outcome of each row, 0 or 1: the groups (`groups_of`) of the class drawn and of the label."""
    group = groups_of(majority)
    return group[np.asarray(looks)], group[np.asarray(labels)]


def effect(t: np.ndarray, o: np.ndarray, c: np.ndarray | None = None) -> float:
    """P(O=1 | T=1) - P(O=1 | T=0), stratified by C if it is given.

    Raises
    ------
    CausalFTError
        If a stratum lacks a value of T.

    Examples
    --------
    >>> t = np.array([1, 1, 0, 0]); o = np.array([1, 0, 0, 0])
    >>> effect(t, o), effect(t, o, c=np.zeros(4, int))
    (0.5, 0.5)
    """
    strata = np.zeros(len(t), dtype=int) if c is None else np.asarray(c)
    total = 0.0
    for value in np.unique(strata):
        here = strata == value
        for level in (0, 1):
            if not np.any(here & (t == level)):
                where = "" if c is None else f" with C = {value}"
                raise CausalFTError(
                    f"no row{where} has T = {level}: its effect has no overlap there; collect more rows"
                )
        total += here.mean() * (o[here & (t == 1)].mean() - o[here & (t == 0)].mean())
    return float(total)


def true_effect(scm: DiscreteSCM, majority: Sequence[int]) -> float:
    """The exact effect of T on O in a model over C, X and Y, by pgmpy in the model with T between C and X.

    T is a property of X, so do(T=1) leaves open which image of group 1 is shown: here one that C would have shown, P(x
    | T, c). Then C blocks every path into T that it blocks into X.

    Parameters
    ----------
    scm : DiscreteSCM with nodes C, X and Y.
    majority : (K,), as in `groups_of`.
    """
    group = groups_of(majority)
    law = query(scm, ("C", "X", "Y")).p
    n_codes, n_labels = law.shape[1:]
    t_of_x = np.repeat(group, n_codes // n_labels)
    p_cx = law.sum(2)
    p_c = p_cx.sum(1)
    by_t = np.stack([np.where(t_of_x == t, p_cx, 0.0) for t in (0, 1)], 1)  # (c, t, x)
    p_t = by_t.sum(2)
    if not p_t.all():
        raise CausalFTError(
            "some value of C never comes with one of the groups: the effect of T has no overlap"
        )
    p_o = np.stack([law[:, :, group == o].sum(2) for o in (0, 1)], 2)  # (c, x, o)
    never = p_cx == 0
    p_o = np.where(never[..., None], 0.5, p_o / np.where(never, 1.0, p_cx)[..., None])
    expanded = DiscreteSCM(
        [("C", "T"), ("C", "X"), ("T", "X"), ("C", "O"), ("X", "O")],
        {"C": scm.states["C"], "T": "01", "X": scm.states["X"], "O": "01"},
        {
            "C": p_c,
            "T": p_t / p_c[:, None],
            "X": by_t / p_t[..., None],
            "O": p_o,
        },
    )
    outcome = interventional(expanded, "O", "T")[:, 1]
    return float(outcome[1] - outcome[0])


def refute(
    c: np.ndarray,
    t: np.ndarray,
    o: np.ndarray,
    *,
    seed: int = 0,
    simulations: int = 25,
    truth: float | None = None,
) -> Refutation:
    """Run four refuters of DoWhy against the effect of T on O adjusted for C.

    Parameters
    ----------
    c, t, o : int arrays of shape (n,), each of 0 and 1.
    seed : of every refuter.
    simulations : fits of each refuter.
    truth : the exact effect, if known (`true_effect`).

    Raises
    ------
    CausalFTError
        If a column is not binary, or the effect has no overlap.

    References
    ----------
    Sharma and Kiciman, "DoWhy", 2020.
    """
    columns = {"C": c, "T": t, "O": o}
    for name, column in columns.items():
        if set(np.unique(column)) != {0, 1}:
            raise CausalFTError(
                f"column {name} must hold both 0 and 1 and nothing else; got {np.unique(column)[:6].tolist()}"
            )
    if simulations < 10:
        raise CausalFTError(f"{simulations} simulations: use at least 10")
    naive, _ = effect(t, o), effect(t, o, c)
    with _quiet(seed):
        model, estimand, estimate = _fit(columns)
        adjusted = float(estimate.value)

        def simulate(method: str, **options: Any) -> np.ndarray:
            def once() -> float:
                found = model.refute_estimate(
                    estimand,
                    estimate,
                    method_name=method,
                    num_simulations=1,
                    show_progress_bar=False,
                    **options,
                )
                return float((found[0] if isinstance(found, list) else found).new_effect)

            return np.array([once() for _ in range(simulations)])

        def state(number: int) -> Any:
            return np.random.RandomState([*np.atleast_1d(words_of_seed(seed)), number])  # noqa: NPY002 - the kind that DoWhy takes

        placebo = simulate("placebo_treatment_refuter", placebo_type="permute", random_state=state(1))
        # Adding noise of size 0 copies the shuffled column: DoWhy writes to it, and pandas 3 lends it read-only.
        shuffle = [("permute", {"permute_fraction": 1}), ("noise", {"std_dev": 0.0})]
        dummy = simulate("dummy_outcome_refuter", transformation_list=shuffle)
        random_cause = simulate("random_common_cause", random_state=state(2))
        subset = simulate("data_subset_refuter", subset_fraction=0.8, random_state=state(3))
    return Refutation(
        naive=naive,
        adjusted=adjusted,
        truth=truth,
        tests={
            "placebo_treatment": _summary(placebo, 0.0, "with a shuffled treatment the effect is", "0"),
            "dummy_outcome": _summary(dummy, 0.0, "on a shuffled outcome the effect is", "0"),
            "random_common_cause": _summary(
                random_cause, adjusted, "with a random common cause added the effect is", "what it was"
            ),
            "subset_stability": _summary(
                subset, adjusted, "on 80 % of the rows the effect is", "what it was"
            ),
        },
    )


def _fit(columns: dict[str, np.ndarray]) -> tuple[Any, Any, Any]:
    import pandas as pd

    causal_model = import_dowhy().CausalModel

    data = pd.DataFrame({name: np.asarray(column, dtype=np.int64) for name, column in columns.items()})
    model = causal_model(data, treatment="T", outcome="O", common_causes=["C"], effect_modifiers=["C"])
    estimand = model.identify_effect(proceed_when_unidentifiable=True)
    estimate = model.estimate_effect(
        estimand, method_name="backdoor.linear_regression", target_units="ate", effect_modifiers=["C"]
    )
    return model, estimand, estimate


def _summary(values: np.ndarray, expected: float, what: str, where: str) -> Evidence:
    """Mean and central 95 % of the simulations, and the two-sided p-value of the expected value (normal law)."""
    mean, spread = float(values.mean()), float(values.std(ddof=1))
    off = abs(mean - expected)
    p = 1.0 if off < 1e-9 else float(2 * stats.norm.sf(off / spread)) if spread > 0 else 0.0
    low, high = mean - 1.96 * spread, mean + 1.96 * spread
    verdict = f"as it must be, {where}" if p > 0.05 else f"not {where}: the estimate does not pass"
    words = f"{what} {100 * mean:.1f} points [{100 * low:.1f}, {100 * high:.1f}]: {verdict}"
    return Evidence(mean, (low, high), p, words)


@contextmanager
def _quiet(seed: int) -> Iterator[None]:
    """Silence DoWhy, and seed the global random state, from which one refuter draws."""
    kept = np.random.get_state()  # noqa: NPY002
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        np.random.seed(seed % 2**32)  # noqa: NPY002
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        np.random.set_state(kept)  # noqa: NPY002


@dataclass(frozen=True)
class Battery:
    """What the rows of B say, without the images.

    Attributes
    ----------
    path : ``c_to_x``, ``c_to_y``, ``open_backdoor_path``, ``placebo_c``, ``unobserved_confounder`` -> Evidence
    refutation : of the effect of the class drawn on the label; None without overlap
    why_not : the reason, if it is None
    """

    path: dict[str, Evidence]
    refutation: Refutation | None
    why_not: str


@named("testing dependence and refuting")
def run_battery(design: Design, rows: Rows, *, seed: int = 0) -> Battery:
    """Test the rows of B: path, placebo and refuters.

    Parameters
    ----------
    rows : the training rows of B of all replications together.
    seed : of permutations, bootstraps and refuters.
    """
    c, x, y = rows.factors, rows.codes, rows.labels
    path = path_evidence(rows, seed=seed)
    refutation, why_not = None, ""
    try:
        path["placebo_c"] = placebo_c(c, x, y, seed=seed)
        treatment, outcome = binary_roles(rows.looks, y, design.majority)
        exact = None if design.selected else true_effect(design.scm("B"), design.majority)
        path["unobserved_confounder"] = unobserved_confounder(c, treatment, outcome, seed=seed)
        # DoWhy's refuters refit on every simulation
        chosen = np.random.default_rng(seed).permutation(len(y))[:4000]
        refutation = refute(c[chosen], treatment[chosen], outcome[chosen], seed=seed, truth=exact)
    except CausalFTError as error:
        why_not = str(error)
    return Battery(path, refutation, why_not)


def path_evidence(rows: Rows, *, seed: int = 0) -> dict[str, Evidence]:
    """The three tests of the path X <- C -> Y on the rows of B."""
    path = {}
    for name, test in (("c_to_x", c_to_x), ("c_to_y", c_to_y), ("open_backdoor_path", open_backdoor_path)):
        try:
            path[name] = test(rows.factors, rows.codes, rows.labels, seed=seed)
        except CausalFTError as error:  # C takes one value only in these rows
            path[name] = Evidence(0.0, (0.0, 0.0), 1.0, f"cannot be told: {error}")
    return path


def all_rows(design: Design, n_per_class: int, seeds: Sequence[int]) -> Rows:
    """The training rows of B of all replications, concatenated."""
    parts = [design.rows("B_train", n_per_class, seed) for seed in seeds]
    return Rows(
        **{
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("labels", "factors", "looks", "parts", "contents")
        }
    )


def e_value_of_ratio(estimate: float, ci95: tuple[float, float]) -> tuple[float, float]:
    """E-values of a risk ratio and of the limit of its interval nearest to 1 (1 if the interval holds 1).

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
    """E-value of the effect of T on O after adjustment for C: how strong must a further U be?

    The risk ratio P(O=1 | do(T=1)) / P(O=1 | do(T=0)) is stratified by C; the interval of its logarithm and the p-value
    of a ratio of 1 come from a multinomial bootstrap.

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
