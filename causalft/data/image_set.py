"""A labelled set of images (`ImageSet`): the same face for every format that can be read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from causalft.data.containers import ArrayStore, FolderContainer, ImageStore
from causalft.data.formats.folder import read_class_folders
from causalft.data.formats.zip import ZipContainer
from causalft.data.labels import class_key
from causalft.data.reading import Reading, ReadOptions
from causalft.errors import CausalFTError, as_bytes, nearest
from causalft.runs.files import existing
from causalft.runs.notebook import ShownAsTable

__all__ = ["ImageSet"]


class ImageSet(ShownAsTable):
    """Images with labels; pictures are read when asked for, from any thread or process.

    Make one with `causalft.open_images` (every format), or `from_arrays`.

    Attributes
    ----------
    name : str
    class_names : tuple of str, length K
    labels : (n,) array of int64 in [0, K)
    files : list of str, length n
        Name of each image, relative to what was opened; with escapes where no encoding can print it
        (`causalft.errors.escape_name`), so that a name can be written anywhere.
    factors : (n,) array or None
        Semantic factor of each image, where it is known.
    splits : dict of str to (n_split,) array of int64
        ``train``, ``validation``, ``test`` as row numbers, those that the data came with; empty if it came unsplit.
    format : str
        How it was read: a name of `causalft.data.formats`, or ``arrays``.
    notes : tuple of str
        What was left out while opening, in sentences.
    """

    def __init__(
        self,
        store: ImageStore,
        rows: ArrayLike,
        files: Sequence[str],
        labels: ArrayLike,
        class_names: Sequence[str],
        *,
        name: str,
        factors: ArrayLike | None = None,
        splits: dict[str, NDArray[np.int64]] | None = None,
        notes: Sequence[str] = (),
        format: str = "arrays",
    ) -> None:
        self._store = store
        self._rows = np.asarray(rows, dtype=np.int64)
        self.files = list(files)
        self.labels = np.asarray(labels, dtype=np.int64)
        self.class_names = tuple(class_names)
        self.name = name
        self.factors: NDArray[Any] | None = None if factors is None else np.asarray(factors)
        self.splits = dict(splits or {})
        self.notes = tuple(notes)
        self.format = format

    @classmethod
    def from_folder(
        cls,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        drop_empty_classes: bool = False,
        min_classes: int = 2,
    ) -> ImageSet:
        """Open a folder with one folder of images per class (ImageFolder), or with such train/, test/ folders.

        Parameters
        ----------
        path : path of a folder
        name : str, optional
            The folder's name by default.
        drop_empty_classes : bool
            Leave out classes without a (training) image instead of refusing them.
        min_classes : int
            Refuse fewer classes.

        Raises
        ------
        CausalFTError
            See `causalft.data.formats.folder.arrange`; also if the folder is missing or cannot be read.
        """
        folder = existing(path)
        if not folder.is_dir():
            raise CausalFTError(f"{folder} is not a folder")
        options = ReadOptions(drop_empty_classes=drop_empty_classes, min_classes=min_classes)
        return cls.from_reading(read_class_folders(FolderContainer(folder), options), name)

    @classmethod
    def from_zip(
        cls,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        drop_empty_classes: bool = False,
        min_classes: int = 2,
    ) -> ImageSet:
        """Open a zip of what `from_folder` takes. It is read in place and never unpacked to disk.

        Raises
        ------
        CausalFTError
            As `from_folder`; also if the zip is cut off, damaged or encrypted.
        """
        options = ReadOptions(drop_empty_classes=drop_empty_classes, min_classes=min_classes)
        return cls.from_reading(read_class_folders(ZipContainer(existing(path)), options), name)

    @classmethod
    def from_reading(cls, reading: Reading, name: str | None = None) -> ImageSet:
        """Take what a reader found (`causalft.data.reading`)."""
        return cls(
            reading.store,
            reading.rows,
            reading.files,
            reading.labels,
            reading.class_names,
            name=name or reading.name,
            factors=reading.factors,
            splits=reading.splits,
            notes=reading.notes,
            format=reading.format,
        )

    @classmethod
    def from_arrays(
        cls,
        pixels: ArrayLike,
        labels: ArrayLike,
        class_names: Sequence[str],
        *,
        name: str = "arrays",
        files: Sequence[str] | None = None,
        factors: ArrayLike | None = None,
    ) -> ImageSet:
        """Take pixels in memory (not copied).

        Parameters
        ----------
        pixels : (n, H, W, 3) array of uint8
        labels : (n,) array of int in [0, K)
        class_names : sequence of K str
        name : str
        files : sequence of n str, optional
            Names for the images; ``class/000001`` by default.
        factors : (n,) array, optional

        Raises
        ------
        CausalFTError
            If shapes, types or labels do not fit.

        Examples
        --------
        >>> images = ImageSet.from_arrays(np.zeros((3, 8, 8, 3), np.uint8), [0, 1, 1], ["lynx", "otter"])
        >>> images
        ImageSet('arrays': 3 images of 2 classes, 1 to 2 a class)
        >>> images.subset([2]).files
        ['otter/000002']
        """
        array, y = np.asarray(pixels), np.asarray(labels)
        if array.ndim != 4 or array.shape[3] != 3 or array.dtype != np.uint8:
            raise CausalFTError(f"pixels must be (n, H, W, 3) of uint8, not {array.shape} of {array.dtype}")
        if y.shape != (len(array),) or not np.issubdtype(y.dtype, np.integer):
            raise CausalFTError(f"labels must be ({len(array)},) whole numbers, not {y.shape} of {y.dtype}")
        if len(y) and (y.min() < 0 or y.max() >= len(class_names)):
            wrong = int(y.min() if y.min() < 0 else y.max())
            raise CausalFTError(f"label {wrong} lies outside the {len(class_names)} classes")
        if len(set(class_names)) != len(class_names):
            raise CausalFTError("two classes have the same name; give each its own")
        given = [f"{class_names[k]}/{i:06d}" for i, k in enumerate(y)] if files is None else list(files)
        for what, values in (("files", given), ("factors", factors)):
            if values is not None and len(np.asarray(values)) != len(array):
                raise CausalFTError(
                    f"{len(array)} images but {len(np.asarray(values))} {what}; give one an image"
                )
        return cls(
            ArrayStore(array, name), np.arange(len(array)), given, y, class_names, name=name, factors=factors
        )

    def __len__(self) -> int:
        return len(self.labels)

    def _table(self) -> tuple[list[str], list[list[Any]]]:
        sizes = [
            np.bincount(self.labels[rows], minlength=self.n_classes) for rows in self.splits.values()
        ] or [self.class_counts]
        header = ["class", *self.splits] if self.splits else ["class", "images"]
        return header, [[name, *counts] for name, *counts in zip(self.class_names, *sizes)]

    def __repr__(self) -> str:
        counts = self.class_counts
        spread = f"{counts.min()} to {counts.max()} a class" if len(counts) else "none"
        sizes = ", ".join(f"{split} {len(rows)}" for split, rows in self.splits.items())
        came = f"; splits {sizes}" if sizes else ""
        return (
            f"ImageSet('{self.name}': {len(self)} images of {len(self.class_names)} classes, {spread}{came})"
        )

    @property
    def location(self) -> str:
        """Where the images lie; the name of a set in memory, or of a table or list beside its images."""
        # A table beside its images lies in ".", which tells a reader nothing.
        return self.name if self._store.location in ("", ".") else self._store.location

    @property
    def n_classes(self) -> int:
        """K."""
        return len(self.class_names)

    @property
    def class_counts(self) -> NDArray[np.int64]:
        """(K,) images in each class."""
        return np.bincount(self.labels, minlength=len(self.class_names)).astype(np.int64)

    @property
    def pixels(self) -> NDArray[np.uint8] | None:
        """(n, H, W, 3) uint8 for a set in memory, else None."""
        return self._store.pixels[self._rows] if isinstance(self._store, ArrayStore) else None

    def image(self, i: int) -> Image.Image:
        """Return image ``i``, upright RGB.

        Raises
        ------
        CausalFTError
            If the file cannot be read; the message names it.
        """
        return self._store.image(int(self._rows[i]))

    def read_bytes(self, i: int) -> bytes:
        """Return the file of image ``i`` as it is (for a set in memory, its pixels)."""
        return self._store.read(int(self._rows[i]))

    def bytes_hash(self, i: int) -> str:
        """Return the SHA-256 of `read_bytes`, in hex."""
        return hashlib.sha256(self.read_bytes(i)).hexdigest()

    def quick_key(self, i: int) -> tuple[int | bytes, ...]:
        """A cheap key that equal files share: size, and the checksum where the container stores one."""
        return self._store.quick_key(int(self._rows[i]))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of class names, file names, sizes and labels; of the pixels too for a set in memory.

        It costs no reading, so it does not see a file edited in place at the same size: `content_fingerprint` does.
        """
        digest = hashlib.sha256(as_bytes("\0".join(self.class_names)))
        for row, name, label in zip(self._rows.tolist(), self.files, self.labels.tolist()):
            digest.update(as_bytes(f"\0{name}\0{self._store.size(row)}\0{label}"))
        if self.pixels is not None:
            digest.update(np.ascontiguousarray(self.pixels).data)
        return digest.hexdigest()

    def content_fingerprint(self) -> str:
        """SHA-256 (hex) of class names, file names, labels and the bytes of every image. Reads all of them."""
        digest = hashlib.sha256(as_bytes("\0".join(self.class_names)))
        for i, (name, label) in enumerate(zip(self.files, self.labels.tolist())):
            digest.update(as_bytes(f"\0{name}\0{label}\0{self.bytes_hash(i)}"))
        return digest.hexdigest()

    def subset(self, indices: ArrayLike, name: str | None = None) -> ImageSet:
        """Return the images at ``indices`` (or under a boolean mask), in that order, with all class names kept.

        Parameters
        ----------
        indices : (m,) array of int, or (n,) array of bool
        name : str, optional
        """
        chosen = np.asarray(indices)
        if chosen.dtype == bool:
            if chosen.shape != (len(self),):
                raise IndexError(f"a mask for {len(self)} images has shape {chosen.shape}")
            chosen = np.flatnonzero(chosen)
        chosen = chosen.astype(np.int64)
        return ImageSet(
            self._store,
            self._rows[chosen],
            [self.files[i] for i in chosen],
            self.labels[chosen],
            self.class_names,
            name=self.name if name is None else name,
            factors=None if self.factors is None else self.factors[chosen],
            format=self.format,
        )

    def align_classes(self, class_names: Sequence[str]) -> ImageSet:
        """Return the set labelled by another list of classes, for example those a model knows.

        Raises
        ------
        CausalFTError
            If a class with images is not in the list; the nearest names are offered.

        Examples
        --------
        >>> pixels = np.zeros((2, 4, 4, 3), np.uint8)
        >>> ImageSet.from_arrays(pixels, [0, 1], ["otter", "lynx"]).align_classes(["lynx", "mole", "otter"]).labels
        array([2, 0])
        """
        index = {name: k for k, name in enumerate(class_names)}
        loose = {class_key(name): k for name, k in index.items()}
        index |= {
            name: loose[class_key(name)]
            for name in self.class_names
            if name not in index and class_key(name) in loose
        }
        present = np.flatnonzero(self.class_counts)
        for k in present:
            if self.class_names[k] not in index:
                stranger = self.class_names[k]
                hint = nearest(stranger, class_names)
                raise CausalFTError(
                    f"class '{stranger}' of {self.location} is not a class here; {hint}; "
                    "give the names of its classes as class_names (--class-names)"
                )
        mapping = np.array([index.get(name, -1) for name in self.class_names], dtype=np.int64)
        return ImageSet(
            self._store,
            self._rows,
            self.files,
            mapping[self.labels] if len(self) else self.labels,
            class_names,
            name=self.name,
            factors=self.factors,
            splits=self.splits,
            notes=self.notes,
            format=self.format,
        )

    def without_empty_classes(self) -> ImageSet:
        """Return the same images with the classes that have none left out of the list."""
        counts = self.class_counts
        return self.align_classes([name for name, count in zip(self.class_names, counts) if count])
