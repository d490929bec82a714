"""STL-10 in its binary version: labelled images, and the 100,000 unlabelled ones of ``unlabeled_X.bin``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from causalft.data.containers import SliceStore
from causalft.data.formats import Format, Place
from causalft.data.formats.tar import first_members, is_tar
from causalft.data.reading import Reading, ReadOptions, assemble
from causalft.errors import CausalFTError
from causalft.runs.files import read_text

__all__ = ["FORMAT"]

_SIDE = 96
_PIXELS = 3 * _SIDE * _SIDE
_FOLDER, _UNLABELLED, _NAMES = "stl10_binary", "unlabeled_X.bin", "class_names.txt"
_PARTS = {split: (f"{split}_X.bin", f"{split}_y.bin") for split in ("train", "test")}


class _ColumnStore(SliceStore):
    """Records of 96 x 96 pixels in planes of red, green and blue, each column by column."""

    def image(self, row: int) -> Image.Image:
        planes = np.frombuffer(self.read(row), dtype=np.uint8).reshape(3, _SIDE, _SIDE)
        return Image.fromarray(np.ascontiguousarray(planes.transpose(2, 1, 0)))


def _folder(folder: Path) -> Path | None:
    """The folder of the binary files, which is the given one or inside it; None if there is none."""
    for place in (folder, folder / _FOLDER):
        if any((place / name).is_file() for name in (_PARTS["train"][0], _UNLABELLED)):
            return place
    return None


def _n_records(path: Path, record: int) -> int:
    size = path.stat().st_size
    if size == 0 or size % record:
        raise CausalFTError(f"{path} is cut off ({size:,} bytes); get STL-10 again")
    return size // record


def _store(where: Path, files: list[Path], counts: list[int], names: list[str]) -> _ColumnStore:
    offsets = np.concatenate([np.arange(count, dtype=np.int64) * _PIXELS for count in counts])
    number = np.repeat(np.arange(len(files)), counts)
    return _ColumnStore(
        str(where), list(map(str, files)), number, offsets, np.full(len(number), _PIXELS), names
    )


def _labels(path: Path, n: int) -> NDArray[np.int64]:
    """Labels count from 1 in the file."""
    labels = np.frombuffer(path.read_bytes(), dtype=np.uint8).astype(np.int64) - 1
    if len(labels) != n:
        raise CausalFTError(f"{path} has {len(labels):,} labels for {n:,} images; get STL-10 again")
    return labels


def _read(place: Place, files: tuple[Path, ...], options: ReadOptions) -> Reading:
    folder = _folder(files[0]) if files[0].is_dir() else None
    if folder is None:
        raise CausalFTError(
            f"{files[0]} holds the unlabelled images of STL-10; open its folder, or give it to --unlabeled"
        )
    absent = [name for names in _PARTS.values() for name in names if not (folder / name).is_file()]
    if absent:
        raise CausalFTError(f"{folder} lacks {', '.join(absent)} of STL-10; unpack it again")
    parts = {split: folder / pixels for split, (pixels, _) in _PARTS.items()}
    counts = [_n_records(path, _PIXELS) for path in parts.values()]
    labels = [_labels(folder / _PARTS[split][1], count) for split, count in zip(parts, counts)]
    codes = np.concatenate(labels)
    ids = (
        [line.strip() for line in read_text(folder / _NAMES).splitlines() if line.strip()]
        if (folder / _NAMES).is_file()
        else [str(k + 1) for k in range(int(codes.max()) + 1)]
    )
    if codes.min() < 0 or codes.max() >= len(ids):
        wrong = int(codes.min() if codes.min() < 0 else codes.max()) + 1
        raise CausalFTError(
            f"{folder} has label {wrong}, outside the {len(ids)} classes of {_NAMES}; unpack it again"
        )
    names = [f"{split}/{i:05d}" for split, count in zip(parts, counts) for i in range(count)]
    ends = np.cumsum([0, *counts])
    return assemble(
        format="stl",
        name="stl-10",
        where=str(folder),
        store=_store(folder, list(parts.values()), counts, names),
        files=names,
        codes=codes,
        ids=ids,
        options=options,
        splits={split: np.arange(a, b) for split, a, b in zip(parts, ends, ends[1:])},
    )


def _read_unlabelled(place: Place, files: tuple[Path, ...]) -> Reading:
    folder = _folder(files[0]) if files[0].is_dir() else files[0].parent
    path = (folder or files[0]) / _UNLABELLED
    if not path.is_file():
        raise CausalFTError(
            f"{files[0]} has no {_UNLABELLED}, the unlabelled images of STL-10; unpack it again"
        )
    n = _n_records(path, _PIXELS)
    names = [f"unlabeled/{i:06d}" for i in range(n)]
    return Reading(
        format="stl",
        name="stl-10/unlabelled",
        store=_store(path.parent, [path], [n], names),
        rows=np.arange(n),
        files=names,
        labels=np.zeros(n, dtype=np.int64),
        class_names=("unlabelled",),
        splits={},
        factors=None,
        notes=(),
    )


def _recognise(place: Place) -> tuple[Path, ...] | None:
    if place.is_folder:
        return None if _folder(place.path) is None else place.paths
    if place.path.name == _UNLABELLED or place.forced:
        return place.paths
    for member in first_members(place.path) if is_tar(place.path) else ():
        if member.name.split("/")[0] == _FOLDER:
            raise CausalFTError(
                f"{place.path} is STL-10, whose images do not fit in memory; unpack it and open the folder {_FOLDER}"
            )
    return None


FORMAT = Format(
    name="stl",
    help="the binary version of STL-10, with its unlabelled images",
    sign="a folder with `train_X.bin` or `unlabeled_X.bin`",
    order=51,
    recognise=_recognise,
    read=_read,
    unlabelled=_read_unlabelled,
    source="Coates, Ng and Lee, AISTATS 2011",
)
