"""The run behind ``causalft fit``: data, strata, controls, diagnosis and report, written so that it resumes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalft.datasets.creatures import NAME as CREATURES
from causalft.datasets.creatures import creatures_longtail
from causalft.datasets.longtail import Splits, cut_splits, draw_longtail
from causalft.datasets.sources import open_images
from causalft.diagnosis import Diagnosis, diagnose
from causalft.errors import CausalFTError
from causalft.estimators.fusion import apply_temperature, fit_temperature, fuse
from causalft.estimators.members import MemberPrediction, fit_member
from causalft.estimators.strata import StrataClassifier
from causalft.imbalance import class_accuracy, group_accuracy, prior_groups
from causalft.imbalance import imbalance_factor as measured_imbalance
from causalft.priors import rank_correlation
from causalft.report.diagnosis import write_fit_report
from causalft.runs import Run, atomic_path
from causalft.strata.photo_zoo import downstream_splits
from causalft.strata.tuned import Tuning
from causalft.strata.zoo import Zoo, open_zoo

__all__ = ["CONTROLS", "FitSettings", "FittedRun", "default_tuning", "run_fit"]

CONTROLS = ("none", "seeds")


@dataclass(frozen=True)
class FitSettings:
    """Everything that decides what ``fit`` does.

    Attributes
    ----------
    strata : tuple of str
    data : str
        ``creatures-lt``, a folder with one folder a class, or a zip of one.
    zoo : str, optional
        ``mini``, ``pretrained`` or a folder; by default ``mini`` for the built-in data, ``pretrained`` for any other.
    weights : dict of str to str
        Local files for the pretrained zoo.
    tuning : Tuning
    learning_rates : tuple of float
        With two or more, chosen per stratum on validation.
    fusion : {"mixture", "logit"}
    stratum_prior : tuple of float, optional
        P(c); uniform by default.
    control : {"none", "seeds"}
        The same fusion over seeds of ONE model.
    control_of : str, optional
        That model; the first stratum by default.
    imbalance_factor : float, optional
        Resample the training part to a long tail (the built-in data has 100).
    profile, order : str
        Of the resampling.
    n_validation, n_test : int
        Images a class, cut first, balanced.
    drop_empty_classes : bool
    split_seed, seed : int
        ``split_seed`` cuts validation and test; ``seed`` draws the long tail and trains.
    n_seeds : int
        Repetitions with seeds ``seed, seed + 1, ...``; the saved classifier is that of the first.
    device : str
    """

    strata: tuple[str, ...] = ("clip", "openclip", "metaclip")
    data: str = CREATURES
    zoo: str | None = None
    weights: Mapping[str, str] = field(default_factory=dict)
    tuning: Tuning = field(default_factory=Tuning)
    learning_rates: tuple[float, ...] = ()
    fusion: str = "mixture"
    stratum_prior: tuple[float, ...] | None = None
    control: str = "none"
    control_of: str | None = None
    imbalance_factor: float | None = None
    profile: str = "exponential"
    order: str = "random"
    n_validation: int = 10
    n_test: int = 50
    drop_empty_classes: bool = False
    split_seed: int = 0
    seed: int = 0
    n_seeds: int = 1
    device: str = "auto"

    @property
    def zoo_name(self) -> str:
        """The zoo in use: there is no silent fallback from one to another."""
        return self.zoo or ("mini" if self.data == CREATURES else "pretrained")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> FitSettings:
        """Return the settings of a run from its ``config.json``."""
        given = {key: value for key, value in config.items() if key != "data_fingerprint"}
        given["tuning"] = Tuning(**given["tuning"])
        for name in ("strata", "learning_rates", "stratum_prior"):
            given[name] = None if given[name] is None else tuple(given[name])
        return cls(**given)


@dataclass(frozen=True, repr=False)
class FittedRun:
    """What :func:`run_fit` gives back.

    Attributes
    ----------
    run : Run
    metrics : dict
        The document of ``metrics.json``.
    diagnosis : Diagnosis
    """

    run: Run
    metrics: dict[str, Any]
    diagnosis: Diagnosis

    def __repr__(self) -> str:
        return f"FittedRun({str(self.run.path)!r}, accuracy {100 * self.metrics['fused']['accuracy']:.1f} %)"


def data_name(data: str) -> str:
    """Return the built-in data's name as it is, any other as an absolute path."""
    return data if data == CREATURES else os.path.abspath(os.path.expanduser(data))


def default_tuning(zoo: str) -> Tuning:
    """Return the measured recipe of a zoo: minis on renders, minis on photographs, or ViT-B/16 as in the paper.

    Examples
    --------
    >>> default_tuning("mini").lr, default_tuning("pretrained").augmentation
    (0.05, 'crop-flip')
    """
    if zoo == "mini":
        return Tuning(lr=0.05, augmentation="none")
    if zoo == "pretrained":
        return Tuning(lr=0.01, augmentation="crop-flip")
    return Tuning(lr=0.05, augmentation="flip")


def load_splits(settings: FitSettings, seed: int) -> Splits:
    """Return train, validation and test of the settings' data for one seed.

    With a zoo that was pre-trained on the same images, the images its members saw are left out.
    """
    if settings.data == CREATURES:
        factor = 100.0 if settings.imbalance_factor is None else settings.imbalance_factor
        return creatures_longtail(imbalance_factor=factor, seed=seed)
    images = open_images(settings.data, drop_empty_classes=settings.drop_empty_classes)
    if settings.zoo is not None and (Path(settings.zoo) / "manifest.parquet").exists():
        return downstream_splits(
            Path(settings.zoo),
            images,
            imbalance_factor=settings.imbalance_factor,
            profile=settings.profile,
            seed=seed,
        )
    cut = cut_splits(
        images,
        n_validation=settings.n_validation,
        n_test=settings.n_test,
        seed=settings.split_seed,
        imbalance_factor=None,
        drop_empty_classes=settings.drop_empty_classes,
    )
    if settings.imbalance_factor is None:
        return cut
    order = settings.order
    if order == "random":
        # One order for all seeds: the classes of the tail do not change between repetitions.
        order = list(np.random.default_rng(settings.split_seed).permutation(cut.train.n_classes))  # type: ignore
    train = draw_longtail(
        cut.train,
        imbalance_factor=settings.imbalance_factor,
        seed=seed,
        profile=settings.profile,
        order=order,
    )
    return replace(cut, train=train)


def run_fit(
    settings: FitSettings,
    out: str | os.PathLike[str],
    *,
    progress: bool | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> FittedRun:
    """Fit, diagnose and report; the run folder holds everything, and an interrupted run goes on where it stopped.

    Parameters
    ----------
    settings : FitSettings
    out : path
    progress : bool, optional
    say : callable
        Receives a line for every step.

    Returns
    -------
    FittedRun

    Raises
    ------
    CausalFTError
        For anything wrong with the settings, the data, the weights or the folder.
    """
    started = time.perf_counter()
    # A run is repeatable from anywhere: paths are absolute in it.
    weights = {name: os.path.abspath(os.path.expanduser(file)) for name, file in settings.weights.items()}
    settings = replace(settings, data=data_name(settings.data), zoo=_zoo_path(settings.zoo), weights=weights)
    zoo = open_zoo(settings.zoo_name, settings.weights)
    control = _control_members(settings, zoo)
    if settings.n_seeds < 1:
        raise CausalFTError("at least one seed is needed")
    if settings.seed < 0 or settings.split_seed < 0:
        raise CausalFTError(f"seed {min(settings.seed, settings.split_seed)} is below 0")
    _classifier(settings, zoo, progress).check()
    splits = load_splits(settings, settings.seed)
    config = {
        **asdict(settings),
        "zoo": settings.zoo_name,
        "data_fingerprint": [part.fingerprint for part in (splits.train, splits.validation, splits.test)],
    }
    run = Run.create(out, kind="fit", config=config)
    _describe(settings, zoo, splits, say)

    members: dict[str, list[MemberPrediction]] = {name: [] for name in settings.strata}
    controls: dict[str, list[MemberPrediction]] = {name: [] for name, _ in control}
    for number in range(settings.n_seeds):
        seed = settings.seed + number
        if number:
            splits_now = load_splits(settings, seed)
            say(f"seed {seed}: {len(splits_now.train)} training images")
        else:
            splits_now = splits
        folder = run.path if number == 0 else run.path / "seeds" / str(seed)
        tuning = replace(settings.tuning, seed=seed)
        model = _classifier(settings, zoo, progress, tuning)
        model.fit(splits_now.train, validation=splits_now.validation, test=splits_now.test, folder=folder)
        for name, prediction in model.predictions_.items():
            members[name].append(prediction)
        for name, control_tuning_seed in control:
            if control_tuning_seed is None and name in model.predictions_:
                controls[name].append(model.predictions_[name])
                continue
            backbone = name.split("#")[0]
            extra = (
                tuning if control_tuning_seed is None else replace(tuning, seed=seed + control_tuning_seed)
            )
            prediction, _ = fit_member(
                splits_now,
                backbone,
                zoo,
                extra,
                learning_rates=settings.learning_rates,
                device=settings.device,
                folder=folder / "controls" / name,
                progress=progress,
            )
            controls[name].append(prediction)

    metrics, diagnosis, fused = _diagnose(settings, splits, members, controls)
    metrics["seconds"] = time.perf_counter() - started
    _write_predictions(run, splits, {name: found[0] for name, found in members.items()}, fused[0])
    write_fit_report(run, metrics)
    run.finish(metrics)
    return FittedRun(run, metrics, diagnosis)


def _classifier(
    settings: FitSettings, zoo: Zoo, progress: bool | None, tuning: Tuning | None = None
) -> StrataClassifier:
    return StrataClassifier(
        settings.strata,
        zoo=zoo,
        tuning=tuning or settings.tuning,
        learning_rates=settings.learning_rates,
        fusion=settings.fusion,
        stratum_prior=settings.stratum_prior,
        device=settings.device,
        progress=progress,
    )


def _zoo_path(zoo: str | None) -> str | None:
    return zoo if zoo in (None, "mini", "pretrained") else os.path.abspath(os.path.expanduser(zoo))


def _control_members(settings: FitSettings, zoo: Zoo) -> list[tuple[str, int | None]]:
    """Members of the one-prior control: (name, offset of the tuning seed, or None for a pre-training seed of its own).

    Where the zoo has further pre-training seeds of the model (``clip@1``), these are used; otherwise the same weights
    are tuned again with other seeds (``clip#1``).
    """
    if settings.control == "none":
        return []
    if settings.control not in CONTROLS:
        raise CausalFTError(f"unknown control {settings.control!r}; use {' or '.join(CONTROLS)}")
    if len(settings.strata) < 2:
        raise CausalFTError("the control compares a fusion with one; name two or more strata")
    base = settings.control_of or settings.strata[0]
    if base not in settings.strata:
        raise CausalFTError(f"--control-of {base!r} is not one of the strata {', '.join(settings.strata)}")
    known = zoo.names()
    members: list[tuple[str, int | None]] = [(base, None)]
    for number in range(1, len(settings.strata)):
        reseeded = f"{base}@{number}"
        members.append((reseeded, None) if reseeded in known else (f"{base}#{number}", 1000 * number))
    return members


def _describe(settings: FitSettings, zoo: Zoo, splits: Splits, say: Callable[[str], None]) -> None:
    counts = splits.train.class_counts
    say(
        f"data     {settings.data}: {len(splits.train)} training images of {len(counts)} classes, "
        f"{counts.max()} to {counts.min()} a class (imbalance {measured_imbalance(counts):.0f}); "
        f"{len(splits.validation)} validation, {len(splits.test)} test"
    )
    for note in splits.notes:
        say(f"note     {note}")
    kind = (
        "small models of this project, not the real ones"
        if settings.zoo_name != "pretrained"
        else "open_clip"
    )
    say(f"zoo      {zoo.label} ({kind})")


def _stack(found: list[MemberPrediction], what: str) -> np.ndarray:
    return np.stack([getattr(prediction, what) for prediction in found])


def _fuse_seeds(
    settings: FitSettings, splits: Splits, members: dict[str, list[MemberPrediction]], prior: tuple | None
) -> tuple[np.ndarray, list[float]]:
    """Fuse and calibrate each seed: probabilities (S, n, K) and the temperatures."""
    fused, temperatures = [], []
    for seed in range(settings.n_seeds):
        validation = fuse([m[seed].validation_probs for m in members.values()], prior, settings.fusion)
        temperature = fit_temperature(validation, splits.validation.labels)
        test = fuse([m[seed].test_probs for m in members.values()], prior, settings.fusion)
        fused.append(apply_temperature(test, temperature))
        temperatures.append(temperature)
    return np.stack(fused), temperatures


def _diagnose(
    settings: FitSettings,
    splits: Splits,
    members: dict[str, list[MemberPrediction]],
    controls: dict[str, list[MemberPrediction]],
) -> tuple[dict[str, Any], Diagnosis, np.ndarray]:
    fused, temperatures = _fuse_seeds(settings, splits, members, settings.stratum_prior)
    control_groups = {}
    if controls:
        control_fused, _ = _fuse_seeds(settings, splits, controls, None)
        control_groups["seeds"] = {
            "members": {name: _stack(found, "test_probs") for name, found in controls.items()},
            "fused": control_fused,
            "prior_of": next(iter(controls)),
        }
    validation_accuracy = {
        name: float(
            np.mean([(m.validation_logits.argmax(1) == splits.validation.labels).mean() for m in found])
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
        stratum_prior=settings.stratum_prior,
        temperature=temperatures,
        best_single=max(validation_accuracy, key=lambda name: validation_accuracy[name]),
        seed=settings.seed,
    )
    classes = list(splits.train.class_names)
    everyone = {**members, **controls}
    metrics: dict[str, Any] = {
        "zoo": settings.zoo_name,
        "weights": {name: found[0].sha256 for name, found in everyone.items()},
        "sources": {name: found[0].source for name, found in everyone.items()},
        "data": {
            "name": settings.data,
            "n_train": len(splits.train),
            "n_validation": len(splits.validation),
            "n_test": len(splits.test),
            "fingerprint": splits.train.fingerprint,
            "imbalance_factor": measured_imbalance(splits.train.class_counts),
            "notes": list(splits.notes),
        },
        "classes": classes,
        **diagnosis.to_metrics(),
        "class_counts": dict(zip(classes, splits.train.class_counts.tolist(), strict=True)),
    }
    metrics["fused"]["temperature"] = temperatures[0]
    for name, found in members.items():
        first = found[0]
        metrics["strata"][name].update(
            label_prior=first.prior.prior,
            zero_shot=_zero_shot(first, splits),
            validation_accuracy=validation_accuracy[name],
            lr=first.lr,
            n_tuned=first.n_tuned,
            seconds=first.seconds,
        )
        if first.true_prior is not None:
            metrics["strata"][name]["prior_spearman"] = rank_correlation(first.prior.prior, first.true_prior)
    metrics["seeds"] = list(range(settings.seed, settings.seed + settings.n_seeds))
    metrics["conclusion"] = diagnosis.conclusion()
    return metrics, diagnosis, fused


def _zero_shot(found: MemberPrediction, splits: Splits) -> dict[str, Any]:
    """Before tuning: accuracy, accuracy less the estimated log prior (GLA-ZS), and accuracy by P group."""
    labels = splits.test.labels
    right = found.zero_shot_test.argmax(1) == labels
    debiased = (found.zero_shot_test - np.log(found.prior.prior)).argmax(1) == labels
    by_class = class_accuracy(right, labels, splits.test.n_classes)
    return {
        "accuracy": float(right.mean()),
        "gla_accuracy": float(debiased.mean()),
        "P": group_accuracy(by_class, prior_groups(found.prior.prior)),
    }


def _write_predictions(
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
