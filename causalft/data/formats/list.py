"""List files with lines ``path label``, as ImageNet-LT and Places-LT come: one file, or one per split."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from causalft.data.containers import FolderContainer, find_files
from causalft.data.formats import Format, Place
from causalft.data.labels import encode
from causalft.data.reading import (
    Places,
    Reading,
    ReadOptions,
    assemble,
    refuse_negative,
    split_of_name,
    without_repeats,
)
from causalft.errors import CausalFTError, short
from causalft.runs.files import is_regular, read_text

__all__ = ["FORMAT", "read_lists"]

_SUFFIXES = (".txt", ".lst", ".list")
_SPLIT_LIST = re.compile(
    r"(?:.*[^A-Za-z])?(train|training|val|valid|validation|test|testing)\.(txt|lst|list)", re.I
)
_PLACES_LETTER = re.compile(r"([a-z])/(?=\1)")


def _files_in(folder: Path) -> list[Path]:
    """List files of a folder, such as ``ImageNet_LT_train.txt``; empty unless one is for training."""
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if _SPLIT_LIST.fullmatch(entry.name))
    except OSError as error:
        raise CausalFTError(f"cannot read the folder {folder}: {error.strerror}") from None
    found = [folder / name for name in names if _first_image(folder / name) is not None]
    splits = [split_of_name(path.stem) for path in found]
    if "train" not in splits:
        return []
    for split in set(splits):
        if splits.count(split) > 1:
            two = [path.name for path, its in zip(found, splits) if its == split]
            raise CausalFTError(
                f"{folder} holds {two[0]} and {two[1]} for the {split} split; "
                "name the files of one set, joined by commas"
            )
    order = ("train", "validation", "test")
    return sorted(found, key=lambda path: order.index(split_of_name(path.stem) or "test"))


def read_lists(place: Place, paths: Sequence[Path], options: ReadOptions) -> Reading:
    """Read one list, or one per split, by ``train``, ``val``, ``test`` in their names.

    Paths are relative to ``options.root``, by default the folder of the first list
    (`causalft.data.containers.find_files`). Labels are class names, or numbers from 0, which take their names from
    ``options.class_names`` or from the folders if each number has a folder of its own.
    """
    parts = {path: split_of_name(path.stem) for path in paths}
    if len(paths) > 1:
        unclear = [path.name for path, split in parts.items() if split is None]
        if unclear or len(set(parts.values())) < len(paths):
            raise CausalFTError(
                f"cannot tell the splits of {', '.join(path.name for path in paths)} apart; "
                "call the files ..._train, ..._val and ..._test"
            )
    files: list[str] = []
    labels: list[str] = []
    bounds: dict[str, tuple[int, int]] = {}
    in_split: list[int] = []
    places = Places("line")
    for number, (path, split) in enumerate(parts.items()):
        start = len(files)
        places.begin(path.name)
        _read_lines(path, files, labels, places)
        in_split += [number] * (len(files) - start)
        if split is not None:
            bounds[split] = (start, len(files))
    where = str(paths[0]) if len(paths) == 1 else f"{paths[0].parent} ({', '.join(p.name for p in paths)})"
    found = encode(labels, where, places=places)
    codes, ids = found.codes, found.ids
    refuse_negative(codes, ids, where, places)
    container = options.root or FolderContainer(paths[0].parent)
    files = find_files(container, files, where, places)
    keep, notes = without_repeats(files, codes, ids, in_split, where, places)
    member = np.zeros(len(files), dtype=np.int8)
    for number, (start, end) in enumerate(bounds.values()):
        member[start:end] = number
    if keep is not None:
        files, codes, member = [files[i] for i in keep], codes[keep], member[keep]
    splits = {split: np.flatnonzero(member == number) for number, split in enumerate(bounds)}
    splits = {split: splits[split] for split in ("train", "validation", "test") if split in splits}
    if options.class_names is None and all(label.isdigit() for label in ids):
        source = splits.get("train", np.arange(len(files)))
        ids = _folder_names([files[i] for i in source], codes[source], len(ids)) or ids
    return assemble(
        format="list",
        name=_common_name(paths),
        where=where,
        store=container.store(files),
        files=files,
        codes=codes,
        ids=ids,
        options=options,
        splits=splits,
        notes=(*container.notes, *found.notes, *notes),
    )


def _read_lines(path: Path, files: list[str], labels: list[str], places: Places) -> None:
    before = len(files)
    seen: dict[str, str] = {}  # equal labels share one string
    for number, line in enumerate(read_text(path, any_bytes=True).split("\n"), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        fields = line.rsplit(None, 1)
        if len(fields) < 2:
            fields = line.rsplit(";" if ";" in line and "," not in line else ",", 1)
        if len(fields) < 2 or not fields[0] or not fields[1]:
            raise CausalFTError(
                f"line {number} of {path} is not `path label`: '{short(line)}'; mend or remove it"
            )
        files.append(fields[0].rstrip(",;"))
        labels.append(seen.setdefault(fields[1], fields[1]))
        places.add(number)
    if len(files) == before:
        raise CausalFTError(
            f"{path} names no image; write a line `path label` for each, or leave the file out"
        )


def _folder_names(files: list[str], codes: NDArray[np.int64], n: int) -> list[str] | None:
    """Class names from the folders, if labels and folders correspond one to one; else None."""
    folder_of: dict[int, str] = {}
    for file, code in zip(files, codes.tolist()):
        folder = posixpath.dirname(file)
        if folder_of.setdefault(code, folder) != folder:
            return None
    folders = [folder_of.get(code, "") for code in range(n)]
    if len(set(folders)) < n or not all(folders):
        return None
    last = [posixpath.basename(folder) for folder in folders]
    if len(set(last)) == n:
        return last
    top = posixpath.commonpath(folders)
    below = [folder[len(top) :].lstrip("/") for folder in folders]
    # Places sorts its folders by letter: a/airfield, b/baseball_field.
    if all(map(_PLACES_LETTER.match, below)):
        below = [_PLACES_LETTER.sub("", folder, count=1) for folder in below]
    return below


def _first_image(path: Path) -> str | None:
    """The path in the first line, if that reads ``path number``."""
    if not is_regular(path):
        return None
    try:
        with open(path, encoding="utf-8-sig") as file:
            found = re.fullmatch(r"(\S.*?)[\s,]+\d+\s*", file.readline(10_000))
    except (OSError, UnicodeDecodeError):
        return None
    return found[1] if found else None


def _common_name(paths: Sequence[Path]) -> str:
    stem = (
        os.path.commonprefix([path.stem for path in paths]).rstrip("_-. ")
        if len(paths) > 1
        else paths[0].stem
    )
    return stem or paths[0].resolve().parent.name


def _recognise(place: Place) -> tuple[Path, ...] | None:
    if not place.is_folder:
        return place.paths if place.forced or place.path.suffix.lower() in _SUFFIXES else None
    lists = _files_in(place.path)
    if not lists or place.forced or place.rooted:
        return tuple(lists) or None
    # Lists of another set may lie beside class folders.
    beside = (place.path / (_first_image(lists[0]) or "")).exists()
    return (
        tuple(lists)
        if beside or not any(os.path.isdir(entry.path) for entry in os.scandir(place.path))
        else None
    )


FORMAT = Format(
    name="list",
    help="files with lines `path label`, one for all images or one per split",
    sign="ends in .txt, .lst or .list; a folder with ..._train.txt",
    order=10,
    recognise=_recognise,
    read=read_lists,
    options=("root",),
    several="list",
    looks_for="list file such as train.txt",
    source="ImageNet-LT and Places-LT, Liu et al., CVPR 2019",
)
