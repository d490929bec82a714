"""FixMatch with a network trained from scratch: what semi-supervised learning costs without a foundation model."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

    from causalft.data.splits import Splits
    from experiments.frame.lab import Lab
    from experiments.frame.members import Member

__all__ = ["TIMES", "fixmatch_loss", "from_scratch_semi", "seconds_of_member"]

TIMES = 10.0
"""Training time of the network from scratch, in that of the foundation model."""

SIDE = 32
THRESHOLD, BATCH, RATIO = 0.95, 64, 2


def seconds_of_member(lab: Lab, member: Member, seed: int) -> float:
    """Processor seconds that the training of a member takes, after one epoch to warm up."""
    from causalft.methods.adaptation.tune import start_of_head
    from causalft.methods.semi.tune import supervised_by, tune_semi
    from causalft.models.features.encoder import Crops

    splits = lab.world.splits(seed, member.draw)
    tuning = member.tuning(lab.world.settings.tuning, seed)
    stratum = lab.world.zoo.load(member.name)
    assert member.semi is not None and splits.unlabelled is not None
    supervision = supervised_by(member.semi, splits.unlabelled)
    assert supervision is not None
    labelled = Crops(splits.train, stratum, progress=False)
    unlabelled = Crops(splits.unlabelled.images, stratum, progress=False)
    names = list(splits.class_names)
    weight = start_of_head(stratum, labelled, names, tuning)
    for epochs in (1, tuning.epochs):  # the first one imports and warms up
        short = replace(tuning, epochs=epochs)
        began = time.process_time()
        tune_semi(
            [stratum], [labelled], [unlabelled], names, [short], supervision, weights=[weight], progress=False
        )
    return time.process_time() - began


def fixmatch_loss(
    labelled: tuple[Tensor, Tensor], unlabelled: Tensor, log_prior: Tensor, side: int = SIDE
) -> Callable[[nn.Module, Tensor, Any], Tensor]:
    """The loss of FixMatch with LA on the labelled images, all views of a step in one batch.

    Parameters
    ----------
    labelled : (images (n, s, s, 3) of uint8, labels (n,))
    unlabelled : (m, s, s, 3) Tensor of uint8
    log_prior : (K,) Tensor
    """
    import torch
    from torch.nn import functional as F

    from causalft.models.features.strong import strong_view

    def weak(pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Mirrored in half of the cases, and moved by up to an eighth."""
        mirrored = torch.rand(len(pixels), generator=generator) < 0.5
        pixels = torch.where(mirrored.view(-1, 1, 1, 1), pixels.flip(2), pixels)
        pad = side // 8
        x = F.pad(_as_input(pixels), (pad, pad, pad, pad), mode="reflect")
        top, left = torch.randint(2 * pad + 1, (2,), generator=generator).tolist()
        return x[:, :, top : top + side, left : left + side]

    def loss(model: nn.Module, rows: Tensor, generator: torch.Generator) -> Tensor:
        drawn = torch.randint(len(labelled[0]), (max(1, len(rows) // RATIO),), generator=generator)
        pixels = unlabelled[rows]
        views = [weak(labelled[0][drawn], generator), weak(pixels, generator)]
        views.append(_as_input(strong_view(pixels, generator)))
        logits = model(torch.cat(views))
        mine, seen, strong = logits.split([len(drawn), len(rows), len(rows)])
        best, label = seen.detach().softmax(1).max(1)
        sure = (best >= THRESHOLD).float()
        supervised = F.cross_entropy(mine + log_prior, labelled[1][drawn])
        return supervised + (sure * F.cross_entropy(strong, label, reduction="none")).mean()

    return loss


def _as_input(pixels: Tensor) -> Tensor:
    return pixels.permute(0, 3, 1, 2).float().div(255.0)


def from_scratch_semi(lab: Lab, seed: int, law: str, budget: float) -> dict[str, Any]:
    """Train WRN-28-2 by FixMatch for about ``budget`` processor seconds, and answer the test images.

    A finished one is read back.

    Returns
    -------
    dict
        ``predicted`` (n,), ``seconds`` of the training, ``epochs``.
    """
    from safetensors.numpy import load_file, save_file

    from causalft.runs.folder import atomic_path
    from causalft.runs.locks import writing
    from experiments.frame.members import Draw

    splits = lab.world.splits(seed, Draw(law=law))
    name = f"wrn-28-2-fixmatch-{law}-{'quick' if lab.quick else 'full'}-seed{seed}-{splits.train.fingerprint[:10]}"
    folder = lab.members / lab.world.scale / name
    folder.mkdir(parents=True, exist_ok=True)
    answers, about = folder / "answers.safetensors", folder / "about.json"
    with writing(folder, wait=True):
        if not answers.is_file():
            predicted, seconds, epochs = _train(splits, seed, budget)
            with atomic_path(about) as temporary:
                temporary.write_text(json.dumps({"seconds": seconds, "epochs": epochs}), encoding="utf-8")
            with atomic_path(answers) as temporary:
                save_file({"predicted": predicted}, temporary)
    return {**json.loads(about.read_text(encoding="utf-8")), **load_file(answers)}


def _train(splits: Splits, seed: int, budget: float) -> tuple[Any, float, int]:
    import torch

    from causalft.models.tuning.recipe import Recipe
    from causalft.models.tuning.train import train
    from causalft.models.wide_resnet import wide_resnet
    from experiments.frame.scratch import pixels_of

    assert splits.unlabelled is not None
    counts = splits.train.class_counts
    x, u = (torch.from_numpy(pixels_of(part, SIDE)) for part in (splits.train, splits.unlabelled.images))
    loss = fixmatch_loss(
        (x, torch.from_numpy(splits.train.labels)), u, torch.from_numpy(np.log(counts / counts.sum())).float()
    )
    recipe = Recipe(epochs=1, batch_size=BATCH, lr=0.03, nesterov=True, seed=seed)

    def timed(n: int, epochs: int) -> tuple[Any, float]:
        model = wide_resnet(len(counts), seed).train()
        began = time.process_time()
        train(model, n, loss, replace(recipe, epochs=epochs), label="WRN-28-2 from scratch")
        return model, time.process_time() - began

    _, of_two = timed(2 * BATCH, 1)
    epochs = max(1, round(budget / (of_two / (2 * BATCH) * len(u))))
    model, seconds = timed(len(u), epochs)
    model.eval()
    with torch.inference_mode():
        tested = torch.from_numpy(pixels_of(splits.test, SIDE))
        predicted = torch.cat([model(_as_input(part)).argmax(1) for part in tested.split(256)])
    return predicted.numpy(), seconds, epochs
