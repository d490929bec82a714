"""Draws of the field: few labelled and many unlabelled images of one labelled set, each with its own long tail."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from causalft.data.hidden import Unlabelled
from causalft.data.image_set import ImageSet
from causalft.data.longtail import Order, benchmark_counts, by_class, class_order
from causalft.data.settings import UnlabelledOptions
from causalft.data.tails import UNLABELLED_ORDERS
from causalft.errors import CausalFTError, nearest

__all__ = ["draw_protocol", "labelled_counts", "unlabelled_counts"]


def labelled_counts(n_classes: int, n_max: int, gamma: float) -> NDArray[np.int64]:
    """Class counts of labelled images, (K,) int64, head first: exponential, rounded down.

    Examples
    --------
    >>> labelled_counts(10, 500, 100).tolist()
    [500, 299, 179, 107, 64, 38, 23, 13, 8, 5]
    """
    return benchmark_counts(n_classes, n_max, gamma)


def unlabelled_counts(n_classes: int, n_max: int, gamma: float, order: str) -> NDArray[np.int64]:
    """Class counts of unlabelled images, (K,) int64, for classes in labelled order, head first.

    Parameters
    ----------
    n_classes : int
        K, at least 2.
    n_max : int
        M1: images of the largest class.
    gamma : float
        Largest over smallest count, at least 1.
    order : str
        A name of `causalft.data.tails.UNLABELLED_ORDERS`; ``uniform`` takes ``gamma`` as 1.

    Raises
    ------
    CausalFTError
        For an unknown order or ``gamma`` below 1.

    Examples
    --------
    >>> unlabelled_counts(5, 400, 16, "reversed").tolist()
    [25, 50, 100, 200, 400]
    >>> unlabelled_counts(5, 400, 16, "middle").tolist()
    [25, 100, 400, 200, 50]
    >>> unlabelled_counts(5, 400, 16, "head-tail").tolist()
    [200, 50, 25, 100, 400]
    """
    if order not in UNLABELLED_ORDERS:
        raise CausalFTError(
            f"no order of unlabelled images named '{order}': {nearest(order, UNLABELLED_ORDERS)}"
        )
    kind = UNLABELLED_ORDERS[order]
    counts = benchmark_counts(n_classes, n_max, 1.0 if kind.flat else gamma)
    return counts[list(kind.places(n_classes))]


def draw_protocol(
    images: ImageSet, options: UnlabelledOptions, *, seed: int, order: Order = "class"
) -> tuple[ImageSet, Unlabelled | None]:
    """Draw labelled and unlabelled images of a labelled set; the two share no image.

    The labelled images depend only on the seed, N1, ``gamma_l`` and ``order``, so every law of the unlabelled ones is
    drawn beside the same labels.

    Parameters
    ----------
    images : ImageSet
        What is left for training when validation and test images are cut.
    options : UnlabelledOptions
        With ``labeled_per_class``; without ``unlabeled_per_class`` no unlabelled image is drawn.
    seed : int
    order : str, or a sequence of class names or numbers, head first
        Of the labelled classes, as in `causalft.data.cut_splits`; the benchmarks take ``class``.

    Returns
    -------
    labelled : ImageSet
    unlabelled : Unlabelled or None
        Their labels are hidden, and known.

    Raises
    ------
    CausalFTError
        If a class has too few images, or its count would be zero; the message names it.

    Examples
    --------
    >>> images = ImageSet.from_arrays(np.zeros((120, 2, 2, 3), np.uint8), np.arange(120) % 2, ["ant", "bee"])
    >>> options = UnlabelledOptions(labeled_per_class=10, unlabeled_per_class=40, gamma_l=5, unlabeled_order="reversed")
    >>> labelled, unlabelled = draw_protocol(images, options, seed=0)
    >>> labelled.class_counts.tolist(), unlabelled.hidden_counts(2).tolist()
    ([10, 2], [8, 40])
    """
    options = options.of("")
    n_1, gamma_l, gamma_u = options.labeled_per_class, options.gamma_l, options.gamma_u
    assert n_1 is not None and gamma_l is not None and gamma_u is not None
    k = images.n_classes
    rank = class_order(images, order, np.random.default_rng([seed, 2]))
    wanted = np.zeros((2, k), dtype=np.int64)
    wanted[0, rank] = labelled_counts(k, n_1, gamma_l)
    if options.unlabeled_per_class is not None:
        wanted[1, rank] = unlabelled_counts(k, options.unlabeled_per_class, gamma_u, options.order)
    _check_counts(images, rank, wanted, options)
    rng = np.random.default_rng([seed, 3])
    shuffled = [rng.permutation(rows) for rows in by_class(images, np.arange(len(images)))]
    labelled = [rows[:n] for rows, n in zip(shuffled, wanted[0])]
    hidden = [rows[n : n + m] for rows, n, m in zip(shuffled, *wanted)]
    beside = None
    if options.unlabeled_per_class is not None:
        drawn = images.subset(np.sort(np.concatenate(hidden)), name=f"{images.name}/unlabelled")
        beside = Unlabelled.of(drawn, where=f"{images.location} (drawn)")
    return images.subset(np.sort(np.concatenate(labelled))), beside


def _check_counts(
    images: ImageSet, rank: NDArray[np.int64], wanted: NDArray[np.int64], options: UnlabelledOptions
) -> None:
    for row, (option, gamma) in enumerate(
        (
            (f"--labeled-per-class {options.labeled_per_class}", f"--gamma-l {options.gamma_l:g}"),
            (f"--unlabeled-per-class {options.unlabeled_per_class}", f"--gamma-u {options.gamma_u:g}"),
        )
    ):
        empty = np.flatnonzero(wanted[row] < 1)
        if len(empty) and wanted[row].any():
            raise CausalFTError(
                f"class '{images.class_names[empty[0]]}' would have no {('labelled', 'unlabelled')[row]} image: "
                f"{option} is smaller than {gamma}; raise the one or lower the other"
            )
    short = [int(k) for k in rank if wanted[:, k].sum() > images.class_counts[k]]
    if short:
        k = short[0]
        asked = f"{wanted[0, k]} labelled" + (f" and {wanted[1, k]} unlabelled" if wanted[1].any() else "")
        raise CausalFTError(
            f"class '{images.class_names[k]}' has {images.class_counts[k]} images left for training and the draw asks "
            f"for {asked} ({len(short)} of {images.n_classes} classes are too small); lower --labeled-per-class"
            f"{' or --unlabeled-per-class' if wanted[1].any() else ''}, or another --order"
        )
