"""The folder of a run: written atomically, resumable until complete, never mixed with another run."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import Any

from causalft.errors import CausalFTError, escape_name
from causalft.runs.documents import Document
from causalft.runs.locks import check_not_written

__all__ = [
    "CONFIG",
    "METRICS",
    "PAGE",
    "Run",
    "atomic_path",
    "check_place",
    "check_regular",
    "holds_results",
    "plain",
    "read_json",
    "refuse_run",
    "remove_for_good",
    "system_error",
    "write_bytes",
    "write_json",
    "write_text",
]


CONFIG, METRICS, PAGE = "config.json", "metrics.json", "report.html"
"""Files of a run: settings (written first), results (written last) and the page."""

_SURROGATE = re.compile("[\ud800-\udfff]")


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path that replaces ``path`` if the block succeeds.

    Readers see the old file or the complete new one, even after a crash or on a full disk.

    Raises
    ------
    CausalFTError
        As :func:`check_regular`.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> target = pathlib.Path(tempfile.mkdtemp()) / "a.txt"
    >>> with atomic_path(target) as temporary:
    ...     _ = temporary.write_text("whole")
    >>> target.read_text()
    'whole'
    """
    target = Path(path)
    check_regular(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.stem}.part-"
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=prefix, suffix=target.suffix)
    except OSError as error:  # name the target, not the temporary file
        raise OSError(error.errno, error.strerror, os.fspath(target)) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp creates private files; apply the umask of the user.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        check_regular(target)  # it may have changed since
        os.replace(temporary, target)
    except Exception as error:
        # Name the file on a full disk; safetensors hides the error number in its text.
        number = system_error(error)
        if number is None or getattr(error, "filename", None) is not None:
            raise
        raise OSError(number, os.strerror(number), os.fspath(target)) from error
    finally:
        temporary.unlink(missing_ok=True)


def system_error(error: BaseException) -> int | None:
    """Return the errno of a failed write, also of safetensors and PyTorch errors; None for other errors.

    Examples
    --------
    >>> import errno
    >>> system_error(RuntimeError("I/O error: No space left on device (os error 28)")) == errno.ENOSPC
    True
    >>> system_error(ValueError("x")) is None
    True
    """
    if isinstance(error, OSError):
        return error.errno
    words = str(error)
    found = re.search(r"\(os error (\d+)\)", words)
    if found:
        return int(found[1])
    full = "PytorchStreamWriter failed writing" in words or os.strerror(errno.ENOSPC) in words
    return errno.ENOSPC if full else None


def check_regular(path: str | os.PathLike[str], *, way_out: str = "choose another place") -> None:
    """Refuse a device, pipe, socket or link to an open file (``/dev/stdout``), which writing would replace.

    Raises
    ------
    CausalFTError
        Ends with ``way_out``. Folders, missing files and dangling links pass.

    Examples
    --------
    >>> check_regular("a/folder/to/be/made/table.csv")
    """
    leads = os.readlink(path) if os.path.islink(path) else ""
    special = os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)
    if special or re.search(r"(^|/)fd/\d+$", leads):
        raise CausalFTError(f"{os.fspath(path)} is no regular file; {way_out}")


def check_place(path: str | os.PathLike[str]) -> None:
    """Refuse a path that cannot be written, before anything is computed; create nothing.

    Raises
    ------
    CausalFTError
        If the path is a folder or not a regular file, lies below a file, or its folder is not writable.

    Examples
    --------
    >>> check_place("a/folder/to/be/made/table.csv")
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     check_place(f"{file.name}/table.csv")
    Traceback (most recent call last):
    causalft.errors.CausalFTError: ... is a file, not a folder; choose another place
    """
    target = Path(path)
    if target.is_dir():
        raise CausalFTError(f"{target} is a folder; name a file in it")
    check_regular(target)
    place = next(parent for parent in target.parents if os.path.lexists(parent))
    if not place.is_dir():
        what = "a link to nothing" if place.is_symlink() else "a file"
        raise CausalFTError(f"{place} is {what}, not a folder; choose another place")
    try:
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        reason = (error.strerror or str(error)).lower()
        raise CausalFTError(f"no file can be made in {place} ({reason}); choose another place") from error


def remove_for_good(path: str | os.PathLike[str]) -> None:
    """Remove a file that nobody writes any more, with temporary files that a killed writer left beside it."""
    target = Path(path)
    target.unlink(missing_ok=True)
    for left in target.parent.glob(f".{escape(target.stem)}.part-????????{escape(target.suffix)}"):
        left.unlink(missing_ok=True)


def _is_part(path: Path) -> bool:
    """Whether a file is a temporary file of :func:`atomic_path`."""
    return re.fullmatch(r"\..*\.part-[a-z0-9_]{8}(\.[^.]*)?", path.name) is not None and path.is_file()


def write_bytes(path: str | os.PathLike[str], data: bytes) -> Path:
    """Write ``data`` to ``path`` atomically and return the path."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
    return Path(path)


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write ``text`` to ``path`` as UTF-8, atomically, and return the path."""
    return write_bytes(path, text.encode("utf-8"))


def plain(value: Any) -> Any:
    """Convert NumPy scalars and arrays, paths and tuples to JSON types; NaN and infinities become null.

    Names of files that are not UTF-8 are escaped as `causalft.errors` does; every command reads these escapes.
    """
    if isinstance(value, dict):
        return {plain(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str) and not value.isascii() and _SURROGATE.search(value):
        return escape_name(value)
    return value


def to_json(obj: Any) -> str:
    """Return ``obj`` as strict JSON text (no NaN), two-space indented, ending in a newline."""
    return json.dumps(plain(obj), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: str | os.PathLike[str], obj: Any) -> Path:
    """Write ``obj`` as strict JSON to ``path``, atomically, and return the path."""
    return write_text(path, to_json(obj))


def read_json(path: str | os.PathLike[str], *, way_out: str = "make the run again") -> Any:
    """Read a JSON file; ``way_out`` says what to do about a damaged one.

    Raises
    ------
    CausalFTError
        If the file is missing or not valid JSON.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise CausalFTError(f"{path} is no regular file; a JSON document is needed there")
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise CausalFTError(f"{path}: no such file") from None
    except RecursionError:
        raise CausalFTError(f"{path}: not valid JSON (nested too deeply); {way_out}") from None
    except ValueError as error:  # includes invalid UTF-8 and numbers of thousands of digits
        raise CausalFTError(f"{path}: not valid JSON ({error}); {way_out}") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


class Run:
    """The folder of one run: ``config.json`` first, results as they come, ``metrics.json`` last.

    A folder without ``metrics.json`` is an interrupted run: creating a run of the same kind and configuration resumes
    it, any other is refused. A run that stopped before its first result may be replaced.

    Attributes
    ----------
    path : pathlib.Path
    kind : str
        The command that made it: ``"fit"``, ``"verify-confounder"``, ...
    config : dict
        Everything needed to repeat the run.
    """

    def __init__(self, path: Path, kind: str, config: Document) -> None:
        self.path, self.kind, self.config = path, kind, config

    def __repr__(self) -> str:
        state = "complete" if self.complete else "not complete"
        return f"Run({self.kind}, {str(self.path)!r}, {state})"

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        *,
        kind: str,
        config: Document,
        defaults: Mapping[str, Any] | None = None,
    ) -> Run:
        """Create a run folder, or resume the interrupted run of the same kind and configuration in it.

        Parameters
        ----------
        path : path
        kind : str
        config : dict
        defaults : mapping, optional
            Values of settings absent from older configurations, those of nested settings included.

        Raises
        ------
        CausalFTError
            If the folder holds a complete run, another run or other files, or cannot be written.
        """
        folder = Path(path)
        wanted = plain(config)
        found = _interrupted(folder)
        if found is not None and isinstance(found.get("config"), dict):
            found["config"] = _completed(found["config"], plain(dict(defaults or {})))
        same = found is not None and found["kind"] == kind and found.get("config") == wanted
        if found is not None and not same and holds_results(folder):
            raise _other_run(folder, found, _difference(found, wanted))
        check_place(folder / CONFIG)
        if not same:
            write_json(folder / CONFIG, {"kind": kind, "config": wanted})
        return cls(folder, kind, wanted)

    @classmethod
    def check(cls, path: str | os.PathLike[str], *, kind: str, option: str = "--out") -> None:
        """Refuse an occupied folder before the configuration is known; write nothing.

        ``option`` is the one that names the folder, for the message.

        Raises
        ------
        CausalFTError
            As :meth:`create`, except for differing configurations.
        """
        folder = Path(path)
        check_not_written(folder)
        found = _interrupted(folder, option)
        if found is not None and found["kind"] != kind and holds_results(folder):
            raise _other_run(folder, found, "", option)
        check_place(folder / CONFIG)

    @staticmethod
    def begun(path: str | os.PathLike[str]) -> Document:
        """The configuration of an interrupted run; empty for a free folder.

        Raises
        ------
        CausalFTError
            As :meth:`check`.
        """
        config = (_interrupted(Path(path)) or {}).get("config")
        return config if isinstance(config, dict) else {}

    @classmethod
    def open(cls, path: str | os.PathLike[str], kind: str | tuple[str, ...] | None = None) -> Run:
        """Open a complete run, optionally of a given kind or kinds.

        Raises
        ------
        CausalFTError
            If the folder is missing, not a run, of another kind, or interrupted.
        """
        folder = Path(path)
        if not folder.is_dir():
            raise CausalFTError(f"{folder}: no such run folder; name one that a command wrote with --out")
        description = folder / CONFIG
        found = read_json(description) if description.exists() else None
        if not isinstance(found, dict) or "kind" not in found:
            raise CausalFTError(f"{folder} is not a run folder (it has no config.json of a run)")
        kinds = (kind,) if isinstance(kind, str) else kind
        if kinds is not None and found["kind"] not in kinds:
            of, needed = _with_article(str(found["kind"])), _with_article(kinds[0])
            raise CausalFTError(f"{folder} is {of} run; {needed} run is needed")
        config = found.get("config")
        if not isinstance(found["kind"], str) or not isinstance(config, dict):
            raise CausalFTError(
                f"{description}: config is not an object; the file is damaged, or was changed by hand"
            )
        run = cls(folder, found["kind"], config)
        if not run.complete:
            check_not_written(folder, "wait until that has ended")
            command = _command_of(found["kind"], config)
            raise CausalFTError(f"{folder} is an interrupted {command} run; repeat its command to resume it")
        return run

    @property
    def complete(self) -> bool:
        """Whether ``metrics.json``, the last file of a run, exists."""
        return (self.path / METRICS).exists()

    def write_page(self, page: str) -> Path:
        """Write ``report.html`` and return its path."""
        return write_text(self.file(PAGE), page)

    @property
    def metrics(self) -> Document:
        """The content of ``metrics.json``."""
        found = read_json(self.path / METRICS)
        if not isinstance(found, dict):
            raise CausalFTError(f"{self.path / 'metrics.json'}: it holds no object; the file is damaged")
        return found

    def file(self, name: str) -> Path:
        """Return the path of a file of the run, creating its parent folders."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def has(self, name: str) -> bool:
        """Whether the file ``name`` exists in the run."""
        return (self.path / name).exists()

    def finish(self, metrics: Document) -> None:
        """Remove temporary files of killed writers, then write ``metrics.json``, which completes the run."""
        for left in [item for item in self.path.rglob(".*") if _is_part(item)]:
            left.unlink(missing_ok=True)
        write_json(self.path / METRICS, metrics)


def _completed(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> Document:
    """A configuration with the defaults of what it lacks."""
    found = {**defaults, **config}
    for name, value in defaults.items():
        if isinstance(value, Mapping) and isinstance(found[name], Mapping):
            found[name] = {**value, **found[name]}
    return found


def _interrupted(folder: Path, option: str = "--out") -> Document | None:
    """Return ``config.json`` of an interrupted run, or None for a free folder; refuse anything else."""
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise CausalFTError(f"{place} is a file, not a folder; choose another {option}")
    if (folder / CONFIG).exists():
        found = read_json(folder / CONFIG)
        if not isinstance(found, dict) or not isinstance(found.get("kind"), str):
            raise CausalFTError(f"{folder} holds files of something else; choose another {option}")
        if (folder / METRICS).exists():
            raise CausalFTError(
                f"{folder} already holds a complete {found['kind']} run; choose another {option} or remove it"
            )
        return found
    if folder.exists() and any(not item.name.startswith(".") for item in folder.iterdir()):
        raise CausalFTError(f"{folder} is not empty and is not a run; choose another {option}")
    return None


def _command_of(kind: str, config: Any) -> str:
    """What made a run: a student is a run of the kind ``fit``."""
    return "distill" if isinstance(config, dict) and config.get("distilled") else kind


def _other_run(folder: Path, found: Document, difference: str, option: str = "--out") -> CausalFTError:
    command = _command_of(found["kind"], found.get("config"))
    return CausalFTError(
        f"{folder} holds another interrupted {command} run{difference}; choose another {option}, or repeat its "
        "command to resume it"
    )


def holds_results(folder: Path) -> bool:
    """Whether a run has written anything besides ``config.json``, including checkpoints."""
    return any(item.is_file() and item.name != CONFIG and not _is_part(item) for item in folder.rglob("*"))


def _difference(found: Document, wanted: Document) -> str:
    """Name the first settings that differ."""
    config = found.get("config")
    if not isinstance(config, dict):
        return ""
    keys = list(_differing(config, wanted))
    return f" (it differs in {', '.join(keys[:3])})" if keys else ""


def _differing(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    """Names of settings that differ; of nested settings ``tuning.epochs``, for one."""
    for key in sorted(found.keys() | wanted.keys()):
        one, other = found.get(key), wanted.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            yield from (f"{key}.{inside}" for inside in _differing(one, other))
        elif one != other:
            yield key


#: Runs that are sets of images.
_OF_IMAGES = ("generate",)


def refuse_run(path: Path) -> None:
    """Refuse the folder of a run where images are expected: its figures are images too, and its folders no classes.

    Raises
    ------
    CausalFTError
        If ``config.json`` in the folder is that of a run, unless the run drew images.
    """
    try:
        found = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return  # none there, or something else's
    if not isinstance(found, dict) or not isinstance(found.get("kind"), str) or "config" not in found:
        return
    if found["kind"] in _OF_IMAGES:
        return
    data = found["config"].get("data") if isinstance(found["config"], dict) else None
    its = f"; its data are {data}" if isinstance(data, str) else ""
    raise CausalFTError(f"{path} is a run of causalft ({found['kind']}), not images{its}")


def _with_article(word: str) -> str:
    return f"{'an' if word.startswith(tuple('aeiou')) else 'a'} {word}"
