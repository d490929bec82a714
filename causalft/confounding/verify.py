"""Is a semantic factor a confounder? Train on A and on B, test both on both, put the truth beside it, judge."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from causalft.confounding.battery import closed_share, gap_closed, run_battery
from causalft.confounding.curve import Curve
from causalft.confounding.curve import curve as bias_curve
from causalft.confounding.error_rates import Power, holm, power
from causalft.confounding.evidence import Evidence
from causalft.confounding.figures import write_figures
from causalft.confounding.page import write_report
from causalft.confounding.picture_estimates import PictureEstimate, estimate_from_pictures
from causalft.confounding.resnet import BACKBONES
from causalft.confounding.tests import CELLS, CONTRASTS, Estimate, estimate, mcnemar, picture_variance
from causalft.confounding.trial import Trial, has_overlap, run_trial
from causalft.confounding.truth import Truth, truth
from causalft.confounding.verdict import judge
from causalft.errors import CausalFTError, nearest
from causalft.runs import Run, atomic_path
from causalft.tuning.train import Recipe
from synthetic.designs import Design, Rows, make_design
from synthetic.generate import make_set
from synthetic.pictures import GENERATORS, PictureSource

__all__ = ["Plan", "Verification", "plan_for", "verify_confounder"]

ADJUSTED_CELLS = ("adjusted->A", "adjusted->B")
GAP_CLOSED = {"adjusted->A": 1.0, "B->A": -1.0}
CURVE_NS = (300, 1000, 3000, 10_000, 20_000)


@dataclass(frozen=True)
class Plan:
    """How large the experiment is.

    Attributes
    ----------
    backbone : name in `causalft.confounding.resnet.BACKBONES`.
    seeds : number of whole replications.
    n_per_class : pictures of each class in each set.
    size : side of the pictures in pixels.
    passes : pictures that each network sees in training; together with their number it gives the epochs.
    """

    backbone: str
    seeds: int
    n_per_class: int
    size: int
    passes: int

    def recipe(self, n_pictures: int) -> Recipe:
        """The training of one network on that many pictures; its seed is replaced by each replication's."""
        epochs = int(np.clip(round(self.passes / n_pictures), 3, 40))
        return Recipe(epochs=epochs, batch_size=32, lr=0.1, schedule="onecycle")


def plan_for(design: Design, quick: bool) -> Plan:
    """The size of the experiment unless the user says otherwise.

    ``paper`` is as published: a ResNet-32 and 100 pictures a class. The other designs have labels that only a model of
    their law can explain, so they take more pictures and the smaller ResNet-8 (measured here: a ResNet-20 is no
    better on them). ``quick`` is a smaller experiment with the ResNet-8.
    """
    small = design.default_n <= 100
    if quick:
        return Plan("resnet8", 5, min(design.default_n, 200), 24, 7200)
    return Plan("resnet32", 5, 100, 24, 9000) if small else Plan("resnet8", 5, design.default_n, 24, 21_600)


@dataclass(frozen=True)
class Verification:
    """The outcome of the A/B experiment; accuracies are fractions.

    Attributes
    ----------
    design : Design
    generator, backbone : str
    provenance : what the generator says of its pictures (model, revision, steps, ...).
    seeds : the replications that were run.
    n_per_class : pictures of each class in each set.
    cells : ``"A->B"`` (trained on -> tested on), ``"adjusted->A"`` and so on -> Estimate of the accuracy.
    gaps : name of a contrast (`causalft.confounding.tests.CONTRASTS`) -> Estimate.
    evidence : name of every further test -> Evidence.
    p_holm : name of every test that claims something -> p-value adjusted over them (Holm).
    truth : exact P(Y|X) and P(Y|do(X)) of B.
    estimates : ``naive``, ``backdoor``, ``ipw``, ``frontdoor`` -> PictureEstimate; only ``naive`` without overlap.
    share_closed : share of the gap on A that adjustment closes, with its interval; None without an adjusted model.
    power : what would be needed for the effect seen.
    curve : bias against the number of rows, if asked for.
    mcnemar_p : exact paired test of the two models on the pictures of A, the models taken as fixed.
    parts : trained on -> accuracy on A's pictures with each class's majority and minority part (of B), and
    with C=0 and C=1.
    verdict : one of `causalft.confounding.verdict.VERDICTS`.
    reason : the same in words, with numbers.
    notes : what could not be done, and why.
    seconds : float
    quick : bool
    out : run folder, if any.
    """

    design: Design
    generator: str
    backbone: str
    provenance: dict[str, str]
    seeds: tuple[int, ...]
    n_per_class: int
    cells: dict[str, Estimate]
    gaps: dict[str, Estimate]
    evidence: dict[str, Evidence]
    p_holm: dict[str, float]
    truth: Truth
    estimates: dict[str, PictureEstimate]
    share_closed: tuple[float, tuple[float, float]] | None
    power: Power | None
    curve: Curve | None
    mcnemar_p: float
    parts: dict[str, dict[str, float]]
    verdict: str
    reason: str
    notes: tuple[str, ...]
    seconds: float
    quick: bool
    out: Path | None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def tests(self) -> dict[str, Estimate]:
        """The contrasts of accuracies; the same as ``gaps``."""
        return self.gaps

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
        tests: dict[str, Any] = {
            name: {
                "estimate": e.mean,
                "ci95": e.ci95,
                "p": e.p,
                "per_seed": e.per_seed,
                "bootstrap95": e.bootstrap95,
            }
            for name, e in self.gaps.items()
        }
        tests.update({name: found.to_metrics() for name, found in self.evidence.items()})
        for name, value in self.p_holm.items():
            tests[name]["p_holm"] = value
        coverage: dict[str, Any] = {}
        if self.curve is not None:
            largest = max(self.curve.ns)
            coverage = {name: self.curve.point(name, largest).coverage for name in self.curve.estimators}
        return {
            "design": self.design.name,
            "design_meaning": self.design.meaning,
            "strength": self.design.strength,
            "generator": self.generator,
            "provenance": self.provenance,
            "classes": list(self.design.classes),
            "class_parts": [list(pair) for pair in self.design.parts],
            "ratio": self.design.ratio,
            "p_c_given_y": {which: self.design.law(which).tolist() for which in ("A", "B")},
            "mutual_information_nats": {
                which: self.design.dependence(which) for which in ("A_train", "B_train")
            },
            "tables": {which: _tables(self.design, which) for which in ("A", "B")},
            "best_accuracy": self.design.best_accuracy(),
            "backbone": self.backbone,
            "quick": self.quick,
            "seeds": list(self.seeds),
            "n_per_class": self.n_per_class,
            "cells": {
                name: {"mean": e.mean, "ci95": e.ci95, "per_seed": e.per_seed, "bootstrap95": e.bootstrap95}
                for name, e in self.cells.items()
            },
            "tests": tests,
            "truth": self.truth.to_metrics(),
            "estimates": {
                name: {**found.to_metrics(), "coverage": coverage.get(name)}
                for name, found in self.estimates.items()
            },
            "share_of_gap_closed": None
            if self.share_closed is None
            else {"estimate": self.share_closed[0], "ci95": self.share_closed[1]},
            "power": None if self.power is None else self.power.to_metrics(),
            "curve": None if self.curve is None else self.curve.to_metrics(),
            "mcnemar_p": self.mcnemar_p,
            "parts": self.parts,
            "verdict": self.verdict,
            "reason": self.reason,
            "notes": list(self.notes),
            "seconds": self.seconds,
            **self.extra,
        }


def verify_confounder(
    design: str | os.PathLike[str] | Design = "confounded",
    *,
    generator: str | PictureSource = "renderer",
    classes: Sequence[str] | None = None,
    n_per_class: int | None = None,
    ratio: float | None = None,
    strength: float | None = None,
    seeds: int | None = None,
    first_seed: int = 0,
    backbone: str | None = None,
    adjust: bool = True,
    curve: bool = False,
    out: str | os.PathLike[str] | None = None,
    quick: bool = False,
    progress: bool | None = None,
    command: str = "causalft verify-confounder",
) -> Verification:
    """Run the A/B experiment and say whether the factor confounds.

    For each seed four sets are drawn (A and B, training and test); one network is trained from scratch on A, one on
    B, and one on B adjusted for C; all are tested on both. Beside them stand the exact P(Y|X) and P(Y|do(X)) of the
    design.

    Parameters
    ----------
    design : name in `synthetic.designs.DESIGNS`, the path of a user's ``.yaml``, or a `Design`.
    generator : ``"renderer"``, or an open `synthetic.pictures.PictureSource`.
    classes : at least two class names; all by default.
    n_per_class : pictures of each class in each set, at least 4; by default the design's own (`plan_for`).
    ratio, strength : how closely C is tied to the label in B; see `synthetic.designs.make_design`.
    seeds : number of replications; 5 by default.
    first_seed : replications have the seeds ``first_seed``, ``first_seed + 1``, ...
    backbone : ``"resnet32"``, ``"resnet20"`` or ``"resnet8"``; by default the design's own (`plan_for`).
    adjust : train the adjusted network too (a third of the time).
    curve : measure bias and coverage of the estimators against the number of rows.
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
    parts = None if isinstance(generator, str) else generator.parts
    laws = (
        design
        if isinstance(design, Design)
        else make_design(design, classes, ratio, strength=strength, parts=parts)
    )
    plan = plan_for(laws, quick)
    plan = replace(
        plan,
        backbone=backbone or plan.backbone,
        seeds=plan.seeds if seeds is None else seeds,
        n_per_class=plan.n_per_class if n_per_class is None else n_per_class,
    )
    if plan.backbone not in BACKBONES:
        raise CausalFTError(f"no backbone {plan.backbone!r}; {nearest(plan.backbone, BACKBONES)}")
    if plan.seeds < 1:
        raise CausalFTError(f"{plan.seeds} seeds: use at least 1, and 3 or more for a verdict")
    if first_seed < 0:
        raise CausalFTError(f"first seed {first_seed} is negative; use 0 or larger")
    if isinstance(generator, str) and generator not in GENERATORS:
        raise CausalFTError(f"no generator {generator!r}; {nearest(generator, GENERATORS)}")
    table = laws.counts("B_train", plan.n_per_class)
    recipe = plan.recipe(int(table.sum()))
    numbers = tuple(range(first_seed, first_seed + plan.seeds))
    maker = generator if isinstance(generator, str) else generator.name
    provenance = {} if isinstance(generator, str) else dict(generator.provenance())
    run = None
    if out is not None:
        run = Run.create(
            out,
            kind="verify-confounder",
            config={
                "design": laws.name,
                "classes": laws.classes,
                "strength": laws.strength,
                "tables": {which: _tables(laws, which) for which in ("A", "B")},
                "n_per_class": plan.n_per_class,
                "generator": maker,
                "provenance": provenance,
                "seeds": numbers,
                "backbone": plan.backbone,
                "size": plan.size,
                "recipe": vars(recipe),
                "adjust": adjust,
                "curve": curve,
                "quick": quick,
            },
        )

    trial = run_trial(
        laws,
        plan.backbone,
        recipe,
        numbers,
        plan.n_per_class,
        generator=generator,
        size=plan.size,
        adjust=adjust,
        run=run,
        progress=progress,
    )
    result = _conclude(laws, trial, plan, numbers, int(table[table > 0].min()))
    result = replace(
        result,
        generator=maker,
        provenance=provenance,
        curve=bias_curve(laws, CURVE_NS, progress=progress) if curve and has_overlap(laws) else None,
        seconds=time.perf_counter() - started + trial.seconds_before,
        quick=quick,
        out=run.path if run else None,
    )
    if run is not None:
        _write(run, result, generator, trial.table, command)
    return result


def _conclude(
    design: Design, trial: Trial, plan: Plan, seeds: tuple[int, ...], smallest: int
) -> Verification:
    """Estimates, tests, truth and verdict from the predictions."""
    adjusted = "adjusted->A" in trial.correct
    names = (*CELLS, *ADJUSTED_CELLS) if adjusted else CELLS
    cells = {name: estimate(trial.correct, {name: 1.0}, trial.strata) for name in names}
    gaps = {name: estimate(trial.correct, weights, trial.strata) for name, weights in CONTRASTS.items()}
    notes = []
    share = closed_share(trial.correct) if adjusted else None
    battery = run_battery(design, _all_rows(design, plan.n_per_class, seeds), seed=seeds[0])
    evidence = dict(battery.path)
    if share is not None:
        evidence["gap_closed"] = gap_closed(estimate(trial.correct, GAP_CLOSED, trial.strata), share)
    elif not has_overlap(design):
        notes.append(
            "no adjusted model: in B the picture tells C (some code never occurs with some C), so P(Y | X, C) "
            "is unknown there"
        )
    if battery.refutation is not None:
        evidence.update(battery.refutation.tests)
    else:
        notes.append(f"no refuters: {battery.why_not}")
    # the claims of the verdict are corrected together; placebo, refuters and sensitivity claim nothing
    claims = {name: gaps[name].p for name in ("gap_B", "A_minus_B_on_A", "gap_B_minus_gap_A")}
    claims.update(
        {
            name: evidence[name].p
            for name in ("c_to_x", "c_to_y", "open_backdoor_path", "gap_closed")
            if name in evidence
        }
    )
    p_holm = holm(claims)
    need = _power(trial, gaps)
    verdict, reason = judge(
        design, cells, gaps, evidence, p_holm, n_seeds=len(seeds), smallest_group=smallest
    )
    if verdict == "inconclusive" and need is not None and need.seeds_needed is not None:
        seeds_needed = max(3, need.seeds_needed)
        reason = (
            f"{reason}; for an effect like the one seen, about {seeds_needed} seeds are needed (80 % power)"
        )
    exact = truth(design.scm("B"), selected=design.selected)
    return Verification(
        design=design,
        generator="",
        backbone=plan.backbone,
        provenance={},
        seeds=seeds,
        n_per_class=plan.n_per_class,
        cells=cells,
        gaps=gaps,
        evidence=evidence,
        p_holm=p_holm,
        truth=exact,
        estimates=estimate_from_pictures(trial.by_code, exact),
        share_closed=share,
        power=need,
        curve=None,
        mcnemar_p=mcnemar(trial.correct["A->A"], trial.correct["B->A"]),
        parts=_by_part(design, trial.correct, trial.strata["A"]),
        verdict=verdict,
        reason=reason,
        notes=tuple(notes),
        seconds=0.0,
        quick=False,
        out=None,
        extra={
            "weights": trial.weights,
            "refutation": None if battery.refutation is None else battery.refutation.to_metrics(),
        },
    )


def _power(trial: Trial, gaps: dict[str, Estimate]) -> Power | None:
    """What the weaker of the two effects that a verdict needs would take; None with one seed."""
    found = []
    for name in ("gap_B", "A_minus_B_on_A"):
        per_seed = list(gaps[name].per_seed)
        if len(per_seed) < 2:
            return None
        variance = picture_variance(trial.correct, CONTRASTS[name], trial.strata)
        found.append(power(per_seed, len(trial.strata["A"]), variance))
    return min(found, key=lambda need: need.standardised_effect)


def _all_rows(design: Design, n_per_class: int, seeds: tuple[int, ...]) -> Rows:
    """The training rows of B of all replications, one after the other."""
    parts = [design.rows("B_train", n_per_class, seed) for seed in seeds]
    return Rows(
        **{
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("labels", "factors", "looks", "parts", "contents")
        }
    )


def _tables(design: Design, which: str) -> dict[str, Any]:
    """The tables of a set's model, for print and for telling two designs apart."""
    model = design.models[which]
    return {
        node: {"given": list(model.parents(node)), "table": np.round(model.tables[node], 6).tolist()}
        for node in model.graph
    }


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


def _write(
    run: Run,
    result: Verification,
    generator: str | PictureSource,
    table: dict[str, list[Any]],
    command: str,
) -> None:
    """Predictions, figures and report first, metrics.json last: a folder with metrics.json is whole."""
    import pyarrow
    import pyarrow.parquet

    with atomic_path(run.file("predictions.parquet")) as temporary:
        pyarrow.parquet.write_table(pyarrow.table(table), temporary)
    # a few pictures of the first seed, drawn larger where the generator can, in the proportions of the sets
    slow = not isinstance(generator, str) and generator.name != "renderer"
    samples = {
        which[0]: make_set(
            result.design,
            which,
            20,
            result.seeds[0],
            generator=generator,
            size=generator.size if slow else 64,  # type: ignore[union-attr]
            cache=run.path / "pictures" / "samples" if slow else None,
        )
        for which in ("A_train", "B_train")
    }
    metrics = result.metrics()
    figures = write_figures(run.file("figures/cells.png").parent, result, metrics, samples)
    write_report(run.file("report.html"), metrics, figures, command)
    run.finish(metrics)
