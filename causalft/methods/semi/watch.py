"""What a semi-supervised training did to the unlabelled images, epoch by epoch: pseudo-labels, confidence, prior."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from causalft.methods.semi.method import Targets
from causalft.methods.semi.pseudo_labels import BINS, PseudoLabels
from causalft.models.tuning.statistics import BatchStatistics

__all__ = ["Watch"]


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
        arrays = {name: getattr(self, name)[:done].cpu().numpy() for name in self._names}
        return PseudoLabels(
            **arrays,
            known=np.array(self.hidden is not None, dtype=np.int64),
            labelled_counts=np.asarray(labelled_counts, dtype=float),
        )
