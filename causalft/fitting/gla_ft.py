"""What GLA-FT would make of a run: debiased zero-shot logits added to the tuned ones, without another forward pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.analysis.diagnosis.intervals import bootstrap
from causalft.data.groups import class_accuracy, data_groups, group_accuracy, prior_groups
from causalft.data.splits import Splits
from causalft.errors import CausalFTError
from causalft.methods.adaptation.prediction import MemberPrediction
from causalft.methods.adaptation.settings import Tuning
from causalft.methods.adaptation.zero_shot import prior_left_in_logits
from causalft.methods.estimators.gla import gla_finetuned

__all__ = ["gla_members", "gla_scores"]

Members = Mapping[str, Sequence[MemberPrediction]]


def gla_members(
    tuning: Tuning, class_counts: ArrayLike, members: Members
) -> dict[str, list[MemberPrediction]]:
    """Return the members with GLA-FT (:func:`causalft.methods.estimators.gla.gla_finetuned`) in the place of tuned logits.

    None at all where it cannot be made of them (:func:`causalft.methods.adaptation.zero_shot.check_gla`), where they have it
    already, or where a prior must be taken out that is 0 for a class.
    """
    try:
        left = prior_left_in_logits(tuning, class_counts)
    except CausalFTError:
        return {}
    if any(m.gla for found in members.values() for m in found) or (left is not None and left.min() == 0):
        return {}

    def adjusted(m: MemberPrediction) -> MemberPrediction:
        return replace(
            m,
            validation_logits=gla_finetuned(m.zero_shot_validation, m.validation_logits, m.prior.prior, left),
            test_logits=gla_finetuned(m.zero_shot_test, m.test_logits, m.prior.prior, left),
        )

    return {name: [adjusted(m) for m in found] for name, found in members.items()}


def gla_scores(
    splits: Splits,
    members: Members,
    fused: NDArray[np.float64],
    adjusted: Members,
    adjusted_fused: NDArray[np.float64],
    *,
    seed: int = 0,
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Score GLA-FT beside the tuned strata and beside their fusion, on the test images, all seeds.

    ``accuracy`` is the share of right images; the difference and the groups are means over the classes that have a test
    image, and so is ``mean_class_accuracy``.

    Parameters
    ----------
    splits : Splits
    members, adjusted : mapping of str to sequence of MemberPrediction
        One a seed: tuned, and with GLA-FT in the place of the tuned logits.
    fused, adjusted_fused : (S, n, K) arrays
        Their fusions.
    seed : int
        Of the bootstrap.

    Returns
    -------
    (dict, dict)
        Of each stratum, and of the fusion:
        ``{accuracy, ci95, mean_class_accuracy, mean_class_ci95, difference, D, P}``, where ``difference`` is the paired
        one to the same without GLA; ``P`` of the fusion maps each stratum to the groups by its prior.
    """
    names, labels, n_classes = list(members), splits.test.labels, splits.test.n_classes
    without = [np.stack([m.test_logits for m in members[name]]) for name in names]
    with_gla = [np.stack([m.test_logits for m in adjusted[name]]) for name in names]
    rows = [*without, fused, *with_gla, adjusted_fused]
    correct = np.stack([found.argmax(axis=-1) == labels for found in rows])
    test_counts = np.bincount(labels, minlength=n_classes)
    shares = np.stack([test_counts / len(labels), (test_counts > 0) / np.count_nonzero(test_counts)])
    half = len(rows) // 2

    def statistics(class_acc: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        of_images, mean = np.moveaxis(np.nan_to_num(class_acc) @ shares.T, -1, 0)
        return {
            "accuracy": of_images[:, half:],
            "class_mean": mean[:, half:],
            "difference": mean[:, half:] - mean[:, :half],
        }

    found = bootstrap(statistics, correct, labels, n_classes, seed=seed)
    by_class = class_accuracy(correct[half:], labels, n_classes).mean(axis=1)
    groups = {name: prior_groups(members[name][0].prior.prior) for name in names}

    def score(row: int) -> dict[str, Any]:
        accuracy, class_mean = found["accuracy"][row], found["class_mean"][row]
        return {
            "accuracy": accuracy.estimate,
            "ci95": accuracy.ci95,
            "mean_class_accuracy": class_mean.estimate,
            "mean_class_ci95": class_mean.ci95,
            "difference": found["difference"][row].to_json(),
            "D": group_accuracy(by_class[row], data_groups(splits.train.class_counts)),
        }

    strata = {
        name: {**score(row), "P": group_accuracy(by_class[row], groups[name])}
        for row, name in enumerate(names)
    }
    P = {name: group_accuracy(by_class[half - 1], of) for name, of in groups.items()}
    return strata, {**score(half - 1), "P": P}
