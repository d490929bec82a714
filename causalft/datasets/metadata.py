"""The semantic factor of each image, from the ``metadata.csv`` that stands beside generated images."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalft.errors import CausalFTError

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
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")))
    if not {"file_name", "factor"} <= set(reader.fieldnames or ()):
        return None
    factor_of = {str(row["file_name"]).replace("\\", "/"): (row["factor"] or "").strip() for row in reader}
    for name in files:
        if not factor_of.get(name):
            state = "no factor for" if name in factor_of else "no row for"
            raise CausalFTError(f"{where} has {state} image {name}; complete it, or remove the file")
    return factor_values([factor_of[name] for name in files])


def factor_values(values: Sequence[str]) -> NDArray[Any]:
    """Whole numbers as int64, if all are; else the texts.

    Examples
    --------
    >>> factor_values(["1", "0"]), factor_values(["head", "1"])
    (array([1, 0]), array(['head', '1'], dtype='<U4'))
    """
    if all(value.lstrip("-").isascii() and value.lstrip("-").isdigit() for value in values):
        return np.array([int(value) for value in values], dtype=np.int64)
    return np.array(values, dtype=str)
