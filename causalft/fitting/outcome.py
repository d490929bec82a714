"""What a run found: fused probabilities, the diagnosis, the metrics document and the table of predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from causalft.analysis.diagnosis import Diagnosis, diagnose
from causalft.analysis.diagnosis.classes import ClassReport, worst_classes
from causalft.data.groups import balancing_weights, class_accuracy, group_accuracy, prior_groups
from causalft.data.splits import Splits
from causalft.fitting.data import data_document
from causalft.fitting.gla_ft import gla_members, gla_scores
from causalft.fitting.scores import mean_class_accuracy
from causalft.fitting.settings import FitSettings
from causalft.methods.adaptation.prediction import MemberPrediction
from causalft.methods.estimators.mixing import Mixing, fit_mixing
from causalft.methods.priors import debias, kl_divergence, rank_correlation
from causalft.runs.folder import Run, atomic_path

__all__ = ["class_reports", "diagnose_run", "fuse_seeds", "write_predictions"]


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
