"""Names of the files that a stratum has in the folder of a run, and what its tuned tensors are stored in."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from safetensors import SafetensorError, safe_open

from causalft.runs.folder import Run

__all__ = [
    "EXPORT_FORMATS",
    "PREDICTIONS",
    "STORED",
    "TUNED_FILES",
    "folder_name",
    "joined",
    "stored_precision",
    "tuned_files",
]

PREDICTIONS = "predictions.safetensors"
"""Logits and probabilities of a member, in its folder."""

TUNED_FILES = ("adapter.safetensors", "head.safetensors", "gla.safetensors")
"""What a run knows of a stratum beyond its backbone; the last is there with GLA-FT only."""

EXPORT_FORMATS = {"onnx": "model.onnx", "torch-export": "model.pt2", "single-file": "model.safetensors"}
"""Format to the file that an export is written to."""

STORED = "stored"
"""Key in the metadata of a tuned file: the half precision of its tensors."""


def folder_name(name: str) -> str:
    """Return the folder of a stratum under ``strata/``: its name, without what a path cannot hold.

    Examples
    --------
    >>> folder_name("clip@1"), folder_name("ViT-L-14/openai")
    ('clip@1', 'ViT-L-14_openai')
    """
    return re.sub(r"[^\w.@#-]+", "_", name)


def tuned_files(run: Run) -> list[Path]:
    """Return the tuned files of all strata of a run, whether they are there or not."""
    files = TUNED_FILES if run.config.get("gla") else TUNED_FILES[:2]
    return [run.path / "strata" / folder_name(name) / file for name in run.config["strata"] for file in files]


def stored_precision(run: Run) -> str | None:
    """Return the half precision in which the tuned tensors of a run are stored; None for float32."""
    return joined(_said(path) for path in tuned_files(run)) or None


def joined(kinds: Iterable[str]) -> str:
    """Return what several files are stored in; each kind is named once."""
    each = {one for of_file in kinds for one in of_file.split(" and ")}
    return " and ".join(sorted(each - {""}, reverse=True))


def _said(path: Path) -> str:
    """What the file says of itself; whoever reads its tensors says what is wrong with it."""
    try:
        with safe_open(path, framework="numpy") as file:
            return (file.metadata() or {}).get(STORED, "")
    except (OSError, SafetensorError):
        return ""
