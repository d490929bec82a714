"""Adapters start as the frozen model, and their width is LIFT's."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from causalft.models.tuning.heads import CosineHead
from causalft.models.tuning.tuners.adapters import AdaptedMLP, ResidualBottleneck, bottleneck_width


@given(n_classes=st.integers(2, 20_000), n_blocks=st.integers(1, 48))
def test_the_bottleneck_is_a_power_of_two_near_half_the_classes_a_block(n_classes, n_blocks):
    width = bottleneck_width(n_classes, n_blocks)
    assert width & (width - 1) == 0 and width >= 1
    if width > 1:
        assert width <= n_classes / (2 * n_blocks) < 2 * width


def test_bottleneck_width_equals_lift():
    """ImageNet-LT, Places-LT, iNaturalist 2018, CIFAR-100-LT on a ViT-B/16; few classes; 60 on a mini."""
    assert [bottleneck_width(k, 12) for k in (1000, 365, 8142, 100, 8, 2)] == [32, 8, 256, 4, 1, 1]
    assert bottleneck_width(768, 12) == 32 and bottleneck_width(767, 12) == 16
    assert bottleneck_width(60, 3) == 8


def test_an_adapter_is_the_mlp_plus_a_scaled_bottleneck():
    mlp = nn.Linear(5, 5)
    adapter = AdaptedMLP(mlp, width=5, bottleneck=2, scale=0.5)
    h = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(adapter(h), mlp(h))  # the up-projection starts at zero
    with torch.no_grad():
        adapter.up.weight.fill_(1.0)
        adapter.up.bias.fill_(0.25)
    inner = (h @ adapter.down.weight.T + adapter.down.bias).clamp(min=0)
    assert torch.allclose(adapter(h), mlp(h) + 0.5 * (inner.sum(1, keepdim=True) + 0.25), atol=1e-6)


def test_residual_bottleneck_starts_as_the_identity():
    tokens, maps = ResidualBottleneck(5, 2), ResidualBottleneck(5, 2, convolution=True)
    x = torch.randn(3, 4, 4, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(tokens(x), x)
    with torch.no_grad():
        tokens.up.weight.fill_(0.5)
        for (_, ours), (_, theirs) in zip(maps.named_parameters(), tokens.named_parameters(), strict=True):
            ours.copy_(theirs.reshape(ours.shape))
    inner = (x @ tokens.down.weight.T + tokens.down.bias).clamp(min=0)
    assert torch.allclose(tokens(x), x + 0.5 * inner.sum(-1, keepdim=True), atol=1e-6)
    assert torch.allclose(maps(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1), tokens(x), atol=1e-6)


def test_cosine_head_ignores_lengths_and_copies_its_start():
    text = F.normalize(torch.randn(3, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    head = CosineHead(text, scale=25.0)
    assert torch.allclose(head(5 * text).diagonal(), torch.full((3,), 25.0))
    x = torch.randn(2, 4, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(head(x), head(7 * x), atol=1e-4)
    with torch.no_grad():
        head.weight.mul_(3.0)
    assert torch.allclose(head(x), 25 * F.normalize(x, dim=1) @ text.T, atol=1e-5)
    assert text.norm(dim=1).allclose(torch.ones(3))
