"""One folder of images per class (ImageFolder), perhaps below train/, val/ and test/."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalft.data.containers import Container, FolderContainer, is_ignored
from causalft.data.formats import Format, Place
from causalft.data.images import is_image_name
from causalft.data.labels import class_order, encode
from causalft.data.reading import SPLIT_NAMES, Reading, ReadOptions, assemble, factors_from_csv
from causalft.errors import CausalFTError, first_few, several, short
from causalft.runs.files import read_text

__all__ = ["FORMAT", "Layout", "arrange", "read_class_folders"]

_SEVERAL_SETS = re.compile(r".+[_-](train|test|val|validation)$", re.IGNORECASE)


def read_class_folders(container: Container, options: ReadOptions) -> Reading:
    """Read classes and splits from file names (`arrange`), and factors from a ``metadata.csv`` beside them."""
    files, folders = container.listing()
    layout = arrange(
        files,
        folders,
        container.location,
        drop_empty_classes=options.drop_empty_classes,
        min_classes=options.min_classes,
    )
    return assemble(
        format=container.kind,
        name=container.name,
        where=container.location,
        store=container.store(layout.files),
        files=layout.files,
        codes=layout.labels,
        ids=layout.class_names,
        options=options,
        splits=layout.splits,
        factors=_factors(container, layout),
        notes=(*container.notes, *layout.notes),
    )


def _factors(container: Container, layout: Layout) -> NDArray[Any] | None:
    """From metadata.csv at the top, below a single top folder, or beside a folder that is one set of several."""
    for top in dict.fromkeys(("", layout.prefix)):
        table = f"{top}metadata.csv"
        text = container.text(table)
        if text is not None:
            names = [name.removeprefix(top) for name in layout.files]
            factors = factors_from_csv(text, names, f"{table} in {container.location}")
            if factors is not None:
                return factors
    if isinstance(container, FolderContainer):
        folder = Path(container.location).resolve()
        beside = folder.parent / "metadata.csv"
        if beside.is_file():
            text = read_text(beside)
            if f"{folder.name}/" in text:
                return factors_from_csv(text, [f"{folder.name}/{name}" for name in layout.files], str(beside))
    return None


@dataclass(frozen=True)
class Layout:
    """Images sorted by class, then name.

    ``prefix`` is the top folder of everything (``"photos/"``) or ``""``; ``files`` are relative names; ``labels`` (n,)
    are in [0, K), in the order of `causalft.data.labels.class_order`; ``splits`` are rows, empty without split folders.
    """

    prefix: str
    class_names: tuple[str, ...]
    files: tuple[str, ...]
    labels: NDArray[np.int64]
    splits: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def arrange(
    files: Iterable[str],
    folders: Iterable[str],
    where: str,
    *,
    drop_empty_classes: bool = False,
    min_classes: int = 2,
) -> Layout:
    """Find classes and splits in the names of files and folders, relative and with ``/``.

    Images of a class lie at any depth below its folder. A single top folder is skipped. Top folders ``train/``,
    ``test/`` and ``validation/`` (or ``val/``) with class folders are splits.

    Raises
    ------
    CausalFTError
        For no image, images only outside class folders, an empty class unless ``drop_empty_classes``, fewer than
        ``min_classes``, a class without training images, or a folder of several sets.

    Examples
    --------
    >>> layout = arrange(["cat/1.png", "dog/2.png", "dog/notes.txt"], ["cat", "dog"], "pets")
    >>> layout.class_names, layout.labels.tolist(), layout.notes
    (('cat', 'dog'), [0, 1], ('left out 1 file that is not an image: dog/notes.txt',))
    """
    kept = [name for name in files if not is_ignored(name)]
    images = sorted(name for name in kept if is_image_name(name))
    other = sorted(name for name in kept if not is_image_name(name))
    if not images:
        found = f"; it holds {len(other)} other file(s), such as {other[0]}" if other else ""
        raise CausalFTError(
            f"no image in {where}{found}; give a folder or zip with one folder of images per class"
        )
    all_folders = {name.strip("/") for name in folders if not is_ignored(name.strip("/"))}
    for name in kept:
        parts = name.split("/")[:-1]
        all_folders.update("/".join(parts[: depth + 1]) for depth in range(len(parts)))
    prefix = _common_top(images, all_folders)
    inside = [name.removeprefix(prefix) for name in images]
    tops = sorted({name.removeprefix(prefix).split("/")[0] for name in all_folders if _below(name, prefix)})
    if not tops:
        raise CausalFTError(
            f"{len(images)} image(s) lie directly in {where} and none in a class folder; "
            "put the images of each class into a folder with its name"
        )
    splits = _split_folders(tops, inside, where)
    if not splits and len(tops) > 1 and all(map(_SEVERAL_SETS.match, tops)) and _all_deeper(inside, 3):
        raise CausalFTError(
            f"{where} holds several sets ({', '.join(tops[:4])}); open one of them: {where}/{tops[0]}"
        )
    roots = {split: f"{prefix}{folder}/" for split, folder in splits.items()} or {"": prefix}
    return _collect(images, other, all_folders, prefix, roots, where, drop_empty_classes, min_classes)


def _collect(
    images: list[str],
    other: list[str],
    folders: set[str],
    prefix: str,
    roots: dict[str, str],
    where: str,
    drop_empty_classes: bool,
    min_classes: int,
) -> Layout:
    """Assign classes and splits; refuse or drop empty classes."""
    members: dict[str, dict[str, list[str]]] = {}
    outside = []
    class_of, naming = _classes(folders, roots, where)
    for split, root in roots.items():
        members[split] = {class_of[_top(name, root)]: [] for name in folders if _below(name, root)}
    for name in images:
        home = next((split for split, root in roots.items() if name.startswith(root)), None)
        parts = name.removeprefix(roots[home]).split("/") if home is not None else []
        if home is None or len(parts) < 2:
            outside.append(name)
        else:
            members[home][class_of[parts[0]]].append(name)
    source = "train" if "train" in members else ""
    train_root = f"{where}/{roots[source]}".rstrip("/")
    known = {name for name, files in members[source].items() if files}
    missing = sorted(
        {name for classes in members.values() for name, files in classes.items() if name not in known}
    )
    notes = [*naming, *_notes(other, outside)]
    if missing and not drop_empty_classes:
        in_split = next(
            (split for split in members if split != source and members[split].get(missing[0])), None
        )
        kind = "training image" if source else "image"
        also = f" but has some in {in_split}" if in_split else ""
        total = len(known) + len(missing)
        raise CausalFTError(
            f"class '{short(missing[0])}' has no {kind} in {train_root}{also} (found {len(known)} of {total} classes); "
            "add images, remove its folder, or drop empty classes"
        )
    if missing:
        notes.append(
            f"dropped {several(missing, 'class', 'classes')} without a training image: {first_few(missing)}"
        )
    class_names = tuple(class_order(known))
    if len(class_names) < min_classes:
        only = f"one class only ('{class_names[0]}')" if class_names else "no class"
        raise CausalFTError(
            f"{train_root} holds {only}; at least {min_classes} class folders with images are needed"
        )
    number = {name: k for k, name in enumerate(class_names)}
    rows = sorted(
        (number[name], split, file)
        for split, classes in members.items()
        for name, files in classes.items()
        if name in known
        for file in files
    )
    splits = {
        split: np.array([row for row, item in enumerate(rows) if item[1] == split], dtype=np.int64)
        for split in members
        if split
    }
    labels = np.array([row[0] for row in rows], dtype=np.int64)
    return Layout(prefix, class_names, tuple(row[2] for row in rows), labels, splits, tuple(notes))


def _classes(folders: set[str], roots: dict[str, str], where: str) -> tuple[dict[str, str], list[str]]:
    """The class of each class folder, and notes on their names."""
    tops = sorted({_top(name, root) for root in roots.values() for name in folders if _below(name, root)})
    found = encode(tops, where, "class name", [repr(top) for top in tops], words_are_names=True)
    return {top: found.ids[code] for top, code in zip(tops, found.codes.tolist())}, found.notes


def _top(name: str, root: str) -> str:
    return name.removeprefix(root).split("/")[0]


def _common_top(images: list[str], folders: set[str]) -> str:
    """The chain of single folders above the class folders."""
    prefix = ""
    while True:
        tops = {name.removeprefix(prefix).split("/")[0] for name in folders if _below(name, prefix)}
        if len(tops) != 1 or not _all_deeper([name.removeprefix(prefix) for name in images], 3):
            return prefix
        prefix += tops.pop() + "/"


def _split_folders(tops: list[str], inside: list[str], where: str) -> dict[str, str]:
    """Split to folder, if the top folders are train and another split, each with class folders."""
    named = [(top, SPLIT_NAMES[top.lower()]) for top in tops if top.lower() in SPLIT_NAMES]
    in_splits = [name for name in inside if name.split("/")[0].lower() in SPLIT_NAMES]
    if (
        len(named) < 2
        or "train" not in dict(named).values()
        or not any(name.count("/") >= 2 for name in in_splits)
    ):
        return {}
    others = [top for top in tops if top.lower() not in SPLIT_NAMES]
    if others:
        raise CausalFTError(
            f"{where} holds {named[0][0]}/ and {named[1][0]}/ beside {others[0]}/: splits or classes? "
            f"move {others[0]}/ away, or rename the class folders"
        )
    splits: dict[str, str] = {}
    for top, split in named:
        if split in splits:
            raise CausalFTError(
                f"{where} holds both {splits[split]}/ and {top}/ for the {split} split; keep one"
            )
        splits[split] = top
    return splits


def _below(name: str, root: str) -> bool:
    return name.startswith(root) and len(name) > len(root)


def _all_deeper(names: list[str], n_parts: int) -> bool:
    return all(name.count("/") >= n_parts - 1 for name in names)


def _notes(other: list[str], outside: list[str]) -> list[str]:
    notes = []
    strange = [name for name in other if name.split("/")[-1].lower() != "metadata.csv"]
    if strange:
        are = "that is not an image" if len(strange) == 1 else "that are not images"
        notes.append(f"left out {several(strange, 'file', 'files')} {are}: {first_few(strange)}")
    if outside:
        notes.append(
            f"left out {several(outside, 'image', 'images')} outside the class folders: {first_few(outside)}"
        )
    return notes


def _recognise(place: Place) -> tuple[Path, ...] | None:
    return place.paths if place.is_folder else None


def _read(place: Place, files: Sequence[Path], options: ReadOptions) -> Reading:
    return read_class_folders(FolderContainer(files[0]), options)


FORMAT = Format(
    name="folder",
    help="a folder with one folder of images per class",
    sign="any other folder",
    order=90,
    recognise=_recognise,
    read=_read,
    reads="folder",
    source="torchvision's ImageFolder",
)
