"""`open_images`: what a person named becomes one `ImageSet`, whatever its format."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from causalft.data.class_names import read_class_names
from causalft.data.containers import Container, FolderContainer
from causalft.data.formats import FORMATS, Format, Place
from causalft.data.formats.tar import TarContainer, is_tar
from causalft.data.formats.webdataset import expand_shards
from causalft.data.formats.zip import ZipContainer
from causalft.data.image_set import ImageSet
from causalft.data.reading import SPLIT_NAMES, Reading, ReadOptions
from causalft.errors import CausalFTError, nearest, unescape_name
from causalft.runs.files import existing
from causalft.runs.folder import refuse_run
from causalft.runs.progress import named

__all__ = [
    "ImageSet",
    "absolute_path",
    "find_paths",
    "format_of",
    "open_container",
    "open_images",
    "read_unlabelled",
]


@named("looking through the data")
def open_images(
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    drop_empty_classes: bool = False,
    min_classes: int = 2,
    format: str | None = None,
    root: str | os.PathLike[str] | None = None,
    class_names: str | os.PathLike[str] | Sequence[str] | Mapping[Any, str] | None = None,
    path_column: str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    factor_column: str | None = None,
    split_as: Mapping[str, str] | None = None,
    imbalance_factor: float | None = None,
    seed: int | None = None,
) -> ImageSet:
    """Open labelled images in any format of `causalft.data.formats`, recognised by its files.

    Parameters
    ----------
    path : path
        A folder or file; several files of one set, joined by commas, such as list files with a split each; or a brace
        pattern of shards, ``shards/{000000..000004}.tar``.
    name : str, optional
    drop_empty_classes : bool
        Leave out classes without a training image instead of refusing them.
    min_classes : int
        Refuse fewer classes.
    format : str, optional
        Force a format.
    root : path, optional
        Folder, zip or tar from which the paths of a table, list or JSON start; by default the folder of that file.
    class_names : path, sequence of str or mapping, optional
        See `causalft.data.class_names.read_class_names`.
    path_column, label_column, split_column, factor_column : str, optional
        Columns of a table (``path``, ``label``, ``split``, ``factor`` by default) or Parquet file, features of a
        Hugging Face set, or keys of the JSON in webdataset shards.
    split_as : dict of str to str, optional
        Use a split as another: ``{"validation": "test"}`` if a benchmark tests on its validation images.
    imbalance_factor : float, optional
        CIFAR only: draw the training part to CIFAR-LT. For other sets see `causalft.data.draw_longtail`.
    seed : int, optional
        Of that draw; 0 by default.

    Raises
    ------
    CausalFTError
        If nothing is there (the nearest names are offered), the format lacks an option, or its reader refuses the
        files.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> folder = Path(tempfile.mkdtemp()) / "pets"
    >>> for k, kind in enumerate(["cat", "dog"]):
    ...     (folder / kind).mkdir(parents=True)
    ...     Image.new("RGB", (4, 4), (k, 0, 0)).save(folder / kind / "1.png")
    >>> open_images(folder)
    ImageSet('pets': 2 images of 2 classes, 1 to 1 per class)
    >>> _ = (folder / "labels.csv").write_text("path,label,split\\ncat/1.png,A,train\\ndog/1.png,B,train\\n")
    >>> open_images(folder / "labels.csv").class_names
    ('A', 'B')
    """
    given = {
        "root": root,
        "path_column": path_column,
        "label_column": label_column,
        "split_column": split_column,
        "factor_column": factor_column,
        "imbalance_factor": imbalance_factor,
        "seed": seed,
    }
    place = Place(os.fspath(path), find_paths(path), forced=format is not None, rooted=root is not None)
    kind, files = _recognise(place, None if format is None else FORMATS.get_or_refuse(format))
    for option, value in given.items():
        if value is not None and option not in kind.options:
            owners = [other.help for other in FORMATS.values() if option in other.options][::-1]
            raise CausalFTError(
                f"--{option.replace('_', '-')} is not for {place.written}, which is {kind.help}; it belongs to "
                f"{'; '.join(owners)}"
            )
    if seed is not None and imbalance_factor is None:
        raise CausalFTError("--seed is that of the long-tailed draw of CIFAR; give --imbalance-factor too")
    options = ReadOptions(
        drop_empty_classes=drop_empty_classes,
        min_classes=min_classes,
        class_names=None if class_names is None else read_class_names(class_names),
        **{**given, "root": None if root is None else open_container(root)},  # type: ignore[arg-type]
    )
    reading = kind.read(place, files, options)
    return ImageSet.from_reading(_renamed(reading, split_as or {}, place.written), name)


def _recognise(place: Place, forced: Format | None) -> tuple[Format, tuple[Path, ...]]:
    """The format of a place, and the files in it that hold the set."""
    if len(place.paths) > 1:
        return _of_several(place, forced), place.paths
    if forced is None:
        return _asked(place)
    forced.check(place)
    files = forced.recognise(place)
    if files is None and forced.looks_for and place.is_folder:
        raise CausalFTError(f"{place.path} holds no {forced.looks_for}; name the files, joined by commas")
    return forced, place.paths if files is None else files


def _asked(place: Place) -> tuple[Format, tuple[Path, ...]]:
    """Ask the formats, the most specific first, whether a place is theirs."""
    for kind in FORMATS.values():
        files = kind.recognise(place)
        if files is not None:
            return kind, files
    known = list(FORMATS.values())[::-1]
    raise CausalFTError(
        f"{place.path} is in no known format; give {'; '.join(kind.help for kind in known)}, or force one of "
        f"{', '.join(kind.name for kind in known)}"
    )


def format_of(path: str | os.PathLike[str]) -> str | None:
    """Return the name of the format in which a path is recognised; None if in none.

    Raises
    ------
    CausalFTError
        If nothing is there; the nearest names are offered.
    """
    place = Place(os.fspath(path), find_paths(path))
    if len(place.paths) > 1:
        return _of_several(place, None).name
    return next((kind.name for kind in FORMATS.values() if kind.recognise(place) is not None), None)


def read_unlabelled(path: str | os.PathLike[str]) -> ImageSet | None:
    """Return the unlabelled images that the format of a path brings, as those of STL-10; None if it brings none.

    Raises
    ------
    CausalFTError
        If nothing is there, or they cannot be read.
    """
    place = Place(os.fspath(path), find_paths(path))
    if len(place.paths) > 1:
        return None
    for kind in FORMATS.values():
        files = kind.recognise(place)
        if files is not None:
            return None if kind.unlabelled is None else ImageSet.from_reading(kind.unlabelled(place, files))
    return None


def _of_several(place: Place, forced: Format | None) -> Format:
    """The format in which several files are one set."""
    kinds = set()
    for path in place.paths:
        if path.is_dir():
            raise CausalFTError(f"{path} is a folder; give it alone, without other paths")
        kinds.add(_asked(Place(place.written, (path,)))[0].several)
    together = forced.several if forced else kinds.pop() if len(kinds) == 1 else ""
    if not together:
        joinable = sorted(kind.name for kind in FORMATS.values() if kind.several == kind.name)
        raise CausalFTError(
            f"{', '.join(path.name for path in place.paths)} cannot be opened together; give files of one set, of one "
            f"of the formats {', '.join(joinable)}"
        )
    return FORMATS[together]


def _renamed(reading: Reading, split_as: Mapping[str, str], where: str) -> Reading:
    """Rename splits; splits of one name are joined."""
    names = {}
    for old, new in split_as.items():
        for word in (old, new):
            if word.lower() not in SPLIT_NAMES:
                raise CausalFTError(f"no split named '{word}': {nearest(word, SPLIT_NAMES)}")
        names[SPLIT_NAMES[old.lower()]] = SPLIT_NAMES[new.lower()]
    for old in names:
        if old not in reading.splits:
            known = ", ".join(reading.splits) or "no split"
            raise CausalFTError(f"{where} has no {old} split to use as {names[old]} (it has {known})")
    splits: dict[str, list[Any]] = {}
    for split, rows in reading.splits.items():
        splits.setdefault(names.get(split, split), []).append(rows)
    return replace(reading, splits={split: np.sort(np.concatenate(rows)) for split, rows in splits.items()})


def open_container(path: str | os.PathLike[str]) -> Container:
    """Open a folder, a zip or a tar."""
    found = existing(path)
    if found.is_dir():
        return FolderContainer(found)
    return TarContainer(found) if is_tar(found) else ZipContainer(found)


def find_paths(path: str | os.PathLike[str]) -> tuple[Path, ...]:
    """The files or folder in a text: one path, several joined by commas, or a brace pattern of shards.

    Later files may be named without the folder of the first. Missing files are refused; the nearest names are offered.
    """
    text = os.fspath(path)
    if os.path.lexists(os.path.expanduser(text)):
        found = _existing_path(text)
        refuse_run(found)
        return (found,)
    if "{" in text:
        return tuple(expand_shards(text))
    parts = [part.strip() for part in text.split(",")]
    if len(parts) == 1 or not all(parts):
        return (_existing_path(text),)
    first = _existing_path(parts[0])
    beside = [first.parent / part for part in parts[1:]]
    return first, *(
        place if place.exists() and not Path(part).expanduser().exists() else _existing_path(part)
        for part, place in zip(parts[1:], beside)
    )


def absolute_path(path: str | os.PathLike[str]) -> str:
    """The same path, comma-joined paths or pattern, valid from any working directory.

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


def _existing_path(path: str | os.PathLike[str]) -> Path:
    """Return a path as written, or with its escapes undone."""
    text = os.fspath(path)
    plain = Path(text).expanduser()
    if "\\" in text and not os.path.lexists(plain):
        meant = Path(unescape_name(text)).expanduser()
        if os.path.lexists(meant):
            return existing(meant)
    return existing(path)
