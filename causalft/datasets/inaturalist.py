"""iNaturalist's JSON (COCO style: images, annotations, categories), one file or train2018.json and val2018.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from causalft.datasets.class_names import ClassNames
from causalft.datasets.containers import open_container, text_of
from causalft.datasets.layout import split_of_name
from causalft.datasets.reading import Reading, ReadOptions, assemble, encode, without_repeats
from causalft.datasets.tables import refuse_missing
from causalft.errors import CausalFTError

__all__ = ["json_files_in", "read_inaturalist"]


def json_files_in(folder: Path) -> list[Path]:
    """The JSON files of a folder that speak of a split and look like COCO's; empty unless one is for training."""
    named = [path for path in sorted(folder.glob("*.json")) if split_of_name(path.stem)]
    found = [path for path in named if _looks_like_coco(path)]
    splits = [split_of_name(path.stem) for path in found]
    return found if "train" in splits and len(set(splits)) == len(splits) else []


def read_inaturalist(paths: Sequence[Path], options: ReadOptions) -> Reading:
    """Read JSON: ``images`` (``id``, ``file_name``), ``annotations`` (``image_id``, ``category_id``), ``categories``.

    With several files their names tell the splits (``train2018.json``, ``val2018.json``); a file without annotations,
    as the contest's ``test2018.json``, is left out. ``file_name`` is relative to ``options.root`` (a folder, zip or
    tar), by default the folder of the first file. Classes are in the order of the category ids.

    Raises
    ------
    CausalFTError
        For a file of another shape, images without or with two categories, categories that differ, missing images.
    """
    files: list[str] = []
    labels: list[str] = []
    part: list[int] = []
    names: dict[str, str] = {}
    splits: list[str | None] = []
    notes: list[str] = []
    for path in paths:
        document = _document(path)
        if "annotations" not in document:
            notes.append(f"left out {path.name}: it has no annotations, so its images have no label")
            continue
        _categories(document, path, names)
        before = len(files)
        _images(document, path, names, files, labels)
        part += [len(splits)] * (len(files) - before)
        splits.append(split_of_name(path.stem))
    where = str(paths[0]) if len(paths) == 1 else f"{paths[0].parent} ({', '.join(p.name for p in paths)})"
    if not files:
        raise CausalFTError(
            f"{where} labels no image; give the JSON of the training part, such as train2018.json"
        )
    if len(splits) > 1 and (None in splits or len(set(splits)) < len(splits)):
        raise CausalFTError(f"cannot tell the splits of {where} apart; call the files train... and val...")
    codes, ids = encode(labels)
    keep, repeats = without_repeats(files, codes, ids, part, where)
    member = np.array(part, dtype=np.int8)
    if keep is not None:
        files, codes, member = [files[i] for i in keep], codes[keep], member[keep]
    container = open_container(options.root or paths[0].parent)
    refuse_missing(container.missing(files), len(files), where, container.location)
    if options.class_names is None and names:
        given = ClassNames(where, by_id={i: names[i] for i in ids})
        options = replace(options, class_names=given)
    return assemble(
        format="inaturalist",
        name=paths[0].stem if len(paths) == 1 else paths[0].resolve().parent.name,
        where=where,
        store=container.store(files),
        files=files,
        codes=codes,
        ids=ids,
        options=options,
        splits={split: np.flatnonzero(member == number) for number, split in enumerate(splits) if split},
        notes=(*container.notes, *notes, *repeats),
    )


def _document(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(text_of(path))
    except json.JSONDecodeError as error:
        raise CausalFTError(f"{path} is not valid JSON ({error}); get it again") from None
    if not isinstance(found, dict) or not isinstance(found.get("images"), list):
        raise CausalFTError(
            f"{path} is not a JSON of images, annotations and categories (COCO style, as train2018.json of "
            "iNaturalist); for other sets write a table with columns path and label"
        )
    return found


def _categories(document: dict[str, Any], path: Path, names: dict[str, str]) -> None:
    for category in document.get("categories") or []:
        key, name = str(category["id"]), str(category.get("name", category["id"]))
        if names.setdefault(key, name) != name:
            raise CausalFTError(
                f"category {key} is '{names[key]}' in one file and '{name}' in {path}; give files of one edition"
            )


def _images(
    document: dict[str, Any], path: Path, names: dict[str, str], files: list[str], labels: list[str]
) -> None:
    try:
        file_of = {image["id"]: image["file_name"] for image in document["images"]}
        pairs = [(item["image_id"], str(item["category_id"])) for item in document["annotations"]]
    except (KeyError, TypeError) as error:
        raise CausalFTError(
            f"{path} is not in COCO style: {error} is missing in an image or annotation; get it again"
        ) from None
    shared = {key: key for key in names}
    label_of: dict[Any, str] = {}
    for image, category in pairs:
        if image not in file_of:
            raise CausalFTError(
                f"{path} annotates image {image}, which is not among its images; get it again"
            )
        if names and category not in names:
            raise CausalFTError(
                f"{path} uses category {category}, which is not among its categories; get it again"
            )
        category = shared.setdefault(category, category)
        if label_of.setdefault(image, category) != category:
            raise CausalFTError(
                f"{path} gives {file_of[image]} categories {label_of[image]} and {category}; "
                "an image has one class here"
            )
    bare = [file for image, file in file_of.items() if image not in label_of]
    if bare:
        raise CausalFTError(
            f"{path} has {len(bare)} of {len(file_of)} images without an annotation ({bare[0]}); remove them"
        )
    files += [str(file).removeprefix("./") for file in file_of.values()]
    labels += [label_of[image] for image in file_of]


def _looks_like_coco(path: Path) -> bool:
    try:
        with open(path, encoding="utf-8") as file:
            start = file.read(4096)
    except (OSError, UnicodeDecodeError):
        return False
    return start.lstrip().startswith("{") and any(
        f'"{key}"' in start for key in ("images", "annotations", "categories", "licenses", "info")
    )
