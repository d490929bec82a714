"""The header of a safetensors file in one order: its library writes metadata in another one in every process."""

from __future__ import annotations

import json
import os

__all__ = ["sort_metadata", "sorted_metadata"]


def sorted_metadata(content: bytes) -> bytes:
    """Return a safetensors file with the keys of its metadata in order: equal tensors and metadata give equal bytes.

    Examples
    --------
    >>> from safetensors.numpy import load, save
    >>> import numpy as np
    >>> made = sorted_metadata(save({"x": np.ones(2)}, {"b": "2", "a": "1"}))
    >>> made[8:42].decode(), load(made)["x"].tolist()
    ('{"__metadata__":{"a":"1","b":"2"},', [1.0, 1.0])
    """
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    if "__metadata__" in header:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def sort_metadata(path: str | os.PathLike[str]) -> None:
    """Put the metadata of a file in order, in place; only the header is written where its length stays."""
    with open(path, "r+b") as file:
        size = file.read(8)
        header = file.read(int.from_bytes(size, "little"))
        made = sorted_metadata(size + header)
        if len(made) == len(size + header):
            file.seek(0)
            file.write(made)
            return
        rest = file.read()
        file.seek(0)
        file.write(made + rest)
        file.truncate()
