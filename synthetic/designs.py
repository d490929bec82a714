"""The A/B designs: for each image set a causal model with explicit tables, and the rows that a set of pictures follows."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np

from causalft.errors import CausalFTError, nearest
from causalft.scm.exact import query
from causalft.scm.mechanisms import DiscreteSCM
from synthetic import laws
from synthetic.objects import CLASSES, PARTS

__all__ = ["DESIGNS", "SETS", "Design", "Rows", "make_design"]

SETS = ("A_train", "A_test", "B_train", "B_test")
"""The image sets of every design: in A the factor is independent of the label, and balanced; in B it is not."""

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

AMBIGUITY, SLIP, MISREAD, FLIP = 0.15, 0.05, 0.05, 0.25
"""Shares of look-alikes, of pictures that show the other part, of misread contents, and of wrong labels in B of
``label-noise``; see `synthetic.laws.visible`."""


@dataclass(frozen=True)
class Rows:
    """What each picture of a set is, ordered by label and then by factor; integer arrays of shape (n,).

    Attributes
    ----------
    labels : Y, the class number that the picture is filed under.
    factors : C, 0 or 1.
    looks : the class that is drawn.
    parts : the part of it that is drawn, 0 or 1.
    contents : B, the class that a reader takes it for.
    """

    labels: np.ndarray
    factors: np.ndarray
    looks: np.ndarray
    parts: np.ndarray
    contents: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def codes(self) -> np.ndarray:
        """X, the picture codes ``2 * look + part``."""
        return 2 * self.looks + self.parts


@dataclass(frozen=True)
class Design:
    """Two causal models, one for the A sets and one for the B sets; made by `make_design`.

    Attributes
    ----------
    name : one of `DESIGNS`, or the name in a user's file.
    meaning : what the design is, in words.
    classes : K class names.
    parts : K pairs, the names of the two parts of each class.
    strength : 0 (C says nothing of the label) to 1 (all it can).
    majority : K integers, the factor (0 or 1) that is the majority of each class in the B sets.
    models : ``"A"`` and ``"B"`` -> `DiscreteSCM` over C, U, X, B, Y and, where rows are selected, S.
    default_n : pictures of each class in each set unless the user says otherwise.
    """

    name: str
    meaning: str
    classes: tuple[str, ...]
    parts: tuple[tuple[str, str], ...]
    strength: float
    majority: tuple[int, ...]
    models: Mapping[str, DiscreteSCM] = field(repr=False)
    default_n: int = 600
    _joints: dict[str, np.ndarray] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def graph(self) -> nx.DiGraph:
        """The causal graph of the B sets."""
        return self.models["B"].graph

    @property
    def selected(self) -> bool:
        """Whether the rows of B are those with S = yes only."""
        return "S" in self.graph

    @property
    def codes(self) -> tuple[str, ...]:
        """Names of the 2 K picture codes, ``"cat head"`` and so on; code = 2 * class + part."""
        return laws.codes(self.classes, self.parts)

    @property
    def ratio(self) -> float:
        """Largest share of one factor within a class in the B sets."""
        return float(self.law("B_train").max())

    def scm(self, which: str) -> DiscreteSCM:
        """The causal model of a set (``"B_train"``) or of its letter (``"B"``)."""
        return self.models[_letter(which)]

    def factor_name(self, look: int, part: int) -> str:
        """The part of class number ``look`` that is drawn, such as ``"cat head"``."""
        return self.codes[2 * look + part]

    def joint(self, which: str) -> np.ndarray:
        """P(C, X, B, Y) of a set, exactly, given S = yes where rows are selected.

        Returns
        -------
        array of shape (2, 2 K, K, K) that sums to 1.

        Examples
        --------
        >>> make_design("paper", ["cat", "dog"]).joint("B").sum(axis=(1, 2, 3)).round(3).tolist()
        [0.9, 0.1]
        """
        letter = _letter(which)
        if letter not in self._joints:
            model = self.models[letter]
            given = {"S": "yes"} if "S" in model.graph else None
            self._joints[letter] = query(model, ("C", "X", "B", "Y"), given=given).p
        return self._joints[letter]

    def law(self, which: str) -> np.ndarray:
        """P(C | Y) of one set, array of shape (K, 2); rows sum to 1.

        Examples
        --------
        >>> make_design("selection").law("B")[0].round(3).tolist()
        [0.9, 0.1]
        """
        table = self.joint(which).sum((1, 2)).T
        return table / table.sum(1, keepdims=True)

    def dependence(self, which: str) -> float:
        """Mutual information of C and Y in one set in nats; 0 means independent.

        Examples
        --------
        >>> round(make_design("paper").dependence("B"), 6), round(make_design("selection").dependence("B"), 3)
        (0.0, 0.368)
        """
        joint = self.joint(which).sum((1, 2))
        product = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
        seen = joint > 0
        return abs(float(np.sum(joint[seen] * np.log(joint[seen] / product[seen]))))

    def counts(self, which: str, n_per_class: int) -> np.ndarray:
        """Number of pictures of each class and factor in one set.

        The set has ``K * n_per_class`` pictures, shared among labels and factors as the law says, rounded. Where the law
        gives a factor to a class at all, the class has at least one picture of it.

        Parameters
        ----------
        which : one of `SETS`.
        n_per_class : at least 4.

        Returns
        -------
        integer array of shape (K, 2).

        Examples
        --------
        >>> make_design("selection", ["cat", "dog"]).counts("B_train", 100).tolist()
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
        share = self.joint(which).sum((1, 2)).T  # (K, 2)
        labels = _apportion(share.sum(1), n_per_class * len(self.classes))
        table = np.empty((len(self.classes), 2), dtype=int)
        for k, n in enumerate(labels):
            first = round(n * share[k, 0] / share[k].sum(), 9)
            # an odd picture goes to the two factors in turn, so that neither gains over the classes
            up = first % 1 > 0.5 or (first % 1 == 0.5 and k % 2 == 1)
            table[k, 0] = int(first) + up
            if share[k].all():
                table[k, 0] = np.clip(table[k, 0], 1, n - 1)
            table[k, 1] = n - table[k, 0]
        return table

    def rows(self, which: str, n_per_class: int, seed: int) -> Rows:
        """What each picture of a set is.

        Within each class and factor the pictures are shared among codes and contents as the law says (systematic
        sampling: every cell gets its expected number, rounded up or down).

        Parameters
        ----------
        which : one of `SETS`.
        n_per_class : pictures of each class, at least 4.
        seed : 0 or larger; decides the rounding.

        Examples
        --------
        >>> make_design("paper", ["cat", "dog"]).rows("B_train", 10, seed=0).parts.tolist()[:10]
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
        """
        if seed < 0:
            raise CausalFTError(f"seed {seed} is negative; use 0 or larger")
        table = self.counts(which, n_per_class)
        joint = self.joint(which)
        rng = np.random.default_rng([seed, SETS.index(which), 7])
        n_classes = len(self.classes)
        columns: list[np.ndarray] = []
        for k in range(n_classes):
            for c in (0, 1):
                cell = joint[c, :, :, k].ravel()
                if not table[k, c]:
                    continue
                steps = np.cumsum(cell) / cell.sum()
                places = (np.arange(table[k, c]) + rng.random()) / table[k, c]
                code, content = np.divmod(
                    np.searchsorted(steps, places * (1 - 1e-12), side="right"), n_classes
                )
                columns.append(np.stack([np.full(len(code), k), np.full(len(code), c), code, content]))
        labels, factors, code, contents = np.concatenate(columns, axis=1)
        return Rows(labels=labels, factors=factors, looks=code // 2, parts=code % 2, contents=contents)

    def best_accuracy(self) -> dict[str, float]:
        """The highest accuracy that any classifier of pictures can reach, by cell: who knows P(Y | X) of the set it is
        trained on, tested on each set; exact.

        Examples
        --------
        >>> best = make_design("confounded").best_accuracy()
        >>> {cell: round(value, 3) for cell, value in best.items()}["A->A"]
        0.762
        """
        found = {}
        for trained in "AB":
            joint = self.joint(trained).sum((0, 2))  # (code, label)
            choice = joint.argmax(1)
            for tested in "AB":
                law = self.joint(tested).sum((0, 2))
                found[f"{trained}->{tested}"] = float(law[np.arange(len(law)), choice].sum())
        return found


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
        from synthetic.own_design import read_design

        if classes is not None or ratio is not None or strength is not None:
            raise CausalFTError(
                f"{text} states its own classes and tables; drop --classes, --ratio and --strength"
            )
        return read_design(text, known)
    if text not in DESIGNS:
        raise CausalFTError(
            f"no design {text!r}; {nearest(text, DESIGNS)}, or the path of your own .yaml file"
        )
    chosen = tuple(order if classes is None else classes)
    check_classes(chosen, known)
    power = _strength(ratio, strength)
    pairs = tuple((known[k][0], known[k][1]) for k in chosen)
    own = laws.own_part(len(chosen))
    models = _models(text, chosen, pairs, power)
    return Design(
        name=text,
        meaning=DESIGNS[text],
        classes=chosen,
        parts=pairs,
        strength=power,
        majority=tuple(0 if text == "paper" else int(c) for c in own),
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


def check_classes(chosen: Sequence[str], known: Mapping[str, Any]) -> None:
    """Refuse unknown or repeated class names, and fewer than two."""
    for class_name in chosen:
        if class_name not in known:
            raise CausalFTError(f"no class {class_name!r} in the A/B world; {nearest(class_name, known)}")
    if len(set(chosen)) < len(chosen):
        twice = next(class_name for class_name in chosen if list(chosen).count(class_name) > 1)
        raise CausalFTError(f"class {twice!r} is named twice; name each class once")
    if len(chosen) < 2:
        raise CausalFTError(
            f"one class only ({', '.join(chosen) or 'none'}): a classifier needs at least 2 classes"
        )


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


def _letter(which: str) -> str:
    if which in ("A", "B"):
        return which
    if which not in SETS:
        raise CausalFTError(f"no image set {which!r}; {nearest(which, SETS)}")
    return which[0]


def _apportion(share: np.ndarray, total: int) -> np.ndarray:
    """Share ``total`` out by largest remainder; (K,) integers that sum to ``total``."""
    exact = share / share.sum() * total
    whole = np.floor(exact + 1e-9).astype(int)
    rest = total - whole.sum()
    whole[np.argsort(whole - exact, kind="stable")[:rest]] += 1
    return whole
