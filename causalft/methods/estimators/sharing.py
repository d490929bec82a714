"""Strata that learn from unlabelled images together: what all of them believe makes the pseudo-labels of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.data.groups import balancing_weights
from causalft.data.splits import Splits
from causalft.methods.adaptation.settings import Tuning
from causalft.methods.adaptation.tuned import TunedStratum
from causalft.methods.estimators.fusion import nll
from causalft.methods.estimators.member_prediction import MemberPrediction
from causalft.methods.estimators.together import Together, fit_together
from causalft.methods.semi.tune import Supervision, tune_semi
from causalft.models.features.cache import FeatureCache
from causalft.models.features.encoder import Crops
from causalft.models.strata.zoo import Zoo
from causalft.runs.documents import Document

__all__ = ["fit_sharing"]


def fit_sharing(
    splits: Splits,
    names: Sequence[str],
    zoo: Zoo,
    tuning: Tuning,
    supervision: Supervision,
    *,
    learning_rates: tuple[float, ...] = (),
    known_priors: Mapping[str, ArrayLike] | None = None,
    device: str = "auto",
    folder: Path | None = None,
    cache: FeatureCache | None = None,
    log_dir: Path | None = None,
    progress: bool | None = None,
) -> tuple[dict[str, MemberPrediction], dict[str, TunedStratum]]:
    """Tune strata by a semi-supervised method with shared pseudo-labels, and predict validation and test images.

    Each stratum has its own tuner, heads and losses; only the beliefs about the unlabelled images are averaged. So each
    is a posterior of its own, to be fused like any other.

    Parameters
    ----------
    splits, zoo, tuning, learning_rates, known_priors, device, folder, cache, log_dir, progress
        As in :func:`causalft.methods.estimators.joint.fit_joint`; of several learning rates the one with the lowest
        mean validation risk of the strata is kept.
    names : sequence of str
        Strata of the zoo; ``clip#1`` is ``clip`` again, with another seed.
    supervision : Supervision

    Raises
    ------
    CausalFTError
        As :func:`causalft.methods.semi.tune.tune_semi`; for a folder made with other settings.
    """
    labels = splits.validation.labels
    balance = balancing_weights(labels, len(splits.train.class_names))
    made_with: Document = {"semi": {**supervision.identity, "strata": list(names)}}

    unlabelled: list[Crops] = []  # read once for all learning rates

    def tune(strata: Any, crops: Any, class_names: Any, tunings: Any, **options: Any) -> Any:
        if not unlabelled:
            unlabelled.extend(
                Crops(supervision.unlabelled.images, each, progress=progress) for each in strata
            )
        tuned, _, counted = tune_semi(strata, crops, unlabelled, class_names, tunings, supervision, **options)
        return tuned, {"pseudo_labels": counted}

    def risk(logits: Sequence[NDArray[Any]]) -> float:
        return float(np.mean([nll(each, labels, balance, kind="logits") for each in logits]))

    return fit_together(
        splits,
        names,
        zoo,
        tuning,
        Together("sharing", made_with, tune, risk),
        learning_rates=learning_rates,
        known_priors=known_priors,
        device=device,
        folder=folder,
        cache=cache,
        log_dir=log_dir,
        progress=progress,
    )
