"""A labelled set of images, the same for every format, and the reading of many of its images to one array."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Any, TypeVar

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
from causalft.runs.progress import phase

__all__ = ["ImageSet", "damaged_images", "decode", "decode_threads", "in_order", "to_pixels", "usable_cores"]

_CHUNK = 64
_Result = TypeVar("_Result")


class ImageSet(ShownAsTable):
    """Images with labels; an image is read on access, from any thread or process.

    Made by `causalft.open_images` or `from_arrays`.

    Attributes
    ----------
    name : str
    class_names : tuple of str, length K
    labels : (n,) array of int64 in [0, K)
    files : list of str, length n
        Names relative to what was opened, printable (`causalft.errors.escape_name`).
    factors : (n,) array or None
        Semantic factor of each image, if known.
    splits : dict of str to (n_split,) array of int64
        Row numbers of ``train``, ``validation``, ``test``, as the data came; empty if it came without splits.
    format : str
        A name of `causalft.data.formats`, or ``arrays``.
    notes : tuple of str
        Sentences about what was left out.
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
        drop_empty_classes, min_classes
            As in `causalft.open_images`.

        Raises
        ------
        CausalFTError
            As `causalft.data.formats.folder.arrange`; also if the folder is missing or cannot be read.
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
        """Open a zip of what `from_folder` takes, in place.

        Raises
        ------
        CausalFTError
            As `from_folder`; also if the zip is cut off, damaged or encrypted.
        """
        options = ReadOptions(drop_empty_classes=drop_empty_classes, min_classes=min_classes)
        return cls.from_reading(read_class_folders(ZipContainer(existing(path)), options), name)

    @classmethod
    def from_reading(cls, reading: Reading, name: str | None = None) -> ImageSet:
        """Make a set of what a reader found."""
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
        """Make a set of pixels in memory, which are not copied.

        Parameters
        ----------
        pixels : (n, H, W, 3) array of uint8
        labels : (n,) array of int in [0, K)
        class_names : sequence of K str
        name : str
        files : sequence of n str, optional
            Image names; ``class/000001`` by default.
        factors : (n,) array, optional

        Raises
        ------
        CausalFTError
            For unsuitable shapes, types or labels.

        Examples
        --------
        >>> images = ImageSet.from_arrays(np.zeros((3, 8, 8, 3), np.uint8), [0, 1, 1], ["lynx", "otter"])
        >>> images
        ImageSet('arrays': 3 images of 2 classes, 1 to 2 per class)
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
                    f"{len(array)} images but {len(np.asarray(values))} {what}; give one per image"
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
        spread = f"{counts.min()} to {counts.max()} per class" if len(counts) else "none"
        sizes = ", ".join(f"{split} {len(rows)}" for split, rows in self.splits.items())
        came = f"; splits {sizes}" if sizes else ""
        return (
            f"ImageSet('{self.name}': {len(self)} images of {len(self.class_names)} classes, {spread}{came})"
        )

    @property
    def location(self) -> str:
        """Where the images are; the name of a set in memory, or of a table or list in the current folder."""
        return self.name if self._store.location in ("", ".") else self._store.location

    @property
    def n_classes(self) -> int:
        """K."""
        return len(self.class_names)

    @property
    def class_counts(self) -> NDArray[np.int64]:
        """(K,) number of images."""
        return np.bincount(self.labels, minlength=len(self.class_names)).astype(np.int64)

    @property
    def pixels(self) -> NDArray[np.uint8] | None:
        """(n, H, W, 3) uint8 of a set in memory, else None."""
        return self._store.pixels[self._rows] if isinstance(self._store, ArrayStore) else None

    def image(self, i: int) -> Image.Image:
        """Return image ``i``, upright RGB.

        Raises
        ------
        CausalFTError
            If it cannot be read; the message names the file.
        """
        return self._store.image(int(self._rows[i]))

    def read_bytes(self, i: int) -> bytes:
        """Return the file of image ``i``; its pixels for a set in memory."""
        return self._store.read(int(self._rows[i]))

    def bytes_hash(self, i: int) -> str:
        """SHA-256 of `read_bytes` (hex)."""
        return hashlib.sha256(self.read_bytes(i)).hexdigest()

    def quick_key(self, i: int) -> tuple[int | bytes, ...]:
        """A cheap key, the same for equal files: size, and checksum if the container stores one."""
        return self._store.quick_key(int(self._rows[i]))

    def piece(self, i: int) -> bytes:
        """A few bytes from the middle of the file of image ``i``; nothing if only whole files can be read."""
        piece = getattr(self._store, "piece", None)
        return b"" if piece is None else piece(int(self._rows[i]))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of class names, file names, sizes and labels, and of pixels in memory.

        No file is read, so an edit that keeps the size goes unnoticed; see `content_fingerprint`.
        """
        digest = hashlib.sha256(as_bytes("\0".join(self.class_names)))
        for row, name, label in zip(self._rows.tolist(), self.files, self.labels.tolist()):
            digest.update(as_bytes(f"\0{name}\0{self._store.size(row)}\0{label}"))
        if self.pixels is not None:
            digest.update(np.ascontiguousarray(self.pixels).data)
        return digest.hexdigest()

    def content_fingerprint(self) -> str:
        """SHA-256 (hex) of class names, file names, labels and the bytes of every image."""
        digest = hashlib.sha256(as_bytes("\0".join(self.class_names)))
        for i, (name, label) in enumerate(zip(self.files, self.labels.tolist())):
            digest.update(as_bytes(f"\0{name}\0{label}\0{self.bytes_hash(i)}"))
        return digest.hexdigest()

    def subset(self, indices: ArrayLike, name: str | None = None) -> ImageSet:
        """Return the images at ``indices``, (m,) int in that order or (n,) bool, with all class names."""
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
        """Return the set with another list of classes, for example those of a model.

        Raises
        ------
        CausalFTError
            If a class with images is missing; the nearest names are offered.

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
                    "give the names of its classes as --class-names"
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
        """Return the set without its empty classes."""
        counts = self.class_counts
        return self.align_classes([name for name, count in zip(self.class_names, counts) if count])


def usable_cores() -> int:
    """Number of processors that this process may use, at least 1."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def decode_threads(threads: int | None = None) -> int:
    """Number of threads that read images: ``threads``, or one per usable processor up to 8.

    Pillow releases the interpreter's lock while it decodes and resizes.
    """
    return min(8, usable_cores()) if threads is None else max(1, threads)


def to_pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Pixels of an image, (H, W, 3) uint8."""
    return np.asarray(image, dtype=np.uint8)


def decode(
    images: ImageSet,
    indices: ArrayLike | None = None,
    transform: Callable[[Image.Image], NDArray[Any]] = to_pixels,
    progress_label: str = "reading images",
    threads: int | None = None,
    *,
    progress: bool | None = None,
) -> NDArray[Any]:
    """Read images and stack their transforms.

    Parameters
    ----------
    images : ImageSet
    indices : (m,) array of int, optional
        Images to read, in this order; all by default.
    transform : callable, PIL image to array
        Runs in several threads and must return one shape for all images.
    progress_label : str
    threads : int, optional
        See :func:`decode_threads`.
    progress : bool, optional
        Show a bar on standard error; by default on a terminal.

    Returns
    -------
    (m, ...) array
        Row j is ``transform(images.image(indices[j]))``.

    Raises
    ------
    CausalFTError
        For the first image, in order, that cannot be read or has another shape.

    Examples
    --------
    >>> images = ImageSet.from_arrays(np.arange(2 * 12, dtype=np.uint8).reshape(2, 2, 2, 3), [0, 1], ["a", "b"])
    >>> decode(images, [1, 0])[:, 0, 0].tolist()
    [[12, 13, 14], [0, 1, 2]]
    """
    chosen = np.arange(len(images)) if indices is None else np.asarray(indices, dtype=np.int64)
    if chosen.ndim != 1 or len(chosen) == 0:
        raise CausalFTError(f"no image of {images.location} was chosen; give at least one index")
    first = np.asarray(transform(images.image(int(chosen[0]))))
    out = np.empty((len(chosen), *first.shape), dtype=first.dtype)
    out[0] = first
    stop = threading.Event()

    def work(start: int, end: int) -> int:
        for j in range(start, end):
            if stop.is_set():
                break
            value = np.asarray(transform(images.image(int(chosen[j]))))
            if value.shape != first.shape:
                name = images.files[int(chosen[j])]
                raise CausalFTError(
                    f"image {name} in {images.location} has shape {value.shape}, the first one {first.shape}; "
                    "use a transform that brings all images to one size"
                )
            out[j] = value
        return end - start

    n_threads = decode_threads(threads)
    bar = phase(progress_label, len(chosen), initial=1, unit="img", progress=progress)
    with bar, ThreadPoolExecutor(n_threads, thread_name_prefix="decode") as pool:
        try:
            for done in in_order(pool, work, range(1, len(chosen)), 4 * n_threads):
                bar.update(done)
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return out


def damaged_images(
    images: ImageSet, *, threads: int | None = None, progress: bool | None = None
) -> dict[str, str]:
    """Read every image and return the files that cannot be read with their errors, in order.

    ``threads`` and ``progress`` are those of `decode`.

    Examples
    --------
    >>> damaged_images(ImageSet.from_arrays(np.zeros((2, 2, 2, 3), np.uint8), [0, 1], ["a", "b"]))
    {}
    """

    def work(start: int, end: int) -> list[tuple[str, str]]:
        found = []
        for i in range(start, end):
            try:
                images.image(i)
            except CausalFTError as error:
                found.append((images.files[i], str(error)))
        return found

    n_threads = decode_threads(threads)
    bar = phase("checking images", len(images), unit="img", progress=progress)
    damaged: dict[str, str] = {}
    with bar, ThreadPoolExecutor(n_threads, thread_name_prefix="check") as pool:
        for chunk in in_order(pool, work, range(len(images)), 4 * n_threads):
            damaged.update(chunk)
            bar.update(min(_CHUNK, len(images) - bar.n))
    return damaged


def in_order(
    pool: ThreadPoolExecutor, work: Callable[[int, int], _Result], rows: range, ahead: int
) -> Iterator[_Result]:
    """Run ``work(start, end)`` on chunks of ``rows`` and yield its results in order, at most ``ahead`` pending."""
    waiting: deque[Future[_Result]] = deque()
    for start in rows[::_CHUNK]:
        waiting.append(pool.submit(work, start, min(start + _CHUNK, rows.stop)))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    for future in waiting:
        yield future.result()
