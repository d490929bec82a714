"""Tars of class folders, compressed or not, and the walk over a tar for other formats."""

from __future__ import annotations

import os
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from lzma import LZMAError
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from causalft.data.containers import ImageStore, SliceStore, is_ignored
from causalft.data.formats import Format, Place
from causalft.data.formats.folder import read_class_folders
from causalft.data.images import is_image_name
from causalft.data.reading import Reading, ReadOptions
from causalft.errors import CausalFTError
from causalft.runs.files import decode_text

__all__ = [
    "FORMAT",
    "MAX_UNPACKED_BYTES",
    "Member",
    "TarContainer",
    "first_members",
    "is_tar",
    "tar_compression",
    "walk_tar",
]

#: Images of a compressed tar are kept in memory up to this many bytes.
MAX_UNPACKED_BYTES = 2**30

_COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"(\xb5": "zstd"}
_UNPACK = {"gzip": "gunzip -k", "bzip2": "bunzip2 -k", "xz": "unxz -k", "zstd": "unzstd"}
_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")
_KEPT_TABLES = ("metadata.csv",)
_PEEK = 64


@dataclass(frozen=True)
class Member:
    """A file or folder of a tar.

    ``offset`` is the start of its bytes in the uncompressed tar. ``kind`` is "file", "folder" or "link"; a hard link is
    a "file" with the offset of its target. ``read`` returns the bytes while the walk is at this member.
    """

    name: str
    offset: int
    size: int
    kind: str
    read: Callable[[], bytes]


@dataclass(frozen=True)
class TarIndex:
    """The files of a tar: ``blob`` (the tar, or the concatenated images of a compressed one) and row by name.

    ``offset`` (n,) is -1 for a file of a compressed tar that was not kept.
    """

    blob: str | bytes
    rows: dict[str, int]
    offset: NDArray[np.int64]
    length: NDArray[np.int64]
    folders: list[str]
    notes: tuple[str, ...]


def is_tar(path: Path) -> bool:
    """Whether a file is named like a tar, or is compressed."""
    return path.name.lower().endswith(_SUFFIXES) or tar_compression(path) is not None


def tar_compression(path: Path) -> str | None:
    """Return the compression of a file by its first bytes: gzip, bzip2, xz, zstd or None."""
    try:
        with open(path, "rb") as file:
            return _COMPRESSIONS.get(file.read(2))
    except OSError as error:
        raise CausalFTError(f"cannot read {path}: {error.strerror}") from None


def walk_tar(path: Path) -> Iterator[Member]:
    """Yield the members of a tar in order; only headers are read, unless it is compressed. Sparse files are refused."""
    places: dict[str, tuple[int, int]] = {}
    compressed = tar_compression(path) is not None
    end = os.path.getsize(path)
    with _readable(path) as archive:
        while (info := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # tarfile keeps an object for every member
            name = info.name.replace("\\", "/").lstrip("/").removeprefix("./")
            if is_ignored(name):
                continue
            if info.issparse():
                raise CausalFTError(
                    f"{name} in {path} is a sparse file; pack it again without `tar --sparse`"
                )
            offset, size, kind = info.offset_data, info.size, "file"
            if info.isdir():
                kind = "folder"
            elif info.islnk() and info.linkname.removeprefix("./") in places and not compressed:
                offset, size = places[info.linkname.removeprefix("./")]
            elif not info.isreg():
                kind = "link"
            elif not compressed and offset + size > end:
                raise CausalFTError(f"{path} is not a whole tar (cut off in {name}); get or pack it again")
            if kind == "file" and not compressed:
                places[name] = (offset, size)
            yield Member(name, offset, size, kind, _reader(archive, info))


def _index_tar(path: Path) -> TarIndex:
    """Walk a tar and return the places of its files; the images of a compressed one are kept in memory.

    Refused are repeated names, and more than `MAX_UNPACKED_BYTES` of compressed images.
    """
    compression = tar_compression(path)
    rows: dict[str, int] = {}
    folders: list[str] = []
    links: list[str] = []
    offset, length = [], []
    kept = bytearray()
    for member in walk_tar(path):
        if member.kind == "folder":
            folders.append(member.name)
            continue
        if member.kind == "link":
            links.append(member.name)
            continue
        if member.name in rows:
            raise CausalFTError(f"{path} holds {member.name} twice; pack it again")
        rows[member.name] = len(rows)
        length.append(member.size)
        if compression is None:
            offset.append(member.offset)
        elif is_image_name(member.name) or member.name.split("/")[-1] in _KEPT_TABLES:
            if len(kept) + member.size > MAX_UNPACKED_BYTES:
                raise CausalFTError(
                    f"{path} is compressed by {compression}, so its images cannot be read in place, and they are more "
                    f"than the {MAX_UNPACKED_BYTES / 2**30:.3g} GiB that would be kept in memory; "
                    f"run `{_UNPACK[compression]} {path.name}` and open the .tar"
                )
            offset.append(len(kept))
            kept += member.read()
        else:
            offset.append(-1)
    notes = []
    if compression is not None:
        notes.append(
            f"{path.name} is compressed by {compression}: its images ({len(kept) / 2**20:.3g} MiB) are kept in memory; "
            f"`{_UNPACK[compression]}` gives a .tar that is read in place"
        )
    if links:
        notes.append(f"left out {len(links)} link(s) of the tar that lead elsewhere: {links[0]}")
    return TarIndex(
        blob=str(path) if compression is None else bytes(kept),
        rows=rows,
        offset=np.array(offset, dtype=np.int64),
        length=np.array(length, dtype=np.int64),
        folders=folders,
        notes=tuple(notes),
    )


def first_members(path: Path) -> Iterator[Member]:
    """Yield the first members of a tar, enough to tell what it holds."""
    return islice(walk_tar(path), _PEEK)


def _reader(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Callable[[], bytes]:
    def read() -> bytes:
        file = archive.extractfile(info)
        return b"" if file is None else file.read()

    return read


@contextmanager
def _readable(path: Path) -> Iterator[tarfile.TarFile]:
    """Open a tar; errors from damage, also during the walk, become one `CausalFTError`."""
    stream: IO[bytes] | Any = None
    try:
        if tar_compression(path) == "zstd":
            import pyarrow as pa  # unpacks zstd

            stream = pa.CompressedInputStream(pa.OSFile(str(path), "rb"), "zstd")
            archive = tarfile.open(fileobj=stream, mode="r|")
        else:
            archive = tarfile.open(path, mode="r:*")
        with archive:
            yield archive
    except (tarfile.TarError, EOFError, zlib.error, LZMAError, ValueError) as error:
        if isinstance(error, CausalFTError):
            raise
        raise CausalFTError(f"{path} is not a whole tar (cut off or damaged); get or pack it again") from None
    except OSError as error:
        reason = error.strerror or "cut off or damaged"
        raise CausalFTError(f"cannot read {path}: {reason}; get or pack it again") from None
    finally:
        if stream is not None:
            stream.close()


class TarContainer:
    """A tar, read in place; the images of a compressed one are kept in memory."""

    kind = "tar"

    def __init__(self, path: Path) -> None:
        self.location, self._path = str(path), path
        self.name = path.name.split(".")[0] or path.name

    @cached_property
    def _index(self) -> TarIndex:
        return _index_tar(self._path)

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


def _recognise(place: Place) -> tuple[Path, ...] | None:
    return place.paths if not place.is_folder and is_tar(place.path) else None


def _read(place: Place, files: Sequence[Path], options: ReadOptions) -> Reading:
    return read_class_folders(TarContainer(files[0]), options)


FORMAT = Format(
    name="tar",
    help="a tar with one folder of images per class",
    sign="named like a tar, or compressed",
    order=70,
    recognise=_recognise,
    read=_read,
    reads="file",
    several="webdataset",
)
