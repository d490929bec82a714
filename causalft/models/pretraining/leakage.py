"""Images that a model has seen: of a zoo's pre-training pool, and of a run's training and validation sets."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from causalft.data.duplicates import pixels_digest, shared_images, with_hash
from causalft.data.hashing import file_hashes
from causalft.data.image_set import ImageSet, decode
from causalft.data.longtail import draw_longtail
from causalft.data.splits import Splits
from causalft.errors import CausalFTError, CausalFTWarning
from causalft.models.strata.zoo import MANIFEST, MiniZoo, Zoo, has_manifest
from causalft.runs.folder import Run, atomic_path, read_json, write_json
from causalft.runs.tables import read_columns

if TYPE_CHECKING:
    import pandas as pd

    from causalft.models.pretraining.photo_zoo import PhotoZoo

__all__ = [
    "downstream_order",
    "downstream_splits",
    "keep_apart",
    "pretraining_pool",
    "seen_in_run",
    "warn_of_seen",
    "write_manifest",
    "write_seen",
]


SEEN = "images.parquet"
"""The file of a run that names its images and the part that each had."""


@dataclass(frozen=True, repr=False)
class Pool:
    """Images that the members of a zoo were pre-trained on.

    Attributes
    ----------
    zoo : str
    files : frozenset of str
        SHA-256 of the files.
    pixels : frozenset of str
        SHA-256 of size and pixels; empty for zoos without it.
    """

    zoo: str
    files: frozenset[str] = frozenset()
    pixels: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.files)

    def holds(self, images: ImageSet) -> NDArray[np.bool_]:
        """Whether each image is in the pool, (n,); reads every image, unless the pool is empty."""
        if not self.files:
            return np.zeros(len(images), dtype=bool)
        return with_hash(images, self.files, self.pixels)


def pretraining_pool(zoo: Zoo) -> Pool:
    """Return the pool of a zoo made by ``causalft zoo pretrain --data``; empty for any other zoo."""
    if not isinstance(zoo, MiniZoo) or not has_manifest(zoo.folder):
        return Pool(zoo.label)
    table = _frame(Path(zoo.folder) / MANIFEST, ("split", "sha256"), ("pixels",))
    pool = table[table["split"] == "pool"]
    pixels = frozenset(pool["pixels"]) if "pixels" in pool else frozenset()
    return Pool(zoo.label, frozenset(pool["sha256"]), pixels)


def _frame(path: Path, columns: tuple[str, ...], optional: tuple[str, ...] = ()) -> pd.DataFrame:
    return read_columns(path, columns, optional).arrow.to_pandas()


def keep_apart(zoo: Zoo, train: ImageSet, validation: ImageSet, test: ImageSet | None) -> ImageSet:
    """Return the training images that the zoo was not pre-trained on, and warn of other overlaps.

    Raises
    ------
    CausalFTError
        If validation or test images are in the pre-training pool, or a class has no training image outside it.

    Warns
    -----
    CausalFTWarning
        If training images are left out, or an image is in two of the sets.
    """
    pool = pretraining_pool(zoo)
    others = {"validation": validation} | ({} if test is None else {"test": test})
    for name, images in others.items():
        seen = np.flatnonzero(pool.holds(images))
        if len(seen):
            raise CausalFTError(
                f"{name}: {len(seen)} of {len(images)} images are among those that {pool.zoo} was pre-trained on "
                f"({images.files[seen[0]]}); causalft.downstream_splits(zoo, images) cuts splits that its models "
                "never saw"
            )
    seen_mask = pool.holds(train)
    if seen_mask.any():
        kept = train.subset(~seen_mask)
        empty = np.flatnonzero((kept.class_counts == 0) & (train.class_counts > 0))
        if len(empty):
            raise CausalFTError(
                f"class {train.class_names[empty[0]]!r} has no training image but those that {pool.zoo} was "
                "pre-trained on; causalft.downstream_splits(zoo, images) cuts splits that its models never saw"
            )
        _warn(
            f"{int(seen_mask.sum())} of {len(train)} training images left out: {pool.zoo} was pre-trained on them"
        )
        train = kept
    for name, images in others.items():
        _warn_of_repeats(name, images, "training", train)
    if test is not None:
        _warn_of_repeats("test", test, "validation", validation)
    return train


def warn_of_seen(images: ImageSet, zoo: Zoo, train: ImageSet) -> None:
    """Warn of images to be scored that are training images or in the pre-training pool."""
    _warn_of_repeats("images", images, "training", train)
    pool = pretraining_pool(zoo)
    seen = int(pool.holds(images).sum())
    if seen:
        _warn(
            f"{seen} of {len(images)} images are among those that {pool.zoo} was pre-trained on: the score flatters"
        )


def write_seen(run: Run, splits: Splits, unlabelled: ImageSet | None = None) -> None:
    """Write ``images.parquet`` into a run: file, label, split and SHA-256 of every image used.

    Images that a student learnt from without their labels have the split ``unlabelled`` and an empty label.
    """
    import pandas as pd

    names = np.asarray(splits.class_names)
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    if unlabelled is not None:
        parts["unlabelled"] = unlabelled
    table = pd.concat(
        pd.DataFrame(
            {
                "file": part.files,
                "label": "" if name == "unlabelled" else names[part.labels],
                "split": name,
                "sha256": file_hashes(part),
            }
        )
        for name, part in parts.items()
    )
    with atomic_path(run.file(SEEN)) as temporary:
        table.to_parquet(temporary, index=False)


def seen_in_run(images: ImageSet, folder: Path, zoo: Zoo | None) -> list[str]:
    """Say which images a run has seen: in training, validation, or the pre-training pool of its zoo.

    Parameters
    ----------
    images : ImageSet
        All are read, if the run or the zoo records its images.
    folder : pathlib.Path
        The run.
    zoo : Zoo, optional
    """
    found = {}
    if (folder / SEEN).exists():
        table = _frame(folder / SEEN, ("split", "sha256"))
        for split, word in (
            ("train", "training"),
            ("validation", "validation"),
            ("unlabelled", "unlabelled"),
        ):
            files = frozenset(table.loc[table["split"] == split, "sha256"])
            found[f"{word} images of {folder}"] = with_hash(images, files)
    if zoo is not None:
        pool = pretraining_pool(zoo)
        found[f"images that {pool.zoo} was pre-trained on"] = pool.holds(images)
    return [
        f"{int(seen.sum())} of {len(images)} images are {what} ({images.files[int(seen.argmax())]}): what is measured "
        "on them flatters"
        for what, seen in found.items()
        if seen.any()
    ]


def _warn_of_repeats(name: str, images: ImageSet, other: str, others: ImageSet) -> None:
    seen = np.flatnonzero(shared_images(images, others))
    if len(seen):
        _warn(
            f"{name}: {len(seen)} of {len(images)} images are {other} images too ({images.files[seen[0]]}): what is "
            "measured on them flatters"
        )


def _warn(message: str) -> None:
    warnings.warn(message, CausalFTWarning, stacklevel=4)


def write_manifest(run: Run, images: ImageSet, zoo: PhotoZoo) -> None:
    """Write ``manifest.parquet`` and ``zoo.json`` into the zoo.

    The manifest has one row per image: file, label, split, SHA-256 of the file and, for the pool, of the pixels.
    """
    import pandas as pd

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
            "sha256": file_hashes(images),
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


def downstream_order(folder: str | os.PathLike[str]) -> tuple[str, ...]:
    """Class names in the downstream order of a zoo that was pre-trained on images, head first."""
    return tuple(read_json(Path(folder) / "zoo.json")["downstream_order"])


def downstream_splits(
    folder: str | os.PathLike[str],
    images: ImageSet,
    *,
    imbalance_factor: float | None = None,
    seed: int = 0,
    profile: str = "exponential",
) -> Splits:
    """Return the downstream part of the images that a zoo was made from: what its members never saw.

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
        If an image is new, missing or changed since the manifest; every image is read for this.
    """
    folder = Path(folder)
    if not has_manifest(folder):
        raise CausalFTError(
            f"{folder} is not the folder of a zoo that was pre-trained on images (it has no {MANIFEST})"
        )
    table = _frame(folder / MANIFEST, ("file", "split", "sha256")).set_index("file")
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
        file for (file, sha256), found in zip(rows["sha256"].items(), file_hashes(images)) if found != sha256
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
