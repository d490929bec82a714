"""What a file of weights is, told from its first bytes: safetensors, a pickle, or a TorchScript program."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

__all__ = ["file_kind", "is_pickle"]

_LARGEST_HEADER = 1 << 27  # bytes; safetensors itself refuses larger ones


def file_kind(path: str | os.PathLike[str]) -> str:
    """Return what a file is by its content, whatever it is called.

    Returns
    -------
    str
        ``safetensors``, ``pickle`` (what ``torch.save`` writes), ``torchscript`` (a program with its weights),
        ``git lfs pointer``, ``web page``, ``empty`` or ``unknown``.
    """
    with open(path, "rb") as file:
        head = file.read(64)
    if not head:
        return "empty"
    if head.startswith(b"version https://git-lfs"):
        return "git lfs pointer"
    if head.lstrip()[:1] == b"<":
        return "web page"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _LARGEST_HEADER:
        return "safetensors"
    if head.startswith(b"PK"):
        try:
            with zipfile.ZipFile(path) as archive:
                inside = archive.namelist()
        except zipfile.BadZipFile:
            return "unknown"
        if any(name.endswith("/constants.pkl") or "/code/" in name for name in inside):
            return "torchscript"
        return "pickle" if any(name.endswith("/data.pkl") for name in inside) else "unknown"
    return "pickle" if head.startswith(b"\x80") else "unknown"


def is_pickle(path: Path) -> bool:
    """Whether a file is read only with ``--allow-pickle``, or not at all."""
    return file_kind(path) in ("pickle", "torchscript")
