"""A labelled set of images (`ImageSet`) from a folder, a zip or arrays, with the same face for all three."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from causalft.datasets.layout import Layout, arrange
from causalft.datasets.metadata import factors_from_csv
from causalft.datasets.stores import ArrayStore, FolderStore, ImageStore, ZipStore, list_folder, list_zip
from causalft.errors import CausalFTError, nearest

__all__ = ["ImageSet", "open_images"]


class ImageSet:
    """Images with labels; pictures are read when asked for, from any thread or process.

    Make one with `open_images`, `from_folder`, `from_zip` or `from_arrays`.

    Attributes
    ----------
    name : str
    class_names : tuple of str, length K
    labels : (n,) array of int64 in [0, K)
    files : list of str, length n
        Name of each image relative to its folder or zip.
    factors : (n,) array or None
        Semantic factor of each image, where it is known.
    splits : dict of str to (n_split,) array of int64
        ``train``, ``test`` and perhaps ``validation`` as row numbers, if the folder came split; else empty.
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

    @classmethod
    def from_folder(
        cls,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        drop_empty_classes: bool = False,
        min_classes: int = 2,
    ) -> ImageSet:
        """Open a folder with one folder of images a class (ImageFolder), or with such train/, test/ folders.

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
            See `causalft.datasets.layout.arrange`; also if the folder is missing or cannot be read.
        """
        folder = _existing(path)
        if not folder.is_dir():
            raise CausalFTError(f"{folder} is not a folder")
        files, folders = list_folder(folder)
        layout = arrange(
            files, folders, str(folder), drop_empty_classes=drop_empty_classes, min_classes=min_classes
        )
        store = FolderStore(folder, layout.files)
        return cls._from_layout(store, layout, name or folder.resolve().name, _folder_factors(folder, layout))

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
        file = _existing(path)
        infos, folders = list_zip(file)
        layout = arrange(
            infos, folders, str(file), drop_empty_classes=drop_empty_classes, min_classes=min_classes
        )
        store = ZipStore(file, tuple(infos[name] for name in layout.files))
        factors = None
        for top in dict.fromkeys(("", layout.prefix)):
            table = f"{top}metadata.csv"
            if factors is None and table in infos:
                text = _text(ZipStore(file, (infos[table],)).read(0), f"{table} in {file}")
                factors = factors_from_csv(
                    text, [f.removeprefix(top) for f in layout.files], f"{table} in {file}"
                )
        return cls._from_layout(store, layout, name or file.stem, factors)

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
        given = list(files) if files is not None else [f"{class_names[k]}/{i:06d}" for i, k in enumerate(y)]
        for what, values in (("files", given), ("factors", factors)):
            if values is not None and len(np.asarray(values)) != len(array):
                raise CausalFTError(
                    f"{len(array)} images but {len(np.asarray(values))} {what}; give one an image"
                )
        return cls(
            ArrayStore(array, name), np.arange(len(array)), given, y, class_names, name=name, factors=factors
        )

    @classmethod
    def _from_layout(
        cls, store: ImageStore, layout: Layout, name: str, factors: NDArray[Any] | None
    ) -> ImageSet:
        return cls(
            store,
            np.arange(len(layout.files)),
            layout.files,
            layout.labels,
            layout.class_names,
            name=name,
            factors=factors,
            splits=layout.splits,
            notes=layout.notes,
        )

    def __len__(self) -> int:
        return len(self.labels)

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
        """The folder or zip, or the name of a set in memory."""
        return self._store.location

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
        digest = hashlib.sha256("\0".join(self.class_names).encode())
        for row, name, label in zip(self._rows.tolist(), self.files, self.labels.tolist()):
            digest.update(f"\0{name}\0{self._store.size(row)}\0{label}".encode())
        if self.pixels is not None:
            digest.update(np.ascontiguousarray(self.pixels).data)
        return digest.hexdigest()

    def content_fingerprint(self) -> str:
        """SHA-256 (hex) of class names, file names, labels and the bytes of every image. Reads all of them."""
        digest = hashlib.sha256("\0".join(self.class_names).encode())
        for i, (name, label) in enumerate(zip(self.files, self.labels.tolist())):
            digest.update(f"\0{name}\0{label}\0{self.bytes_hash(i)}".encode())
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
        present = np.flatnonzero(self.class_counts)
        for k in present:
            if self.class_names[k] not in index:
                stranger = self.class_names[k]
                hint = nearest(stranger, class_names)
                raise CausalFTError(
                    f"class '{stranger}' of {self.location} is not one of the classes: {hint}"
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
        )

    def without_empty_classes(self) -> ImageSet:
        """Return the same images with the classes that have none left out of the list."""
        counts = self.class_counts
        return self.align_classes([name for name, count in zip(self.class_names, counts) if count])


def open_images(
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    drop_empty_classes: bool = False,
    min_classes: int = 2,
) -> ImageSet:
    """Open a folder of class folders, or a zip of one; with ``train/`` and ``test/`` inside, see `ImageSet.splits`.

    Parameters
    ----------
    path : path
    name : str, optional
    drop_empty_classes : bool
        Leave out classes without a (training) image instead of refusing them.
    min_classes : int
        Refuse fewer classes.

    Raises
    ------
    CausalFTError
        If nothing is there (the nearest names are offered), or for what `ImageSet.from_folder` and
        `ImageSet.from_zip` refuse.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "pets"
    >>> for k, kind in enumerate(["cat", "dog"]):
    ...     (folder / kind).mkdir(parents=True)
    ...     Image.new("RGB", (4, 4), (k, 0, 0)).save(folder / kind / "1.png")
    >>> open_images(folder)
    ImageSet('pets': 2 images of 2 classes, 1 to 1 a class)
    """
    found = _existing(path)
    opener = ImageSet.from_folder if found.is_dir() else ImageSet.from_zip
    if not found.is_dir() and found.suffix.lower() != ".zip":
        with open(found, "rb") as file:
            is_zip = file.read(2) == b"PK"
        if not is_zip:
            raise CausalFTError(
                f"{found} is neither a folder nor a zip; give a folder (or zip) of class folders"
            )
    return opener(found, name=name, drop_empty_classes=drop_empty_classes, min_classes=min_classes)


def _existing(path: str | os.PathLike[str]) -> Path:
    """Return the path if something is there; else offer the nearest names."""
    wanted = Path(path).expanduser()
    if wanted.exists():
        return wanted
    parent = wanted
    missing = wanted.name
    while not parent.exists() and parent != parent.parent:
        parent, missing = parent.parent, parent.name
    try:
        known = [entry.name for entry in parent.iterdir() if not entry.name.startswith(".")]
    except OSError:
        known = []
    hint = nearest(missing, known) if known else "the folder is empty"
    raise CausalFTError(f"{wanted}: no such folder or zip; in {parent}: {hint}")


def _folder_factors(folder: Path, layout: Layout) -> NDArray[Any] | None:
    """Look for metadata.csv in the folder, under its single top folder, and beside it (a set among several)."""
    resolved = folder.resolve()
    places = [(folder, ""), (folder / layout.prefix, layout.prefix)]
    for place, top in dict.fromkeys(places):
        factors = _read_factors(place / "metadata.csv", [name.removeprefix(top) for name in layout.files])
        if factors is not None:
            return factors
    beside = resolved.parent / "metadata.csv"
    if beside.is_file() and f"{resolved.name}/" in _text(beside.read_bytes(), str(beside)):
        return _read_factors(beside, [f"{resolved.name}/{name}" for name in layout.files])
    return None


def _read_factors(table: Path, files: list[str]) -> NDArray[Any] | None:
    if not table.is_file():
        return None
    try:
        data = table.read_bytes()
    except OSError as error:
        raise CausalFTError(f"cannot read {table}: {error.strerror}") from None
    return factors_from_csv(_text(data, str(table)), files, str(table))


def _text(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise CausalFTError(f"{where} is not UTF-8 text; save it as UTF-8 or remove it") from None
