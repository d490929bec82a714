"""A network trained from scratch on the downstream images: no pre-training, so no pre-training prior."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from causalft.data.image_set import ImageSet
    from causalft.data.splits import Splits
    from causalft.models.tuning.recipe import Recipe
    from experiments.frame.lab import Lab

__all__ = ["BACKBONE", "from_scratch", "pixels_of"]

BACKBONE = "resnet8"
EPOCHS, QUICK_EPOCHS = 30, 2
SIDE = 20
"""Pixels: images are cut to a square and made this small, so that a control costs no more than what it controls."""


def pixels_of(images: ImageSet, side: int = SIDE) -> NDArray[np.uint8]:
    """Images as small squares, (n, side, side, 3)."""
    from causalft.data.images import middle_of_strip
    from causalft.models.strata.stratum import square_crop

    crop = square_crop(side)
    squares = (crop(middle_of_strip(images.image(i).convert("RGB"))) for i in range(len(images)))
    return np.stack([np.asarray(square, dtype=np.uint8) for square in squares])


def from_scratch(lab: Lab, seed: int) -> NDArray[np.int64]:
    """Answers to the test images, (n,), of a ResNet trained with LA on the training images of one seed.

    A finished one is read back from the folder of the members; an interrupted one resumes.
    """
    from causalft.models.tuning.recipe import Recipe
    from causalft.runs.locks import writing

    epochs = QUICK_EPOCHS if lab.quick else EPOCHS
    splits = lab.world.splits(seed)
    name = f"{BACKBONE}-LA-scratch-{SIDE}px-{epochs}-seed{seed}-{splits.train.fingerprint[:10]}"
    folder = lab.members / lab.world.scale / name
    from safetensors.numpy import load_file

    folder.mkdir(parents=True, exist_ok=True)
    answers = folder / "answers.safetensors"
    recipe = Recipe(epochs=epochs, batch_size=64, lr=0.1, nesterov=True, warmup_epochs=1.0, seed=seed)
    with writing(folder, wait=True):
        if not answers.is_file():
            _train(splits, recipe, folder, answers)
    return load_file(answers)["predicted"]


def _train(splits: Splits, recipe: Recipe, folder: Path, answers: Path) -> None:
    import torch
    from safetensors.numpy import save_file

    from causalft.methods.estimators.adjusted_networks import outputs
    from causalft.models.resnet import as_input, resnet
    from causalft.models.tuning.losses.logit_adjustment import logit_adjusted_loss
    from causalft.models.tuning.train import train
    from causalft.runs.folder import atomic_path

    train_set = splits.train
    x, y = as_input(pixels_of(train_set)), torch.from_numpy(train_set.labels)
    log_prior = torch.from_numpy(np.log(train_set.class_counts / len(train_set))).float()
    model = resnet(BACKBONE, train_set.n_classes, recipe.seed).train()

    def loss(model: torch.nn.Module, indices: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        images = x[indices]
        mirrored = torch.rand(len(images), generator=generator) < 0.5
        images[mirrored] = images[mirrored].flip(-1)
        return logit_adjusted_loss(model(images), y[indices], log_prior)

    train(
        model,
        len(y),
        loss,
        recipe,
        label=f"training {BACKBONE} from scratch",
        checkpoint=folder / "checkpoint.safetensors",
    )
    model.eval()
    logits, _ = outputs(model, as_input(pixels_of(splits.test)))
    with atomic_path(answers) as temporary:
        save_file({"predicted": logits.argmax(axis=1).astype(np.int64)}, temporary)
