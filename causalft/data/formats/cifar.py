"""CIFAR-10 and CIFAR-100 in their binary version, and the long-tailed draws of the benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from causalft.data.containers import SliceStore
from causalft.data.formats import Format, Place
from causalft.data.formats.tar import first_members, is_tar, walk_tar
from causalft.data.longtail import benchmark_counts
from causalft.data.reading import Reading, ReadOptions, assemble
from causalft.errors import CausalFTError
from causalft.runs.files import read_text
from causalft.runs.limits import words_of_seed

__all__ = ["FORMAT", "draw_benchmark", "read_cifar"]

_PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class _Version:
    """The files of one of the two sets."""

    name: str
    folder: str
    python: tuple[str, str]
    label_bytes: int
    names: str
    files: dict[str, tuple[str, ...]]


_VERSIONS = (
    _Version(
        "cifar-10",
        "cifar-10-batches-bin",
        ("cifar-10-batches-py", "data_batch_1"),
        1,
        "batches.meta.txt",
        {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)},
    ),
    _Version(
        "cifar-100",
        "cifar-100-binary",
        ("cifar-100-python", "train"),
        2,  # a coarse label, then the fine one
        "fine_label_names.txt",
        {"train": ("train.bin",), "test": ("test.bin",)},
    ),
)


class _PlaneStore(SliceStore):
    """Records of 32 x 32 pixels in planes of red, green and blue."""

    def image(self, row: int) -> Image.Image:
        planes = np.frombuffer(self.read(row), dtype=np.uint8).reshape(3, 32, 32)
        return Image.fromarray(np.ascontiguousarray(planes.transpose(1, 2, 0)))


def _cifar_folder(folder: Path) -> Path | None:
    """The folder of the binary files, which is the given one or inside it; None if there is none.

    Refused are folders with both sets, or with only the pickled version.
    """
    if any((folder / version.names).is_file() and _has_batches(folder, version) for version in _VERSIONS):
        return folder
    inside = [folder / version.folder for version in _VERSIONS if (folder / version.folder).is_dir()]
    if len(inside) > 1:
        raise CausalFTError(f"{folder} holds {inside[0].name} and {inside[1].name}; open one of them")
    if inside:
        return inside[0]
    for version in _VERSIONS:
        place, batch = version.python
        if (folder / place / batch).is_file() or (folder.name == place and (folder / batch).is_file()):
            _refuse_python_version(folder, version.name)
    return None


def _refuse_python_version(where: Path, name: str) -> None:
    """Refuse pickles, which can run code, and say what to get instead."""
    raise CausalFTError(
        f"{where} holds {name} as Python pickles, which are not read (a pickle can run code); get the binary version, "
        f"https://www.cs.toronto.edu/~kriz/{name}-binary.tar.gz, and open that file or its folder"
    )


def _is_cifar_member(name: str) -> bool | None:
    """Whether a file of a tar belongs to a binary CIFAR; None for a pickled one.

    Examples
    --------
    >>> _is_cifar_member("cifar-100-binary/train.bin"), _is_cifar_member("cat/1.png")
    (True, False)
    """
    top = name.split("/")[0]
    if top in {version.python[0] for version in _VERSIONS}:
        return None
    return top in {version.folder for version in _VERSIONS} and "/" in name


def read_cifar(place: Place, files: Sequence[Path], options: ReadOptions) -> Reading:
    """Read the folder of binary files, or its ``.tar.gz`` into memory (180 MB).

    With ``options.imbalance_factor`` the training part is drawn to CIFAR-LT.
    """
    path, notes = files[0], []
    if path.is_dir():
        folder = _cifar_folder(path)
        found = (
            {} if folder is None else {item.name: str(item) for item in folder.iterdir() if item.is_file()}
        )
        blobs: dict[str, str | bytes] = {**found}
    else:
        blobs = {
            member.name.split("/")[-1]: member.read()
            for member in walk_tar(path)
            if member.kind == "file" and _is_cifar_member(member.name)
        }
        size = sum(len(blob) for blob in blobs.values()) / 2**20
        notes.append(
            f"{path.name} is kept in memory ({size:.3g} MiB); its folder, unpacked, is read in place"
        )
    version = next((v for v in _VERSIONS if v.names in blobs), None)
    if version is None:
        raise CausalFTError(
            f"{path} is not a binary CIFAR: neither {_VERSIONS[0].names} nor {_VERSIONS[1].names}"
        )
    names_blob = blobs[version.names]
    text = (
        names_blob.decode("utf-8", "replace")
        if isinstance(names_blob, bytes)
        else read_text(Path(names_blob))
    )
    ids = [line.strip() for line in text.splitlines() if line.strip()]
    batches = [(split, name) for split, names in version.files.items() for name in names]
    absent = [name for _, name in batches if name not in blobs]
    if absent:
        raise CausalFTError(f"{path} lacks {', '.join(absent)} of {version.name}; unpack it again")
    store, labels, names, splits = _records(path, version, blobs, batches)
    if len(labels) and labels.max() >= len(ids):
        raise CausalFTError(
            f"{path} has label {labels.max()}, outside the {len(ids)} classes of {version.names}; unpack it again"
        )
    reading = assemble(
        format="cifar",
        name=version.name,
        where=str(path),
        store=store,
        files=names,
        codes=labels,
        ids=ids,
        options=options,
        splits=splits,
        notes=notes,
    )
    return reading if options.imbalance_factor is None else _longtailed(reading, options)


def draw_benchmark(labels: ArrayLike, imbalance_factor: float, seed: int) -> NDArray[np.int64]:
    """Rows (m,), sorted, of a CIFAR-LT draw: exponential counts over the classes in order, rounded down.

    With the generator of the benchmark's code (Cao et al., LDAM, NeurIPS 2019), so equal seeds draw equal images.

    Examples
    --------
    >>> rows = draw_benchmark(np.repeat([0, 1, 2], 100), 100, seed=0)
    >>> np.bincount(np.repeat([0, 1, 2], 100)[rows]).tolist()
    [100, 10, 1]
    """
    y = np.asarray(labels)
    totals = np.bincount(y)
    counts = benchmark_counts(len(totals), len(y) / len(totals), imbalance_factor)
    short = np.flatnonzero((counts > totals) | (counts < 1))
    if len(short):
        k = int(short[0])
        raise CausalFTError(
            f"imbalance factor {imbalance_factor:g} asks {counts[k]} of the {totals[k]} images of class {k}; "
            "give a smaller one"
        )
    rng = np.random.RandomState(words_of_seed(seed))  # noqa: NPY002 - the benchmark's generator
    drawn = []
    for k, count in enumerate(counts):
        rows = np.flatnonzero(y == k)
        rng.shuffle(rows)
        drawn.append(rows[:count])
    return np.sort(np.concatenate(drawn))


def _has_batches(folder: Path, version: _Version) -> bool:
    return any((folder / name).is_file() for names in version.files.values() for name in names)


def _records(
    path: Path, version: _Version, blobs: dict[str, str | bytes], batches: Sequence[tuple[str, str]]
) -> tuple[SliceStore, NDArray[np.int64], list[str], dict[str, NDArray[np.int64]]]:
    """The store, labels, names and splits of all records."""
    record = version.label_bytes + _PIXELS
    number, offsets, labels, files = [], [], [], []
    members: dict[str, list[NDArray[np.int64]]] = {"train": [], "test": []}
    n = 0
    for blob_number, (split, name) in enumerate(batches):
        blob = blobs[name]
        data = (
            np.frombuffer(blob, np.uint8) if isinstance(blob, bytes) else np.memmap(blob, np.uint8, mode="r")
        )
        if len(data) == 0 or len(data) % record:
            raise CausalFTError(
                f"{name} in {path} is cut off ({len(data):,} bytes); get {version.name} again"
            )
        count = len(data) // record
        starts = np.arange(count, dtype=np.int64) * record
        labels.append(np.asarray(data[starts + version.label_bytes - 1], dtype=np.int64))
        offsets.append(starts + version.label_bytes)
        number.append(np.full(count, blob_number))
        in_split = sum(map(len, members[split]))
        files += [f"{split}/{i:05d}" for i in range(in_split, in_split + count)]
        members[split].append(np.arange(n, n + count))
        n += count
    store = _PlaneStore(
        str(path),
        [blobs[name] for _, name in batches],
        np.concatenate(number),
        np.concatenate(offsets),
        np.full(n, _PIXELS),
        files,
    )
    return store, np.concatenate(labels), files, {k: np.concatenate(v) for k, v in members.items()}


def _longtailed(reading: Reading, options: ReadOptions) -> Reading:
    """The set with its training part drawn to the long tail."""
    assert options.imbalance_factor is not None
    train, test = reading.splits["train"], reading.splits["test"]
    drawn = train[draw_benchmark(reading.labels[train], options.imbalance_factor, options.seed or 0)]
    rows = np.concatenate([drawn, test])
    return Reading(
        format=reading.format,
        name=f"{reading.name}-lt{options.imbalance_factor:g}",
        store=reading.store,
        rows=reading.rows[rows],
        files=[reading.files[i] for i in rows],
        labels=reading.labels[rows],
        class_names=reading.class_names,
        splits={"train": np.arange(len(drawn)), "test": np.arange(len(drawn), len(rows))},
        factors=None,
        notes=reading.notes,
    )


def _recognise(place: Place) -> tuple[Path, ...] | None:
    if place.is_folder:
        return None if _cifar_folder(place.path) is None else place.paths
    if place.forced:
        return place.paths
    for member in first_members(place.path) if is_tar(place.path) else ():
        cifar = _is_cifar_member(member.name)
        if cifar:
            return place.paths
        if cifar is None and member.kind == "file":
            version = "cifar-100" if "100" in member.name.split("/")[0] else "cifar-10"
            _refuse_python_version(place.path, version)
    return None


FORMAT = Format(
    name="cifar",
    help="the binary version of CIFAR-10 or CIFAR-100",
    sign="a folder or tar with the files of the binary version",
    order=50,
    recognise=_recognise,
    read=read_cifar,
    options=("imbalance_factor", "seed"),
    source="Krizhevsky, 2009; the long-tailed draw: Cao et al., NeurIPS 2019",
)
