"""The total direct effect: numbers by hand, the moving average however a batch is cut, and where it stays."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from causalft.errors import CausalFTError
from causalft.models.tuning.heads import make_head
from causalft.models.tuning.heads.tde import TDEHead
from causalft.models.tuning.interpolation import interpolate
from causalft.models.tuning.recipe import Recipe
from causalft.models.tuning.train import train


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def fed(head, *batches):
    """The head after these batches of features."""
    head.train()
    for batch in batches:
        head.start_batch()
        head(batch)
        head.finish_batch(lambda tensor: tensor)
    return head.eval()


def test_logits_at_test_equal_numbers_by_hand():
    head = TDEHead(torch.tensor([[3.0, 4.0, 0.0, 1.0]]), alpha=2.0).eval()
    head.d.copy_(torch.tensor([1.0, 0.0, 0.0, -5.0]))
    x = torch.tensor([[0.6, 0.8, 2.0, 0.0]])
    # first half: x^ = (.6, .8), d^ = (1, 0), cos = .6: x^ - 2 * .6 d^ = (-.6, .8); w^ = (3, 4) / (5 + 1/32)
    # second half: x^ = (1, 0), d^ = (0, -1), cos = 0: w^ = (0, 1) / (1 + 1/32), so nothing
    expected = 8 * (-0.6 * 3 + 0.8 * 4) / (5 + 1 / 32)
    assert head(x).item() == pytest.approx(expected, rel=1e-6)


def test_without_alpha_it_is_the_plain_cosine_normalised_head():
    weight, features = draw(5, 8), draw(7, 8, seed=1)
    head = fed(make_head("tde", weight, alpha=0.0), draw(20, 8, seed=2) + 1)
    assert head.d.norm() > 0
    halves = [
        F.normalize(x, dim=1) @ (w / (w.norm(dim=1, keepdim=True) + 1 / 32)).T
        for x, w in zip(features.split(4, 1), weight.split(4, 1))
    ]
    assert torch.allclose(head(features), 16 / 2 * sum(halves), atol=1e-5)
    assert torch.allclose(head.train()(features), head.eval()(features))


def test_the_moving_average_has_momentum_nine_tenths():
    first, second = draw(4, 6), draw(3, 6, seed=1)
    head = fed(TDEHead(torch.ones(2, 6)), first, second)
    assert torch.allclose(head.d, 0.9 * 0.1 * first.mean(0) + 0.1 * second.mean(0), atol=1e-6)
    before = head.d.clone()
    head(first)
    head.finish_batch(lambda tensor: tensor)  # a prediction teaches nothing
    assert torch.equal(head.d, before)


def test_alpha_one_removes_the_mean_direction_and_logits_are_linear_in_alpha():
    head = fed(TDEHead(draw(5, 8)), draw(9, 8, seed=1) + 1)
    logits = []
    for alpha in (0.0, 1.0, 3.0):
        head.alpha.fill_(alpha)
        logits.append(head(draw(4, 8, seed=2)))
        if alpha == 1:
            assert head(head.d[None]).abs().max() < 1e-5
    assert torch.allclose(logits[2], logits[0] + 3 * (logits[1] - logits[0]), atol=1e-5)


class Features(torch.nn.Module):
    def __init__(self, **settings):
        super().__init__()
        self.head = make_head("tde", draw(3, 4), **settings)

    def forward(self, x):
        return self.head(x)


def trained(steps=None, **recipe):
    model, x, y = Features().train(), draw(22, 4, seed=3) + 1, torch.arange(22) % 3
    calls = []

    def loss(model, indices, generator):
        calls.append(1)
        if steps is not None and len(calls) > steps:
            raise KeyboardInterrupt
        return F.cross_entropy(model(x[indices]), y[indices])

    options = {"checkpoint": recipe.pop("checkpoint", None), "checkpoint_every_seconds": 0.0}
    recipe = Recipe(**{"epochs": 2, "batch_size": 8, "lr": 0.1, **recipe})
    train(model, 22, loss, recipe, progress=False, **options)
    return model.head


def test_micro_batches_give_the_average_of_whole_batches():
    whole, cut = trained(), trained(accumulation=3)
    assert torch.allclose(whole.d, cut.d, atol=1e-6) and torch.allclose(whole.weight, cut.weight, atol=1e-5)


def test_a_killed_training_resumes_with_its_average(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        trained(4, checkpoint=tmp_path / "c.safetensors")
    resumed, whole = trained(checkpoint=tmp_path / "c.safetensors"), trained()
    assert torch.equal(resumed.d, whole.d) and torch.equal(resumed.weight, whole.weight)


def test_wise_ft_keeps_the_direction():
    start, end = TDEHead(draw(3, 4), alpha=2.0), fed(TDEHead(draw(3, 4), alpha=2.0), draw(5, 4, seed=1))
    between = interpolate(start.state_dict(), end.state_dict(), 0.25)
    assert torch.allclose(between["d"], 0.25 * end.d) and between["alpha"] == 2


def test_features_that_cannot_be_halved_are_refused():
    with pytest.raises(CausalFTError, match="cuts features into 2 groups, and these have 5 numbers"):
        make_head("tde", torch.ones(2, 5))
