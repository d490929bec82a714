"""Images without labels, for prediction: files, folders, zips and lists of paths, in the order they were named."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from causalft.datasets.image_set import ImageSet
from causalft.datasets.images import is_image_name
from causalft.datasets.stores import FolderStore, ImageStore, ZipStore, list_folder, list_zip
from causalft.errors import CausalFTError, escape_name, short, unescape_name
from causalft.runs.files import parse_json, require_regular

__all__ = ["listed_paths", "unlabelled_images"]


def unlabelled_images(
    paths: Sequence[str | os.PathLike[str]], listed: Iterable[str] | None = None
) -> ImageSet:
    """Return the images of files, folders (searched to any depth, sorted) and zips as one set.

    Parameters
    ----------
    paths : sequence of path
        The string ``"-"`` stands for the lines of ``listed``.
    listed : iterable of str, optional
        Lines as :func:`listed_paths` reads them, one image each; whether the files are there is seen when they are
        read.

    Returns
    -------
    ImageSet
        All under the one class ``unlabelled``; ``files`` are the paths as a person would type them, with escapes where
        they cannot be printed (`causalft.errors`). Inside a zip: ``photos.zip/folder/1.jpg``.

    Raises
    ------
    CausalFTError
        If a path does not exist or is neither a regular file nor a folder, a zip is damaged, or no image is found.
    """
    files: list[str] = []
    # Runs of rows that one store holds: plain files by default, an archive where one was named.
    archives: list[tuple[int, int, ZipStore]] = []
    notes: list[str] = []
    for path in paths:
        if path == "-" and listed is not None:
            files += [_meant(text) for text in listed_paths(listed)]
            continue
        place = Path(_meant(os.fspath(path)))
        if not os.fspath(path):
            raise CausalFTError("an empty path names no image; give an image, folder or zip")
        if not os.path.lexists(place):
            raise CausalFTError(f"{short(place, 300)}: no such image, folder or zip")
        if place.is_dir():
            everything, _, left_out = list_folder(place)
            found = sorted(name for name in everything if is_image_name(name))
            if not found:
                raise CausalFTError(f"{place} holds no image; give image files, or a folder with some")
            files += [os.fspath(place / name) for name in found]
            notes += [f"{note} (in {place})" for note in left_out]
            continue
        require_regular(place)
        if _is_zip(place):
            infos = list_zip(place)[0]
            names = sorted(name for name in infos if is_image_name(name))
            if not names:
                raise CausalFTError(f"{place} holds no image; give a zip with some")
            store = ZipStore(place, tuple(infos[name] for name in names))
            archives.append((len(files), len(names), store))
            files += [os.fspath(place / name) for name in names]
        else:
            files.append(os.fspath(place))
    if not files:
        raise CausalFTError("no image given; name image files, folders or zips, or paths on standard input")
    plain = FolderStore("", tuple(files))
    rows, labels = np.arange(len(files)), np.zeros(len(files), int)
    joined = _Joined(plain, archives) if archives else plain
    shown = [escape_name(file) for file in files]
    return ImageSet(joined, rows, shown, labels, ["unlabelled"], name="unlabelled", notes=notes)


def listed_paths(lines: Iterable[str]) -> list[str]:
    """Read a list of images: one path a line, or one JSON object with a ``path`` a line.

    Empty lines are passed over, and so is a byte order mark.

    Raises
    ------
    CausalFTError
        For a line that begins like a JSON object and is none with a ``path``; the message has its number.

    Examples
    --------
    >>> listed_paths(["a b.jpg\\n", "\\n", '{"path": "c.jpg", "id": 7}\\n'])
    ['a b.jpg', 'c.jpg']
    """
    found = []
    for number, line in enumerate(lines, 1):
        text = line.rstrip("\r\n").removeprefix("\ufeff")
        if not text.strip():
            continue
        if text.lstrip().startswith("{"):
            path = _json_path(text, number)
            if not isinstance(path, str) or not path:
                raise CausalFTError(
                    f'line {number} of the list is no JSON object with a "path" (a string): {short(text, 60)}'
                )
            text = path
        if "\0" in text:
            raise CausalFTError(f"line {number} of the list holds a zero byte; give one path a line")
        found.append(text)
    return found


def _json_path(text: str, number: int) -> Any:
    try:
        found = parse_json(text, f"line {number} of the list")
    except CausalFTError:
        return None
    return found.get("path") if isinstance(found, dict) else None


def _meant(path: str) -> str:
    """A path as it stands, or with its escapes undone where nothing is there as it stands."""
    if "\\" not in path or os.path.lexists(path):
        return path
    meant = unescape_name(path)
    return meant if os.path.lexists(meant) else path


def _is_zip(path: Path) -> bool:
    """A file that is named as a zip, or is one and is not named as an image."""
    return path.suffix.lower() == ".zip" or (not is_image_name(path.name) and zipfile.is_zipfile(path))


class _Joined:
    """Plain files with archives among them: ``archives`` are (first row, number of rows, store)."""

    location = ""

    def __init__(self, files: FolderStore, archives: Sequence[tuple[int, int, ZipStore]]) -> None:
        n_rows = len(files.files)
        self._stores: list[ImageStore] = [files, *(store for _, _, store in archives)]
        self._which = np.zeros(n_rows, dtype=np.int32)
        self._inner: NDArray[np.int64] = np.arange(n_rows)
        for number, (first, size, _) in enumerate(archives, 1):
            self._which[first : first + size] = number
            self._inner[first : first + size] = np.arange(size)

    def _at(self, row: int) -> tuple[ImageStore, int]:
        return self._stores[self._which[row]], int(self._inner[row])

    def read(self, row: int) -> bytes:
        store, inner = self._at(row)
        return store.read(inner)

    def size(self, row: int) -> int:
        store, inner = self._at(row)
        return store.size(inner)

    def quick_key(self, row: int) -> tuple[int | bytes, ...]:
        store, inner = self._at(row)
        return store.quick_key(inner)

    def image(self, row: int) -> Image.Image:
        store, inner = self._at(row)
        return store.image(inner)
