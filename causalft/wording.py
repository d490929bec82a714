"""Messages name arguments in Python and options on the command line: one text, turned from the one into the other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["in_arguments", "on_command_line", "speaking_of_options"]

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
