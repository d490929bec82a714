"""Where images lie: stores give the bytes of each row, containers find files by name in a folder, zip or tar."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from causalft.data.images import read_image
from causalft.data.labels import row_name
from causalft.errors import CausalFTError, first_few, several, short, unescape_name
from causalft.runs.files import read_bytes, read_piece, read_text, require_regular

__all__ = [
    "ArrayStore",
    "Container",
    "FolderContainer",
    "FolderStore",
    "ImageStore",
    "MAX_FILE_BYTES",
    "SliceStore",
    "find_files",
    "is_ignored",
    "list_folder",
    "typed_path",
]

_PIECE = 4096
#: Largest image file that is read, or unpacked from a zip, in bytes.
MAX_FILE_BYTES = 2**29

_LEFT_BY_SYSTEMS = frozenset({"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "lost+found"})
_FEW = 50
_NEEDLESS = re.compile(r"(?:(?<=/)|^)(?:\./)+|(?<=/)/+")


class ImageStore(Protocol):
    """Rows of image files. ``quick_key`` starts with the size, and adds a checksum if one is known.

    A store that can read part of a file may have ``piece(row) -> bytes`` too: up to 4 KiB from its middle.
    """

    location: str

    def read(self, row: int) -> bytes: ...

    def size(self, row: int) -> int: ...

    def quick_key(self, row: int) -> tuple[int | bytes, ...]: ...

    def image(self, row: int) -> Image.Image: ...


class FolderStore:
    """Image files in a folder."""

    def __init__(self, folder: str | os.PathLike[str], files: tuple[str, ...]) -> None:
        self.location, self.files = os.fspath(folder), files

    def _path(self, row: int) -> str:
        return os.path.join(self.location, self.files[row])

    def read(self, row: int) -> bytes:
        return read_bytes(self._path(row), MAX_FILE_BYTES)

    def size(self, row: int) -> int:
        try:
            return os.stat(self._path(row)).st_size
        except OSError as error:
            raise CausalFTError(f"cannot read {self._path(row)}: {error.strerror}") from None

    def quick_key(self, row: int) -> tuple[int | bytes, ...]:
        return (self.size(row),)

    def piece(self, row: int) -> bytes:
        path = self._path(row)
        size = require_regular(path).st_size
        return read_piece(path, max(0, size - _PIECE) // 2, _PIECE)

    def image(self, row: int) -> Image.Image:
        return read_image(self.read(row), self._path(row))


class SliceStore:
    """Image files inside large files (tars) or blocks of memory.

    Image i is ``length[i]`` bytes of ``blobs[blob[i]]`` from ``offset[i]`` on. A file is opened for each read, so the
    store is safe in threads and forks, and can be pickled.
    """

    def __init__(
        self,
        location: str,
        blobs: Sequence[str | bytes],
        blob: ArrayLike,
        offset: ArrayLike,
        length: ArrayLike,
        names: Sequence[str],
    ) -> None:
        self.location, self._blobs, self._names = location, tuple(blobs), names
        self._blob = np.asarray(blob, dtype=np.int32)
        self._offset = np.asarray(offset, dtype=np.int64)
        self._length = np.asarray(length, dtype=np.int64)

    def _name(self, row: int) -> str:
        blob = self._blobs[self._blob[row]]
        return f"{self._names[row]} in {blob if isinstance(blob, str) else self.location}"

    def read(self, row: int) -> bytes:
        blob, offset, length = self._blobs[self._blob[row]], int(self._offset[row]), int(self._length[row])
        if length > MAX_FILE_BYTES:
            raise CausalFTError(f"cannot read {self._name(row)}: it has {length:,} bytes; remove it")
        if isinstance(blob, bytes):
            return blob[offset : offset + length]
        try:
            with open(blob, "rb", buffering=0) as file:
                file.seek(offset)
                data = file.read(length)
        except OSError as error:
            raise CausalFTError(f"cannot read {self._name(row)}: {error.strerror}") from None
        if len(data) < length:
            raise CausalFTError(f"cannot read {self._name(row)}: the file was cut off; get it again")
        return data

    def piece(self, row: int) -> bytes:
        blob, length = self._blobs[self._blob[row]], int(self._length[row])
        start = int(self._offset[row]) + max(0, length - _PIECE) // 2
        kept = min(length, _PIECE)
        return blob[start : start + kept] if isinstance(blob, bytes) else read_piece(blob, start, kept)

    def size(self, row: int) -> int:
        return int(self._length[row])

    def quick_key(self, row: int) -> tuple[int | bytes, ...]:
        return (self.size(row),)

    def image(self, row: int) -> Image.Image:
        return read_image(self.read(row), self._name(row))


class ArrayStore:
    """Pixels in memory, (n, H, W, 3) uint8."""

    def __init__(self, pixels: NDArray[np.uint8], location: str) -> None:
        self.pixels, self.location = pixels, location

    def read(self, row: int) -> bytes:
        return self.pixels[row].tobytes()

    def size(self, row: int) -> int:
        return self.pixels[row].nbytes

    def quick_key(self, row: int) -> tuple[int | bytes, ...]:
        return (hashlib.sha256(self.read(row)).digest(),)

    def image(self, row: int) -> Image.Image:
        return Image.fromarray(self.pixels[row])


class Container(Protocol):
    """Files by relative name; ``name`` is short, ``notes`` are remarks for the user."""

    kind: str
    location: str
    name: str

    @property
    def notes(self) -> tuple[str, ...]: ...

    def listing(self) -> tuple[list[str], list[str]]:
        """Names of all files and of all folders."""
        ...

    def missing(self, names: Sequence[str]) -> list[str]:
        """The ``names`` that are missing, in order."""
        ...

    def store(self, names: Sequence[str]) -> ImageStore:
        """The images of these names."""
        ...

    def text(self, name: str) -> str | None:
        """A text file; None if it is missing."""
        ...


class FolderContainer:
    """A folder."""

    kind = "folder"

    def __init__(self, folder: Path) -> None:
        self.location, self.name = str(folder), folder.resolve().name
        self.notes: tuple[str, ...] = ()

    def listing(self) -> tuple[list[str], list[str]]:
        files, folders, notes = list_folder(Path(self.location))
        self.notes = tuple(notes)
        return files, folders

    def missing(self, names: Sequence[str]) -> list[str]:
        # Listing a folder is far cheaper than asking for each of thousands of files.
        by_folder: dict[str, list[str]] = defaultdict(list)
        for name in names:
            by_folder[os.path.dirname(name)].append(name)
        absent: set[str] = set()
        for folder, inside in by_folder.items():
            place = os.path.join(self.location, folder)
            if len(inside) < _FEW:
                absent.update(
                    name for name in inside if not os.path.isfile(os.path.join(self.location, name))
                )
                continue
            found = _files_directly_in(place)
            absent.update(name for name in inside if os.path.basename(name) not in found)
        return [name for name in names if name in absent] if absent else []

    def store(self, names: Sequence[str]) -> ImageStore:
        return FolderStore(self.location, tuple(names))

    def text(self, name: str) -> str | None:
        path = Path(self.location, name)
        return read_text(path) if path.is_file() else None


def _files_directly_in(folder: str) -> set[str]:
    """Names of the regular files of a folder, links included; empty if it cannot be read."""
    found: set[str] = set()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                with suppress(OSError):  # a link that leads back to itself
                    if entry.is_file():
                        found.add(entry.name)
    except (OSError, ValueError):  # ValueError: a zero byte in the name
        return found
    return found


def list_folder(folder: Path) -> tuple[list[str], list[str], list[str]]:
    """Return regular files and folders below ``folder``, as relative names, and notes on what was left out.

    Links are followed and loops cut; pipes, devices, sockets and broken links are left out.
    """
    files: list[str] = []
    folders: list[str] = []
    special: list[str] = []
    broken: list[str] = []
    pending: list[tuple[str, str, frozenset[tuple[int, int]]]] = [(os.fspath(folder), "", frozenset())]
    while pending:
        path, relative, above = pending.pop()
        try:
            status = os.stat(path)
            if (status.st_dev, status.st_ino) in above:
                broken.append(f"{relative.rstrip('/')} (leads back to a folder above it)")
                continue
            inside = above | {(status.st_dev, status.st_ino)}
            with os.scandir(path) as entries:
                for entry in entries:
                    name = f"{relative}{entry.name}"
                    if is_ignored(entry.name):
                        continue
                    try:
                        is_folder, is_file = entry.is_dir(), entry.is_file()
                    except OSError:  # a link that leads back to itself
                        broken.append(f"{name} (leads back to itself)")
                        continue
                    if is_folder:
                        folders.append(name)
                        pending.append((entry.path, f"{name}/", inside))
                    elif is_file:
                        files.append(name)
                    elif entry.is_symlink() and not os.path.exists(entry.path):
                        broken.append(f"{name} (leads to nothing)")
                    else:
                        special.append(name)
        except OSError as error:
            raise CausalFTError(f"cannot read the folder {path}: {error.strerror}") from None
    notes = []
    if special:
        what = several(special, "pipe, device or socket", "pipes, devices and sockets")
        notes.append(f"left out {what}: {first_few(sorted(special))}")
    if broken:
        notes.append(
            f"left out {several(broken, 'broken link', 'broken links')}: {first_few(sorted(broken))}"
        )
    return files, folders, notes


def is_ignored(name: str) -> bool:
    """Whether a path is hidden or left behind by an operating system.

    Examples
    --------
    >>> [is_ignored(name) for name in ("__MACOSX/lynx/._1.jpg", "lynx/Thumbs.db", "lynx/1.jpg")]
    [True, True, False]
    """
    return any(part.startswith(".") or part.lower() in _LEFT_BY_SYSTEMS for part in name.split("/"))


def typed_path(text: str) -> str:
    r"""Return a path as it is written, without needless ``./`` and ``//``.

    Examples
    --------
    >>> typed_path("./cat//1.png"), typed_path("/data/1.png")
    ('cat/1.png', '/data/1.png')
    """
    return _NEEDLESS.sub("", text) if "./" in text or "//" in text else text


def _readings(path: str) -> Iterator[str]:
    """Other readings of a path, the likeliest first."""
    seen = {path}
    forms: list[Callable[[str], str]] = [
        lambda text: text,
        lambda text: typed_path(text.replace("\\", "/")),  # as Windows writes it
        unescape_name,
        lambda text: text.strip("\"'"),
        lambda text: unicodedata.normalize("NFC", text),
        lambda text: unicodedata.normalize("NFD", text),
    ]
    for form in forms:
        for reading in (
            form(path),
            form(path).lstrip("/"),
        ):  # a leading slash stands for the root, as in Places365
            if reading and reading not in seen:
                seen.add(reading)
                yield reading


def find_files(
    container: Container, paths: Sequence[str], where: str, places: Sequence[str] | None = None
) -> list[str]:
    r"""Return the names in a container of the files that a table or list (``where``) names, in order.

    If a path does not exist, it is read as a Windows path (``cat\1.png``), without a leading slash (``/cat/1.png``),
    with the escapes of `causalft.errors` undone, or in another Unicode composition. Missing files, and what is no
    regular file, are refused with their number and the first three; ``places`` name the rows, as in
    `causalft.data.labels.row_name`.
    """
    names = [typed_path(path) for path in paths]
    missing = dict.fromkeys(container.missing(names))
    open_questions = {name: _readings(name) for name in missing}
    found: dict[str, str] = {}
    while open_questions:
        asked = {name: reading for name, rest in open_questions.items() if (reading := next(rest, None))}
        if not asked:
            break
        absent = set(container.missing(list(asked.values())))
        found.update((name, reading) for name, reading in asked.items() if reading not in absent)
        open_questions = {name: open_questions[name] for name in asked if name not in found}
    lost = [row for row, name in enumerate(names) if name in missing and name not in found]
    if lost:
        first = [f"{row_name(places, row)}: {short(names[row])}" for row in lost[:3]]
        shown = ", ".join(first) + (", ..." if len(lost) > 3 else "")
        raise CausalFTError(
            f"{where} names {len(names):,} images and {len(lost):,} of them {'is' if len(lost) == 1 else 'are'} "
            f"missing under {container.location} ({shown}); give the folder, zip or tar that its paths start "
            "from (--root) or restore them"
        )
    return [found.get(name, name) for name in names] if found else names
