"""The truth of a discrete causal model: P(Y | X), P(Y | do(X)) and how far apart they are, exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from causalft.errors import CausalFTError
from causalft.runs.folder import plain
from causalft.runs.notebook import ShownAsTable
from causalft.runs.progress import named
from causalft.scm.exact import PositivityError, interventional, query
from causalft.scm.mechanisms import DiscreteSCM

__all__ = ["SELECTION", "Truth", "kl_divergence", "total_variation", "truth"]

SELECTION = ("S", "yes")
"""The node and the state of a row that is kept, in a model with selection."""


@dataclass(frozen=True)
class Truth(ShownAsTable):
    """What a perfect observer sees and what a perfect experimenter would find; all probabilities are exact.

    Attributes
    ----------
    codes : M names, the values of the treatment X.
    labels : K names, the values of the outcome Y.
    p_x : (M,), P(X), given that the row is selected; sums to 1.
    p_y_given_x : (M, K), P(Y | X), given that the row is selected; rows sum to 1.
    p_y_do_x : (M, K), P(Y | do(X)) in the whole population; rows sum to 1.
    selected : whether rows are selected.
    """

    codes: tuple[str, ...]
    labels: tuple[str, ...]
    p_x: np.ndarray
    p_y_given_x: np.ndarray
    p_y_do_x: np.ndarray
    selected: bool = False

    def __repr__(self) -> str:
        kept = ", selected rows" if self.selected else ""
        return (
            f"Truth({len(self.codes)} values of X, {len(self.labels)} of Y{kept}: P(Y | X) is {100 * self.tv:.1f} "
            f"points of total variation from P(Y | do(X)); KL {self.kl:.3f} nats)"
        )

    @property
    def tv_per_code(self) -> np.ndarray:
        """Total variation between P(Y | x) and P(Y | do(x)), (M,), in [0, 1]."""
        return total_variation(self.p_y_given_x, self.p_y_do_x)

    @property
    def kl_per_code(self) -> np.ndarray:
        """KL(P(Y | x) || P(Y | do(x))) in nats, (M,); inf where seeing allows a label that doing never gives."""
        return kl_divergence(self.p_y_given_x, self.p_y_do_x)

    @property
    def tv(self) -> float:
        """Mean of `tv_per_code` over P(X)."""
        return float(self.p_x @ self.tv_per_code)

    @property
    def kl(self) -> float:
        """Mean of `kl_per_code` over P(X)."""
        return float(self.p_x @ self.kl_per_code)

    def to_metrics(self) -> dict[str, Any]:
        """The document of ``metrics.json``; an infinite KL is written as null."""
        return plain(
            {
                "codes": self.codes,
                "labels": self.labels,
                "p_x": self.p_x,
                "p_y_given_x": self.p_y_given_x,
                "p_y_do_x": self.p_y_do_x,
                "tv": self.tv,
                "kl": self.kl,
                "tv_per_code": self.tv_per_code,
                "kl_per_code": self.kl_per_code,
                "selected": self.selected,
            }
        )


@named("working out the exact truth")
def truth(scm: DiscreteSCM, *, selected: bool = False, treatment: str = "X", outcome: str = "Y") -> Truth:
    """Work out the truth of a model by variable elimination (`causalft.scm.exact`).

    P(Y | do(X)) is that of the population, also when only selected rows are seen: selection is a way of looking, and
    the question is what the picture does to the label.

    Parameters
    ----------
    scm : DiscreteSCM
    selected : whether only the rows with ``S = yes`` are seen (`SELECTION`).
    treatment, outcome : names of two nodes.

    Raises
    ------
    CausalFTError
        If a node is unknown, or ``selected`` is asked of a model without S.
    PositivityError
        If some value of the treatment is never seen; it is named.

    Examples
    --------
    >>> from causalft.scm import DiscreteSCM
    >>> scm = DiscreteSCM(
    ...     [("C", "X"), ("C", "Y"), ("X", "Y")],
    ...     states={"C": ["0", "1"], "X": ["head", "tail"], "Y": ["cat", "dog"]},
    ...     tables={"C": [0.5, 0.5], "X": [[0.9, 0.1], [0.1, 0.9]],
    ...             "Y": [[[1, 0], [1, 0]], [[0, 1], [0, 1]]]},
    ... )
    >>> truth(scm)
    Truth(2 values of X, 2 of Y: P(Y | X) is 40.0 points of total variation from P(Y | do(X)); KL 0.368 nats)
    """
    node, state = SELECTION
    if selected and (node not in scm.graph or state not in scm.states[node]):
        raise CausalFTError(
            f"the model has no node {node!r} with a state {state!r}: it selects nothing; use selected=False"
        )
    joint = query(scm, (treatment, outcome), given={node: state} if selected else None).p
    p_x = joint.sum(1)
    if not p_x.all():
        never = [(scm.states[treatment][i],) for i in np.flatnonzero(p_x == 0)]
        raise PositivityError((treatment,), never, f"P({outcome} | {treatment})")
    return Truth(
        codes=scm.states[treatment],
        labels=scm.states[outcome],
        p_x=p_x / p_x.sum(),
        p_y_given_x=joint / p_x[:, None],
        p_y_do_x=interventional(scm, outcome, treatment),
        selected=selected,
    )


def total_variation(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Half the sum of |p - q| over the last axis: the largest difference that any event can show, in [0, 1].

    Examples
    --------
    >>> float(total_variation(np.array([0.5, 0.5]), np.array([1.0, 0.0])))
    0.5
    """
    return 0.5 * np.abs(p - q).sum(-1)


def kl_divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Sum of p log(p / q) over the last axis in nats, with 0 log 0 = 0; inf where q is 0 and p is not.

    Examples
    --------
    >>> float(kl_divergence(np.array([1.0, 0.0]), np.array([0.5, 0.5]))), float(
    ...     kl_divergence(np.array([0.5, 0.5]), np.array([1.0, 0.0])))
    (0.693, inf)
    """
    from scipy.special import rel_entr

    return np.maximum(rel_entr(p, q).sum(-1), 0.0)
