"""Frozen layers in bfloat16: their results, what stays in fp32, and how the precision is chosen."""

from __future__ import annotations

from contextlib import nullcontext

import open_clip.modified_resnet
import open_clip.transformer
import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

from causalft.errors import CausalFTError
from causalft.models.tuning import precision
from causalft.models.tuning.devices import has_bf16
from causalft.models.tuning.frozen_layers import (
    FrozenLinear,
    FrozenMLP,
    FrozenPatches,
    attention_bf16,
    attention_fp32,
)
from causalft.models.tuning.int8 import Int8Linear
from causalft.models.tuning.precision import (
    choose_precision,
    int8_pays,
    lay_out_convolutions,
    lower_frozen_layers,
)
from causalft.models.tuning.towers import open_tower

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


def nearly(found, expected, inputs):
    """Values within a few roundings, and gradients of both inputs in one direction."""
    assert found.dtype == torch.bfloat16 and found.shape == expected.shape
    scale = expected.abs().max()
    assert (found.float() - expected).abs().max() < 8 * BF16 * scale
    weights = torch.randn_like(expected)
    (expected * weights).sum().backward()
    (found.float() * weights).sum().backward()
    assert inputs[1].grad.dtype == torch.float32
    return F.cosine_similarity(inputs[0].grad.flatten(), inputs[1].grad.flatten(), dim=0)


@pytest.mark.parametrize("bias", [True, False])
def test_layer_and_its_gradient_are_those_of_fp32_up_to_rounding(bias):
    linear = nn.Linear(48, 32, bias=bias)
    frozen = FrozenLinear(linear)
    x = torch.randn(7, 48)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    assert nearly(frozen(inputs[1]), linear(inputs[0]), inputs) > 0.9999
    assert not list(frozen.parameters()) and not frozen.state_dict()


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
@pytest.mark.parametrize("rows", [5, 100])
def test_mlp_and_its_gradient_are_those_of_fp32_up_to_rounding(activation, rows, monkeypatch):
    monkeypatch.setattr(
        "causalft.models.tuning.frozen_layers._ROWS", 32
    )  # 100 rows go through in four parts, the last one of four
    between = {"gelu": nn.GELU(), "quick_gelu": open_clip.transformer.QuickGELU()}[activation]
    layers = [nn.Linear(24, 96), nn.Linear(96, 24)]
    fast = FrozenMLP(FrozenLinear(layers[0]), FrozenLinear(layers[1]), activation)
    x = torch.randn(rows, 24)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    expected = layers[1](between(layers[0](inputs[0])))
    assert nearly(fast(inputs[1]), expected, inputs) > 0.999
    with torch.inference_mode():
        assert (fast(x).float() - expected).abs().max() < 8 * BF16 * expected.abs().max()


@pytest.mark.parametrize("tiles", [False, True])
@pytest.mark.parametrize("n_queries", [None, 1, 5])
@pytest.mark.parametrize("n", [1, 6])
def test_attention_and_its_gradient_are_those_of_fp32_up_to_rounding(n, n_queries, tiles, monkeypatch):
    monkeypatch.setattr("causalft.models.tuning.frozen_layers._TILES", tiles)
    qkv = torch.randn(n, 9, 3 * 64)
    inputs = [qkv.clone().requires_grad_() for _ in range(2)]
    q, k, v = inputs[0].reshape(n, 9, 3, 4, 16).permute(2, 0, 3, 1, 4).unbind(0)
    expected = F.scaled_dot_product_attention(q[:, :, :n_queries], k, v).transpose(1, 2).flatten(2)
    assert nearly(attention_bf16(inputs[1], 4, n_queries), expected, inputs) > 0.999


@pytest.mark.parametrize("n_queries", [None, 1, 5])
@pytest.mark.parametrize("n", [1, 6])
def test_attention_that_keeps_bf16_is_that_of_fp32_and_so_is_its_gradient_up_to_rounding(n, n_queries):
    qkv, kept = torch.randn(n, 9, 3 * 64), []
    inputs = [qkv.clone().requires_grad_() for _ in range(2)]
    q, k, v = inputs[0].reshape(n, 9, 3, 4, 16).permute(2, 0, 3, 1, 4).unbind(0)
    expected = F.scaled_dot_product_attention(q[:, :, :n_queries], k, v).transpose(1, 2).flatten(2)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        found = attention_fp32(inputs[1], 4, n_queries)
    assert torch.equal(found, expected) and [t.dtype for t in kept] == [torch.bfloat16]
    weights = torch.randn_like(expected)
    (expected * weights).sum().backward()
    (found * weights).sum().backward()
    exact, lean = (each.grad for each in inputs)
    assert (lean - exact).abs().max() < 8 * BF16 * exact.abs().max()


def test_attention_mask_is_applied():
    tower = open_tower(vit())
    attention = tower.blocks[0].attn
    x, mask = torch.randn(2, 5, 64), torch.ones(5, 5, dtype=torch.bool).tril()
    expected = attention(x, attn_mask=mask)[0]
    lower_frozen_layers(tower)
    found = attention(x, attn_mask=mask)[0]
    assert (found.float() - expected).abs().max() < 16 * BF16 * expected.abs().max()
    assert not torch.allclose(found.float(), attention(x)[0].float(), atol=0.01)


@pytest.mark.parametrize("act", [nn.GELU, open_clip.transformer.QuickGELU])
def test_lowering_a_tower_leaves_the_original_unchanged(act):
    visual = vit(act)
    pictures = torch.randn(5, 3, 32, 32)
    before = visual(pictures)
    tower = open_tower(visual)
    assert lower_frozen_layers(tower) == 3 * 4 + 1
    kinds = [type(module) for module in tower.blocks.modules()]
    assert nn.Linear not in kinds and act not in kinds
    assert F.cosine_similarity(tower(pictures), before).min() > 0.999
    assert tower(pictures).dtype == torch.float32
    assert torch.equal(visual(pictures), before)


def test_the_patches_of_every_tower_are_one_linear_layer():
    convolution = nn.Conv2d(3, 16, kernel_size=(4, 6), stride=(4, 6))
    pictures = torch.randn(3, 3, 13, 19)  # a row and a column that no kernel reaches
    expected, found = convolution(pictures), FrozenPatches(convolution)(pictures)
    assert found.shape == expected.shape == (3, 16, 3, 3)
    assert (found.float() - expected).abs().max() < 8 * BF16 * expected.abs().max()
    timm_tower = open_tower(
        timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1, num_classes=0).eval()
    )
    assert lower_frozen_layers(timm_tower) == 4 + 1
    assert isinstance(timm_tower.trunk.patch_embed.proj, FrozenPatches)
    tower = open_tower(vit())
    tower.visual.conv1.requires_grad_(True)  # a trained one stays
    lower_frozen_layers(tower)
    assert isinstance(tower.visual.conv1, nn.Conv2d)


def test_channels_last_resnet_gives_the_same_features():
    visual = open_clip.modified_resnet.ModifiedResNet([1, 1, 1, 1], 16, 4, image_size=32, width=16).eval()
    pictures = torch.randn(2, 3, 32, 32)
    expected = visual(pictures)
    lay_out_convolutions(visual)
    tower = open_tower(visual)
    wide = [m.weight for m in tower.modules() if isinstance(m, nn.Conv2d) and m.weight[0, 0].numel() > 1]
    assert wide and all(weight.is_contiguous(memory_format=torch.channels_last) for weight in wide)
    assert torch.allclose(tower(pictures), expected, atol=1e-6)
    place = visual.conv2.weight.data_ptr()
    lay_out_convolutions(visual)
    assert visual.conv2.weight.data_ptr() == tower.visual.conv2.weight.data_ptr() == place  # one copy
    of_vit = vit()
    lay_out_convolutions(of_vit)
    assert of_vit.conv1.weight.is_contiguous()


def test_large_batches_are_split_and_keep_their_order():
    tower = open_tower(vit())
    lower_frozen_layers(tower)
    pictures = torch.randn(19, 3, 32, 32)
    whole = tower(pictures)  # with gradients the batch stays in one piece
    with torch.inference_mode():
        parts = tower(pictures)
    assert parts.shape == whole.shape
    assert (parts - whole).abs().max() < 8 * BF16 * whole.abs().max()


def test_trained_weights_stay_in_fp32():
    tower = open_tower(vit())
    block = tower.blocks[1]
    block.mlp.c_fc.requires_grad_(True)
    tower.blocks[2].attn.proj.bias.requires_grad_(True)
    assert lower_frozen_layers(tower) == 3 * 4 - 2 + 1
    assert isinstance(block.mlp.c_fc, nn.Linear) and isinstance(block.mlp.gelu, nn.GELU)
    tower(torch.randn(2, 3, 32, 32)).sum().backward()
    assert block.mlp.c_fc.weight.grad.dtype == torch.float32 and tower.blocks[2].attn.proj.bias.grad.any()


def test_last_block_gives_class_token_with_equal_features():
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


@pytest.mark.parametrize(
    "options", [{}, {"qk_norm": True, "init_values": 0.1, "reg_tokens": 2}, {"global_pool": "avg"}]
)
def test_last_block_of_timm_gives_class_token_with_equal_features_and_gradients(options):
    torch.manual_seed(2)
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, num_classes=0, **options).eval()
    tower, pictures = open_tower(model), torch.randn(3, 3, 32, 32)
    whole = model.forward_features(pictures).shape
    n_tokens = tower.run(tower.embed(pictures)).shape[1]
    assert n_tokens == (whole[1] if options.get("global_pool") == "avg" else 1) and whole[1] >= 5
    seen = [pictures.clone().requires_grad_() for _ in range(2)]
    expected, found = model(seen[0]), tower(seen[1])
    assert torch.allclose(found, expected, atol=1e-5)
    for features in (expected, found):
        (features**3).sum().backward()
    assert torch.allclose(seen[1].grad, seen[0].grad, atol=1e-4)


def test_auto_measures_wide_towers_on_a_processor_that_can(monkeypatch):
    asked = []
    monkeypatch.setattr(precision, "speedup", lambda width: asked.append(width) or 1.0 + width / 1000)
    monkeypatch.setattr(precision, "has_bf16_matrices", lambda: True)
    assert choose_precision("auto", 96) == "fp32" and not asked
    assert choose_precision("auto", 768) == "bf16" and choose_precision("auto", 384) == "fp32"
    assert asked == [768, 384]
    monkeypatch.setattr(precision, "has_bf16_matrices", lambda: False)
    assert choose_precision("auto", 1024) == "fp32" and choose_precision("bf16", 96) == "bf16"


def test_int8_pays_where_a_wide_layer_is_faster_in_it(monkeypatch):
    asked = []
    monkeypatch.setattr(precision, "int8_speedup", lambda width: asked.append(width) or 1.0 + width / 1000)
    assert not int8_pays(96) and not int8_pays(768, "cuda") and not asked
    assert int8_pays(768, "cpu") and not int8_pays(384) and asked == [768, 384]
    monkeypatch.setattr(precision, "has_int8", lambda: False)
    assert not int8_pays(768)
    assert precision._speedup(Int8Linear, 256, rows=16) > 0


def test_a_wrong_precision_is_refused():
    with pytest.raises(CausalFTError, match="no precision 'fp8'"):
        choose_precision("fp8", 768)
    with pytest.raises(CausalFTError, match="fp16 is for CUDA; on a CPU use precision='bf16', fp32 or auto"):
        choose_precision("fp16", 768)
    with pytest.raises(CausalFTError, match="fp16 is for CUDA; on an Apple GPU"):
        choose_precision("fp16", 768, "mps")


def test_a_gpu_that_only_emulates_bf16_takes_fp16(monkeypatch):
    monkeypatch.setattr(precision, "has_bf16", lambda device: device.index == 1)
    assert (
        choose_precision("auto", 768, "cuda:0") == "fp16"
        and choose_precision("auto", 768, "cuda:1") == "bf16"
    )
    assert (
        choose_precision("bf16", 768, "cuda:1") == "bf16"
        and choose_precision("fp32", 768, "cuda:0") == "fp32"
    )
    with pytest.raises(CausalFTError, match="the GPU cuda:0 has no bf16; use precision='fp16', fp32 or auto"):
        choose_precision("bf16", 768, "cuda:0")


def test_bf16_that_is_emulated_does_not_count(monkeypatch):
    monkeypatch.setattr("torch.cuda.device", lambda device: nullcontext())
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert not has_bf16(torch.device("cuda"))


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_slope_of_the_activation_is_that_of_fp32_over_the_whole_range(activation):
    first, last = nn.Linear(1, 1), nn.Linear(1, 1)
    for layer in (first, last):
        nn.init.ones_(layer.weight)
        nn.init.zeros_(layer.bias)
    fast = FrozenMLP(FrozenLinear(first), FrozenLinear(last), activation)
    between = {"gelu": nn.GELU(), "quick_gelu": open_clip.transformer.QuickGELU()}[activation]
    x = torch.linspace(-40, 40, 4001)[:, None]
    exact, kept = (x.clone().requires_grad_() for _ in range(2))
    between(exact).sum().backward()
    fast(kept).sum().backward()
    assert (kept.grad - exact.grad).abs().max() < 0.03 and (kept.grad - exact.grad).abs().mean() < 0.003
