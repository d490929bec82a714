"""Answers of a run's members and fusions to the test images: one pass over the stored logits, in blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalft.analysis.diagnosis.answers import Answers
from causalft.data.groups import balancing_weights
from causalft.data.image_set import decode_threads
from causalft.data.splits import Splits
from causalft.methods.estimators.adjustment import Adjusting, Adjustment, fit_fusion
from causalft.methods.estimators.fusion import LOGIT
from causalft.methods.estimators.member import MemberPrediction
from causalft.methods.estimators.mixing import Mixing
from causalft.methods.estimators.probabilities import MemberRows
from causalft.methods.estimators.settings import FitSettings
from causalft.methods.estimators.stored_logits import row_blocks
from causalft.methods.priors.target_law import target_law
from causalft.runs.progress import named

__all__ = ["Fusion", "RunAnswers", "answer_test_images", "fit_fusions"]

Members = Mapping[str, Sequence[MemberPrediction]]
"""Name to the predictions of S seeds."""


@named("fitting the fusion")
def fit_fusions(
    settings: FitSettings,
    splits: Splits,
    members: Members,
    prior: tuple[float, ...] | str | None,
    others: Members | None = None,
    unlabeled: Mapping[str, Sequence[NDArray[Any]]] | None = None,
) -> Fusion:
    """Fit the fusion of each seed on the validation images.

    Parameters
    ----------
    settings : FitSettings
    splits : Splits
    members : mapping of str to sequence of MemberPrediction
    prior : sequence of float, or str, optional
        P(c).
    others : mapping of str to sequence of MemberPrediction, optional
        Models with other label priors, where the members share one (:class:`~.adjustment.Adjusting`).
    unlabeled : mapping of str to sequence of (m, K) arrays, optional
        Logits of images without labels, of members and others, one array per seed.
    """
    law = target_law(settings.target_law, splits.train.class_names)
    labels, n_classes = splits.validation.labels, splits.validation.n_classes
    found = []
    for number in range(settings.n_seeds):
        of_seed = [each[number] for each in members.values()]
        adjusting = Adjusting(
            [member.gla_prior for member in of_seed],
            splits.train.class_counts,
            unlabeled=[unlabeled[name][number] for name in members] if unlabeled else None,
            target_law=law,
            others=_logits_of(others, number, unlabeled) if others else None,
            tolerance=settings.tolerance,
        )
        found.append(
            fit_fusion(
                [member.validation_logits for member in of_seed],
                labels,
                adjusting,
                fusion=settings.fusion,
                stratum_prior=prior,
                calibrate_strata=settings.calibrate_strata,
                seed=settings.seed + number,
                weights=balancing_weights(labels, n_classes),
                kind="logits",
            )
        )
    return Fusion(members, [mixing for mixing, _ in found], [chosen for _, chosen in found if chosen])


def _logits_of(
    models: Members, number: int, unlabeled: Mapping[str, Sequence[NDArray[Any]]] | None
) -> list[NDArray[Any]]:
    """Logits of the images that choose a strength, of one seed."""
    if unlabeled:
        return [unlabeled[name][number] for name in models]
    return [found[number].validation_logits for found in models.values()]


@dataclass(frozen=True)
class Fusion:
    """Members that are fused, and how, for S seeds; with an adjusted fusion, what was chosen."""

    members: Members
    mixings: Sequence[Mixing]
    adjustments: Sequence[Adjustment] = ()


@dataclass(frozen=True)
class RunAnswers:
    """Answers to the test images.

    Attributes
    ----------
    members, controls : dict of str to Answers
    fused : Answers
    logit_mean : Answers
        Of the mean of the strata's log-probabilities.
    control_fused : Answers, optional
    with_gla : dict of str to Answers
        Of GLA-FT of the strata, where it is defined.
    gla_fused : Answers, optional
    """

    members: dict[str, Answers]
    fused: Answers
    logit_mean: Answers
    controls: dict[str, Answers]
    control_fused: Answers | None
    with_gla: dict[str, Answers]
    gla_fused: Answers | None


@named("reading the logits of all members")
def answer_test_images(
    labels: NDArray[np.int64],
    strata: Fusion,
    control: Fusion | None = None,
    gla: Fusion | None = None,
) -> RunAnswers:
    """Read the logits of all members once, a block of rows at a time, and keep the answers.

    Parameters
    ----------
    labels : (n,) array of int in [0, K)
    strata, control, gla : Fusion
        The strata, the control, and the strata with GLA-FT.
    """
    first = next(iter(strata.members.values()))
    n, n_classes = first[0].test_logits.shape
    groups = [fusion for fusion in (strata, control, gla) if fusion is not None]
    each = [{name: Answers.empty(len(first), n) for name in fusion.members} for fusion in groups]
    fused = [Answers.empty(len(first), n) for _ in groups]
    logit_mean = Answers.empty(len(first), n)
    weights = np.array(strata.mixings[0].stratum_prior)

    def answer(seed: int, rows: slice) -> None:
        known: dict[int, NDArray[np.float64]] = {}  # the control and the strata may share a member
        for fusion, answers, mixed in zip(groups, each, fused, strict=True):
            found = []
            for name, predictions in fusion.members.items():
                prediction = predictions[seed]
                if id(prediction) not in known:
                    known[id(prediction)] = MemberRows(prediction.test_logits, "logits", name)[rows]
                found.append(known[id(prediction)])
                answers[name].put(seed, rows, np.exp(found[-1]), labels)
            log_p = np.stack(found)
            mixed.put(seed, rows, fusion.mixings[seed].of_log_probabilities(log_p), labels)
            if fusion is strata:
                logit_mean.put(seed, rows, LOGIT.fuse(log_p, weights), labels)

    with ThreadPoolExecutor(decode_threads()) as pool:  # NumPy lets go of the lock within a block
        for seed in range(len(first)):
            list(pool.map(lambda rows, seed=seed: answer(seed, rows), row_blocks(n, n_classes)))
    # `groups` lacks what was not given
    rest = iter(zip(each[1:], fused[1:], strict=True))
    controls, control_fused = next(rest) if control is not None else ({}, None)
    with_gla, gla_fused = next(rest) if gla is not None else ({}, None)
    return RunAnswers(each[0], fused[0], logit_mean, controls, control_fused, with_gla, gla_fused)
