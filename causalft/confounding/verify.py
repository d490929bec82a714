"""Is a semantic factor a confounder? Train on balanced (A) and unbalanced (B) sets, test both on both, judge."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from causalft.confounding.page import write_figures, write_report
from causalft.confounding.resnet import BACKBONES
from causalft.confounding.tests import CELLS, CONTRASTS, Estimate, conclude, estimate, mcnemar
from causalft.confounding.trial import run_trial
from causalft.errors import CausalFTError, nearest
from causalft.runs import Run, atomic_path
from causalft.tuning.train import Recipe
from synthetic.designs import Design, make_design
from synthetic.generate import GENERATORS, make_set

__all__ = ["Plan", "Verification", "verify_confounder"]


@dataclass(frozen=True)
class Plan:
    """How large the experiment is.

    Attributes
    ----------
    backbone : name in `causalft.confounding.resnet.BACKBONES`.
    seeds : number of whole replications.
    size : side of the pictures in pixels.
    recipe : training of each model; its seed is replaced by each replication's.
    """

    backbone: str
    seeds: int
    size: int
    recipe: Recipe


DEFAULT = Plan("resnet32", 5, 24, Recipe(epochs=15, batch_size=32, lr=0.1, schedule="onecycle"))
QUICK = Plan("resnet8", 5, 24, Recipe(epochs=12, batch_size=32, lr=0.1, schedule="onecycle"))


@dataclass(frozen=True)
class Verification:
    """The outcome of the A/B experiment; accuracies are fractions.

    Attributes
    ----------
    design : Design
    generator, backbone : str
    seeds : the replications that were run.
    n_per_class : pictures of each class in each set.
    cells : ``"A->B"`` (trained on -> tested on) and so on -> Estimate of the accuracy.
    tests : name of a contrast (`causalft.confounding.tests.CONTRASTS`) -> Estimate.
    mcnemar_p : exact paired test of the two models on the pictures of A, the models taken as fixed.
    parts : trained on -> accuracy on A's pictures with each class's majority and minority part (of B), and
    with C=0 and C=1.
    verdict : ``"verified"``, ``"not detected"`` or ``"inconclusive"``.
    reason : the same in words, with numbers.
    seconds : float
    quick : bool
    out : run folder, if any.
    """

    design: Design
    generator: str
    backbone: str
    seeds: tuple[int, ...]
    n_per_class: int
    cells: dict[str, Estimate]
    tests: dict[str, Estimate]
    mcnemar_p: float
    parts: dict[str, dict[str, float]]
    verdict: str
    reason: str
    seconds: float
    quick: bool
    out: Path | None

    def __repr__(self) -> str:
        lines = [
            f"Verification(design={self.design.name}, {self.backbone}, {len(self.seeds)} seeds, "
            f"{self.n_per_class} images a class)",
            "              tested on A            tested on B",
        ]
        for trained in "AB":
            both = [repr(self.cells[f"{trained}->{tested}"]) for tested in "AB"]
            lines.append(f"trained on {trained}  {both[0]:<22} {both[1]}")
        lines.append(f"verdict: {self.verdict} ({self.reason})")
        return "\n".join(lines)

    def metrics(self) -> dict[str, Any]:
        """The document of ``metrics.json``."""
        return {
            "design": self.design.name,
            "design_meaning": self.design.meaning,
            "generator": self.generator,
            "classes": list(self.design.classes),
            "ratio": self.design.ratio,
            "mutual_information_nats": {
                which: self.design.dependence(which) for which in ("A_train", "B_train")
            },
            "backbone": self.backbone,
            "quick": self.quick,
            "seeds": list(self.seeds),
            "n_per_class": self.n_per_class,
            "cells": {
                name: {"mean": e.mean, "ci95": e.ci95, "per_seed": e.per_seed, "bootstrap95": e.bootstrap95}
                for name, e in self.cells.items()
            },
            "tests": {
                name: {
                    "estimate": e.mean,
                    "ci95": e.ci95,
                    "p": e.p,
                    "per_seed": e.per_seed,
                    "bootstrap95": e.bootstrap95,
                }
                for name, e in self.tests.items()
            },
            "mcnemar_p": self.mcnemar_p,
            "parts": self.parts,
            "verdict": self.verdict,
            "reason": self.reason,
            "seconds": self.seconds,
        }


def verify_confounder(
    design: str = "confounded",
    *,
    generator: str = "renderer",
    classes: Sequence[str] | None = None,
    n_per_class: int = 100,
    ratio: float = 0.9,
    seeds: int | None = None,
    first_seed: int = 0,
    backbone: str | None = None,
    out: str | os.PathLike[str] | None = None,
    quick: bool = False,
    progress: bool | None = None,
    command: str = "causalft verify-confounder",
) -> Verification:
    """Run the A/B experiment and say whether the factor confounds.

    For each seed four sets are drawn (A and B, training and test), one network is trained from scratch on
    A and one on B,
    and both are tested on both.

    Parameters
    ----------
    design : ``"paper"``, ``"confounded"`` or ``"null"`` (`synthetic.designs.DESIGNS`).
    generator : who makes the pictures; name in `synthetic.generate.GENERATORS`.
    classes : at least two class names; all six by default.
    n_per_class : pictures of each class in each set, at least 4.
    ratio : share of the majority part in the B sets, above 0.5 and below 1.
    seeds : number of replications; 5 by default.
    first_seed : replications have the seeds ``first_seed``, ``first_seed + 1``, ...
    backbone : ``"resnet32"`` (default), ``"resnet20"`` or ``"resnet8"`` (default of ``quick``).
    out : folder for metrics.json, predictions.parquet, figures and report.html; an interrupted run in it is resumed.
    quick : a smaller network and shorter training: seconds instead of minutes.
    progress : show progress bars; by default where standard error is a terminal.
    command : what the report gives as the way to repeat the run.

    Raises
    ------
    CausalFTError
        For bad settings, or if ``out`` holds something else.

    Examples
    --------
    >>> v = verify_confounder("null", classes=["cat", "truck"], n_per_class=4, seeds=1, backbone="resnet8", quick=True,
    ...                       progress=False)
    >>> v.verdict
    'inconclusive'

    References
    ----------
    The A/B sets of "Rethinking the Bias of Foundation Model under Long-tailed Distribution" (arXiv
    2501.15955, Fig. 12).
    """
    started = time.perf_counter()
    laws = make_design(design, classes, ratio)
    plan = QUICK if quick else DEFAULT
    plan = replace(plan, backbone=backbone or plan.backbone, seeds=plan.seeds if seeds is None else seeds)
    if plan.backbone not in BACKBONES:
        raise CausalFTError(f"no backbone {plan.backbone!r}; {nearest(plan.backbone, BACKBONES)}")
    if plan.seeds < 1:
        raise CausalFTError(f"{plan.seeds} seeds: use at least 1, and 3 or more for a verdict")
    if first_seed < 0:
        raise CausalFTError(f"first seed {first_seed} is negative; use 0 or larger")
    if generator not in GENERATORS:
        raise CausalFTError(f"no generator {generator!r}; {nearest(generator, GENERATORS)}")
    smallest = int(laws.counts("B_train", n_per_class).min())
    numbers = tuple(range(first_seed, first_seed + plan.seeds))
    run = None
    if out is not None:
        run = Run.create(
            out,
            kind="verify-confounder",
            config={
                "design": design,
                "classes": laws.classes,
                "ratio": ratio,
                "n_per_class": n_per_class,
                "generator": generator,
                "seeds": numbers,
                "backbone": plan.backbone,
                "size": plan.size,
                "recipe": vars(plan.recipe),
                "quick": quick,
            },
        )

    trial = run_trial(
        laws,
        plan.backbone,
        plan.recipe,
        numbers,
        n_per_class,
        generator=generator,
        size=plan.size,
        run=run,
        progress=progress,
    )
    cells = {name: estimate(trial.correct, {name: 1.0}, trial.strata) for name in CELLS}
    tests = {name: estimate(trial.correct, weights, trial.strata) for name, weights in CONTRASTS.items()}
    verdict, reason = conclude(
        cells, tests, n_classes=len(laws.classes), n_seeds=plan.seeds, smallest_group=smallest
    )
    result = Verification(
        design=laws,
        generator=generator,
        backbone=plan.backbone,
        seeds=numbers,
        n_per_class=n_per_class,
        cells=cells,
        tests=tests,
        mcnemar_p=mcnemar(trial.correct["A->A"], trial.correct["B->A"]),
        parts=_by_part(laws, trial.correct, trial.strata["A"]),
        verdict=verdict,
        reason=reason,
        seconds=time.perf_counter() - started + trial.seconds_before,
        quick=quick,
        out=run.path if run else None,
    )
    if run is not None:
        _write(run, result, trial.table, command)
    return result


def _by_part(
    design: Design, correct: dict[str, np.ndarray], strata: np.ndarray
) -> dict[str, dict[str, float]]:
    """Accuracy of both models on A's pictures by part; ``strata`` is 2 * class + factor."""
    factor, majority = strata % 2, np.array(design.majority)[strata // 2]
    masks = {
        "majority": factor == majority,
        "minority": factor != majority,
        "C=0": factor == 0,
        "C=1": factor == 1,
    }
    return {
        trained: {name: float(correct[f"{trained}->A"][:, mask].mean()) for name, mask in masks.items()}
        for trained in "AB"
    }


def _write(run: Run, result: Verification, table: dict[str, list[Any]], command: str) -> None:
    """Predictions, figures and report first, metrics.json last: a folder with metrics.json is whole."""
    import pyarrow
    import pyarrow.parquet

    with atomic_path(run.file("predictions.parquet")) as temporary:
        pyarrow.parquet.write_table(pyarrow.table(table), temporary)
    # the first seed's pictures once more, drawn larger, in the proportions of the sets
    samples = {
        which[0]: make_set(result.design, which, 10, result.seeds[0], generator=result.generator, size=64)
        for which in ("A_train", "B_train")
    }
    metrics = result.metrics()
    figures = write_figures(
        run.file("figures/cells.png").parent,
        metrics,
        {name: (s.pixels, s.labels, s.factors) for name, s in samples.items()},
    )
    write_report(run.file("report.html"), metrics, figures, command)
    run.finish(metrics)
