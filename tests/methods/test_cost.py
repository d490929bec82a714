"""Operations and bytes of a stratum against closed forms; seconds are not tested."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from causalft.methods.adaptation.cost import count_flops, kept_bytes, stratum_cost
from causalft.methods.adaptation.settings import default_tuning
from causalft.models.strata.zoo import open_zoo


def test_linear_layer_costs_two_operations_per_weight_and_row():
    layer, x = nn.Linear(11, 7), torch.ones(5, 11)
    forward = 2 * 5 * 11 * 7
    assert count_flops(lambda: layer(x)) == forward
    assert count_flops(lambda: layer(x).sum().backward()) == 2 * forward  # and the gradient of the weight
    asked = x.clone().requires_grad_()
    assert count_flops(lambda: layer(asked).sum().backward()) == 3 * forward


def test_fused_attention_is_counted():
    q = torch.randn(2, 3, 8, 16)
    assert count_flops(lambda: F.scaled_dot_product_attention(q, q, q)) == 2 * 2 * (2 * 3 * 8 * 8 * 16)


def test_kept_bytes_leave_out_the_tensors_of_the_model():
    model = nn.Sequential(nn.Linear(11, 7, bias=False), nn.Tanh(), nn.Linear(7, 2, bias=False))
    x = torch.ones(5, 11)
    # The input for the first weight; the output of tanh for itself and the second weight.
    assert kept_bytes(model, lambda: model(x)) == 4 * 5 * (11 + 7)


@pytest.fixture(scope="module")
def mini():
    return open_zoo("mini").load("clip")


def test_frozen_mini_costs_its_closed_form(mini):
    pixels = torch.zeros((1, 40, 40, 3), dtype=torch.uint8)
    tuning = replace(default_tuning("mini"), batch_size=4)
    cost = stratum_cost(mini, tuning, 60, pixels)
    tokens, width, embedding = 26, 96, 64
    mlp = 2 * 2 * 4 * width**2
    whole = tokens * (2 * 4 * width**2 + mlp) + 2 * 2 * tokens**2 * width
    # Of the last block only the class token is read: its query, its MLP.
    last = tokens * 2 * 3 * width**2 + 2 * 2 * tokens * width + 2 * width**2 + mlp
    assert cost.encode_flops - cost.prefix_flops == 2 * whole + last + 2 * width * embedding
    assert cost.feature_dim == embedding and cost.image_size == 40 and cost.batch == 4
    assert cost.token_bytes == 4 * tokens * width
    assert cost.tuned_bytes == 4 * cost.n_tuned  # float32
    # Backward through frozen layers, without the gradients of their weights, at least doubles the forward pass.
    frozen = cost.encode_flops - cost.prefix_flops
    assert 1.5 * frozen < cost.tune_flops < 3 * frozen
    assert cost.kept_bytes > cost.token_bytes and cost.device_bytes == 0
    assert min(cost.encode_seconds, cost.tune_seconds, cost.predict_seconds) > 0


def test_zero_shot_trains_nothing(mini):
    tuning = replace(default_tuning("mini"), tuner="zero-shot")
    cost = stratum_cost(mini, tuning, 3, torch.zeros((2, 40, 40, 3), dtype=torch.uint8))
    assert (cost.n_tuned, cost.tune_flops, cost.kept_bytes, cost.tune_seconds) == (0, 0, 0, 0.0)
    assert cost.encode_flops > 0


def test_probe_leaves_the_stratum_as_it_was(mini):
    before = {name: value.clone() for name, value in mini.model.state_dict().items()}
    stratum_cost(
        mini, replace(default_tuning("mini"), batch_size=2), 3, torch.zeros((2, 40, 40, 3), dtype=torch.uint8)
    )
    assert all(torch.equal(value, before[name]) for name, value in mini.model.state_dict().items())
    assert not any(parameter.requires_grad for parameter in mini.model.parameters())
