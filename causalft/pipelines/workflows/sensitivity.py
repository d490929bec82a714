"""The work of ``causalft sensitivity``: what stays uncertain about the predictions of a run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from causalft.analysis.uncertainty.conformal import PredictionSets, describe_sets
from causalft.analysis.uncertainty.second_opinion import frontdoor_prior, labels_and_confidence
from causalft.analysis.uncertainty.simplex import (
    Sensitivity,
    at_prior,
    resolution_of,
    sensitivity_to_prior,
)
from causalft.analysis.uncertainty.summary import describe_sensitivity, paired_difference, share
from causalft.data.given import given_images
from causalft.data.groups import balancing_weights
from causalft.errors import CausalFTError
from causalft.methods.estimators.mixing import stratum_prior_of
from causalft.methods.estimators.probabilities import member_blocks, members_rows
from causalft.pipelines.pages.sensitivity import write_sensitivity_page
from causalft.pipelines.workflows.stored_run import StoredRun, sets_of_run
from causalft.runs.documents import Document
from causalft.runs.folder import Run, atomic_path
from causalft.runs.lifecycle import new_run
from causalft.runs.notebook import ShownAsTable
from causalft.runs.progress import phase

__all__ = ["ROWS", "SensitivityReport", "sensitivity"]

ROWS = "sensitivity.parquet"
"""One row per image, in the folder of the report."""


@dataclass(frozen=True, repr=False)
class SensitivityReport(ShownAsTable):
    """Result of :func:`sensitivity`.

    Attributes
    ----------
    run : Run, optional
        The folder, if one was given.
    metrics : dict
        Content of ``metrics.json``.
    found : Sensitivity
        Image by image.
    sets : PredictionSets, optional
        None for a run that kept no validation images.
    """

    run: Run | None
    metrics: dict[str, Any]
    found: Sensitivity
    sets: PredictionSets | None

    def _table(self) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        rows = [
            (name, of["predicted"], of["certain"], next(iter(of["flips_to"]), ""))
            for name, of in self.metrics["flips"].items()
        ]
        return ("class", "predicted", "certain", "flips to"), rows

    def __repr__(self) -> str:
        n, certain = len(self.found.certain), int(self.found.certain.sum())
        return f"SensitivityReport({certain} of {n} predictions hold for every P(c))"


@dataclass(frozen=True)
class _Asked:
    """The images that are asked about: logits or log-probabilities of each stratum, and labels if they are known."""

    members: list[Any]
    kind: str
    files: list[str]
    labels: NDArray[np.int64] | None


def sensitivity(
    run: str | os.PathLike[str],
    images: Any = None,
    *,
    coverage: float = 0.9,
    out: str | os.PathLike[str] | None = None,
    device: str = "auto",
    seed: int = 0,
    command: str = "",
) -> SensitivityReport:
    """Tell what stays uncertain about the predictions of a fitted run.

    Which predictions hold for every P(c); how far P(c) must move before the others change, and to which class; how
    strong an unobserved confounder must be to change them; how often the front door through B gives another answer; and
    sets of classes that hold the true one with the coverage asked for, by group.

    Parameters
    ----------
    run : path
        Folder of a fit.
    images : ImageSet, path, PIL image, array, or a sequence of such, optional
        As in :meth:`causalft.StrataClassifier.predict_proba`. Default: the test images of the run, from the logits that
        it kept; no image is read.
    coverage : float
        Of the prediction sets, in (0, 1).
    out : path, optional
        Folder for ``metrics.json``, ``sensitivity.parquet``, the figures and the page.
    device : str
        For ``images``.
    seed : int
        Of the bootstrap behind the interval of P(c).
    command : str
        Shown on the page.

    Raises
    ------
    CausalFTError
        If the run is not complete, holds no logits and no image is given, or an image cannot be read.

    Examples
    --------
    >>> found = sensitivity("runs/fit")  # doctest: +SKIP
    >>> found.metrics["certain"]["estimate"]  # doctest: +SKIP
    0.41
    """
    stored = StoredRun.open(run)
    with new_run(out, "sensitivity") as new:
        given = None if images is None else given_images(images)
        new.create(
            {
                "run": os.path.abspath(run),
                "coverage": coverage,
                "seed": seed,
                "images": None if given is None else [given.fingerprint, *given.files],
            }
        )
        asked = _stored(stored) if given is None else _predicted(stored, given, device)
        notes = [f"no P(c) interval, second opinion or sets: {why}"] if (why := stored.why_no_logits) else []
        sets = None if why else sets_of_run(stored, coverage)
        with phase("analysing the predictions"):
            metrics, found, chosen = _document(stored, asked, sets, seed)
        metrics["notes"] = [*notes, *(sets.notes if sets is not None else ())]

        def page(kept: Run, document: Document) -> None:
            _write_rows(kept.file(ROWS), stored.classes, asked, found, chosen)
            write_sensitivity_page(kept, document, found, command)

        return SensitivityReport(new.kept, new.finish(metrics, page), found, sets)


def _stored(stored: StoredRun) -> _Asked:
    if stored.why_no_logits:
        raise CausalFTError(f"{stored.why_no_logits}, or name images: causalft sensitivity RUN IMAGES")
    members = list(stored.members.values())
    if not len(members[0].test_logits):
        raise CausalFTError(
            f"{stored.run.path} was fitted without test images; name images: causalft sensitivity RUN IMAGES"
        )
    files, labels = stored.test_images
    return _Asked([m.test_logits for m in members], "logits", files, labels)


def _predicted(stored: StoredRun, images: Any, device: str) -> _Asked:
    from causalft.pipelines.workflows.predict import Prediction

    prediction = Prediction(stored.run.path, images, device)
    parts = [strata for _, strata, _ in prediction.stream()]
    return _Asked(list(np.concatenate(parts, axis=1)), "probabilities", list(images.files), None)


def _document(
    stored: StoredRun, asked: _Asked, sets: PredictionSets | None, seed: int
) -> tuple[Document, Sensitivity, NDArray[np.bool_] | None]:
    mixing, names = stored.mixing, stored.names
    document: Document = {
        "run": str(stored.run.path),
        "data": stored.run.metrics.get("data", {}).get("name"),
        "of": "test images of the run" if asked.labels is not None else "given images",
        "weights": {name: stored.run.metrics["weights"][name] for name in names},
        "fusion": mixing.fusion,
        "stratum_prior": dict(zip(names, mixing.stratum_prior)),
        "n": len(asked.files),
        "resolution": resolution_of(mixing),
    }
    intervals, opinion = None, None
    if sets is not None:
        validation = [m.validation_logits for m in stored.members.values()]
        labels = stored.validation_labels
        balance = balancing_weights(labels, len(stored.classes))
        of_label, confidence = labels_and_confidence(validation, labels, mixing, kind="logits")
        estimate = stratum_prior_of(of_label.T, labels, seed, weights=balance)
        intervals = estimate.ci95
        opinion = frontdoor_prior(of_label, confidence, weights=balance)
    found = sensitivity_to_prior(asked.members, mixing, intervals=intervals, possible=True, kind=asked.kind)
    document |= describe_sensitivity(found, stored.classes, stored.groups, asked.labels)
    if intervals is not None and opinion is not None and found.within is not None:
        document["within_interval"] = {
            "stratum_prior": {
                name: {"estimate": float(w), "ci95": list(map(float, limits))}
                for name, w, limits in zip(names, estimate.weights, intervals)
            },
            "certain": share(found.within),
        }
        other = sensitivity_to_prior(asked.members, at_prior(mixing, opinion.weights), kind=asked.kind)
        document["second_opinion"] = {
            "stratum_prior": dict(zip(names, map(float, opinion.weights))),
            "disagree": share(other.prediction != found.prediction),
        }
        if asked.labels is not None:
            document["second_opinion"]["accuracy_difference"] = paired_difference(
                other.prediction == asked.labels, found.prediction == asked.labels
            )
    chosen = None
    if sets is not None:
        chosen = _sets(sets, stored, asked)
        size, y = chosen.sum(axis=1), asked.labels
        covered = None if y is None else chosen[np.arange(len(size)), y]
        document["sets"] = describe_sets(sets, size, covered, y, stored.groups)
    return document, found, chosen


def _sets(sets: PredictionSets, stored: StoredRun, asked: _Asked) -> NDArray[np.bool_]:
    """Which classes are in the set of each image, (n, K)."""
    members = members_rows(asked.members, asked.kind)
    found = np.empty((members[0].n, members[0].n_classes), dtype=bool)
    for rows, log_p in member_blocks(members):
        found[rows] = sets.contains(stored.mixing.of_log_probabilities(log_p))
    return found


def _write_rows(
    path: Path,
    classes: list[str],
    asked: _Asked,
    found: Sensitivity,
    chosen: NDArray[np.bool_] | None,
) -> None:
    """One row per image."""
    names = np.array(classes, dtype=object)

    def named(rows: Iterable[NDArray[Any]]) -> list[list[str]]:
        return [names[row].tolist() for row in rows]

    columns: dict[str, Any] = {"file": asked.files}
    if asked.labels is not None:
        columns["label"] = names[asked.labels].tolist()
    columns |= {
        "prediction": names[found.prediction].tolist(),
        "certain": found.certain,
        "margin": found.margin,
        "radius": np.where(found.certain, np.nan, found.radius),
        "flips_to": [None if k < 0 else classes[k] for k in found.flips_to],
        "possible": named(found.possible),
        "e_value": found.e_value,
    }
    if found.within is not None:
        columns["certain_within_interval"] = found.within
    if chosen is not None:
        columns["set"] = named(chosen)
    with atomic_path(path) as temporary:
        parquet.write_table(pa.table(columns), temporary)
