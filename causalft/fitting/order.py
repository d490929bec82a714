"""Which classes come first in a resampled tail: by chance, as they are, or against what a stratum was trained on."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from causalft.datasets.longtail import draw_longtail
from causalft.datasets.orders import PRIOR_ORDERS, order_against
from causalft.datasets.splits import Splits
from causalft.errors import CausalFTError
from causalft.estimators.members import pick_device, zero_shot_logits
from causalft.fitting.settings import FitSettings
from causalft.priors import estimate_prior
from causalft.strata.encoder import frozen_encoder
from causalft.strata.features import FeatureCache, cached_features
from causalft.strata.prompt_templates import text_weights
from causalft.strata.zoo import MiniZoo, Zoo, open_zoo
from causalft.tuning.processes import is_main_process, join_processes

__all__ = ["draw_against_prior"]


def draw_against_prior(settings: FitSettings, splits: Splits, seed: int) -> Splits:
    """Draw the training part to a long tail whose order stands against the label prior of a stratum.

    The prior is the true one where the card of a mini has all classes, else GLA's estimate from zero-shot logits on the
    validation images. These are cut before the tail is drawn, and no label of a training or test image is used.

    Parameters
    ----------
    settings : FitSettings
        With an ``order`` of :data:`causalft.datasets.orders.PRIOR_ORDERS` and an ``imbalance_factor``.
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
    zoo = open_zoo(
        settings.zoo_name, settings.weights, offline=settings.offline, allow_pickle=settings.allow_pickle
    )
    zoo.check(name)
    prior = _true_prior(zoo, name, splits.class_names)
    kind = "true"
    if prior is None:
        prior, kind = _estimated_prior(settings, zoo, name, splits), "estimated"
    order = order_against(prior, settings.order, settings.split_seed)
    train = draw_longtail(
        splits.train,
        imbalance_factor=settings.imbalance_factor,
        seed=seed,
        profile=settings.profile,
        order=order,
    )
    names = tuple(splits.class_names[k] for k in order)
    against = {"consistency": "that of", "reverse": "the reverse of", "balance": "uncorrelated with"}
    note = f"the order of the long tail is {against[settings.order]} the {kind} label prior of {name}"
    return Splits(
        train=train,
        validation=splits.validation,
        test=splits.test,
        order=names,
        duplicates=splits.duplicates,
        notes=(*splits.notes, note),
    )


def _true_prior(zoo: Zoo, name: str, class_names: tuple[str, ...]) -> NDArray[np.float64] | None:
    """What the card of a mini says of these classes, or None."""
    if not isinstance(zoo, MiniZoo):
        return None
    card = zoo.card(name)
    known = dict(zip(card.class_names, card.prior, strict=True))
    if any(label not in known for label in class_names):
        return None
    return np.array([known[label] for label in class_names])


def _estimated_prior(settings: FitSettings, zoo: Zoo, name: str, splits: Splits) -> NDArray[np.float64]:
    """GLA's estimate, with the features that the fit will ask for again."""
    device = pick_device(settings.device)
    stratum = zoo.load(name, device=device)
    if not stratum.has_text:
        raise CausalFTError(
            f"{name} has no text tower, so it has no zero-shot label prior to order the classes by; name another "
            "stratum with --order-by"
        )
    encode, precision = frozen_encoder(stratum, settings.tuning.precision)
    cache = FeatureCache() if settings.cache and is_main_process() else None
    features = cached_features(cache, stratum, splits.validation, encode=encode, precision=precision)
    weights = text_weights(stratum, list(splits.class_names), settings.tuning.template).float().cpu().numpy()
    logits = zero_shot_logits(stratum.logit_scale, weights, features)
    found = torch.from_numpy(estimate_prior(logits, splits.validation.labels).prior.copy()).to(device)
    join_processes(device).copy_from_main([found])  # one order for all, whatever the last bit says
    return found.cpu().numpy()
