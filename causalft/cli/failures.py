"""How a command fails: one line and an exit code, a traceback only with --debug."""

from __future__ import annotations

import errno
import io
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from causalft.cli.launched import follows, is_launched, said_by_another
from causalft.errors import CausalFTError, CausalFTWarning

__all__ = [
    "VERB",
    "failures_in_one_line",
    "full_output",
    "one_line",
    "open_standard_streams",
    "quiet_libraries",
    "shorten",
]

LONGEST = 1_000
"""Characters of an error line; a longer one loses its middle."""

# Something else is in the place of a file or folder.
_NO_PLACE = (
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.EROFS,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EXDEV,
    errno.ENOTEMPTY,
    errno.ENODEV,
    errno.EINVAL,
)

VERB = "causalft.verb"
"""Key of a context's ``meta``: the words of a nested command."""

# What gloo says where a peer has gone.
_GONE = re.compile(r"onnection (closed|reset|refused)|gloo.*peer", re.IGNORECASE)

# Verbs that resume when repeated.
_RESUME = (
    "experiment run",
    "fit",
    "generate",
    "predict",
    "verify-confounder",
    "weights fetch",
    "zoo pretrain",
    "zoo pretrain-diffusion",
)


def shorten(message: str) -> str:
    """Return a message as one line of bounded length.

    Examples
    --------
    >>> shorten("a name\\nwith a line feed")
    'a name with a line feed'
    >>> len(shorten("x" * 389_000)) == LONGEST
    True
    """
    line = re.sub(r"\s*[\x00-\x1f\x7f\x85\u2028\u2029]+\s*", " ", message).strip()
    if len(line) <= LONGEST:
        return line
    mark = " [...] "
    kept = LONGEST - len(mark)
    return line[: kept * 2 // 3] + mark + line[-(kept - kept * 2 // 3) :]


@contextmanager
def failures_in_one_line(context: click.Context) -> Iterator[None]:
    """Turn exceptions into one line on standard error and an exit code.

    2: the user can fix it. 130: interrupted. 1: a bug. With --debug the exception is raised.
    """
    debug = bool(context.params.get("debug"))
    try:
        with quiet_libraries(debug):
            yield
            if not debug:
                sys.stdout.flush()  # finds a full disk now
    except (click.exceptions.Exit, click.exceptions.NoArgsIsHelpError):
        raise
    except BrokenPipeError:
        raise  # the reader closed, as in `| head`: click exits quietly
    except click.UsageError as error:
        if debug:
            raise
        if (told := said_by_another(2)) is not None:
            context.exit(told)
        raise one_line(error) from None
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            raise
        message, code = _said_of(error, context)
        told = said_by_another(code)
        if told is None:
            _say(message)
        context.exit(code if told is None else told)


def _said_of(error: BaseException, context: click.Context) -> tuple[str, int]:
    """The line and the exit code of an exception."""
    if isinstance(error, CausalFTError):
        return error.on_command_line, 2
    if isinstance(error, click.ClickException):
        return error.format_message(), error.exit_code
    if isinstance(error, KeyboardInterrupt | click.Abort):
        resumed = _verb(context) in _RESUME
        return "interrupted" + ("; repeat the command to resume where it stopped" if resumed else ""), 130
    if _is_memory(error):
        return (
            "the memory does not suffice; use fewer or smaller images at a time (--batch-size), or a larger machine",
            2,
        )
    if is_launched() and isinstance(error, RuntimeError) and _GONE.search(str(error)):
        return (
            "another process of this launch has ended, killed or by an error; repeat the command to resume",
            2,
        )
    if isinstance(error, OSError):
        line = _said_of_system(error, _verb(context) in _RESUME)
        if line:
            return line, 2
    command = shorten(str(error)).rstrip(".")
    kind = type(error).__name__
    return (
        f"{kind}: {command}; this is a fault of causalft: `causalft --debug {_verb(context) or '...'} ...` shows where "
        "it came from, please report that",
        1,
    )


def _said_of_system(error: OSError, resumed: bool) -> str | None:
    """The line of a system error; None if it is not about a file."""
    place = error.filename2 or error.filename  # of a rename, its target
    if isinstance(place, bytes):
        place = os.fsdecode(place)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" while writing {place}" if place else ""
        resume = "repeat the command to resume" if resumed else "repeat the command"
        return f"the disk is full{where}; free some space and {resume}"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return f"too many open files{f' at {place}' if place else ''}; raise the limit (ulimit -n)"
    if place is None or isinstance(place, int):
        return None
    if isinstance(error, PermissionError):
        return f"{place}: permission denied; choose a place you can read and write"
    if error.errno in _NO_PLACE:
        return f"{place}: {error.strerror}; choose another place"
    if error.errno == errno.ENOENT:
        return f"{place}: no such file or folder (any more)"
    if error.errno == errno.EIO:
        return f"{place}: {error.strerror}; the disk or its connection has a fault"
    return None


def _is_memory(error: BaseException) -> bool:
    """Whether memory ran out; PyTorch says so only in the message."""
    words = str(error)
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and (
            "can't allocate memory" in words
            or "out of memory" in words
            or "Storage size calculation" in words
        )
    )


def _verb(context: click.Context) -> str:
    """The words of the command that ran, without its options."""
    words = [str(context.invoked_subcommand)] if context.invoked_subcommand else []
    return context.meta.get(VERB, " ".join(words))


def _say(message: str) -> None:
    try:
        sys.stdout.flush()
    except OSError:
        _give_up_standard_output()
    click.echo(f"causalft: error: {shorten(message)}", err=True)


def _give_up_standard_output() -> None:
    """Discard the buffer: the interpreter would fail again at exit."""
    with open(os.devnull, "wb") as nowhere:
        try:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        except (OSError, ValueError):
            return


class _Refused(click.ClickException):
    """A command line that click refuses."""

    exit_code = 2

    def show(self, file: Any = None) -> None:
        _say(self.message)


def one_line(error: click.UsageError) -> click.ClickException:
    """Shorten an error of click to one line, with the nearest choice or a pointer to the help."""
    from causalft.errors import nearest

    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return error  # shows the help
    message = " ".join(error.format_message().split()).removeprefix("Invalid value for ").rstrip(".")
    message = message[:1].lower() + message[1:]
    parameter = error.param if isinstance(error, click.BadParameter) else None
    typed = re.search(r"'([^']*)' is not one of ", message)
    if typed and parameter is not None and isinstance(parameter.type, click.Choice):
        close = nearest(typed[1], [str(choice) for choice in parameter.type.choices])
        message += f"; {close}" if close.startswith("did you") else ""
    elif "did you mean" not in message.lower() and error.ctx is not None:
        message += f"; see `{error.ctx.command_path} --help`"
    return _Refused(message)


def full_output(error: OSError) -> Exception:
    """The error for help that could not be printed."""
    return (
        error if isinstance(error, BrokenPipeError) else _Refused(_said_of_system(error, False) or str(error))
    )


_OWN = ("causalft", "synthetic", "experiments")
_PACKAGES = tuple(str(Path(__file__).resolve().parents[2] / name) + os.sep for name in _OWN)


@contextmanager
def quiet_libraries(debug: bool) -> Iterator[None]:
    """Hide warnings of libraries; print those of this project in one line each.

    With --debug or warning filters of the user (``python -W``, ``PYTHONWARNINGS``) everything is shown.
    """
    if debug or sys.warnoptions:
        yield
        return
    nothing = logging.NullHandler()  # without a handler, it would print to standard error
    logging.getLogger().addHandler(nothing)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_own
            yield
    finally:
        logging.getLogger().removeHandler(nothing)


def _show_own(message: Any, category: Any, filename: str, *_: Any, **__: Any) -> None:
    if follows():  # the first process says the same
        return
    if issubclass(category, CausalFTWarning) or filename.startswith(_PACKAGES):
        click.echo(f"causalft: warning: {shorten(str(message))}", err=True)


def open_standard_streams() -> None:
    """Reopen standard streams that were closed at start (``<&-``) as empty ones, and make any text printable.

    Otherwise the next file opened would take the number of the stream and receive what is printed.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            stream = open(number, "r" if name == "stdin" else "w", encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
    for out in (sys.stdout, sys.stderr):
        if isinstance(out, io.TextIOWrapper) and out.errors == "strict":
            out.reconfigure(errors="backslashreplace")  # for a name that the terminal cannot show
