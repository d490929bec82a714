"""Answers that the logits of separately tuned members do not give: neighbours of features, and joint training."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from causalft.data.image_set import ImageSet
    from causalft.methods.adaptation.terms import Term
    from causalft.methods.adaptation.tuned import TunedStratum
    from causalft.methods.estimators.member import MemberPrediction
    from experiments.frame.lab import Lab
    from experiments.frame.members import Member

__all__ = [
    "ALIGNED",
    "APART",
    "DISAGREE",
    "JOINT",
    "NEIGHBOURS",
    "Joint",
    "features_of",
    "joint",
    "neighbours",
    "through",
]

NEIGHBOURS = "kNN"
"""View of a member: votes of the nearest training images under the cosine of its tuned features."""


@dataclass(frozen=True)
class Joint:
    """How members are tuned together, and who answers.

    Attributes
    ----------
    fusion : str
        Of the answers; without a term also what the loss is computed on.
    term : {"", "likeness", "alignment"}
        Of a :class:`causalft.methods.adaptation.terms.Term` of strength 1; each member then learns by its own loss.
    few : bool
        Whether the term is about P-few classes; else about all.
    alone : int, optional
        The member that answers by itself.
    """

    fusion: str
    term: str = ""
    few: bool = False
    alone: int | None = None


DISAGREE, ALIGNED = "disagreeing on P-few", "aligned on P-few"
APART = "kept apart"

JOINT = {
    "joint, mean of logits": Joint("logit"),
    "joint, mixture": Joint("mixture"),
    DISAGREE: Joint("product", "likeness", few=True),
    ALIGNED: Joint("product", "alignment", few=True),
    APART: Joint("mixture", "likeness"),
    **{f"{APART}, {place + 1}": Joint("mixture", "likeness", alone=place) for place in range(3)},
}
"""Rules: the members are tuned together. Those of one name before the comma share a training."""


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
    return through(lambda pixels: tuned.features(tuned.tokens(pixels)), tuned, images, batch_size)


def through(
    run: Callable[[Tensor], Tensor], tuned: TunedStratum, images: ImageSet, batch_size: int = 256
) -> NDArray[np.float32]:
    """What a part of a tuned model gives for normalised images, (n, ...), a batch at a time."""
    import torch

    from causalft.models.features.encoder import Crops, batches

    found = []
    with torch.inference_mode():
        for _, pixels in batches(Crops(images, tuned.stratum), batch_size):
            found.append(run(tuned.stratum.normalise(pixels)).cpu().numpy())
    return np.concatenate(found)


def joint(lab: Lab, members: Sequence[Member], rule: str, seed: int) -> Any:
    """Test logits (n, K) of strata tuned together, by the recipe of the first; tuned now if they are not yet.

    Parameters
    ----------
    lab : Lab
    members : sequence of Member
    rule : str
        In :data:`JOINT`.
    seed : int

    Raises
    ------
    CausalFTError
        As :func:`causalft.methods.estimators.joint.fit_joint`.
    """
    from causalft.methods.estimators.joint import fit_joint

    settings, first, how = lab.world.settings, members[0], JOINT[rule]
    term = _term(lab, members, how, seed)
    also = () if term is None else (json.dumps(term.document, sort_keys=True),)
    with lab.together(members, seed, f"joint-{how.term or how.fusion}", *also) as folder:
        found, _ = fit_joint(
            lab.world.splits(seed, first.draw),
            [member.name for member in members],
            lab.world.zoo,
            first.tuning(settings.tuning, seed),
            fusion=how.fusion,
            term=term,
            device=settings.device,
            folder=folder,
        )
    return found.test_logits if how.alone is None else list(found.members.values())[how.alone].test_logits


def _term(lab: Lab, members: Sequence[Member], how: Joint, seed: int) -> Term | None:
    """The term, with the classes that each member's pre-training rarely showed, by its estimated label prior."""
    from causalft.data.groups import prior_groups
    from causalft.methods.adaptation.terms import Term

    if not how.term:
        return None
    few: tuple[tuple[bool, ...], ...] = ()
    if how.few:
        priors = [lab.prediction(member, seed).label_prior for member in members]
        few = tuple(tuple((prior_groups(prior) == "few").tolist()) for prior in priors)
    return Term(how.term, 1.0, few)  # type: ignore[arg-type]
