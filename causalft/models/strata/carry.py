"""Weights listed, fetched into a folder, imported on another machine, and checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from causalft.errors import CausalFTError
from causalft.models.strata.zoo import PretrainedZoo
from causalft.models.weights import WeightName, resolve_name
from causalft.models.weights.file import file_kind, is_pickle
from causalft.models.weights.store import (
    HubFile,
    StoredFile,
    WeightSource,
    WeightStore,
    check_sha256,
    expected_sha256,
)
from causalft.runs.files import sha256_file
from causalft.runs.folder import atomic_path, check_place
from causalft.runs.locks import locked, writing

__all__ = [
    "WeightRow",
    "check_folder",
    "check_names",
    "describe_names",
    "fetch",
    "import_file",
    "import_folder",
]


Say = Callable[[str], None]


@dataclass(frozen=True)
class WeightRow:
    """What is known of the weights of a name, or of a file.

    Attributes
    ----------
    name : str
    weights : str
        The full name.
    repository, file : str
        On the hub; on this machine, or what would be fetched.
    here : {"given", "folder", "hub cache", "no"}
    bytes : int, optional
    sha256 : str, optional
    licence : str, optional
    """

    name: str
    weights: str
    repository: str
    file: str
    here: str
    bytes: int | None = None
    sha256: str | None = None
    licence: str | None = None


def describe_names(names: Sequence[str], zoo: PretrainedZoo) -> list[WeightRow]:
    """Return what names load, and whether it is on this machine; no file and no network is read.

    Examples
    --------
    >>> [row] = describe_names(["openclip"], PretrainedZoo())
    >>> row.weights, row.repository
    ('ViT-B-16/laion2b_s34b_b88k', 'laion/CLIP-ViT-B-16-laion2B-s34B-b88K')
    """
    rows = []
    lines = zoo.source.store.files()
    for name in names:
        what = zoo.describe(name)
        file = zoo.find(name)
        line = None
        if file is None:
            here = "no"
        elif name in zoo.weights:
            here = "given"
        elif file.is_relative_to(zoo.source.store.folder):
            here = "folder"
            line = lines.get(file.relative_to(zoo.source.store.folder).as_posix())
        else:
            here = "hub cache"
        known = None if file is None else expected_sha256(file)
        rows.append(
            WeightRow(
                name=name,
                weights=what.full_name,
                repository=what.repository,
                file=str(file) if file else (what.filenames or ("",))[0],
                here=here,
                bytes=None if file is None else file.stat().st_size,
                sha256=known[0] if known else None,
                licence=(line.licence if line else None) or what.licence,
            )
        )
    return rows


@locked("to")
def fetch(
    names: Sequence[str], *, to: Path | None = None, allow_pickle: bool = False, say: Say = lambda line: None
) -> list[Path]:
    """Fetch the weights of names, and the files of their text towers, into the hub's cache and a folder to carry.

    What is there is not fetched again; repeat a broken fetch to resume it.

    Parameters
    ----------
    names : sequence of str
    to : path, optional
        The folder to carry; it gets a manifest.
    allow_pickle : bool
        Take a pickle where a repository has nothing better.
    say : callable
        Receives one line per file.

    Returns
    -------
    list of path
        The files, in the folder or else in the cache.

    Raises
    ------
    CausalFTError
        For an unknown name, a folder that cannot be written, no network, no space, or a hash that is not the hub's.
    """
    wanted = [resolve_name(name) for name in names]
    if to is not None:
        check_place(to / "manifest.json")
    store = WeightStore(to) if to is not None else WeightStore()
    source = WeightSource(store, allow_pickle=allow_pickle)
    found: list[Path] = []
    for what in wanted:
        weights = _already_carried(store, what) if to is not None else None
        weights = weights or source.fetch_weights(what)
        files = [weights]
        if what.tokenizer_repository:
            files += source.fetch_text_files(what.tokenizer_repository, what.name)
        if what.text_repository:
            files += source.fetch_text_files(what.text_repository, what.name, configuration_only=True)
        licence = what.licence or (_licence(what.repository) if to is not None else None)
        for file in dict.fromkeys(files):
            try:
                sha256 = check_sha256(file.path, what.url)
            except CausalFTError as error:
                raise CausalFTError(f"{file.path} has {error}; remove it first") from error
            if to is None:
                say(f"{what.name}: {file.repository}/{file.filename}, sha256 {sha256[:12]}..., {file.path}")
                found.append(file.path)
                continue
            relative = store.path(file.repository, file.filename).relative_to(store.folder).as_posix()
            line = StoredFile(
                repository=file.repository,
                filename=file.filename,
                revision=file.revision,
                sha256=sha256,
                bytes=file.path.stat().st_size,
                names=[what.full_name] if file is weights else [],
                licence=licence if file is weights else None,
            )
            if file.path == store.folder / relative:  # with the licence and revision of its first fetch
                line = replace(store.files()[relative], names=line.names)
            new = store.add(file.path, relative, line)
            say(
                f"{what.name}: {relative}, sha256 {sha256[:12]}...{'' if new else ', it was in the folder already'}"
            )
            found.append(store.folder / relative)
    return found


def import_folder(
    folder: Path, *, into: WeightStore | None = None, allow_pickle: bool = False, say: Say = lambda line: None
) -> list[Path]:
    """Copy a carried folder into the local one and verify each hash; repeat a broken import to resume it.

    Raises
    ------
    CausalFTError
        If the folder has no manifest, lacks one of its files, holds a changed one, or a pickle that is not allowed.
    """
    store = into or WeightStore()
    with writing(store.folder):
        return _import_folder(folder, store, allow_pickle, say)


def _import_folder(folder: Path, store: WeightStore, allow_pickle: bool, say: Say) -> list[Path]:
    carried = WeightStore(folder)
    lines = carried.files()
    if not lines:
        raise CausalFTError(
            f"{folder} has no manifest of weights; `causalft weights fetch NAME --to FOLDER` writes one, and a single "
            "file is imported with `causalft weights import FILE --name NAME`"
        )
    if carried.folder.resolve() == store.folder.resolve():
        raise CausalFTError(f"{folder} is the local folder of weights already; there is nothing to import")
    missing = [path for path in lines if not (carried.folder / path).is_file()]
    if missing:
        raise CausalFTError(
            f"{folder} lacks {missing[0]} of its manifest ({len(missing)} of {len(lines)} files are missing); carry "
            "it again"
        )
    if not allow_pickle:
        for path in lines:
            if is_pickle(carried.folder / path):
                raise CausalFTError(
                    f"{carried.folder / path} is a pickle, which can run code when it is read; pass --allow-pickle to "
                    "import it"
                )
    for path, line in lines.items():
        new = store.add(carried.folder / path, path, line)
        say(f"{path}, sha256 {line.sha256[:12]}...{'' if new else ', it was here already'}")
    return [store.folder / path for path in lines]


def import_file(
    file: Path, name: str, *, into: WeightStore | None = None, allow_pickle: bool = False
) -> Path:
    """Import one file of weights for a name; the tensors of a pickle are kept as safetensors.

    The file is loaded once, so that one that does not fit is refused.

    Parameters
    ----------
    file : path
    name : str
        ``openclip``, ``ARCH/TAG`` (any tag), ``timm:NAME``.
    into : WeightStore, optional
    allow_pickle : bool

    Returns
    -------
    path
        Of the safetensors file.

    Raises
    ------
    CausalFTError
        As :meth:`causalft.models.strata.zoo.PretrainedZoo.load`.
    """
    store = into or WeightStore()
    with writing(store.folder):
        return _import_file(file, name, store, allow_pickle)


def _import_file(file: Path, name: str, store: WeightStore, allow_pickle: bool) -> Path:
    from safetensors.torch import save_file

    from causalft.models.weights.file import read_state_dict

    what = resolve_name(name, has_file=True)
    zoo = PretrainedZoo({name: file}, offline=True, allow_pickle=allow_pickle, folder=store.folder)
    loaded = zoo.load(name)
    relative = f"imported/{what.full_name.replace('/', '--').replace(':', '--')}/weights.safetensors"
    converted_from = None
    if file_kind(file) == "safetensors":
        source, sha256 = file, loaded.sha256
        line = _imported(what, sha256, file.stat().st_size, None)
        store.add(source, relative, line)
        return store.folder / relative
    tensors = read_state_dict(file, allow_pickle=allow_pickle)
    converted_from = loaded.sha256
    target = store.folder / relative
    with atomic_path(target) as temporary:
        save_file({key: value.clone().contiguous() for key, value in tensors.items()}, temporary)
    store.add(target, relative, _imported(what, sha256_file(target), target.stat().st_size, converted_from))
    return target


def _imported(what: WeightName, sha256: str, size: int, converted_from: str | None) -> StoredFile:
    return StoredFile(
        repository="",
        filename="",
        revision="",
        sha256=sha256,
        bytes=size,
        names=[what.full_name],
        licence=what.licence,
        converted_from=converted_from,
    )


def _already_carried(store: WeightStore, what: WeightName) -> HubFile | None:
    """The weights in a folder to carry, if they are complete."""
    path = store.find(what)
    if path is None or not path.is_relative_to(store.folder / what.repository.replace("/", "--")):
        return None
    line = store.files().get(path.relative_to(store.folder).as_posix())
    if line is None or sha256_file(path) != line.sha256:
        return None
    return HubFile(what.repository, line.filename, path)


def _licence(repository: str) -> str | None:
    """The licence on the model's card, if the hub has it."""
    import huggingface_hub

    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return None
    try:
        card = huggingface_hub.model_info(repository).card_data
    except Exception:  # a licence that is not known is no reason not to fetch
        return None
    licence = getattr(card, "license", None)
    return licence if isinstance(licence, str) else None


def check_names(
    names: Sequence[str], zoo: PretrainedZoo, say: Say = lambda line: None
) -> list[dict[str, str]]:
    """Load each name from this machine and run it once; return one row per name.

    Returns
    -------
    list of dict
        ``name``, ``sha256`` (empty if it was not reached), ``problem`` (empty if none).
    """
    rows = []
    for name in names:
        say(name)
        try:
            rows.append({"name": name, "sha256": _runs(name, zoo), "problem": ""})
        except CausalFTError as error:
            rows.append({"name": name, "sha256": "", "problem": str(error)})
    return rows


def check_folder(
    folder: Path, *, allow_pickle: bool = False, say: Say = lambda line: None
) -> list[dict[str, str]]:
    """Compare each file of a folder with its manifest, and load weights; return one row per file.

    Raises
    ------
    CausalFTError
        If the folder has no manifest.
    """
    store = WeightStore(folder)
    lines = store.files()
    if not lines:
        raise CausalFTError(f"{folder} has no manifest of weights; `causalft weights fetch --to` writes one")
    rows = []
    for path, line in lines.items():
        say(path)
        file, problem = store.folder / path, ""
        if not file.is_file():
            problem = "it is missing"
        elif (found := sha256_file(file)) != line.sha256:
            problem = f"sha256 {found[:12]}..., manifest {line.sha256[:12]}...; it was changed or cut short"
        else:
            for name in line.names:
                zoo = PretrainedZoo({name: file}, offline=True, allow_pickle=allow_pickle, folder=folder)
                try:
                    _runs(name, zoo)
                except CausalFTError as error:
                    problem = str(error)
        rows.append({"name": path, "sha256": line.sha256, "problem": problem})
    return rows


def _runs(name: str, zoo: PretrainedZoo) -> str:
    """Load a stratum, run it on one image and one word, and return the hash of its weights."""
    stratum = zoo.load(name)
    size = stratum.image_size
    import torch  # a listing of names does without

    found = [stratum.image_features(torch.zeros(1, size, size, 3, dtype=torch.uint8))]
    if stratum.has_text:
        found.append(stratum.text_features(["cat"]))
    if not all(bool(torch.isfinite(features).all()) for features in found):
        raise CausalFTError(f"{name}: its features are not finite; its weights are damaged")
    return stratum.sha256
