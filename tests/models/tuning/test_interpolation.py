"""WiSE-FT: interpolation is exact at its ends, and states of different models are refused."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from causalft.errors import CausalFTError
from causalft.models.tuning.heads import make_head
from causalft.models.tuning.interpolation import evaluate_interpolations, interpolate


def two_models():
    torch.manual_seed(0)
    start = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), make_head("linear", torch.randn(3, 5)))
    end = copy.deepcopy(start).train()
    optimizer = torch.optim.SGD(end.parameters(), lr=0.5)
    for _ in range(5):
        optimizer.zero_grad()
        nn.functional.cross_entropy(end(torch.randn(16, 6)), torch.randint(0, 3, (16,))).backward()
        optimizer.step()
    return start.eval(), end.eval()


def test_interpolation_is_exact_at_both_ends():
    start, end = two_models()
    a, b = start.state_dict(), end.state_dict()
    for alpha, expected in ((0.0, a), (1.0, b)):
        found = interpolate(a, b, alpha)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    middle = interpolate(a, b, 0.5)
    assert torch.allclose(middle["0.weight"], (a["0.weight"] + b["0.weight"]) / 2)
    assert torch.allclose(middle["2.weight"], (a["2.weight"] + b["2.weight"]) / 2)  # the head included
    start.load_state_dict(middle)


def test_interpolation_does_not_change_its_inputs():
    start, end = two_models()
    before = copy.deepcopy(start.state_dict())
    for alpha in (0.0, 1.0):
        mixed = interpolate(start.state_dict(), end.state_dict(), alpha)
        for tensor in mixed.values():
            tensor.zero_()
    assert all(torch.equal(before[name], value) for name, value in start.state_dict().items())
    assert any((value != 0).any() for value in end.state_dict().values())


@given(
    alpha=st.floats(0, 1),
    ends=st.lists(st.tuples(st.floats(-9, 9, width=32), st.floats(-9, 9, width=32)), min_size=1, max_size=8),
)
@settings(max_examples=60, deadline=None)
def test_every_weight_is_on_the_line(alpha, ends):
    a, b = (torch.tensor(values) for values in zip(*ends))
    found = interpolate({"w": a}, {"w": b}, alpha)["w"]
    for value, (low, high) in zip(found.tolist(), ends):
        assert value == pytest.approx((1 - alpha) * low + alpha * high, abs=1e-5)


def test_a_linear_head_on_the_line_has_the_logits_on_the_line():
    """Averaging weights averages outputs where the model is linear in them."""
    torch.manual_seed(1)
    x, a, b = torch.randn(4, 5), make_head("l2", torch.randn(3, 5)), make_head("l2", torch.randn(3, 5))
    mixed = make_head("l2", torch.zeros(3, 5))
    mixed.load_state_dict(interpolate(a.state_dict(), b.state_dict(), 0.3))
    assert torch.allclose(mixed(x), 0.7 * a(x) + 0.3 * b(x), atol=1e-5)


def test_half_precision_is_interpolated_in_single():
    a, b = torch.full((1,), 1.0).half(), torch.full((1,), 1.0 + 2**-10).half()
    mixed = interpolate({"w": a}, {"w": b}, 0.75)["w"]
    assert mixed.dtype == torch.float16 and mixed == b


def test_counters_are_those_of_the_nearer_end():
    a, b = {"n": torch.tensor(0)}, {"n": torch.tensor(7)}
    assert [int(interpolate(a, b, alpha)["n"]) for alpha in (0.0, 0.4, 0.5, 1.0)] == [0, 0, 7, 7]


def test_a_grid_is_evaluated_in_order():
    found = evaluate_interpolations(
        {"w": torch.tensor(0.0)}, {"w": torch.tensor(1.0)}, lambda s: (s["w"].item() - 0.6) ** 2
    )
    assert [alpha for alpha, _ in found] == pytest.approx([k / 10 for k in range(11)])
    assert min(found, key=lambda pair: pair[1])[0] == 0.6


@pytest.mark.parametrize("alpha", [-0.1, 1.1, math.nan, "half"])
def test_alpha_outside_the_line_is_refused(alpha):
    with pytest.raises(CausalFTError, match="alpha is .*; give a number from 0"):
        interpolate({"w": torch.zeros(1)}, {"w": torch.zeros(1)}, alpha)


def test_states_of_two_models_are_refused_with_the_first_difference():
    one, two = {"a": torch.zeros(2), "b": torch.zeros(2)}, {"a": torch.zeros(2)}
    with pytest.raises(CausalFTError, match=r"the tuned state has no tensor 'b' \(1 missing\)"):
        interpolate(one, two, 0.5)
    with pytest.raises(CausalFTError, match="the zero-shot state has no tensor 'b'"):
        interpolate(two, one, 0.5)
    with pytest.raises(
        CausalFTError, match=r"'a' has the shape \(2,\) in the zero-shot .* \(3,\) in the tuned"
    ):
        interpolate(two, {"a": torch.zeros(3)}, 0.5)
    with pytest.raises(CausalFTError, match="'a' is torch.float32 in the zero-shot state and torch.int64"):
        interpolate(two, {"a": torch.zeros(2).long()}, 0.5)
    with pytest.raises(CausalFTError, match="no alpha to evaluate"):
        evaluate_interpolations(two, two, len, [])
