"""Frozen layers in bfloat16: what they compute, what stays in fp32, and who decides."""

from __future__ import annotations

import open_clip.transformer
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from causalft.errors import CausalFTError
from causalft.tuning import precision
from causalft.tuning.bf16 import FrozenLinear, attention_bf16
from causalft.tuning.precision import choose_precision, lower_frozen_layers
from causalft.tuning.towers import open_tower

torch.manual_seed(0)
BF16 = 2.0**-8  # unit round-off


def vit(act=nn.GELU):
    torch.manual_seed(1)
    return (
        open_clip.transformer.VisionTransformer(
            image_size=32,
            patch_size=8,
            width=64,
            layers=3,
            heads=4,
            mlp_ratio=4.0,
            output_dim=16,
            act_layer=act,
        )
        .eval()
        .requires_grad_(False)
    )


@pytest.mark.parametrize("activation", ["none", "gelu", "quick_gelu"])
@pytest.mark.parametrize("bias", [True, False])
def test_layer_and_its_gradient_are_those_of_fp32_up_to_rounding(activation, bias):
    linear = nn.Linear(48, 32, bias=bias)
    follow = {
        "none": nn.Identity(),
        "gelu": nn.GELU(),
        "quick_gelu": open_clip.transformer.QuickGELU(),
    }[activation]
    frozen = FrozenLinear(linear, activation)
    x = torch.randn(7, 48)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    expected, found = follow(linear(inputs[0])), frozen(inputs[1])
    assert found.dtype == torch.bfloat16
    weights = torch.randn_like(expected)
    (expected * weights).sum().backward()
    (found.float() * weights).sum().backward()
    scale = expected.abs().max()
    assert (found.float() - expected).abs().max() < 4 * BF16 * scale
    gradients = [i.grad for i in inputs]
    assert gradients[1].dtype == torch.float32
    assert F.cosine_similarity(gradients[0].flatten(), gradients[1].flatten(), dim=0) > 0.9999
    with torch.inference_mode():
        assert (frozen(x).float() - expected).abs().max() < 4 * BF16 * scale
    assert not list(frozen.parameters()) and not frozen.state_dict()


def test_attention_and_its_gradient_are_those_of_fp32_up_to_rounding():
    q, k, v = torch.randn(3, 2, 4, 9, 16).bfloat16()
    queries = q[:, :, :5]
    exact = [t.float().requires_grad_() for t in (queries, k, v)]
    fast = [t.clone().requires_grad_() for t in (queries, k, v)]
    expected, found = F.scaled_dot_product_attention(*exact), attention_bf16(*fast)
    assert found.shape == (2, 4, 5, 16)
    assert (found.float() - expected).abs().max() < 8 * BF16
    weights = torch.randn_like(expected)
    (expected * weights).sum().backward()
    (found.float() * weights).sum().backward()
    for a, b in zip(exact, fast):
        assert F.cosine_similarity(a.grad.flatten(), b.grad.float().flatten(), dim=0) > 0.999


def test_a_mask_is_obeyed():
    q, k, v = torch.randn(3, 1, 2, 6, 8).bfloat16()
    mask = torch.ones(6, 6, dtype=torch.bool).tril()
    expected = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), attn_mask=mask)
    assert (attention_bf16(q, k, v, attn_mask=mask).float() - expected).abs().max() < 8 * BF16


@pytest.mark.parametrize("act", [nn.GELU, open_clip.transformer.QuickGELU])
def test_a_tower_is_lowered_and_its_original_is_not(act):
    visual = vit(act)
    pictures = torch.randn(5, 3, 32, 32)
    before = visual(pictures)
    tower = open_tower(visual)
    assert lower_frozen_layers(tower) == 3 * 4
    kinds = [type(module) for module in tower.blocks.modules()]
    assert nn.Linear not in kinds and act not in kinds
    assert F.cosine_similarity(tower(pictures), before).min() > 0.999
    assert tower(pictures).dtype == torch.float32
    assert torch.equal(visual(pictures), before)


def test_what_is_trained_stays_in_fp32():
    tower = open_tower(vit())
    block = tower.blocks[1]
    block.mlp.c_fc.requires_grad_(True)
    tower.blocks[2].attn.proj.bias.requires_grad_(True)
    assert lower_frozen_layers(tower) == 3 * 4 - 2
    assert type(block.mlp.c_fc) is nn.Linear and isinstance(block.mlp.gelu, nn.GELU)
    tower(torch.randn(2, 3, 32, 32)).sum().backward()
    assert block.mlp.c_fc.weight.grad.dtype == torch.float32 and tower.blocks[2].attn.proj.bias.grad.any()


def test_the_last_block_gives_the_class_token_and_the_same_features():
    visual = vit()
    tower = open_tower(visual)
    pictures = torch.randn(4, 3, 32, 32)
    tokens = tower.run(tower.embed(pictures))
    assert tokens.shape == (4, 1, 64)
    assert torch.allclose(tower.pool(tokens), visual(pictures), atol=1e-6)
    averaged = open_clip.transformer.VisionTransformer(
        image_size=32,
        patch_size=8,
        width=64,
        layers=2,
        heads=4,
        mlp_ratio=2.0,
        output_dim=16,
        pool_type="avg",
    ).eval()
    tower = open_tower(averaged)
    assert tower.run(tower.embed(pictures)).shape == (4, 17, 64)
    assert torch.allclose(tower(pictures), averaged(pictures), atol=1e-6)


def test_auto_measures_wide_towers_on_a_processor_that_can(monkeypatch):
    asked = []
    monkeypatch.setattr(precision, "speedup", lambda width: asked.append(width) or 1.0 + width / 1000)
    monkeypatch.setattr(precision, "has_bf16_matrices", lambda: True)
    assert choose_precision("auto", 96) == "fp32" and not asked
    assert choose_precision("auto", 768) == "bf16" and choose_precision("auto", 384) == "fp32"
    assert asked == [768, 384]
    monkeypatch.setattr(precision, "has_bf16_matrices", lambda: False)
    assert choose_precision("auto", 1024) == "fp32" and choose_precision("bf16", 96) == "bf16"


def test_a_wrong_precision_is_refused():
    with pytest.raises(CausalFTError, match="no precision 'fp8'"):
        choose_precision("fp8", 768)
    with pytest.raises(CausalFTError, match="fp16 is for CUDA"):
        choose_precision("fp16", 768)
