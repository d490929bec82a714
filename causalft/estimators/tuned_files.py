"""Whether the tuned files of a run are what its documents say, without PyTorch and without loading a backbone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from causalft.errors import CausalFTError
from causalft.methods.estimators.run_documents import folder_name, tuned_files
from causalft.models.weights.file import file_kind
from causalft.runs.files import sha256_file
from causalft.runs.folder import Run

__all__ = ["check_safetensors", "check_tuned_files"]

_FLOATS = ("F64", "F32", "F16", "BF16")


def check_tuned_files(run: Run) -> None:
    """Open every tuned file of a complete ``fit`` run, and the minis behind it if its zoo is a folder.

    Raises
    ------
    CausalFTError
        If a file is missing, cut off, a pickle or anything else that is no safetensors file, holds a number that is not
        finite, is of other classes or another backbone than the metrics say.
    """
    metrics = run.metrics
    n_classes = len(metrics["classes"])
    for name in run.config["strata"]:
        folder = run.path / "strata" / folder_name(name)
        for path in tuned_files(run):
            if path.parent == folder:
                shapes, about = check_safetensors(path)
                if path.name == "head.safetensors" and shapes.get("weight", (None,))[0] != n_classes:
                    raise CausalFTError(f"{path}: the head is not one of {n_classes} classes; {_AGAIN}")
                if path.name == "adapter.safetensors" and about.get("backbone") != metrics["weights"][name]:
                    raise CausalFTError(
                        f"{path} belongs to another backbone than metrics.json says; {_AGAIN}"
                    )
        own = Path(run.config["zoo"]) / f"{name}.safetensors"
        if own.is_absolute() and own.is_file():
            check_safetensors(own)
            if sha256_file(own) != metrics["weights"][name]:
                raise CausalFTError(
                    f"{own} is not the mini that the run was fitted with (its sha256 differs)"
                )


_AGAIN = "fit it again"


def check_safetensors(path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Return shapes and metadata of a safetensors file that is whole and holds finite numbers.

    Raises
    ------
    CausalFTError
        Names the file and what it is instead.
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
