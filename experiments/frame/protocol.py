"""The draws of long-tailed semi-supervised learning: few labelled images, and unlabelled ones of a law."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from causalft.data.settings import UnlabelledOptions
    from causalft.data.splits import Splits

__all__ = ["protocol_splits"]

_GAMMA = 20.0


def protocol_splits(
    usual: Splits, balanced: Splits, seed: int, law: str, *, built_in: bool, first_seed: int = 0
) -> Splits:
    """Few labelled and many unlabelled images; validation and test images are those of the scale.

    Of creatures 50 labelled images of the largest class, 60 unlabelled ones, both 20 times those of the smallest; of
    photographs a twentieth and a fifth of a class. A uniform law has as many unlabelled images in all.

    Parameters
    ----------
    usual : Splits
        Of the scale: the order of its classes.
    balanced : Splits
        All images, to draw from.
    seed : int
        The labelled images depend on it alone.
    law : str
        As :attr:`experiments.frame.members.Draw.law`.
    built_in : bool
        Creatures are drawn anew.
    first_seed : int
        As :attr:`experiments.frame.members.Draw.first_seed`: as many further test images of creatures, if it is not 0.
    """
    from causalft.data.creatures import creatures_ltssl, creatures_unlabelled
    from causalft.data.protocol import draw_protocol

    if built_in:
        options = _options(50, 60, law, usual.train.n_classes)
        found = creatures_ltssl(options, seed=first_seed + seed, unlabelled=law != "none")
        if not first_seed:
            return found
        return replace(found, test=creatures_unlabelled(len(usual.test), seed=first_seed))
    pool = balanced.train
    least = int(pool.class_counts.min())
    options = _options(max(20, least // 20), least // 5, law, pool.n_classes)
    rank = [int(k) for k in np.argsort(-usual.train.class_counts, kind="stable")]
    labelled, unlabelled = draw_protocol(pool, options, seed=first_seed + seed, order=rank)
    return replace(balanced, train=labelled, unlabelled=unlabelled)


def _options(n_labelled: int, n_unlabelled: int, law: str, n_classes: int) -> UnlabelledOptions:
    from causalft.data.protocol import unlabelled_counts
    from causalft.data.settings import UnlabelledOptions

    if law == "none":
        return UnlabelledOptions(labeled_per_class=n_labelled, gamma_l=_GAMMA)
    if law == "uniform":
        in_all = unlabelled_counts(n_classes, n_unlabelled, _GAMMA, "consistent").sum()
        n_unlabelled = max(1, round(in_all / n_classes))
    return UnlabelledOptions(
        labeled_per_class=n_labelled,
        unlabeled_per_class=n_unlabelled,
        gamma_l=_GAMMA,
        gamma_u=1.0 if law == "uniform" else _GAMMA,
        unlabeled_order=law,
    )
