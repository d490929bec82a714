"""One writer at a time: every command locks its output file or folder before writing."""

from __future__ import annotations

import inspect
import json
import os
import shlex
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

from causalft.errors import CausalFTError
from causalft.runs.progress import phase

__all__ = ["check_not_written", "locked", "writing"]


F = TypeVar("F", bound=Callable[..., Any])

_LONGEST = 200  # characters of a command in a message


@contextmanager
def writing(output: str | os.PathLike[str] | None, wait: bool = False) -> Iterator[None]:
    """Hold the lock of an output while the block writes it; None and standard output (``-``) are not locked.

    This is a lock of the operating system on ``.NAME.lock`` beside the output, so a killed process leaves no lock.
    The file and the folders created for it are removed at the end. The lock is reentrant within a thread.

    Parameters
    ----------
    output : path, optional
        A file or folder; it need not exist.
    wait : bool
        Wait until another process or thread has released the lock.

    Raises
    ------
    CausalFTError
        At once, if another holds the lock and ``wait`` is false; names the process.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> with writing(folder / "run"):
    ...     print(sorted(path.name for path in folder.iterdir()))
    ['.run.lock', '.run.lock.json']
    >>> list(folder.iterdir())
    []
    """
    if output is None or os.fspath(output) == "-" or _is_ours(output):
        yield
        return
    from filelock import FileLock, Timeout  # 30 ms, which commands that only read are spared

    with ExitStack() as stack:
        place = _place(Path(output), stack)
        if place is None:  # not writable: the command reports why
            yield
            return
        lock = FileLock(place, thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not wait:
                raise CausalFTError(f"{output} is being written by {_owner(place)}; {_WAY_OUT}") from None
            with phase(f"{Path(output).name}: waiting for {_owner(place)}"):
                lock.acquire()
        except OSError:
            yield  # as above
            return
        key = os.path.realpath(output)
        try:
            _HELD[key] = threading.get_ident()
            with suppress(OSError):
                _note(place).write_text(json.dumps(_this_process()), encoding="utf-8")
            yield
        finally:
            _HELD.pop(key, None)
            for path in (_note(place), place):
                with suppress(OSError):
                    path.unlink(missing_ok=True)
            lock.release()


_WAY_OUT = "wait until that has ended, or choose another place"
_HELD: dict[str, int] = {}  # real path of an output -> the thread that writes it


def _is_ours(output: str | os.PathLike[str]) -> bool:
    return _HELD.get(os.path.realpath(output)) == threading.get_ident()


def locked(argument: str) -> Callable[[F], F]:
    """Decorate a function to hold the lock of the output that it receives as ``argument``."""

    def decorate(function: F) -> F:
        signature = inspect.signature(function)

        @wraps(function)
        def held(*args: Any, **options: Any) -> Any:
            with writing(signature.bind(*args, **options).arguments.get(argument)):
                return function(*args, **options)

        return cast(F, held)

    return decorate


def check_not_written(output: str | os.PathLike[str], way_out: str = _WAY_OUT) -> None:
    """Refuse an output that another process is writing.

    Raises
    ------
    CausalFTError
        Names the process.
    """
    if _is_ours(output):
        return
    for place in _places(Path(output)):
        if not place.exists():
            continue
        from filelock import FileLock, Timeout

        try:
            with FileLock(place, thread_local=False).acquire(timeout=0):
                pass
        except Timeout:
            raise CausalFTError(f"{output} is being written by {_owner(place)}; {way_out}") from None
        except OSError:
            continue


def _places(output: Path) -> tuple[Path, Path]:
    """Candidate lock files: beside the output, or inside a folder whose parent is not writable."""
    real = Path(os.path.realpath(output))
    return real.parent / f".{real.name}.lock", real / ".lock"


def _place(output: Path, stack: ExitStack) -> Path | None:
    """Return the lock file of an output, creating its folder; None where neither is writable."""
    beside, inside = _places(output)
    parent = beside.parent
    try:
        missing = [folder for folder in (parent, *parent.parents) if not folder.exists()]
        parent.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    stack.callback(_remove_empty, missing)
    if os.access(parent, os.W_OK) or beside.exists():
        return beside
    return inside if inside.parent.is_dir() and os.access(inside.parent, os.W_OK) else None


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:  # the innermost first
        try:
            folder.rmdir()
        except OSError:
            return


def _note(place: Path) -> Path:
    return place.with_name(place.name + ".json")


def _this_process() -> dict[str, Any]:
    program = Path(sys.argv[0]) if sys.argv else Path()
    name = program.parent.name if program.name == "__main__.py" else program.name  # of python -m
    words = [name or "python", *sys.argv[1:]]
    command = shlex.join(words)
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "command": command if len(command) <= _LONGEST else command[:_LONGEST] + " ...",
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _owner(place: Path) -> str:
    """Describe the process that holds a lock."""
    for _ in range(10):  # it may not have written its note yet
        try:
            found = json.loads(_note(place).read_text(encoding="utf-8"))
            there = "" if found["host"] == socket.gethostname() else f" on {found['host']}"
            return f"process {found['pid']}{there} (`{found['command']}`, since {found['since']})"
        except (OSError, ValueError, KeyError, TypeError):
            time.sleep(0.02)
    return "another process"
