"""Long-tailed semi-supervised learning with several strata: those that share their pseudo-labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from causalft.methods.adaptation.tuned import TunedStratum
    from causalft.methods.estimators.member import MemberPrediction
    from experiments.frame.lab import Lab
    from experiments.frame.members import Member

__all__ = ["EPOCHS", "LAWS", "SHARED", "rare_precision", "shared", "shared_strata"]

LAWS = ("consistent", "uniform", "reversed")

EPOCHS = 0.7
"""Of the recipe: an epoch shows every unlabelled image and as many labelled ones, drawn with replacement, so labelled
images are shown about as often as in a supervised training, in batches of one size."""

SHARED = "shared pseudo-labels, mixture"
"""Rule: the members learn together from pseudo-labels that are common to all, and their mixture answers."""


def _share(
    lab: Lab, members: Sequence[Member], seed: int
) -> tuple[dict[str, MemberPrediction], dict[str, TunedStratum]]:
    """The members, tuned with shared pseudo-labels; tuned now if they are not yet.

    Raises
    ------
    CausalFTError
        As :func:`causalft.methods.estimators.sharing.fit_sharing`.
    """
    from causalft.methods.estimators.sharing import fit_sharing
    from experiments.frame.lab import supervised

    settings, first = lab.world.settings, members[0]
    splits = lab.world.splits(seed, first.draw)
    assert first.semi is not None
    supervision = supervised(replace(first.semi, share_labels=True), splits)
    assert supervision is not None
    with lab.together(members, seed, f"shared-{first.method}-{first.draw.law}") as folder:
        return fit_sharing(
            splits,
            [member.name for member in members],
            lab.world.zoo,
            first.tuning(settings.tuning, seed),
            supervision,
            device=settings.device,
            folder=folder,
        )


def shared_strata(lab: Lab, members: Sequence[Member], seed: int) -> dict[str, TunedStratum]:
    """The tuned members that share their pseudo-labels."""
    return _share(lab, members, seed)[1]


def shared(lab: Lab, members: Sequence[Member], seed: int) -> NDArray[np.float64]:
    """Probabilities (n, K) of the test images: the mixture of members with shared pseudo-labels."""
    found, _ = _share(lab, members, seed)
    return np.mean([prediction.test_probs for prediction in found.values()], axis=0)


def rare_precision(lab: Lab, members: Sequence[Member], draws: int = 500) -> dict[str, Any]:
    """How many pseudo-labels of D-few classes are right, at equal count: of each stratum alone, and of the shared ones.

    Unlabelled images are ranked by the probability of their most probable class, among those for which that class is
    rare; as many of the first are taken of both as the single stratum names rare ones, halved.

    Parameters
    ----------
    lab : Lab
    members : sequence of Member
        Strata with one method and draw.
    draws : int
        Bootstrap draws over unlabelled images, in each seed.

    Returns
    -------
    dict
        ``shared``, ``best single`` (by validation accuracy) and ``difference``, each ``{estimate, ci95}``; ``n``.
    """
    from causalft.data.groups import data_groups
    from causalft.models.features.encoder import Crops

    found = []
    rng = np.random.default_rng(0)
    counts = []
    for seed in range(lab.seeds):
        splits = lab.world.splits(seed, members[0].draw)
        assert splits.unlabelled is not None and splits.unlabelled.hidden is not None
        few = data_groups(splits.train.class_counts) == "few"
        hidden, images = splits.unlabelled.hidden, splits.unlabelled.images

        def probabilities(tuned: Any, images: Any = images) -> NDArray[np.float64]:
            from scipy.special import softmax

            return softmax(tuned.logits(Crops(images, tuned.stratum, progress=False)).astype(float), axis=1)

        alone = [lab.tuned(member, seed) for member in members]
        labels = splits.validation.labels
        right = [(np.asarray(p.validation_logits).argmax(1) == labels).mean() for p, _ in alone]
        single = probabilities(alone[int(np.argmax(right))][1])
        together = np.mean(
            [probabilities(tuned) for tuned in shared_strata(lab, members, seed).values()], axis=0
        )
        n = max(1, int(few[single.argmax(1)].sum()) // 2)
        counts.append(n)
        rows = [np.arange(len(hidden)), *(rng.integers(len(hidden), size=len(hidden)) for _ in range(draws))]
        found.append(
            [[_right_of_first(p[drawn], hidden[drawn], few, n) for p in (together, single)] for drawn in rows]
        )
    values = np.mean(found, axis=0)  # (1 + draws, 2)

    def interval(of: NDArray[np.float64]) -> dict[str, Any]:
        return {"estimate": float(of[0]), "ci95": np.quantile(of[1:], [0.025, 0.975]).tolist()}

    return {
        "shared": interval(values[:, 0]),
        "best single": interval(values[:, 1]),
        "difference": interval(values[:, 0] - values[:, 1]),
        "n": float(np.mean(counts)),
    }


def _right_of_first(
    p: NDArray[np.float64], hidden: NDArray[np.int64], few: NDArray[np.bool_], n: int
) -> float:
    """Share of right ones among the n surest images whose most probable class is rare."""
    best = p.argmax(axis=1)
    rare = np.flatnonzero(few[best])
    first = rare[np.argsort(-p[rare, best[rare]], kind="stable")[:n]]
    return float((best[first] == hidden[first]).mean()) if len(first) else 0.0
