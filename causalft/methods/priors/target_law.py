"""The class law of the images to be classified, from a file or a mapping."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from causalft.data.class_tables import match_classes, read_class_table
from causalft.errors import CausalFTError, first_few, several, short

__all__ = ["target_law"]


def target_law(
    given: str | os.PathLike[str] | Mapping[str, float] | None, classes: Sequence[str]
) -> NDArray[np.float64] | None:
    """Return the share of each class, (K,): positive, sums to 1; None if none is given.

    Parameters
    ----------
    given : path, or mapping of class to number, optional
        Shares or counts; a file as :func:`causalft.data.class_tables.read_class_table` reads it.
    classes : sequence of K str

    Raises
    ------
    CausalFTError
        If a class has no share or a share of 0, or a share is for no class.

    Examples
    --------
    >>> target_law({"cat": 30, "dog": 10}, ["cat", "dog"]).tolist()
    [0.75, 0.25]
    """
    if given is None:
        return None
    of_file = not isinstance(given, Mapping)
    where = short(os.fspath(given), 300) if not isinstance(given, Mapping) else "the target law"
    table = read_class_table(given, "share", positive=True) if not isinstance(given, Mapping) else given
    matched = match_classes(table, classes, what="share", path=where)
    way_out = "; one positive share for each class of the data" + (" is needed" if of_file else "")
    if matched.missing:
        names = several(matched.missing, "class", "classes")
        others = f", but for {first_few(matched.unused)}, which no class is called" if matched.unused else ""
        raise CausalFTError(
            f"{where} has no share for {names} ({first_few(matched.missing)}){others}{way_out}"
        )
    if matched.unused:
        names = several(matched.unused, "name", "names")
        raise CausalFTError(
            f"{where} has {names} that no class of the data has ({first_few(matched.unused)}){way_out}"
        )
    zeros = [name for name, value in zip(classes, matched.values, strict=True) if not value > 0]
    if zeros:
        raise CausalFTError(f"{where} gives {first_few(zeros)} no positive share{way_out}")
    found: NDArray[np.float64] = matched.values / matched.values.sum()
    return found
