"""Images that a model has seen before: those of a zoo's pre-training pool, and those a classifier was fitted on."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from causalft.data.duplicates import shared_images, with_hash
from causalft.data.image_set import ImageSet
from causalft.data.splits import Splits
from causalft.errors import CausalFTError, CausalFTWarning
from causalft.models.strata.zoo import MiniZoo, Zoo
from causalft.runs.folder import Run, atomic_path

__all__ = ["MANIFEST", "keep_apart", "pretraining_pool", "seen_in_run", "warn_of_seen", "write_seen"]

MANIFEST = "manifest.parquet"
"""The file of a home-made zoo that names its images: which were for pre-training, which were kept."""
SEEN = "images.parquet"
"""The file of a run that names its images and the part that each had."""


@dataclass(frozen=True, repr=False)
class Pool:
    """The images that the members of a zoo were pre-trained on.

    Attributes
    ----------
    zoo : str
    files : frozenset of str
        SHA-256 of the files.
    pixels : frozenset of str
        SHA-256 of size and pixels; empty for a zoo from before they were kept.
    """

    zoo: str
    files: frozenset[str] = frozenset()
    pixels: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.files)

    def holds(self, images: ImageSet) -> NDArray[np.bool_]:
        """Whether each image is in the pool, (n,); every image is read for it, unless the pool is empty."""
        if not self.files:
            return np.zeros(len(images), dtype=bool)
        return with_hash(images, self.files, self.pixels)


def pretraining_pool(zoo: Zoo) -> Pool:
    """Return the pool of a zoo that ``causalft zoo pretrain --data`` made; an empty one for any other zoo."""
    if not isinstance(zoo, MiniZoo) or not (Path(zoo.folder) / MANIFEST).exists():
        return Pool(zoo.label)
    import pandas as pd

    table = pd.read_parquet(Path(zoo.folder) / MANIFEST)
    pool = table[table["split"] == "pool"]
    pixels = frozenset(pool["pixels"]) if "pixels" in pool else frozenset()
    return Pool(zoo.label, frozenset(pool["sha256"]), pixels)


def keep_apart(zoo: Zoo, train: ImageSet, validation: ImageSet, test: ImageSet | None) -> ImageSet:
    """Return the training images without those that the zoo was pre-trained on, and say what else overlaps.

    Parameters
    ----------
    zoo : Zoo
    train, validation : ImageSet
    test : ImageSet, optional

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
    """Warn where images to be scored are training images, or in the pre-training pool of the zoo."""
    _warn_of_repeats("images", images, "training", train)
    pool = pretraining_pool(zoo)
    seen = int(pool.holds(images).sum())
    if seen:
        _warn(
            f"{seen} of {len(images)} images are among those that {pool.zoo} was pre-trained on: the score flatters"
        )


def write_seen(run: Run, splits: Splits) -> None:
    """Write ``images.parquet`` into a run: file, label, split and SHA-256 of every image that decided something."""
    import pandas as pd

    names = np.asarray(splits.class_names)
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    table = pd.concat(
        pd.DataFrame(
            {
                "file": part.files,
                "label": names[part.labels],
                "split": name,
                "sha256": [part.bytes_hash(i) for i in range(len(part))],
            }
        )
        for name, part in parts.items()
    )
    with atomic_path(run.file(SEEN)) as temporary:
        table.to_parquet(temporary, index=False)


def seen_in_run(images: ImageSet, folder: Path, zoo: Zoo | None) -> list[str]:
    """Say which images a run has seen: in training, in validation, or in the pre-training pool of its zoo.

    Parameters
    ----------
    images : ImageSet
        All of them are read, if the run or the zoo says what it has seen.
    folder : pathlib.Path
        The run; one from before it kept its images, or one that was pulled, says nothing.
    zoo : Zoo, optional
    """
    found = {}
    if (folder / SEEN).exists():
        import pandas as pd

        table = pd.read_parquet(folder / SEEN)
        for split, word in (("train", "training"), ("validation", "validation")):
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
