"""Networks of the A/B experiment: per seed one trained on A, one on B, one on B adjusted for C; their predictions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import softmax
from torch import Tensor, nn

from causalft.analysis.confounding.verdict import Trial
from causalft.methods.estimators.adjusted_networks import (
    ADJUSTED,
    adjust_pictures,
    log_stratum_prior,
    outputs,
)
from causalft.methods.estimators.fusion import fit_temperature
from causalft.models.resnet import ResNet, as_input, resnet
from causalft.models.tuning.losses.logit_adjustment import logit_adjusted_loss
from causalft.models.tuning.train import Recipe, train
from causalft.runs.folder import Run, read_json, write_json
from causalft.runs.launch import is_launched
from causalft.runs.side_by_side import side_by_side
from synthetic.design import Design
from synthetic.generate import PictureSet, PictureSource, make_set
from synthetic.pool import PicturePool

__all__ = [
    "cache_folder",
    "has_overlap",
    "roles_of",
    "run_trial",
    "seconds_stored",
    "train_side_by_side",
    "usual_jobs",
]


def has_overlap(design: Design) -> bool:
    """Whether every image code of B occurs with both values of C, as adjustment for C requires."""
    return bool((design.joint("B").sum((2, 3)) > 0).all())


def roles_of(design: Design, adjust: bool = True) -> tuple[str, ...]:
    """The networks of each seed: trained on A, trained on B and, with overlap, on B adjusted for C."""
    return ("A", "B", "adjusted") if adjust and has_overlap(design) else ("A", "B")


def run_trial(
    design: Design,
    backbone: str,
    recipe: Recipe,
    seeds: tuple[int, ...],
    n_per_class: int,
    *,
    generator: str | PictureSource | PicturePool = "renderer",
    size: int = 24,
    adjust: bool = True,
    roles: Sequence[str] | None = None,
    run: Run | None = None,
    progress: bool | None = None,
) -> Trial:
    """Train the networks of each seed and test all on A and B.

    Parameters
    ----------
    design : Design
    backbone : name of a residual network.
    recipe : Recipe; each replication sets its own seed.
    seeds : one replication each, with its own image sets, initial weights and batches.
    n_per_class : images per class and set.
    generator, size : source of the images, or a pool of them, and their side.
    adjust : also train the adjusted network, if the design has overlap.
    roles : those of `roles_of` that are trained, in this order; default: all.
    run : stores the result of each network, so that an interrupted run resumes.
    progress : show bars.
    """
    roles = roles_of(design, adjust) if roles is None else roles
    results: list[dict[str, Any]] = []
    truth: dict[int, dict[str, PictureSet]] = {}
    for position, seed in enumerate(seeds):
        drawn: dict[str, PictureSet] = {}

        def pictures(which: str, seed: int = seed, drawn: dict[str, PictureSet] = drawn) -> PictureSet:
            if which not in drawn:
                drawn[which] = make_set(
                    design,
                    which,
                    n_per_class,
                    seed,
                    generator=generator.source(which) if isinstance(generator, PicturePool) else generator,
                    size=size,
                    cache=cache_folder(run, generator, seed),
                    progress=progress,
                )
            return drawn[which]

        for number, role in enumerate(roles, 1 + position * len(roles)):
            name = f"models/seed{seed}-{role}.json"
            if run is not None and run.has(name):
                results.append(read_json(run.file(name)))
                continue
            tests = {tested: pictures(f"{tested}_test") for tested in "AB"}
            result = _one_model(
                role,
                pictures("A_train" if role == "A" else "B_train"),
                tests,
                len(design.classes),
                backbone,
                replace(recipe, seed=seed),
                run=run,
                checkpoint=f"models/seed{seed}-{role}.safetensors",
                label=f"model {number} of {len(roles) * len(seeds)} ({_WORDS[role]}, seed {seed})",
                progress=progress,
            )
            result.update(seed=seed, trained_on=role)
            if run is not None:
                write_json(run.file(name), result)
            results.append(result)
        truth[seed] = {tested: _without_pixels(pictures(f"{tested}_test")) for tested in "AB"}
    return _collect(design, results, truth)


def train_side_by_side(
    trial: Callable[..., Trial],
    seeds: Iterable[int],
    jobs: int,
    label: str,
    *,
    roles: Iterable[str] = (),
    progress: bool | None = None,
) -> None:
    """Train the networks of several seeds at a time; `run_trial` then finds them in its run.

    Networks this small keep one thread busy and a second one idle.

    Parameters
    ----------
    trial : `run_trial` with all its arguments but the seeds; with a run.
    jobs : processes of one thread each.
    label : of the progress.
    roles : trained each by itself, which fills the cores where there are few seeds; default: all of a seed together.
    """
    parts: list[tuple[str] | None] = [(role,) for role in roles] or [None]
    tasks = [partial(trial, (seed,), roles=part, progress=False) for seed in seeds for part in parts]
    unit, lighter = "network" if roles else "replication", "when more memory is free"
    side_by_side(tasks, jobs, label, unit, _one_thread, progress=progress, lighter=lighter)


def usual_jobs(quick: bool, generator: object = "renderer") -> int:
    """One process per core; one alone with ``quick``, where starting more costs more than it saves, for a generator
    that is a model, on a GPU, and where several processes were launched."""
    from causalft.data.image_set import usable_cores
    from causalft.models.tuning.processes import pick_device

    if quick or generator != "renderer" or is_launched() or pick_device("auto").type != "cpu":
        return 1
    return usable_cores()


def seconds_stored(run: Run | None, seeds: Iterable[int]) -> float:
    """Seconds of the trainings that an interrupted call stored."""
    if run is None:
        return 0.0
    stored = [f"models/seed{seed}-{role}.json" for seed in seeds for role in _WORDS]
    return sum(float(read_json(run.file(name))["seconds"]) for name in stored if run.has(name))


def _one_thread() -> None:
    torch.set_num_threads(1)


_WORDS = {"A": "trained on A", "B": "trained on B", "adjusted": "trained on B, adjusted for C"}


def cache_folder(run: Run | None, generator: str | PictureSource | PicturePool, seed: int) -> Path | None:
    """Where images of a slow generator are cached; the renderer draws faster than it reads, a pool is drawn."""
    slow = not isinstance(generator, str | PicturePool) and generator.name != "renderer"
    return run.path / "pictures" / f"seed{seed}" if run is not None and slow else None


def _without_pixels(pictures: PictureSet) -> PictureSet:
    return replace(pictures, pixels=pictures.pixels[:0])


def _one_model(
    role: str,
    pictures: PictureSet,
    tests: dict[str, PictureSet],
    n_classes: int,
    backbone: str,
    recipe: Recipe,
    *,
    run: Run | None,
    checkpoint: str,
    label: str,
    progress: bool | None,
) -> dict[str, Any]:
    """Train one network and return its predictions, a JSON document."""
    started = time.perf_counter()
    x, y = as_input(pictures.pixels), torch.from_numpy(pictures.labels)
    c = torch.from_numpy(pictures.factors)
    log_prior = log_stratum_prior(pictures.labels, pictures.factors, n_classes)
    priors = torch.from_numpy(log_prior).float()
    # channels-last images make convolutions faster; weights stay contiguous for safetensors
    model = resnet(backbone, n_classes, recipe.seed).train()

    def plain_loss(model: nn.Module, indices: Tensor, generator: torch.Generator) -> Tensor:
        return F.cross_entropy(model(x[indices]), y[indices])

    def stratum_loss(model: nn.Module, indices: Tensor, generator: torch.Generator) -> Tensor:
        return logit_adjusted_loss(model(x[indices]), y[indices], priors[c[indices]])

    history = train(
        model,
        len(y),
        stratum_loss if role == "adjusted" else plain_loss,
        recipe,
        label=label,
        progress=progress,
        checkpoint=run.file(checkpoint) if run is not None else None,
    )
    model.eval()
    shown = {tested: as_input(test.pixels) for tested, test in tests.items()}
    result: dict[str, Any] = {"loss": history.losses[-1]}
    if role == "adjusted":
        result.update(_adjusted(model, (x, pictures), tests, shown, log_prior, recipe.seed))
    else:
        logits = {tested: outputs(model, part)[0] for tested, part in shown.items()}
        result["predictions"] = {role: {tested: o.argmax(1).tolist() for tested, o in logits.items()}}
        if role == "B":
            # one temperature, from test images of B alone; it changes no prediction
            temperature = fit_temperature(logits["B"], tests["B"].labels, kind="logits")
            seen = softmax(logits["A"] / temperature, axis=1)
            result["by_code"] = {"naive": _by_code(seen, tests["A"], n_classes)}
    result["seconds"] = time.perf_counter() - started
    return result


def _adjusted(
    model: ResNet,
    train_set: tuple[Tensor, PictureSet],
    tests: dict[str, PictureSet],
    shown: dict[str, Tensor],
    log_prior: np.ndarray,
    seed: int,
) -> dict[str, Any]:
    x, pictures = train_set
    n_classes = log_prior.shape[1]
    found = adjust_pictures(
        model,
        (x, pictures.labels, pictures.factors, pictures.contents),
        (shown["B"], tests["B"].labels, tests["B"].factors),
        torch.cat([shown["A"], shown["B"]]),
        log_prior,
        seed,
    )
    n = len(tests["A"])
    parts = {"A": slice(0, n), "B": slice(n, None)}
    return {
        "predictions": {
            "adjusted" if name == "backdoor" else name: {
                tested: found.probabilities[name][part].argmax(1).tolist() for tested, part in parts.items()
            }
            for name in ADJUSTED
        },
        "by_code": {
            name: _by_code(found.probabilities[name][parts["A"]], tests["A"], n_classes) for name in ADJUSTED
        },
        "weights": {"effective_share": found.effective_share, "largest": found.largest_weight},
    }


def _by_code(probabilities: np.ndarray, test: PictureSet, n_classes: int) -> list[list[float | None]]:
    """Mean distribution per image code, (2 K, K); None for a code without images."""
    codes = 2 * test.looks + test.parts
    return [
        probabilities[codes == code].mean(0).tolist() if (codes == code).any() else [None] * n_classes
        for code in range(2 * n_classes)
    ]


def _collect(
    design: Design,
    results: list[dict[str, Any]],
    truth: dict[int, dict[str, PictureSet]],
) -> Trial:
    correct: dict[str, list[np.ndarray]] = {}
    by_code: dict[str, list[np.ndarray]] = {}
    for result in results:
        for model, predictions in result["predictions"].items():
            for tested, labels in predictions.items():
                correct.setdefault(f"{model}->{tested}", []).append(
                    np.array(labels) == truth[result["seed"]][tested].labels
                )
        for name, table in result.get("by_code", {}).items():
            by_code.setdefault(name, []).append(np.array(table, dtype=float))
    first = next(iter(truth.values()))
    return Trial(
        correct={cell: np.stack(values) for cell, values in correct.items()},
        strata={tested: 2 * first[tested].labels + first[tested].factors for tested in "AB"},
        by_code={name: np.stack(values) for name, values in by_code.items()},
        weights=[result["weights"] for result in results if "weights" in result],
        table=_table(design, results, truth),
    )


def _table(
    design: Design, results: list[dict[str, Any]], truth: dict[int, dict[str, PictureSet]]
) -> dict[str, list[Any]]:
    table: dict[str, list[Any]] = {
        name: []
        for name in ("seed", "model", "tested_on", "image", "label", "factor", "look", "part", "prediction")
    }
    for result in results:
        for model, by_test in result["predictions"].items():
            for tested, predictions in by_test.items():
                test = truth[result["seed"]][tested]
                n = len(test.labels)
                table["seed"] += [result["seed"]] * n
                table["model"] += [model] * n
                table["tested_on"] += [tested] * n
                table["image"] += list(range(n))
                table["label"] += [design.classes[label] for label in test.labels]
                table["factor"] += test.factors.tolist()
                table["look"] += [design.classes[look] for look in test.looks]
                table["part"] += test.parts.tolist()
                table["prediction"] += [design.classes[label] for label in predictions]
    return table
