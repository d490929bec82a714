"""Which format a path is in: told by what is there, or forced."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

from causalft.data.containers import is_tar_name, tar_compression, walk_tar
from causalft.data.formats.cifar import cifar_folder, is_cifar_member, refuse_python_version
from causalft.data.formats.huggingface import is_saved_dataset
from causalft.data.formats.inaturalist import json_files_in
from causalft.data.formats.lists import LIST_SUFFIXES, first_image, list_files_in
from causalft.data.formats.shards import LABEL_KINDS, expand_shards, sample_key, shards_in
from causalft.data.formats.table import TABLE_SUFFIXES
from causalft.data.images import is_image_name
from causalft.data.paths import existing_path
from causalft.errors import CausalFTError, nearest
from causalft.runs.files import require_regular

__all__ = ["FORMATS", "absolute_path", "find_format", "find_paths"]

#: The formats that can be read, each with what it is.
FORMATS = {
    "folder": "a folder with one folder of images a class",
    "zip": "a zip of such a folder",
    "tar": "a tar of such a folder",
    "table": "a CSV, TSV or Parquet table with columns path and label",
    "list": "list files with lines `path label`, one or one a split",
    "inaturalist": "JSON with images, annotations and categories",
    "cifar": "the binary version of CIFAR-10 or CIFAR-100",
    "huggingface": "a set that Hugging Face `datasets` saved to disk",
    "webdataset": "webdataset shards",
}

_FILES = ("zip", "tar", "table")

_PEEK = 64


def find_paths(path: str | os.PathLike[str]) -> tuple[Path, ...]:
    """The files or the folder that a person named: one path, several joined by commas, or a brace pattern of shards.

    A later file of several may be named without the folder of the first.

    Raises
    ------
    CausalFTError
        If one is missing; the nearest names are offered.
    """
    text = os.fspath(path)
    if os.path.lexists(os.path.expanduser(text)):
        return (existing_path(text),)
    if "{" in text:
        return tuple(expand_shards(text))
    parts = [part.strip() for part in text.split(",")]
    if len(parts) == 1 or not all(parts):
        return (existing_path(text),)
    first = existing_path(parts[0])
    beside = [first.parent / part for part in parts[1:]]
    return first, *(
        place if place.exists() and not Path(part).expanduser().exists() else existing_path(part)
        for part, place in zip(parts[1:], beside)
    )


def absolute_path(path: str | os.PathLike[str]) -> str:
    """The same path, files joined by commas or pattern, so that it can be opened from anywhere.

    Examples
    --------
    >>> here = os.getcwd()
    >>> absolute_path("a/train.txt,val.txt") == f"{here}/a/train.txt,val.txt"
    True
    """
    text = os.fspath(path)
    first, *others = [text] if Path(text).expanduser().exists() or "{" in text else text.split(",")
    parts = [os.path.abspath(os.path.expanduser(first.strip()))]
    for part in map(str.strip, others):
        known = Path(part).expanduser()
        parts.append(os.path.abspath(known) if known.exists() else part)
    return ",".join(parts)


def find_format(
    paths: tuple[Path, ...], forced: str | None = None, *, rooted: bool = False
) -> tuple[str, tuple[Path, ...]]:
    """Tell the format, and the files that belong to it.

    Parameters
    ----------
    paths : tuple of Path
        From `find_paths`.
    forced : str, optional
        A key of `FORMATS`.
    rooted : bool
        Whether a root was given, which only tables, lists and JSON have.

    Returns
    -------
    format : str
    paths : tuple of Path
        For ``list`` and ``inaturalist`` the files in a folder that was given.

    Raises
    ------
    CausalFTError
        If it is none of the formats, or files of several.
    """
    if forced is not None and forced not in FORMATS:
        raise CausalFTError(f"no format named '{forced}': {nearest(forced, FORMATS)}")
    if len(paths) > 1:
        kinds = {_format_of_file(path) for path in paths}
        kind = forced or (kinds.pop() if len(kinds) == 1 else None)
        kind = "webdataset" if kind == "tar" else kind
        if kind not in ("list", "inaturalist", "webdataset"):
            raise CausalFTError(
                f"{', '.join(path.name for path in paths)} cannot be opened together; give list files, JSON files or "
                "webdataset shards of one set"
            )
        return kind, paths
    path = paths[0]
    if path.is_dir() and forced in (None, "list", "inaturalist"):
        lists = list_files_in(path) if forced in (None, "list") else []
        if lists and (forced or rooted or _belong_here(path, lists)):
            return "list", tuple(lists)
        documents = json_files_in(path) if forced in (None, "inaturalist") else []
        if documents:
            return "inaturalist", tuple(documents)
        if forced is not None:
            raise CausalFTError(
                f"{path} holds no {'list file such as train.txt' if forced == 'list' else 'train....json'}; name the "
                "files, joined by commas"
            )
    if forced in _FILES and path.is_dir():
        raise CausalFTError(
            f"{path} is a folder, and --format {forced} reads a file; name the file, or leave --format out"
        )
    if forced == "folder" and not path.is_dir():
        raise CausalFTError(f"{path} is not a folder; leave --format out")
    return forced or (_format_of_folder(path) if path.is_dir() else _format_of_file(path)), paths


def _belong_here(folder: Path, lists: list[Path]) -> bool:
    """Whether lists are about the images of their folder: class folders may have some other set's lists beside them."""
    first = first_image(lists[0]) or ""
    return (folder / first).exists() or not any(os.path.isdir(entry.path) for entry in os.scandir(folder))


def _format_of_folder(folder: Path) -> str:
    if is_saved_dataset(folder):
        return "huggingface"
    if cifar_folder(folder) is not None:
        return "cifar"
    return "webdataset" if shards_in(folder) else "folder"


def _format_of_file(path: Path) -> str:
    if path.is_dir():
        raise CausalFTError(f"{path} is a folder; give it alone, without other paths")
    suffix = path.suffix.lower()
    if suffix in TABLE_SUFFIXES:
        return "table"
    if suffix in LIST_SUFFIXES:
        return "list"
    if suffix == ".json":
        return "inaturalist"
    if is_tar_name(path.name) or tar_compression(path) is not None:
        return _format_of_tar(path)
    require_regular(path)
    with open(path, "rb") as file:
        is_zip = file.read(2) == b"PK"
    if is_zip or suffix == ".zip":
        return "zip"
    raise CausalFTError(
        f"{path} is in no format that is known; give {'; '.join(FORMATS.values())}, or force one of "
        f"{', '.join(FORMATS)}"
    )


def _format_of_tar(path: Path) -> str:
    """Look at the first members only."""
    kinds: dict[str, set[str]] = {}
    for member in islice(walk_tar(path), _PEEK):
        cifar = is_cifar_member(member.name)
        if cifar:
            return "cifar"
        if cifar is None and member.kind == "file":
            refuse_python_version(path, "cifar-100" if "100" in member.name.split("/")[0] else "cifar-10")
        split = sample_key(member.name) if member.kind == "file" else None
        if split is not None:
            kinds.setdefault(split[0], set()).add("image" if is_image_name(member.name) else split[1])
    if any("image" in found and found & set(LABEL_KINDS) for found in kinds.values()):
        return "webdataset"
    return "tar"
