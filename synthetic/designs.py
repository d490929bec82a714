"""The built-in A/B designs, one record each, and the way to a design: by name, or from a user's file.

Their models have the nodes C (semantic factor), U (object), X (image code: the class drawn and its part), B (what a
reader makes of the image), Y (the label it is filed under) and, in ``selection``, S (whether the row is kept).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import networkx as nx
import numpy as np

from causalft.errors import CausalFTError, nearest
from causalft.scm.mechanisms import DiscreteSCM
from synthetic.design import FACTORS, KEPT, MEANING, Design, check_classes, codes
from synthetic.design import SETS as SETS
from synthetic.design import Rows as Rows
from synthetic.objects import CLASSES, PARTS
from synthetic.own_design import read_design

__all__ = [
    "BUILT_IN",
    "DESIGNS",
    "BuiltInDesign",
    "invisible",
    "make_design",
    "mates",
    "own_part",
    "selected",
    "visible",
]

AMBIGUITY, SLIP, MISREAD, FLIP = 0.2, 0.05, 0.05, 0.25
"""Shares of look-alikes, of images of the other part, of misread contents, and of wrong labels in ``label-noise``."""


def own_part(n_classes: int) -> np.ndarray:
    """The value of C that belongs to each class, (K,): 0 and 1 in turn."""
    return np.arange(n_classes) % 2


def mates(n_classes: int) -> np.ndarray:
    """The class that each class is mistaken for, (K,); a mate's own part is the other one.

    Examples
    --------
    >>> mates(6).tolist(), mates(3).tolist()
    ([1, 0, 3, 2, 5, 4], [1, 0, 1])
    """
    k = np.arange(n_classes)
    mate = k ^ 1
    return np.where(mate < n_classes, mate, k - 1)


def visible(
    classes: Sequence[str],
    parts: Sequence[tuple[str, str]],
    *,
    p_c: Sequence[float] = (0.5, 0.5),
    strength: float = 0.0,
    ambiguity: float = 0.0,
    slip: float = 0.0,
    misread: float = 0.0,
    flip: float = 0.0,
    arrow: bool = False,
) -> DiscreteSCM:
    """A model in which C decides which part is drawn: C -> X <- U, X -> B -> Y, and C -> Y if ``arrow``.

    - ``P(C) = p_c`` and U is uniform.
    - X draws the object, or its mate with probability ``strength * (1 - 2 ambiguity)`` if C is not the object's own
      part, and shows the part that C names with probability ``1 - slip``.
    - B is the class drawn, or another one with probability ``misread``.
    - Y: P(y | b, c) is proportional to P(b | y) P(y | c), where a class is mistaken for its mate with probability
      ``ambiguity``, and P(y | c) is ``(1 + strength)`` to ``(1 - strength)`` for classes whose own part is c or not.
    - Finally the label becomes another one with probability ``flip``.

    Then P(C = own part of y | Y = y) is about ``(1 + strength) / 2`` (exactly, for ``misread`` 0 and an even number of
    classes), while P(Y | do(X)) weighs both values of C by P(C).

    Returns
    -------
    DiscreteSCM
        Nodes C, U, X, B, Y.
    """
    n, own, mate = len(classes), own_part(len(classes)), mates(len(classes))
    x = np.zeros((2, n, 2 * n))
    for c in (0, 1):
        shown = np.where(np.arange(2) == c, 1 - slip, slip)
        for u in range(n):
            leave = strength * (1 - 2 * ambiguity) if own[u] != c else 0.0
            x[c, u, 2 * u : 2 * u + 2] += (1 - leave) * shown
            x[c, u, 2 * mate[u] : 2 * mate[u] + 2] += leave * shown
    p_b_given_y = (1 - ambiguity) * np.eye(n)
    p_b_given_y[np.arange(n), mate] += ambiguity
    settle = np.empty((n, 2, n))  # (b, c, y)
    for c in (0, 1):
        prior = np.where(own == c, 1 + strength, 1 - strength)
        weight = p_b_given_y.T * prior
        certain = (
            weight.sum(1) == 0
        )  # strength 1 leaves nothing for this class, and nothing else looks like it
        weight[certain] = np.eye(n)[certain]
        settle[:, c] = weight / weight.sum(1, keepdims=True)
    settle = (1 - flip) * settle + flip * (1 - settle) / (n - 1)
    edges = [("C", "X"), ("U", "X"), ("X", "B"), ("B", "Y")]
    tables = {
        "C": np.asarray(p_c, float),
        "U": np.full(n, 1 / n),
        "X": x,
        "B": _read(n, misread),
        "Y": settle[:, 0],
    }
    if arrow:
        edges.append(("C", "Y"))
        tables["Y"] = settle.transpose(1, 0, 2)
    return _model(classes, parts, edges, tables)


def invisible(classes: Sequence[str], parts: Sequence[tuple[str, str]], *, strength: float) -> DiscreteSCM:
    """A model in which C follows the object but leaves no trace in the image: U -> C, U -> X -> B -> Y.

    P(C = own part of u | U = u) is ``(1 + strength) / 2``; both parts are drawn equally often, and the image decides
    the label.
    """
    n, own = len(classes), own_part(len(classes))
    c = np.empty((n, 2))
    c[np.arange(n), own] = (1 + strength) / 2
    c[np.arange(n), 1 - own] = (1 - strength) / 2
    x = np.repeat(np.eye(n), 2, axis=1) / 2
    edges = [("U", "C"), ("U", "X"), ("X", "B"), ("B", "Y")]
    tables = {"C": c, "U": np.full(n, 1 / n), "X": x, "B": _read(n, 0.0), "Y": np.eye(n)}
    return _model(classes, parts, edges, tables)


def selected(model: DiscreteSCM, strength: float) -> DiscreteSCM:
    """The model with a node S: a row is kept if C is the label's own part, else with probability (1 - s) / (1 + s).

    Among the kept rows P(C = own part of y | Y = y) is about ``(1 + s) / 2`` although C is no cause of Y.
    """
    n = model.n_states("Y")
    keep = np.where(own_part(n) == np.arange(2)[:, None], 1.0, (1 - strength) / (1 + strength))  # (c, y)
    graph = model.graph.copy()
    graph.add_node("S", latent=False, meaning=MEANING["S"])
    graph.add_edges_from([("C", "S"), ("Y", "S")])
    return DiscreteSCM(
        graph,
        {**model.states, "S": KEPT},
        {**model.tables, "S": np.stack([1 - keep, keep], -1)},
    )


def _read(n: int, misread: float) -> np.ndarray:
    """P(B | X), (2 K, K)."""
    b = np.full((n, n), misread / (n - 1))
    np.fill_diagonal(b, 1 - misread)
    return np.repeat(b, 2, axis=0)


def _model(
    classes: Sequence[str],
    parts: Sequence[tuple[str, str]],
    edges: list[tuple[str, str]],
    tables: dict[str, np.ndarray],
) -> DiscreteSCM:
    graph = nx.DiGraph()
    for node in ("C", "U", "X", "B", "Y"):
        graph.add_node(node, latent=node == "U", meaning=MEANING[node])
    graph.add_edges_from(edges)
    states = {"C": FACTORS, "U": classes, "X": codes(classes, parts), "B": classes, "Y": classes}
    return DiscreteSCM(graph, states, tables)


@dataclass(frozen=True)
class BuiltInDesign:
    """One design that ships with the project.

    Attributes
    ----------
    name : for ``--design``.
    meaning : what A and B are, in one sentence.
    models : ``models(classes, parts, strength)`` returns the causal models of the sets ``"A"`` and ``"B"``.
    set_b : what B is, for the report; ``{share}`` and ``{rest}`` are the percentages of the majority and the rest.
    follows : what a result in this design can and cannot show; ``{mi}`` is the mutual information of C and Y in nats.
    expected : the verdict that ``verify-confounder`` must reach.
    one_majority : whether all classes of B share one majority factor; else it is each class's own part.
    default_n : images of each class in each set, by default.
    """

    name: str
    meaning: str
    models: Callable[[Sequence[str], Sequence[tuple[str, str]], float], dict[str, DiscreteSCM]]
    set_b: str
    follows: str
    expected: str
    one_majority: bool = False
    default_n: int = 600


_noisy = partial(visible, ambiguity=AMBIGUITY, slip=SLIP, misread=MISREAD)

_PAPER = BuiltInDesign(
    name="paper",
    meaning="B has the same majority factor in every class: C shifts between A and B, but C and Y are independent in "
    "both",
    models=lambda classes, parts, strength: {
        "A": visible(classes, parts),
        "B": visible(classes, parts, p_c=((1 + strength) / 2, (1 - strength) / 2)),
    },
    set_b="B: {share:.0f} % of every class shows the same one of its parts (C=0), {rest:.0f} % the other. C shifts "
    "between A and B but never predicts Y.",
    follows="C and Y are independent in both sets (mutual information 0), so P(Y|X) = P(Y|do(X)). A drop shows that a "
    "shift of C harms a model that has seen few images of the rare part. That is worth knowing, and more images of "
    "the rare part cure it, but it is not confounding.",
    expected="shift of C",
    one_majority=True,
    default_n=100,
)

_CONFOUNDED = BuiltInDesign(
    name="confounded",
    meaning="C has an arrow into the label: which part is in view also says how doubtful objects are labelled in B; "
    "in A it does not",
    models=lambda classes, parts, strength: {
        "A": _noisy(classes, parts, arrow=True),
        "B": _noisy(classes, parts, strength=strength, arrow=True),
    },
    set_b="B: C has an arrow into the label. {share:.0f} % of the images of a class have the value of C that belongs "
    "to that class, and C decides how doubtful objects are labelled: in B the part in view predicts the label.",
    follows="C and Y are dependent in B (mutual information {mi:.2f} nats) because C has an arrow into Y, and C is "
    "visible in X: the backdoor path X <- C -> Y is open, P(Y|X) differs from P(Y|do(X)), and no number of images "
    "cures it; adjusting for C can.",
    expected="verified",
)

_SELECTION = BuiltInDesign(
    name="selection",
    meaning="C and Y are independent causes of what is kept: in B they depend on each other through sampling only",
    models=lambda classes, parts, strength: {
        "A": _noisy(classes, parts),
        "B": selected(_noisy(classes, parts), strength),
    },
    set_b="B: the world is that of A, but rows were kept by C and Y until {share:.0f} % of each class had the value of "
    "C that belongs to it: in B the part in view predicts the label, though neither causes the other.",
    follows="C and Y are dependent in B (mutual information {mi:.2f} nats), but only among the rows that were kept. "
    "These rows look like those of 'confounded', and no test on them can tell the two apart; the graph can: adjusting "
    "for C does not give P(Y|do(X)) here. Weighting each row by the inverse of its probability of being kept does.",
    expected="selection",
)

_NULL = BuiltInDesign(
    name="null",
    meaning="the factor follows the object in B, but the pictures do not depend on it",
    models=lambda classes, parts, strength: {
        "A": invisible(classes, parts, strength=0.0),
        "B": invisible(classes, parts, strength=strength),
    },
    set_b="B: C follows the object ({share:.0f} % of a class has one value of it), but this is a control: the images "
    "ignore C and show both parts equally often, as in A.",
    follows="C follows the object but leaves no trace in the image. A sound experiment must not say 'verified' here.",
    expected="not detected",
)

_LABEL_NOISE = BuiltInDesign(
    name="label-noise",
    meaning="C is visible but independent of the label; B has more wrong labels than A",
    models=lambda classes, parts, _: {
        "A": _noisy(classes, parts),
        "B": _noisy(classes, parts, flip=FLIP),
    },
    set_b="B: as A, with a quarter of the labels replaced by wrong ones. C is visible but does not predict the label.",
    follows="B has wrong labels, and a model trained on it is worse on every set alike. That is not confounding, and a "
    "sound experiment must not say 'verified' here.",
    expected="not detected",
)

BUILT_IN = {each.name: each for each in (_PAPER, _CONFOUNDED, _SELECTION, _NULL, _LABEL_NOISE)}
"""The built-in designs by name; a new one is a record above and its name here."""

DESIGNS = {name: record.meaning for name, record in BUILT_IN.items()}
"""Name of each built-in design and what it is."""


def make_design(
    name: str | os.PathLike[str],
    classes: Sequence[str] | None = None,
    ratio: float | None = None,
    *,
    strength: float | None = None,
    parts: Mapping[str, tuple[str, str]] | None = None,
) -> Design:
    """Make a built-in design, or read a user's from a YAML file.

    Parameters
    ----------
    name : one of `DESIGNS`, or the path of a ``.yaml`` file (`synthetic.own_design.read_design`).
    classes : at least two of the classes of ``parts``; all by default.
    ratio : the majority factor's share within a class in B, above 0.5 and below 1; 0.9 by default. The same as
        ``strength = 2 * ratio - 1``: give one of them.
    strength : 0 (C does not predict the label) to 1; 0.8 by default. In ``paper`` it is the shift of C.
    parts : class name -> names of its two parts, for generators with other classes than the renderer.

    Raises
    ------
    CausalFTError
        For an unknown design or class, a repeated class, fewer than two classes, or a number out of range.

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
    record = BUILT_IN[text]
    return Design(
        name=text,
        meaning=record.meaning,
        classes=chosen,
        parts=pairs,
        strength=power,
        majority=(0,) * len(chosen) if record.one_majority else tuple(map(int, own_part(len(chosen)))),
        models=record.models(chosen, pairs, power),
        default_n=record.default_n,
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
