"""Heads: logits by hand, invariances, where they coincide, and what they save."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from causalft.errors import CausalFTError
from causalft.models.tuning.heads import HEADS, CosineHead, make_head


def numbers(seed, n=5, n_classes=3, d=8):
    generator = torch.Generator().manual_seed(seed)
    return (
        3 * torch.randn(n, d, generator=generator, dtype=torch.float64),
        torch.randn(n_classes, d, generator=generator, dtype=torch.float64),
    )


def by_hand(kind, x, w, scale):
    """One logit, in plain Python."""

    def dot(a, b):
        return sum(i * j for i, j in zip(a, b))

    x, w = x.tolist(), w.tolist()
    if kind == "linear":
        return dot(x, w)
    if kind == "cosine":
        return scale * dot(x, w) / math.sqrt(dot(x, x) * dot(w, w))
    if kind == "tde":
        halves = [slice(0, 4), slice(4, 8)]
        length = [(math.sqrt(dot(x[k], x[k])), math.sqrt(dot(w[k], w[k])) + 1 / 32) for k in halves]
        return 16 / 2 * sum(dot(x[k], w[k]) / (a * b) for k, (a, b) in zip(halves, length))
    if kind == "l2":
        return scale * dot(x, w) / math.sqrt(dot(x, x))
    centred = [value - sum(x) / len(x) for value in x]
    return scale * dot(centred, w) / math.sqrt(dot(centred, centred))


@pytest.mark.parametrize("kind", HEADS)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.1, 100))
@settings(max_examples=15, deadline=None)
def test_heads_equal_their_formulas(kind, seed, scale):
    features, weight = numbers(seed)
    logits = make_head(kind, weight, scale=scale)(features).detach()
    for i in range(5):
        for k in range(3):
            expected = by_hand(kind, features[i], weight[k], scale)
            assert float(logits[i, k]) == pytest.approx(expected, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("kind", ["cosine", "l2", "layernorm", "tde"])
def test_only_the_linear_head_depends_on_feature_length(kind):
    features, weight = numbers(0)
    head, linear = make_head(kind, weight), make_head("linear", weight)
    assert torch.allclose(head(features), head(7 * features), rtol=1e-4, atol=1e-4)
    assert torch.allclose(linear(7 * features), 7 * linear(features))


def test_layernorm_head_ignores_a_constant_offset():
    features, weight = numbers(1)
    plain, shifted = make_head("layernorm", weight)(features), make_head("layernorm", weight)(features + 2)
    assert torch.allclose(plain, shifted)
    assert not torch.allclose(
        make_head("l2", weight)(features), make_head("l2", weight)(features + 2), atol=0.1
    )


def test_l2_head_starts_as_the_cosine_head():
    features, weight = numbers(2)
    unit = F.normalize(weight, dim=1)
    assert torch.allclose(make_head("l2", unit)(features), make_head("cosine", unit)(features))
    assert torch.allclose(make_head("l2", 2 * unit)(features), 2 * make_head("cosine", 2 * unit)(features))


@pytest.mark.parametrize("kind", HEADS)
def test_heads_copy_their_start_and_save_what_the_record_says(kind):
    features, weight = numbers(3)
    head = make_head(kind, weight)
    assert set(head.state_dict()) == set(HEADS[kind].saves.split(", "))
    F.cross_entropy(head(features), torch.tensor([0, 1, 2, 0, 1])).backward()
    assert all((parameter.grad != 0).any() for parameter in head.parameters())
    torch.optim.SGD(head.parameters(), lr=1.0).step()
    assert torch.equal(weight, numbers(3)[1]) and not torch.equal(head.weight, weight)
    again = make_head(kind, torch.zeros_like(weight))
    again.load_state_dict(head.state_dict())
    assert torch.equal(again(features), head(features))


def test_cosine_head_equals_the_paper():
    assert isinstance(make_head("cosine", torch.eye(2)), CosineHead)
    assert make_head("cosine", torch.eye(2)).scale == 25.0


@pytest.mark.parametrize(
    "kind, weight, scale, message",
    [
        ("cosin", torch.eye(2), 25, "no head is named 'cosin'; did you mean 'cosine'"),
        ("l2", torch.ones(3), 25, r"\(n_classes, d\), not from .*shape \(3,\)"),
        ("l2", torch.ones(3, 2).long(), 25, "not from torch.int64"),
        ("l2", torch.tensor([[0.0], [math.nan]]), 25, "weight of class 1 .* not finite"),
        ("cosine", torch.eye(2), 0, "scale of the head is 0"),
        ("cosine", torch.eye(2), math.inf, "scale of the head is inf"),
    ],
)
def test_bad_heads_are_refused(kind, weight, scale, message):
    with pytest.raises(CausalFTError, match=message):
        make_head(kind, weight, scale=scale)
