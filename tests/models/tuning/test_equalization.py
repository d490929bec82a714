"""The equalization loss against a value by hand, in its limits, and its gradient on rare classes."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from causalft.errors import CausalFTError
from causalft.models.tuning.losses import make_loss

COUNTS = [90, 8, 2]  # shares 0.90, 0.08 and 0.02; below 0.3 / 3 = 0.1 the last two are rare


def test_it_is_the_softmax_with_the_weights_of_rare_classes_reduced():
    logits = torch.log(torch.tensor([[4.0, 2.0, 1.0], [3.0, 1.0, 2.0]], dtype=torch.float64))
    labels = torch.tensor([0, 2])
    # Weights (1, 1/4, 1/4) for the first sample and (1, 1/4, 1) for the second: p = 4 / 4.75 and 2 / 5.25.
    expected = -(math.log(4 / 4.75) + math.log(2 / 5.25)) / 2
    assert make_loss("EQL", COUNTS, gamma=0.75)(logits, labels).item() == pytest.approx(expected, rel=1e-12)


def test_without_rare_classes_or_with_gamma_zero_it_is_cross_entropy():
    logits = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0, 0])
    plain = F.cross_entropy(logits, labels)
    for settings in ({"gamma": 0}, {"tail": 0}):
        assert torch.allclose(make_loss("EQL", COUNTS, **settings)(logits, labels), plain)


def test_samples_of_other_classes_push_a_rare_class_down_less():
    gradient = {}
    for name in ("CE", "EQL"):
        logits = torch.zeros(1, 3, requires_grad=True)
        make_loss(name, COUNTS)(logits, torch.tensor([0])).backward()
        gradient[name] = logits.grad[0].tolist()
    assert gradient["CE"] == pytest.approx([-2 / 3, 1 / 3, 1 / 3])
    assert gradient["EQL"] == pytest.approx([-0.2 / 1.2, 0.1 / 1.2, 0.1 / 1.2])


@pytest.mark.parametrize("gamma", [1.0, -0.1, math.nan])
def test_gamma_out_of_range_is_refused(gamma):
    with pytest.raises(CausalFTError, match="gamma of the loss EQL is"):
        make_loss("EQL", COUNTS, gamma=gamma)
