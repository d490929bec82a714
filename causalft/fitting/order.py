"""Which classes come first in a resampled tail: by chance, as they are, or against what a stratum was trained on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from causalft.data.image_set import ImageSet
from causalft.data.longtail import Order, draw_longtail
from causalft.data.orders import PRIOR_ORDERS, order_against
from causalft.data.splits import Splits
from causalft.errors import CausalFTError
from causalft.fitting.settings import FitSettings
from causalft.methods.adaptation.members import pick_device
from causalft.methods.adaptation.zero_shot import encode_zero_shot
from causalft.methods.priors import prior_on_validation
from causalft.models.features.cache import FeatureCache
from causalft.models.strata.zoo import MiniZoo, Zoo
from causalft.models.tuning.processes import is_main_process, join_processes

__all__ = ["draw_against_prior", "draw_tail"]


def draw_against_prior(settings: FitSettings, splits: Splits, seed: int) -> Splits:
    """Draw the training part to a long tail whose order stands against the label prior of a stratum.

    The prior is the true one where the card of a mini has all classes, else GLA's estimate from zero-shot logits on the
    validation images. These are cut before the tail is drawn, and no label of a training or test image is used.

    Parameters
    ----------
    settings : FitSettings
        With an ``order`` of :data:`causalft.data.orders.PRIOR_ORDERS` and an ``imbalance_factor``.
    splits : Splits
        The whole training part, validation and test.
    seed : int
        Draws the images of each class. The order is decided by ``split_seed``: it is the same for all repetitions.

    Raises
    ------
    CausalFTError
        If the zoo has no such stratum, or one without a text tower, whose prior cannot be estimated zero-shot.
    """
    assert settings.order in PRIOR_ORDERS and settings.imbalance_factor is not None
    name = settings.order_by or settings.strata[0]
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
    train = draw_tail(settings, splits.train, order, seed)
    return replace(splits, train=train, order=names, notes=(*splits.notes, note))


def draw_tail(settings: FitSettings, train: ImageSet, order: Order, seed: int) -> ImageSet:
    """Draw training images to the long tail of the settings, with the classes in this order."""
    assert settings.imbalance_factor is not None
    return draw_longtail(
        train,
        imbalance_factor=settings.imbalance_factor,
        seed=seed,
        profile=settings.profile,
        order=order,
    )


def _estimated_prior(settings: FitSettings, zoo: Zoo, name: str, splits: Splits) -> NDArray[np.float64]:
    """GLA's estimate, with the features that the fit will ask for again."""
    device = pick_device(settings.device)
    stratum = zoo.load(name, device=device)
    if not stratum.has_text:
        raise CausalFTError(
            f"{name} has no text tower, so it has no zero-shot label prior to order the classes by; name another "
            "stratum with --order-by"
        )
    cache = FeatureCache() if settings.cache and is_main_process() else None
    zero_shot = encode_zero_shot(
        stratum, splits.class_names, settings.tuning, [splits.validation], cache=cache
    )
    (logits,) = zero_shot.logits
    found = torch.from_numpy(prior_on_validation(logits, splits.validation.labels).prior.copy()).to(device)
    join_processes(device).copy_from_main([found])  # one order for all, whatever the last bit says
    return found.cpu().numpy()
