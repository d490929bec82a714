"""Names that no encoding can print: one reversible escape for files, tables, pages, terminals and messages."""

from __future__ import annotations

import codecs
import re
import sys
from collections.abc import Sequence, Sized
from typing import TextIO

__all__ = [
    "as_bytes",
    "escape_name",
    "first_few",
    "make_streams_printable",
    "one_line",
    "several",
    "short",
    "unescape_name",
]

#: The error handler that `make_streams_printable` gives a stream.
_HANDLER = "causalft.escape"

# Control characters, line and paragraph separators, and surrogates (bytes of a file name that are not UTF-8).
_UNPRINTABLE = r"\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"
_ESCAPE = r"\\x[0-9a-f]{2}|\\u[0-9a-f]{4}|\\U000[0-9a-f]{5}|\\U0010[0-9a-f]{4}"
_TO_ESCAPE = re.compile(rf"[{_UNPRINTABLE}]|\\(?=x[0-9a-f]{{2}}|u[0-9a-f]{{4}}|U00)")
_UNPRINTABLE_ONE = re.compile(f"[{_UNPRINTABLE}]")
_LINE_ENDS = re.compile(r"[ \t]*[\r\n]+[ \t]*")
_ESCAPED = re.compile(_ESCAPE)


def escape_name(name: str) -> str:
    r"""Return a name that every encoding of Unicode can write, on one line; ordinary names are returned unchanged.

    A byte that is not UTF-8 becomes ``\xff``, a control character ``\x0a``, any other character that cannot be written
    ``\u2028`` or ``\ud800``. A backslash in front of what would read like an escape becomes ``\x5c``, so that
    `unescape_name` gives back the very name.

    Examples
    --------
    >>> print(escape_name("caf\udce9/1.png"), escape_name("two\nlines"), escape_name("C:\\photos"))
    caf\xe9/1.png two\x0alines C:\photos
    """
    return name if _TO_ESCAPE.search(name) is None else _TO_ESCAPE.sub(_escaped, name)


def unescape_name(text: str) -> str:
    r"""Return the name that `escape_name` was given; text without an escape is returned unchanged.

    Examples
    --------
    >>> unescape_name("caf\\xe9/1.png") == "caf\udce9/1.png"
    True
    >>> unescape_name(escape_name("a\\x41")) == "a\\x41"
    True
    """
    return text if "\\" not in text else _ESCAPED.sub(_unescaped, text)


def one_line(text: str) -> str:
    r"""Return a message as one printable line: its lines joined, the other unprintable characters of names escaped.

    Examples
    --------
    >>> print(one_line("cannot read caf\udce9.png:\n  no image"))
    cannot read caf\xe9.png: no image
    """
    text = _LINE_ENDS.sub(" ", text.rstrip("\r\n"))
    return text if _UNPRINTABLE_ONE.search(text) is None else _UNPRINTABLE_ONE.sub(_escaped, text)


def short(name: object, width: int = 80) -> str:
    """Return a name for a message: printable, and cut in the middle if it is long.

    Examples
    --------
    >>> short("lynx"), short("a" * 1000, 11)
    ('lynx', 'aaaa...aaaa')
    """
    text = str(name)
    if len(text) > 4 * width:  # what is cut out need not be escaped first
        text = text[: 2 * width] + text[-2 * width :]
    text = escape_name(text)
    if len(text) <= width:
        return text
    half = (width - 3) // 2
    return f"{text[:half]}...{text[-half:]}"


def several(items: Sized, one: str, many: str) -> str:
    """Say how many.

    Examples
    --------
    >>> several(["a"], "file", "files"), several(["a", "b"], "file", "files")
    ('1 file', '2 files')
    """
    return f"{len(items)} {one if len(items) == 1 else many}"


def first_few(names: Sequence[str], n: int = 5) -> str:
    """The first names of a list that may be long, each short enough for a message.

    Examples
    --------
    >>> first_few(["a", "b", "c"], 2)
    'a, b, ...'
    """
    return ", ".join(map(short, names[:n])) + (", ..." if len(names) > n else "")


def as_bytes(name: str) -> bytes:
    """Return bytes to hash: UTF-8, and something distinct for names that have no UTF-8.

    Examples
    --------
    >>> as_bytes("lynx")
    b'lynx'
    """
    return name.encode("utf-8", "surrogatepass")


def make_streams_printable() -> None:
    """Let standard output and standard error escape what their encoding lacks instead of raising an error.

    A terminal under ``LC_ALL=C`` shows ``caf\\u00e9`` for ``café``.
    """
    codecs.register_error(_HANDLER, _encode_error)
    for stream in (sys.stdout, sys.stderr):
        _reconfigure(stream)


def _reconfigure(stream: TextIO | None) -> None:
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None and getattr(stream, "errors", None) != _HANDLER:
        reconfigure(errors=_HANDLER)


def _encode_error(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_character, error.object[error.start : error.end])), error.end


def _character(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _escaped(found: re.Match[str]) -> str:
    return _character(found[0])


def _unescaped(found: re.Match[str]) -> str:
    code = int(found[0][2:], 16)
    return chr(code + 0xDC00) if found[0][1] == "x" and code >= 0x80 else chr(code)
