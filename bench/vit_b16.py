"""ViT-B/16 with AdaptFormer as the peers write it, and as this project runs it: one of them, in a process of its own.

The reference is plain PyTorch in fp32: open_clip's ViT-B/16, AdaptFormer in every block (bottleneck 32), a cosine head
of 1,000 classes, LA loss, SGD, batch 16, random weights. The other side is the tower, tuner, head, loss and loop of
`causalft fit` with `--precision auto`. Both start from the same weights and see the same batches.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import sys
import time
from types import SimpleNamespace
from typing import Any

if "causalft" in sys.argv:
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # as the command line does, before PyTorch is loaded

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BATCH, CLASSES, BOTTLENECK, WIDTH = 16, 1000, 32, 512
LR, MOMENTUM, SCALE = 0.01, 0.9, 25.0


class Adapted(nn.Module):
    """An MLP with the bottleneck of AdaptFormer beside it."""

    def __init__(self, mlp: nn.Module, width: int) -> None:
        super().__init__()
        self.mlp, self.down, self.up = mlp, nn.Linear(width, BOTTLENECK), nn.Linear(BOTTLENECK, width)

    def forward(self, h: Tensor) -> Tensor:
        return self.mlp(h) + self.up(torch.relu(self.down(h)))


def tower() -> nn.Module:
    """The image tower of open_clip with random weights, frozen."""
    import open_clip

    logging.disable(logging.WARNING)  # that the weights are random is the point
    torch.manual_seed(0)
    return open_clip.create_model("ViT-B-16").visual.eval().requires_grad_(False)


def start_of_adapters(blocks: int = 12, width: int = 768) -> list[dict[str, Tensor]]:
    """Weights of the adapters of both sides; the up-projection is not zero, so that the first step moves the tower."""
    torch.manual_seed(1)
    return [
        {
            "down.weight": torch.randn(BOTTLENECK, width) * 0.02,
            "down.bias": torch.zeros(BOTTLENECK),
            "up.weight": torch.randn(width, BOTTLENECK) * 0.02,
            "up.bias": torch.zeros(width),
        }
        for _ in range(blocks)
    ]


def head_and_prior() -> tuple[Tensor, Tensor]:
    """Where the cosine head starts, and the class counts."""
    torch.manual_seed(2)
    return torch.randn(CLASSES, WIDTH), (1000 * 0.01 ** (torch.arange(CLASSES) / (CLASSES - 1))).round()


def batches(n: int) -> tuple[Tensor, Tensor]:
    """Pictures (n, 16, 224, 224, 3), uint8, and labels (n, 16)."""
    generator = torch.Generator().manual_seed(3)
    pictures = torch.randint(0, 256, (n, BATCH, 224, 224, 3), dtype=torch.uint8, generator=generator)
    return pictures, torch.randint(0, CLASSES, (n, BATCH), generator=generator)


MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def reference() -> tuple[nn.Module, Any]:
    """The model of the peers, and its training step."""
    visual: Any = tower()
    for block, start in zip(visual.transformer.resblocks, start_of_adapters()):
        block.mlp = Adapted(block.mlp, 768)
        block.mlp.load_state_dict(start, strict=False)
    weight, counts = head_and_prior()
    head = nn.Parameter(weight)
    log_prior = (counts / counts.sum()).log()
    trained = [p for p in visual.parameters() if p.requires_grad] + [head]
    optimizer = torch.optim.SGD(trained, lr=LR, momentum=MOMENTUM, weight_decay=5e-4)
    mean, std = torch.tensor(MEAN), torch.tensor(STD)

    def logits(pixels: Tensor) -> Tensor:
        pictures = ((pixels.float() / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()
        return SCALE * F.normalize(visual(pictures), dim=-1) @ F.normalize(head, dim=-1).T

    def train(pictures: Tensor, labels: Tensor, seen: Any) -> None:
        for pixels, y in zip(pictures, labels):
            loss = F.cross_entropy(logits(pixels) + log_prior, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen(loss.item())

    return visual, SimpleNamespace(logits=logits, train=train, n_trained=sum(p.numel() for p in trained))


def ours(precision: str) -> tuple[nn.Module, Any]:
    """The same model by this project."""
    import numpy as np

    from causalft.methods.adaptation.settings import Tuning
    from causalft.methods.adaptation.tuned import TunedStratum
    from causalft.models.strata.stratum import Stratum, square_crop
    from causalft.models.tuning.losses import make_loss
    from causalft.models.tuning.recipe import Recipe
    from causalft.models.tuning.train import train as loop

    model = SimpleNamespace(visual=tower())
    stratum = Stratum(
        "clip", "random", model, square_crop(224), 224, MEAN, STD, None, "0" * 64, "random weights"
    )
    weight, counts = head_and_prior()
    tuned = TunedStratum(
        stratum, weight, Tuning(bottleneck=BOTTLENECK, head_scale=SCALE, precision=precision)
    )
    tuned.tuned.load(
        {
            f"blocks.{n}.{name}": value
            for n, part in enumerate(start_of_adapters())
            for name, value in part.items()
        }
    )
    if tuned.lowered:
        stratum.release()
    del model
    loss = make_loss("LA", np.asarray(counts))

    def logits(pixels: Tensor) -> Tensor:
        return tuned(tuned.tokens(stratum.normalise(pixels)))

    def train(pictures: Tensor, labels: Tensor, seen: Any) -> None:
        place = iter(range(len(pictures)))

        def batch_loss(model: nn.Module, indices: Tensor, generator: torch.Generator) -> Tensor:
            number = next(place)  # the order of the batches is the reference's
            found = loss(logits(pictures[number]), labels[number])
            seen(found.item())
            return found

        recipe = Recipe(epochs=1, batch_size=BATCH, lr=LR, momentum=MOMENTUM, schedule="constant")
        loop(tuned, BATCH * len(pictures), batch_loss, recipe, progress=False)

    return tuned, SimpleNamespace(logits=logits, train=train, n_trained=tuned.n_tuned)


def separable(n_classes: int = 50, each: int = 4) -> tuple[Tensor, Tensor]:
    """Pictures that a random network tells apart: a smooth pattern for each class, and noise."""
    generator = torch.Generator().manual_seed(4)
    patterns = F.interpolate(torch.rand(n_classes, 3, 7, 7, generator=generator), 224, mode="bicubic")
    noise = 0.25 * torch.randn(n_classes * each, 3, 224, 224, generator=generator)
    pictures = (patterns.repeat_interleave(each, 0) + noise).clamp(0, 1)
    labels = torch.arange(n_classes).repeat_interleave(each)
    return (255 * pictures).byte().permute(0, 2, 3, 1).contiguous(), labels


def features(model: nn.Module, pixels: Tensor) -> Tensor:
    """Unit features of uint8 pictures."""
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    found = []
    with torch.inference_mode():
        for part in pixels.split(BATCH):
            pictures = ((part.float() / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()
            whole = (
                model(pictures) if not hasattr(model, "tokens") else model.features(model.tokens(pictures))
            )
            found.append(F.normalize(whole.float(), dim=-1))
    return torch.cat(found)


def main() -> None:
    """Print one JSON document: seconds of each step, losses, peak memory, predictions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", choices=["reference", "causalft"])
    parser.add_argument("task", choices=["train", "infer", "agree"])
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--precision", default="auto")
    arguments = parser.parse_args()
    model, side = reference() if arguments.side == "reference" else ours(arguments.precision)
    document: dict[str, Any] = {"n_trained": side.n_trained, "precision": getattr(model, "precision", "fp32")}
    if arguments.task == "train":
        times, losses = [time.perf_counter()], []

        def seen(loss: float) -> None:
            losses.append(loss)
            times.append(time.perf_counter())

        side.train(*batches(arguments.steps + 1), seen)
        # from one loss to the next: a backward, a step and a forward; the first is the warm-up
        document |= {"seconds": [b - a for a, b in zip(times[1:], times[2:])], "losses": losses}
    elif arguments.task == "infer":
        (pixels, *_), _ = batches(1)
        with torch.inference_mode():
            side.logits(pixels)
            seconds = []
            for _ in range(arguments.steps):
                started = time.perf_counter()
                side.logits(pixels)
                seconds.append(time.perf_counter() - started)
        document["seconds"] = seconds
    else:
        pixels, labels = separable()
        found = features(model, pixels)
        document |= {"features": found.tolist(), "labels": labels.tolist()}
    unit = 1 if sys.platform == "darwin" else 1024
    document["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    print(json.dumps(document))


if __name__ == "__main__":
    main()
