"""The built-in A/B designs, and the way to each: by its name, or by the file of a user's own."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from causalft.errors import CausalFTError, nearest
from causalft.scm.mechanisms import DiscreteSCM
from synthetic import laws
from synthetic.design import SETS as SETS
from synthetic.design import Design as Design
from synthetic.design import Rows as Rows
from synthetic.design import check_classes
from synthetic.objects import CLASSES, PARTS
from synthetic.own_design import read_design

__all__ = ["DESIGNS", "make_design"]

DESIGNS = {
    "paper": "B has the same majority factor in every class: C shifts between A and B, but C and Y are "
    "independent in both",
    "confounded": "C has an arrow into the label: which part is in view also says how doubtful objects are labelled "
    "in B; in A it does not",
    "selection": "C and Y are independent causes of what is kept: in B they depend on each other through sampling only",
    "null": "the factor follows the object in B, but the pictures do not depend on it",
    "label-noise": "C is visible but independent of the label; B has more wrong labels than A",
}
"""Name of each design and what it is."""

AMBIGUITY, SLIP, MISREAD, FLIP = 0.2, 0.05, 0.05, 0.25
"""Shares of look-alikes, of pictures that show the other part, of misread contents, and of wrong labels in B of
``label-noise``; see `synthetic.laws.visible`."""


def make_design(
    name: str | os.PathLike[str],
    classes: Sequence[str] | None = None,
    ratio: float | None = None,
    *,
    strength: float | None = None,
    parts: Mapping[str, tuple[str, str]] | None = None,
) -> Design:
    """Make one of the `DESIGNS`, or read a user's own from a YAML file.

    Parameters
    ----------
    name : one of `DESIGNS`, or the path of a ``.yaml`` file (`synthetic.own_design.read_design`).
    classes : at least two of the classes of ``parts``; all of them by default.
    ratio : share of the majority factor within a class in the B sets, above 0.5 (B would be A) and below 1; 0.9 by
        default. The same as ``strength = 2 * ratio - 1``: give one of them.
    strength : 0 (C says nothing of the label) to 1 (all it can); 0.8 by default. ``paper`` takes it as the shift of C.
    parts : class name -> names of its two parts, for generators that can draw other classes than the renderer's six.

    Raises
    ------
    CausalFTError
        For an unknown design or class, a class named twice, fewer than two classes, or a number out of range.

    Examples
    --------
    >>> make_design("confounded", ["cat", "dog"], ratio=0.8).strength
    0.6
    """
    known = PARTS if parts is None else parts
    order = list(CLASSES) if parts is None else list(parts)
    text = os.fspath(name)
    if text not in DESIGNS and Path(text).suffix.lower() in (".yaml", ".yml"):
        if classes is not None or ratio is not None or strength is not None:
            raise CausalFTError(
                f"{text} states its own classes and tables; drop --classes, --ratio and --strength"
            )
        own = read_design(text, known)
        if own.name in DESIGNS:
            raise CausalFTError(f"{text}: name {own.name!r} is that of a built-in design; choose another")
        return own
    if text not in DESIGNS:
        raise CausalFTError(
            f"no design {text!r}; {nearest(text, DESIGNS)}, or the path of your own .yaml file"
        )
    chosen = tuple(order if classes is None else classes)
    check_classes(chosen, known)
    power = _strength(ratio, strength)
    pairs = tuple((known[k][0], known[k][1]) for k in chosen)
    models = _models(text, chosen, pairs, power)
    return Design(
        name=text,
        meaning=DESIGNS[text],
        classes=chosen,
        parts=pairs,
        strength=power,
        majority=tuple(0 if text == "paper" else int(c) for c in laws.own_part(len(chosen))),
        models=models,
        default_n=100 if text == "paper" else 600,
    )


def _models(
    name: str, classes: tuple[str, ...], parts: tuple[tuple[str, str], ...], strength: float
) -> dict[str, DiscreteSCM]:
    """The models of A and B of a built-in design."""

    def visible(**changes: Any) -> DiscreteSCM:
        return laws.visible(
            classes, parts, **{"ambiguity": AMBIGUITY, "slip": SLIP, "misread": MISREAD, **changes}
        )

    if name == "paper":
        shift = ((1 + strength) / 2, (1 - strength) / 2)
        return {"A": laws.visible(classes, parts), "B": laws.visible(classes, parts, p_c=shift)}
    if name == "null":
        return {
            "A": laws.invisible(classes, parts, strength=0.0),
            "B": laws.invisible(classes, parts, strength=strength),
        }
    if name == "confounded":
        return {"A": visible(arrow=True), "B": visible(strength=strength, arrow=True)}
    if name == "selection":
        return {"A": visible(), "B": laws.selected(visible(), strength)}
    return {"A": visible(), "B": visible(flip=FLIP)}


def _strength(ratio: float | None, strength: float | None) -> float:
    if ratio is not None and strength is not None:
        raise CausalFTError("give a ratio or a strength, not both: strength = 2 * ratio - 1")
    if ratio is not None and not 0.5 < ratio < 1.0:
        raise CausalFTError(
            f"ratio {ratio:g} is out of range: the majority's share of the B sets lies above 0.5 (or B would be A) "
            "and below 1 (or one part would never be seen); for example 0.9 or 90:10"
        )
    if strength is not None and not 0.0 <= strength <= 1.0:
        raise CausalFTError(
            f"strength {strength:g} is out of range: 0 is no tie between C and the label, 1 is full"
        )
    if ratio is not None:
        return round(2 * float(ratio) - 1, 12)
    return 0.8 if strength is None else float(strength)
