"""What holds image files: a folder, a zip or a tar, all asked for names and text in the same way."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

from causalft.datasets.stores import FolderStore, ImageStore, SliceStore, ZipStore, list_folder, list_zip
from causalft.datasets.tars import TarIndex, index_tar, is_tar_name, tar_compression
from causalft.errors import CausalFTError, nearest, short
from causalft.runs.files import decode_text, read_text, require_regular

__all__ = [
    "Container",
    "FolderContainer",
    "TarContainer",
    "ZipContainer",
    "existing",
    "open_container",
]

_FEW = 50


class Container(Protocol):
    """Files with names relative to a place.

    Attributes
    ----------
    kind : {"folder", "zip", "tar"}
    location : str
    name : str
        Short, for people.
    notes : tuple of str
        What they should know about it.
    """

    kind: str
    location: str
    name: str

    @property
    def notes(self) -> tuple[str, ...]: ...

    def listing(self) -> tuple[list[str], list[str]]:
        """Names of all files and of all folders."""
        ...

    def missing(self, names: Sequence[str]) -> list[str]:
        """Those of ``names`` that are not there, in order."""
        ...

    def store(self, names: Sequence[str]) -> ImageStore:
        """The images of these names, row by row."""
        ...

    def text(self, name: str) -> str | None:
        """A text file, or None if there is none of this name."""
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
        # Reading a folder once is far cheaper than asking for each of its thousands of files.
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
            try:
                found = set(os.listdir(place))
            except OSError:
                found = set()
            absent.update(name for name in inside if os.path.basename(name) not in found)
        return [name for name in names if name in absent] if absent else []

    def store(self, names: Sequence[str]) -> ImageStore:
        return FolderStore(self.location, tuple(names))

    def text(self, name: str) -> str | None:
        path = Path(self.location, name)
        return read_text(path) if path.is_file() else None


class ZipContainer:
    """A zip, read in place."""

    kind = "zip"
    notes: tuple[str, ...] = ()

    def __init__(self, path: Path) -> None:
        self.location, self.name, self._path = str(path), path.stem, path
        self._infos, self._folders = list_zip(path)

    def listing(self) -> tuple[list[str], list[str]]:
        return list(self._infos), self._folders

    def missing(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if name not in self._infos]

    def store(self, names: Sequence[str]) -> ImageStore:
        return ZipStore(self._path, tuple(self._infos[name] for name in names))

    def text(self, name: str) -> str | None:
        if name not in self._infos:
            return None
        return decode_text(self.store([name]).read(0), f"{name} in {self.location}")


class TarContainer:
    """A tar, read in place; a compressed one is kept in memory (`causalft.datasets.tars.index_tar`)."""

    kind = "tar"

    def __init__(self, path: Path) -> None:
        self.location, self._path = str(path), path
        self.name = path.name.split(".")[0] or path.name

    @cached_property
    def _index(self) -> TarIndex:
        return index_tar(self._path)

    @property
    def notes(self) -> tuple[str, ...]:
        return self._index.notes

    def listing(self) -> tuple[list[str], list[str]]:
        return list(self._index.rows), self._index.folders

    def missing(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if name not in self._index.rows]

    def store(self, names: Sequence[str]) -> ImageStore:
        index = self._index
        rows = [index.rows[name] for name in names]
        return SliceStore(
            self.location,
            [index.blob],
            [0] * len(rows),
            index.offset[rows],
            index.length[rows],
            list(names),
        )

    def text(self, name: str) -> str | None:
        if name not in self._index.rows:
            return None
        return decode_text(self.store([name]).read(0), f"{name} in {self.location}")


def open_container(path: str | os.PathLike[str]) -> Container:
    """Open a folder, a zip or a tar.

    Raises
    ------
    CausalFTError
        If nothing is there, or something else.
    """
    found = existing(path)
    if found.is_dir():
        return FolderContainer(found)
    if is_tar_name(found.name) or tar_compression(found) is not None:
        return TarContainer(found)
    return ZipContainer(found)


def existing(path: str | os.PathLike[str]) -> Path:
    """Return the path if a file or folder is there; else offer the nearest names.

    Raises
    ------
    CausalFTError
        If nothing is there, or what is neither a folder nor a regular file; for an empty path.
    """
    if not os.fspath(path):
        raise CausalFTError("an empty path names nothing; give a file or folder")
    wanted = Path(path).expanduser()
    if os.path.lexists(wanted):
        if not os.path.isdir(wanted):
            require_regular(wanted)
        return wanted
    parent = wanted
    missing = wanted.name
    while not os.path.exists(parent) and parent != parent.parent:
        parent, missing = parent.parent, parent.name
    try:
        known = [entry.name for entry in parent.iterdir() if not entry.name.startswith(".")]
    except OSError:
        known = []
    hint = nearest(missing, known) if known else "known: nothing"
    there = f"in {parent}, {hint}" if hint.startswith("did you") else f"{parent} holds {hint[7:]}"
    raise CausalFTError(f"{short(wanted, 300)}: no such file or folder; {there}")
