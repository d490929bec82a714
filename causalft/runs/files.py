"""Reading files that a user names; hashes, reproducible safetensors files, and the cache folder."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from causalft.errors import CausalFTError, nearest, short

__all__ = [
    "cache_folder",
    "decode_text",
    "existing",
    "is_regular",
    "parse_json",
    "read_bytes",
    "read_piece",
    "read_text",
    "require_regular",
    "sha256_file",
    "sort_metadata",
    "sorted_metadata",
]


_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def is_regular(path: str | os.PathLike[str]) -> bool:
    """Whether a path is, or links to, a regular file.

    Examples
    --------
    >>> is_regular("/dev/null")
    False
    """
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def require_regular(path: str | os.PathLike[str]) -> os.stat_result:
    """Refuse what is not a regular file, without opening it (a pipe would block).

    Raises
    ------
    CausalFTError
        Names the path and what it is.

    Examples
    --------
    >>> require_regular("/dev/null")
    Traceback (most recent call last):
    causalft.errors.CausalFTError: /dev/null is a device, not a regular file; give a file
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        raise CausalFTError(f"cannot read {short(path, 300)}: {_reason(error)}") from None
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise CausalFTError(f"{short(path, 300)} is {kind}, not a regular file; give a file")
    return status


def existing(path: str | os.PathLike[str]) -> Path:
    """Return the path of an existing file or folder.

    Raises
    ------
    CausalFTError
        If the path is empty, missing (the nearest names are offered), or neither a folder nor a regular file.
    """
    if not os.fspath(path):
        raise CausalFTError("an empty path names nothing; give a file or folder")
    wanted = Path(path).expanduser()
    if os.path.lexists(wanted):
        if not os.path.isdir(wanted):
            require_regular(wanted)
        return wanted
    parent = wanted
    missing = wanted.name
    while not os.path.exists(parent) and parent != parent.parent:
        parent, missing = parent.parent, parent.name
    try:
        known = [entry.name for entry in parent.iterdir() if not entry.name.startswith(".")]
    except OSError:
        known = []
    hint = nearest(missing, known) if known else "known: nothing"
    there = f"in {parent}, {hint}" if hint.startswith("did you") else f"{parent} holds {hint[7:]}"
    raise CausalFTError(f"{short(wanted, 300)}: no such file or folder; {there}")


def read_bytes(path: str | os.PathLike[str], limit: int | None = None) -> bytes:
    """Read a regular file.

    Parameters
    ----------
    path : path
    limit : int, optional
        Refuse more bytes than this.

    Raises
    ------
    CausalFTError
        If it is missing, is not a regular file, is larger than the limit or cannot be read.
    """
    size = require_regular(path).st_size
    if limit is not None and size > limit:
        raise CausalFTError(f"cannot read {short(path, 300)}: it has {size:,} bytes; remove it")
    try:
        # do not block if a pipe has replaced the file since
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with open(handle, "rb") as file:
            return file.read() if limit is None else file.read(limit)
    except OSError as error:
        raise CausalFTError(f"cannot read {short(path, 300)}: {_reason(error)}") from None


def read_piece(path: str | os.PathLike[str], start: int, length: int) -> bytes:
    """Read part of a regular file; less where it ends earlier.

    Raises
    ------
    CausalFTError
        If it cannot be read.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            file.seek(start)
            return file.read(length)
    except OSError as error:
        raise CausalFTError(f"cannot read {short(path, 300)}: {_reason(error)}") from None


def read_text(path: str | os.PathLike[str], *, any_bytes: bool = False) -> str:
    """Read a regular file as text (`decode_text`).

    Raises
    ------
    CausalFTError
        As `read_bytes` and `decode_text`.
    """
    return decode_text(read_bytes(path), short(path, 300), any_bytes=any_bytes)


def decode_text(data: bytes, where: str, *, any_bytes: bool = False) -> str:
    """Decode UTF-8, with or without a byte order mark, or UTF-16 with one.

    Parameters
    ----------
    data : bytes
    where : str
        Name of the text in errors.
    any_bytes : bool
        Keep invalid bytes as surrogate escapes, as Python does in file names.

    Raises
    ------
    CausalFTError
        If the bytes are neither.

    Examples
    --------
    >>> decode_text(b"\\xef\\xbb\\xbfa,b", "t.csv"), decode_text("a,b".encode("utf-16"), "t.csv")
    ('a,b', 'a,b')
    """
    try:
        if data[:2] in _UTF16:
            return data.decode("utf-16")
        return data.decode("utf-8-sig", "surrogateescape" if any_bytes else "strict")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CausalFTError(
            f"{where} is not text in UTF-8 (line {line}); save it as UTF-8, and write a file name that is not UTF-8 "
            r"with escapes, as in caf\xe9.png"
        ) from None


def parse_json(text: str | bytes, where: str, way_out: str = "get it again") -> Any:
    """Parse JSON, refusing duplicate keys.

    Raises
    ------
    CausalFTError
        If it is not valid JSON, nested too deeply, or has a key with two values.

    Examples
    --------
    >>> parse_json('{"a": 1}', "a.json")
    {'a': 1}
    >>> parse_json("[" * 100_000, "a.json")
    Traceback (most recent call last):
    causalft.errors.CausalFTError: a.json is nested too deeply; get it again
    """

    def once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found and found[key] != value:
                raise CausalFTError(f"{where} has the key '{short(key)}' twice in one object; keep one")
            found[key] = value
        return found

    try:
        return json.loads(text, object_pairs_hook=once)
    except CausalFTError:
        raise
    except RecursionError:
        raise CausalFTError(f"{where} is nested too deeply; {way_out}") from None
    except ValueError as error:  # includes invalid UTF-8 and numbers of thousands of digits
        reason = str(error).split(";")[0][:120]
        raise CausalFTError(f"{where} is not valid JSON ({reason}); {way_out}") from None


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        if error.errno == errno.ELOOP:
            return "it is a link that leads back to itself"
        return error.strerror or str(error)
    return str(error)


def sorted_metadata(content: bytes) -> bytes:
    """Return a safetensors file with sorted metadata, so that equal content gives equal bytes.

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
    """Sort the metadata of a safetensors file in place; only the header is rewritten where its length stays."""
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


def sha256_file(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder(name: str, variable: str) -> Path:
    """Return the folder named by an environment variable, or ``causalft/NAME`` in the user's cache folder.

    Parameters
    ----------
    name : str
        Folder below ``$XDG_CACHE_HOME`` (default ``~/.cache``).
    variable : str
        Environment variable; empty counts as unset.

    Examples
    --------
    >>> os.environ["MY_WEIGHTS"] = "/data/weights"
    >>> cache_folder("weights", "MY_WEIGHTS").as_posix()
    '/data/weights'
    >>> del os.environ["MY_WEIGHTS"]
    >>> cache_folder("weights", "MY_WEIGHTS").parts[-2:]
    ('causalft', 'weights')
    """
    if chosen := os.environ.get(variable):
        return Path(chosen).expanduser()
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(caches).expanduser() / "causalft" / name
