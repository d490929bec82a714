"""One A/B design: a causal model with explicit tables for each image set, and the rows that its images follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import networkx as nx
import numpy as np

from causalft.errors import CausalFTError, nearest
from causalft.runs import limits
from causalft.scm.exact import query
from causalft.scm.mechanisms import DiscreteSCM

__all__ = [
    "FACTORS",
    "KEPT",
    "MEANING",
    "Design",
    "Rows",
    "SETS",
    "check_classes",
    "codes",
    "design_tables",
]


FACTORS = ("C=0", "C=1")
"""Names of the two values of C."""

KEPT = ("no", "yes")
"""States of S."""

MEANING = {
    "C": "part in favour",
    "U": "object",
    "X": "picture",
    "B": "content read",
    "Y": "label",
    "S": "kept in the sample",
}
"""What each node is."""

SETS = ("A_train", "A_test", "B_train", "B_test")
"""The image sets of every design: in A the factor is balanced and independent of the label, in B not."""


@dataclass(frozen=True)
class Rows:
    """What each image of a set is, ordered by label and factor; integer arrays of shape (n,).

    Attributes
    ----------
    labels : Y, the class that the image is filed under.
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
        """X, the image codes ``2 * look + part``."""
        return 2 * self.looks + self.parts


@dataclass(frozen=True)
class Design:
    """Two causal models, of the A sets and of the B sets; made by `synthetic.designs.make_design`.

    Attributes
    ----------
    name : one of `synthetic.designs.DESIGNS`, or the name in a user's file.
    meaning : what the design is, in words.
    classes : K class names.
    parts : K pairs, the names of the two parts of each class.
    strength : 0 (C does not predict the label) to 1 (as well as it can).
    majority : K integers, the majority factor (0 or 1) of each class in the B sets.
    models : ``"A"`` and ``"B"`` -> `DiscreteSCM` over C, U, X, B, Y and, with selection, S.
    default_n : default number of images per class and set.
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
        """Whether the rows of B are those with S = yes."""
        return "S" in self.graph

    @property
    def codes(self) -> tuple[str, ...]:
        """Names of the 2 K image codes, such as ``"cat head"``; code = 2 * class + part."""
        return codes(self.classes, self.parts)

    @property
    def ratio(self) -> float:
        """Largest share of one factor within a class in the B sets."""
        return float(self.law("B_train").max())

    def scm(self, which: str) -> DiscreteSCM:
        """The causal model of a set (``"B_train"``) or its letter (``"B"``)."""
        return self.models[_letter(which)]

    def factor_name(self, look: int, part: int) -> str:
        """Name of a part, such as ``"cat head"``."""
        return self.codes[2 * look + part]

    def joint(self, which: str) -> np.ndarray:
        """P(C, X, B, Y) of a set, given S = yes with selection: shape (2, 2 K, K, K), sum 1. Exact.

        Examples
        --------
        >>> from synthetic.designs import make_design
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
        """P(C | Y) of a set, shape (K, 2); rows sum to 1.

        Examples
        --------
        >>> from synthetic.designs import make_design
        >>> make_design("selection").law("B")[0].round(3).tolist()
        [0.9, 0.1]
        """
        table = self.joint(which).sum((1, 2)).T
        return table / table.sum(1, keepdims=True)

    def dependence(self, which: str) -> float:
        """Mutual information of C and Y in a set in nats; 0 means independent.

        Examples
        --------
        >>> from synthetic.designs import make_design
        >>> round(make_design("paper").dependence("B"), 6), round(make_design("selection").dependence("B"), 3)
        (0.0, 0.368)
        """
        joint = self.joint(which).sum((1, 2))
        product = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
        seen = joint > 0
        return abs(float(np.sum(joint[seen] * np.log(joint[seen] / product[seen]))))

    def counts(self, which: str, n_per_class: int) -> np.ndarray:
        """Number of images of each class and factor in a set, shape (K, 2).

        The ``K * n_per_class`` images are shared out as the law says, rounded; a cell of positive probability has at
        least one.

        Parameters
        ----------
        which : one of `SETS`.
        n_per_class : at least 4.

        Examples
        --------
        >>> from synthetic.designs import make_design
        >>> make_design("selection", ["cat", "dog"]).counts("B_train", 100).tolist()
        [[90, 10], [10, 90]]
        >>> make_design("paper", ["cat", "dog"]).counts("A_test", 100).tolist()
        [[50, 50], [50, 50]]
        """
        if which not in SETS:
            raise CausalFTError(f"no image set {which!r}; {nearest(which, SETS)}")
        limits.PICTURES_PER_CLASS.check(n_per_class, "n_per_class")
        if n_per_class < 4:
            raise CausalFTError(
                f"n_per_class {n_per_class} is too small for a majority and a minority; use at least 4"
            )
        share = self.joint(which).sum((1, 2)).T  # (K, 2)
        labels = _apportion(share.sum(1), n_per_class * len(self.classes), (share > 0).sum(1))
        table = np.empty((len(self.classes), 2), dtype=int)
        for k, n in enumerate(labels):
            first = round(n * share[k, 0] / share[k].sum(), 9)
            # an odd image goes to the two factors in turn
            up = first % 1 > 0.5 or (first % 1 == 0.5 and k % 2 == 1)
            table[k, 0] = int(first) + up
            if share[k].all():
                table[k, 0] = np.clip(table[k, 0], 1, n - 1)
            table[k, 1] = n - table[k, 0]
        return table

    def rows(self, which: str, n_per_class: int, seed: int) -> Rows:
        """What each image of a set is.

        Within each class and factor images are shared among codes and contents by systematic sampling: every cell gets
        its expected number, rounded up or down.

        Parameters
        ----------
        which : one of `SETS`.
        n_per_class : images per class, at least 4.
        seed : 0 or larger; decides the rounding.

        Examples
        --------
        >>> from synthetic.designs import make_design
        >>> make_design("paper", ["cat", "dog"]).rows("B_train", 10, seed=0).parts.tolist()[:10]
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
        """
        limits.SEED.check(seed, "seed")
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
        """Highest possible accuracy of a classifier that knows P(Y | X) of its training set, by cell. Exact.

        Examples
        --------
        >>> from synthetic.designs import make_design
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


def codes(classes: Sequence[str], parts: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Names of the 2 K image codes, code = 2 * class + part.

    Examples
    --------
    >>> codes(["cat", "dog"], [("head", "body")] * 2)
    ('cat head', 'cat body', 'dog head', 'dog body')
    """
    return tuple(f"{name} {part}" for name, pair in zip(classes, parts) for part in pair)


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


def _letter(which: str) -> str:
    if which in ("A", "B"):
        return which
    if which not in SETS:
        raise CausalFTError(f"no image set {which!r}; {nearest(which, SETS)}")
    return which[0]


def _apportion(share: np.ndarray, total: int, least: np.ndarray) -> np.ndarray:
    """Share ``total`` out by largest remainder with ``least`` or more each: (K,) integers that sum to ``total``."""
    exact = share / share.sum() * total
    raised = exact < least
    while (exact[raised] != least[raised]).any():  # what the raised ones take, the others give in proportion
        exact[raised] = least[raised]
        others = share[~raised]
        exact[~raised] = others / others.sum() * (total - least[raised].sum())
        raised |= exact < least
    whole = np.floor(exact + 1e-9).astype(int)
    rest = total - whole.sum()
    whole[np.argsort(whole - exact, kind="stable")[:rest]] += 1
    return whole


def design_tables(design: Design, which: str = "B") -> list[dict[str, Any]]:
    """List the tables of a set of a design, a row per node and combination of its causes.

    Parameters
    ----------
    design : Design
    which : a set (``"B_train"``) or its letter (``"B"``).

    Returns
    -------
    list of dict
        ``{"node", "meaning", "given": {cause: value}, "p": {value: probability}}`` in graph order; ``p`` leaves out
        zeros.

    Examples
    --------
    >>> from synthetic.designs import make_design
    >>> rows = design_tables(make_design("paper", ["cat", "dog"]))
    >>> rows[0]
    {'node': 'C', 'meaning': 'part in favour', 'given': {}, 'p': {'C=0': 0.9, 'C=1': 0.1}}
    >>> rows[2]["given"], rows[2]["p"]
    ({'C': 'C=0', 'U': 'cat'}, {'cat head': 1.0})
    """
    model = design.scm(which)
    rows = []
    for node in model.graph:
        table, causes = model.tables[node], model.parents(node)
        for cell in np.ndindex(*table.shape[:-1]):
            rows.append(
                {
                    "node": node,
                    "meaning": model.graph.nodes[node].get("meaning", ""),
                    "given": {cause: model.states[cause][i] for cause, i in zip(causes, cell)},
                    "p": {
                        value: round(float(p), 12)
                        for value, p in zip(model.states[node], table[cell])
                        if p > 0
                    },
                }
            )
    return rows
