"""Sets that `save_to_disk` of Hugging Face `datasets` wrote: one split, or a folder of splits."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from causalft.data.containers import MAX_FILE_BYTES
from causalft.data.formats import Format, Place
from causalft.data.images import read_image
from causalft.data.labels import Labels, clean_text, encode
from causalft.data.reading import SPLIT_NAMES, Reading, ReadOptions, assemble, factor_values
from causalft.errors import CausalFTError, nearest
from causalft.runs.files import read_bytes

__all__ = ["FORMAT", "class_labels", "read_saved_dataset"]


class HuggingFaceStore:
    """Images in the Arrow files of saved splits, read in place; every process and pickled copy opens them anew."""

    def __init__(self, location: str, parts: dict[str, tuple[str, int]], column: str) -> None:
        self.location, self._parts, self._column = location, parts, column
        self._starts = np.cumsum([0, *(n for _, n in parts.values())])
        self._open: tuple[int, list[Any]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_sizes"} | {"_open": None}

    def _splits(self) -> list[Any]:
        opened = self._open
        if opened is None or opened[0] != os.getpid():
            opened = (os.getpid(), [_encoded(_load(Path(p)), self._column) for p, _ in self._parts.values()])
            self._open = opened
        return opened[1]

    def _find(self, row: int) -> tuple[int, int]:
        part = int(np.searchsorted(self._starts, row, side="right")) - 1
        return part, row - int(self._starts[part])

    def _name(self, row: int) -> str:
        part, inside = self._find(row)
        split = list(self._parts)[part]
        return f"row {inside} of {split} in {self.location}" if split else f"row {inside} of {self.location}"

    def read(self, row: int) -> bytes:
        part, inside = self._find(row)
        try:
            cell = self._splits()[part][inside][self._column]
        except (OSError, IndexError, ValueError) as error:
            raise CausalFTError(f"cannot read {self._name(row)}: {' '.join(str(error).split())}") from None
        if cell is None or (cell["bytes"] is None and cell["path"] is None):
            raise CausalFTError(f"cannot read {self._name(row)}: it holds no image; remove that row")
        if cell["bytes"] is not None:
            return cell["bytes"]
        try:
            return read_bytes(cell["path"], MAX_FILE_BYTES)
        except CausalFTError as error:
            raise CausalFTError(f"{self._name(row)}: {error}") from None

    @cached_property
    def _sizes(self) -> NDArray[np.int64]:
        """Bytes of every image, from the offsets; 0 for images in files of their own."""
        import pyarrow.compute as pc

        sizes = []
        for split in self._splits():
            column = split.data.column(self._column)
            lengths = pc.binary_length(pc.struct_field(column, "bytes"))
            sizes.append(pc.fill_null(lengths, 0).to_numpy().astype(np.int64))
        return np.concatenate(sizes)

    def size(self, row: int) -> int:
        return int(self._sizes[row])

    def quick_key(self, row: int) -> tuple[int | bytes, ...]:
        return (self.size(row),)

    def image(self, row: int) -> Image.Image:
        return read_image(self.read(row), self._name(row))


def _is_saved_dataset(folder: Path) -> bool:
    """Whether `save_to_disk` wrote this folder."""
    return (folder / "dataset_dict.json").is_file() or (
        (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    )


def read_saved_dataset(place: Place, paths: Sequence[Path], options: ReadOptions) -> Reading:
    """Read what `save_to_disk` wrote.

    The image is the only `Image` feature or ``options.path_column``; the label the only `ClassLabel` (with its names),
    the column ``label`` or ``options.label_column``; the factor the column ``factor`` or ``options.factor_column``.
    """
    folder = paths[0]
    if not _is_saved_dataset(folder):
        raise CausalFTError(f"{folder} was not written by save_to_disk of Hugging Face `datasets`")
    places = _split_folders(folder)
    parts: dict[str, tuple[str, int]] = {}
    loaded = {split: _load(place) for split, place in places.items()}
    first = next(iter(loaded.values()))
    image, label, factor = _columns(folder, first.features, options)
    files: list[str] = []
    splits: dict[str, NDArray[np.int64]] = {}
    labels: list[Any] = []
    factors: list[Any] = []
    for split, data in loaded.items():
        if str(data.features) != str(first.features):
            raise CausalFTError(f"the splits of {folder} have other features each; cast them to the same")
        if not len(data):
            raise CausalFTError(f"the {split} split of {folder} is empty; leave it out")
        parts[split] = (str(places[split]), len(data))
        if split:
            splits[split] = np.arange(len(files), len(files) + len(data))
        files += [f"{split or 'row'}/{row:07d}" for row in range(len(data))]
        labels += _values(data, label, folder)
        if factor is not None:
            factors += _values(data, factor, folder)
    names = getattr(first.features[label], "names", None)
    if names is None:
        found = encode(labels, str(folder), places=files)
    else:
        found = class_labels(labels, names, f"column '{label}' of {folder}")
    return assemble(
        format="huggingface",
        name=folder.resolve().name,
        where=str(folder),
        store=HuggingFaceStore(str(folder), parts, image),
        files=files,
        codes=found.codes,
        ids=found.ids,
        options=options,
        splits=splits,
        factors=factor_values(factors, str(folder), files) if factor is not None else None,
        notes=found.notes,
    )


def class_labels(numbers: Sequence[int], names: Sequence[str], where: str) -> Labels:
    """Return the labels of a `ClassLabel`: indices in its names, which keep their order.

    Numbers outside the names are refused, such as -1 for an image without a label.

    Examples
    --------
    >>> class_labels([1, 0], ["lynx", "otter"], "set").ids
    ['lynx', 'otter']
    """
    codes, ids = np.array(numbers, dtype=np.int64), [clean_text(name) for name in names]
    if codes.min() < 0 or codes.max() >= len(ids):
        wrong = codes.min() if codes.min() < 0 else codes.max()
        raise CausalFTError(
            f"{where} has label {wrong}, outside its {len(ids)} names; leave out images without a label"
        )
    if len(set(ids)) == len(ids):
        return Labels(codes, ids, [])
    place = {name: number for number, name in enumerate(dict.fromkeys(ids))}
    note = "some class names are written in several ways in Unicode and are one class each"
    return Labels(np.array([place[name] for name in ids], dtype=np.int64)[codes], list(place), [note])


def _split_folders(folder: Path) -> dict[str, Path]:
    """Split to folder; one unnamed split for a plain dataset."""
    if not (folder / "dataset_dict.json").is_file():
        return {"": folder}
    found: dict[str, Path] = {}
    for entry in sorted(item for item in folder.iterdir() if (item / "dataset_info.json").is_file()):
        split = SPLIT_NAMES.get(entry.name.lower())
        if split is None:
            raise CausalFTError(
                f"{folder} has a split '{entry.name}' ({nearest(entry.name, SPLIT_NAMES)}); open one split, such as "
                f"{entry}, or rename it"
            )
        if split in found:
            raise CausalFTError(
                f"{folder} has {found[split].name} and {entry.name} for the {split} split; keep one"
            )
        found[split] = entry
    if not found:
        raise CausalFTError(f"{folder} holds no split; write it again with save_to_disk")
    return {split: found[split] for split in ("train", "validation", "test") if split in found}


def _load(place: Path) -> Any:
    try:
        import datasets
    except ImportError:
        raise CausalFTError(
            f"{place} is a set of Hugging Face `datasets`, which is not installed; pip install 'causalft[data]'"
        ) from None
    try:
        return datasets.load_from_disk(str(place))
    except Exception as error:  # the library and Arrow raise anything on damaged folders
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise CausalFTError(f"cannot read {place}: {reason}; write it again with save_to_disk") from None


def _encoded(data: Any, column: str) -> Any:
    """The images of a split as files, not decoded."""
    import datasets

    return data.with_format(None).select_columns([column]).cast_column(column, datasets.Image(decode=False))


def _columns(folder: Path, features: Any, options: ReadOptions) -> tuple[str, str, str | None]:
    """The columns of image, label and factor."""
    kinds = {name: type(feature).__name__ for name, feature in features.items()}
    for role, given in (
        ("path", options.path_column),
        ("label", options.label_column),
        ("factor", options.factor_column),
    ):
        if given is not None and given not in kinds:
            raise CausalFTError(
                f"{folder} has no column '{given}' for the {role}: {nearest(given, kinds)}; "
                f"choose it with {role}_column (--{role}-column)"
            )
    images = [name for name, kind in kinds.items() if kind == "Image"]
    image = options.path_column or (images[0] if len(images) == 1 else None)
    if image is None or kinds[image] != "Image":
        found = f"{len(images)} columns hold images" if images else "no column holds images"
        if options.path_column is not None:
            found = f"column '{image}' holds no images"
        raise CausalFTError(
            f"{folder}: {found} (it has {', '.join(kinds)}); choose one with --path-column, "
            "or cast it to datasets.Image()"
        )
    class_labels = [name for name, kind in kinds.items() if kind == "ClassLabel"]
    label = options.label_column or (class_labels[0] if len(class_labels) == 1 else None)
    if label is None and "label" in kinds:
        label = "label"
    if label is None:
        raise CausalFTError(
            f"{folder}: which column is the label? choose it with --label-column (it has {', '.join(kinds)})"
        )
    factor = options.factor_column or ("factor" if "factor" in kinds else None)
    return image, label, factor


def _values(data: Any, column: str, folder: Path) -> list[Any]:
    """The values of a column; numbers for a `ClassLabel`."""
    values = list(data.with_format(None)[column])
    empty = [row for row, value in enumerate(values) if value is None]
    if empty:
        raise CausalFTError(
            f"column '{column}' of {folder} has empty cells in {len(empty)} of {len(values)} rows (first: row "
            f"{empty[0] + 1}); fill it in or remove the rows"
        )
    return values


def _recognise(place: Place) -> tuple[Path, ...] | None:
    return place.paths if place.is_folder and _is_saved_dataset(place.path) else None


FORMAT = Format(
    name="huggingface",
    help="a set that Hugging Face `datasets` saved to disk",
    sign="a folder with dataset_dict.json, or with state.json and dataset_info.json",
    order=40,
    recognise=_recognise,
    read=read_saved_dataset,
    options=("path_column", "label_column", "factor_column"),
    needs="data",
    source="https://huggingface.co/docs/datasets",
)
