"""What a fit found: scores of every member, GLA, the fusion, doubts, and the document of metrics.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from causalft.analysis.diagnosis import Diagnosis, diagnose
from causalft.analysis.diagnosis.classes import ClassReport, worst_classes
from causalft.analysis.diagnosis.intervals import Interval, bootstrap
from causalft.analysis.diagnosis.no_conclusion import facts_of, reasons
from causalft.data.groups import (
    GROUPS,
    balancing_weights,
    class_accuracy,
    data_groups,
    group_accuracy,
    prior_groups,
)
from causalft.data.image_set import ImageSet
from causalft.data.splits import Splits
from causalft.errors import CausalFTError
from causalft.methods.adaptation.member import MemberPrediction
from causalft.methods.adaptation.settings import Tuning
from causalft.methods.estimators.gla import gla_finetuned, prior_left_in_logits
from causalft.methods.estimators.mixing import Mixing, fit_mixing
from causalft.methods.priors import debias, kl_divergence, rank_correlation
from causalft.pipelines.workflows.fit_data import data_document
from causalft.pipelines.workflows.settings import FitSettings
from causalft.runs.folder import Run, atomic_path

__all__ = [
    "class_reports",
    "diagnose_run",
    "doubts",
    "fuse_seeds",
    "gla_members",
    "gla_scores",
    "mean_class_accuracy",
    "score_correct",
    "write_predictions",
]


def score_correct(right: NDArray[np.bool_], splits: Splits, seed: int) -> dict[str, Any]:
    """Test accuracy, overall and by D group, with 95 % intervals over images (within class) and seeds.

    ``accuracy`` is the share of right images; the groups and ``mean_class_accuracy`` are means over the classes that
    have a test image.

    Parameters
    ----------
    right : (n_seeds, n_test) array of bool
    splits : Splits
        Its training counts make the groups.
    seed : int
        Of the bootstrap.

    Returns
    -------
    dict
        ``accuracy``, ``ci95``, ``mean_class_accuracy``, ``mean_class_ci95``,
        and ``D``, ``D_ci95`` by group; None for a group without a test image, which ``reasons["D"]`` then names.
    """
    groups = data_groups(splits.train.class_counts)
    tested = splits.test.class_counts > 0
    images = splits.test.class_counts / len(splits.test)

    def statistics(accuracy: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        of_class = accuracy[:, 0]
        found = {"accuracy": np.nan_to_num(of_class) @ images, "class mean": of_class[:, tested].mean(1)}
        for group in GROUPS:
            inside = tested & (groups == group)
            found[group] = of_class[:, inside].mean(1) if inside.any() else np.full(len(of_class), np.nan)
        return found

    found = bootstrap(statistics, right[None], splits.test.labels, splits.test.n_classes, seed=seed)
    exists = {group: found[group].exists for group in GROUPS}
    return {
        "accuracy": found["accuracy"].estimate,
        "ci95": found["accuracy"].ci95,
        "mean_class_accuracy": found["class mean"].estimate,
        "mean_class_ci95": found["class mean"].ci95,
        "D": {g: found[g].estimate if exists[g] else None for g in GROUPS},
        "D_ci95": {g: found[g].ci95 for g in GROUPS},
        "reasons": {"D": {g: "no class of the group has a test image" for g in GROUPS if not exists[g]}},
    }


def mean_class_accuracy(predicted: NDArray[Any], images: ImageSet) -> float:
    """Mean over the classes: a validation set need not be balanced, and a choice should not go by its head classes."""
    return float(np.nanmean(class_accuracy(predicted == images.labels, images.labels, images.n_classes)))


Members = Mapping[str, Sequence[MemberPrediction]]


def gla_members(
    tuning: Tuning, class_counts: ArrayLike, members: Members
) -> dict[str, list[MemberPrediction]]:
    """Return the members with GLA-FT (:func:`causalft.methods.estimators.gla.gla_finetuned`) in the place of
    tuned logits.

    None at all where it cannot be made of them (:func:`causalft.methods.adaptation.settings.check_gla`),
    where they have it
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


def doubts(
    name: str,
    scores: Mapping[str, Any],
    predicted: ArrayLike,
    test: ImageSet,
    *,
    temperatures: Sequence[float] = (),
) -> list[str]:
    """Reasons of :mod:`causalft.analysis.diagnosis.no_conclusion` for one classifier.

    Parameters
    ----------
    name : str
        As a sentence names it.
    scores : mapping
        ``mean_class_accuracy`` and ``mean_class_ci95`` on the test images.
    predicted : (n,) or (S, n) array of int in [0, K)
        Classes of the test images.
    test : ImageSet
    temperatures : sequence of float
        That were fitted for it.
    """
    low, high = scores["mean_class_ci95"] or (float("nan"), float("nan"))
    accuracy = Interval(scores["mean_class_accuracy"], low, high, float("nan"))
    return list(
        reasons([facts_of(name, predicted, test.labels, test.n_classes, accuracy, temperatures=temperatures)])
    )


def _stack(found: list[MemberPrediction], what: str) -> np.ndarray:
    return np.stack([getattr(prediction, what) for prediction in found])


def fuse_seeds(
    settings: FitSettings,
    splits: Splits,
    members: dict[str, list[MemberPrediction]],
    prior: tuple[float, ...] | str | None,
) -> tuple[np.ndarray, list[Mixing]]:
    """Fuse and calibrate each seed: probabilities (S, n, K), and how."""
    fused, mixings = [], []
    for number in range(settings.n_seeds):
        mixing = fit_mixing(
            [m[number].validation_probs for m in members.values()],
            splits.validation.labels,
            fusion=settings.fusion,
            stratum_prior=prior,
            calibrate_strata=settings.calibrate_strata,
            seed=settings.seed + number,
            weights=balancing_weights(splits.validation.labels, splits.validation.n_classes),
        )
        fused.append(mixing([m[number].test_probs for m in members.values()]))
        mixings.append(mixing)
    return np.stack(fused), mixings


def diagnose_run(
    settings: FitSettings,
    splits: Splits,
    members: dict[str, list[MemberPrediction]],
    controls: dict[str, list[MemberPrediction]],
    control_kind: str | None = None,
) -> tuple[dict[str, Any], Diagnosis, np.ndarray]:
    """Return the metrics document, the diagnosis, and the fused probabilities (S, n, K) of all seeds.

    ``control_kind`` says what the seeds of the control's members seeded: "pre-training" or "tuning".
    """
    fused, mixings = fuse_seeds(settings, splits, members, settings.stratum_prior)
    control_groups = {}
    if controls:
        # P(c) names strata; seeds of one model are exchangeable, so a control weighs its members alike.
        control_fused, _ = fuse_seeds(settings, splits, controls, None)
        control_groups["seeds"] = {
            "members": {name: _stack(found, "test_probs") for name, found in controls.items()},
            "fused": control_fused,
            "prior_of": next(iter(controls)),
            "kind": control_kind,
        }
    validation_accuracy = {
        name: float(
            np.mean([mean_class_accuracy(m.validation_logits.argmax(1), splits.validation) for m in found])
        )
        for name, found in members.items()
    }
    diagnosis = diagnose(
        splits.test.labels,
        splits.train.class_counts,
        {name: _stack(found, "test_probs") for name, found in members.items()},
        fused,
        {name: found[0].prior.prior for name, found in members.items()},
        controls=control_groups,
        fusion=settings.fusion,
        stratum_prior=mixings[0].stratum_prior,
        temperature=[mixing.temperature for mixing in mixings],
        best_single=max(validation_accuracy, key=lambda name: validation_accuracy[name]),
        seed=settings.seed,
    )
    classes = list(splits.train.class_names)
    everyone = {**members, **controls}
    metrics: dict[str, Any] = {
        "zoo": settings.zoo_name,
        "weights": {name: found[0].sha256 for name, found in everyone.items()},
        "sources": {name: found[0].source for name, found in everyone.items()},
        "data": data_document(settings, splits),
        "classes": classes,
        **diagnosis.to_metrics(),
        "class_counts": dict(zip(classes, splits.train.class_counts.tolist(), strict=True)),
    }
    metrics["fused"]["temperature"] = mixings[0].temperature  # of the classifier that is saved
    metrics["mixing"] = mixings[0].to_metrics()
    for name, found in members.items():
        first = found[0]
        metrics["strata"][name].update(
            zero_shot=_zero_shot(first, splits),
            validation_accuracy=validation_accuracy[name],
            lr=first.lr,
            n_tuned=first.n_tuned,
            precision=first.precision,
            zero_shot_from=first.anchors,
            pretraining_loss=first.pretraining_loss,
            gla=first.gla,
            seconds=first.seconds,
        )
        if first.true_prior is not None:
            metrics["strata"][name].update(
                prior_spearman=rank_correlation(first.prior.prior, first.true_prior),
                prior_kl=kl_divergence(first.true_prior, first.prior.prior),
                true_label_prior=first.true_prior.tolist(),
            )
    adjusted = gla_members(settings.tuning, splits.train.class_counts, members)
    if adjusted:
        gla_fused, _ = fuse_seeds(settings, splits, adjusted, settings.stratum_prior)
        of_strata, of_fused = gla_scores(splits, members, fused, adjusted, gla_fused, seed=settings.seed)
        for name, score in of_strata.items():
            metrics["strata"][name]["gla_ft"] = score
        metrics["fused"]["gla_ft"] = of_fused
    metrics["seeds"] = list(range(settings.seed, settings.seed + settings.n_seeds))
    return metrics, diagnosis, fused


def _zero_shot(found: MemberPrediction, splits: Splits) -> dict[str, Any]:
    """Before tuning: accuracy, accuracy less the estimated log prior (GLA-ZS), and accuracy by P group.

    ``accuracy`` and ``gla_accuracy`` are shares of right images; with ``mean_class`` in front, means over the classes
    that have a test image, as the groups are.
    """
    labels = splits.test.labels
    right = found.zero_shot_test.argmax(1) == labels
    debiased = debias(found.zero_shot_test, found.prior.prior).argmax(1)
    by_class = class_accuracy(right, labels, splits.test.n_classes)
    return {
        "accuracy": float(right.mean()),
        "gla_accuracy": float((debiased == labels).mean()),
        "mean_class_accuracy": mean_class_accuracy(found.zero_shot_test.argmax(1), splits.test),
        "mean_class_gla_accuracy": mean_class_accuracy(debiased, splits.test),
        "P": group_accuracy(by_class, prior_groups(found.prior.prior)),
    }


def class_reports(
    splits: Splits, members: dict[str, list[MemberPrediction]], fused: np.ndarray, best_single: str
) -> list[ClassReport]:
    """The worst classes of the fusion (S, n, K), beside the stratum that validation chose."""
    single = members[best_single]
    return worst_classes(
        splits.test.labels,
        splits.test.class_names,
        splits.train.class_counts,
        fused,
        {name: found[0].prior.prior for name, found in members.items()},
        single_probs=_stack(single, "test_probs"),
        zero_shot=single[0].zero_shot_test,
        train_labels=splits.train.labels,
    )


def write_predictions(
    run: Run, splits: Splits, members: dict[str, MemberPrediction], fused: np.ndarray
) -> None:
    """One row a test image: file, label, prediction and confidence of the fusion and of each stratum, probabilities."""
    names = np.asarray(splits.test.class_names)
    table = pd.DataFrame(
        {
            "file": splits.test.files,
            "label": names[splits.test.labels],
            "prediction": names[fused.argmax(1)],
            "probability": fused.max(1),
        }
    )
    for name, prediction in members.items():
        table[f"{name}_prediction"] = names[prediction.test_probs.argmax(1)]
        table[f"{name}_probability"] = prediction.test_probs.max(1)
    table["probabilities"] = list(fused.astype(np.float32))
    with atomic_path(run.file("predictions.parquet")) as temporary:
        table.to_parquet(temporary, index=False)
