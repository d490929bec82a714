"""The A/B designs: how the semantic factor C is distributed given the class Y in each of the four image sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from causalft.errors import CausalFTError, nearest
from synthetic.objects import CLASSES, PARTS

__all__ = ["DESIGNS", "SETS", "Design", "make_design"]

SETS = ("A_train", "A_test", "B_train", "B_test")
"""The image sets of every design: A is balanced over the factor, B is not."""

DESIGNS = {
    "paper": "B has the same majority factor in every class: C shifts between A and B, but C and Y are "
    "independent in both",
    "confounded": "the majority factor of B depends on the class: C and Y are dependent in B, independent in A",
    "null": "the factor's label is drawn as in 'confounded', but the pictures do not depend on it",
}
"""Name of each design and what it is."""


@dataclass(frozen=True)
class Design:
    """A law of the factor C given the class Y for each image set; made by `make_design`.

    Attributes
    ----------
    name : one of `DESIGNS`.
    classes : K class names.
    ratio : share of the majority factor in the B sets, between 0.5 and 1.
    majority : K integers, the factor (0 or 1) that is the majority of each class in the B sets.
    drawn : whether the factor decides which part dominates the picture; if not, the part is drawn 50:50.
    """

    name: str
    classes: tuple[str, ...]
    ratio: float
    majority: tuple[int, ...]
    drawn: bool

    @property
    def meaning(self) -> str:
        """What the design is, in words."""
        return DESIGNS[self.name]

    def factor_name(self, label: int, factor: int) -> str:
        """The part of class number ``label`` that factor ``factor`` stands for, such as ``"cat head"``."""
        name = self.classes[label]
        return f"{name} {PARTS[name][factor]}"

    def counts(self, which: str, n_per_class: int) -> np.ndarray:
        """Number of pictures of each class and factor in one set.

        Positivity holds in every set: each class has at least one picture of each factor.

        Parameters
        ----------
        which : one of `SETS`.
        n_per_class : at least 4.

        Returns
        -------
        integer array of shape (K, 2); rows sum to ``n_per_class``.

        Examples
        --------
        >>> make_design("confounded", ["cat", "dog"]).counts("B_train", 100).tolist()
        [[90, 10], [10, 90]]
        >>> make_design("paper", ["cat", "dog"]).counts("A_test", 100).tolist()
        [[50, 50], [50, 50]]
        """
        if which not in SETS:
            raise CausalFTError(f"no image set {which!r}; {nearest(which, SETS)}")
        if n_per_class < 4:
            raise CausalFTError(
                f"n_per_class {n_per_class} is too small for a majority and a minority; use at least 4"
            )
        table = np.empty((len(self.classes), 2), dtype=int)
        for k, favourite in enumerate(self.majority):
            if which.startswith("A"):
                # an odd picture goes to the two factors in turn, so that neither gains over the classes
                table[k, 0] = n_per_class // 2 + (n_per_class % 2) * (k % 2)
            else:
                minority = max(1, round(n_per_class * (1 - self.ratio)))
                table[k, 0] = minority if favourite == 1 else n_per_class - minority
            table[k, 1] = n_per_class - table[k, 0]
        return table

    def dependence(self, which: str) -> float:
        """Mutual information of C and Y in one set in nats (classes are equally frequent); 0 means independent.

        Examples
        --------
        >>> round(make_design("confounded").dependence("B_train"), 3)
        0.368
        """
        joint = self.law(which) / len(self.classes)
        product = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
        return float(np.sum(joint * np.log(joint / product)))

    def law(self, which: str) -> np.ndarray:
        """P(C | Y) of one set, array of shape (K, 2); rows sum to 1."""
        if which not in SETS:
            raise CausalFTError(f"no image set {which!r}; {nearest(which, SETS)}")
        share = 0.5 if which.startswith("A") else self.ratio
        return np.array(
            [[1 - share, share] if favourite else [share, 1 - share] for favourite in self.majority]
        )


def make_design(name: str, classes: Sequence[str] | None = None, ratio: float = 0.9) -> Design:
    """Make one of the `DESIGNS` for some of the six classes.

    Parameters
    ----------
    name : ``"paper"``, ``"confounded"`` or ``"null"``.
    classes : at least two of the renderer's classes; all six by default.
    ratio : share of the majority factor in the B sets; above 0.5 (B would be A) and below 1 (positivity).

    Raises
    ------
    CausalFTError
        For an unknown design or class, a class named twice, fewer than two classes, or a ratio out of range.

    Examples
    --------
    >>> make_design("confounded", ["cat", "dog"], ratio=0.8).majority
    (0, 1)
    """
    if name not in DESIGNS:
        raise CausalFTError(f"no design {name!r}; {nearest(name, DESIGNS)}")
    chosen = tuple(CLASSES if classes is None else classes)
    for class_name in chosen:
        if class_name not in CLASSES:
            raise CausalFTError(f"no class {class_name!r} in the A/B world; {nearest(class_name, CLASSES)}")
    if len(set(chosen)) < len(chosen):
        twice = next(class_name for class_name in chosen if chosen.count(class_name) > 1)
        raise CausalFTError(f"class {twice!r} is named twice; name each class once")
    if len(chosen) < 2:
        raise CausalFTError(
            f"one class only ({', '.join(chosen) or 'none'}): a classifier needs at least 2 classes"
        )
    if not 0.5 < ratio < 1.0:
        raise CausalFTError(
            f"ratio {ratio:g} is out of range: the majority's share of the B sets lies above 0.5 (or B would be A) "
            "and below 1 (or one part would never be seen); for example 0.9 or 90:10"
        )
    majority = tuple(0 if name == "paper" else k % 2 for k in range(len(chosen)))
    return Design(name=name, classes=chosen, ratio=float(ratio), majority=majority, drawn=name != "null")
