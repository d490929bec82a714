"""webdataset shards: tars in which ``000123.jpg`` and ``000123.cls`` (or .json, .txt) belong together."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from causalft.data.containers import SliceStore
from causalft.data.formats import Format, Place
from causalft.data.formats.tar import first_members, is_tar, tar_compression, walk_tar
from causalft.data.images import is_image_name
from causalft.data.labels import encode, label_text
from causalft.data.reading import SPLIT_NAMES, Reading, ReadOptions, assemble, factor_values, split_of_name
from causalft.errors import CausalFTError, first_few, short
from causalft.runs.files import is_regular, parse_json

__all__ = ["FORMAT", "expand_shards", "read_shards", "shards_in"]

_LABEL_KINDS = ("cls", "json", "txt")
_JSON_LABELS = ("label", "cls", "class", "category")
_RANGE = re.compile(r"\{([^{},]*?)\.\.([^{},]*?)(?:\.\.([^{},]*?))?\}")
#: A pattern of more shards is refused before it is expanded.
MAX_SHARDS = 100_000
_SAMPLE = re.compile(r"((?:.*/|)[^./]+)\.([^/]*)")


def _sample_key(name: str) -> tuple[str, str] | None:
    """Split the name of a member at the first dot into sample key and kind, as webdataset does.

    Examples
    --------
    >>> _sample_key("train/000123.seg.png"), _sample_key("README")
    (('train/000123', 'seg.png'), None)
    """
    found = _SAMPLE.fullmatch(name)
    return (found[1], found[2].lower()) if found else None


def shards_in(folder: Path) -> list[Path]:
    """Return the tars of a folder, or of its train/, val/ and test/; none if it also holds other folders or images."""
    shards: list[Path] = []
    try:
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            is_folder = os.path.isdir(entry.path)  # does not fail for a link to itself
            if is_folder and entry.name.lower() in SPLIT_NAMES:
                shards += sorted(filter(is_regular, Path(entry.path).glob("*.tar")))
            elif entry.name.endswith(".tar") and is_regular(entry.path):
                shards.append(Path(entry.path))
            elif is_folder or is_image_name(entry.name):
                return []
    except OSError as error:
        raise CausalFTError(f"cannot read the folder {folder}: {error.strerror}") from None
    return shards


def expand_shards(pattern: str) -> list[Path]:
    """Expand a brace pattern such as ``shards/{000000..000004}.tar`` by webdataset's rules.

    Refused are more than `MAX_SHARDS` files, and missing ones, with their number and the first three.
    """
    n_shards = _pattern_size(pattern)
    if n_shards > MAX_SHARDS:
        raise CausalFTError(
            f"{short(pattern, 300)} stands for more than {MAX_SHARDS:,} shards; shorten the pattern"
        )
    try:
        from webdataset.shardlists import expand_urls
    except ImportError:
        raise CausalFTError(
            f"{pattern} is a pattern of webdataset, which is not installed; pip install 'causalft[data]', or give "
            "the folder of the shards"
        ) from None
    shards = [Path(os.path.expanduser(name)) for name in expand_urls(pattern)]
    missing = [str(shard) for shard in shards if not shard.is_file()]
    if missing:
        raise CausalFTError(
            f"{len(missing)} of the {len(shards)} shards of {short(pattern, 300)} are missing "
            f"({first_few(missing, 3)}); restore them or shorten the pattern"
        )
    return shards


def read_shards(place: Place, shards: Sequence[Path], options: ReadOptions) -> Reading:
    """Walk the headers of all shards once and locate every sample.

    The label is the text of ``.cls``, else ``label`` (``cls``, ``class``, ``category``) in ``.json``, else the text of
    ``.txt``. ``options.label_column`` and ``options.factor_column`` name other keys of the JSON. Splits come from names
    such as ``train-000000.tar`` or ``train/000000.tar``.
    """
    where = place.written
    if not shards:
        raise CausalFTError(f"{where} holds no .tar; give a folder of webdataset shards or a pattern")
    slices: list[tuple[int, int, int]] = []
    files: list[str] = []
    labels: list[Any] = []
    factors: list[Any] = []
    splits: list[str] = []
    unlabelled: list[str] = []
    for number, shard in enumerate(shards):
        if tar_compression(shard) is not None:
            raise CausalFTError(
                f"{shard} is compressed, so it cannot be read in place; unpack it to a plain .tar"
            )
        split = split_of_name(shard.stem) or SPLIT_NAMES.get(shard.parent.name.lower(), "")
        for key, picture, label, factor in _samples(shard, options):
            if label is None or (factor is None and options.factor_column is not None):
                unlabelled.append(f"{key} in {shard.name}")
                continue
            slices.append((number, *picture[1:]))
            files.append(f"{shard.name}/{picture[0]}")
            labels.append(label)
            factors.append(factor)
            splits.append(split)
    if unlabelled:
        what = f"'{options.label_column or options.factor_column}' in its .json"
        asked = what if options.label_column or options.factor_column else ".cls, .json with a label, or .txt"
        raise CausalFTError(
            f"{len(unlabelled)} samples of {where} have no {asked} ({first_few(unlabelled, 3)}); write their labels, "
            "or choose another key with --label-column"
        )
    if not files:
        raise CausalFTError(f"no sample with an image in the {len(shards)} shard(s) of {where}")
    named = sorted(set(splits))
    if "" in named and len(named) > 1:
        raise CausalFTError(
            f"only some shards of {where} name a split; call all train-..., val-... or test-..."
        )
    found = encode(labels, where, places=files)
    table = np.array(slices, dtype=np.int64)
    member = np.array(splits)
    return assemble(
        format="webdataset",
        name=_name(shards, where),
        where=where,
        store=SliceStore(where, [str(s) for s in shards], table[:, 0], table[:, 1], table[:, 2], files),
        files=files,
        codes=found.codes,
        ids=found.ids,
        options=options,
        splits={s: np.flatnonzero(member == s) for s in ("train", "validation", "test") if s in named},
        factors=None if None in factors else factor_values(factors, where, files),
        notes=found.notes,
    )


def _samples(shard: Path, options: ReadOptions) -> Iterator[tuple[str, tuple[str, int, int], Any, Any]]:
    """Yield (key, (image name, offset, size), label, factor) of each sample, whose members are adjacent."""
    seen: set[str] = set()
    current: str | None = None
    picture: tuple[str, int, int] | None = None
    texts: dict[str, bytes] = {}
    for member in walk_tar(shard):
        split = _sample_key(member.name) if member.kind == "file" else None
        if split is None:
            continue
        key, kind = split
        if key != current:
            if current is not None and picture is not None:
                yield current, picture, *_label(texts, options, shard, current)
            if key in seen:
                raise CausalFTError(
                    f"sample {key} occurs twice in {shard}; write the shard again, sorted by key"
                )
            seen.add(key)
            current, picture, texts = key, None, {}
        if is_image_name(member.name):
            if picture is not None:
                raise CausalFTError(
                    f"sample {key} of {shard} holds two images ({picture[0]}, {member.name}); keep one"
                )
            picture = (member.name, member.offset, member.size)
        elif kind in _LABEL_KINDS:
            texts[kind] = member.read()
    if current is not None and picture is not None:
        yield current, picture, *_label(texts, options, shard, current)


def _label(texts: dict[str, bytes], options: ReadOptions, shard: Path, key: str) -> tuple[Any, Any]:
    """Label and factor of a sample as written, or None."""
    where = f"the label of sample {short(key)} of {shard}"
    document: Any = parse_json(texts["json"], where) if "json" in texts else {}
    try:
        plain = {kind: texts[kind].decode("utf-8").strip() for kind in ("cls", "txt") if kind in texts}
    except ValueError as error:
        raise CausalFTError(f"{where} cannot be read ({error})") from None
    if not isinstance(document, dict):
        document = {}
    factor = document.get(options.factor_column or "factor")
    factor = None if factor == "" else factor
    if options.label_column is not None:
        label = document.get(options.label_column)
    else:
        found = next((document[name] for name in _JSON_LABELS if name in document), None)
        label = plain.get("cls") or (found if found is not None else plain.get("txt"))
    try:
        missing = label_text(label) is None
    except CausalFTError as error:
        raise CausalFTError(f"{where}: {error}") from None
    return None if missing else label, factor


def _pattern_size(pattern: str) -> int:
    """A lower bound of the number of names in a brace pattern."""
    total = 1
    for first, last, step in _RANGE.findall(pattern):
        if len(first) == len(last) == 1 and not (first + last).isdigit():
            continue  # letters
        if not all(re.fullmatch(r"-?\d*", each) for each in (first, last, step)):
            continue
        if max(map(len, (first, last, step))) > 18:
            return MAX_SHARDS + 1
        if first and last:
            total *= abs(int(last) - int(first)) // max(1, abs(int(step or 1))) + 1
    for choices in re.findall(r"\{([^{}]*,[^{}]*)\}", pattern):
        total *= choices.count(",") + 1
    return total


def _name(shards: Sequence[Path], where: str) -> str:
    return shards[0].stem if len(shards) == 1 else shards[0].resolve().parent.name or where


def _recognise(place: Place) -> tuple[Path, ...] | None:
    if place.is_folder:
        return tuple(shards_in(place.path)) or (() if place.forced else None)
    if place.forced:
        return place.paths
    kinds: dict[str, set[str]] = {}
    for member in first_members(place.path) if is_tar(place.path) else ():
        split = _sample_key(member.name) if member.kind == "file" else None
        if split is not None:
            kinds.setdefault(split[0], set()).add("image" if is_image_name(member.name) else split[1])
    return (
        place.paths
        if any("image" in found and found & set(_LABEL_KINDS) for found in kinds.values())
        else None
    )


FORMAT = Format(
    name="webdataset",
    help="webdataset shards",
    sign="a tar in which images and labels share their names; a folder of tars",
    order=60,
    recognise=_recognise,
    read=read_shards,
    options=("label_column", "factor_column"),
    several="webdataset",
    source="https://github.com/webdataset/webdataset",
)
