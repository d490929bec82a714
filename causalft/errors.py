"""The exception for a user's mistake, the warning, and the nearest-name hint that goes into many of its messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from causalft.printable import one_line, short
from causalft.wording import in_arguments, on_command_line

__all__ = ["CausalFTError", "CausalFTWarning", "nearest"]


class CausalFTError(ValueError):
    r"""A mistake in what the user gave: its message says what was wrong, where, and what to do next.

    The command line prints the message and exits with code 2; Python callers can catch it as a ``ValueError``.
    Names in the message that no encoding can print are escaped (`causalft.printable`).

    Parameters
    ----------
    message : str
        In the words of Python, it names arguments; or of the command line, it names options, and is turned into the
        words of Python where no command runs (`causalft.wording`).
    on_command_line : str, optional
        The same in the words of the command line, where they differ in more than the names.

    Examples
    --------
    >>> print(CausalFTError("cannot read caf\udce9.png"))
    cannot read caf\xe9.png
    >>> print(CausalFTError("use --zoo mini"))
    use zoo='mini'
    """

    def __init__(self, message: str = "", *, on_command_line: str | None = None) -> None:
        super().__init__(one_line(in_arguments(message)))
        self.on_command_line = one_line(message if on_command_line is None else on_command_line)

    def __str__(self) -> str:
        return self.on_command_line if on_command_line() else super().__str__()


class CausalFTWarning(UserWarning):
    """Something that the user should know of a result that is given all the same.

    The command line prints it as one line on standard error.
    """


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint that offers the known names closest to ``name``.

    Examples
    --------
    >>> nearest("openclp", ["clip", "openclip", "metaclip"])
    "did you mean 'openclip' or 'clip' or 'metaclip'?"
    >>> nearest("zebra", ["a", "b"])
    'known: a, b'
    """
    names = sorted({short(each) for each in known})
    matches = difflib.get_close_matches(short(name), names, n=3, cutoff=0.5)
    if matches:
        return "did you mean " + " or ".join(repr(match) for match in matches) + "?"
    shown = ", ".join(names[:20]) + (f", ... ({len(names)} in all)" if len(names) > 20 else "")
    return f"known: {shown}"
