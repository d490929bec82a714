"""The plan of a zoo of minis from the user's own images: long-tailed priors, incomplete views, disjoint splits."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalft.data.decoding import decode
from causalft.data.duplicates import pixels_digest
from causalft.data.image_set import ImageSet
from causalft.data.longtail import choose_orders, draw_longtail, largest_head, profile_counts
from causalft.data.splits import Splits, pool_splits
from causalft.errors import CausalFTError
from causalft.models.pretraining.pretrain import PretrainingLoss
from causalft.models.pretraining.views import find_view
from causalft.models.strata.leakage import MANIFEST
from causalft.models.strata.member_name import MemberName
from causalft.models.strata.mini import MiniConfig
from causalft.runs import limits
from causalft.runs.folder import Run, atomic_path, read_json, write_json
from causalft.runs.limits import AUTO

__all__ = ["PhotoMember", "PhotoZoo", "downstream_splits", "plan_photo_zoo", "write_manifest"]

BATCH_SIZE = 128
"""Of every pre-training on images."""
_EPOCHS, _STEPS = 20, 400


@dataclass(frozen=True)
class PhotoMember:
    """One mini to be pre-trained on images.

    Attributes
    ----------
    name : str
    view : str
        See :mod:`causalft.models.pretraining.views`.
    order : tuple of int
        Class numbers from the head to the tail of its prior.
    seed : int
        Draws its images, its weights and its batches.
    loss : {"caption-bank", "in-batch"}
    """

    name: str
    view: str
    order: tuple[int, ...]
    seed: int
    loss: PretrainingLoss = "caption-bank"


@dataclass(frozen=True)
class PhotoZoo:
    """The plan of a zoo: who is pre-trained on what, and which images are kept for later.

    Attributes
    ----------
    members : tuple of PhotoMember
    parts : dict of str to numpy.ndarray
        Row numbers of ``pool``, ``downstream``, ``validation`` and ``test``: disjoint, no duplicates across.
    downstream_order : tuple of int
        Class order of the downstream long tail, chosen together with the members' orders.
    correlation : numpy.ndarray
        Spearman correlations of all orders, members with distinct orders first, downstream last.
    duplicates : str
        What was found, in words.
    settings : dict
    """

    members: tuple[PhotoMember, ...]
    parts: dict[str, np.ndarray]
    downstream_order: tuple[int, ...]
    correlation: np.ndarray
    duplicates: str
    settings: dict[str, Any]


def plan_photo_zoo(
    images: ImageSet,
    views: dict[str, str],
    *,
    n_control_seeds: int = 0,
    pool_fraction: float = 0.5,
    n_validation: int | str = AUTO,
    n_test: int | str = AUTO,
    imbalance_factor: float = 100.0,
    profile: str = "exponential",
    view_share: float = 0.8,
    image_size: int = 32,
    epochs: int | None = None,
    loss: PretrainingLoss = "caption-bank",
    order_seed: int = 0,
    order_seeds: Sequence[int] = (),
    seed: int = 0,
) -> PhotoZoo:
    """Cut the images, choose the priors, and list the members.

    Parameters
    ----------
    images : ImageSet
    views : dict of str to str
        Name of each stratum to its incomplete view.
    n_control_seeds : int
        Further seeds of the FIRST stratum (``NAME@1``, ...), for the one-prior control.
    pool_fraction : float
        Share of each class for pre-training.
    n_validation, n_test : int or "auto"
        Images of each class; a share of each by default, see :func:`causalft.data.splits.pool_splits`.
    imbalance_factor : float
    profile : {"exponential", "zipf"}
        Of every pre-training prior.
    view_share : float
        Share of the pictures that a member sees through its view.
    image_size : int
    epochs : int, optional
        20 by default; of few images so many that every member takes 400 steps.
    loss : {"caption-bank", "in-batch"}
    order_seed : int
        Seeds the search for class orders of low rank correlation with each other and with the downstream order.
    order_seeds : sequence of int
        One a stratum: take these permutations instead of searching; only the downstream order is then searched.
    seed : int

    Raises
    ------
    CausalFTError
        If a view or a name cannot be used, a number is out of range, a class has too few images, or the number of
        order seeds is wrong.
    """
    for view in views.values():
        find_view(view)
    if not views:
        raise CausalFTError("no member given; name at least one, as in --member clip=upper")
    for name in views:
        _check_name(name)
        for other in views:  # one file for both on a disk that does not tell them apart
            if name < other and name.lower() == other.lower():
                raise CausalFTError(f"{name!r} and {other!r} differ only in case; give them other names")
    for what, value, within in (
        ("epochs", 1 if epochs is None else epochs, limits.EPOCHS),
        ("control seeds", n_control_seeds, limits.CONTROL_SEEDS),
        ("seed", seed, limits.SEED),
        ("order seed", order_seed, limits.SEED),
        *(("order seed", each, limits.SEED) for each in order_seeds),
        ("image size", image_size, limits.IMAGE_SIZE),
        ("imbalance factor", imbalance_factor, limits.IMBALANCE_FACTOR),
        ("view share", view_share, limits.SHARE),
    ):
        within.check(value, what)
    MiniConfig(image_size=image_size)  # refuses a size that the stem cannot halve
    profile_counts(images.n_classes, 1, imbalance_factor, profile)  # and a factor or profile that is none
    parts, report = pool_splits(
        images,
        n_test=n_test,
        n_validation=n_validation,
        seed=seed,
        pool_fraction=pool_fraction,
        duplicates="near",
    )
    n_classes = images.n_classes
    if order_seeds:
        if len(order_seeds) != len(views):
            raise CausalFTError(f"{len(order_seeds)} order seeds for {len(views)} strata; give one each")
        fixed = [np.random.default_rng(s).permutation(n_classes) for s in order_seeds]
        found = choose_orders(n_classes, 1, order_seed, fixed=fixed)
        orders, downstream = fixed, found[0]
        correlation = np.roll(found.correlation, (-1, -1), axis=(0, 1))
    else:
        found = choose_orders(n_classes, len(views) + 1, order_seed)
        orders, downstream = [found[i] for i in range(len(views))], found[len(views)]
        correlation = found.correlation
    members = [
        PhotoMember(name, view, tuple(int(k) for k in order), seed=100 * number + seed, loss=loss)
        for number, ((name, view), order) in enumerate(zip(views.items(), orders, strict=True))
    ]
    pool_counts = np.bincount(images.labels[parts["pool"]], minlength=n_classes)
    form = imbalance_factor, profile
    if epochs is None:
        epochs = _default_epochs(pool_counts, [member.order for member in members], *form)
    first = members[0]
    members += [
        replace(first, name=str(MemberName(first.name, extra)), seed=first.seed + extra)
        for extra in range(1, n_control_seeds + 1)
    ]
    return PhotoZoo(
        members=tuple(members),
        parts=parts,
        downstream_order=tuple(int(k) for k in downstream),
        correlation=correlation,
        duplicates="not looked for" if report is None else report.summary(),
        settings={
            "imbalance_factor": imbalance_factor,
            "profile": profile,
            "view_share": view_share,
            "image_size": image_size,
            "epochs": epochs,
            "repeats": any(head_count(pool_counts, member.order, *form)[1] for member in members),
        },
    )


def head_count(
    pool_counts: NDArray[np.int64], order: Sequence[int], imbalance_factor: float, profile: str
) -> tuple[int, bool]:
    """Pre-training images of a member's most frequent class, and whether images have to be repeated for it.

    The largest head that the pool can serve without repeating an image. Where the largest class of the pool is twice
    the smallest or more, that would be next to nothing for most orders: then as many images are drawn as the pool
    holds, and rare classes that come early in the member's order are repeated.

    Parameters
    ----------
    pool_counts : (K,) array of int
    order : sequence of K int
        Class numbers, the most frequent one first.
    imbalance_factor : float
    profile : str

    Examples
    --------
    >>> head_count(np.array([50, 50, 50]), [2, 0, 1], 10, "exponential")
    (50, False)
    >>> head_count(np.array([100, 30, 5]), [2, 1, 0], 10, "exponential")      # 95, 30 and 10 images of 135
    (95, True)
    """
    if pool_counts.max() < 2 * pool_counts.min():
        return largest_head(pool_counts[list(order)], imbalance_factor, profile), False
    total = int(pool_counts.sum())
    low, high = 1, total
    while low < high:
        middle = (low + high + 1) // 2
        if profile_counts(len(pool_counts), middle, imbalance_factor, profile).sum() <= total:
            low = middle
        else:
            high = middle - 1
    return low, True


def _default_epochs(
    pool_counts: NDArray[np.int64], orders: Sequence[Sequence[int]], imbalance_factor: float, profile: str
) -> int:
    """20 epochs, or of few images as many as make 400 steps of the member that has the fewest."""
    fewest = min(
        profile_counts(
            len(pool_counts),
            head_count(pool_counts, order, imbalance_factor, profile)[0],
            imbalance_factor,
            profile,
        ).sum()
        for order in orders
    )
    return max(_EPOCHS, math.ceil(_STEPS / math.ceil(fewest / BATCH_SIZE)))


def _check_name(name: str) -> None:
    """A member's name is that of its files, which stand beside those of the zoo's own."""
    if not re.fullmatch(r"\w[\w.-]*", name) or name in ("config", "manifest", "metrics", "zoo"):
        raise CausalFTError(
            f"{name!r} cannot name a member: use letters, digits, '-', '_' and '.', and not config, manifest, metrics "
            "or zoo (NAME@1 is kept for --control-seeds)"
        )


def write_manifest(run: Run, images: ImageSet, zoo: PhotoZoo) -> None:
    """Write ``manifest.parquet`` and ``zoo.json`` into the zoo.

    The manifest has one row per image: file, label, split, SHA-256 of the file, and for the pool that of the pixels.
    """
    split = np.full(len(images), "unused", dtype=object)
    for part, rows in zoo.parts.items():
        split[rows] = part
    pixels = np.full(len(images), "", dtype=object)
    pool = zoo.parts["pool"]
    digests = decode(images, pool, pixels_digest, "hashing the pre-training pool")
    pixels[pool] = [digest.tobytes().hex() for digest in digests]
    table = pd.DataFrame(
        {
            "file": images.files,
            "label": np.asarray(images.class_names)[images.labels],
            "split": split,
            "sha256": [images.bytes_hash(i) for i in range(len(images))],
            "pixels": pixels,
        }
    )
    with atomic_path(run.file(MANIFEST)) as temporary:
        table.to_parquet(temporary, index=False)
    write_json(
        run.file("zoo.json"),
        {
            "class_names": list(images.class_names),
            "downstream_order": [images.class_names[k] for k in zoo.downstream_order],
            "orders": {m.name: [images.class_names[k] for k in m.order] for m in zoo.members},
            "correlation": zoo.correlation,
            "duplicates": zoo.duplicates,
            "settings": zoo.settings,
        },
    )


def downstream_splits(
    folder: str | os.PathLike[str],
    images: ImageSet,
    *,
    imbalance_factor: float | None = None,
    seed: int = 0,
    profile: str = "exponential",
) -> Splits:
    """Return the downstream part of the images a zoo was made from: what its members never saw.

    Parameters
    ----------
    folder : path
        The zoo.
    images : ImageSet
        The same images.
    imbalance_factor : float, optional
        Resample the downstream part to a long tail in the zoo's downstream order.
    seed : int
        Draws the long tail; validation and test are those of the manifest.
    profile : {"exponential", "zipf"}
        Of the long tail.

    Raises
    ------
    CausalFTError
        If the images are not exactly those of the manifest: one is new, one is missing, or its bytes have changed.
        Every image is read once for this.
    """
    folder = Path(folder)
    if not (folder / MANIFEST).exists():
        raise CausalFTError(
            f"{folder} is not the folder of a zoo that was pre-trained on images (it has no {MANIFEST})"
        )
    table = pd.read_parquet(folder / MANIFEST).set_index("file")
    described = read_json(folder / "zoo.json")
    missing = [file for file in images.files if file not in table.index]
    if missing:
        raise CausalFTError(
            f"{missing[0]} is not in the manifest of {folder}: the zoo was made from other images; give the same --data"
        )
    lost = table.index.difference(images.files, sort=False)
    if len(lost):
        raise CausalFTError(
            f"{lost[0]} is missing from the data ({len(lost)} of {len(table)} images that {folder} was made from "
            "are); give the same --data"
        )
    rows = table.loc[images.files]
    changed = [
        file for i, (file, sha256) in enumerate(rows["sha256"].items()) if images.bytes_hash(i) != sha256
    ]
    if changed:
        raise CausalFTError(
            f"{changed[0]} has changed since {folder} was made ({len(changed)} of {len(images)} images have); "
            "give the same --data"
        )
    split = rows["split"].to_numpy()
    parts = {name: np.flatnonzero(split == name) for name in ("downstream", "validation", "test")}
    train = images.subset(parts["downstream"], name=f"{images.name}/downstream")
    if imbalance_factor is not None:
        order = described["downstream_order"]
        train = draw_longtail(
            train, imbalance_factor=imbalance_factor, seed=seed, profile=profile, order=order
        )
    return Splits(
        train=train,
        validation=images.subset(parts["validation"], name=f"{images.name}/validation"),
        test=images.subset(parts["test"], name=f"{images.name}/test"),
        order=tuple(described["downstream_order"]) if imbalance_factor is not None else None,
        notes=(f"{int((split == 'pool').sum())} images of the zoo's pre-training pool left out",),
    )
