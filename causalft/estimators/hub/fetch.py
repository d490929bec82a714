"""Fetch a run from a hub or a folder in its layout: hashes checked, no pickle, nothing that the manifest omits."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from causalft.errors import CausalFTError
from causalft.estimators.fit_run import open_fit
from causalft.estimators.hub.errors import hub_error
from causalft.estimators.hub.layout import MANIFEST, digest
from causalft.locks import writing
from causalft.runs import Run, check_place, read_json, write_json
from causalft.strata.weight_hub import quiet_hub

__all__ = ["install", "pull"]

_PICKLES = {".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth"}
# The first bytes of a pickle (protocols 2 to 5) and of a zip, which is what torch.save writes.
_PICKLED = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")


def pull(
    source: str,
    to: str | os.PathLike[str],
    *,
    revision: str | None = None,
    data: str | os.PathLike[str] | None = None,
    weights: Mapping[str, str] | None = None,
    api: Any = None,
) -> Run:
    """Fetch a run by OWNER/NAME, or from a local folder in the same layout, and make a run folder of it.

    Parameters
    ----------
    source : str
        A folder if there is one of that name, else OWNER/NAME.
    to : path
        A new or empty folder.
    revision : str, optional
        Branch, tag or commit.
    data, weights
        As in :func:`install`.
    api : huggingface_hub.HfApi, optional

    Raises
    ------
    CausalFTError
        If it cannot be fetched, holds pickles, or is not what its manifest says.
    """
    _check_free(Path(to))
    if Path(source).is_dir():
        if revision is not None:
            raise CausalFTError("--revision goes with OWNER/NAME, not with a folder")
        return install(source, to, data=data, weights=weights)
    with writing(to):
        return _install(_fetched(source, revision, api), to, data, weights)


def _fetched(source: str, revision: str | None, api: Any) -> str:
    """Fetch the files of a run from the hub into its cache; return the folder."""
    if source.count("/") != 1 or source.startswith((".", "/", "~")) or not all(source.split("/")):
        raise CausalFTError(f"{source!r} is neither a folder nor OWNER/NAME on the hub")
    import huggingface_hub

    hub = huggingface_hub.HfApi() if api is None else api
    try:
        with quiet_hub():
            names = hub.list_repo_files(source, revision=revision, repo_type="model")
        _refuse_pickles(names, source)
        if MANIFEST not in names:
            raise CausalFTError(f"{source} is no run of causalft (it has no {MANIFEST})")
        found = hub.snapshot_download(
            source,
            revision=revision,
            repo_type="model",
            allow_patterns=["*.json", "*.safetensors", "*.md", "*.html", "*.png"],
        )
    except Exception as error:  # whatever the client raises ends in one line
        raise hub_error(error, source, "pull") from error
    return str(found)


def install(
    source: str | os.PathLike[str],
    to: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | None = None,
    weights: Mapping[str, str] | None = None,
) -> Run:
    """Check a folder in hub layout and make a run folder of it, whole or not at all.

    Parameters
    ----------
    source : path
    to : path
        A new or empty folder.
    data : path, optional
        Where the images of the run lie here, so that ``evaluate`` finds its test split.
    weights : mapping of str to path, optional
        Local weights files of strata of the pretrained zoo.

    Raises
    ------
    CausalFTError
        If a file is missing, changed, a pickle, or outside the folder.
    """
    with writing(to):
        return _install(source, to, data, weights)


def _install(
    source: str | os.PathLike[str],
    to: str | os.PathLike[str],
    data: str | os.PathLike[str] | None,
    weights: Mapping[str, str] | None,
) -> Run:
    folder, target = Path(source), Path(to)
    _check_free(target)
    files = _manifest(folder)
    _refuse_pickles((path.relative_to(folder).as_posix() for path in folder.rglob("*")), str(folder))
    for name, listed in files.items():
        path = folder / name
        if not path.is_file():
            raise CausalFTError(f"{folder}: {name} is missing; fetch it again")
        with open(path, "rb") as file:
            start = file.read(4)
        if start.startswith(_PICKLED):
            raise CausalFTError(f"{folder}: {name} is a pickle in disguise; it was not read")
        if digest(path) != listed.get("sha256"):
            raise CausalFTError(
                f"{folder}: {name} is not the file of the manifest (its sha256 differs); fetch it again"
            )
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as temporary:
        staged = Path(temporary) / "run"
        for name in [*files, *(["README.md"] if (folder / "README.md").is_file() else [])]:
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, staged / name)
        _settle(staged, target, data, weights or {})
        open_fit(staged)
        if target.exists():
            target.rmdir()
        os.replace(staged, target)
    return open_fit(target)


def _settle(
    staged: Path, target: Path, data: str | os.PathLike[str] | None, weights: Mapping[str, str]
) -> None:
    """Point the configuration at this machine: its own minis, its weights files, the images if they are here."""
    document = read_json(staged / "config.json")
    config = document.get("config", {}) if isinstance(document, dict) else {}
    if not isinstance(config, dict) or "strata" not in config:
        raise CausalFTError("config.json is not that of a fit run")
    unknown = [name for name in weights if name not in config["strata"]]
    if unknown:
        raise CausalFTError(f"--weights {unknown[0]}=...: the run's strata are {', '.join(config['strata'])}")
    if (staged / "zoo").is_dir():
        config["zoo"] = os.path.abspath(target / "zoo")
    # a file of the other machine is looked for by its name in the zoo, and its hash is checked when it is loaded
    config["weights"] = {name: os.path.abspath(os.path.expanduser(file)) for name, file in weights.items()}
    if data is not None:
        config["data"] = os.path.abspath(os.path.expanduser(data))
    write_json(staged / "config.json", document)


def _manifest(folder: Path) -> dict[str, dict[str, Any]]:
    if not (folder / MANIFEST).is_file():
        raise CausalFTError(f"{folder} is no run in hub layout (it has no {MANIFEST})")
    document = read_json(folder / MANIFEST)
    files = document.get("files") if isinstance(document, dict) else None
    if (
        not isinstance(files, dict)
        or document.get("format") != 1
        or not {"config.json", "metrics.json"} <= set(files)
    ):
        raise CausalFTError(f"{folder / MANIFEST} does not list the files of a run")
    for name, listed in files.items():
        parts = PurePosixPath(name).parts
        if PurePosixPath(name).is_absolute() or ".." in parts or "\\" in name or ":" in name.split("/")[0]:
            raise CausalFTError(
                f"{folder / MANIFEST} names {name!r}, which is outside the folder; it was not read"
            )
        if not isinstance(listed, dict):
            raise CausalFTError(f"{folder / MANIFEST} has no hash of {name!r}")
    return files


def _refuse_pickles(names: Iterable[str], place: str) -> None:
    found = sorted(name for name in names if PurePosixPath(name).suffix.lower() in _PICKLES)
    if found:
        raise CausalFTError(
            f"{place} holds a pickle ({found[0]}), which can run code when it is read; nothing was fetched"
        )


def _check_free(target: Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise CausalFTError(f"{target} is not an empty folder; choose another --to")
    check_place(target / MANIFEST)
