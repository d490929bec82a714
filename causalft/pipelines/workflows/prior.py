"""The work of ``causalft prior``: logits and labels of a run or of files, and their label prior."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from scipy.stats import chisquare

from causalft.data.class_names import read_class_names
from causalft.data.groups import GROUPS, prior_groups
from causalft.data.labels import clean_text, encode, is_whole_number, whole_number
from causalft.errors import CausalFTError, nearest, several, short
from causalft.methods.estimators.run_documents import PREDICTIONS, open_fit, stratum_folder
from causalft.methods.estimators.settings import FitSettings
from causalft.methods.priors import bootstrap_prior, compare_priors, few_images_caveat, prior_caveat
from causalft.methods.priors.known import KnownPrior
from causalft.methods.priors.misfit import MINI_MISFIT, with_misfit
from causalft.models.strata.zoo import pretraining_losses
from causalft.pipelines.workflows.fit_data import load_splits
from causalft.pipelines.workflows.settings import LogitsFile, PriorSettings
from causalft.runs.files import read_text, require_regular
from causalft.runs.folder import Run, atomic_path
from causalft.runs.locks import writing
from causalft.runs.tables import TABLE_SUFFIXES, read_frame

__all__ = [
    "LabelledLogits",
    "describe_prior",
    "law_of_labels",
    "read_labelled_logits",
    "read_run_logits",
    "write_priors",
]

_TABLES = TABLE_SUFFIXES
_KINDS = (".npz", ".npy", ".safetensors", *_TABLES)


@dataclass(frozen=True)
class LabelledLogits:
    """Labelled logits of one model.

    Attributes
    ----------
    logits : (n, K) array
    labels : (n,) array of int
    classes : list of K str
    true_prior : (K,) array, optional
        Known for minis; sums to 1.
    """

    logits: np.ndarray
    labels: np.ndarray
    classes: list[str]
    true_prior: np.ndarray | None = None


def read_labelled_logits(file: LogitsFile) -> LabelledLogits:
    """Read logits and labels from one file or two.

    Parameters
    ----------
    file : LogitsFile
        ``logits``: an array (n, K) in ``.npz``, ``.npy``, ``.safetensors``; in ``.parquet``, ``.csv`` a column of
        lists, or one column of numbers per class. Text columns are ignored. ``labels``: the same formats, or ``.txt``
        with one label per line.

    Raises
    ------
    CausalFTError
        If a file is missing, damaged, of another format, lacks the name, or does not match the others.
    """
    assert file.logits is not None
    logits, labels, classes = file.logits, file.labels, file.classes
    logits_name, labels_name = file.logits_name, file.labels_name
    names = _class_names(classes) if classes is not None else None
    values, columns = _logits(logits, logits_name, labels_name if labels is None else None, names)
    if values.ndim != 2:
        raise CausalFTError(f"{logits}: logits must be (n_samples, n_classes), not of shape {values.shape}")
    names = names or columns or [str(k) for k in range(values.shape[1])]
    if len(names) != values.shape[1]:
        raise CausalFTError(
            f"{classes}: {several(names, 'class name', 'class names')} for "
            f"{several(range(values.shape[1]), 'column', 'columns')} of logits"
        )
    if len(set(names)) != len(names):
        raise CausalFTError(f"{classes or logits}: the class name {_repeated(names)!r} stands twice")
    if labels is None and logits.suffix.lower() == ".npy":
        raise CausalFTError(f"{logits} holds one array, the logits, and no labels; give --labels FILE")
    return LabelledLogits(values, _labels(labels or logits, labels_name, names), names)


def _logits(
    path: Path, name: str, labels_name: str | None, names: list[str] | None
) -> tuple[np.ndarray, list[str] | None]:
    """Return the logits, and the class names if they are columns of a table."""
    if path.suffix.lower() not in _TABLES:
        return _array(path, name), None
    table = _table(path)
    if name in table:
        try:
            rows = [np.asarray(row, dtype=float) for row in table[name]]
            return np.stack(rows), None
        except (TypeError, ValueError):
            raise CausalFTError(
                f"{path}: column {name!r} must hold one list of numbers per row, all of one length"
            ) from None
    if names is not None:
        missing = [n for n in names if n not in table]
        if missing:
            raise CausalFTError(
                f"{path}: no column for class {missing[0]!r}; {nearest(missing[0], map(str, table))}"
            )
        chosen = table[names]
    else:
        chosen = table.drop(columns=[labels_name or ""], errors="ignore").select_dtypes("number")
    if not all(np.issubdtype(dtype, np.number) for dtype in chosen.dtypes) or not chosen.shape[1]:
        raise CausalFTError(
            f"{path}: no column {name!r} and no columns of numbers, one a class; {nearest(name, map(str, table))}"
        )
    return chosen.to_numpy(dtype=float), [str(column) for column in chosen.columns]


def _labels(path: Path, name: str, names: list[str]) -> np.ndarray:
    """Return labels as integers; they may be given by class name."""
    if path.suffix.lower() in _TABLES:
        table = _table(path)
        if name not in table:
            raise CausalFTError(
                f"{path}: no column {name!r} with the labels; {nearest(name, map(str, table))}"
            )
        values = table[name].to_numpy()
    elif path.suffix.lower() == ".txt":
        values = np.array(_lines(path), dtype=object)
    else:
        values = _array(path, name)
    if np.issubdtype(values.dtype, np.integer):
        return values
    if values.ndim != 1 or values.dtype.kind not in "OUSf":
        raise CausalFTError(f"{path}: labels must be class numbers or names, not {values.dtype}")
    found = encode(values.tolist(), str(path))
    number = {word: k for k, word in enumerate(names)}
    if values.dtype.kind != "f" and all(word in number for word in found.ids):
        codes = [number[word] for word in found.ids]
    elif all(map(is_whole_number, found.ids)):
        codes = [whole_number(word) for word in found.ids]  # also floats, of a column with missing cells
    elif values.dtype.kind == "f":
        raise CausalFTError(f"{path}: labels must be class numbers or names, not {values.dtype}")
    else:
        unknown = next(word for word in found.ids if word not in number)
        raise CausalFTError(f"{path}: label '{short(unknown)}' is no class; {nearest(unknown, names)}")
    return np.array(codes, dtype=np.int64)[found.codes]


def _array(path: Path, name: str) -> np.ndarray:
    """Read an array without unpickling."""
    kind = _existing(path)
    try:
        if kind == ".npy":
            with open(path, "rb") as file:
                return np.lib.format.read_array(file, allow_pickle=False)
        if kind == ".npz":
            with open(path, "rb") as file, np.lib.npyio.NpzFile(file, allow_pickle=False) as found:
                _known(path, name, list(found.files))
                return found[name]
        with safe_open(path, framework="np") as tensors:
            _known(path, name, list(tensors.keys()))
            return tensors.get_tensor(name)
    except (ValueError, TypeError, EOFError, SafetensorError, zipfile.BadZipFile) as error:
        if isinstance(error, CausalFTError):
            raise
        reason = (
            "it holds Python objects (pickle), which are not read" if "allow_pickle" in str(error) else error
        )
        raise CausalFTError(f"{path}: cannot be read: {reason}") from error


def _table(path: Path) -> Any:
    _existing(path)
    table = read_frame(path)
    return table.rename(columns={column: clean_text(str(column)) for column in table})


def _known(path: Path, name: str, names: list[str]) -> None:
    if name not in names:
        raise CausalFTError(f"{path}: nothing named {name!r} in it; {nearest(name, names)}")


def _existing(path: Path) -> str:
    if not os.path.lexists(path):
        raise CausalFTError(f"{path}: no such file")
    require_regular(path)
    kind = path.suffix.lower()
    if kind not in _KINDS:
        raise CausalFTError(f"{path}: cannot read {kind or 'a file without ending'}; use {', '.join(_KINDS)}")
    return kind


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


def _class_names(path: Path) -> list[str]:
    """Return class names in the order of the logits."""
    found = read_class_names(path)
    if found.ordered is not None:
        return list(found.ordered)
    by_number = {whole_number(key): name for key, name in (found.by_id or {}).items() if is_whole_number(key)}
    if sorted(by_number) != list(range(len(found.by_id or {}))):
        raise CausalFTError(f"{path}: names must be in the order of the logits, or numbered from 0")
    return [by_number[k] for k in range(len(by_number))]


def _repeated(names: list[str]) -> str:
    return next(name for name in names if names.count(name) > 1)


def read_run_logits(folder: Path, only: str | None) -> dict[str, tuple[LabelledLogits, str]]:
    """Return validation zero-shot logits of the strata of a fit, and their pre-training losses."""
    run = open_fit(folder)
    metrics = run.metrics
    strata, names = list(run.config["strata"]), list(metrics["classes"])
    if only is not None and only not in strata:
        raise CausalFTError(f"{folder} has no stratum {only!r}; {nearest(only, strata)}")
    losses = pretraining_losses(metrics, run.config.get("zoo"))
    labels: np.ndarray | None = None
    found = {}
    for name in strata if only is None else [only]:
        path = stratum_folder(folder, name) / PREDICTIONS
        try:
            with safe_open(path, framework="np") as tensors:
                logits = tensors.get_tensor("zero_shot_validation")
                kept = set(tensors.keys())
                if "validation_labels" in kept:
                    labels = tensors.get_tensor("validation_labels")
                truth = tensors.get_tensor("true_prior") if "true_prior" in kept else None
        except FileNotFoundError:
            raise CausalFTError(
                f"{folder} holds no logits of the validation images (no {path.relative_to(folder)}), as after push and "
                "pull; estimate where it was fitted, or give --logits"
            ) from None
        except (SafetensorError, OSError) as error:
            raise CausalFTError(f"{path}: no zero-shot logits of the validation images ({error})") from error
        if not np.isfinite(logits).all():
            raise CausalFTError(f"{path} holds logits that are not finite; the file is damaged; fit again")
        if labels is None:
            labels = _validation_labels(run)
        found[name] = (LabelledLogits(logits, labels, names, truth), losses[name])
    return found


def law_of_labels(data: LabelledLogits) -> str:
    """Return ``balanced`` or ``shares``, by the class counts of the labels."""
    counts = np.bincount(data.labels, minlength=data.logits.shape[1])
    return "balanced" if counts.min() == counts.max() else "shares"


def _validation_labels(run: Run) -> np.ndarray:
    """Recompute the validation labels of a run from its settings and images."""
    settings = FitSettings.from_config(run.config)
    validation = load_splits(settings, settings.seed).validation
    if validation.fingerprint != run.config["data_fingerprint"][1]:
        raise CausalFTError(
            f"{settings.data} has changed since {run.path} was fitted, so its validation labels are not known any "
            "more; restore it, or give --logits"
        )
    return validation.labels


def describe_prior(
    name: str, data: LabelledLogits, settings: PriorSettings, loss: str, known: KnownPrior | None = None
) -> dict[str, Any]:
    """Return the document on the prior of one model, compared with the known one if there is one."""
    target, n_boot, seed, loss = (
        settings.target,
        settings.n_boot,
        settings.seed,
        settings.pretraining_loss or loss,
    )
    n_classes = data.logits.shape[1]
    counts = np.zeros(n_classes)
    if (
        data.labels.ndim == 1
        and len(data.labels)
        and 0 <= data.labels.min()
        and data.labels.max() < n_classes
    ):
        counts = np.bincount(data.labels, minlength=n_classes).astype(float)
    if target == "auto":
        by_chance = counts.sum() == 0 or chisquare(counts).pvalue > 0.001
        target = "balanced" if by_chance else "shares"
    # half an image more per class if a class has none: rare, not impossible
    law = counts if counts.min() > 0 else counts + 0.5
    shares = law / law.sum() if target == "shares" else None
    found = bootstrap_prior(data.logits, data.labels, n_boot, seed, target_prior=shares, l2=settings.l2)
    low, high = np.exp(found.log_prior).T
    rows = zip(
        data.classes, found.estimate.prior, low, high, found.n_labelled, found.groups, found.group_probability,
        strict=True,
    )  # fmt: skip
    truth = _truth(data, known)
    true_groups = None if truth is None else prior_groups(truth)
    misfit = MINI_MISFIT if loss == "caption-bank" else None
    pretraining = None if misfit is None else np.exp(with_misfit(found, misfit))
    few = few_images_caveat(found)
    sure = bool(np.isfinite(found.imbalance).all())
    return {
        "name": name,
        "n": found.estimate.n,
        "n_classes": n_classes,
        "target": target,
        "imbalance": found.imbalance_estimate if sure else None,
        "imbalance_ci95": found.imbalance if sure else None,
        "imbalance_reason": None if sure else "the labelled images say too little; the pull alone decides",
        "imbalance_of_estimate": found.estimate.imbalance,
        "loss": found.estimate.loss,
        "l2": found.estimate.l2,
        "l2_path": found.estimate.l2_path,
        "converged": found.estimate.converged,
        "n_boot": n_boot,
        "seed": seed,
        "pretraining_loss": loss,
        "expected_misfit": misfit,
        "caveat": " ".join(filter(None, [few, prior_caveat(loss)])),
        "truth": None
        if truth is None
        else {
            "source": "card" if known is None else known.source,
            **({} if known is None else {"sha256": known.sha256, "notes": known.notes(data.classes)}),
            **compare_priors(truth, found, misfit=misfit).to_json(),
        },
        "classes": [
            {
                "class": label,
                "prior": float(q),
                "ci95": [float(a), float(b)],
                "pretraining_ci95": None if pretraining is None else pretraining[k].tolist(),
                "n_labelled": int(n),
                "group": str(group),
                "group_probability": dict(zip(GROUPS, map(float, p), strict=True)),
                "true_prior": None if truth is None or np.isnan(truth[k]) else float(truth[k]),
                "true_group": None if true_groups is None else str(true_groups[k]),
            }
            for k, (label, q, a, b, n, group, p) in enumerate(rows)
        ],
    }


def _truth(data: LabelledLogits, known: KnownPrior | None) -> NDArray[np.float64] | None:
    """The known prior, (K,), NaN where it is not known: that of a file, else that of a mini's card."""
    return data.true_prior if known is None else known.prior


def write_priors(path: Path, documents: list[dict[str, Any]]) -> None:
    """Write one row per class and model, as ``.csv`` or ``.parquet``."""
    import pandas as pd

    table = pd.DataFrame(
        {
            "model": document["name"],
            "class": row["class"],
            "prior": row["prior"],
            "low": row["ci95"][0],
            "high": row["ci95"][1],
            "n_labelled": row["n_labelled"],
            "group": row["group"],
            "true_prior": row["true_prior"],
            "true_group": row["true_group"],
            **{f"p_{group}": value for group, value in row["group_probability"].items()},
        }
        for document in documents
        for row in document["classes"]
    )
    with writing(path), atomic_path(path) as temporary:
        if path.suffix.lower() == ".csv":
            table.to_csv(temporary, index=False)
        else:
            table.to_parquet(temporary, index=False)
