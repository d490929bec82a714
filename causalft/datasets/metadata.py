"""The semantic factor of each image, from the ``metadata.csv`` that stands beside generated images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalft.datasets.labels import encode, is_whole_number, whole_number
from causalft.datasets.paths import typed_path
from causalft.errors import CausalFTError, short, unescape_name
from causalft.runs.tables import header_of, parse_table

__all__ = ["factor_values", "factors_from_csv"]


def factors_from_csv(text: str, files: Sequence[str], where: str) -> NDArray[Any] | None:
    """Read the column ``factor`` for the images in ``files``.

    Parameters
    ----------
    text : str
        A CSV with a header; only its columns ``file_name`` and ``factor`` are used.
    files : sequence of str, length n
        Image names as the CSV gives them.
    where : str
        The CSV, for messages.

    Returns
    -------
    (n,) array of int64 (if every factor is a whole number) or of str, or None
        None if the CSV has not both columns: it is then about something else.

    Raises
    ------
    CausalFTError
        If an image has no row, or a row no factor.

    Examples
    --------
    >>> factors_from_csv("file_name,factor\\na/1.png,0\\na/2.png,1\\n", ["a/2.png", "a/1.png"], "metadata.csv")
    array([1, 0])
    """
    if not text.strip() or not {"file_name", "factor"} <= set(header_of(text, where)):
        return None
    table = parse_table(text, where, ("file_name", "factor"))
    factor_of: dict[str, str | None] = {}
    for name, factor in zip(table.values("file_name"), table.values("factor")):
        written = name or ""
        factor_of[typed_path(written.replace("\\", "/")).lstrip("/")] = factor
        factor_of[unescape_name(written)] = factor
    for name in files:
        if not factor_of.get(name):
            state = "no factor for" if name in factor_of else "no row for"
            raise CausalFTError(
                f"{where} has {state} image {short(name, 300)}; complete it, or remove the file"
            )
    return factor_values([factor_of[name] for name in files], where)


def factor_values(
    values: Sequence[Any], where: str = "the set", places: Sequence[str] | None = None
) -> NDArray[Any]:
    """Whole numbers as int64, if all are; else the texts.

    Parameters
    ----------
    values : sequence of n str or numbers
    where : str
        For messages.
    places : sequence of n str, optional
        What to call the rows in a message.

    Raises
    ------
    CausalFTError
        If a factor is missing; the row is named.

    Examples
    --------
    >>> factor_values(["1", "0", "1.0"]), factor_values(["head", "1"])
    (array([1, 0, 1]), array(['head', '1'], dtype='<U4'))
    """
    found = encode(values, where, "factor", places)
    if all(map(is_whole_number, found.ids)) and all(abs(whole_number(i)) < 2**63 for i in found.ids):
        return np.array([whole_number(label) for label in found.ids], dtype=np.int64)[found.codes]
    return np.array(found.ids, dtype=str)[found.codes]
