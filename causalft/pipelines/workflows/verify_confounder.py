"""The work of ``causalft verify-confounder``: train on sets A and B, test on both, compare with the truth, judge."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from causalft.analysis.confounding.battery import all_rows, run_battery
from causalft.analysis.confounding.curve import Truth, truth
from causalft.analysis.confounding.curve import curve as bias_curve
from causalft.analysis.confounding.figures import write_figures
from causalft.analysis.confounding.result import Verification, estimate_from_pictures, tables_of
from causalft.analysis.confounding.statistics import closed_share, estimate, gap_closed, mcnemar
from causalft.analysis.confounding.verdict import Trial, judge_trial
from causalft.errors import CausalFTError, nearest
from causalft.models.resnet import BACKBONES
from causalft.models.tuning.train import Recipe
from causalft.pipelines.pages.confounder import what_follows_from, write_report, write_side_by_side
from causalft.pipelines.workflows.trial import (
    cache_folder,
    has_overlap,
    roles_of,
    run_trial,
    seconds_stored,
    train_side_by_side,
)
from causalft.runs import limits
from causalft.runs.folder import Run, atomic_path
from causalft.runs.lifecycle import new_run
from causalft.runs.progress import named
from synthetic.design import Design
from synthetic.designs import DESIGNS, make_design
from synthetic.generate import GENERATORS, PictureSource, make_set, open_source
from synthetic.pool import PicturePool, draw_pool

__all__ = ["Plan", "Verification", "plan_for", "run_designs", "verify_all_designs", "verify_confounder"]

GAP_CLOSED = {"adjusted->A": 1.0, "B->A": -1.0}
POOL = 35
"""Images of each class and part, for training and again for testing, that a slow generator draws with ``quick``."""
CURVE_NS = (300, 1000, 3000, 10_000, 20_000)


@dataclass(frozen=True)
class Plan:
    """Size of the experiment.

    Attributes
    ----------
    backbone : name in `causalft.models.resnet.BACKBONES`.
    seeds : number of replications.
    n_per_class : images per class and set.
    size : side of the images in pixels.
    passes : images that a network sees in training, over all epochs.
    """

    backbone: str
    seeds: int
    n_per_class: int
    size: int
    passes: int

    def recipe(self, n_pictures: int) -> Recipe:
        """Training of one network on so many images; each replication sets its own seed."""
        epochs = int(np.clip(round(self.passes / n_pictures), 3, 40))
        return Recipe(epochs=epochs, batch_size=32, lr=0.1, schedule="onecycle")


def plan_for(design: Design, quick: bool) -> Plan:
    """Return the default size: as published (ResNet-32, 100 images per class) for ``paper``.

    Other designs have noisier labels and take more images with a ResNet-8. ``quick`` takes a quarter
    of the pixels and fewer passes: the verdict keeps its power (error rates in docs/verify-confounder.md).
    """
    small = design.default_n <= 100
    if quick:
        return Plan("resnet8", 3, min(design.default_n, 200), 12, 6000)
    return Plan("resnet32", 5, 100, 24, 9000) if small else Plan("resnet8", 3, design.default_n, 24, 21_600)


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
    jobs: int = 1,
    progress: bool | None = None,
    command: str = "causalft verify-confounder",
) -> Verification:
    """Run the A/B experiment and say whether the factor confounds.

    For each seed, training and test sets are drawn from A and B. One network is trained on A, one on B, and one on B
    adjusted for C; all are tested on both sets and compared with the exact P(Y|X) and P(Y|do(X)) of the design.

    Parameters
    ----------
    design : name in `synthetic.designs.DESIGNS`, the path of a user's ``.yaml``, or a `Design`.
    generator : ``"renderer"``, or an open `synthetic.generate.PictureSource`.
    classes : at least two class names; all by default.
    n_per_class : images per class and set, at least 4; default: `plan_for`.
    ratio, strength : dependence of C and the label in B; see `synthetic.designs.make_design`.
    seeds : number of replications; default: `plan_for`.
    first_seed : replications have the seeds ``first_seed``, ``first_seed + 1``, ...
    backbone : ``"resnet32"``, ``"resnet20"`` or ``"resnet8"``; default: `plan_for`.
    adjust : also train the adjusted network (a third of the time).
    curve : measure bias and coverage of the estimators by sample size.
    out : run folder; an interrupted run in it resumes.
    quick : smaller images and shorter training: half a minute on two cores. A slow generator draws one pool of images
        (`POOL`), from which every replication samples its sets.
    jobs : processes that train seeds side by side, with the renderer and ``out``. A script that asks for several has
        its work under ``if __name__ == "__main__"``.
    progress : show progress bars; by default where standard error is a terminal.
    command : command shown on the page for repeating the run.

    Raises
    ------
    CausalFTError
        For bad settings, or if ``out`` holds something else.

    Examples
    --------
    >>> v = verify_confounder("null", classes=["cat", "truck"], n_per_class=4, seeds=1, backbone="resnet8", quick=True,
    ...                       progress=False)
    >>> print(v.verdict)
    inconclusive

    References
    ----------
    The A/B sets of "Rethinking the Bias of Foundation Model under Long-tailed Distribution" (arXiv
    2501.15955, Fig. 12).
    """
    if isinstance(generator, str) and generator not in GENERATORS:
        raise CausalFTError(f"no generator {generator!r}; {nearest(generator, GENERATORS)}")
    if isinstance(design, Design) and any(given is not None for given in (classes, ratio, strength)):
        raise CausalFTError(
            f"design {design.name!r} states its own classes and tables; drop classes, ratio and strength"
        )
    if isinstance(generator, str) and generator != "renderer":
        generator = open_source(generator)
    parts = None if isinstance(generator, str) else generator.parts
    laws = (
        design
        if isinstance(design, Design)
        else make_design(design, classes, ratio, strength=strength, parts=parts)
    )
    slow = not isinstance(generator, str) and generator.name != "renderer"
    plan = plan_for(laws, quick)
    plan = replace(
        plan,
        backbone=backbone or plan.backbone,
        seeds=plan.seeds if seeds is None else seeds,
        n_per_class=plan.n_per_class if n_per_class is None else n_per_class,
    )
    if plan.backbone not in BACKBONES:
        raise CausalFTError(f"no backbone {plan.backbone!r}; {nearest(plan.backbone, BACKBONES)}")
    limits.SEEDS.check(plan.seeds, "the number of seeds")
    limits.SEED.check(first_seed, "first seed")
    limits.PICTURES_PER_CLASS.check(plan.n_per_class, "n_per_class")
    exact = truth(laws.scm("B"), selected=laws.selected)  # refuses impossible images before any training
    table = laws.counts("B_train", plan.n_per_class)
    recipe = plan.recipe(int(table.sum()))
    numbers = tuple(range(first_seed, first_seed + plan.seeds))
    pooled = quick and slow and plan.seeds * plan.n_per_class > POOL
    maker = generator if isinstance(generator, str) else generator.name
    provenance = {} if isinstance(generator, str) else dict(generator.provenance())
    notes = (
        ["no curve: without overlap no number of rows gives an adjusted estimate"]
        if curve and not has_overlap(laws)
        else []
    )
    if pooled:
        notes.append(
            f"every seed samples its sets from the same images, {POOL} for training and {POOL} for testing of each "
            "class and part: the result holds for these images; without --quick every set is drawn anew"
        )
    config = {
        "design": laws.name,
        "classes": laws.classes,
        "strength": laws.strength,
        "tables": {which: tables_of(laws, which) for which in ("A", "B")},
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
        **({"pool": POOL} if pooled else {}),
    }
    with new_run(out, "verify-confounder") as new:
        new.create(config)
        images: str | PictureSource | PicturePool = generator
        if pooled and not isinstance(generator, str):
            folder = None if new.kept is None else new.kept.path / "pictures"
            images = draw_pool(generator, laws, POOL, first_seed, folder=folder, progress=progress)
        train = partial(
            run_trial,
            laws,
            plan.backbone,
            recipe,
            n_per_class=plan.n_per_class,
            generator=images,
            size=plan.size,
            adjust=adjust,
            run=new.kept,
        )
        new.seconds_before = seconds_stored(new.kept, numbers)
        if jobs > 1 and new.kept is not None and images == "renderer":
            roles = roles_of(laws, adjust)
            train_side_by_side(train, numbers, jobs, f"{laws.name}: networks", roles=roles, progress=progress)
        trial = train(numbers, progress=progress)
        result = _conclude(
            laws,
            exact,
            trial,
            plan,
            numbers,
            int(table[table > 0].min()),
            generator=maker,
            provenance=provenance,
            curve=bias_curve(laws, CURVE_NS, progress=progress) if curve and has_overlap(laws) else None,
            notes=notes,
            quick=quick,
            out=None if out is None else Path(out),
        )

        def page(run: Run, metrics: dict[str, Any]) -> None:
            _write(run, result, metrics, images, trial.table, command)

        metrics = new.finish(result.metrics(), page)
    return replace(result, seconds=metrics["seconds"])


def run_designs(
    folder: Path, designs: Iterable[str], *, command: str = "causalft verify-confounder", **settings: Any
) -> dict[str, dict[str, Any]]:
    """Run each design in ``folder/DESIGN``, or read a complete run; design -> ``metrics.json``.

    Parameters
    ----------
    folder : path
    command : command shown on the pages; ``--design`` is inserted.
    settings : of `verify_confounder`, except ``design`` and ``out``.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in designs:
        place = folder / name
        if not (place / "metrics.json").exists():
            words = command.replace(" --design all", "")
            repeat = words.replace("verify-confounder", f"verify-confounder --design {name}", 1)
            verify_confounder(name, out=place, command=repeat, **settings)
        found[name] = Run.open(place, "verify-confounder").metrics
    return found


def verify_all_designs(
    out: str | os.PathLike[str], *, command: str, jobs: int = 1, **settings: Any
) -> dict[str, dict[str, Any]]:
    """Run every design with the same settings and write one page on all; design -> ``metrics.json``.

    Parameters
    ----------
    out : folder; an interrupted run in it resumes.
    command : command shown on the page for repeating the run.
    jobs, settings : of `verify_confounder`, except ``design`` and ``out``.
    """
    generator = settings.get("generator", "renderer")
    source = {} if isinstance(generator, str) else generator.provenance()
    name = generator if isinstance(generator, str) else generator.name
    with new_run(out, "verify-confounder-all") as new:
        new.create({"designs": list(DESIGNS), **settings, "generator": name, "provenance": source})
        found = run_designs(new.run.path, DESIGNS, command=command, jobs=jobs, **settings)
        metrics = {
            "designs": found,
            "verdicts": {name: of_design["verdict"] for name, of_design in found.items()},
            "what_follows": what_follows_from(found),
        }
        new.finish(metrics, lambda run, metrics: write_side_by_side(run, metrics, command))
    return found


def _conclude(
    design: Design,
    exact: Truth,
    trial: Trial,
    plan: Plan,
    seeds: tuple[int, ...],
    smallest: int,
    *,
    notes: list[str],
    **facts: Any,
) -> Verification:
    """Estimates, tests, truth and verdict from the predictions; ``facts`` are further fields of `Verification`."""
    found: list[str] = []
    share = closed_share(trial.correct) if "adjusted->A" in trial.correct else None
    battery = run_battery(design, all_rows(design, plan.n_per_class, seeds), seed=seeds[0])
    evidence = dict(battery.path)
    if share is not None:
        evidence["gap_closed"] = gap_closed(estimate(trial.correct, GAP_CLOSED, trial.strata), share)
    elif not has_overlap(design):
        found.append(
            "no adjusted model: in B the picture tells C (some code never occurs with some C), so P(Y | X, C) "
            "is unknown there"
        )
    if battery.refutation is not None:
        evidence.update(battery.refutation.tests)
    else:
        found.append(f"no refuters: {battery.why_not}")
    judged = judge_trial(design, trial, evidence, smallest_group=smallest)
    return Verification(
        design=design,
        backbone=plan.backbone,
        seeds=seeds,
        n_per_class=plan.n_per_class,
        cells=judged.cells,
        gaps=judged.gaps,
        evidence=evidence,
        p_holm=judged.p_holm,
        truth=exact,
        estimates=estimate_from_pictures(trial.by_code, exact),
        share_closed=share,
        power=judged.power,
        mcnemar_p=mcnemar(trial.correct["A->A"], trial.correct["B->A"]),
        parts=_by_part(design, trial.correct, trial.strata["A"]),
        verdict=judged.judgement.verdict,
        reason=judged.judgement.reason,
        notes=(*found, *notes),
        seconds=0.0,
        **facts,
        extra={
            "weights": trial.weights,
            "refutation": None if battery.refutation is None else battery.refutation.to_metrics(),
        },
    )


def _by_part(
    design: Design, correct: dict[str, np.ndarray], strata: np.ndarray
) -> dict[str, dict[str, float]]:
    """Accuracy of both models on set A by part; ``strata`` is 2 * class + factor."""
    factor, majority = strata % 2, np.array(design.majority)[strata // 2]
    masks = {
        "majority": factor == majority,
        "minority": factor != majority,
        "C=0": factor == 0,
        "C=1": factor == 1,
    }
    return {
        trained: {
            name: float(correct[f"{trained}->A"][:, mask].mean()) if mask.any() else float("nan")
            for name, mask in masks.items()
        }
        for trained in "AB"
    }


@named("writing the report")
def _write(
    run: Run,
    result: Verification,
    metrics: dict[str, Any],
    generator: str | PictureSource | PicturePool,
    table: dict[str, list[Any]],
    command: str,
) -> None:
    """Write predictions, figures and the page."""
    import pyarrow
    import pyarrow.parquet

    with atomic_path(run.file("predictions.parquet")) as temporary:
        pyarrow.parquet.write_table(pyarrow.table(table), temporary)
    # images of the first seed in the proportions of the sets: redrawn larger, or those of the run if drawing is slow
    cache = cache_folder(run, generator, result.seeds[0])
    samples = {
        which[0]: make_set(
            result.design,
            which,
            20 if cache is None else result.n_per_class,
            result.seeds[0],
            generator=generator.source(which) if isinstance(generator, PicturePool) else generator,
            size=64 if isinstance(generator, str) or cache is None else generator.size,
            cache=cache,
        )
        for which in ("A_train", "B_train")
    }
    figures = write_figures(run.file("figures/cells.png").parent, result, metrics, samples)
    write_report(run.file("report.html"), metrics, figures, command)
