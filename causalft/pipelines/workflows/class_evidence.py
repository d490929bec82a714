"""The work of ``causalft diagnose --class-accuracy``: from tables of class accuracy and counts to the page."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalft.analysis.class_evidence import ClassEvidence, class_evidence
from causalft.analysis.class_evidence.words import conclusion
from causalft.data.class_accuracy import (
    ClassAccuracy,
    join_models,
    pick_models,
    read_class_accuracy,
    resolve_model,
)
from causalft.data.class_tables import match_classes, read_class_table
from causalft.errors import CausalFTError, first_few, short
from causalft.methods.priors.known import KnownPrior
from causalft.methods.priors.settings import KnownPriorFiles
from causalft.pipelines.pages.class_evidence import write_evidence_page
from causalft.pipelines.workflows.evidence_settings import EvidenceSettings
from causalft.runs.documents import Document
from causalft.runs.files import sha256_file
from causalft.runs.lifecycle import new_run

__all__ = [
    "Tables",
    "describe",
    "diagnose_class_tables",
    "evidence_of",
    "log10_counts",
    "prior_document",
    "read_tables",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Tables:
    """Tables of class accuracy side by side, with the priors of their models.

    Attributes
    ----------
    models : list of M str
        Those with a prior, called as ``--prior-of`` calls them.
    outside : list of R str
        Chosen, without a prior.
    full_names : dict of str to str
        What the tables call each of them.
    classes : list of K str
    accuracy : (M + R, K) array
        Fractions; NaN where a table lacks the class.
    priors : dict of str to KnownPrior
        By model.
    n_test : (K,) array, optional
    notes : list of str
        What was read how, and what did not match.
    """

    models: list[str]
    outside: list[str]
    full_names: dict[str, str]
    classes: list[str]
    accuracy: Floats
    priors: dict[str, KnownPrior]
    n_test: Floats | None = None
    notes: list[str] = field(default_factory=list)


def diagnose_class_tables(
    settings: EvidenceSettings,
    known: KnownPriorFiles,
    out: str | os.PathLike[str] | None = None,
    *,
    command: str = "causalft diagnose",
) -> Document:
    """Diagnose parameter imbalance from class accuracies and pre-training counts; return the metrics document.

    Parameters
    ----------
    settings : EvidenceSettings
    known : KnownPriorFiles
        ``prior_of`` names a model of the tables, or a part of its name that no other has.
    out : path, optional
        Folder for ``metrics.json`` and the page.
    command : str
        Shown on the page.

    Raises
    ------
    CausalFTError
        For wrong settings, tables or counts; before anything is computed.
    """
    with new_run(out, "diagnose") as new:
        tables = read_tables(settings, known)
        new.create(
            {
                "class_accuracy": _hashes(settings.class_accuracy),
                "priors": {name: prior.sha256 for name, prior in tables.priors.items()},
                "models": [*tables.models, *tables.outside],
                "zero_counts": known.zero_counts,
                "test_images": _given_tests(settings.test_images),
                "accuracy_unit": settings.accuracy_unit,
                "n_boot": settings.n_boot,
                "permutations": settings.permutations,
            }
        )
        found = evidence_of(tables, n_boot=settings.n_boot, n_permutations=settings.permutations)
        return new.finish(
            describe(tables, found), lambda run, metrics: write_evidence_page(run, metrics, command)
        )


def describe(tables: Tables, found: ClassEvidence) -> Document:
    """The metrics: the evidence, the priors, notes and sentences."""
    document = found.to_json()
    classes = document.pop("classes")
    for models in (document["strata"], document["outside_models"]):
        for name, entry in models.items():
            entry["model"] = tables.full_names[name]
    for k, row in enumerate(classes):  # zeros as they are in the files
        row["count"] = {
            name: None if np.isnan(prior.counts[k]) else float(prior.counts[k])
            for name, prior in tables.priors.items()
        }
    document |= {
        "priors": {name: prior_document(prior) for name, prior in tables.priors.items()},
        "notes": tables.notes,
    }
    return {**document, "conclusion": conclusion(document), "classes": classes}


def prior_document(prior: KnownPrior) -> Document:
    """The entry of a known prior in ``priors``."""
    counts = prior.counts[prior.known]
    return {
        "source": prior.source,
        "sha256": prior.sha256,
        "n_known": int(prior.known.sum()),
        "total": float(counts.sum()),
        "largest": float(counts.max()),
        "smallest": float(counts.min()),
        "n_zero": int((counts == 0).sum()),
        "missing": list(prior.matched.missing),
        "unused": list(prior.matched.unused),
        "respelt": dict(prior.matched.respelt),
    }


def log10_counts(prior: KnownPrior) -> Floats:
    """log10 of the counts (K,), zeros as in `KnownPrior.log_counts`; NaN where unknown."""
    return prior.log_counts / np.log(10)


def evidence_of(
    tables: Tables, *, n_boot: int, n_permutations: int, seed: int = 0, **settings: Any
) -> ClassEvidence:
    """Compute the evidence of tables; further settings are those of `class_evidence`."""
    n = len(tables.models)
    return class_evidence(
        tables.accuracy[:n],
        np.stack([log10_counts(tables.priors[name]) for name in tables.models]),
        tables.models,
        tables.classes,
        n_test=tables.n_test,
        outside=dict(zip(tables.outside, tables.accuracy[n:], strict=True)),
        n_boot=n_boot,
        n_permutations=n_permutations,
        seed=seed,
        **settings,
    )


def read_tables(settings: EvidenceSettings, known: KnownPriorFiles) -> Tables:
    """Read and match everything that the settings name.

    Raises
    ------
    CausalFTError
    """
    settings.check()
    if not known.prior_of:
        raise CausalFTError(
            "--class-accuracy needs the pre-training counts of at least one model; give --prior-of NAME=FILE"
        )
    every = _every_model(settings)
    chosen = [table.model for table in every]
    if settings.models:
        chosen = pick_models(chosen, settings.models)
    called = _called(known, chosen)
    models = [called[name] for name in chosen if name in called]
    further = [name for name in chosen if name not in called] if settings.models else []
    short_of = {**called, **_without_prefix(further, called)}
    by_name = {table.model: table for table in every}
    used = [by_name[name] for name in (*(n for n in chosen if n in called), *further)]
    classes, accuracy, unmatched = join_models(used)
    priors = replace(known, prior_of={name: known.prior_of[name] for name in models}).read(models, classes)
    notes = [
        f"{short(source, 300)}: read as {unit} ({reason})"
        for source, unit, reason in dict.fromkeys((t.source, t.unit, t.unit_reason) for t in used)
    ]
    n_test, of_tests = _test_counts(settings.test_images, used, classes)
    notes += [*of_tests, *unmatched]
    for prior in priors.values():
        notes += prior.notes(classes)[0 if prior.matched.missing or prior.matched.unused else 1 :]
    outside, full_names = (
        [short_of[name] for name in further],
        {label: name for name, label in short_of.items()},
    )
    return Tables(models, outside, full_names, classes, accuracy, priors, n_test, notes)


def _every_model(settings: EvidenceSettings) -> list[ClassAccuracy]:
    found: dict[str, ClassAccuracy] = {}
    for path in dict.fromkeys(settings.class_accuracy):
        for table in read_class_accuracy(path, settings.accuracy_unit):
            if table.model in found:
                raise CausalFTError(
                    f"the model '{short(table.model)}' is in {short(found[table.model].source, 300)} and in "
                    f"{short(path, 300)}; keep one, or rename one"
                )
            found[table.model] = table
    return list(found.values())


def _called(known: KnownPriorFiles, names: Sequence[str]) -> dict[str, str]:
    """Model of the tables to its name in ``--prior-of``."""
    called: dict[str, str] = {}
    for name in known.prior_of:
        model = resolve_model(name, names)
        if model in called:
            raise CausalFTError(
                f"--prior-of {short(called[model])} and --prior-of {short(name)} both mean {short(model)}; keep one"
            )
        called[model] = name
    return called


def _without_prefix(further: Sequence[str], called: Mapping[str, str]) -> dict[str, str]:
    """Shorten further models as ``--prior-of`` shortens the others, if it leaves out the same beginning of each."""
    starts = {model[: len(model) - len(name)] for model, name in called.items() if model.endswith(name)}
    start = starts.pop() if len(starts) == 1 else ""
    found = {name: name.removeprefix(start) or name for name in further}
    taken = [*called.values(), *found.values()]
    return found if len(set(taken)) == len(taken) else {name: name for name in further}


def _test_counts(
    given: int | str | None, tables: Sequence[ClassAccuracy], classes: Sequence[str]
) -> tuple[Floats | None, list[str]]:
    """Test images of each class (K,), and notes."""
    without = "no counts of test images, so the intervals are over classes only (--test-images N|FILE)"
    if isinstance(given, int):
        return np.full(len(classes), float(given)), []
    if given is not None:
        found = match_classes(
            read_class_table(given, "test images"), classes, what="number of test images", path=given
        )
        counts = found.values.copy()
        counts[counts == 0] = np.nan
        lacking = [name for name, n in zip(classes, counts, strict=True) if np.isnan(n)]
        left = f"left out, for {short(given, 300)} has no test images of them: {first_few(lacking, 10)}"
        return counts, [left] if lacking else []
    columns = [table.n_test for table in tables if table.n_test is not None]
    if not columns:
        return None, [without]
    stacked = []
    for column in columns:
        stacked.append(match_classes(column, classes, what="number of test images").values)
    with np.errstate(all="ignore"):
        counts = np.fmin.reduce(stacked)
    differ = np.fmax.reduce(stacked) != counts
    note = "the tables differ in their numbers of test images; the smaller ones are used"
    return counts, [note] if (differ & ~np.isnan(counts)).any() else []


def _given_tests(given: int | str | None) -> object:
    return sha256_file(Path(given).expanduser()) if isinstance(given, str) else given


def _hashes(paths: Sequence[str]) -> list[str]:
    return [sha256_file(Path(path).expanduser()) for path in paths]
