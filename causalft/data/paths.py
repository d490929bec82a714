"""The one rule for paths in tables, lists and JSON: which file of a folder, zip or tar a written path means."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from causalft.data.containers import Container, existing
from causalft.errors import CausalFTError, first_few, unescape_name

__all__ = ["existing_path", "find_files", "typed_path"]

_NEEDLESS = re.compile(r"(?:(?<=/)|^)(?:\./)+|(?<=/)/+")


def typed_path(text: str) -> str:
    r"""Return a path as it is written, without what says nothing (``./``, ``//``).

    Examples
    --------
    >>> typed_path("./cat//1.png"), typed_path("/data/1.png")
    ('cat/1.png', '/data/1.png')
    """
    return _NEEDLESS.sub("", text) if "./" in text or "//" in text else text


def _readings(path: str) -> Iterator[str]:
    """What a path may mean beside itself, the likeliest first."""
    seen = {path}
    forms: list[Callable[[str], str]] = [
        lambda text: text,
        lambda text: typed_path(text.replace("\\", "/")),  # as Windows writes it
        unescape_name,
        lambda text: text.strip("\"'"),
        lambda text: unicodedata.normalize("NFC", text),
        lambda text: unicodedata.normalize("NFD", text),
    ]
    for form in forms:
        for reading in (
            form(path),
            form(path).lstrip("/"),
        ):  # a leading slash stands for the root, as in Places365
            if reading and reading not in seen:
                seen.add(reading)
                yield reading


def find_files(container: Container, paths: Sequence[str], where: str) -> list[str]:
    r"""Return the names in a container of the files that a table or list names.

    A path is relative to the container. Where nothing is there, it may be meant as Windows writes it
    (``cat\1.png``), with a slash in front (``/cat/1.png``), with the escapes of `causalft.errors`, or with its
    letters composed in another way.

    Parameters
    ----------
    container : Container
    paths : sequence of str
        As they are written.
    where : str
        The table or list, for messages.

    Returns
    -------
    list of str
        One a path, in order.

    Raises
    ------
    CausalFTError
        If files are missing: how many, and the first three.
    """
    names = [typed_path(path) for path in paths]
    missing = dict.fromkeys(container.missing(names))
    open_questions = {name: _readings(name) for name in missing}
    found: dict[str, str] = {}
    while open_questions:
        asked = {name: reading for name, rest in open_questions.items() if (reading := next(rest, None))}
        if not asked:
            break
        absent = set(container.missing(list(asked.values())))
        found.update((name, reading) for name, reading in asked.items() if reading not in absent)
        open_questions = {name: open_questions[name] for name in asked if name not in found}
    lost = [name for name in names if name in missing and name not in found]
    if lost:
        raise CausalFTError(
            f"{where} names {len(names):,} images and {len(lost):,} of them are missing under {container.location} "
            f"({first_few(lost, 3)}); give the folder, zip or tar that its paths start from (--root) or restore them"
        )
    return [found.get(name, name) for name in names] if found else names


def existing_path(path: str | os.PathLike[str]) -> Path:
    """Return the path that a person named: as it stands, or with its escapes undone.

    Raises
    ------
    CausalFTError
        As `causalft.data.containers.existing`.
    """
    text = os.fspath(path)
    plain = Path(text).expanduser()
    if "\\" in text and not os.path.lexists(plain):
        meant = Path(unescape_name(text)).expanduser()
        if os.path.lexists(meant):
            return existing(meant)
    return existing(path)
