"""Trains the networks of the A/B experiment, one on A and one on B for each seed, and collects what they predict."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from causalft.confounding.resnet import resnet
from causalft.runs import Run, read_json, write_json
from causalft.tuning.train import Recipe, train
from synthetic.designs import Design
from synthetic.generate import PictureSet, make_set

__all__ = ["Trial", "run_trial"]


@dataclass(frozen=True)
class Trial:
    """Predictions of all models.

    Attributes
    ----------
    correct : cell (``"A->B"``: trained on -> tested on) -> bool (S, n)
    strata : test set (``"A"``, ``"B"``) -> int (n,), 2 * class + factor of each picture, the same for every seed
    table : columns of predictions.parquet
    seconds_before : seconds of training done by an earlier, interrupted call
    """

    correct: dict[str, np.ndarray]
    strata: dict[str, np.ndarray]
    table: dict[str, list[Any]]
    seconds_before: float


def run_trial(
    design: Design,
    backbone: str,
    recipe: Recipe,
    seeds: tuple[int, ...],
    n_per_class: int,
    *,
    generator: str = "renderer",
    size: int = 24,
    run: Run | None = None,
    progress: bool | None = None,
) -> Trial:
    """Train a network on A and one on B for each seed and test both on both.

    Parameters
    ----------
    design : Design
    backbone : name of a residual network.
    recipe : Recipe; its seed is replaced by each replication's.
    seeds : one replication each: its own image sets, initial weights and order of samples.
    n_per_class : pictures of each class in each set.
    generator, size : who draws the pictures, and how large.
    run : where each model's result is kept, so that an interrupted run goes on from there.
    progress : show the bars.
    """
    results: list[dict[str, Any]] = []
    tests: dict[tuple[int, str], PictureSet] = {}
    seconds_before = 0.0
    for position, seed in enumerate(seeds):
        for tested in "AB":
            tests[seed, tested] = make_set(
                design, f"{tested}_test", n_per_class, seed, generator=generator, size=size
            )
        for trained in "AB":
            name = f"models/seed{seed}-{trained}.json"
            if run is not None and run.has(name):
                results.append(read_json(run.file(name)))
                seconds_before += results[-1]["seconds"]
                continue
            pictures = make_set(design, f"{trained}_train", n_per_class, seed, generator=generator, size=size)
            number = 2 * position + "AB".index(trained) + 1
            result = _one_model(
                pictures,
                {tested: tests[seed, tested] for tested in "AB"},
                len(design.classes),
                backbone,
                replace(recipe, seed=seed),
                run=run,
                checkpoint=f"models/seed{seed}-{trained}.safetensors",
                label=f"model {number} of {2 * len(seeds)} (trained on {trained}, seed {seed})",
                progress=progress,
            )
            result.update(seed=seed, trained_on=trained)
            if run is not None:
                write_json(run.file(name), result)
            results.append(result)
    correct = {
        f"{trained}->{tested}": np.stack(
            [
                np.array(result["predictions"][tested]) == tests[result["seed"], tested].labels
                for result in results
                if result["trained_on"] == trained
            ]
        )
        for trained in "AB"
        for tested in "AB"
    }
    strata = {tested: 2 * tests[seeds[0], tested].labels + tests[seeds[0], tested].factors for tested in "AB"}
    return Trial(correct, strata, _table(design, results, tests), seconds_before)


def _one_model(
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
    x, y = _tensor(pictures.pixels), torch.from_numpy(pictures.labels)
    # the pictures are channels-last (faster convolutions); the weights stay as they are, as safetensors wants them
    model = resnet(backbone, n_classes, recipe.seed).train()

    def batch_loss(model: nn.Module, indices: Tensor, generator: torch.Generator) -> Tensor:
        return F.cross_entropy(model(x[indices]), y[indices])

    history = train(
        model,
        len(y),
        batch_loss,
        recipe,
        label=label,
        progress=progress,
        checkpoint=run.file(checkpoint) if run is not None else None,
    )
    model.eval()
    with torch.inference_mode():
        predictions = {
            tested: torch.cat([model(part).argmax(1) for part in _tensor(test.pixels).split(256)]).tolist()
            for tested, test in tests.items()
        }
    return {"predictions": predictions, "loss": history.losses[-1], "seconds": time.perf_counter() - started}


def _tensor(pixels: np.ndarray) -> Tensor:
    """uint8 (n, size, size, 3) to float (n, 3, size, size) in [0, 1], channels last in memory."""
    return (
        torch.from_numpy(pixels)
        .permute(0, 3, 1, 2)
        .float()
        .div_(255.0)
        .contiguous(memory_format=torch.channels_last)
    )


def _table(
    design: Design, results: list[dict[str, Any]], tests: dict[tuple[int, str], PictureSet]
) -> dict[str, list[Any]]:
    table: dict[str, list[Any]] = {
        name: [] for name in ("seed", "trained_on", "tested_on", "image", "label", "factor", "prediction")
    }
    for result in results:
        for tested, predictions in result["predictions"].items():
            test = tests[result["seed"], tested]
            n = len(test)
            table["seed"] += [result["seed"]] * n
            table["trained_on"] += [result["trained_on"]] * n
            table["tested_on"] += [tested] * n
            table["image"] += list(range(n))
            table["label"] += [design.classes[label] for label in test.labels]
            table["factor"] += test.factors.tolist()
            table["prediction"] += [design.classes[label] for label in predictions]
    return table
