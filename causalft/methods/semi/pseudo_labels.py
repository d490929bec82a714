"""The pseudo-labels of a training, counted by epoch, class and confidence, and what they say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalft.data.groups import data_groups
from causalft.runs.documents import Document

__all__ = ["BINS", "PseudoLabels"]

BINS = 20
"""Of the histogram of confidence."""


@dataclass(frozen=True, eq=False, repr=False)
class PseudoLabels:
    """Counts of a training, one row per epoch.

    Attributes
    ----------
    likeliest : (E, K) array
        Weak views whose most probable class is k.
    kept, right : (E, K) arrays
        Pseudo-labels k that were learnt from, and those of them that are true (0 where the truth is not known).
    confidence, confident_right : (E, 20) arrays
        Weak views by the probability of their most probable class, in bins of 0.05, and those that are right.
    belief : (E, K) array
        Sum of the probabilities: in proportion to the law that the method believes in.
    known : int array of no dimension
        1 if hidden labels are known.
    labelled_counts : (K,) array
    """

    likeliest: NDArray[np.float64]
    kept: NDArray[np.float64]
    right: NDArray[np.float64]
    confidence: NDArray[np.float64]
    confident_right: NDArray[np.float64]
    belief: NDArray[np.float64]
    known: NDArray[np.int64]
    labelled_counts: NDArray[np.float64]

    def __repr__(self) -> str:
        return f"PseudoLabels({len(self.kept)} epochs, {self.kept.shape[1]} classes)"

    @property
    def groups(self) -> NDArray[np.str_]:
        """D group of each class, (K,): many, medium or few labelled images."""
        return data_groups(self.labelled_counts)

    def rows(self) -> list[Document]:
        """``epoch`` (from 1), ``group``, ``n`` pseudo-labels, ``precision`` (None if not known or none), all groups
        first.
        """
        groups = self.groups
        found: list[Document] = []
        for epoch in range(len(self.kept)):
            for group in ("all", "many", "medium", "few"):
                chosen = np.ones(len(groups), bool) if group == "all" else groups == group
                n = float(self.kept[epoch, chosen].sum())
                precision = float(self.right[epoch, chosen].sum() / n) if n and self.known else None
                found.append({"epoch": epoch + 1, "group": group, "n": int(n), "precision": precision})
        return found

    @property
    def prior(self) -> NDArray[np.float64]:
        """The law of the unlabelled images that the method believed in, (E, K)."""
        return self.belief / np.maximum(self.belief.sum(1, keepdims=True), 1)

    @classmethod
    def pooled(cls, parts: Sequence[PseudoLabels]) -> PseudoLabels:
        """Add the counts of several strata, epoch by epoch; an epoch that one lacks is left out."""
        first, n = parts[0], min(len(part.kept) for part in parts)
        summed: dict[str, Any] = {
            name: np.sum([part.arrays()[name][:n] for part in parts], axis=0)
            for name in first.arrays()
            if name not in ("known", "labelled_counts")
        }
        return cls(**summed, known=first.known, labelled_counts=first.labelled_counts)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that it holds, by name."""
        return {each.name: np.asarray(getattr(self, each.name)) for each in fields(self)}

    def reading(self, class_names: Sequence[str], threshold: float) -> list[str]:
        """Say in plain words what went wrong in the last epoch: underlearned, overconfident, a tail left out.

        Empty where nothing did.
        """
        if not len(self.kept):
            return []
        said, kept, seen = [], self.kept[-1], self.confidence[-1].sum()
        # Confident answers begin in the bin that the threshold lies in.
        first = min(int(threshold * BINS + 1e-9), BINS - 1)
        n_sure, edge = self.confidence[-1][first:].sum(), first / BINS
        share = kept.sum() / max(seen, 1)
        if (
            max(share, n_sure / max(seen, 1)) < 0.3
        ):  # a method may leave confident images of frequent classes out
            said.append(
                f"underlearned: in the last epoch {100 * share:.0f} % of the unlabelled images were learnt from; lower "
                "the threshold, or tune more of the tower"
            )
        if self.known and kept.sum():
            precision, groups = self.right[-1].sum() / kept.sum(), self.groups
            if n_sure and self.confident_right[-1][first:].sum() / n_sure < edge - 0.1:
                worth = self.confident_right[-1][first:].sum() / n_sure
                said.append(
                    f"overconfident: of the images with a probability of {edge:g} or more, {100 * worth:.0f} % "
                    "are right"
                )
            few = groups == "few"
            if few.any() and kept[few].sum() and precision > 0:
                rare = self.right[-1][few].sum() / kept[few].sum()
                if rare < precision - 0.1:
                    said.append(
                        f"biased to the head: pseudo-labels of rare classes are right in {100 * rare:.0f} % of cases, "
                        f"all of them in {100 * precision:.0f} %"
                    )
        without = [name for name, n in zip(class_names, kept, strict=True) if n == 0]
        if without and kept.sum():
            named = ", ".join(without[:3]) + (", ..." if len(without) > 3 else "")
            verb = "class has" if len(without) == 1 else "classes have"
            said.append(f"{len(without)} {verb} no pseudo-label in the last epoch: {named}")
        return said
