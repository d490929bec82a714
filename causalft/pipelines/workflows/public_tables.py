"""Public tables of class accuracy and of pre-training counts: families of models, found from the names of the files.

``class-accuracy/SET_ensemble_results.json`` holds ``{model: {"classwise": {class: accuracy}}}`` with models called
``backboneARCHITECTURE_pretrainedPRETRAINING`` (Udandarao et al., NeurIPS 2024). The counts of a set lie in either
folder, as ``SET_PRETRAINING_..._search_counts.json`` (the same) or ``class_frequency_PRETRAINING_SET.txt``, or
``..._SET_ori.txt`` (Wen et al., NeurIPS 2024). A further set is read when its files are there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from causalft.analysis.class_evidence.alike import LEAST_LEFT
from causalft.analysis.class_evidence.regression import within
from causalft.data.class_accuracy import ClassAccuracy, join_models, read_class_accuracy
from causalft.data.class_tables import name_key, read_class_table
from causalft.errors import CausalFTError, first_few, short
from causalft.methods.priors.known import KnownPrior, known_prior
from causalft.pipelines.workflows.class_evidence import Tables, log10_counts
from causalft.runs.files import existing

__all__ = ["Family", "families_of", "plausible_counts", "synonyms_by_place"]

Floats = NDArray[np.float64]

FOLDERS = ("pretraining-counts", "class-accuracy")
_ACCURACY = re.compile(r"(?P<set>.+)_ensemble_results\.json")
_MODEL = re.compile(r"backbone(?P<architecture>.+?)_pretrained(?P<pretraining>.+)")

_EXPECTED = 100
"""With more mentions than this to expect from the other pre-training sets, a count of 0 cannot be true."""

_SAME_PLACE = 0.9
_MOST_TESTS = 2000


@dataclass(frozen=True)
class Family:
    """Models of one architecture on one set of classes, pre-trained on different data with known counts.

    Attributes
    ----------
    set : str
        Of classes, such as ``imagenet``.
    architecture : str
        Such as ``ViT-B-16``.
    tables : Tables
        Models called like their pre-training set.
    alike : tuple of str
        Pre-training sets that are left out, because their counts can hardly be told from those of one that is in.
    with_alike : Tables, optional
        The same with them.
    name : str
        The architecture, and what tells the family from others of it.
    """

    set: str
    architecture: str
    tables: Tables
    alike: tuple[str, ...] = ()
    with_alike: Tables | None = None
    name: str = ""

    @property
    def key(self) -> str:
        """The architecture for a document: ``vit_b_16``."""
        return re.sub(r"[^a-z0-9]+", "_", self.name.lower()).strip("_")


def families_of(folder: str | os.PathLike[str]) -> list[Family]:
    """Find every family in a folder with ``pretraining-counts/`` and ``class-accuracy/``.

    A family needs two models with counts. Of models whose counts can hardly be told apart one is kept, that with the
    fewest mentions; each such pair is a family of its own besides.

    Raises
    ------
    CausalFTError
        If the folder lacks something, or no family is found.
    """
    root = existing(folder)
    places = [root / name for name in FOLDERS]
    lacking = [place.name for place in places if not place.is_dir()]
    if lacking:
        raise CausalFTError(
            f"{short(root, 300)} lacks {' and '.join(f'{name}/' for name in lacking)}; give the folder that holds "
            "pretraining-counts/ and class-accuracy/"
        )
    files = sorted(path for place in places for path in place.iterdir() if path.is_file())
    accuracy = {match["set"]: path for path in files if (match := _ACCURACY.fullmatch(path.name))}
    if not accuracy:
        raise CausalFTError(
            f"{short(places[1], 300)} holds no SET_ensemble_results.json, such as imagenet_ensemble_results.json"
        )
    families = [
        family
        for name in sorted(accuracy, key=_imagenet_first)
        for family in _families(name, accuracy[name], files)
    ]
    if not families:
        raise CausalFTError(
            f"{short(root, 300)} holds no architecture with counts of two of its pre-training sets; counts are "
            "read from class_frequency_PRETRAINING_SET.txt and SET_PRETRAINING_..._search_counts.json, for the sets "
            f"{first_few(sorted(accuracy))}"
        )
    return families


def _imagenet_first(name: str) -> tuple[bool, str]:
    return name != "imagenet", name


@dataclass(frozen=True)
class _ClassSet:
    """What the families of one set of classes share."""

    name: str
    classes: list[str]
    priors: dict[str, KnownPrior]
    prior_notes: dict[str, list[str]]
    n_test: Floats | None
    test_note: str

    def tables(self, models: Mapping[str, ClassAccuracy], chosen: Sequence[str]) -> Tables:
        """The tables of the ``chosen`` pre-training sets; models without known counts stand beside them."""
        further = [pretraining for pretraining in models if pretraining not in self.priors]
        used = [*chosen, *further]
        every = ClassAccuracy("", dict.fromkeys(self.classes, np.nan), "", "", "")
        _, accuracy, unmatched = join_models([every, *(models[pretraining] for pretraining in used)])
        notes = [self.test_note, *unmatched, *(note for p in chosen for note in self.prior_notes[p])]
        return Tables(
            models=list(chosen),
            outside=further,
            full_names={pretraining: models[pretraining].model for pretraining in used},
            classes=self.classes,
            accuracy=accuracy[1:],
            priors={pretraining: self.priors[pretraining] for pretraining in chosen},
            n_test=self.n_test,
            notes=[f"{self.name}: {note}" for note in notes],
        )


def _families(name: str, path: Path, files: Sequence[Path]) -> list[Family]:
    by_architecture: dict[str, dict[str, ClassAccuracy]] = {}
    every = read_class_accuracy(path)
    for table in every:
        if (found := _MODEL.fullmatch(table.model)) is not None:
            by_architecture.setdefault(found["architecture"], {})[found["pretraining"]] = table
    classes, accuracy, _ = join_models(every)
    names = sorted({pretraining for models in by_architecture.values() for pretraining in models})
    made = _ClassSet(name, classes, *_priors(name, classes, names, files), *_test_images(accuracy))
    apart: list[Family] = []
    alike: list[Family] = []
    for architecture, models in by_architecture.items():
        known = [pretraining for pretraining in models if pretraining in made.priors]
        if len(known) < 2:
            continue
        kept, pairs = _apart({pretraining: made.priors[pretraining] for pretraining in known})
        left = tuple(pretraining for pretraining in known if pretraining not in kept)
        if len(kept) > 1:
            whole = made.tables(models, known) if left else None
            apart.append(Family(name, architecture, made.tables(models, kept), left, whole, architecture))
        for pair in pairs:
            own = architecture if len(kept) == 1 else f"{architecture} {' '.join(pair)}"
            alike.append(Family(name, architecture, made.tables(models, pair), name=own))
    return [*sorted(apart, key=lambda family: -len(family.tables.models)), *alike]


def _apart(priors: Mapping[str, KnownPrior]) -> tuple[list[str], list[tuple[str, str]]]:
    """Pre-training sets that can be told apart, fewest mentions first, and the pairs that cannot."""
    logs = {name: log10_counts(prior) for name, prior in priors.items()}
    order = sorted(priors, key=lambda name: float(np.nansum(priors[name].counts)))
    kept: list[str] = []
    pairs = []
    for name in order:
        near = [other for other in kept if _left(logs[other], logs[name]) < LEAST_LEFT]
        pairs += [(other, name) for other in near]
        if not near:
            kept.append(name)
    return kept, pairs


def _left(one: Floats, other: Floats) -> float:
    """Share of the variance of two log counts that class effects leave."""
    known = ~np.isnan(one + other)
    both = np.stack([one[known], other[known]])
    if both.shape[1] < 2:
        return 1.0
    return float((within(both) ** 2).sum() / ((both - both.mean(axis=1, keepdims=True)) ** 2).sum())


def _priors(
    name: str, classes: Sequence[str], sets: Sequence[str], files: Sequence[Path]
) -> tuple[dict[str, KnownPrior], dict[str, list[str]]]:
    found: dict[str, KnownPrior] = {}
    notes: dict[str, list[str]] = {}
    for pretraining in sets:
        path = _counts_file(name, pretraining, files)
        if path is None:
            continue
        table = read_class_table(path)
        synonyms = synonyms_by_place(list(table), classes)
        found[pretraining] = known_prior(pretraining, table, classes, source=str(path), name_map=synonyms)
        notes[pretraining] = [
            f"{pretraining}: '{one}' is '{other}' in the counts, by its place in the list"
            for one, other in synonyms.items()
        ]
    log = {pretraining: prior.counts for pretraining, prior in found.items()}
    plausible, doubted = plausible_counts(log)
    for pretraining, prior in found.items():
        found[pretraining] = replace(prior, counts=plausible[pretraining])
        at = [classes[k] for k in doubted[pretraining]]
        if at:
            notes[pretraining].append(
                f"{pretraining}: a count of 0 is taken as no entry where the other sets lead to expect more "
                f"than {_EXPECTED}: "
                f"{first_few(at, 10)}"
            )
    return found, notes


def _counts_file(name: str, pretraining: str, files: Sequence[Path]) -> Path | None:
    """The counts of a pre-training set for a set of classes."""
    one, other = re.escape(name), re.escape(pretraining)
    patterns = (rf"class_frequency_{other}_{one}(_ori)?\.txt", rf"{one}_{other}_(.+_)?search_counts\.json")
    for pattern in patterns:
        for path in files:
            if re.fullmatch(pattern, path.name, re.IGNORECASE):
                return path
    return None


def synonyms_by_place(names: Sequence[str], classes: Sequence[str]) -> dict[str, str]:
    """Classes to names that stand at their place, where two lists of classes agree in order but for a few names.

    Parameters
    ----------
    names : sequence of str
        Of a table of counts, in the order of the file.
    classes : sequence of str

    Returns
    -------
    dict of str to str
        Empty unless the lists are equally long and nine of ten names stand at the same place.

    Examples
    --------
    >>> synonyms_by_place(["airplane", *"abcdefghi"], ["plane", *"abcdefghi"])
    {'plane': 'airplane'}
    >>> synonyms_by_place(["b", "a"], ["a", "b"])
    {}
    """
    if len(names) != len(classes):
        return {}
    keys, own = [name_key(name) for name in names], [name_key(name) for name in classes]
    same = sum(one == other for one, other in zip(keys, own, strict=True))
    if same < _SAME_PLACE * len(classes):
        return {}
    strange = set(own) - set(keys)
    return {classes[k]: names[k] for k in range(len(classes)) if own[k] in strange and keys[k] not in own}


def plausible_counts(counts: Mapping[str, Floats]) -> tuple[dict[str, Floats], dict[str, list[int]]]:
    """Turn zeros that cannot be true into NaN: those of classes that the other sets lead to expect often.

    Parameters
    ----------
    counts : mapping of str to (K,) array
        By pre-training set; NaN where unknown.

    Returns
    -------
    counts : dict of str to (K,) array
    doubted : dict of str to list of int
        The classes of each.

    Examples
    --------
    >>> found, doubted = plausible_counts({"a": np.array([0., 10., 900.]), "b": np.array([7e3, 1e2, 9e3])})
    >>> found["a"].tolist(), doubted
    ([nan, 10.0, 900.0], {'a': [0], 'b': []})
    """
    logs = {name: np.log10(np.where(values > 0, values, np.nan)) for name, values in counts.items()}
    found, doubted = {}, {}
    for name, values in counts.items():
        expected = []
        for other in counts:
            ratio = logs[name] - logs[other]
            if other != name and np.isfinite(ratio).any():
                expected.append(logs[other] + np.nanmedian(ratio))
        zeros = np.flatnonzero(values == 0)
        guess = np.array(expected)[:, zeros] if expected else np.full((1, len(zeros)), np.nan)
        known = ~np.isnan(guess).all(axis=0)
        often = np.zeros(len(zeros), dtype=bool)
        often[known] = np.nanmean(guess[:, known], axis=0) > np.log10(_EXPECTED)
        # a class that no set ever names was not looked for under its name
        nowhere = ~known
        wrong = zeros[often | nowhere]
        found[name] = np.where(np.isin(np.arange(len(values)), wrong), np.nan, values)
        doubted[name] = wrong.tolist()
    return found, doubted


def _test_images(accuracy: Floats) -> tuple[Floats | None, str]:
    """Test images per class, from the smallest step between the accuracies; they cannot be fewer."""
    values = accuracy[np.isfinite(accuracy)]
    for n in range(1, _MOST_TESTS + 1):
        steps = values * n
        if np.abs(steps - np.round(steps)).max() <= 1e-9 + 6e-6 * n and n > 1:
            told = f"all accuracies are multiples of 1/{n}, so there are at least {n} test images per class, "
            f"taken as {n}"
            return np.full(accuracy.shape[1], float(n)), told
    return None, "no counts of test images, so the intervals are over classes only"
