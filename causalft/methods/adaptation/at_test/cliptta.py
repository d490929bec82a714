"""CLIPTTA: soft contrastive loss over the pseudo-captions of the batch, with a class-balanced confident memory."""

from __future__ import annotations

from torch import Tensor

from causalft.methods.adaptation.at_test import AtTest
from causalft.methods.adaptation.at_test.memory import ConfidentMemory, images_per_class
from causalft.methods.adaptation.at_test.norms import layer_norms
from causalft.methods.adaptation.at_test.objectives import entropy_of_mean, soft_contrastive

__all__ = ["SoftContrast", "layer_norms"]


class SoftContrast:
    """Soft contrastive loss less the entropy of the mean class distribution, of a batch or of remembered images.

    Parameters
    ----------
    n_classes : int
    weight : float
        Of the entropy of the mean.

    Attributes
    ----------
    memory : ConfidentMemory
    """

    def __init__(self, n_classes: int, weight: float = 1.0) -> None:
        self.weight = weight
        self.memory = ConfidentMemory(images_per_class(n_classes))

    def loss(self, logits: Tensor) -> Tensor:
        return soft_contrastive(logits) - self.weight * entropy_of_mean(logits)

    def recall(self, n: int) -> Tensor | None:
        return self.memory.sample(n)

    def remember(self, pixels: Tensor, logits: Tensor) -> None:
        confidence, classes = logits.softmax(dim=1).max(dim=1)
        self.memory.add(pixels, classes, confidence)


CLIPTTA = AtTest(
    name="cliptta",
    help="contrasts images with the pseudo-captions of their batch, and keeps the predicted classes spread",
    changes="the weights and biases of the image tower's LayerNorms",
    places=layer_norms,
    objective=SoftContrast,
    formula=r"$\frac 1 n \sum_i H(\mathrm{softmax}_j\, z_{i \hat y_j}) - H(\bar p)$, of the batch and of a memory",
    order=2,
    source="Lafon et al., NeurIPS 2025",
)
