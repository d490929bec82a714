"""The data of a run: built in, the user's own, or what a zoo pre-trained on the same images left aside."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from causalft.data.creatures import NAME as CREATURES
from causalft.data.creatures import creatures_longtail
from causalft.data.groups import imbalance_factor
from causalft.data.image_set import ImageSet
from causalft.data.longtail import Order
from causalft.data.orders import PRIOR_ORDERS
from causalft.data.overview import plan_of
from causalft.data.sources import open_images
from causalft.data.splits import Splits, cut_splits
from causalft.errors import CausalFTError
from causalft.fitting.order import draw_against_prior, draw_tail
from causalft.fitting.settings import FitSettings
from causalft.models.pretraining.photo_zoo import downstream_splits
from causalft.models.strata.leakage import MANIFEST

__all__ = ["data_document", "load_splits"]


def load_splits(settings: FitSettings, seed: int) -> Splits:
    """Return train, validation and test of the settings' data for one seed.

    With a zoo that was pre-trained on the same images, the images its members saw are left out. What the sizes leave
    uncertain stands in the notes.

    Raises
    ------
    CausalFTError
        If the data cannot be opened or cut, or there is no validation or no test image.
    """
    splits = _load(settings, seed)
    notes = splits.notes
    _check_part(settings, splits.validation, "validation", "the label priors and the temperature need some")
    if _against_prior(settings):
        splits = draw_against_prior(settings, splits, seed)
    _check_part(settings, splits.test, "test", "the diagnosis needs some")
    if settings.data == CREATURES:
        return splits
    return replace(splits, notes=(*notes, *plan_of(splits).sentences, *splits.notes[len(notes) :]))


def _check_part(settings: FitSettings, part: ImageSet, name: str, why: str) -> None:
    if len(part):
        return
    what = f"there is no {name} image"
    if name == "validation":
        what = f"class {part.class_names[0]!r} has no validation image, nor has any other,"
    start = f"{what} in {settings.data}; {why}: give "
    end = f" 1 or more or auto, or add some to the {name} split"
    raise CausalFTError(f"{start}n_{name}{end}", on_command_line=f"{start}--n-{name}{end}")


def _against_prior(settings: FitSettings) -> bool:
    """Whether the tail is ordered by what a stratum was trained on: it is drawn last, when validation is there."""
    wanted = settings.order in PRIOR_ORDERS and settings.imbalance_factor is not None
    return wanted and settings.data != CREATURES


def _load(settings: FitSettings, seed: int) -> Splits:
    if settings.data == CREATURES:
        factor = 100.0 if settings.imbalance_factor is None else settings.imbalance_factor
        return creatures_longtail(imbalance_factor=factor, seed=seed)
    images = open_images(
        settings.data, drop_empty_classes=settings.drop_empty_classes, **settings.data_options
    )
    if settings.zoo is not None and (Path(settings.zoo) / MANIFEST).exists():
        return downstream_splits(
            Path(settings.zoo),
            images,
            imbalance_factor=None if _against_prior(settings) else settings.imbalance_factor,
            profile=settings.profile,
            seed=seed,
        )
    cut = cut_splits(
        images,
        n_validation=settings.n_validation,
        n_test=settings.n_test,
        seed=settings.split_seed,
        imbalance_factor=None,
        drop_empty_classes=settings.drop_empty_classes,
    )
    if settings.imbalance_factor is None or _against_prior(settings):
        return cut
    order: Order = settings.order
    if order == "random":
        # One order for all seeds: the classes of the tail do not change between repetitions.
        order = list(np.random.default_rng(settings.split_seed).permutation(cut.train.n_classes))
    return replace(cut, train=draw_tail(settings, cut.train, order, seed))


def data_document(settings: FitSettings, splits: Splits) -> dict[str, Any]:
    """What ``metrics.json`` says of the data."""
    return {
        "name": settings.data,
        "n_train": len(splits.train),
        "n_validation": len(splits.validation),
        "n_test": len(splits.test),
        "fingerprint": splits.train.fingerprint,
        "imbalance_factor": imbalance_factor(splits.train.class_counts),
        "notes": list(splits.notes),
    }
