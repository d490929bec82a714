"""What is minimised at test time: entropies of predictions, of a batch or of remembered images."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

__all__ = ["Entropy", "Objective", "entropy_of_mean", "mean_entropy", "soft_contrastive"]


class Objective(Protocol):
    """A loss without labels, and what it remembers of the stream."""

    def loss(self, logits: Tensor) -> Tensor:
        """Scalar loss of logits (n, K), of the batch or of remembered images."""
        ...

    def recall(self, n: int) -> Tensor | None:
        """At most n remembered images, uint8 pixels as they came, whose loss is added to that of the batch; or None."""
        ...

    def remember(self, pixels: Tensor, logits: Tensor) -> None:
        """See a batch after the model has adapted to it: pixels (n, ...) and logits (n, K)."""
        ...


def mean_entropy(logits: Tensor) -> Tensor:
    r"""Mean entropy of the row softmax, in nats: $-\frac 1 n \sum_i \sum_k p_{ik} \log p_{ik}$.

    Examples
    --------
    >>> round(mean_entropy(torch.zeros(3, 4)).item(), 4)  # log 4
    1.3863
    """
    log_p = logits.log_softmax(dim=1)
    return -(log_p.exp() * log_p).sum(dim=1).mean()


def entropy_of_mean(logits: Tensor) -> Tensor:
    r"""Entropy of the mean class distribution $\bar p = \frac 1 n \sum_i p_i$, in nats.

    Examples
    --------
    >>> one_class_each = 100 * torch.eye(2)
    >>> round(entropy_of_mean(one_class_each).item(), 4)  # log 2
    0.6931
    """
    log_mean = logits.log_softmax(dim=1).logsumexp(dim=0) - torch.log(
        torch.tensor(float(len(logits)), dtype=logits.dtype, device=logits.device)
    )
    return -(log_mean.exp() * log_mean).sum()


def soft_contrastive(logits: Tensor) -> Tensor:
    r"""Soft contrastive loss of a batch over its own pseudo-captions, in nats.

    The pseudo-caption of an image is that of its most probable class, $\hat y_j$. The logits of every image against the
    pseudo-caption of every image, $z_{i \hat y_j}$, make a matrix (n, n), and the loss is the mean entropy of its row
    softmax. A class that the batch predicts often stands in the denominator often, which keeps the loss from
    collapsing as fast as the entropy over classes does (Lafon et al., CLIPTTA, NeurIPS 2025).

    Examples
    --------
    >>> round(soft_contrastive(100 * torch.eye(2)[[0, 0, 1]]).item(), 4)  # (2 log 2) / 3: two images share a caption
    0.4621
    """
    return mean_entropy(logits[:, logits.detach().argmax(dim=1)])


class Entropy:
    """The mean entropy of the predictions; remembers nothing."""

    def __init__(self, n_classes: int) -> None:
        pass

    def loss(self, logits: Tensor) -> Tensor:
        return mean_entropy(logits)

    def recall(self, n: int) -> Tensor | None:
        return None

    def remember(self, pixels: Tensor, logits: Tensor) -> None:
        pass
