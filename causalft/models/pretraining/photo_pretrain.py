"""Pre-train the members of a zoo that was planned on the user's own images: their pictures, recipe, time."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from causalft.data.decoding import decode
from causalft.data.image_set import ImageSet
from causalft.data.images import middle_of_strip
from causalft.data.longtail import draw_longtail, profile_counts
from causalft.models.pretraining.photo_zoo import BATCH_SIZE, PhotoMember, PhotoZoo, head_count
from causalft.models.pretraining.pretrain import PRETRAINING, pretrain_mini, save_mini
from causalft.models.pretraining.views import apply_view
from causalft.models.strata.cards import ModelCard
from causalft.models.strata.mini import MiniConfig
from causalft.models.strata.stratum import square_crop
from causalft.models.tuning.train import Recipe

__all__ = ["estimate_seconds", "member_pixels", "pretrain_photo_member"]


def member_pixels(images: ImageSet, member: PhotoMember, zoo: PhotoZoo, progress: bool | None) -> tuple:
    """Draw a member's long-tailed pre-training pictures through its view: (pixels, labels, prior)."""
    settings = zoo.settings
    pool = images.subset(zoo.parts["pool"])
    head, repeat = head_count(
        pool.class_counts, member.order, settings["imbalance_factor"], settings["profile"]
    )
    drawn = draw_longtail(
        pool,
        imbalance_factor=settings["imbalance_factor"],
        seed=member.seed,
        n_max=head,
        profile=settings["profile"],
        order=list(member.order),
        repeat=repeat,
    )
    crop = square_crop(settings["image_size"])

    def cut(image: Image.Image) -> NDArray[np.uint8]:
        return np.asarray(crop(middle_of_strip(image)), dtype=np.uint8)

    pixels = decode(drawn, None, cut, f"reading {len(drawn)} images", progress=progress)
    rng = np.random.default_rng([member.seed, 7])
    shown = apply_view(pixels, member.view, settings["view_share"], rng)
    prior = np.empty(images.n_classes)
    prior[list(member.order)] = profile_counts(
        images.n_classes, head, settings["imbalance_factor"], settings["profile"]
    )
    return shown, drawn.labels, prior / prior.sum()


def member_recipe(member: PhotoMember, zoo: PhotoZoo) -> Recipe:
    """The settings of the training loop for a member."""
    return replace(PRETRAINING, epochs=zoo.settings["epochs"], batch_size=BATCH_SIZE, seed=member.seed)


def pretrain_photo_member(
    images: ImageSet, member: PhotoMember, zoo: PhotoZoo, folder: Path, *, progress: bool | None = None
) -> ModelCard:
    """Pre-train one member and write its weights and card; resumes from its checkpoint."""
    pixels, labels, prior = member_pixels(images, member, zoo, progress)
    recipe = member_recipe(member, zoo)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the same weights however many cores the machine has
    try:
        trained = pretrain_mini(
            pixels,
            labels,
            list(images.class_names),
            loss=member.loss,
            recipe=recipe,
            config=MiniConfig(image_size=zoo.settings["image_size"]),
            flip=True,
            label=f"pre-training {member.name}",
            progress=progress,
            checkpoint=folder / f".{member.name}.checkpoint.safetensors",
        )
        return save_mini(
            trained,
            folder,
            member.name,
            world=images.name,
            loss=member.loss,
            prior=prior,
            view={"view": member.view, "share": zoo.settings["view_share"]},
            recipe={**asdict(recipe), "n_images": len(labels), **zoo.settings},
        )
    finally:
        torch.set_num_threads(threads)


def estimate_seconds(images: ImageSet, zoo: PhotoZoo, jobs: int) -> float:
    """Time 8 steps of the first member on one thread and scale up: seconds for all members."""
    member = zoo.members[0]
    recipe = member_recipe(member, zoo)
    rng = np.random.default_rng(0)
    size, n = zoo.settings["image_size"], 8 * recipe.batch_size
    noise = rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    labels = rng.integers(0, images.n_classes, n)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        trial = replace(recipe, epochs=1)
        seconds = pretrain_mini(
            noise,
            labels,
            list(images.class_names),
            recipe=trial,
            flip=True,
            progress=False,
            config=MiniConfig(image_size=size),
        ).seconds
    finally:
        torch.set_num_threads(threads)
    counts = np.bincount(images.labels[zoo.parts["pool"]], minlength=images.n_classes)
    form = zoo.settings["imbalance_factor"], zoo.settings["profile"]
    head, _ = head_count(counts, member.order, *form)
    per_member = profile_counts(images.n_classes, head, *form).sum()
    rounds = -(-len(zoo.members) // jobs)
    return seconds / n * per_member * recipe.epochs * rounds
