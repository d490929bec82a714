"""`open_images`: any format that can be read becomes one and the same `ImageSet`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from causalft.data.class_names import read_class_names
from causalft.data.containers import FolderContainer, TarContainer, ZipContainer, existing
from causalft.data.formats.cifar import read_cifar
from causalft.data.formats.class_folders import read_class_folders
from causalft.data.formats.huggingface import read_saved_dataset
from causalft.data.formats.inaturalist import read_inaturalist
from causalft.data.formats.lists import read_lists
from causalft.data.formats.recognise import FORMATS, find_format, find_paths
from causalft.data.formats.shards import read_shards
from causalft.data.formats.table import read_image_table
from causalft.data.image_set import ImageSet
from causalft.data.layout import SPLIT_NAMES
from causalft.data.reading import Reading, ReadOptions
from causalft.errors import CausalFTError, nearest
from causalft.runs.progress import named

__all__ = ["ImageSet", "open_images"]

_COLUMNS = {"path_column", "label_column", "factor_column"}

# Which of the options that not every format has each of them takes.
_TAKES: dict[str, set[str]] = {
    "folder": set(),
    "zip": set(),
    "tar": set(),
    "table": {"root", "split_column"} | _COLUMNS,
    "list": {"root"},
    "inaturalist": {"root"},
    "cifar": {"imbalance_factor", "seed"},
    "huggingface": _COLUMNS,
    "webdataset": _COLUMNS - {"path_column"},
}


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
    """Open labelled images in any format; it is told by what is there (`causalft.data.formats.recognise.FORMATS`).

    Parameters
    ----------
    path : path
        A folder, zip or tar of class folders; a table; a list file; a JSON in the style of COCO; binary CIFAR; a folder
        saved by Hugging Face `datasets`; a folder of webdataset shards. Also several list or JSON files of one set, a
        split each, joined by commas, and a brace pattern of shards: ``shards/{000000..000004}.tar``.
    name : str, optional
    drop_empty_classes : bool
        Leave out classes without a (training) image instead of refusing them.
    min_classes : int
        Refuse fewer classes.
    format : str, optional
        Force one of the formats.
    root : path, optional
        Folder, zip or tar that the paths of a table, list or JSON start from; by default the folder of that file.
    class_names : path, sequence of str or mapping, optional
        See `causalft.data.class_names.read_class_names`.
    path_column, label_column, split_column, factor_column : str, optional
        Columns of a table, ``path``, ``label``, ``split`` and ``factor`` by default; features of a Hugging Face set;
        keys of the JSON in webdataset shards.
    split_as : dict of str to str, optional
        Use a split as another: ``{"validation": "test"}`` where a benchmark tests on its validation images.
    imbalance_factor : float, optional
        CIFAR only: draw the training part to CIFAR-LT. `causalft.data.draw_longtail` draws from any set.
    seed : int, optional
        Of that draw; 0 by default.

    Raises
    ------
    CausalFTError
        If nothing is there (the nearest names are offered), an option does not belong to the format, or the reader
        of the format refuses what it finds.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> folder = Path(tempfile.mkdtemp()) / "pets"
    >>> for k, kind in enumerate(["cat", "dog"]):
    ...     (folder / kind).mkdir(parents=True)
    ...     Image.new("RGB", (4, 4), (k, 0, 0)).save(folder / kind / "1.png")
    >>> open_images(folder)
    ImageSet('pets': 2 images of 2 classes, 1 to 1 a class)
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
    kind, paths = find_format(find_paths(path), format, rooted=root is not None)
    for option, value in given.items():
        if value is not None and option not in _TAKES[kind]:
            owners = [FORMATS[other] for other, takes in _TAKES.items() if option in takes]
            raise CausalFTError(
                f"{option} is not for {os.fspath(path)}, which is {FORMATS[kind]}; it belongs to {'; '.join(owners)}"
            )
    if seed is not None and imbalance_factor is None:
        raise CausalFTError("seed is that of the long-tailed draw of CIFAR; give imbalance_factor too")
    options = ReadOptions(
        drop_empty_classes=drop_empty_classes,
        min_classes=min_classes,
        class_names=None if class_names is None else read_class_names(class_names),
        **{**given, "root": None if root is None else existing(root)},  # type: ignore[arg-type]
    )
    reading = _READERS[kind](paths, options, os.fspath(path))
    return ImageSet.from_reading(_renamed(reading, split_as or {}, os.fspath(path)), name)


_READERS: dict[str, Callable[[tuple[Path, ...], ReadOptions, str], Reading]] = {
    "folder": lambda paths, options, where: read_class_folders(FolderContainer(paths[0]), options),
    "zip": lambda paths, options, where: read_class_folders(ZipContainer(paths[0]), options),
    "tar": lambda paths, options, where: read_class_folders(TarContainer(paths[0]), options),
    "table": lambda paths, options, where: read_image_table(paths[0], options),
    "list": lambda paths, options, where: read_lists(paths, options),
    "inaturalist": lambda paths, options, where: read_inaturalist(paths, options),
    "cifar": lambda paths, options, where: read_cifar(paths[0], options),
    "huggingface": lambda paths, options, where: read_saved_dataset(paths[0], options),
    "webdataset": lambda paths, options, where: read_shards(paths, options, where),
}


def _renamed(reading: Reading, split_as: Mapping[str, str], where: str) -> Reading:
    """Use splits as others; two of one name become one."""
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
