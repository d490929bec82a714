"""Where the bytes of images lie (folder, zip, tar, array), read one at a time, from any thread or process."""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from causalft.data.images import read_image
from causalft.data.layout import is_ignored
from causalft.errors import CausalFTError, first_few, several
from causalft.runs.files import read_bytes, require_regular

__all__ = [
    "ArrayStore",
    "FolderStore",
    "ImageStore",
    "MAX_FILE_BYTES",
    "SliceStore",
    "ZipStore",
    "list_folder",
    "list_zip",
]

#: Largest image file that is read, or unpacked from a zip, in bytes.
MAX_FILE_BYTES = 2**29

_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}


class ImageStore(Protocol):
    """Rows of image files. ``quick_key`` differs for files that differ in size (and checksum, where one is known)."""

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

    def image(self, row: int) -> Image.Image:
        return read_image(self.read(row), self._path(row))


class ZipStore:
    """Image files in a zip, read in place: nothing is unpacked to disk.

    One handle a process is opened at the first read; it is never inherited by a forked or pickled copy.
    """

    def __init__(self, path: str | os.PathLike[str], infos: tuple[zipfile.ZipInfo, ...]) -> None:
        self.location, self._infos = os.fspath(path), infos
        self._handle: tuple[int, zipfile.ZipFile] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}

    def _open(self) -> zipfile.ZipFile:
        # Two threads may both open it the first time; either handle serves, and the spare one is closed when dropped.
        handle = self._handle
        if handle is None or handle[0] != os.getpid():
            handle = (os.getpid(), _open_zip(self.location))
            self._handle = handle
        return handle[1]

    def _name(self, row: int) -> str:
        return f"{self._infos[row].filename} in {self.location}"

    def read(self, row: int) -> bytes:
        info = self._infos[row]
        if info.file_size > MAX_FILE_BYTES:
            raise CausalFTError(
                f"cannot read {self._name(row)}: it unpacks to {info.file_size:,} bytes; remove it"
            )
        try:
            return self._open().read(info)
        except CausalFTError:
            raise
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise CausalFTError(
                f"cannot read {self._name(row)}: the zip is damaged or was changed ({reason}); get it again"
            ) from None

    def size(self, row: int) -> int:
        return self._infos[row].file_size

    def quick_key(self, row: int) -> tuple[int | bytes, ...]:
        return (self._infos[row].file_size, self._infos[row].CRC)

    def image(self, row: int) -> Image.Image:
        return read_image(self.read(row), self._name(row))


class SliceStore:
    """Image files that lie one after another in few large files (tars), or in blocks of memory.

    Twenty bytes an image, and nothing is held open: a file is opened for each read, so threads, forks and pickled
    copies need no care.

    Parameters
    ----------
    location : str
        What was opened, for messages.
    blobs : sequence of path or bytes
    blob : (n,) array of int
        Which of ``blobs`` holds each image.
    offset, length : (n,) array of int
        Where in it, in bytes.
    names : sequence of n str
        What to call the images in errors.
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


def list_folder(folder: Path) -> tuple[list[str], list[str], list[str]]:
    """Regular files and folders below ``folder``, links followed, circles of links cut.

    Returns
    -------
    files, folders : list of str
        Relative names.
    notes : list of str
        What is neither: pipes, devices and sockets, links to nothing and links that lead back to themselves.

    Raises
    ------
    CausalFTError
        If a folder cannot be read.
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


def list_zip(path: Path) -> tuple[dict[str, zipfile.ZipInfo], list[str]]:
    """Files (name to entry) and folders that the directory of a zip names; nothing is unpacked.

    Raises
    ------
    CausalFTError
        If the file is not a whole zip, holds a name twice, or has an encrypted or unsupported entry.
    """
    files: dict[str, zipfile.ZipInfo] = {}
    folders: list[str] = []
    with _open_zip(os.fspath(path)) as archive:
        for info in archive.infolist():
            name = info.filename.replace("\\", "/").lstrip("/").removeprefix("./")
            if is_ignored(name.rstrip("/")):
                continue
            if name.endswith("/"):
                folders.append(name.rstrip("/"))
                continue
            if info.flag_bits & 0x1:
                raise CausalFTError(
                    f"{path} is encrypted ({name} asks for a password); give a zip without one"
                )
            if info.compress_type not in _METHODS:
                raise CausalFTError(
                    f"{name} in {path} is packed by method {info.compress_type}, which is not supported; "
                    "pack it again with an ordinary zip tool"
                )
            if name in files:
                raise CausalFTError(f"{path} holds {name} twice; pack it again")
            files[name] = info
    return files, folders


def _open_zip(path: str) -> zipfile.ZipFile:
    require_regular(path)
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError):
        raise CausalFTError(f"{path} is not a whole zip (cut off or damaged); get or pack it again") from None
    except OSError as error:
        raise CausalFTError(f"cannot read {path}: {error.strerror or error}") from None
