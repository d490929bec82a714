"""Cut a set of images into splits that share no image, and how many images of each class go to each.

A share (``"auto"``) is a fifth of a class for test and a tenth for validation, rounded and capped. Training keeps at
least one image; a test image takes a class of 3, a validation image a class of 4.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.data.duplicates import DuplicateReport, duplicate_groups
from causalft.data.groups import imbalance_factor as measured_imbalance
from causalft.data.hidden import Unlabelled
from causalft.data.image_set import ImageSet
from causalft.data.longtail import Order, by_class, class_order, tail_rows, usable
from causalft.errors import CausalFTError
from causalft.runs.limits import AUTO
from causalft.runs.notebook import ShownAsTable

__all__ = ["Splits", "choose_sizes", "cut_splits", "pool_splits"]

# Most test and validation images of a class that a share takes.
_FIT_CAPS = (50, 10)
_POOL_CAPS = (1000, 50)

_TEST_PART, _VALIDATION_PART = 5, 10  # a fifth and a tenth
_FIRST_VALIDATED = 4  # images of the smallest class with one for validation


@dataclass(frozen=True, repr=False)
class Splits(ShownAsTable):
    """Three disjoint parts of one set.

    Attributes
    ----------
    train, validation, test : ImageSet
        All with the same class names.
    indices : dict of str to array of int64
        Row numbers of each part in the set that was cut, after empty classes were dropped.
    order : tuple of str or None
        Class names, head first, if the training part was drawn to a long tail.
    duplicates : DuplicateReport or None
        Duplicates among all images; None if not searched.
    notes : tuple of str
        Sentences about what was left out.
    unlabelled : Unlabelled or None
        Images drawn beside the training part whose labels are hidden, in no other part.
    """

    train: ImageSet
    validation: ImageSet
    test: ImageSet
    indices: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    order: tuple[str, ...] | None = None
    duplicates: DuplicateReport | None = None
    notes: tuple[str, ...] = ()
    unlabelled: Unlabelled | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The K class names."""
        return self.train.class_names

    def _table(self) -> tuple[list[str], list[list[Any]]]:
        parts = (self.train, self.validation, self.test)
        counts = zip(self.class_names, *(part.class_counts for part in parts))
        return ["class", "train", "validation", "test"], [list(row) for row in counts]

    def __repr__(self) -> str:
        counts = self.train.class_counts
        return (
            f"Splits('{self.train.name}': {self.train.n_classes} classes; train {len(self.train)} "
            f"({counts.min()} to {counts.max()} per class, imbalance {measured_imbalance(counts):.3g}), "
            f"validation {len(self.validation)}, test {len(self.test)})"
        )


def cut_splits(
    images: ImageSet,
    *,
    n_validation: int | str = AUTO,
    n_test: int | str = AUTO,
    seed: int,
    imbalance_factor: float | None = None,
    n_max: int | None = None,
    profile: str = "exponential",
    order: Order = "random",
    prior: ArrayLike | None = None,
    drop_empty_classes: bool = False,
    duplicates: str | DuplicateReport | None = "bytes",
) -> Splits:
    """Cut test and validation splits; the rest is for training, as it is or drawn to a long tail.

    By default a fifth of each class is cut for test (at most 50 images) and a tenth for validation (at most 10); every
    class keeps a training image. Fixed numbers give balanced splits.

    The test split depends only on the seed, ``n_test`` and ``duplicates``, so all imbalance factors share it; with the
    same ``n_max``, draws are nested. Existing splits (`ImageSet.splits`) are kept whole. Duplicates never cross splits:
    they are not cut, and training images that repeat an image of an existing split are left out, with a note.

    Parameters
    ----------
    images : ImageSet
    n_validation, n_test : int or "auto"
        Images of each class, or a share of each; ignored for existing splits.
    seed : int
    imbalance_factor : float, optional
        Largest over smallest training class; None keeps every remaining image.
    n_max : int, optional
        Images of the head class; by default the most that every class can follow.
    profile : str
        A name of `causalft.data.tails.PROFILES`; every class keeps at least one image.
    order : str, or a sequence of class names or numbers, head first
        A name of `causalft.data.tails.ORDERS`.
    prior : (K,) array, optional
        Label prior, for the orders that stand against one.
    drop_empty_classes : bool
        Leave out classes without an image instead of refusing them.
    duplicates : {"bytes", "pixels", "near"}, DuplicateReport or None
        What counts as the same image (`causalft.data.duplicates`), an earlier report, or None to skip the search.

    Raises
    ------
    CausalFTError
        For a single class, an empty class, or a class with fewer images than its splits need; the message names
        the class and sizes that would work.

    Examples
    --------
    >>> pixels = np.random.default_rng(0).integers(0, 256, (60, 4, 4, 3)).astype(np.uint8)
    >>> images = ImageSet.from_arrays(pixels, np.arange(60) % 3, ["ant", "bee", "cow"])
    >>> cut_splits(images, n_validation=2, n_test=5, seed=0, imbalance_factor=10, order="class")
    Splits('arrays': 3 classes; train 18 (1 to 13 per class, imbalance 13), validation 6, test 15)
    >>> cut_splits(images, seed=0)
    Splits('arrays': 3 classes; train 42 (14 to 14 per class, imbalance 1), validation 6, test 12)
    """
    images = usable(images, drop_empty_classes)
    test_rng, draw_rng = (np.random.default_rng([seed, purpose]) for purpose in range(2))
    report = duplicate_groups(images, duplicates) if isinstance(duplicates, str) else duplicates
    parts, notes = _evaluation_parts(
        images, n_validation, n_test, test_rng, report, np.ones(images.n_classes, np.int64), _FIT_CAPS
    )
    names: tuple[str, ...] | None = None
    train = parts.pop("rest")
    if imbalance_factor is not None:
        rank = class_order(images.subset(train), order, draw_rng, prior)
        names = tuple(images.class_names[k] for k in rank)
        train = train[tail_rows(images.subset(train), rank, imbalance_factor, n_max, profile, draw_rng)]
    elif n_max is not None:
        raise CausalFTError(
            "n_max needs an imbalance factor; give imbalance_factor=1 for n_max images of every class"
        )
    indices = {"train": train, **parts}
    return Splits(
        train=images.subset(train),
        validation=images.subset(indices["validation"]),
        test=images.subset(indices["test"]),
        indices=indices,
        order=names,
        duplicates=report,
        notes=images.notes + tuple(notes),
    )


def pool_splits(
    images: ImageSet,
    *,
    n_test: int | str = AUTO,
    n_validation: int | str = AUTO,
    seed: int,
    pool_fraction: float = 0.5,
    duplicates: str | DuplicateReport | None = "near",
) -> tuple[dict[str, NDArray[np.int64]], DuplicateReport | None]:
    """Cut a set into a pre-training pool and downstream training, validation and test parts.

    Duplicates stay together: they are never test or validation, and a group goes whole to the pool, or downstream if
    the pool has no room.

    Parameters
    ----------
    images : ImageSet
    n_test, n_validation : int or "auto"
        As in `cut_splits`; a share takes at most 1000 test and 50 validation images of a class.
    seed : int
    pool_fraction : float in (0, 1)
        Share of each class for the pool.
    duplicates : as in `cut_splits`

    Returns
    -------
    parts : dict of str to array of int64
        ``pool``, ``downstream``, ``validation``, ``test``: disjoint, sorted row numbers.
    report : DuplicateReport or None

    Raises
    ------
    CausalFTError
        If a class has too few images; the message names it.

    Examples
    --------
    >>> pixels = np.random.default_rng(0).integers(0, 256, (40, 4, 4, 3)).astype(np.uint8)
    >>> images = ImageSet.from_arrays(pixels, np.arange(40) % 2, ["ant", "bee"])
    >>> parts, report = pool_splits(images, n_test=5, n_validation=2, seed=0, duplicates="pixels")
    >>> {name: len(rows) for name, rows in parts.items()}
    {'pool': 20, 'downstream': 6, 'validation': 4, 'test': 10}
    """
    if not 0 < pool_fraction < 1:
        raise CausalFTError(f"pool_fraction {pool_fraction} is not between 0 and 1")
    images = usable(images, drop_empty_classes=False)
    rng = np.random.default_rng([seed, 2])
    report = duplicate_groups(images, duplicates) if isinstance(duplicates, str) else duplicates
    source = images.splits.get("train", np.arange(len(images)))
    counts = np.bincount(images.labels[source], minlength=images.n_classes)
    quota = np.maximum(1, np.rint(pool_fraction * counts)).astype(np.int64)
    single = np.flatnonzero(counts < 2)
    if len(single):
        name = images.class_names[single[0]]
        raise CausalFTError(
            f"class '{name}' has {counts[single[0]]} image in {images.location} ({len(single)} of {images.n_classes} "
            "classes have fewer than 2), and the pre-training pool and the training part need one each; add images, or "
            "leave the class out"
        )
    quota = np.minimum(quota, counts - 1)
    parts, _ = _evaluation_parts(images, n_validation, n_test, rng, report, quota + 1, _POOL_CAPS)
    rest = parts.pop("rest")
    in_pool = np.zeros(len(images), dtype=bool)
    room = quota.copy()
    is_rest = np.zeros(len(images), dtype=bool)
    is_rest[rest] = True
    single = is_rest.copy()
    groups = report.groups if report is not None else ()
    for g in rng.permutation(len(groups)):
        members = [i for i in groups[g] if is_rest[i]]
        single[members] = False
        need = np.bincount(images.labels[members], minlength=images.n_classes)
        if members and (need <= room).all():
            in_pool[members] = True
            room -= need
    singles = by_class(images, np.flatnonzero(single))
    for k in range(images.n_classes):
        candidates = rng.permutation(singles[k])
        in_pool[candidates[: room[k]]] = True
    parts = {"pool": np.flatnonzero(in_pool), "downstream": np.flatnonzero(is_rest & ~in_pool), **parts}
    for part in ("pool", "downstream"):
        empty = np.flatnonzero(np.bincount(images.labels[parts[part]], minlength=images.n_classes) == 0)
        if len(empty):
            raise CausalFTError(
                f"class '{images.class_names[empty[0]]}' has so many duplicates that none of its images is left "
                f"for the {part} part; remove copies from {images.location}"
            )
    return parts, report


def choose_sizes(
    counts: NDArray[np.int64],
    alone: NDArray[np.int64],
    reserve: NDArray[np.int64],
    *,
    n_test: int | str,
    n_validation: int | str,
    caps: tuple[int, int] = _FIT_CAPS,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the numbers of test and of validation images of each class, (K,) each.

    A fixed number is taken of every class, even if the class has fewer.

    Parameters
    ----------
    counts, alone, reserve : (K,) arrays of int
        Images of each class, those without a duplicate (only they can be cut), and those kept for training.
    n_test, n_validation : int or "auto"
    caps : (int, int)
        Most test and validation images of a class under "auto".

    Examples
    --------
    >>> counts = np.array([150, 12, 6, 4, 3, 2, 1])
    >>> test, validation = choose_sizes(counts, counts, np.ones(7, int), n_test="auto", n_validation="auto")
    >>> test.tolist(), validation.tolist()
    ([30, 2, 1, 1, 1, 0, 0], [10, 1, 1, 1, 0, 0, 0])
    """
    room = np.maximum(np.minimum(counts - reserve, alone), 0)
    if n_validation != AUTO:  # what is fixed comes first
        room = np.maximum(room - int(n_validation), 0)
    test = np.full(len(counts), 0 if n_test == AUTO else int(n_test), dtype=np.int64)
    if n_test == AUTO:
        test = np.minimum(np.minimum(_share(counts, _TEST_PART), caps[0]), room)
    room = np.maximum(room - test, 0)
    validation = np.full(len(counts), 0 if n_validation == AUTO else int(n_validation), dtype=np.int64)
    if n_validation == AUTO:
        share = np.maximum(_share(counts, _VALIDATION_PART), counts >= _FIRST_VALIDATED)
        validation = np.minimum(np.minimum(share, caps[1]), room)
    return test.astype(np.int64), validation.astype(np.int64)


def _evaluation_parts(
    images: ImageSet,
    n_validation: int | str,
    n_test: int | str,
    rng: np.random.Generator,
    report: DuplicateReport | None,
    reserve: NDArray[np.int64],
    caps: tuple[int, int],
) -> tuple[dict[str, NDArray[np.int64]], list[str]]:
    """Rows of validation, test and rest; the rest keeps at least ``reserve`` (K,) images of each class."""
    _check_size(n_validation, "n_validation")
    _check_size(n_test, "n_test")
    if report is not None and len(report.group) != len(images):
        raise CausalFTError(
            f"the duplicate report is about {len(report.group)} images, the set has {len(images)}"
        )
    given, notes = _without_leaks(images, report)
    source = given.pop("train")
    wanted = {
        name: size
        for name, split, size in (("n_test", "test", n_test), ("n_validation", "validation", n_validation))
        if split not in given
    }
    alone = report.alone if report is not None else np.ones(len(images), dtype=bool)
    counts = np.bincount(images.labels[source], minlength=images.n_classes)
    single = np.bincount(images.labels[source[alone[source]]], minlength=images.n_classes)
    test, validation = _sizes(images, counts, single, reserve, wanted, caps)
    cut: dict[str, list[NDArray[np.int64]]] = {"validation": [], "test": [], "rest": []}
    for k, members in enumerate(by_class(images, source)):
        rows = rng.permutation(members)
        eligible = rows[alone[rows]]
        n_cut = test[k] + validation[k]
        cut["test"].append(eligible[: test[k]])
        cut["validation"].append(eligible[test[k] : n_cut])
        cut["rest"].append(rows[~np.isin(rows, eligible[:n_cut])])
    parts = {name: np.sort(np.concatenate(rows)) for name, rows in cut.items()}
    return {**parts, **given}, notes


def _sizes(
    images: ImageSet,
    counts: NDArray[np.int64],
    alone: NDArray[np.int64],
    reserve: NDArray[np.int64],
    wanted: dict[str, int | str],
    caps: tuple[int, int],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(K,) test and (K,) validation images per class; refused, with sizes that work, if a class has too few."""

    def sizes(n_test: int | str, n_validation: int | str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return choose_sizes(counts, alone, reserve, n_test=n_test, n_validation=n_validation, caps=caps)

    test, validation = sizes(wanted.get("n_test", 0), wanted.get("n_validation", 0))
    needed = test + validation
    short = np.flatnonzero((counts < needed + reserve) | (alone < needed))
    missing = [
        name
        for name, found in (("test", test), ("validation", validation))
        if wanted.get(f"n_{name}") == AUTO and not found.any()
    ]
    if not len(short) and not missing:
        return test, validation
    shared = sizes(*(AUTO if name in wanted else 0 for name in ("n_test", "n_validation")))
    works = {name: found.any() for name, found in zip(("n_test", "n_validation"), shared)}
    room = int(np.minimum(counts - reserve, alone).min())
    in_python, as_options = _sizes_that_work(
        room, wanted, share_works=not missing and all(works[name] for name in wanted)
    )
    if missing and not len(short):
        what = (
            f"no class of {images.location} has enough images for a share of it to go to {' or '.join(missing)} "
            f"(the largest has {counts.max()}; of 3 one is tested, of 4 one is for validation as well)"
        )
    else:
        k, least = int(short[0]), int(counts.argmin())
        only = f", {alone[k]} of them without a duplicate," if alone[k] < min(counts[k], needed[k]) else ""
        smallest = f" ('{images.class_names[least]}' {counts[least]})" if counts[least] < counts[k] else ""
        what = (
            f"class '{images.class_names[k]}' has {counts[k]} images{only} in {images.location}{smallest}; "
            f"{test[k]} for test, {validation[k]} for validation and at least {int(reserve[k])} to learn from are "
            "needed"
        )
    raise CausalFTError(f"{what}; {in_python}", on_command_line=f"{what}; {as_options}")


def _without_leaks(
    images: ImageSet, report: DuplicateReport | None
) -> tuple[dict[str, NDArray[np.int64]], list[str]]:
    """The existing splits (else all rows as ``train``), without copies of images of a later split."""
    given = dict(images.splits) or {"train": np.arange(len(images))}
    if "train" not in given:
        raise CausalFTError(
            f"{images.location} has no train split (it has {', '.join(given)}); open its training part with it"
        )
    notes = []
    taken = np.empty(0, dtype=np.int64)
    for name in ("test", "validation", "train"):
        if name not in given or report is None:
            continue
        leaks = np.isin(report.group[given[name]], taken)
        if leaks.any():
            first = images.files[int(given[name][leaks][0])]
            notes.append(
                f"left {int(leaks.sum())} {name} images out because test or validation holds the same image: {first}"
            )
            given[name] = given[name][~leaks]
        taken = np.concatenate([taken, report.group[given[name]]])
    return given, notes


def _check_size(size: int | str, name: str) -> None:
    """Refuse anything but ``"auto"`` and whole numbers from 0 on."""
    whole = isinstance(size, (int, np.integer)) and not isinstance(size, bool)
    if whole and int(size) < 0:
        raise CausalFTError(
            f'a split cannot have {size} images per class; give {name} 0 or more, or "auto"',
            on_command_line=f"a split cannot have {size} images per class; "
            f"give --{name.replace('_', '-')} 0 or more, or auto",
        )
    if not whole and not (isinstance(size, str) and size == AUTO):
        option = "--" + name.replace("_", "-")
        raise CausalFTError(
            f'{name}={size!r}: give "auto" or a whole number, 0 or more',
            on_command_line=f"{option} {size}: give auto or a whole number, 0 or more",
        )


def _share(counts: NDArray[np.int64], part: int) -> NDArray[np.int64]:
    """``counts / part``, halves rounded up."""
    return (2 * counts + part) // (2 * part)


def _sizes_that_work(room: int, wanted: dict[str, int | str], *, share_works: bool) -> tuple[str, str]:
    """Suggest sizes, in the words of Python and of the command line.

    ``room`` is what can be cut of every class, ``wanted`` what was asked for.

    >>> _sizes_that_work(5, {"n_test": 50, "n_validation": 10}, share_works=True)[1]
    'use --n-test auto --n-validation auto (a share of each class), or --n-test 2 --n-validation 1'
    >>> _sizes_that_work(1, {"n_test": 50, "n_validation": 10}, share_works=False)[0]
    'no size works here: add images'
    """
    parts = {"n_test": 2, "n_validation": 4}
    smaller = {
        name: 0 if size == 0 else min(max(1, room // parts[name]), room if size == AUTO else int(size))
        for name, size in wanted.items()
    }
    offers: list[tuple[dict[str, int | str], str]] = []
    if share_works:
        offers.append((dict.fromkeys(wanted, AUTO), " (a share of each class)"))
    if room and sum(smaller.values()) <= room and smaller != wanted:
        offers.append((dict(smaller), ""))
    if not offers:
        return ("no size works here: add images",) * 2
    in_python = [", ".join(f"{name}={size!r}" for name, size in offer.items()) + why for offer, why in offers]
    as_options = [
        " ".join(f"--{name.replace('_', '-')} {size}" for name, size in offer.items()) + why
        for offer, why in offers
    ]
    return "use " + ", or ".join(in_python), "use " + ", or ".join(as_options)
