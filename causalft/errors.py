"""The exception for a user's mistake, its wording in Python and on the command line, and names that print anywhere."""

from __future__ import annotations

import codecs
import difflib
import heapq
import re
import sys
from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from typing import TextIO

__all__ = [
    "CausalFTError",
    "CausalFTWarning",
    "as_bytes",
    "escape_name",
    "first_few",
    "in_arguments",
    "make_streams_printable",
    "nearest",
    "on_command_line",
    "one_line",
    "several",
    "short",
    "speaking_of_options",
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


_FLAGS = {
    "allow-large",
    "allow-pickle",
    "calibrate-strata",
    "drop-empty-classes",
    "gla",
    "half",
    "offline",
    "private",
    "tensorboard",
    "update",
}
_NAMES = {"out": "output", "data": "data"}

# What may follow an option as its value: placeholders, numbers, pairs, lists, and words that are values of options.
_VALUE = (
    r"[A-Z][A-Z/_]*(?:=[A-Z]+)?(?![a-z])|\w+=[\w./]+|\d[\w.]*|[a-z]+(?:,[a-z]+)+|mini|pretrained|cpu|cuda|auto|fp32|bf16|"
    r"fp16|onnx|torch-export|single-file|class-mean|linear-probe|zero-shot|cv|(?:seeds|on|off|all)(?=[,;.)]|$)|[\w./-]+\.[a-z]{2,11}\b"
)
_OPTION = re.compile(rf"(?<![\w'-])--(no-)?([a-z][a-z0-9-]*)(?:(?:\s+|=)({_VALUE})(?![\w=:]))?")
_TWICE = re.compile(r"\b(\w+) \(\1(\)|; )")  # the argument and its option, which are one word now
_in_use = 0


@contextmanager
def speaking_of_options() -> Iterator[None]:
    """Have every message name options, as long as a command runs."""
    global _in_use
    _in_use += 1
    try:
        yield
    finally:
        _in_use -= 1


def on_command_line() -> bool:
    """Whether a command runs."""
    return _in_use > 0


def in_arguments(message: str) -> str:
    """Return a message that names options in the words of Python; commands between backquotes stay.

    Examples
    --------
    >>> in_arguments("use --zoo pretrained, or see `causalft fit --help`")
    "use zoo='pretrained', or see `causalft fit --help`"
    >>> in_arguments("give smaller splits (--n-test, --n-validation), or pass --allow-pickle to read it")
    'give smaller splits (n_test, n_validation), or pass allow_pickle=True to read it'
    >>> in_arguments("give a file with --weights openclip=FILE.safetensors")
    "give a file with weights={'openclip': 'FILE.safetensors'}"
    >>> in_arguments("choose it with label_column (--label-column; it has a, b), and class_names (--class-names)")
    'choose it with label_column (it has a, b), and class_names'
    """
    if "--" not in message:
        return message
    parts = message.split("`")
    said = "`".join(part if number % 2 else _OPTION.sub(_argument, part) for number, part in enumerate(parts))
    return _TWICE.sub(lambda found: found[1] + {")": "", "; ": " ("}[found[2]], said)


def _argument(found: re.Match[str]) -> str:
    negated, option, value = found.groups()
    name = _NAMES.get(option, option.replace("-", "_"))
    if negated:
        return f"{name}=False"
    if value is None:
        return f"{name}=True" if option in _FLAGS else name
    key, pair, rest = value.partition("=")
    if pair:
        return f"{name}={{{key!r}: {rest!r}}}"
    if "," in value:
        return f"{name}={tuple(value.split(','))!r}"
    return f"{name}={value}" if value[0].isdigit() or value.isupper() else f"{name}={value!r}"


class CausalFTError(ValueError):
    r"""A mistake in what the user gave: its message says what was wrong, where, and what to do next.

    The command line prints the message and exits with code 2; Python callers can catch it as a ``ValueError``.
    Names in the message that no encoding can print are escaped (`causalft.errors`).

    Parameters
    ----------
    message : str
        In the words of Python, it names arguments; or of the command line, it names options, and is turned into the
        words of Python where no command runs (`causalft.errors`).
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


_COMPARED = 2000
"""Names that are compared at length; of more, those that share most pairs of letters."""


def _alike(name: str, names: list[str]) -> list[str]:
    """The names that may resemble one: all of a few, the best of very many."""
    if len(names) <= _COMPARED:
        return names
    wanted = {name[place : place + 2] for place in range(len(name) - 1)}
    shared = {each: sum(pair in each for pair in wanted) for each in names}
    chosen = set(heapq.nlargest(_COMPARED, names, key=shared.__getitem__))
    return [each for each in names if each in chosen]


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
    matches = difflib.get_close_matches(short(name), _alike(short(name), names), n=3, cutoff=0.5)
    if matches:
        return "did you mean " + " or ".join(repr(match) for match in matches) + "?"
    shown = ", ".join(names[:20]) + (f", ... ({len(names)} in all)" if len(names) > 20 else "")
    return f"known: {shown}"
