"""How many images of each class go to test and to validation: a share of the class, or the same number of every class.

A share (``"auto"``) keeps the shape of the tail: of n images of a class a fifth go to test and a tenth to validation,
rounded, never more than a cap, and training always keeps at least one. So 1 or 2 images are for training only, of 3
one is tested, from 4 on one is for validation, and of 150 images 30 are tested and 10 are for validation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from causalft.errors import CausalFTError
from causalft.runs.limits import AUTO

__all__ = ["AUTO", "FIT_CAPS", "POOL_CAPS", "SplitSizes", "check_size", "choose_sizes", "sizes_that_work"]

#: Most test and validation images of a class that a share takes.
FIT_CAPS = (50, 10)
POOL_CAPS = (1000, 50)

_TEST_PART, _VALIDATION_PART = 5, 10  # a fifth and a tenth
_FIRST_VALIDATED = 4  # images of a class from which on one is for validation


@dataclass(frozen=True)
class SplitSizes:
    """Images of each class for test and validation.

    Attributes
    ----------
    test, validation : (K,) arrays of int
    """

    test: NDArray[np.int64]
    validation: NDArray[np.int64]


def check_size(size: int | str, name: str) -> None:
    """Refuse what is neither ``"auto"`` nor a whole number from 0 on.

    Examples
    --------
    >>> check_size("auto", "n_test")
    >>> check_size(-1, "n_test")
    Traceback (most recent call last):
    causalft.errors.CausalFTError: a split cannot have -1 images a class; give n_test 0 or more, or "auto"
    """
    whole = isinstance(size, (int, np.integer)) and not isinstance(size, bool)
    if whole and int(size) < 0:
        raise CausalFTError(
            f'a split cannot have {size} images a class; give {name} 0 or more, or "auto"',
            on_command_line=f"a split cannot have {size} images a class; give --{name.replace('_', '-')} 0 or more, or "
            "auto",
        )
    if not whole and not (isinstance(size, str) and size == AUTO):
        option = "--" + name.replace("_", "-")
        raise CausalFTError(
            f'{name}={size!r}: give "auto" or a whole number, 0 or more',
            on_command_line=f"{option} {size}: give auto or a whole number, 0 or more",
        )


def choose_sizes(
    counts: NDArray[np.int64],
    alone: NDArray[np.int64],
    reserve: NDArray[np.int64],
    *,
    n_test: int | str,
    n_validation: int | str,
    caps: tuple[int, int] = FIT_CAPS,
) -> SplitSizes:
    """Choose the sizes; a fixed number is taken of every class, whether the class has so many or not.

    Parameters
    ----------
    counts : (K,) array of int
        Images of each class.
    alone : (K,) array of int
        Those of them without a duplicate: only they can be cut.
    reserve : (K,) array of int
        Images of each class that are kept for training.
    n_test, n_validation : int or "auto"
    caps : (int, int)
        Most test and validation images of a class under "auto".

    Examples
    --------
    >>> counts = np.array([150, 12, 6, 4, 3, 2, 1])
    >>> sizes = choose_sizes(counts, counts, np.ones(7, int), n_test="auto", n_validation="auto")
    >>> sizes.test.tolist(), sizes.validation.tolist()
    ([30, 2, 1, 1, 1, 0, 0], [10, 1, 1, 1, 0, 0, 0])
    """
    room = np.maximum(np.minimum(counts - reserve, alone), 0)
    if n_validation != AUTO:  # what is fixed comes first
        room = np.maximum(room - int(n_validation), 0)
    test = np.full(len(counts), 0 if n_test == AUTO else int(n_test), dtype=np.int64)
    if n_test == AUTO:
        test = np.minimum(np.minimum(_share(counts, _TEST_PART), caps[0]), room)
    room = np.maximum(room - test, 0)
    validation = np.full(len(counts), 0 if n_validation == AUTO else int(n_validation), dtype=np.int64)
    if n_validation == AUTO:
        share = np.maximum(_share(counts, _VALIDATION_PART), counts >= _FIRST_VALIDATED)
        validation = np.minimum(np.minimum(share, caps[1]), room)
    return SplitSizes(test.astype(np.int64), validation.astype(np.int64))


def _share(counts: NDArray[np.int64], part: int) -> NDArray[np.int64]:
    """``counts / part``, halves rounded up."""
    return (2 * counts + part) // (2 * part)


def sizes_that_work(room: int, wanted: dict[str, int | str], *, share_works: bool) -> tuple[str, str]:
    """Say which sizes would work, in the words of Python and in those of the command line.

    Parameters
    ----------
    room : int
        Images that can be cut of every class.
    wanted : dict of str to (int or "auto")
        ``n_test``, ``n_validation``, or one of them: what was asked for.
    share_works : bool
        Whether ``"auto"`` would.

    Examples
    --------
    >>> sizes_that_work(5, {"n_test": 50, "n_validation": 10}, share_works=True)[1]
    'use --n-test auto --n-validation auto (a share of each class), or --n-test 2 --n-validation 1'
    >>> sizes_that_work(1, {"n_test": 50, "n_validation": 10}, share_works=False)[0]
    'no size works here: add images'
    """
    parts = {"n_test": 2, "n_validation": 4}
    smaller = {
        name: 0 if size == 0 else min(max(1, room // parts[name]), room if size == AUTO else int(size))
        for name, size in wanted.items()
    }
    offers: list[tuple[dict[str, int | str], str]] = []
    if share_works:
        offers.append((dict.fromkeys(wanted, AUTO), " (a share of each class)"))
    if room and sum(smaller.values()) <= room and smaller != wanted:
        offers.append((dict(smaller), ""))
    if not offers:
        return ("no size works here: add images",) * 2
    in_python = [", ".join(f"{name}={size!r}" for name, size in offer.items()) + why for offer, why in offers]
    as_options = [
        " ".join(f"--{name.replace('_', '-')} {size}" for name, size in offer.items()) + why
        for offer, why in offers
    ]
    return "use " + ", or ".join(in_python), "use " + ", or ".join(as_options)
