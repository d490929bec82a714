"""Files of a run on a hub: documents without local paths, tuned tensors, a card, and hashes."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from causalft.errors import CausalFTError
from causalft.methods.adaptation.settings import ADAPTER, GLA, HEAD, TUNED_FILES
from causalft.methods.estimators.run_documents import (
    PREDICTIONS,
    portable,
    stratum_folder,
    tuned_files,
)
from causalft.models.strata.cards import ResizedName
from causalft.models.weights.file import file_kind
from causalft.report.html import without_images
from causalft.runs.files import sha256_file
from causalft.runs.folder import Run, read_json, to_json, write_bytes
from causalft.runs.locks import locked

__all__ = [
    "ADAPTER_BYTES",
    "MANIFEST",
    "check_safetensors",
    "check_tuned_files",
    "digest",
    "layout",
    "write_layout",
]


_FLOATS = ("F64", "F32", "F16", "BF16")


def check_tuned_files(run: Run) -> None:
    """Check every tuned file of a complete ``fit`` run, and its minis if its zoo is a folder.

    Raises
    ------
    CausalFTError
        If a file is missing, truncated, not safetensors, holds non-finite numbers, or does not match the metrics.
    """
    metrics = run.metrics
    n_classes = len(metrics["classes"])
    for name in run.config["strata"]:
        folder = stratum_folder(run.path, name)
        for path in tuned_files(run):
            if path.parent == folder:
                shapes, about = check_safetensors(path)
                if path.name == HEAD and shapes.get("weight", (None,))[0] != n_classes:
                    raise CausalFTError(f"{path}: the head is not one of {n_classes} classes; {_AGAIN}")
                if path.name == ADAPTER and about.get("backbone") != metrics["weights"][name]:
                    raise CausalFTError(
                        f"{path} belongs to another backbone than metrics.json says; {_AGAIN}"
                    )
        resized = ResizedName.parse(name)
        own = Path(run.config["zoo"]) / f"{resized.whole}.safetensors"
        if own.is_absolute() and own.is_file():
            check_safetensors(own)
            if resized.sha256(sha256_file(own)) != metrics["weights"][name]:
                raise CausalFTError(
                    f"{own} is not the mini that the run was fitted with (its sha256 differs)"
                )


_AGAIN = "fit it again"


def check_safetensors(path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Return shapes and metadata of an intact safetensors file with finite numbers.

    Raises
    ------
    CausalFTError
        Names the file and the problem.
    """
    if not path.is_file():
        raise CausalFTError(f"{path} is {'no regular file' if path.exists() else 'missing'}; {_AGAIN}")
    kind = file_kind(path)
    if kind != "safetensors":
        named = {"unknown": "no safetensors file", "pickle": "a pickle in disguise", "empty": "empty"}
        what = named.get(kind, f"a {kind}")
        raise CausalFTError(f"{path} is {what}; it was not read: {_AGAIN}")
    shapes: dict[str, tuple[int, ...]] = {}
    try:
        with safe_open(path, framework="np") as file:
            for key in file.keys():  # noqa: SIM118 - safe_open is no mapping
                part = file.get_slice(key)
                shapes[key] = tuple(part.get_shape())
                if part.get_dtype() in _FLOATS[:3] and not np.isfinite(file.get_tensor(key)).all():
                    raise CausalFTError(f"{path}: {key} holds a number that is not finite; {_AGAIN}")
            return shapes, dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise CausalFTError(f"{path} is damaged or cut short ({error}); {_AGAIN}") from error


MANIFEST = "manifest.json"
"""File with the SHA-256 and size of every other file but the card, which may be edited."""

ADAPTER_BYTES = 10_000_000
"""Limit per stratum, without files that grow with the classes."""

# one or two vectors per class
_BY_CLASS = (HEAD, GLA)

# path of the run in the command on its page; quotes are escaped in HTML
_OUT = re.compile(r"--out (?:&#39;.*?&#39;|[^\s<\"]+)")

# not shared: predictions name the user's images
_NOT_SHARED = {PREDICTIONS}


def layout(
    run: Run, card: str, *, allow_large: bool = False, halved: Mapping[Path, bytes] | None = None
) -> dict[str, bytes | Path]:
    """Return the files of a run on a hub: name -> content, or local file.

    ``README.md`` (the card), ``config.json``, ``metrics.json``, ``report.html``, ``figures/``, tuned files in
    ``strata/NAME/``, the minis in ``zoo/`` if the zoo is a folder, and ``manifest.json``.

    Parameters
    ----------
    run : Run
        A complete ``fit`` run.
    card : str
        Markdown.
    allow_large : bool
        Accept more than 10 MB per stratum, as after full fine-tuning.
    halved : mapping of path in the run to content, optional
        Tuned files in half precision (:func:`causalft.pipelines.hub.half_files`).

    Raises
    ------
    CausalFTError
        As :func:`check_tuned_files`, or if a stratum is larger than 10 MB.
    """
    check_tuned_files(run)
    config, half = run.config, halved or {}
    files: dict[str, bytes | Path] = {}
    for name in ("config.json", "metrics.json", "report.html"):
        if run.has(name):
            text = portable((run.path / name).read_text(encoding="utf-8"), config)
            text = without_images(text) if name == "report.html" else text
            files[name] = _OUT.sub("--out RUN", text).encode("utf-8")
    for figure in sorted((run.path / "figures").glob("*.png")):
        files[f"figures/{figure.name}"] = figure
    for name in config["strata"]:
        folder = stratum_folder(run.path, name)
        kept = [path for path in sorted(folder.glob("*")) if path.name in TUNED_FILES]
        if not kept:
            raise CausalFTError(f"{folder} holds no tuned stratum; fit it again")
        stored: dict[str, bytes | Path] = {path.name: half.get(path, path) for path in kept}
        n_bytes = sum(_size(content) for file, content in stored.items() if file not in _BY_CLASS)
        if n_bytes > ADAPTER_BYTES and not allow_large:
            raise CausalFTError(
                f"what was tuned of {name!r} is {n_bytes / 1e6:.1f} MB{' in half precision' if half else ''}, above "
                f"10 MB: {'' if half else _if_halved(kept)}fit it with a smaller tuner or bottleneck, or pass "
                "--allow-large"
            )
        files |= {f"strata/{folder.name}/{file}": content for file, content in stored.items()}
    files |= _own_zoo(config)
    listed = {
        name: {"sha256": digest(content), "bytes": _size(content)} for name, content in sorted(files.items())
    }
    files["README.md"] = card.encode("utf-8")
    files[MANIFEST] = to_json({"format": 1, "kind": run.kind, "files": listed}).encode("utf-8")
    return files


def _if_halved(kept: list[Path]) -> str:
    """Suggest half precision, if it is small enough."""
    from causalft.pipelines.hub.half import half_file  # PyTorch, not needed for a run of usual size

    try:
        n_bytes = sum(len(half_file(path)) for path in kept if path.name == ADAPTER)
    except CausalFTError:
        return ""
    n_bytes += sum(path.stat().st_size for path in kept if path.name not in TUNED_FILES)
    return f"pass --half ({n_bytes / 1e6:.1f} MB), " if n_bytes <= ADAPTER_BYTES else ""


def _own_zoo(config: Mapping[str, Any]) -> dict[str, bytes | Path]:
    """Files of the minis of a run whose zoo is a folder; named zoos are found by name."""
    zoo = Path(config["zoo"])
    if not zoo.is_absolute():
        return {}
    found: dict[str, bytes | Path] = {}
    for name in [ResizedName.parse(name).whole for name in config["strata"]]:
        card, weights = zoo / f"{name}.json", zoo / f"{name}.safetensors"
        if not weights.exists():
            raise CausalFTError(
                f"{weights} is not there; a run of your own minis is shared together with them"
            )
        found[f"zoo/{name}.json"] = portable(to_json(read_json(card)), config).encode("utf-8")
        found[f"zoo/{name}.safetensors"] = weights
    return found


@locked("folder")
def write_layout(files: Mapping[str, bytes | Path], folder: str | os.PathLike[str]) -> Path:
    """Write files into a new or empty folder, the manifest last; return the folder.

    Raises
    ------
    CausalFTError
        If the folder is not empty.
    """
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise CausalFTError(f"{target} is not an empty folder; choose another")
    for name in sorted(files, key=lambda name: name == MANIFEST):
        content = files[name]
        write_bytes(target / name, content if isinstance(content, bytes) else content.read_bytes())
    return target


def digest(content: bytes | Path) -> str:
    """SHA-256 as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else sha256_file(content)


def _size(content: bytes | Path) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size
