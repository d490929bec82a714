"""Frozen layers in int8: exact integers, their distance from fp32, gradients, and what stays in fp32."""

from __future__ import annotations

import numpy as np
import open_clip.transformer
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn
from torch.nn import functional as F

from causalft.errors import CausalFTError
from causalft.models.tuning import int8, precision
from causalft.models.tuning.frozen_layers import FrozenMLP, attention_bf16
from causalft.models.tuning.int8 import LARGEST_WEIGHT, Int8Linear
from causalft.models.tuning.precision import choose_precision, round_frozen_layers, settle_precision
from causalft.models.tuning.towers import open_tower
from tests.models.tuning.test_precision import vit


def close(found, expected):
    """Relative error in the 2-norm."""
    return float((found - expected).detach().norm() / expected.detach().norm())


@pytest.mark.parametrize(("most", "last"), [(255.0, 0.0), (0.0, -255.0)])
def test_a_layer_on_the_grid_is_exact_at_the_limits_of_8_bits(most, last):
    # Largest weights and activations side by side: here a processor without VNNI would saturate with weights of 127.
    linear = nn.Linear(96, 5, bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([64.0, -64.0, 1.0, 0.0, 32.0])[:, None].expand(5, 96))
        linear.weight[2, 0] = 64.0
    x = torch.full((3, 96), most)
    x[:, -1] = last
    layer = Int8Linear(linear)
    assert torch.allclose(layer(x), linear(x), rtol=1e-6, atol=1e-3)
    assert layer._forward.to_dense().abs().max() == LARGEST_WEIGHT


@given(
    arrays(np.float32, (3, 8), elements=st.floats(-1e4, 1e4, width=32)),
    arrays(np.float32, (4, 8), elements=st.floats(-1, 1, width=32)),
)
def test_error_of_a_layer_stays_below_that_of_its_roundings(x, weight):
    linear = nn.Linear(8, 4)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(weight))
    rows = torch.from_numpy(x)
    step_x = (rows.amax(1, keepdim=True) - rows.amin(1, keepdim=True)) / 255
    step_w = linear.weight.abs().amax(1) / LARGEST_WEIGHT
    # |xw - x'w'| <= |x| |w - w'| + |x - x'| |w'|, each half a step
    bound = 0.5 * rows.abs().sum(1, keepdim=True) * step_w
    bound = bound + 0.5 * step_x * (linear.weight.abs().sum(1) + 4 * step_w)
    error = (Int8Linear(linear)(rows) - linear(rows)).abs()
    of_floats = 1e-6 * (rows.abs().sum(1, keepdim=True) + linear.bias.abs())
    assert bool((error <= 1.01 * bound + of_floats).all())


@pytest.mark.parametrize("bias", [True, False])
def test_layer_and_its_gradient_are_those_of_fp32_up_to_rounding(bias):
    torch.manual_seed(0)
    linear, x = nn.Linear(64, 48, bias=bias), torch.randn(800, 64)  # rows go through in two parts
    layer = Int8Linear(linear)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    expected, found = linear(inputs[0]), layer(inputs[1])
    assert found.dtype == torch.float32 and close(found, expected) < 0.02
    weights = torch.randn_like(expected)
    (expected * weights).sum().backward()
    (found * weights).sum().backward()
    assert close(inputs[1].grad, inputs[0].grad) < 0.02
    assert not list(layer.parameters()) and not layer.state_dict()
    assert torch.equal(layer(x.view(8, 100, 64)).flatten(0, 1), layer(x))


def test_a_row_depends_on_no_other_row():
    torch.manual_seed(0)
    layer = Int8Linear(nn.Linear(32, 16))
    x = torch.randn(6, 32)
    alone = torch.cat([layer(row[None]) for row in x])
    x[3] *= 1000
    rest = [0, 1, 2, 4, 5]
    assert torch.allclose(layer(x)[rest], alone[rest], rtol=1e-6, atol=1e-6)


def test_empty_rows_of_zeros_and_values_that_are_not_finite():
    linear = nn.Linear(8, 4)
    layer = Int8Linear(linear)
    assert layer(torch.zeros(0, 8)).shape == (0, 4)
    assert torch.equal(layer(torch.zeros(2, 8)), linear.bias.expand(2, 4))
    for place in range(8):
        for value in ("nan", "inf", "-inf"):
            x = torch.ones(2, 8)
            x[1, place] = float(value)
            found = layer(x)
            assert found[0].isfinite().all() and not found[1].isfinite().any()


@pytest.mark.parametrize("largest", [1e-36, 1e-12, 1e-8, 1.0, 1e12, 1e36])
def test_rows_of_any_size_are_rounded_alike(largest):
    torch.manual_seed(0)
    linear = nn.Linear(48, 64, bias=False)
    layer = Int8Linear(linear)
    x, gradient = torch.randn(900, 48), torch.randn(900, 64)
    size = torch.ones(900, 1)
    size[::2] = largest  # beside rows of another size
    for found, expected in (
        (layer(x * size) / size, linear(x)),
        (layer.back(gradient * size) / size, gradient @ linear.weight),
    ):
        assert close(found[::2], expected[::2]) < 0.02 and close(found[1::2], expected[1::2]) < 0.02


def test_a_gradient_that_is_zero_or_not_finite_concerns_its_own_row():
    layer = Int8Linear(nn.Linear(8, 6))
    gradient = torch.ones(3, 6)
    gradient[0], gradient[1, 2] = 0.0, float("nan")
    found = layer.back(gradient)
    assert not found[0].any() and not found[1].isfinite().any() and found[2].isfinite().all()
    nothing = nn.Linear(8, 6)
    nn.init.zeros_(nothing.weight)
    assert not Int8Linear(nothing).back(torch.zeros(2, 6)).any()
    assert layer.back(torch.zeros(0, 6)).shape == (0, 8)


def test_the_sum_of_a_row_may_overflow():
    linear, x = nn.Linear(768, 4, bias=False), torch.rand(2, 768) * 1e36
    assert close(Int8Linear(linear)(x) / 1e36, linear(x / 1e36)) < 0.02


@pytest.mark.parametrize("n", [1, 2, 789])
@pytest.mark.parametrize("width", [1, 2, 3, 5, 10])
def test_layers_of_any_width_take_any_number_of_rows(n, width):
    linear, x = nn.Linear(width, 3), torch.randn(n, width)
    layer = Int8Linear(linear)
    assert torch.allclose(layer(x), linear(x), atol=0.05)
    gradient = torch.randn(n, 3)
    assert torch.allclose(layer.back(gradient), gradient @ linear.weight, atol=0.1)


def test_a_compiled_layer_rounds_as_the_kernel_does():
    torch.manual_seed(0)
    layer, x = Int8Linear(nn.Linear(32, 16)), torch.randn(50, 32)
    with torch.no_grad():
        compiled = torch.compile(layer, backend="eager", fullgraph=True)
        assert torch.allclose(compiled(x), layer(x), atol=1e-3)


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_mlp_and_its_gradient_are_those_of_fp32_up_to_rounding(activation):
    torch.manual_seed(0)
    between = {"gelu": nn.GELU(), "quick_gelu": open_clip.transformer.QuickGELU()}[activation]
    first, last = nn.Linear(48, 192), nn.Linear(192, 48)
    fast = FrozenMLP(Int8Linear(first), Int8Linear(last), activation)
    x = torch.randn(900, 48)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    expected, kept = last(between(first(inputs[0]))), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        found = fast(inputs[1])
    assert close(found, expected) < 0.02
    assert [(t.dtype, tuple(t.shape)) for t in kept] == [(torch.uint8, (900, 192))]
    weights = torch.randn_like(expected)
    (expected * weights).sum().backward()
    fast.fc1.product = None  # nothing is computed twice
    (found * weights).sum().backward()
    assert close(inputs[1].grad, inputs[0].grad) < 0.03


@pytest.mark.parametrize("act", [nn.GELU, open_clip.transformer.QuickGELU])
def test_rounding_a_tower_leaves_the_original_and_what_is_trained_unchanged(act):
    visual = vit(act)
    pictures = torch.randn(120, 3, 32, 32)  # more than go through the blocks together
    before = visual(pictures)
    tower = open_tower(visual)
    tower.blocks[1].attn.proj.requires_grad_(True)
    assert round_frozen_layers(tower) == 3 * 4 - 1
    assert isinstance(tower.blocks[1].attn.proj, nn.Linear) and isinstance(tower.visual.conv1, nn.Conv2d)
    with torch.inference_mode():
        parts = tower(pictures)
    assert F.cosine_similarity(parts, before).min() > 0.998
    assert torch.allclose(parts, tower(pictures), atol=1e-5)
    assert torch.equal(visual(pictures), before)
    tower(pictures[:2]).sum().backward()
    assert tower.blocks[1].attn.proj.weight.grad.any()


def test_towers_of_timm_are_rounded_and_a_resnet_stays_in_fp32():
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1, num_classes=0).eval()
    tower, pictures = open_tower(model), torch.randn(3, 3, 32, 32)
    assert settle_precision(tower, "int8", torch.device("cpu")) == ("int8", 4)
    assert F.cosine_similarity(tower(pictures), model(pictures)).min() > 0.998
    resnet = open_tower(timm.create_model("resnet10t", num_classes=0).eval())
    assert settle_precision(resnet, "int8", torch.device("cpu")) == ("fp32", 0)


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("auto", ["bf16", "fp32"])
def test_attention_takes_bf16_where_auto_would(monkeypatch, auto, trained):
    taken = []
    monkeypatch.setattr(precision, "choose_precision", lambda wanted, width: auto)
    monkeypatch.setattr(
        precision, "attention_bf16", lambda *given: taken.append(given) or attention_bf16(*given)
    )
    visual, pictures = vit(nn.GELU), torch.randn(3, 3, 32, 32)
    tower = open_tower(visual)
    for block in tower.blocks:
        block.attn.proj.requires_grad_(trained)
    assert round_frozen_layers(tower) == 3 * (4 - trained)
    found = tower(pictures.requires_grad_())
    assert len(taken) == (3 if auto == "bf16" else 0) and found.dtype == torch.float32
    assert F.cosine_similarity(found, visual(pictures)).min() > 0.998
    expected = torch.autograd.grad(visual(pictures).sum(), pictures)[0]
    assert close(torch.autograd.grad(found.sum(), pictures)[0], expected) < 0.1
    exported = open_tower(vit(nn.GELU))
    round_frozen_layers(exported, fp32_attention=True)
    exported(pictures)
    assert len(taken) == (3 if auto == "bf16" else 0)


def test_int8_is_refused_where_it_cannot_be(monkeypatch):
    assert choose_precision("int8", 96) == "int8"
    with pytest.raises(CausalFTError, match="int8 is for a CPU; on a GPU use precision='auto'"):
        choose_precision("int8", 768, "cuda:0")
    monkeypatch.setattr(int8, "has_int8", lambda: False)
    with pytest.raises(CausalFTError, match="this build of PyTorch has no int8 layers"):
        choose_precision("int8", 768)
