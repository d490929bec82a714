"""TENT: the entropy of the predictions is minimised."""

from __future__ import annotations

from causalft.methods.adaptation.at_test import AtTest
from causalft.methods.adaptation.at_test.norms import layer_norms
from causalft.methods.adaptation.at_test.objectives import Entropy

__all__ = ["Entropy", "layer_norms"]

TENT = AtTest(
    name="tent",
    help="minimises the entropy of the predictions; the usual baseline, and the first to collapse",
    changes="the weights and biases of the image tower's LayerNorms",
    places=layer_norms,
    objective=Entropy,
    formula=r"$\frac 1 n \sum_i H(p_i)$",
    order=1,
    source="Wang et al., ICLR 2021",
)
