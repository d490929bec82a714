"""BatchNorms mix the statistics of the batch with those of the training."""

from __future__ import annotations

from causalft.methods.adaptation.at_test import AtTest
from causalft.methods.adaptation.at_test.norms import batch_norms

__all__ = ["batch_norms"]

BATCH_STATISTICS = AtTest(
    name="bn",
    help="mixes mean and variance of the batch with the stored ones in every BatchNorm; for ResNets only",
    changes="the statistics of the image tower's BatchNorms",
    places=batch_norms,
    formula="none",
    steps=0,
    stored_images=512,
    order=3,
    source="Nado et al., 2020; Schneider et al., NeurIPS 2020",
)
