"""JSON in the style of COCO (images, annotations, categories), as iNaturalist has it: one file, or one per split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from causalft.data.class_names import ClassNames
from causalft.data.containers import FolderContainer, find_files
from causalft.data.formats import Format, Place
from causalft.data.labels import encode, is_whole_number, label_text, whole_number
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
from causalft.runs.files import is_regular, parse_json, read_text

__all__ = ["FORMAT", "read_inaturalist"]


def _files_in(folder: Path) -> list[Path]:
    """The COCO files of a folder that name a split; empty unless one is for training."""
    named = [path for path in sorted(folder.glob("*.json")) if split_of_name(path.stem)]
    found = [path for path in named if _looks_like_coco(path)]
    splits = [split_of_name(path.stem) for path in found]
    return found if "train" in splits and len(set(splits)) == len(splits) else []


def read_inaturalist(place: Place, paths: Sequence[Path], options: ReadOptions) -> Reading:
    """Read JSON: ``images`` (``id``, ``file_name``), ``annotations`` (``image_id``, ``category_id``), ``categories``.

    File names tell the splits (``train2018.json``, ``val2018.json``); a file without annotations, such as
    ``test2018.json``, is left out. ``file_name`` is relative to ``options.root``, by default the folder of the first
    file. Classes are in the order of the category ids.
    """
    files: list[str] = []
    labels: list[str] = []
    part: list[int] = []
    names: dict[str, str] = {}
    splits: list[str | None] = []
    notes: list[str] = []
    places = Places("image")
    for path in paths:
        document = _document(path)
        if "annotations" not in document:
            notes.append(f"left out {path.name}: it has no annotations, so its images have no label")
            continue
        _categories(document, path, names)
        before = len(files)
        places.begin(path.name)
        _images(document, path, names, files, labels)
        part += [len(splits)] * (len(files) - before)
        places.number(len(files) - before)
        splits.append(split_of_name(path.stem))
    where = str(paths[0]) if len(paths) == 1 else f"{paths[0].parent} ({', '.join(p.name for p in paths)})"
    if not files:
        raise CausalFTError(
            f"{where} labels no image; give the JSON of the training part, such as train2018.json"
        )
    if len(splits) > 1 and (None in splits or len(set(splits)) < len(splits)):
        raise CausalFTError(f"cannot tell the splits of {where} apart; call the files train... and val...")
    found = encode(labels, where, places=places)
    codes, ids = found.codes, found.ids
    refuse_negative(codes, ids, where, places)
    container = options.root or FolderContainer(paths[0].parent)
    files = find_files(container, files, where, places)
    keep, repeats = without_repeats(files, codes, ids, part, where, places)
    member = np.array(part, dtype=np.int8)
    if keep is not None:
        files, codes, member = [files[i] for i in keep], codes[keep], member[keep]
    if options.class_names is None and names:
        given = ClassNames(where, by_id={i: names.get(i, i) for i in ids})
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
        notes=(*container.notes, *notes, *found.notes, *repeats),
    )


def _document(path: Path) -> dict[str, Any]:
    found = parse_json(read_text(path), str(path))
    if not isinstance(found, dict) or not isinstance(found.get("images"), list):
        raise CausalFTError(
            f"{path} is not a JSON of images, annotations and categories (COCO style, as train2018.json of "
            "iNaturalist); for other sets write a table with columns path and label"
        )
    return found


def _entries(document: dict[str, Any], part: str, keys: tuple[str, ...], path: Path) -> list[dict[str, Any]]:
    """The entries of a part of the document; each must have these keys, not null."""
    entries = document.get(part)
    if not isinstance(entries, list):
        kind = "null" if entries is None else type(entries).__name__
        raise CausalFTError(f"'{part}' of {path} is {kind}, not a list of objects; get it again")
    for place, entry in enumerate(entries):
        name = f"entry {place} of '{part}' in {path}"
        if not isinstance(entry, dict):
            raise CausalFTError(f"{name} is {short(repr(entry))}, not an object; get it again")
        for key in keys:
            if entry.get(key) is None:
                state = f"has null for '{key}'" if key in entry else f"lacks '{key}'"
                raise CausalFTError(f"{name} {state} ('{key}' is missing); get it again")
    return entries


def _key(value: Any, what: str, path: Path) -> str:
    """An id as text; 7, 7.0, "7" and "07" are the same."""
    try:
        found = label_text(value)
    except CausalFTError:
        found = None
    if found is None:
        raise CausalFTError(f"{what} of {path} is {short(repr(value))}, not a number or text; get it again")
    return str(whole_number(found)) if is_whole_number(found) else found


def _categories(document: dict[str, Any], path: Path, names: dict[str, str]) -> None:
    if "categories" not in document:
        return
    here: set[str] = set()
    for category in _entries(document, "categories", ("id",), path):
        key = _key(category["id"], "the id of a category", path)
        given = category.get("name")
        name = key if given is None else _key(given, f"the name of category {short(key)}", path)
        if names.setdefault(key, name) != name:
            first = "once" if key in here else "in one file"
            raise CausalFTError(
                f"category {short(key)} is '{short(names[key])}' {first} and '{short(name)}' in {path}; give each "
                "category one name, and files of one edition"
            )
        here.add(key)


def _images(
    document: dict[str, Any], path: Path, names: dict[str, str], files: list[str], labels: list[str]
) -> None:
    file_of: dict[str, str] = {}
    for image in _entries(document, "images", ("id", "file_name"), path):
        key = _key(image["id"], "the id of an image", path)
        if not isinstance(image["file_name"], str) or not image["file_name"].strip():
            raise CausalFTError(
                f"the file_name of image {short(key)} in {path} is {short(repr(image['file_name']))}, not a path; "
                "get it again"
            )
        if key in file_of:
            raise CausalFTError(
                f"{path} has two images with the id {short(key)} ({short(file_of[key])}, "
                f"{short(image['file_name'])}); give each its own"
            )
        file_of[key] = image["file_name"]
    shared = {key: key for key in names}
    label_of: dict[str, str] = {}
    for item in _entries(document, "annotations", ("image_id", "category_id"), path):
        key = _key(item["image_id"], "the image_id of an annotation", path)
        category = _key(item["category_id"], "the category_id of an annotation", path)
        if key not in file_of:
            raise CausalFTError(
                f"{path} annotates image {short(key)}, which is not among its images; get it again"
            )
        if names and category not in names:
            raise CausalFTError(
                f"{path} uses category {short(category)}, which is not among its categories; get it again"
            )
        category = shared.setdefault(category, category)
        if label_of.setdefault(key, category) != category:
            raise CausalFTError(
                f"{path} gives {short(file_of[key])} categories {short(label_of[key])} and {short(category)}; "
                "an image has one class here"
            )
    bare = [file for key, file in file_of.items() if key not in label_of]
    if bare:
        raise CausalFTError(
            f"{path} has {len(bare)} of {len(file_of)} images without an annotation ({short(bare[0])}); remove them"
        )
    files += file_of.values()
    labels += [label_of[key] for key in file_of]


def _looks_like_coco(path: Path) -> bool:
    if not is_regular(path):
        return False
    try:
        with open(path, encoding="utf-8-sig") as file:
            start = file.read(4096)
    except (OSError, UnicodeDecodeError):
        return False
    return start.lstrip().startswith("{") and any(
        f'"{key}"' in start for key in ("images", "annotations", "categories", "licenses", "info")
    )


def _recognise(place: Place) -> tuple[Path, ...] | None:
    if place.is_folder:
        return tuple(_files_in(place.path)) or None
    return place.paths if place.forced or place.path.suffix.lower() == ".json" else None


FORMAT = Format(
    name="inaturalist",
    help="JSON with images, annotations and categories",
    sign="ends in .json; a folder with train....json",
    order=20,
    recognise=_recognise,
    read=read_inaturalist,
    options=("root",),
    several="inaturalist",
    looks_for="train....json",
    source="Van Horn et al., CVPR 2018; COCO, Lin et al., ECCV 2014",
)
