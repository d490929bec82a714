"""How a tuner is written: ``adaptformer``, ``lora+bias``, ``adaptformer@last-4``, ``last-2``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from causalft.errors import CausalFTError, nearest

__all__ = ["ALONE", "Choice", "parse_tuner"]

ALONE = ("zero-shot", "linear-probe", "full")
"""Tuners that leave nothing to add: they train nothing of the tower, or all of it."""


@dataclass(frozen=True)
class Choice:
    """One tuner of a spec, and the last blocks that it is confined to (None: the whole tower)."""

    name: str
    last: int | None = None

    def __str__(self) -> str:
        if self.name == "last-K":
            return f"last-{self.last}"
        return self.name if self.last is None else f"{self.name}@last-{self.last}"


def parse_tuner(spec: str, known: Iterable[str]) -> tuple[Choice, ...]:
    """Read ``NAME[@last-K][+NAME[@last-K]...]``, in the order of ``known``.

    Parameters
    ----------
    spec : str
        ``@last-K`` confines a tuner to the last K blocks. ``last-K`` alone is a tuner of its own: those blocks whole.
    known : iterable of str
        The names; ``last-K`` stands for all its numbers.

    Returns
    -------
    tuple of Choice

    Raises
    ------
    CausalFTError
        For an unknown name, a name given twice, a malformed ``@last-K``, or tuners that exclude each other.

    Examples
    --------
    >>> [str(choice) for choice in parse_tuner("bias+lora@last-4", ["lora", "bias"])]
    ['lora@last-4', 'bias']
    """
    order = list(known)
    choices = [_choice(part.strip(), spec, order) for part in spec.lower().split("+")]
    names = [choice.name for choice in choices]
    for name in names:
        if names.count(name) > 1:
            raise CausalFTError(f"tuner {spec!r} names {name!r} twice; give it once")
        if name in ALONE and len(names) > 1:
            what = "trains the whole tower already" if name == "full" else "leaves the tower frozen"
            raise CausalFTError(f"tuner {spec!r}: {name} {what}; give it alone")
    if {"vpt-shallow", "vpt-deep"} <= set(names):
        raise CausalFTError(f"tuner {spec!r}: deep prompts include the shallow ones; choose one of them")
    return tuple(sorted(choices, key=lambda choice: order.index(choice.name)))


def _choice(part: str, spec: str, known: list[str]) -> Choice:
    alone = re.fullmatch(r"last-([1-9]\d*)", part)
    if alone and "last-K" in known:
        return Choice("last-K", int(alone[1]))
    name, at, place = part.partition("@")
    if name not in known or name == "last-K":
        raise CausalFTError(
            f"unknown tuner {name!r}{'' if name == spec else f' in {spec!r}'}: {nearest(name, known)}"
        )
    if not at:
        return Choice(name)
    confined = re.fullmatch(r"last-([1-9]\d*)", place)
    if not confined:
        raise CausalFTError(
            f"tuner {part!r}: after '@' stands last-K, the last K blocks (such as {name}@last-4)"
        )
    if name in ALONE:
        instead = f"; write last-{confined[1]}" if name == "full" else ""
        raise CausalFTError(f"tuner {part!r}: {name} cannot be confined to some blocks{instead}")
    return Choice(name, int(confined[1]))
