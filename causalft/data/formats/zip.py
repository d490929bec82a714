"""Zips of class folders, read in place: nothing is unpacked to disk."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from causalft.data.containers import MAX_FILE_BYTES, ImageStore, is_ignored
from causalft.data.formats import Format, Place
from causalft.data.formats.folder import read_class_folders
from causalft.data.images import read_image
from causalft.data.reading import Reading, ReadOptions
from causalft.errors import CausalFTError
from causalft.runs.files import decode_text, require_regular

__all__ = ["FORMAT", "ZipContainer", "ZipStore", "list_zip"]

_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}


class ZipStore:
    """Image files in a zip, read in place with one handle per process, opened at the first read."""

    def __init__(self, path: str | os.PathLike[str], infos: tuple[zipfile.ZipInfo, ...]) -> None:
        self.location, self._infos = os.fspath(path), infos
        self._handle: tuple[int, zipfile.ZipFile] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}

    def _open(self) -> zipfile.ZipFile:
        # Two threads may both open it; either handle serves.
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


def list_zip(path: Path) -> tuple[dict[str, zipfile.ZipInfo], list[str]]:
    """Files (name to entry) and folders in the directory of a zip.

    Refused are damaged zips, repeated names, and encrypted or unsupported entries.
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


def _recognise(place: Place) -> tuple[Path, ...] | None:
    if place.is_folder:
        return None
    require_regular(place.path)
    with open(place.path, "rb") as file:
        is_zip = file.read(2) == b"PK"
    return place.paths if is_zip or place.path.suffix.lower() == ".zip" else None


def _read(place: Place, files: Sequence[Path], options: ReadOptions) -> Reading:
    return read_class_folders(ZipContainer(files[0]), options)


FORMAT = Format(
    name="zip",
    help="a zip with one folder of images per class",
    sign="begins like a zip, or ends in .zip",
    order=80,
    recognise=_recognise,
    read=_read,
    reads="file",
)
