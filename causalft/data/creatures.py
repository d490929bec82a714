"""creatures-lt and creatures-ltssl: the built-in long-tailed sets of the part world, drawn on demand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from causalft.data.hidden import Unlabelled
from causalft.data.image_set import ImageSet
from causalft.data.longtail import profile_counts
from causalft.data.protocol import labelled_counts, unlabelled_counts
from causalft.data.settings import UnlabelledOptions
from causalft.data.splits import Splits
from causalft.errors import CausalFTError, nearest
from causalft.runs.limits import CREATURES, CREATURES_LTSSL
from causalft.runs.progress import named
from synthetic.creatures import CLASS_NAMES, FACTORS, N_CLASSES, factor_law, part_table

__all__ = [
    "NAME",
    "creatures_images",
    "creatures_longtail",
    "creatures_ltssl",
    "creatures_masks",
    "creatures_unlabelled",
]

NAME = CREATURES
_MOST_DRAWN = 1_000_000  # images; 4.8 GB at the default size
ORDER_SEED = 110
"""Seed of the class order; its rank correlation with every pre-training prior is within 0.006 of zero."""

_TRAIN_SEED, _VALIDATION_SEED, _TEST_SEED = 7_000_000, 7_500_001, 7_500_002
# No multiple of three away from the seeds of training images, nor from one another.
_UNLABELLED_SEED, _LTSSL_SEED = 8_000_001, 8_000_003


@named("drawing creatures-lt")
def creatures_longtail(
    *,
    n_max: int = 200,
    imbalance_factor: float = 100.0,
    n_validation: int = 10,
    n_test: int = 80,
    size: int = 40,
    seed: int = 0,
) -> Splits:
    """Draw the built-in long-tailed set.

    Parameters
    ----------
    n_max : int
        Training images of the largest class; the smallest has ``n_max / imbalance_factor``.
    imbalance_factor : float
    n_validation, n_test : int
        Images per class.
    size : int
        Pixels.
    seed : int
        Draws the training images; validation and test are always the same.

    Returns
    -------
    Splits
        ``train`` (2,636 images by default), ``validation``, ``test``; the factor is uniform over its four values.

    Examples
    --------
    >>> splits = creatures_longtail(n_max=4, imbalance_factor=2, n_validation=1, n_test=1)
    >>> len(splits.test), splits.test.class_names[0]
    (60, 'aradax')
    """
    drawn = _drawn_from(n_max, imbalance_factor, n_validation, n_test, seed)
    images = {split: _draw(split, counts, size, of) for split, (counts, of) in drawn.items()}
    return Splits(train=images["train"], validation=images["validation"], test=images["test"])


@named("drawing creatures-ltssl")
def creatures_ltssl(
    options: UnlabelledOptions | None = None,
    *,
    n_validation: int = 10,
    n_test: int = 80,
    size: int = 40,
    seed: int = 0,
    unlabelled: bool = True,
) -> Splits:
    """Draw the built-in set with few labels and many unlabelled images.

    The classes stand in the order of `creatures_longtail`, whose validation and test images these are too.

    Parameters
    ----------
    options : UnlabelledOptions, optional
        Sizes, imbalance and order of the two parts; by default 50 labelled and 400 unlabelled images of the largest
        class, each 20 times the smallest, in the same order.
    n_validation, n_test : int
        Images per class.
    size : int
        Pixels.
    seed : int
        Draws both parts; the labelled images depend on it, their number and ``gamma_l`` alone.
    unlabelled : bool
        Draw the unlabelled images too.

    Returns
    -------
    Splits
        Their ``unlabelled`` has its hidden labels.

    Raises
    ------
    CausalFTError
        If a class would have no image, or more than a million images are asked for.

    Examples
    --------
    >>> from causalft.data.settings import UnlabelledOptions
    >>> options = UnlabelledOptions(labeled_per_class=4, gamma_l=2, unlabeled_per_class=2, unlabeled_order="uniform")
    >>> splits = creatures_ltssl(options, n_validation=1, n_test=1)
    >>> splits.train.class_counts.max(), splits.unlabelled
    (np.int64(4), Unlabelled(120 images, hidden labels known))
    """
    given = (options or UnlabelledOptions()).of(CREATURES_LTSSL)
    assert given.labeled_per_class and given.gamma_l and given.unlabeled_per_class and given.gamma_u
    order = _class_order()
    counts = np.zeros((2, N_CLASSES), dtype=np.int64)
    counts[0, order] = labelled_counts(N_CLASSES, given.labeled_per_class, given.gamma_l)
    counts[1, order] = unlabelled_counts(N_CLASSES, given.unlabeled_per_class, given.gamma_u, given.order)
    asked = (given.labeled_per_class, given.gamma_l), (given.unlabeled_per_class, given.gamma_u)
    for what, each, (n, gamma) in zip(("labeled", "unlabeled"), counts, asked):
        if not each.all():
            raise CausalFTError(
                f"class '{CLASS_NAMES[int(np.flatnonzero(each == 0)[0])]}' would have no image: --{what}-per-class {n} "
                f"is smaller than --gamma-{what[0]} {gamma:g}; raise the one or lower the other"
            )
    if counts.sum() > _MOST_DRAWN:
        raise CausalFTError(
            f"{CREATURES_LTSSL} draws {_MOST_DRAWN:,} images at most, and {counts[0].sum():,} labelled and "
            f"{counts[1].sum():,} unlabelled ones are asked for; lower --labeled-per-class or --unlabeled-per-class"
        )
    beside = None
    if unlabelled:
        drawn = _draw("unlabelled", counts[1], size, _LTSSL_SEED + 3 * seed, CREATURES_LTSSL)
        beside = Unlabelled.of(drawn, where=CREATURES_LTSSL)
    return Splits(
        train=_draw("train", counts[0], size, _TRAIN_SEED + 3 * seed, CREATURES_LTSSL),
        validation=_draw("validation", np.full(N_CLASSES, n_validation), size, _VALIDATION_SEED),
        test=_draw("test", np.full(N_CLASSES, n_test), size, _TEST_SEED),
        order=tuple(CLASS_NAMES[k] for k in order),
        unlabelled=beside,
    )


def creatures_masks(
    split: str = "test",
    rows: Sequence[int] | NDArray[np.int64] | None = None,
    *,
    n_max: int = 200,
    imbalance_factor: float = 100.0,
    n_validation: int = 10,
    n_test: int = 80,
    size: int = 40,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Say which pixels of the built-in images show the head, the body and the tail.

    Parameters
    ----------
    split : {"train", "validation", "test"}
    rows : sequence of int, optional
        Images of the split; all by default.
    n_max, imbalance_factor, n_validation, n_test, size, seed
        As in :func:`creatures_longtail`; the same values describe the same images.

    Returns
    -------
    numpy.ndarray
        Shape (n_rows, 3, size, size) in [0, 1]: head, body, tail; see :func:`synthetic.creatures.creature_masks`.

    Raises
    ------
    CausalFTError
        If the split is unknown.

    Examples
    --------
    >>> creatures_masks("test", [0, 7], n_test=1).shape
    (2, 3, 40, 40)
    """
    from synthetic.creatures import creature_masks  # imports PyTorch

    drawn = _drawn_from(n_max, imbalance_factor, n_validation, n_test, seed)
    if split not in drawn:
        raise CausalFTError(f"{NAME} has no split {split!r}; {nearest(split, drawn)}")
    counts, of = drawn[split]
    labels, factors = _law(counts, of)
    return creature_masks(part_table()[labels], factors, size=size, seed=of, rows=rows)


def creatures_unlabelled(n: int, *, size: int = 40, seed: int = 0) -> ImageSet:
    """Draw further images of the world, every class alike; they are in none of the three splits.

    Parameters
    ----------
    n : int
        At least 1.
    size : int
        Pixels.
    seed : int

    Examples
    --------
    >>> len(creatures_unlabelled(7))
    7
    """
    counts = np.full(N_CLASSES, n // N_CLASSES)
    rest = np.random.default_rng(_UNLABELLED_SEED + 3 * seed).permutation(N_CLASSES)[: n % N_CLASSES]
    counts[rest] += 1
    return _draw("unlabelled", counts, size, _UNLABELLED_SEED + 3 * seed)


def creatures_images(name: str = NAME) -> ImageSet:
    """A built-in set as one image set, its three splits marked; unlabelled images are not in it."""
    splits = creatures_longtail() if name == NAME else creatures_ltssl(unlabelled=False)
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    whole = ImageSet.from_arrays(
        np.concatenate([part.pixels for part in parts.values() if part.pixels is not None]),
        np.concatenate([part.labels for part in parts.values()]),
        splits.class_names,
        name=name,
        files=[file for part in parts.values() for file in part.files],
        factors=np.concatenate([part.factors for part in parts.values() if part.factors is not None]),
    )
    ends = np.cumsum([0, *map(len, parts.values())])
    whole.splits = {name: np.arange(a, b) for name, a, b in zip(parts, ends, ends[1:])}
    return whole


def _drawn_from(
    n_max: int, imbalance_factor: float, n_validation: int, n_test: int, seed: int
) -> dict[str, tuple[NDArray[np.int64], int]]:
    """Images per class and seed of each split."""
    return {
        "train": (_train_counts(n_max, imbalance_factor), _TRAIN_SEED + 3 * seed),
        "validation": (np.full(N_CLASSES, n_validation), _VALIDATION_SEED),
        "test": (np.full(N_CLASSES, n_test), _TEST_SEED),
    }


def _train_counts(n_max: int, imbalance_factor: float) -> NDArray[np.int64]:
    counts = np.empty(N_CLASSES, dtype=np.int64)
    counts[_class_order()] = profile_counts(N_CLASSES, n_max, imbalance_factor)
    return counts


def _class_order() -> NDArray[np.int64]:
    """The classes, head first."""
    return np.random.default_rng(ORDER_SEED).permutation(N_CLASSES)


def _law(counts: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Class and factor of each image."""
    labels = np.repeat(np.arange(N_CLASSES), counts)
    factors = np.random.default_rng(seed).choice(len(FACTORS), size=len(labels), p=factor_law("uniform"))
    return labels, factors


def _draw(split: str, counts: np.ndarray, size: int, seed: int, name: str = NAME) -> ImageSet:
    from synthetic.creatures import render_creatures  # imports PyTorch

    labels, factors = _law(counts, seed)
    pixels = render_creatures(part_table()[labels], factors, size=size, seed=seed)
    files = [f"{name}/{split}/{CLASS_NAMES[label]}/{row:06d}.png" for row, label in enumerate(labels)]
    return ImageSet.from_arrays(
        pixels,
        labels,
        list(CLASS_NAMES),
        name=f"{name}/{split}",
        files=files,
        factors=np.asarray(FACTORS)[factors],
    )
