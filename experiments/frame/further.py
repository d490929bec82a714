"""Answers that the logits of separately tuned members do not give: neighbours of features, and joint training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from causalft.data.image_set import ImageSet
    from causalft.methods.adaptation.tuned import TunedStratum
    from causalft.methods.estimators.member import MemberPrediction
    from experiments.frame.lab import Lab
    from experiments.frame.members import Member

__all__ = ["JOINT", "NEIGHBOURS", "features_of", "joint", "neighbours"]

NEIGHBOURS = "kNN"
"""View of a member: votes of the nearest training images under the cosine of its tuned features."""

JOINT = {"joint, mean of logits": "logit", "joint, mixture": "mixture"}
"""Rules: the members are tuned together by one loss on these fused logits."""


def neighbours(lab: Lab, member: Member, seed: int) -> MemberPrediction:
    """The member with its test logits replaced by votes, (n, K): 20 neighbours, as :class:`FeatureKNN` weighs them."""
    from causalft.methods.estimators.probes import FeatureKNN

    prediction, tuned = lab.tuned(member, seed)
    splits = lab.world.splits(seed, member.draw)
    model = FeatureKNN().fit(features_of(tuned, splits.train), splits.train.labels)
    votes = np.zeros((len(splits.test), splits.train.n_classes))
    votes[:, model.classes_] = model.predict_proba(features_of(tuned, splits.test))
    return replace(prediction, test_logits=votes)


def features_of(tuned: TunedStratum, images: ImageSet, batch_size: int = 256) -> NDArray[np.float32]:
    """Features of images after tuning, before the head: (n, d)."""
    import torch

    from causalft.models.features.encoder import Crops, batches

    found = []
    with torch.inference_mode():
        for _, pixels in batches(Crops(images, tuned.stratum), batch_size):
            tokens = tuned.tokens(tuned.stratum.normalise(pixels))
            found.append(tuned.features(tokens).cpu().numpy())
    return np.concatenate(found)


def joint(lab: Lab, members: Sequence[Member], fusion: str, seed: int) -> Any:
    """Test logits (n, K) of strata tuned together, by the recipe of the first; tuned now if they are not yet.

    Raises
    ------
    CausalFTError
        As :func:`causalft.methods.estimators.joint.fit_joint`.
    """
    from causalft.methods.estimators.joint import fit_joint

    settings, first = lab.world.settings, members[0]
    with lab.together(members, seed, f"joint-{fusion}") as folder:
        found, _ = fit_joint(
            lab.world.splits(seed, first.draw),
            [member.name for member in members],
            lab.world.zoo,
            first.tuning(settings.tuning, seed),
            fusion=fusion,
            device=settings.device,
            folder=folder,
        )
    return found.test_logits
