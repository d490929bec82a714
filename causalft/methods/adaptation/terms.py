"""Terms of the loss of strata that learn together: one that keeps them apart, one that aligns their features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from causalft.errors import CausalFTError
from causalft.runs.documents import Document

__all__ = ["Term", "alignment", "likeness"]


def likeness(logits: Tensor, labels: Tensor, images: Tensor | None = None) -> Tensor:
    """How alike members err: cosine of their probabilities off the true class, mean over pairs and images, in [0, 1].

    What is penalised is that two members give their doubt to the same wrong classes; the true class is left alone, as
    in the diversity of Pang et al., "Improving Adversarial Robustness via Promoting Ensemble Diversity", ICML 2019,
    which takes a determinant in place of the cosines.

    Parameters
    ----------
    logits : (M, n, K) Tensor
    labels : (n,) Tensor of int
    images : (n,) Tensor of bool, optional
        Those that count; all by default. 0 if none does, and for one member.

    Examples
    --------
    >>> same = torch.tensor([[[0.0, 2.0, 1.0]], [[0.0, 2.0, 1.0]]])
    >>> round(float(likeness(same, torch.tensor([0]))), 6)
    1.0
    >>> apart = torch.tensor([[[0.0, 9.0, -9.0]], [[0.0, -9.0, 9.0]]])
    >>> round(float(likeness(apart, torch.tensor([0]))), 6)
    0.0
    """
    chosen = torch.ones_like(labels, dtype=torch.bool) if images is None else images
    if len(logits) < 2 or not chosen.any():
        return logits.sum() * 0
    true = F.one_hot(labels[chosen], logits.shape[-1]).bool()
    doubt = logits[:, chosen].softmax(dim=-1).masked_fill(true, 0)
    of_pairs = [
        F.cosine_similarity(doubt[a], doubt[b], dim=-1) for a, b in combinations(range(len(doubt)), 2)
    ]
    return torch.stack(of_pairs).mean()


def alignment(features: Sequence[Tensor], images: Sequence[Tensor]) -> Tensor:
    """Squared distance of the mean direction of some images' features from that of the rest, mean over members.

    The total direct effect of Tang et al. (NeurIPS 2020) takes the mean direction of the features out of the decision;
    here the training is to leave no mean direction that tells, for one, P-few classes from the others.

    Parameters
    ----------
    features : sequence of M (n, d) Tensors
    images : sequence of M (n,) Tensors of bool
        Of each member. A member for which they are all, or none, counts 0.

    Examples
    --------
    >>> float(alignment([torch.eye(2)], [torch.tensor([True, False])]))
    2.0
    """
    found = []
    for each, chosen in zip(features, images, strict=True):
        unit = F.normalize(each.float(), dim=-1)
        if chosen.all() or not chosen.any():
            found.append(unit.sum() * 0)
            continue
        found.append((unit[chosen].mean(dim=0) - unit[~chosen].mean(dim=0)).square().sum())
    return torch.stack(found).mean()


@dataclass(frozen=True)
class Term:
    """A term beside the sum of the members' own losses.

    A term about few classes is no mean over images: it depends on which of them share a batch.

    Attributes
    ----------
    kind : {"likeness", "alignment"}
    strength : float
        Factor, at least 0 and finite; at 0 the members only share images and optimiser.
    few : tuple of M tuples of K bool
        Classes that each member saw seldom in pre-training. ``likeness`` counts images of a class that any member saw
        seldom, or all images without this; ``alignment`` needs it.

    Raises
    ------
    CausalFTError
        For an unknown kind, a strength that is no such number, or an alignment without ``few``.

    Examples
    --------
    >>> Term("likeness", 1.0)(torch.zeros(2, 1, 3), [torch.zeros(1, 4)] * 2, torch.tensor([0])).item()
    1.0
    """

    kind: Literal["likeness", "alignment"]
    strength: float
    few: tuple[tuple[bool, ...], ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in ("likeness", "alignment"):
            raise CausalFTError(f"no term is named {self.kind!r}; choose likeness or alignment")
        if not (math.isfinite(self.strength) and self.strength >= 0):
            raise CausalFTError(f"the strength of a term is {self.strength}; give a number of at least 0")
        if self.kind == "alignment" and not self.few:
            raise CausalFTError("an alignment needs the classes that each member saw seldom")

    def __call__(self, logits: Tensor, features: Sequence[Tensor], labels: Tensor) -> Tensor:
        """The term, a scalar, of logits (M, n, K), M features (n, d) and labels (n,)."""
        if not self.strength:
            return logits.sum() * 0
        few = torch.tensor(self.few, device=labels.device, dtype=torch.bool)
        if self.kind == "likeness":
            found = likeness(logits, labels, few.any(dim=0)[labels] if self.few else None)
        else:
            found = alignment(features, list(few[:, labels]))
        return self.strength * found

    def check(self, n_members: int, n_classes: int, parts: int) -> None:
        """Refuse a term that does not fit what learns together.

        Parameters
        ----------
        n_members, n_classes : int
        parts : int
            In which a batch is computed: micro-batches times processes.

        Raises
        ------
        CausalFTError
            If ``few`` has not one row per member and one entry per class, or a batch is computed in parts, of which a
            term about few classes is no mean.
        """
        if not self.few:
            return
        if [len(row) for row in self.few] != [n_classes] * n_members:
            raise CausalFTError(
                f"the classes that were seen seldom are {len(self.few)} rows of "
                f"{', '.join(map(str, dict.fromkeys(len(row) for row in self.few)))}; give one row for each of the "
                f"{n_members} members, with one entry for each of the {n_classes} classes"
            )
        if parts > 1:
            raise CausalFTError(
                "a term about few classes needs whole batches; train in one process, with accumulation 1"
            )

    @property
    def document(self) -> Document:
        """The same for JSON."""
        return {"kind": self.kind, "strength": self.strength, "few": [list(each) for each in self.few]}
