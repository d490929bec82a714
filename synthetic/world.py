"""The part world: 60 creatures, each a head, a body and a tail, and the laws that say who is seen how often and how."""

from __future__ import annotations

import numpy as np

from causalft.errors import CausalFTError

__all__ = [
    "CLASS_NAMES",
    "FACTORS",
    "N_CLASSES",
    "N_TYPES",
    "PARTS",
    "exponential_prior",
    "factor_law",
    "part_table",
]

N_TYPES = 15
"""Types of each part: 15 heads, 15 bodies, 15 tails."""

N_CLASSES = 60

PARTS = ("head", "body", "tail")

FACTORS = ("head", "body", "tail", "whole")
"""Values of the semantic factor C: the part that dominates the picture, or none of them (``whole``)."""

_ROOTS = "ara bel cor dru eri fen gal hor ika jun kol lum mir nol ori".split()
_ENDINGS = "dax mon pix vor".split()

CLASS_NAMES = tuple(_ROOTS[k % N_TYPES] + _ENDINGS[k // N_TYPES] for k in range(N_CLASSES))


def part_table() -> np.ndarray:
    """Return the part types of every class.

    With ``j = k // 15``: head ``k mod 15``, body ``(head + j) mod 15``, tail ``(head + 3 j + 5) mod 15``. One part
    leaves four candidate classes; any two parts identify the class.

    Returns
    -------
    numpy.ndarray
        Shape (60, 3), columns head, body, tail, values in 0..14.

    Examples
    --------
    >>> part_table()[16]
    array([1, 2, 9])
    """
    k = np.arange(N_CLASSES)
    j, head = k // N_TYPES, k % N_TYPES
    return np.stack([head, (head + j) % N_TYPES, (head + 3 * j + 5) % N_TYPES], axis=1)


def exponential_prior(n_classes: int, imbalance_factor: float, order: np.ndarray) -> np.ndarray:
    """Return a label prior that falls exponentially along ``order``.

    Parameters
    ----------
    n_classes : int
    imbalance_factor : float
        Largest over smallest probability, at least 1.
    order : numpy.ndarray
        Shape (n_classes,): the classes from head to tail.

    Returns
    -------
    numpy.ndarray
        Shape (n_classes,), sums to 1.

    Examples
    --------
    >>> exponential_prior(3, 100, np.array([2, 0, 1])).round(3)
    array([0.09 , 0.009, 0.901])
    """
    if imbalance_factor < 1:
        raise CausalFTError(f"imbalance factor {imbalance_factor} is below 1; 1 means balanced")
    position = np.empty(n_classes)
    position[np.asarray(order)] = np.arange(n_classes)
    weight = imbalance_factor ** (-position / max(n_classes - 1, 1))
    return weight / weight.sum()


def factor_law(favourite: str, share: float = 0.8) -> np.ndarray:
    """Return P(C | D) over head, body, tail for a stratum that favours one part.

    Parameters
    ----------
    favourite : {"head", "body", "tail", "uniform"}
        ``"uniform"`` spreads over head, body, tail and whole alike: the downstream law.
    share : float
        Probability of the favourite part; the other two share the rest, ``whole`` gets none.

    Returns
    -------
    numpy.ndarray
        Shape (4,), over :data:`FACTORS`, sums to 1.

    Examples
    --------
    >>> factor_law("body").round(2)
    array([0.1, 0.8, 0.1, 0. ])
    """
    if favourite == "uniform":
        return np.full(len(FACTORS), 1 / len(FACTORS))
    if favourite not in PARTS:
        raise CausalFTError(f"unknown part {favourite!r}; use head, body, tail or uniform")
    law = np.full(len(FACTORS), (1 - share) / 2)
    law[FACTORS.index("whole")] = 0.0
    law[FACTORS.index(favourite)] = share
    return law
