"""Results of a fit: fusion, diagnosis, scores of every member, and the document of metrics.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.analysis.before_training.spread import Spread, spread_of_accuracy
from causalft.analysis.diagnosis import Diagnosis
from causalft.analysis.diagnosis.answers import predicted_classes
from causalft.analysis.diagnosis.classes import ClassReport, report_worst
from causalft.analysis.diagnosis.diagnose import diagnose_answers
from causalft.analysis.diagnosis.intervals import Interval, bootstrap
from causalft.analysis.diagnosis.no_conclusion import facts_of, reasons
from causalft.analysis.diagnosis.parameter_imbalance import group_vectors
from causalft.analysis.diagnosis.scores import GLAScores, ZeroShotScores, score_gla, score_zero_shot
from causalft.data.groups import (
    GROUPS,
    class_accuracy,
    data_groups,
)
from causalft.data.image_set import ImageSet
from causalft.data.splits import Splits
from causalft.methods.estimators.adjustment import Adjustment
from causalft.methods.estimators.member import MemberPrediction, gla_members
from causalft.methods.estimators.mixing import Mixing
from causalft.methods.estimators.settings import FitSettings
from causalft.methods.priors import PriorComparison, compare_priors
from causalft.methods.priors.compare import comparison_line
from causalft.methods.priors.known import KnownPrior
from causalft.pipelines.workflows.answering import (
    RunAnswers,
    answer_test_images,
    fit_fusions,
)
from causalft.pipelines.workflows.fit_data import data_document
from causalft.runs.documents import Document

__all__ = [
    "FitOutcome",
    "Scores",
    "class_reports",
    "diagnose_run",
    "doubts",
    "mean_class_accuracy",
    "with_caveat_of_joint",
    "score_correct",
]


@dataclass(frozen=True)
class Scores:
    """Test accuracy of one classifier, with 95 % intervals over images (within class) and seeds.

    Attributes
    ----------
    accuracy : Interval
        Fraction of correct images.
    class_mean : Interval
        Mean over classes with test images.
    D : dict of str to Interval
        The same by group of training count; without an estimate if the group has no test image.
    """

    accuracy: Interval
    class_mean: Interval
    D: dict[str, Interval]

    def to_metrics(self) -> Document:
        """Return the entries of ``metrics.json``; null, with a reason, for a group without test images."""
        return {
            "accuracy": self.accuracy.estimate,
            "ci95": self.accuracy.ci95,
            "mean_class_accuracy": self.class_mean.estimate,
            "mean_class_ci95": self.class_mean.ci95,
            "D": {group: found.estimate if found.exists else None for group, found in self.D.items()},
            "D_ci95": {group: found.ci95 for group, found in self.D.items()},
            "reasons": {"D": {group: _NO_IMAGE for group, found in self.D.items() if not found.exists}},
        }


_NO_IMAGE = "no class of the group has a test image"


def score_correct(right: NDArray[np.bool_], splits: Splits, seed: int) -> Scores:
    """Score predictions of the test images.

    Parameters
    ----------
    right : (n_seeds, n_test) array of bool
    splits : Splits
        Training counts define the groups.
    seed : int
        Seed of the bootstrap.
    """
    tested = splits.test.class_counts > 0
    vectors = np.concatenate(
        [
            splits.test.class_counts[None] / len(splits.test),
            tested[None] / tested.sum(),
            group_vectors(data_groups(splits.train.class_counts), tested),
        ]
    )

    def statistics(products: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        return dict(zip(("accuracy", "class mean", *GROUPS), np.moveaxis(products[:, 0], -1, 0), strict=True))

    found = bootstrap(
        statistics, right[None], splits.test.labels, splits.test.n_classes, vectors=vectors, seed=seed
    )
    return Scores(found["accuracy"], found["class mean"], {group: found[group] for group in GROUPS})


def mean_class_accuracy(predicted: NDArray[Any], images: ImageSet) -> float:
    """Mean class accuracy, so that choices do not favour head classes."""
    return float(np.nanmean(class_accuracy(predicted == images.labels, images.labels, images.n_classes)))


def doubts(
    name: str,
    scores: Scores,
    predicted: ArrayLike,
    test: ImageSet,
    *,
    temperatures: Sequence[float] = (),
) -> list[str]:
    """Return reasons against a conclusion on one classifier (:mod:`causalft.analysis.diagnosis.no_conclusion`).

    Parameters
    ----------
    name : str
        Its name in a sentence.
    scores : Scores
        Test scores.
    predicted : (n,) or (S, n) array of int in [0, K)
        Predicted classes of the test images.
    test : ImageSet
    temperatures : sequence of float
        Its fitted temperatures.
    """
    facts = facts_of(
        name, predicted, test.labels, test.n_classes, scores.class_mean, temperatures=temperatures
    )
    return list(reasons([facts]))


@dataclass(frozen=True)
class FitOutcome:
    """Results of a fit.

    Attributes
    ----------
    settings : FitSettings
    splits : Splits
        Splits of the first seed.
    members, controls : dict of str to list of MemberPrediction
        One per seed.
    diagnosis : Diagnosis
    answers : RunAnswers
        To the test images, of every member and fusion.
    mixings : tuple of Mixing
        Fusion of each seed; the first is saved.
    adjustments : tuple of Adjustment
        What an adjusted fusion chose, for each seed.
    validation_accuracy : dict of str to float
        Mean over classes and seeds, per stratum.
    zero_shot : dict of str to ZeroShotScores
    gla : GLAScores, optional
        Scores of GLA-FT, if it can be computed from the strata.
    spread : Spread
        Where the class accuracies of the tuned strata differ.
    known : mapping of str to KnownPrior
        Known priors of strata that a file gives.
    """

    settings: FitSettings
    splits: Splits
    members: dict[str, list[MemberPrediction]]
    controls: dict[str, list[MemberPrediction]]
    diagnosis: Diagnosis
    answers: RunAnswers
    mixings: tuple[Mixing, ...]
    validation_accuracy: dict[str, float]
    zero_shot: dict[str, ZeroShotScores]
    gla: GLAScores | None
    spread: Spread
    known: Mapping[str, KnownPrior] = field(default_factory=dict)
    adjustments: tuple[Adjustment, ...] = ()

    def compared_prior(self, name: str) -> tuple[NDArray[np.float64], PriorComparison] | None:
        """The known prior of a stratum, (K,), and the estimate beside it: of a file, else of the card of a mini."""
        first = self.members[name][0]
        known = first.true_prior if first.known_prior is None else first.known_prior
        return None if known is None else (known, compare_priors(known, first.prior))

    def prior_lines(self) -> list[str]:
        """A line on each known prior of a file, with the estimate beside it."""
        return [
            comparison_line(name, found[1], gla=not np.isnan(found[0]).any())
            for name in self.known
            if (found := self.compared_prior(name)) is not None
        ]

    def to_metrics(self) -> Document:
        """Return the document of ``metrics.json``, without time and worst classes."""
        settings, train = self.settings, self.splits.train
        everyone = {**self.members, **self.controls}
        metrics: Document = {
            "zoo": settings.zoo_name,
            "weights": {name: found[0].sha256 for name, found in everyone.items()},
            "sources": {name: found[0].source for name, found in everyone.items()},
            "data": data_document(settings, self.splits),
            "classes": list(train.class_names),
            **self.diagnosis.to_metrics(),
            "class_counts": dict(zip(train.class_names, train.class_counts.tolist(), strict=True)),
        }
        metrics["fused"]["temperature"] = self.mixings[0].temperature  # of the saved classifier
        metrics["mixing"] = self.mixings[0].to_metrics()
        if self.adjustments:
            metrics["adjustment"] = self.adjustments[0].to_json()
            metrics["adjustment"]["strengths"] = [each.strength for each in self.adjustments]
        for name in self.members:
            metrics["strata"][name].update(self._stratum(name))
        if self.gla is not None:
            metrics["fused"]["gla_ft"] = self.gla.fused.to_metrics()
        metrics["spread"] = self.spread.to_json()
        metrics["seeds"] = list(range(settings.seed, settings.seed + settings.n_seeds))
        return metrics

    def _stratum(self, name: str) -> Document:
        first = self.members[name][0]
        found: Document = {
            "zero_shot": asdict(self.zero_shot[name]),
            "validation_accuracy": self.validation_accuracy[name],
            "lr": first.lr,
            "n_tuned": first.n_tuned,
            "precision": first.precision,
            "zero_shot_from": first.anchors,
            "pretraining_loss": first.pretraining_loss,
            "gla": first.gla,
            "seconds": first.seconds,
        }
        compared = self.compared_prior(name)
        if compared is not None:
            known, comparison = compared
            found |= {
                "prior_spearman": comparison.spearman,
                "prior_kl": comparison.kl,
                "true_label_prior": [None if np.isnan(value) else float(value) for value in known],
                "prior_groups": comparison.group_counts,
            }
        if name in self.known:
            prior = self.known[name]
            found |= {
                "estimated_label_prior": first.prior.prior.tolist(),
                "gla_prior_from": "known" if prior.known.all() else "estimated",
                "zero_shot_by_estimate": asdict(
                    score_zero_shot(self.splits.test.labels, first.zero_shot_test, first.prior.prior)
                ),
                "known_prior": {
                    "source": prior.source,
                    "sha256": prior.sha256,
                    "notes": prior.notes(self.splits.class_names),
                },
            }
        if self.gla is not None:
            found["gla_ft"] = self.gla.strata[name].to_metrics()
        return found


def diagnose_run(
    settings: FitSettings,
    splits: Splits,
    members: dict[str, list[MemberPrediction]],
    controls: dict[str, list[MemberPrediction]],
    control_kind: str | None = None,
    known: Mapping[str, KnownPrior] | None = None,
    unlabeled: Mapping[str, Sequence[NDArray[Any]]] | None = None,
    unlabeled_of_controls: Mapping[str, Sequence[NDArray[Any]]] | None = None,
) -> FitOutcome:
    """Fuse, diagnose and score all seeds.

    ``control_kind`` is what differs between members of the control: "pre-training" or "tuning". ``known`` are the
    priors of files that the members were given, ``unlabeled`` the logits (m, K) of the strata on images without labels,
    one array per seed, which choose the strength of an adjusted fusion; ``unlabeled_of_controls`` those of members of
    the control that are no strata, or are trained in another company.
    """
    strata = fit_fusions(settings, splits, members, settings.stratum_prior, unlabeled=unlabeled)
    # P(c) weighs strata; seeds of one model are exchangeable
    control = None
    if controls:
        others = {name: found for name, found in members.items() if name not in controls}
        answered = {**(unlabeled or {}), **(unlabeled_of_controls or {})}
        control = fit_fusions(settings, splits, controls, None, others, answered)
    adjusted = gla_members(settings.tuning, splits.train.class_counts, members)
    gla = None
    if adjusted:
        gla = fit_fusions(settings, splits, adjusted, settings.stratum_prior)
    answers = answer_test_images(splits.test.labels, strata, control, gla)
    control_groups = {}
    if answers.control_fused is not None:
        control_groups["seeds"] = {
            "members": answers.controls,
            "fused": answers.control_fused,
            "prior_of": next(iter(controls)),
            "kind": control_kind,
        }
    validation_accuracy = {
        name: float(
            np.mean(
                [
                    mean_class_accuracy(predicted_classes(m.validation_logits), splits.validation)
                    for m in found
                ]
            )
        )
        for name, found in members.items()
    }
    priors = {name: found[0].label_prior for name, found in members.items()}
    diagnosis = diagnose_answers(
        splits.test.labels,
        splits.train.class_counts,
        answers.members,
        answers.fused,
        answers.logit_mean,
        priors,
        prior_from=dict.fromkeys(known or {}, "known"),
        controls=control_groups,
        fusion=settings.fusion,
        stratum_prior=strata.mixings[0].stratum_prior,
        temperature=[mixing.temperature for mixing in strata.mixings],
        best_single=max(validation_accuracy, key=lambda name: validation_accuracy[name]),
        seed=settings.seed,
    )
    diagnosis = with_caveat_of_joint(diagnosis, settings)
    gla_scores = None
    if answers.gla_fused is not None:
        gla_scores = score_gla(
            splits.test.labels,
            splits.train.class_counts,
            {name: found.predicted for name, found in answers.members.items()},
            answers.fused.predicted,
            {name: found.predicted for name, found in answers.with_gla.items()},
            answers.gla_fused.predicted,
            priors,
            seed=settings.seed,
        )
    return FitOutcome(
        settings=settings,
        splits=splits,
        members=members,
        controls=controls,
        diagnosis=diagnosis,
        answers=answers,
        mixings=tuple(strata.mixings),
        adjustments=tuple(strata.adjustments),
        validation_accuracy=validation_accuracy,
        zero_shot={
            name: score_zero_shot(
                splits.test.labels,
                found[0].zero_shot_test,
                found[0].label_prior,
                gla_prior=found[0].gla_prior,
            )
            for name, found in members.items()
        },
        gla=gla_scores,
        spread=spread_of_accuracy(
            np.stack([found.right(splits.test.labels).mean(axis=0) for found in answers.members.values()]),
            splits.test.labels,
            np.stack([priors[name] for name in answers.members]),
            splits.train.class_counts,
            seed=settings.seed,
        ),
        known=dict(known or {}),
    )


def with_caveat_of_joint(diagnosis: Diagnosis, settings: FitSettings) -> Diagnosis:
    """Add to the conclusion what strata that were tuned together are not."""
    if not settings.joint or len(settings.strata) == 1:
        return diagnosis
    caveat = (
        "The strata were tuned together: only their fusion was fitted to the labels, so its gains over single strata "
        "say little. Compare it with a fit without --joint."
    )
    return replace(diagnosis, sentences=(*diagnosis.sentences, caveat))


def class_reports(outcome: FitOutcome) -> list[ClassReport]:
    """Return the worst classes of the fusion, compared with the best single stratum."""
    splits, best = outcome.splits, outcome.diagnosis.best_single
    return report_worst(
        splits.test.labels,
        splits.test.class_names,
        splits.train.class_counts,
        outcome.answers.fused,
        {name: found[0].label_prior for name, found in outcome.members.items()},
        single=outcome.answers.members[best].predicted,
        zero_shot=predicted_classes(outcome.members[best][0].zero_shot_test)[None],
        train_labels=splits.train.labels,
    )
