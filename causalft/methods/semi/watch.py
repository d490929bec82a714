"""What a semi-supervised training did to the unlabelled images, epoch by epoch: pseudo-labels, confidence, prior."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from causalft.data.groups import data_groups
from causalft.methods.semi.method import Targets
from causalft.models.tuning.statistics import BatchStatistics
from causalft.runs.documents import Document

__all__ = ["BINS", "PseudoLabels", "Watch"]

BINS = 20
"""Of the histogram of confidence."""


class Watch(nn.Module, BatchStatistics):
    """Counts the pseudo-labels of a training; all of it is in buffers, so that a resumed training goes on counting.

    Parameters
    ----------
    n_classes, epochs : int
    hidden : (m,) array of int, optional
        The true classes of the unlabelled images, -1 for a class that the labelled images lack. Only counted with:
        no method sees them.
    """

    seen: Tensor
    likeliest: Tensor
    kept: Tensor
    right: Tensor
    confidence: Tensor
    confident_right: Tensor
    belief: Tensor
    epoch: Tensor

    def __init__(self, n_classes: int, epochs: int, hidden: NDArray[np.int64] | None = None) -> None:
        super().__init__()
        self.hidden = None if hidden is None else torch.from_numpy(np.asarray(hidden, dtype=np.int64))
        for name, width in (
            ("likeliest", n_classes),
            ("kept", n_classes),
            ("right", n_classes),
            ("confidence", BINS),
            ("confident_right", BINS),
            ("belief", n_classes),
        ):
            self.register_buffer(name, torch.zeros(epochs, width, dtype=torch.float64))
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))
        self._names = ("likeliest", "kept", "right", "confidence", "confident_right", "belief")
        self.start_batch()

    def look(self, beliefs: Tensor, targets: Targets, rows: Tensor, head: int) -> None:
        """Count a (micro-)batch: beliefs (n, H, K), targets, which images they are, and the head that predicts."""
        p = beliefs[:, head].detach().double().cpu()
        weight = targets.weights[:, head].detach().cpu()
        label = targets.probabilities[:, head].detach().cpu().argmax(1)
        n_classes = p.shape[1]
        best, first = p.max(1)
        place = (best * BINS).long().clamp(max=BINS - 1)
        kept = weight > 0
        found = {
            "likeliest": torch.bincount(first, minlength=n_classes),
            "kept": torch.bincount(label[kept], minlength=n_classes),
            "right": torch.zeros(n_classes),
            "confidence": torch.bincount(place, minlength=BINS),
            "confident_right": torch.zeros(BINS),
            "belief": p.sum(0),
        }
        if self.hidden is not None:
            truth = self.hidden[rows.cpu()]
            found["right"] = torch.bincount(label[kept & (label == truth)], minlength=n_classes)
            found["confident_right"] = torch.bincount(place[first == truth], minlength=BINS)
        for name, value in found.items():
            self._sums[name] = self._sums[name] + value.double()

    def start_batch(self) -> None:
        self._sums: dict[str, Tensor] = {
            name: torch.zeros_like(getattr(self, name)[0], device="cpu") for name in self._names
        }

    def finish_batch(self, total: Callable[[Tensor], Tensor]) -> None:
        place = min(int(self.epoch), len(self.kept) - 1)
        for name in self._names:
            buffer: Tensor = getattr(self, name)
            buffer[place] += total(self._sums[name].to(buffer.device))
        self.start_batch()

    def end_epoch(self) -> None:
        """The next epoch begins."""
        self.epoch += 1

    def found(self, labelled_counts: NDArray[np.int64]) -> PseudoLabels:
        """What was counted in the epochs that are complete."""
        done = int(self.epoch)
        arrays: dict[str, Any] = {name: getattr(self, name)[:done].cpu().numpy() for name in self._names}
        return PseudoLabels(
            **arrays, known=self.hidden is not None, labelled_counts=np.asarray(labelled_counts, dtype=float)
        )


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
    known : bool
        Whether hidden labels are known.
    labelled_counts : (K,) array
    """

    likeliest: NDArray[np.float64]
    kept: NDArray[np.float64]
    right: NDArray[np.float64]
    confidence: NDArray[np.float64]
    confident_right: NDArray[np.float64]
    belief: NDArray[np.float64]
    known: bool
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

    def to_json(self) -> Document:
        """All counts; :meth:`from_json` reads them."""
        return {
            **{
                name: np.round(getattr(self, name), 6).tolist()
                for name in ("likeliest", "kept", "right", "confidence", "confident_right", "belief")
            },
            "known": self.known,
            "labelled_counts": self.labelled_counts.tolist(),
        }

    @classmethod
    def from_json(cls, document: Document) -> PseudoLabels:
        """Read what :meth:`to_json` gave."""
        arrays: dict[str, Any] = {
            name: value if name == "known" else np.asarray(value, dtype=float)
            for name, value in document.items()
        }
        return cls(**arrays)

    def reading(self, class_names: Sequence[str], threshold: float) -> list[str]:
        """Say in plain words what went wrong in the last epoch: underlearned, overconfident, a tail left out.

        Empty where nothing did.
        """
        if not len(self.kept):
            return []
        said, kept, seen = [], self.kept[-1], self.confidence[-1].sum()
        share = kept.sum() / max(seen, 1)
        if share < 0.3:
            said.append(
                f"underlearned: in the last epoch {100 * share:.0f} % of the unlabelled images were learnt from; lower "
                "the threshold, or tune more of the tower"
            )
        if self.known and kept.sum():
            precision, groups = self.right[-1].sum() / kept.sum(), self.groups
            # Confident answers, and what they are worth.
            sure = np.arange(BINS) >= threshold * BINS - 1e-9
            n_sure = self.confidence[-1][sure].sum()
            if n_sure and self.confident_right[-1][sure].sum() / n_sure < threshold - 0.1:
                worth = self.confident_right[-1][sure].sum() / n_sure
                said.append(
                    f"overconfident: of the images with a probability of {threshold:g} or more, {100 * worth:.0f} % "
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
            said.append(f"{len(without)} classes have no pseudo-label in the last epoch: {named}")
        return said
