"""From class accuracies and counts to the evidence: everything that needs no image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.analysis.class_evidence.alike import likeness
from causalft.analysis.class_evidence.checks import checks
from causalft.analysis.class_evidence.gaps import cross_gaps, own_minus_off
from causalft.analysis.class_evidence.logit import logit_slope
from causalft.analysis.class_evidence.placebo import exchanged_priors, shuffled_classes, swapped_models
from causalft.analysis.class_evidence.regression import PER_FACTOR, Draws, Regression, image_variance
from causalft.analysis.class_evidence.result import ClassEvidence, Comparison
from causalft.analysis.diagnosis.intervals import Interval
from causalft.data.groups import group_accuracy, prior_groups
from causalft.errors import CausalFTError
from causalft.runs.intervals import Z95

__all__ = ["class_evidence"]

Floats = NDArray[np.float64]

_FEWEST = 3


def class_evidence(
    accuracy: ArrayLike,
    log_counts: ArrayLike,
    models: Sequence[str],
    classes: Sequence[str],
    *,
    n_test: ArrayLike | None = None,
    outside: Mapping[str, ArrayLike] | None = None,
    subsets: Mapping[str, tuple[str, NDArray[np.bool_]]] | None = None,
    n_boot: int = 1000,
    n_permutations: int = 1000,
    seed: int = 0,
) -> ClassEvidence:
    """Read parameter imbalance from class accuracies and pre-training counts.

    A class is used if every model has an accuracy for it and every prior a count.

    Parameters
    ----------
    accuracy : (M, K) array
        Fractions in [0, 1]; NaN for a class that was not tested.
    log_counts : (M, K) array
        log10 of how often each class occurs in the pre-training data of each model; NaN where unknown. A constant per
        model (counts or shares) does not matter.
    models, classes : sequences of M and of K str
    n_test : (K,) array, optional
        Test images per class, the same for every model; NaN where unknown.
    outside : mapping of str to (K,) array, optional
        Accuracies of further models, whose counts are not known.
    subsets : mapping of str to (str, (K,) array of bool), optional
        Parts of the classes on which the slope is fitted too: name to words and mask.
    n_boot : int
        Bootstrap draws of classes, at least 20.
    n_permutations : int
        Of each placebo; 0 for none.
    seed : int

    Raises
    ------
    CausalFTError
        If shapes do not match, an accuracy is no fraction, or fewer than three classes can be used.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> counts = rng.normal(3, 1, (2, 200))
    >>> accuracy = 0.4 + 0.05 * counts - 0.1 * rng.random(200)
    >>> found = class_evidence(accuracy, counts, ["a", "b"], [str(k) for k in range(200)], n_boot=50, n_permutations=50)
    >>> round(found.comparison.slope.value, 6)
    0.1
    """
    y, x = np.asarray(accuracy, dtype=float), np.asarray(log_counts, dtype=float)
    names, labels = tuple(models), tuple(classes)
    shape = (len(names), len(labels))
    if y.shape != shape or x.shape != shape:
        raise CausalFTError(
            f"{shape[0]} models and {shape[1]} classes need accuracies and log counts of shape {shape}, not {y.shape} "
            f"and {x.shape}"
        )
    if np.isinf(x).any():
        name = labels[int(np.argwhere(np.isinf(x))[0, 1])]
        raise CausalFTError(f"the log count of class {name!r} is infinite; give counts above 0, or NaN")
    further = {name: np.asarray(values, dtype=float) for name, values in (outside or {}).items()}
    every = np.stack([*y, *further.values()])
    if not ((every >= 0) & (every <= 1) | np.isnan(every)).all():
        raise CausalFTError("accuracies must be fractions from 0 to 1; divide percent by 100")
    used = np.isfinite(every).all(axis=0) & np.isfinite(x).all(axis=0)
    tests = None if n_test is None else np.asarray(n_test, dtype=float)
    if tests is not None:
        used &= tests > 0
    if used.sum() < _FEWEST:
        raise CausalFTError(
            f"{int(used.sum())} classes have an accuracy of every model and a count in every prior; {_FEWEST} or more "
            "are needed"
        )
    a, log = every[:, used], x[:, used]
    n_models, n_classes = log.shape
    groups = np.full(shape, "", dtype="<U6")
    groups[:, used] = [prior_groups(row) for row in log]
    draws = Draws(n_classes, n_boot, seed)
    variance = None if tests is None else image_variance(a, tests[used])
    comparison = None
    if n_models > 1:
        comparison = _compare(
            a,
            log,
            names,
            [name for name, is_used in zip(labels, used, strict=True) if is_used],
            draws,
            variance,
            None if tests is None else np.broadcast_to(tests[used], log.shape),
            {name: (words, mask[used]) for name, (words, mask) in (subsets or {}).items()},
            n_permutations,
            seed,
        )
    return ClassEvidence(
        names,
        tuple(further),
        labels,
        used,
        every,
        x,
        tests,
        groups,
        a.mean(axis=1),
        tuple(group_accuracy(a[m], groups[m][used]) for m in range(n_models)),
        tuple(_rank_correlation(a[m], log[m]) for m in range(n_models)),
        tuple(tuple(row) for row in cross_gaps(a, log, draws, variance)),
        comparison,
    )


def _compare(
    every: Floats,
    log: Floats,
    names: Sequence[str],
    classes: Sequence[str],
    draws: Draws,
    variance: Floats | None,
    n_test: Floats | None,
    subsets: Mapping[str, tuple[str, NDArray[np.bool_]]],
    n_permutations: int,
    seed: int,
) -> Comparison:
    n_models = len(log)
    y, of_models = every[:n_models], None if variance is None else variance[:n_models]
    model = Regression(y, [log])
    [slope] = model.estimates(draws, of_models)
    others = (log.sum(axis=0) - log) / (n_models - 1)
    own, off = Regression(y, [log, others], class_effects=False).estimates(draws, of_models)
    overall, each = own_minus_off(y, log, draws, of_models)
    tested = n_permutations if slope.classes.exists else 0
    return Comparison(
        overall,
        tuple(each),
        slope,
        logit_slope(y, log, n_test),
        own,
        off,
        shuffled_classes(y, log, tested, seed) if tested else None,
        swapped_models(y, log, tested, seed) if tested else None,
        exchanged_priors(y, log) if slope.classes.exists and n_models <= 4 else {},
        likeness(log, slope.classes, PER_FACTOR * draws.sample(model.on)[:, 0]),
        tuple(
            checks(
                y,
                log,
                names,
                classes,
                outside=every[n_models:],
                variance=of_models,
                subsets=subsets,
                n_boot=draws.n_boot,
                seed=seed,
            )
            if slope.classes.exists
            else ()
        ),
    )


def _rank_correlation(accuracy: Floats, log_counts: Floats) -> Interval:
    """Spearman's correlation and its interval by Fisher's z (Bonett and Wright, Psychometrika 2000)."""
    from scipy.stats import norm, spearmanr

    if np.ptp(accuracy) == 0 or np.ptp(log_counts) == 0:
        return Interval.none("accuracy or counts are the same for every class")
    rho, n = float(spearmanr(accuracy, log_counts).statistic), len(accuracy)
    if n < 5 or abs(rho) > 1 - 1e-12:
        return Interval.none("too few classes", rho)
    z, error = float(np.arctanh(rho)), float(np.sqrt((1 + rho**2 / 2) / (n - 3)))
    low, high = np.tanh([z - Z95 * error, z + Z95 * error])
    return Interval(rho, float(low), float(high), float(2 * norm.sf(abs(z) / error)))
