"""ViT-B/16 with AdaptFormer as the peers write it, and as this project runs it: one of them, in a process of its own.

The reference is plain PyTorch: open_clip's ViT-B/16, AdaptFormer in every block (bottleneck 32), a cosine head of 1,000
classes, LA loss, SGD, random weights; in half precision under autocast, with a gradient scaler for fp16. The other side
is the tower, tuner, head, loss and loop of `causalft fit`. Both start from the same weights and see the same batches.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from types import SimpleNamespace
from typing import Any

if "causalft" in sys.argv:
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # as the command line does, before PyTorch is loaded

import torch
from timing import now, peak_mib
from torch import Tensor, nn
from torch.nn import functional as F

LR, MOMENTUM, SCALE = 0.01, 0.9, 25.0
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Size:
    """Of model and batch."""

    image: int = 224
    patch: int = 16
    width: int = 768
    layers: int = 12
    heads: int = 12
    features: int = 512
    classes: int = 1000
    bottleneck: int = 32
    batch: int = 16


SIZES = {
    "vit-b16": Size(),
    "tiny": Size(
        image=32, patch=8, width=64, layers=2, heads=2, features=32, classes=10, bottleneck=4, batch=4
    ),
}


@dataclass(frozen=True)
class Case:
    """Where and how one side runs; ``backend`` of `torch.compile`, or None; tokens that each block merges."""

    size: Size
    device: torch.device
    precision: str
    backend: str | None
    merge_tokens: int = 0

    def compiled(self, function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """The function, compiled if it should be."""
        return function if self.backend is None else torch.compile(function, backend=self.backend)


class Adapted(nn.Module):
    """An MLP with the bottleneck of AdaptFormer beside it."""

    def __init__(self, mlp: nn.Module, size: Size) -> None:
        super().__init__()
        self.mlp = mlp
        self.down, self.up = nn.Linear(size.width, size.bottleneck), nn.Linear(size.bottleneck, size.width)

    def forward(self, h: Tensor) -> Tensor:
        return self.mlp(h) + self.up(torch.relu(self.down(h)))


def tower(case: Case) -> nn.Module:
    """The image tower of open_clip with random weights, frozen."""
    from open_clip.transformer import VisionTransformer

    torch.manual_seed(0)
    size = case.size
    visual = VisionTransformer(
        size.image, size.patch, size.width, size.layers, size.heads, 4.0, output_dim=size.features
    )
    return visual.eval().requires_grad_(False).to(case.device)


def start_of_adapters(size: Size) -> list[dict[str, Tensor]]:
    """Weights of the adapters of both sides; the up-projection is not zero, so that the first step moves the tower."""
    torch.manual_seed(1)
    return [
        {
            "down.weight": torch.randn(size.bottleneck, size.width) * 0.02,
            "down.bias": torch.zeros(size.bottleneck),
            "up.weight": torch.randn(size.width, size.bottleneck) * 0.02,
            "up.bias": torch.zeros(size.width),
        }
        for _ in range(size.layers)
    ]


def head_and_prior(size: Size) -> tuple[Tensor, Tensor]:
    """Where the cosine head starts, and the class counts."""
    torch.manual_seed(2)
    share = torch.arange(size.classes) / (size.classes - 1)
    return torch.randn(size.classes, size.features), (1000 * 0.01**share).round()


def batches(n: int, case: Case) -> list[tuple[Tensor, Tensor]]:
    """Images (batch, s, s, 3), uint8, and labels (batch,) of n steps, in page-locked memory for a GPU.

    Large batches repeat after a few.
    """
    size, distinct = case.size, min(n, max(4, 512 // case.size.batch))
    generator = torch.Generator().manual_seed(3)
    shape = (distinct, size.batch, size.image, size.image, 3)
    pictures = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, size.classes, (distinct, size.batch), generator=generator)
    if case.device.type == "cuda":
        pictures, labels = pictures.pin_memory(), labels.pin_memory()
    return [(pictures[k % distinct], labels[k % distinct]) for k in range(n)]


def reference(case: Case) -> SimpleNamespace:
    """The model of the peers, and its training step."""
    size, device = case.size, case.device
    visual: Any = tower(case)
    for block, start in zip(visual.transformer.resblocks, start_of_adapters(size)):
        block.mlp = Adapted(block.mlp, size)
        block.mlp.load_state_dict(start, strict=False)
    visual.to(device)
    weight, counts = head_and_prior(size)
    head = nn.Parameter(weight.to(device))
    log_prior = (counts / counts.sum()).log().to(device)
    trained = [p for p in visual.parameters() if p.requires_grad] + [head]
    optimizer = torch.optim.SGD(trained, lr=LR, momentum=MOMENTUM, weight_decay=5e-4)
    mean, std = torch.tensor(MEAN, device=device), torch.tensor(STD, device=device)
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(case.precision)
    scaler = torch.amp.GradScaler(device.type, enabled=half is torch.float16)

    def normalised(pixels: Tensor) -> Tensor:
        moved = pixels.to(device, non_blocking=True)
        return ((moved.float() / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()

    def encode(images: Tensor) -> Tensor:
        with torch.autocast(device.type, half, enabled=half is not None):
            return visual(images)

    def classify(images: Tensor) -> Tensor:
        with torch.autocast(device.type, half, enabled=half is not None):
            return SCALE * F.normalize(visual(images), dim=-1) @ F.normalize(head, dim=-1).T

    encode, classify = case.compiled(encode), case.compiled(classify)

    def train(steps: list[tuple[Tensor, Tensor]], seen: Callable[[Any], None]) -> None:
        for pixels, labels in steps:
            logits = classify(normalised(pixels))
            loss = F.cross_entropy(logits + log_prior, labels.to(device, non_blocking=True))
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            seen(loss.item())

    return SimpleNamespace(
        logits=lambda pixels: classify(normalised(pixels)),
        features=lambda pixels: encode(normalised(pixels)),
        train=train,
        n_trained=sum(p.numel() for p in trained),
        precision="fp32" if half is None else case.precision,
    )


def ours(case: Case) -> SimpleNamespace:
    """The same model by this project."""
    import numpy as np

    from causalft.methods.adaptation.settings import Tuning
    from causalft.methods.adaptation.tuned import TunedStratum
    from causalft.models.strata.stratum import Stratum, square_crop
    from causalft.models.tuning.devices import to_device
    from causalft.models.tuning.losses import make_loss
    from causalft.models.tuning.recipe import Recipe
    from causalft.models.tuning.train import train as loop

    size, device = case.size, case.device
    stratum = Stratum(
        "clip",
        "random",
        SimpleNamespace(visual=tower(case)),
        square_crop(size.image),
        size.image,
        MEAN,
        STD,
        None,
        "0" * 64,
        "random weights",
        device=device,
    )
    weight, counts = head_and_prior(size)
    tuning = Tuning(bottleneck=size.bottleneck, head_scale=SCALE, precision=case.precision)
    tuned = TunedStratum(stratum, weight, tuning)
    tuned.tuned.load(
        {
            f"blocks.{n}.{name}": value
            for n, part in enumerate(start_of_adapters(size))
            for name, value in part.items()
        }
    )
    if tuned.lowered:
        stratum.release()
    tuned.merge_tokens(case.merge_tokens)
    loss = make_loss("LA", np.asarray(counts))
    encode = case.compiled(lambda images: tuned.features(tuned.tokens(images)))
    classify = case.compiled(lambda images: tuned(tuned.tokens(images)))

    def train(steps: list[tuple[Tensor, Tensor]], seen: Callable[[Any], None]) -> None:
        place = count()

        def batch_loss(model: nn.Module, indices: Tensor, generator: torch.Generator) -> Tensor:
            pixels, labels = steps[next(place)]  # the order of the batches is the reference's
            target = to_device(labels, device)
            found = loss(classify(stratum.normalise(pixels)), target)
            seen(found.detach())
            return found

        recipe = Recipe(
            epochs=1,
            batch_size=size.batch,
            lr=LR,
            momentum=MOMENTUM,
            schedule="constant",
            precision=tuned.precision,  # type: ignore[arg-type]
        )
        loop(tuned, size.batch * len(steps), batch_loss, recipe, progress=False)

    return SimpleNamespace(
        logits=lambda pixels: classify(stratum.normalise(pixels)),
        features=lambda pixels: encode(stratum.normalise(pixels)),
        train=train,
        n_trained=tuned.n_tuned,
        precision=tuned.precision,
    )


def separable(size: Size, n_classes: int = 50, each: int = 4) -> tuple[Tensor, Tensor]:
    """Images that a random network tells apart: a smooth pattern for each class, and noise."""
    generator = torch.Generator().manual_seed(4)
    patterns = F.interpolate(torch.rand(n_classes, 3, 7, 7, generator=generator), size.image, mode="bicubic")
    noise = 0.25 * torch.randn(n_classes * each, 3, size.image, size.image, generator=generator)
    pictures = (patterns.repeat_interleave(each, 0) + noise).clamp(0, 1)
    labels = torch.arange(n_classes).repeat_interleave(each)
    return (255 * pictures).byte().permute(0, 2, 3, 1).contiguous(), labels


class Watch:
    """Losses of all steps, and the seconds of a step: a mean over each block of steps after the warm-up."""

    def __init__(self, device: str, warm_up: int, block: int) -> None:
        self.device, self.warm_up, self.block = device, warm_up, block
        self.losses: list[Any] = []
        self.times: list[float] = []

    def __call__(self, loss: Any = 0.0) -> None:
        self.losses.append(loss)
        after = len(self.losses) - self.warm_up
        if after >= 0 and after % self.block == 0:
            self.times.append(now(self.device))

    @property
    def seconds(self) -> list[float]:
        return [(b - a) / self.block for a, b in zip(self.times, self.times[1:])]


def measure(words: Sequence[str] | None = None) -> dict[str, Any]:
    """Seconds of a step, losses, peak memory, features, as the options say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", choices=["reference", "causalft"])
    parser.add_argument("task", choices=["train", "infer", "agree"])
    parser.add_argument("--steps", type=int, default=4, help="times that are taken")
    parser.add_argument("--block", type=int, default=1, help="steps between two of them")
    parser.add_argument("--warm-up", type=int, default=1, help="steps before the first")
    parser.add_argument("--precision", default="auto", help="of the reference: auto is fp32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", choices=list(SIZES), default="vit-b16")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--merge-tokens", type=int, default=0, help="in each block, of this project's side")
    parser.add_argument("--compile", metavar="BACKEND", help="of torch.compile, such as inductor")
    given = parser.parse_args(words)
    size = SIZES[given.size]
    size = replace(size, batch=given.batch or size.batch)
    case = Case(size, torch.device(given.device), given.precision, given.compile, given.merge_tokens)
    side = (reference if given.side == "reference" else ours)(case)
    document: dict[str, Any] = {"n_trained": side.n_trained, "precision": side.precision, "batch": size.batch}
    watch = Watch(given.device, given.warm_up, given.block)
    n = given.warm_up + given.steps * given.block
    if given.task == "train":
        # from one loss to the next: a backward, a step and a forward
        side.train(batches(n, case), watch)
        document |= {"seconds": watch.seconds, "losses": [float(loss) for loss in watch.losses]}
    elif given.task == "infer":
        with torch.inference_mode():
            for pixels, _ in batches(n, case):
                side.logits(pixels)
                watch()
        document["seconds"] = watch.seconds
    else:
        pixels, labels = separable(size)
        with torch.inference_mode():
            parts = [
                F.normalize(side.features(part).float(), dim=-1).cpu() for part in pixels.split(size.batch)
            ]
        document |= {"features": torch.cat(parts).tolist(), "labels": labels.tolist()}
    document["peak_mib"] = peak_mib(given.device)
    return document


if __name__ == "__main__":
    print(json.dumps(measure()))
