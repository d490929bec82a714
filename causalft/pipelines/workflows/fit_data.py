"""Splits of a fit: opened or drawn, cut, and resampled to a long tail, with unlabelled images beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from causalft.data.creatures import creatures_longtail, creatures_ltssl
from causalft.data.groups import imbalance_factor
from causalft.data.image_set import ImageSet
from causalft.data.longtail import Order, draw_longtail, order_against
from causalft.data.opening import open_images
from causalft.data.protocol import draw_protocol
from causalft.data.settings import UnlabelledOptions
from causalft.data.splits import Splits, cut_splits
from causalft.data.summary import plan_of
from causalft.data.tails import PRIOR_ORDERS
from causalft.errors import CausalFTError
from causalft.methods.adaptation.tune import encode_zero_shot
from causalft.methods.estimators import FUSIONS
from causalft.methods.estimators.member import pick_device
from causalft.methods.estimators.settings import FitSettings
from causalft.methods.priors import prior_on_validation
from causalft.models.features.cache import FeatureCache
from causalft.models.pretraining.leakage import downstream_order, downstream_splits
from causalft.models.strata.zoo import MiniZoo, Zoo, has_manifest
from causalft.models.tuning.processes import join_processes
from causalft.runs.limits import BUILT_IN, CREATURES, CREATURES_LTSSL

__all__ = [
    "check_words",
    "data_document",
    "draw_against_prior",
    "draw_tail",
    "draws_tail",
    "load_splits",
    "open_data",
    "unlabelled_options",
]


def draw_against_prior(settings: FitSettings, splits: Splits, seed: int) -> Splits:
    """Resample the training part to a long tail ordered by the label prior of a stratum.

    The prior is the known one if the settings have a file of it, the true one if the card of a mini has all classes,
    else GLA's estimate from zero-shot logits on validation images; no label of a training or test image is used.

    Parameters
    ----------
    settings : FitSettings
        With an ``order`` of :data:`causalft.data.tails.PRIOR_ORDERS` and a draw to a long tail.
    splits : Splits
        Complete training part, validation and test.
    seed : int
        Draws the images of each class; ``split_seed`` fixes the order for all repetitions.

    Raises
    ------
    CausalFTError
        If the stratum is unknown, or has no text tower, or the known prior lacks a class.
    """
    assert settings.order in PRIOR_ORDERS and draws_tail(settings)
    name = settings.order_by or settings.strata[0]
    prior, kind = _known_prior(settings, name, splits), "known"
    if prior is None:
        zoo = settings.open_zoo()
        zoo.check(name)
        prior = zoo.card(name).prior_of(splits.class_names) if isinstance(zoo, MiniZoo) else None
        kind = "true"
        if prior is None:
            prior, kind = _estimated_prior(settings, zoo, name, splits), "estimated"
    order = order_against(prior, settings.order, settings.split_seed)
    names = tuple(splits.class_names[k] for k in order)
    against = {"consistency": "that of", "reverse": "the reverse of", "balance": "uncorrelated with"}
    note = f"the order of the long tail is {against[settings.order]} the {kind} label prior of {name}"
    drawn = draw_tail(settings, splits, order, seed)
    return replace(drawn, order=names, notes=(*splits.notes, note))


def unlabelled_options(settings: FitSettings) -> UnlabelledOptions:
    """The draw of labelled and unlabelled images, as given, and how strictly the latter are compared."""
    return UnlabelledOptions(**settings.unlabelled_options)


def draws_tail(settings: FitSettings) -> bool:
    """Whether the training images are drawn to a long tail."""
    return settings.imbalance_factor is not None or unlabelled_options(settings).draws


def draw_tail(settings: FitSettings, splits: Splits, order: Order, seed: int) -> Splits:
    """Resample the training part to the long tail of the settings, classes in this order.

    With ``--labeled-per-class`` few of its images are drawn, and unlabelled ones beside them.
    """
    options = unlabelled_options(settings)
    if options.draws:
        train, unlabelled = draw_protocol(splits.train, options, seed=seed, order=order)
        return replace(splits, train=train, unlabelled=unlabelled)
    assert settings.imbalance_factor is not None
    train = draw_longtail(
        splits.train,
        imbalance_factor=settings.imbalance_factor,
        seed=seed,
        profile=settings.profile,
        order=order,
    )
    return replace(splits, train=train)


def _known_prior(settings: FitSettings, name: str, splits: Splits) -> NDArray[np.float64] | None:
    """The prior that a file gives; None without one."""
    if name not in settings.prior_files.prior_of:
        return None
    known = settings.prior_files.read(settings.prior_names, splits.class_names)[name]
    return known.require_all(splits.class_names, "the order of the long tail")


def _estimated_prior(settings: FitSettings, zoo: Zoo, name: str, splits: Splits) -> NDArray[np.float64]:
    """GLA's estimate, from features that the fit reuses."""
    device = pick_device(settings.device)
    stratum = zoo.load(name, device=device)
    if not stratum.has_text:
        raise CausalFTError(
            f"{name} has no text tower, so it has no zero-shot label prior to order the classes by; name another "
            "stratum with --order-by"
        )
    cache = FeatureCache() if settings.cache else None
    zero_shot = encode_zero_shot(
        stratum, splits.class_names, settings.tuning, [splits.validation], cache=cache
    )
    (logits,) = zero_shot.logits
    found = torch.from_numpy(prior_on_validation(logits, splits.validation.labels).prior.copy())
    join_processes(device).copy_from_main([found])  # one order for all processes, whatever the last bit
    return found.numpy()


def open_data(settings: FitSettings) -> ImageSet:
    """Open the images of the settings, which are not the built-in ones."""
    return open_images(settings.data, drop_empty_classes=settings.drop_empty_classes, **settings.data_options)


def load_splits(settings: FitSettings, seed: int, images: ImageSet | None = None) -> Splits:
    """Return train, validation and test of the settings' data for one seed.

    Images that members of the zoo were pre-trained on are left out. Notes say what the sizes leave uncertain.

    Parameters
    ----------
    settings : FitSettings
    seed : int
    images : ImageSet, optional
        What `open_data` gave, if the data are open already.

    Raises
    ------
    CausalFTError
        If the data cannot be opened or cut, or validation or test images are missing.
    """
    splits = _load(settings, seed, images)
    notes = splits.notes
    why = "the label priors and the temperature need some"
    if FUSIONS[settings.fusion].adjusts:
        why = (
            "the label priors, the temperature and the pool of the adjusted fusion need some (--unlabeled PATH can "
            "choose its strength, where they are few)"
        )
    _check_part(settings, splits.validation, "validation", why)
    if _against_prior(settings):
        splits = draw_against_prior(settings, splits, seed)
    _check_part(settings, splits.test, "test", "the diagnosis needs some")
    if settings.data in BUILT_IN:
        return splits
    return replace(splits, notes=(*notes, *plan_of(splits).sentences, *splits.notes[len(notes) :]))


def check_words(settings: FitSettings, class_names: Sequence[str]) -> None:
    """Refuse classes that a mini has no words for, before any image is read.

    Raises
    ------
    CausalFTError
    """
    zoo, template = settings.open_zoo(), settings.tuning.template
    if isinstance(zoo, MiniZoo) and "{}" in template:
        for name in settings.strata:
            zoo.check_words(name, [template.replace("{}", each.replace("_", " ")) for each in class_names])


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
    """Whether the tail is ordered by a label prior, and so drawn after validation images are cut."""
    return settings.order in PRIOR_ORDERS and draws_tail(settings) and settings.data not in BUILT_IN


def _load(settings: FitSettings, seed: int, images: ImageSet | None) -> Splits:
    options = unlabelled_options(settings)
    options.check(settings.data, settings.unlabeled, settings.imbalance_factor)
    if settings.data == CREATURES_LTSSL:
        return creatures_ltssl(options, seed=seed)
    if settings.data == CREATURES:
        factor = 100.0 if settings.imbalance_factor is None else settings.imbalance_factor
        return creatures_longtail(imbalance_factor=factor, seed=seed)
    images = open_data(settings) if images is None else images
    if settings.zoo is not None and has_manifest(settings.zoo):
        found = downstream_splits(
            Path(settings.zoo),
            images,
            imbalance_factor=None if _against_prior(settings) else settings.imbalance_factor,
            profile=settings.profile,
            seed=seed,
        )
        if not options.draws or _against_prior(settings):
            return found
        return draw_tail(settings, found, downstream_order(settings.zoo), seed)
    cut = cut_splits(
        images,
        n_validation=settings.n_validation,
        n_test=settings.n_test,
        seed=settings.split_seed,
        imbalance_factor=None,
        drop_empty_classes=settings.drop_empty_classes,
    )
    if not draws_tail(settings) or _against_prior(settings):
        return cut
    order: Order = settings.order
    if order == "random":
        # one order of classes for all seeds
        order = list(np.random.default_rng(settings.split_seed).permutation(cut.train.n_classes))
    return draw_tail(settings, cut, order, seed)


def data_document(settings: FitSettings, splits: Splits) -> dict[str, Any]:
    """Return the entry ``data`` of ``metrics.json``."""
    return {
        "name": settings.data,
        "n_train": len(splits.train),
        "n_validation": len(splits.validation),
        "n_test": len(splits.test),
        "fingerprint": splits.train.fingerprint,
        "imbalance_factor": imbalance_factor(splits.train.class_counts),
        "notes": list(splits.notes),
    }
