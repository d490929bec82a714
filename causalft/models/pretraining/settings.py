"""The settings of ``zoo pretrain`` and ``zoo pretrain-diffusion``. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from causalft.data.settings import split_size
from causalft.runs import limits
from causalft.runs.settings import documented, nested, setting

__all__ = ["DEFAULT_VIEWS", "DiffusionSettings", "PhotoZooSettings", "PretrainSettings", "PretrainingLoss"]

PretrainingLoss = Literal["caption-bank", "in-batch"]

DEFAULT_VIEWS = {"clip": "upper", "openclip": "lower", "metaclip": "grey"}
"""Members pre-trained on images, and the view of each."""


@documented()
@dataclass(frozen=True)
class PhotoZooSettings:
    """How minis are pre-trained on images.

    Attributes
    ----------
    {settings}
    """

    n_control_seeds: int = setting(
        0,
        "Additional pre-training seeds of the first stratum.",
        option="--control-seeds",
        limits=limits.CONTROL_SEEDS,
        noun="control seeds",
    )
    wide: bool = setting(
        False,
        "Also pre-train a larger copy of the first stratum, NAME-wide, at the cost per image of three minis.",
    )
    pool_fraction: float = setting(0.5, "Share of each class used for pre-training.", limits=limits.SHARE)
    n_validation: int | str = split_size("validation", "a tenth", 50)
    n_test: int | str = split_size("test", "a fifth", 1000)
    imbalance_factor: float = setting(
        100.0,
        "Imbalance factor of each pre-training prior.",
        limits=limits.IMBALANCE_FACTOR,
        noun="imbalance factor",
    )
    profile: str = setting(
        "exponential", "Shape of each pre-training prior.", choices=("exponential", "zipf")
    )
    view_share: float = setting(
        0.8, "Share of images seen through the view.", limits=limits.SHARE, noun="view share"
    )
    image_size: int = setting(32, "Image side in pixels.", limits=limits.IMAGE_SIZE, noun="image size")
    epochs: int | None = setting(
        None,
        "Default: 20 on images (400 steps if these are more), 6 on the part world.",
        limits=limits.EPOCHS,
    )
    loss: PretrainingLoss = setting(
        "caption-bank",
        "caption-bank leaves the class prior in the logits; in-batch (CLIP's own) cancels it.",
        choices=get_args(PretrainingLoss),
    )
    order_seed: int = setting(
        0, "Seed of the search for uncorrelated class orders.", limits=limits.SEED, noun="order seed"
    )
    order_seeds: tuple[int, ...] = setting(
        (),
        "One permutation seed per stratum, as in 3,5,8, instead of the search.",
        usual="",
        limits=limits.SEED,
        noun="order seed",
    )
    seed: int = setting(0, "Seed of the splits and members.", limits=limits.SEED)


@dataclass(frozen=True)
class PretrainSettings:
    """The options of ``zoo pretrain``: on images, or on the part world without ``data``."""

    data: str | None = setting(
        None, "A folder with one folder per class, or a zip of one. Default: the part world.", metavar="PATH"
    )
    members: tuple[str, ...] = setting(
        (),
        "A stratum and its incomplete view: upper, lower, left, right, grey, full, or package.module:function. "
        "With the part world: the name of a member of the embedded zoo. Repeat for each.",
        option="--member",
        metavar="NAME=VIEW",
        usual="",
        repeated=True,
    )
    photos: PhotoZooSettings = nested(PhotoZooSettings)
    n_images: int = setting(30_000, "Images per member (part world).", limits=limits.PICTURES)
    jobs: int | None = setting(
        None, "Members at a time, one thread each. Default: one per usable processor.", limits=limits.JOBS
    )


@dataclass(frozen=True)
class DiffusionSettings:
    """The options of ``zoo pretrain-diffusion``; None is the value of the shipped pipeline."""

    seed: int = setting(0, "Seed of images, captions, weights and noise.", limits=limits.SEED)
    steps_vae: int | None = setting(
        None,
        "Steps of the autoencoder. Default: as for the shipped pipeline.",
        limits=limits.TRAINING_STEPS,
    )
    steps_decoder: int | None = setting(
        None, "Further steps of its decoder. Default: likewise.", limits=limits.TRAINING_STEPS
    )
    steps_unet: int | None = setting(
        None,
        "Steps of text encoder and U-Net. Default: as for the shipped pipeline.",
        limits=limits.TRAINING_STEPS,
    )
    size: int = setting(32, "Image side in pixels; a multiple of 8.", limits=limits.PICTURE_SIZE)
    n_per_cell: int | None = setting(
        None, "Images per class and part. Default: 2000.", limits=limits.PICTURES_PER_CLASS
    )
