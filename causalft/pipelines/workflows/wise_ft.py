"""The work of ``causalft wise-ft``: evaluate a fitted run between its initial and its tuned weights."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from scipy.special import softmax
from torch import Tensor

from causalft.analysis.diagnosis.intervals import Interval, bootstrap
from causalft.data.groups import balancing_weights
from causalft.data.splits import Splits
from causalft.errors import CausalFTError
from causalft.methods.adaptation.settings import Tuning
from causalft.methods.adaptation.tune import start_of_head
from causalft.methods.adaptation.tuned import TunedStratum, Untouched, tuning_as_saved
from causalft.methods.estimators.adjustment import Adjusting, fit_fusion
from causalft.methods.estimators.fusion import nll
from causalft.methods.estimators.member import pick_device
from causalft.methods.estimators.run_documents import PREDICTIONS, stratum_folder
from causalft.methods.estimators.settings import FitSettings
from causalft.methods.priors.target_law import target_law
from causalft.models.features.encoder import Crops
from causalft.models.strata.zoo import Zoo
from causalft.models.tuning.interpolation import evaluate_interpolations
from causalft.pipelines.pages.wise_ft import write_wise_ft_report
from causalft.pipelines.workflows.fit_data import load_splits
from causalft.pipelines.workflows.outcome import doubts, mean_class_accuracy, score_correct
from causalft.runs.folder import Run
from causalft.runs.lifecycle import new_run

__all__ = ["ALPHAS", "check_alphas", "wise_ft_curve"]

ALPHAS: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True)
class _Line:
    """Logits of one stratum, alpha -> (validation, test) arrays (n, K), and deviations from the run at both ends."""

    logits: dict[float, tuple[NDArray[np.float64], NDArray[np.float64]]]
    start_difference: float | None
    end_difference: float | None


def check_alphas(alphas: Sequence[float]) -> tuple[float, ...]:
    """Return the sorted grid without duplicates, with both ends.

    Raises
    ------
    CausalFTError
        For a number outside [0, 1].

    Examples
    --------
    >>> check_alphas([0.5, 0.25, 0.5])
    (0.0, 0.25, 0.5, 1.0)
    """
    for alpha in alphas:
        if not 0 <= alpha <= 1:
            raise CausalFTError(
                f"alpha {alpha:g} is not from 0 (where training started) to 1 (the tuned weights)"
            )
    return tuple(sorted({0.0, 1.0, *map(float, alphas)}))


def wise_ft_curve(
    run: Run,
    alphas: Sequence[float] = ALPHAS,
    out: str | os.PathLike[str] | None = None,
    *,
    command: str = "causalft wise-ft",
    device: str = "auto",
    progress: bool | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Evaluate a run on the line ``(1 - alpha) * start + alpha * tuned`` and return the metrics document.

    The start is reconstructed: the pre-trained tower, adapters drawn with the run's seed, the head of ``head_start``.
    Alpha maximises the mean class accuracy on validation images (ties: lower risk), per stratum, and in common for the
    fusion, whose P(c) and temperature are fitted at every alpha as in ``fit``. Test images choose nothing.

    Parameters
    ----------
    run : Run
        A complete ``fit`` run; its first seed is evaluated.
    alphas : sequence of float
        In [0, 1]; both ends are added.
    out : path, optional
        Folder for ``metrics.json``, the figure and the page.
    command : str
        Command shown on the page for repeating the run.
    device : str
    progress : bool, optional
    say : callable
        Called with a line per step.

    Raises
    ------
    CausalFTError
        If nothing was tuned, the run was itself interpolated, or its images or backbones are missing or changed.

    References
    ----------
    Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022.
    """
    grid = check_alphas(alphas)
    with new_run(out, "wise-ft") as new:
        new.create({"run": os.path.abspath(run.path), "alphas": grid})
        found = _curves(run, grid, device, progress, say)
        return new.finish(found, lambda kept, metrics: write_wise_ft_report(kept, metrics, command))


def _curves(
    run: Run, grid: tuple[float, ...], device: str, progress: bool | None, say: Callable[[str], None]
) -> dict[str, Any]:
    settings = FitSettings.from_config(run.config)
    tuning = replace(settings.tuning, seed=settings.seed)
    _check_run(run, tuning)
    zoo = settings.open_zoo()
    splits = load_splits(settings, settings.seed)
    for number, (what, images) in enumerate(
        (("training", splits.train), ("validation", splits.validation), ("test", splits.test))
    ):
        needed = what != "training" or tuning.head_start != "text"
        if needed and images.fingerprint != run.config["data_fingerprint"][number]:
            raise CausalFTError(
                f"the {what} images of {settings.data} have changed since {run.path} was fitted; restore them"
            )
    say(f"data     {settings.data}: {len(splits.validation)} validation, {len(splits.test)} test")
    lines = {}
    for name in settings.strata:
        say(f"stratum  {name}, {len(grid)} points from start to tuned")
        lines[name] = _line(run, zoo, name, tuning, splits, grid, device, progress)
    document: dict[str, Any] = {
        "run": str(run.path),
        "zoo": settings.zoo_name,
        "weights": {name: run.metrics["weights"][name] for name in settings.strata},
        "data": {
            "name": settings.data,
            "n_validation": len(splits.validation),
            "n_test": len(splits.test),
            "fingerprint": splits.train.fingerprint,
        },
        "tuner": tuning.tuner,
        "alphas": list(grid),
        "strata": {},
    }
    for name, line in lines.items():
        found = {
            alpha: (softmax(validation, axis=1), softmax(test, axis=1))
            for alpha, (validation, test) in line.logits.items()
        }
        document["strata"][name] = {
            **_curve(found, splits, settings.seed),
            "start_difference": line.start_difference,
            "end_difference": line.end_difference,
        }
    priors = [_gla_prior(run.metrics["strata"][name]) for name in lines]
    fused = {alpha: _fuse(settings, lines, splits, dict.fromkeys(lines, alpha), priors) for alpha in grid}
    document["fused"] = _curve({alpha: found[:2] for alpha, found in fused.items()}, splits, settings.seed)
    chosen = document["fused"]["chosen"]
    predicted = fused[chosen][1].argmax(1)
    document["no_conclusion"] = doubts(
        "the fusion",
        score_correct((predicted == splits.test.labels)[None], splits, settings.seed),
        predicted,
        splits.test,
        temperatures=[fused[chosen][2]],
    )
    own = {name: found["chosen"] for name, found in document["strata"].items()}
    _, test, _ = _fuse(settings, lines, splits, own, priors)
    right = test.argmax(1) == splits.test.labels
    scores = score_correct(right[None], splits, settings.seed)
    document["fused_at_own_alphas"] = {"alphas": own, **scores.to_metrics()}
    return document


def _check_run(run: Run, tuning: Tuning) -> None:
    if tuning.trains_nothing:
        raise CausalFTError(f"{run.path} tuned nothing (--tuner zero-shot), so there is no line to walk")
    if tuning.wise_ft < 1:
        raise CausalFTError(
            f"{run.path} was fitted with --wise-ft {tuning.wise_ft:g}: what it keeps is that far along the line "
            "already; fit it without"
        )


def _line(
    run: Run,
    zoo: Zoo,
    name: str,
    tuning: Tuning,
    splits: Splits,
    grid: tuple[float, ...],
    device: str,
    progress: bool | None,
) -> _Line:
    """Reconstruct the start, read the end, and predict in between."""
    stratum = zoo.load(name, device=pick_device(device))
    if stratum.sha256 != run.metrics["weights"][name]:
        raise CausalFTError(
            f"{run.path} was fitted with other weights of {name!r}; restore them or fit again"
        )
    crops = Crops(splits.train, stratum, progress=progress) if tuning.head_start != "text" else None
    weight = start_of_head(stratum, crops, list(splits.class_names), tuning)
    folder = stratum_folder(run.path, name)
    tuned = TunedStratum(stratum, weight, tuning_as_saved(folder, tuning))
    start = tuned.trained_state()
    end = tuned.load(folder).requires_grad_(False).trained_state()
    if run.config.get("gla"):  # added at every alpha, not interpolated
        tuned.untouched = Untouched.load(stratum, folder, len(splits.class_names), tuning.precision)
    parts = [Crops(part, stratum, progress=progress) for part in (splits.validation, splits.test)]

    def predict(state: dict[str, Tensor]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        tuned.load_trained_state(state)
        return tuned.logits(parts[0]).astype(float), tuned.logits(parts[1]).astype(float)

    logits = dict(evaluate_interpolations(start, end, predict, grid))
    kept = _kept(folder / PREDICTIONS)
    start_difference = None
    of_text = tuning.head_start == "text" and tuning.head in ("cosine", "l2") and "vpt" not in tuning.tuner
    if of_text and tuned.untouched is None:
        # the zero-shot model, at the temperature of the head
        start_difference = _difference(
            kept.get("zero_shot_validation"), logits[0.0][0], tuning.head_scale / stratum.logit_scale
        )
    return _Line(logits, start_difference, _difference(kept.get("validation_logits"), logits[1.0][0]))


def _kept(path: Any) -> dict[str, NDArray[np.float64]]:
    """Validation logits stored in the run; a pulled run has none."""
    try:
        with safe_open(path, framework="np") as file:
            wanted = {"zero_shot_validation", "validation_logits"} & set(file.keys())
            return {name: file.get_tensor(name).astype(float) for name in wanted}
    except (OSError, SafetensorError):
        return {}


def _difference(
    kept: NDArray[np.float64] | None, found: NDArray[np.float64], factor: float = 1.0
) -> float | None:
    """Largest difference from the stored validation probabilities; None where there are none."""
    if kept is None or kept.shape != found.shape:
        return None
    return float(np.abs(softmax(factor * kept, axis=1) - softmax(found, axis=1)).max())


def _gla_prior(stratum: dict[str, Any]) -> list[float]:
    """The label prior of a stratum over all classes: the known one, or the estimate where a class is not known."""
    known: list[float] = stratum["label_prior"]
    return stratum["estimated_label_prior"] if None in known else known


def _fuse(
    settings: FitSettings,
    lines: dict[str, _Line],
    splits: Splits,
    alphas: dict[str, float],
    priors: Sequence[Sequence[float]],
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Validation and test probabilities of the fusion, and its temperature, fitted on validation images."""
    validation, test = (
        [softmax(line.logits[alphas[name]][part], axis=1) for name, line in lines.items()] for part in (0, 1)
    )
    mixing, _ = fit_fusion(
        validation,
        splits.validation.labels,
        Adjusting(
            priors,
            splits.train.class_counts,
            target_law=target_law(settings.target_law, splits.class_names),
            tolerance=settings.tolerance,
        ),
        fusion=settings.fusion,
        stratum_prior=settings.stratum_prior,
        calibrate_strata=settings.calibrate_strata,
        seed=settings.seed,
        weights=balancing_weights(splits.validation.labels, splits.validation.n_classes),
    )
    return mixing(validation), mixing(test), mixing.temperature


def _curve(
    found: dict[float, tuple[NDArray[np.float64], NDArray[np.float64]]], splits: Splits, seed: int
) -> dict[str, Any]:
    """Scores at every alpha, the alpha chosen on validation images, and its gain on test images."""
    labels, rows = splits.validation.labels, []
    balance = balancing_weights(labels, splits.validation.n_classes)
    right = {alpha: test.argmax(1) == splits.test.labels for alpha, (_, test) in found.items()}
    for alpha, (validation, _) in found.items():
        rows.append(
            {
                "alpha": alpha,
                "validation_accuracy": mean_class_accuracy(validation.argmax(1), splits.validation),
                "validation_nll": nll(validation, labels, balance, kind="probabilities"),
                **score_correct(right[alpha][None], splits, seed).to_metrics(),
            }
        )
    best = max(rows, key=lambda row: (row["validation_accuracy"], -row["validation_nll"]))
    tested = splits.test.class_counts > 0
    share = tested / tested.sum()
    both = np.stack([right[best["alpha"]], right[1.0]])[:, None]
    gain = bootstrap(
        lambda accuracy: {"gain": np.nan_to_num(accuracy[:, 0] - accuracy[:, 1]) @ share},
        both,
        splits.test.labels,
        splits.test.n_classes,
        seed=seed,
    )["gain"]
    if best["alpha"] == 1:
        gain = Interval.none("validation chose the tuned weights themselves", 0.0)
    return {"curve": rows, "chosen": best["alpha"], "chosen_minus_tuned": gain.to_json()}
