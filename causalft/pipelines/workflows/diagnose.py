"""The work of ``causalft diagnose --data``: zero-shot and label prior of every stratum, and what follows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalft.analysis.before_training.strata import StrataDiagnosis, diagnose_strata
from causalft.analysis.diagnosis.scores import score_zero_shot
from causalft.data.groups import class_accuracy, imbalance_factor
from causalft.data.image_set import ImageSet
from causalft.data.splits import Splits
from causalft.errors import CausalFTError
from causalft.methods.adaptation.tune import encode_zero_shot
from causalft.methods.priors import KnownPrior
from causalft.models.features.cache import FeatureCache, cache_of
from causalft.models.strata.zoo import Zoo, check_strata, has_manifest
from causalft.models.tuning.processes import pick_device
from causalft.pipelines.pages.before_training import (
    diagnosis_details,
    diagnosis_verdict,
    write_diagnosis_page,
)
from causalft.pipelines.workflows.class_evidence import prior_document
from causalft.pipelines.workflows.class_maps import zero_shot_map_cards
from causalft.pipelines.workflows.fit_data import data_document, load_splits, open_data
from causalft.pipelines.workflows.prior import LabelledLogits, describe_prior
from causalft.pipelines.workflows.settings import DiagnoseSettings, PriorSettings
from causalft.runs.documents import Document
from causalft.runs.folder import Run
from causalft.runs.lifecycle import new_run
from causalft.runs.limits import BUILT_IN
from causalft.runs.notebook import ShownAsTable

__all__ = ["DataDiagnosis", "Parts", "diagnose_data", "draw_labelled", "load_parts"]


_FEWEST_CLASSES = 3
"""One for each P group."""


@dataclass(frozen=True, repr=False)
class DataDiagnosis(ShownAsTable):
    """Result of :func:`diagnose_data`.

    Attributes
    ----------
    run : Run, optional
        The folder, if one was given.
    metrics : dict
        Content of ``metrics.json``.
    found : StrataDiagnosis
    """

    run: Run | None
    metrics: dict[str, Any]
    found: StrataDiagnosis

    def _table(self) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        return self.found._table()

    def __repr__(self) -> str:
        return f"DataDiagnosis({self.found!r})"


@dataclass(frozen=True)
class Parts:
    """What a diagnosis reads of a set of images.

    Attributes
    ----------
    splits : Splits
        ``test`` is scored. Without a training split ``train`` is cut from the images, like the others.
    class_counts : (K,) array, optional
        Training images; None where the data have no training split.
    notes : tuple of str
    """

    splits: Splits
    class_counts: NDArray[np.int64] | None
    notes: tuple[str, ...]


def load_parts(settings: DiagnoseSettings) -> Parts:
    """Open and cut the images as ``fit`` does; images without a training split are cut without D groups.

    Raises
    ------
    CausalFTError
        As :func:`causalft.pipelines.workflows.fit_data.load_splits`.
    """
    fit = settings.fit
    if fit.data in BUILT_IN:
        splits = load_splits(fit, fit.seed)
        return Parts(splits, splits.train.class_counts, splits.notes)
    images = open_data(fit)
    if not images.splits or "train" in images.splits or has_manifest(fit.zoo):
        splits = load_splits(fit, fit.seed, images)
        return Parts(splits, splits.train.class_counts, splits.notes)
    if fit.imbalance_factor is not None:
        raise CausalFTError(
            f"{images.location} has no training split (it has {', '.join(images.splits)}), so there is nothing to "
            "resample to a long tail; leave --imbalance-factor out"
        )
    note = (
        f"no training split (only {', '.join(images.splits)}): D groups are not known, and the labelled images for the "
        "priors are cut from what is there"
    )
    given = images.splits
    if {"validation", "test"} <= given.keys():
        validation, test = (images.subset(given[name]) for name in ("validation", "test"))
        return Parts(Splits(images.subset([]), validation, test), None, (*images.notes, note))
    splits = load_splits(fit, fit.seed, images.subset(np.arange(len(images))))
    return Parts(splits, None, (*images.notes, note))


def draw_labelled(splits: Splits, most: int, seed: int) -> ImageSet:
    """Training images that complete the validation images of each class to at most ``most`` labelled ones.

    Examples
    --------
    >>> pixels = np.zeros((30, 2, 2, 3), np.uint8)
    >>> images = ImageSet.from_arrays(pixels, np.arange(30) % 2, ["a", "b"])
    >>> splits = Splits(images.subset(range(20)), images.subset(range(20, 26)), images.subset(range(26, 30)))
    >>> draw_labelled(splits, 8, seed=0).class_counts.tolist()
    [5, 5]
    """
    train, rng = splits.train, np.random.default_rng([seed, 7])
    wanted = np.maximum(most - splits.validation.class_counts, 0)
    order = rng.permutation(len(train))
    by_class = order[np.argsort(train.labels[order], kind="stable")]
    counts = train.class_counts
    place = np.arange(len(train)) - np.repeat(np.cumsum(counts) - counts, counts)
    rows = by_class[place < wanted[train.labels[by_class]]]
    return train.subset(np.sort(rows))


def diagnose_data(
    settings: DiagnoseSettings,
    out: str | os.PathLike[str] | None = None,
    *,
    command: str = "",
    progress: bool | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> DataDiagnosis:
    """Diagnose strata on a set of images: nothing is trained, and the test images are only scored.

    Parameters
    ----------
    settings : DiagnoseSettings
    out : path, optional
        Folder for ``metrics.json`` and the page.
    command : str
        Shown on the page.
    progress : bool, optional
    say : callable
        Called with a line per step.

    Raises
    ------
    CausalFTError
        For wrong settings, data, weights or folder.
    """
    with new_run(out, "diagnose") as new:
        settings.check()
        settings = settings.absolute()
        fit = settings.fit
        new.create({**asdict(settings), "zoo": fit.zoo_name, "prior_sha256": fit.prior_files.hashes()})
        zoo = fit.open_zoo()
        check_strata(fit.strata, zoo)
        parts = load_parts(settings)
        n_classes = len(parts.splits.class_names)
        if n_classes < _FEWEST_CLASSES:
            raise CausalFTError(
                f"{fit.data} has {n_classes} classes, too few for groups by prior; give {_FEWEST_CLASSES} or more"
            )
        known = fit.prior_files.read(fit.prior_names, parts.splits.class_names)
        parts = replace(parts, notes=(*parts.notes, *_of_priors(known, parts.splits.class_names)))
        _describe(settings, zoo, parts, say)
        cache = cache_of(fit.cache, fit.data)
        strata = {
            name: _stratum(settings, zoo, name, parts, known.get(name), cache, progress)
            for name in fit.strata
        }
        for name, each in strata.items():
            for note in each.notes:
                say(f"note     {name}: {note}")
        best = max(strata, key=lambda name: strata[name].labelled_accuracy)
        test = parts.splits.test
        found = diagnose_strata(
            test.labels,
            test.class_names,
            parts.class_counts,
            {name: each.logits for name, each in strata.items()},
            {name: each.prior for name, each in strata.items()},
            known={name: prior.prior for name, prior in known.items() if name in strata},
            chosen=best,
            n_boot=settings.n_boot,
            n_permutations=settings.permutations,
            seed=fit.seed,
        )
        metrics = _document(settings, parts, strata, known, found)

        def page(run: Run, document: Document) -> None:
            maps = zero_shot_map_cards(fit, zoo, test, found.tail)
            write_diagnosis_page(run, document, found, parts.splits, command, maps)

        metrics = new.finish(metrics, page)
        return DataDiagnosis(new.kept, metrics, found)


@dataclass(frozen=True)
class _Stratum:
    """Zero-shot logits of the test images, and the label prior estimated on other images."""

    logits: NDArray[np.floating[Any]]
    document: Document
    labelled_accuracy: float
    sha256: str
    source: str
    precision: str
    anchors: str
    pretraining_loss: str
    notes: tuple[str, ...]

    @property
    def prior(self) -> NDArray[np.float64]:
        return np.array([row["prior"] for row in self.document["classes"]])


def _stratum(
    settings: DiagnoseSettings,
    zoo: Zoo,
    name: str,
    parts: Parts,
    known_prior: KnownPrior | None,
    cache: FeatureCache | None,
    progress: bool | None,
) -> _Stratum:
    fit, splits = settings.fit, parts.splits
    stratum = zoo.load(name, device=pick_device(fit.device))
    labelled: list[ImageSet] = [splits.validation]
    notes = []
    if stratum.has_text:
        labelled.append(draw_labelled(splits, settings.n_prior, fit.seed))
    elif parts.class_counts is None:
        raise CausalFTError(
            f"{name} has no text tower, and the data have no training split whose class means could stand in for "
            "captions; name another stratum"
        )
    else:
        notes.append("no text tower: class means of the training images stand in for captions")
    labelled = [part for part in labelled if len(part)]
    found = encode_zero_shot(
        stratum,
        splits.class_names,
        fit.tuning,
        (*labelled, splits.test),
        train=None if stratum.has_text else splits.train,
        cache=cache,
        batch_size=fit.tuning.batch_size,
        progress=progress,
    )
    *logits, test = found.logits
    known = np.concatenate(logits)
    labels = np.concatenate([part.labels for part in labelled])
    _check_labelled(labels, splits, name)
    truth = None if stratum.card is None else stratum.card.prior_of(splits.class_names)
    document = describe_prior(
        name,
        LabelledLogits(known, labels, list(splits.class_names), truth),
        PriorSettings(target="shares", n_boot=settings.n_boot_prior, seed=fit.seed),
        stratum.pretraining_loss,
        known_prior,
    )
    if not document["converged"]:
        notes.append("the label prior did not converge; give more labelled images per class (--prior-images)")
    of_class = class_accuracy(known.argmax(axis=1) == labels, labels, len(splits.class_names))
    return _Stratum(
        logits=test,
        document=document,
        labelled_accuracy=float(np.nanmean(of_class)),
        sha256=stratum.sha256,
        source=stratum.source,
        precision=found.precision,
        anchors="captions" if stratum.has_text else "class means",
        pretraining_loss=stratum.pretraining_loss,
        notes=tuple(notes),
    )


def _check_labelled(labels: NDArray[np.int64], splits: Splits, name: str) -> None:
    """Refuse too few labelled images for a prior."""
    counts = np.bincount(labels, minlength=splits.train.n_classes)
    empty = np.flatnonzero(counts == 0)
    if 2 * len(empty) > len(counts):
        raise CausalFTError(
            f"{len(empty)} of {len(counts)} classes ('{splits.class_names[empty[0]]}' first) have no labelled image "
            f"beside the test images, too few for the prior of {name}; give --n-validation 5 or more, or fewer test "
            "images (--n-test)"
        )


def _of_priors(known: Mapping[str, KnownPrior], classes: Sequence[str]) -> list[str]:
    """What did not match between classes and counts."""
    return [note for prior in known.values() for note in prior.notes(classes)]


def _document(
    settings: DiagnoseSettings,
    parts: Parts,
    strata: dict[str, _Stratum],
    known: Mapping[str, KnownPrior],
    found: StrataDiagnosis,
) -> Document:
    fit, splits = settings.fit, parts.splits
    data = data_document(fit, splits) if parts.class_counts is not None else _untrained(fit.data, splits)
    metrics: Document = {
        "zoo": fit.zoo_name,
        "weights": {name: each.sha256 for name, each in strata.items()},
        "sources": {name: each.source for name, each in strata.items()},
        "data": {**data, "notes": list(parts.notes)},
        **found.to_metrics(),
        "priors": {
            name: {**(prior_document(known[name]) if name in known else {}), **each.document}
            for name, each in strata.items()
        },
        "notes": list(parts.notes),
        "conclusion": [diagnosis_verdict(found.zero_shot), *diagnosis_details(found)],
    }
    for k, row in enumerate(metrics["classes"]):
        row["count"] = {name: _count(known.get(name), k) for name in strata}
    for name, each in strata.items():
        metrics["strata"][name].update(
            zero_shot=asdict(score_zero_shot(splits.test.labels, each.logits, each.prior)),
            labelled_accuracy=each.labelled_accuracy,
            precision=each.precision,
            zero_shot_from=each.anchors,
            pretraining_loss=each.pretraining_loss,
        )
    return metrics


def _count(prior: KnownPrior | None, k: int) -> float | None:
    return None if prior is None or np.isnan(prior.counts[k]) else float(prior.counts[k])


def _untrained(data: str, splits: Splits) -> Document:
    """The entry ``data`` of images without a training split."""
    return {
        "name": data,
        "n_train": 0,
        "n_validation": len(splits.validation) + len(splits.train),
        "n_test": len(splits.test),
        "fingerprint": splits.test.fingerprint,
        "imbalance_factor": None,
    }


def _describe(settings: DiagnoseSettings, zoo: Zoo, parts: Parts, say: Callable[[str], None]) -> None:
    fit, splits, counts = settings.fit, parts.splits, parts.class_counts
    if counts is None:
        what = f"{len(splits.class_names)} classes, no training split"
    else:
        what = (
            f"{len(splits.train)} training images of {len(counts)} classes, {counts.max()} to {counts.min()} a class "
            f"(imbalance {imbalance_factor(counts):.0f})"
        )
    say(f"data     {fit.data}: {what}; {len(splits.validation)} validation, {len(splits.test)} test")
    for note in parts.notes:
        say(f"note     {note}")
    say(f"zoo      {zoo.label}")
