"""Push a run to a hub, pull and install one; errors of the client in one line."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from causalft.errors import CausalFTError
from causalft.methods.estimators.run_documents import open_fit
from causalft.models.weights.file import file_kind
from causalft.models.weights.store import quiet_hub
from causalft.pipelines.hub.layout import MANIFEST, check_safetensors, check_tuned_files, digest, write_layout
from causalft.runs.documents import check_shape
from causalft.runs.folder import Run, check_place, read_json, write_json
from causalft.runs.locks import writing

__all__ = ["PAGE", "hub_error", "install", "pull", "push"]


def push(
    files: Mapping[str, bytes | Path],
    repo: str,
    *,
    private: bool = False,
    update: bool = False,
    api: Any = None,
) -> str:
    """Create a repository and upload the files in one commit.

    Parameters
    ----------
    files : mapping
        From :func:`causalft.pipelines.hub.layout.layout`.
    repo : str
        OWNER/NAME.
    private : bool
        Make a new repository private.
    update : bool
        Add a commit to an existing repository.
    api : huggingface_hub.HfApi, optional

    Returns
    -------
    str
        URL of the commit.

    Raises
    ------
    CausalFTError
        For a bad name or token, no network, or an existing repository (without ``update``).
    """
    import huggingface_hub

    if repo.count("/") != 1 or not all(repo.split("/")):
        raise CausalFTError(f"{repo!r} is no name on the hub; give OWNER/NAME")
    if private and update:
        raise CausalFTError("--private is for a new repository; change an existing one on its page")
    hub = huggingface_hub.HfApi() if api is None else api
    with tempfile.TemporaryDirectory() as temporary:
        folder = write_layout(files, Path(temporary) / "run")
        try:
            hub.create_repo(repo, private=private, exist_ok=update, repo_type="model")
            found = hub.upload_folder(
                repo_id=repo,
                folder_path=folder,
                repo_type="model",
                commit_message="causalft: a fitted run",
                # files of an earlier run
                delete_patterns=["strata/*", "zoo/*", "figures/*"] if update else None,
            )
        except Exception as error:  # any error becomes one line
            raise hub_error(error, repo, "push") from error
    return str(getattr(found, "commit_url", found))


def hub_error(error: Exception, repo: str, doing: str) -> CausalFTError:
    """Return a one-line error for an exception of huggingface_hub; raise that of a full disk.

    Parameters
    ----------
    error : Exception
    repo : str
    doing : {"push", "pull"}
    """
    from huggingface_hub import errors

    if isinstance(error, CausalFTError):
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise error
    status = getattr(getattr(error, "response", None), "status_code", None)
    local = (
        "use --to-folder DIR and carry the folder" if doing == "push" else "fetch it on a connected machine"
    )
    if isinstance(error, errors.HFValidationError):
        message = f"{repo!r} is no name on the hub; give OWNER/NAME"
    elif isinstance(error, errors.OfflineModeIsEnabled):
        message = f"the hub is switched off here (HF_HUB_OFFLINE); unset it, or {local}"
    elif isinstance(error, errors.LocalTokenNotFoundError) or status == 401 and doing == "push":
        message = f"no valid token for {repo}: run `hf auth login`, or set HF_TOKEN"
    elif isinstance(error, errors.GatedRepoError):
        message = f"{repo} is gated: ask for access on its page, and run `hf auth login`"
    elif isinstance(error, errors.RevisionNotFoundError):
        message = f"{repo} has no such revision; leave --revision out for the newest"
    elif isinstance(error, errors.RepositoryNotFoundError) or status in (401, 404):
        message = f"no repository {repo} on the hub, or it is private: check the name, or run `hf auth login`"
    elif status == 403:
        message = f"the token may not {'write to' if doing == 'push' else 'read'} {repo}; make one that may"
    elif status == 409:
        message = f"{repo} exists already; pass --update to add a commit to it, or choose another name"
    elif status is not None:
        message = f"the hub refused to {doing} {repo} ({_first_line(error)})"
    else:
        message = f"the hub cannot be reached ({_first_line(error)}); try again later, or {local}"
    return CausalFTError(message)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:120] if lines else type(error).__name__


PAGE = "report.html"
"""The page of a run is sent but never installed: HTML from a hub is not trusted."""

_OF_A_RUN = (
    r"(config|metrics)\.json|report\.html",
    r"figures/[^/]+\.png",
    r"strata/[^/]+/(adapter|head|gla)\.safetensors",
    r"zoo/[^/]+\.(json|safetensors)",
)
_LARGEST = 200_000_000  # bytes of a document or figure

_PICKLES = {".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth"}
# first bytes of a pickle (protocols 2 to 5) and of a zip, as torch.save writes
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
    """Fetch a run from a hub, or from a folder in hub layout, into a run folder.

    Parameters
    ----------
    source : str
        An existing folder, or OWNER/NAME.
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
        If it cannot be fetched, holds pickles, or differs from its manifest.
    """
    _check_free(Path(to))
    if Path(source).is_dir():
        if revision is not None:
            raise CausalFTError("--revision goes with OWNER/NAME, not with a folder")
        return install(source, to, data=data, weights=weights)
    with writing(to):
        found = Path(_fetched(source, revision, api))
        # the hub's cache links files to its folder of blobs only
        within = found.parent.parent if found.parent.name == "snapshots" else found
        return _install(found, to, data, weights, within)


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
            allow_patterns=["*.json", "*.safetensors", "*.md", "*.png"],
        )
    except Exception as error:  # any error becomes one line
        raise hub_error(error, source, "pull") from error
    return str(found)


def install(
    source: str | os.PathLike[str],
    to: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | None = None,
    weights: Mapping[str, str] | None = None,
) -> Run:
    """Check a folder in hub layout and install it as a run, completely or not at all.

    Parameters
    ----------
    source : path
    to : path
        A new or empty folder.
    data : path, optional
        Local images of the run, so that ``evaluate`` finds its test split.
    weights : mapping of str to path, optional
        Local weights of strata of the pretrained zoo.

    Raises
    ------
    CausalFTError
        If a file is missing, changed, a pickle, or outside the folder.
    """
    with writing(to):
        return _install(Path(source), to, data, weights, Path(source))


def _install(
    folder: Path,
    to: str | os.PathLike[str],
    data: str | os.PathLike[str] | None,
    weights: Mapping[str, str] | None,
    within: Path,
) -> Run:
    target = Path(to)
    _check_free(target)
    files = _manifest(folder)
    _refuse_pickles((path.relative_to(folder).as_posix() for path in folder.rglob("*")), str(folder))
    for name, listed in files.items():
        _check_file(folder, name, within)
        if (folder / name).stat().st_size != listed["bytes"] or digest(folder / name) != listed["sha256"]:
            raise CausalFTError(
                f"{folder}: {name} is not the file of the manifest (its size or sha256 differs); fetch it again"
            )
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as temporary:
        staged = Path(temporary) / "run"
        for name in [*files, *(["README.md"] if _has_card(folder, within) else [])]:
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, staged / name)
        _settle(staged, target, data, weights or {})
        _check_staged(staged, target)
        if target.exists():
            target.rmdir()
        os.replace(staged, target)
    return open_fit(target)


def _settle(
    staged: Path, target: Path, data: str | os.PathLike[str] | None, weights: Mapping[str, str]
) -> None:
    """Adapt paths in the configuration: minis, weights, images."""
    document = read_json(staged / "config.json")
    config = document.get("config", {}) if isinstance(document, dict) else {}
    if not isinstance(config, dict) or "strata" not in config:
        raise CausalFTError("config.json is not that of a fit run")
    unknown = [name for name in weights if name not in config["strata"]]
    if unknown:
        raise CausalFTError(f"--weights {unknown[0]}=...: the run's strata are {', '.join(config['strata'])}")
    if (staged / "zoo").is_dir():
        config["zoo"] = os.path.abspath(target / "zoo")
    # files of the other machine are found by name in the zoo; loading checks their hash
    config["weights"] = {name: os.path.abspath(os.path.expanduser(file)) for name, file in weights.items()}
    if data is not None:
        config["data"] = os.path.abspath(os.path.expanduser(data))
    write_json(staged / "config.json", document)


def _check_file(folder: Path, name: str, within: Path) -> None:
    """Refuse a file that is missing, outside the folder, too large, or not what its extension says."""
    path = folder / name
    if not path.resolve().is_relative_to(within.resolve()):
        raise CausalFTError(f"{folder}: {name} is a link that leads out of the folder; it was not read")
    if not path.is_file():
        what = "no regular file" if path.exists() else "missing"
        raise CausalFTError(f"{folder}: {name} is {what}; fetch it again")
    size = path.stat().st_size
    if path.suffix != ".safetensors" and size > _LARGEST:
        raise CausalFTError(
            f"{folder}: {name} has {size / 1e6:,.0f} MB, more than any document of a run; it was not read"
        )
    with open(path, "rb") as file:
        start = file.read(8)
    if start.startswith(_PICKLED) or (path.suffix == ".safetensors" and file_kind(path) == "pickle"):
        raise CausalFTError(f"{folder}: {name} is a pickle in disguise; it was not read")
    if path.suffix == ".safetensors":
        check_safetensors(path)
    elif path.suffix == ".png" and start != b"\x89PNG\r\n\x1a\n":
        raise CausalFTError(f"{folder}: {name} is no PNG image; it was not read")
    elif path.suffix == ".json":
        read_json(path)


def _has_card(folder: Path, within: Path) -> bool:
    if not os.path.lexists(folder / "README.md"):
        return False
    _check_file(folder, "README.md", within)
    return True


def _check_staged(staged: Path, target: Path) -> None:
    """Refuse an incomplete run; messages name its final place."""
    try:
        run = open_fit(staged)
        check_tuned_files(run)
    except CausalFTError as error:
        raise CausalFTError(str(error).replace(os.fspath(staged), os.fspath(target))) from None


@dataclass(frozen=True)
class _Listed:
    sha256: str
    bytes: int


def _manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """Files of the manifest, without the page: HTML of others is not installed."""
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise CausalFTError(f"{folder} is no run in hub layout (it has no {MANIFEST})")
    document = read_json(manifest)
    files = document.get("files") if isinstance(document, dict) else None
    if (
        not isinstance(files, dict)
        or document.get("format") != 1
        or not {"config.json", "metrics.json"} <= set(files)
    ):
        raise CausalFTError(f"{manifest} does not list the files of a run")
    for name in files:
        path = PurePosixPath(name)
        if (
            path.is_absolute()
            or ".." in path.parts
            or any(sign in name for sign in "\\:\0")
            or str(path) != name
        ):
            raise CausalFTError(f"{manifest} names {name!r}, which is outside the folder; it was not read")
        if not any(re.fullmatch(pattern, name) for pattern in _OF_A_RUN):
            raise CausalFTError(f"{manifest} names {name!r}, which is no file of a run; it was not read")
    check_shape(files, dict[str, _Listed], manifest, at="files")
    return {name: listed for name, listed in files.items() if name != PAGE}


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
