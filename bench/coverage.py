"""How often the 95 % intervals of a diagnosis hold the truth: simulated test sets of known class accuracies.

Three models over K classes, n test images of each; a model is right on an image with the known accuracy of its class,
and the models go together on an image (correlation 0.5), as real ones do. Prints the table of docs/intervals.md.
Command: python bench/coverage.py [--runs 1000] [--json FILE]. Ten minutes with 1,000 runs of a cell.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from causalft.analysis.diagnosis import bootstrap
from causalft.analysis.diagnosis.parameter_imbalance import PriorSlope, group_vectors, off_gap, own_gap
from causalft.data.groups import gap_vectors, prior_groups

Floats = NDArray[np.float64]

MEASURES = ("accuracy", "P-many", "P-few", "gap", "own less off", "slope", "difference")
TRUTHS = (".02", ".5", ".98", "chance", "mixed", "by prior")
CORRELATION = 0.5


def design(n_classes: int) -> tuple[Floats, Callable[[Floats], dict[str, Floats]]]:
    """Three priors of imbalance 100 and the statistics of a diagnosis under them."""
    rng = np.random.default_rng(1)
    profile = 100.0 ** -np.linspace(0, 1, n_classes)
    priors = np.stack([rng.permutation(profile / profile.sum()) for _ in range(3)])
    tested = np.ones(n_classes, bool)
    groups, gaps = group_vectors(prior_groups(priors[0]), tested), gap_vectors(priors, tested)
    slope = PriorSlope(priors, tested)

    def statistics(a: Floats) -> dict[str, Floats]:
        gap, of_group, mean = a @ gaps.T, a[:, 0] @ groups.T, a.mean(axis=2)
        values = (
            mean[:, 0],
            of_group[:, 0],
            of_group[:, 2],
            gap[:, 0, 0],
            (own_gap(gap) - off_gap(gap)).mean(axis=1),
            slope.before(a),
            mean[:, 0] - mean[:, 1],
        )
        return dict(zip(MEASURES, values, strict=True))

    return priors, statistics


def true_accuracies(kind: str, priors: Floats) -> Floats:
    """Class accuracies (3, K): alike, mixed from .02 to .98, or rising with the log prior of each model."""
    n_classes = priors.shape[1]
    if kind == "mixed":
        return np.tile(np.linspace(0.02, 0.98, n_classes), (3, 1))
    if kind == "by prior":
        height = np.log(priors)
        height = height - height.min(axis=1, keepdims=True)
        return np.asarray(0.02 + 0.96 * height / height.max(axis=1, keepdims=True))
    return np.full((3, n_classes), 1 / n_classes if kind == "chance" else float(kind))


def coverage(n_classes: int, n: int, kind: str, runs: int, seed: int = 0) -> dict[str, tuple[float, float]]:
    """Share of runs whose interval holds the truth, and the least width, of every measure."""
    priors, statistics = design(n_classes)
    truth = true_accuracies(kind, priors)
    exact = {name: float(value[0]) for name, value in statistics(truth[None]).items()}
    labels = np.repeat(np.arange(n_classes), n)
    threshold = norm.ppf(truth)[:, labels]
    rng = np.random.default_rng(seed)
    held, width = dict.fromkeys(MEASURES, 0), dict.fromkeys(MEASURES, np.inf)
    for _ in range(runs):
        shared, own = rng.normal(size=(1, len(labels))), rng.normal(size=(3, len(labels)))
        right = np.sqrt(CORRELATION) * shared + np.sqrt(1 - CORRELATION) * own < threshold
        for name, found in bootstrap(statistics, right[:, None], labels, n_classes).items():
            held[name] += found.low - 1e-9 <= exact[name] <= found.high + 1e-9
            width[name] = min(width[name], found.high - found.low)
    return {name: (held[name] / runs, float(width[name])) for name in MEASURES}


def main() -> None:
    """Measure every cell and print one Markdown table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--runs", type=int, default=1000)
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    found = []
    print("| K | n | class accuracy | " + " | ".join(MEASURES) + " |")
    print("| --- | --- | --- | " + " | ".join(["---"] * len(MEASURES)) + " |")
    for n_classes in (6, 10, 60):
        for n in (1, 3, 10, 80):
            for kind in TRUTHS:
                cell = coverage(n_classes, n, kind, given.runs)
                found.append({"K": n_classes, "n": n, "accuracy": kind, "runs": given.runs, "cells": cell})
                numbers = " | ".join(f"{100 * share:.1f}" for share, _ in cell.values())
                print(f"| {n_classes} | {n} | {kind} | {numbers} |", flush=True)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    narrowest = min(width for row in found for _, width in row["cells"].values())
    print(f"narrowest interval of all: {100 * narrowest:.2g} points", file=sys.stderr)


if __name__ == "__main__":
    main()
