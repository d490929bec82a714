"""The documents of a ``fit`` run: their names, what they hold, checked once when a run is opened."""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from causalft.errors import CausalFTError, nearest
from causalft.methods.adaptation.settings import TUNED_FILES, Tuning
from causalft.methods.estimators import FUSIONS
from causalft.methods.estimators.settings import FitSettings, Fusion
from causalft.methods.priors.settings import KnownPriorFiles
from causalft.runs.documents import Document, check_shape
from causalft.runs.folder import Run

__all__ = [
    "CLASSIFIERS",
    "EXPORT_FORMATS",
    "FitMetrics",
    "PREDICTIONS",
    "STORED",
    "check_class",
    "check_fit_config",
    "folder_name",
    "joined",
    "open_classifier",
    "open_fit",
    "portable",
    "stratum_folder",
    "stored_precision",
    "tuned_files",
]


PREDICTIONS = "predictions.safetensors"
"""Logits and probabilities of a member, in its folder."""

EXPORT_FORMATS = {"onnx": "model.onnx", "torch-export": "model.pt2", "single-file": "model.safetensors"}
"""Format to the file that an export is written to."""

STORED = "stored"
"""Key in the metadata of a tuned file: the half precision of its tensors."""


def folder_name(name: str) -> str:
    """Return the folder of a stratum under ``strata/``: its name, without what a path cannot hold.

    Examples
    --------
    >>> folder_name("clip@1"), folder_name("ViT-L-14/openai")
    ('clip@1', 'ViT-L-14_openai')
    """
    return re.sub(r"[^\w.@#-]+", "_", name)


def stratum_folder(run: str | os.PathLike[str], name: str) -> Path:
    """Return the folder of a stratum in the folder of a run.

    Examples
    --------
    >>> stratum_folder("runs/fit", "ViT-L-14/openai").as_posix()
    'runs/fit/strata/ViT-L-14_openai'
    """
    return Path(run) / "strata" / folder_name(name)


def tuned_files(run: Run) -> list[Path]:
    """Return the tuned files of all strata of a run, whether they are there or not."""
    files = TUNED_FILES if run.config.get("gla") else TUNED_FILES[:2]
    return [stratum_folder(run.path, name) / file for name in run.config["strata"] for file in files]


def stored_precision(run: Run) -> str | None:
    """Return the half precision in which the tuned tensors of a run are stored; None for float32."""
    return joined(_said(path) for path in tuned_files(run)) or None


def joined(kinds: Iterable[str]) -> str:
    """Return what several files are stored in; each kind is named once."""
    each = {one for of_file in kinds for one in of_file.split(" and ")}
    return " and ".join(sorted(each - {""}, reverse=True))


def _said(path: Path) -> str:
    """What the file says of itself; whoever reads its tensors says what is wrong with it."""
    try:
        with safe_open(path, framework="numpy") as file:
            return (file.metadata() or {}).get(STORED, "")
    except (OSError, SafetensorError):
        return ""


_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class _Distilled:
    """How the student of another run was made."""

    command: list[str]
    teacher: dict[str, str]
    lessons: Document
    unlabelled: str | None = None


@dataclass(frozen=True)
class _FitConfig(FitSettings):
    """``config`` of ``config.json``: the settings, the hashes of the three splits and of files of known priors; of a
    student, its teacher."""

    data_fingerprint: list[str] = field(default_factory=list)
    prior_sha256: dict[str, str] = field(default_factory=dict)
    unlabeled_fingerprint: str = ""
    distilled: _Distilled | None = None


_ALWAYS = ("strata", "data", "zoo", "tuning")
"""Settings that even the oldest config has."""


@dataclass(frozen=True)
class _Data:
    name: str
    n_train: int
    n_validation: int
    n_test: int
    fingerprint: str
    imbalance_factor: float | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Stratum:
    accuracy: float
    label_prior: list[float | None]
    D: dict[str, float | None]
    P: dict[str, float | None]
    prior_from: str = "estimated"
    ci95: Any = None
    zero_shot: Document = field(default_factory=dict)
    lr: float | None = None
    n_tuned: int | None = None
    seconds: float | None = None
    precision: str | None = None
    pretraining_loss: str | None = None
    gla: bool = False
    licence: str | None = None
    macs: float | None = None


@dataclass(frozen=True)
class _Fused:
    accuracy: float
    D: dict[str, float | None]
    P: dict[str, dict[str, float | None]]
    ci95: Any = None
    fusion: str | None = None
    stratum_prior: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Mixing:
    fusion: Fusion
    stratum_prior: list[float]
    temperature: float
    stratum_temperatures: list[float] | None = None
    stratum_prior_ci95: list[tuple[float, float]] | None = None
    class_weights: list[list[float]] | None = None
    offsets: list[list[float]] | None = None


@dataclass(frozen=True)
class _Named:
    name: str


@dataclass(frozen=True)
class _Controls:
    best_single: _Named


@dataclass(frozen=True)
class FitMetrics:
    """What ``predict``, ``evaluate``, ``card``, ``push`` and the rest read of ``metrics.json``."""

    zoo: str
    weights: dict[str, str]
    data: _Data
    classes: list[str]
    class_counts: dict[str, int]
    strata: dict[str, _Stratum]
    fused: _Fused
    mixing: _Mixing
    controls: _Controls
    sources: dict[str, str] = field(default_factory=dict)
    conclusion: list[str] = field(default_factory=list)
    n_seeds: int = 1
    seconds: float | None = None
    no_conclusion: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class _ClassifierConfig:
    """``config`` of what `StrataClassifier.save` wrote: what loading needs of it."""

    strata: list[str]
    zoo: str
    tuning: Document | None = None
    weights: dict[str, str] | None = None
    offline: bool = False
    allow_pickle: bool = False
    gla: bool = False
    device: str = "auto"


@dataclass(frozen=True)
class _ClassifierMetrics:
    weights: dict[str, str]
    classes: list[str]
    mixing: _Mixing


CLASSIFIERS = ("fit", "classifier")
"""Kinds of folders that hold a fitted classifier: of ``causalft fit``, and of `StrataClassifier.save`."""


def open_classifier(path: str | os.PathLike[str]) -> Run:
    """Open a complete ``fit`` run or a saved classifier, its documents checked as by :func:`open_fit`.

    Raises
    ------
    CausalFTError
    """
    run = Run.open(path, kind=CLASSIFIERS)
    if run.kind == "fit":
        return open_fit(path)
    file, config, metrics = run.path / "config.json", run.config, run.metrics
    check_shape(config, _ClassifierConfig, file, at="config")
    _check_strata(file, config["strata"], config["tuning"])
    check_shape(metrics, _ClassifierMetrics, run.path / "metrics.json")
    _check_fusion(run.path / "metrics.json", metrics, config["strata"])
    return run


def check_class(run: Run, name: str) -> None:
    """Refuse a class that a run of :func:`open_classifier` does not know.

    Raises
    ------
    CausalFTError
        With the nearest names.
    """
    classes = run.metrics["classes"]
    if name not in classes:
        raise CausalFTError(f"{name!r} is no class of {run.path}; {nearest(name, classes)}")


def open_fit(path: str | os.PathLike[str]) -> Run:
    """Open a complete ``fit`` run whose documents hold what their readers need.

    Raises
    ------
    CausalFTError
        As :meth:`causalft.runs.folder.Run.open`, and for a key that is missing or holds something else;
        names file and key.
    """
    run = Run.open(path, kind="fit")
    check_fit_config(run)
    metrics, file = run.metrics, run.path / "metrics.json"
    check_shape(metrics, FitMetrics, file)
    strata, classes = run.config["strata"], metrics["classes"]
    _same(metrics["strata"], strata, file, "strata")
    _same(metrics["class_counts"], classes, file, "class_counts")
    for name in strata:
        if len(metrics["strata"][name]["label_prior"]) != len(classes):
            raise CausalFTError(
                f"{file}: strata.{name}.label_prior does not hold {len(classes)} numbers, one per class; {_DAMAGED}"
            )
    _check_fusion(file, metrics, strata)
    return run


def _check_fusion(file: Path, metrics: Document, strata: list[str]) -> None:
    for name in strata:
        if not _SHA256.fullmatch(metrics["weights"].get(name, "")):
            raise CausalFTError(f"{file}: weights.{name} is no sha256; {_DAMAGED}")
    mixing, tables = metrics["mixing"], ("class_weights", "offsets")
    for key in ("stratum_prior", "stratum_temperatures", "stratum_prior_ci95", *tables):
        if mixing.get(key) is not None and len(mixing[key]) != len(strata):
            raise CausalFTError(
                f"{file}: mixing.{key} does not hold {len(strata)} entries, one per stratum; {_DAMAGED}"
            )
    for key in tables:
        if FUSIONS[mixing["fusion"]].adjusts and mixing.get(key) is None:
            raise CausalFTError(f"{file}: mixing.{key} is missing; {_DAMAGED}")
        if any(len(row) != len(metrics["classes"]) for row in mixing.get(key) or ()):
            raise CausalFTError(
                f"{file}: mixing.{key} does not hold {len(metrics['classes'])} numbers per stratum, one per class; "
                f"{_DAMAGED}"
            )
    if not metrics["mixing"]["temperature"] > 0:
        raise CausalFTError(f"{file}: mixing.temperature is not above 0; {_DAMAGED}")


_DAMAGED = "the file is damaged, or was changed by hand"


def check_fit_config(run: Run) -> None:
    """Refuse settings of a ``fit`` run that are missing, unknown or of another kind.

    Raises
    ------
    CausalFTError
    """
    file, config = run.path / "config.json", run.config
    check_shape(config, _FitConfig, file, strict=True, at="config", required=_ALWAYS)
    _check_strata(file, config["strata"], config["tuning"])
    check_shape(config.get("known_priors", {}), KnownPriorFiles, file, strict=True, at="config.known_priors")
    if len(config.get("data_fingerprint", "123")) != 3:
        raise CausalFTError(f"{file}: config.data_fingerprint does not hold three hashes; {_DAMAGED}")


def _check_strata(file: Path, strata: list[str], tuning: Document | None) -> None:
    if not strata or len(set(strata)) != len(strata):
        raise CausalFTError(f"{file}: config.strata does not name each stratum once; {_DAMAGED}")
    if tuning is None:
        return
    check_shape(tuning, Tuning, file, strict=True, at="config.tuning")
    try:
        Tuning(**tuning).check_choices()
    except CausalFTError as error:
        raise CausalFTError(f"{file}: config.tuning: {error}") from None


def _same(found: Document, wanted: list[str], file: object, key: str) -> None:
    missing = [name for name in wanted if name not in found]
    if missing:
        raise CausalFTError(f"{file}: {key}.{missing[0]} is missing; {_DAMAGED}")


def portable(text: str, config: Mapping[str, Any]) -> str:
    """Return a text with every absolute path that a configuration holds cut to its last part.

    Examples
    --------
    >>> portable("fit --data /data/me/photos --out x", {"data": "/data/me/photos", "seed": 0})
    'fit --data photos --out x'
    """
    for path in sorted(_absolute(config), key=len, reverse=True):
        short = os.path.basename(path.rstrip("/\\")) or "data"
        # as it is, as JSON writes it, as HTML writes it
        for written in {path, json.dumps(path)[1:-1], html.escape(path)}:
            text = text.replace(written, short)
    return text


def _absolute(document: Any) -> set[str]:
    if isinstance(document, Mapping):
        return set().union(*map(_absolute, document.values())) if document else set()
    if isinstance(document, (list, tuple)):
        return set().union(*map(_absolute, document)) if document else set()
    return {document} if isinstance(document, str) and os.path.isabs(document) else set()
