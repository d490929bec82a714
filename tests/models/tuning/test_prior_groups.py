"""LA weighted by the model's prior, and group-DRO over P groups, on numbers made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from causalft.errors import CausalFTError
from causalft.models.tuning.losses import make_loss
from causalft.models.tuning.recipe import Recipe
from causalft.models.tuning.train import train

LOG_Q = np.log([0.6, 0.3, 0.1])  # one class in each P group
EVEN = [10, 10, 10]
LOGITS = torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.5, 0.375, 0.125]]).double().log()
LABELS = torch.tensor(
    [0, 0, 2]
)  # losses of log 2, log 4 and log 8: group means 1.5 log 2, 0 (no image), 3 log 2


def dro(step, counts=EVEN):
    return make_loss("LA-DRO", counts, model_log_prior=LOG_Q, step=step)


def test_group_weights_follow_the_published_rule():
    loss = dro(2.0)
    found = loss(LOGITS, LABELS)
    weights = np.array([2.0**3, 1.0, 2.0**6])  # exp(2 * loss of the group)
    np.testing.assert_allclose(loss.group_weights, weights / weights.sum(), rtol=1e-6)
    expected = (weights @ [1.5, 0.0, 3.0]) / weights.sum() * math.log(2)  # at the new weights
    assert float(found) == pytest.approx(expected, rel=1e-6)
    loss(LOGITS, LABELS)
    np.testing.assert_allclose(loss.group_weights, weights**2 / (weights**2).sum(), rtol=1e-6)


def test_without_a_step_all_groups_weigh_alike():
    loss = dro(0.0)
    assert float(loss(LOGITS, LABELS)) == pytest.approx(1.5 * math.log(2), rel=1e-6)
    np.testing.assert_allclose(loss.group_weights, 1 / 3, rtol=1e-6)


def test_an_evaluation_moves_no_group_weight():
    loss = dro(2.0)
    with torch.no_grad():
        loss(LOGITS, LABELS)
    np.testing.assert_allclose(loss.group_weights, 1 / 3, rtol=1e-6)


def test_losses_of_a_group_are_logit_adjusted():
    counts = [80, 15, 5]
    loss = dro(0.0, counts)
    la = make_loss("LA", counts)
    expected = (la(LOGITS[:2], LABELS[:2]) + la(LOGITS[2:], LABELS[2:])) / 3
    assert float(loss(LOGITS, LABELS)) == pytest.approx(float(expected), rel=1e-6)


def test_huge_losses_keep_the_group_weights_finite():
    loss = dro(1.0)
    logits = torch.tensor([[-500.0, 500.0, 0.0], [0.0, 0.0, 5.0]], requires_grad=True)
    loss(logits, torch.tensor([0, 2])).backward()
    assert torch.isfinite(loss.group_weights).all() and torch.isfinite(logits.grad).all()
    assert float(loss.group_weights[0]) == pytest.approx(1.0)


class Classifier(nn.Module):
    """A linear head that holds its criterion, as `tune` attaches it."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(2, 3)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.criterion = dro(0.5)


def trained(checkpoint=None, stop_before=None):
    x = torch.randn(30, 2, generator=torch.Generator().manual_seed(0))
    y = torch.arange(3).repeat(10)
    model = Classifier()

    def batch_loss(model, indices, generator):
        return model.criterion(model.head(x[indices]), y[indices])

    def at_epoch(number):
        if number == stop_before:
            raise InterruptedError

    recipe = Recipe(epochs=4, batch_size=10, lr=0.1)
    train(model, 30, batch_loss, recipe, progress=False, checkpoint=checkpoint, at_epoch=at_epoch)
    return model


def test_a_training_that_resumes_goes_on_with_its_group_weights(tmp_path):
    whole, path = trained(), tmp_path / "training.safetensors"
    with pytest.raises(InterruptedError):
        trained(path, stop_before=2)
    resumed = trained(path)
    assert torch.equal(resumed.head.weight, whole.head.weight)
    assert torch.equal(resumed.criterion.group_weights, whole.criterion.group_weights)
    assert not torch.allclose(whole.criterion.group_weights, torch.full((3,), 1 / 3), atol=1e-3)


def test_weights_by_the_prior_leave_the_optimum_and_move_the_effort():
    counts = [80, 15, 5]
    weights = np.array([0.6, 0.3, 0.1]) ** -0.5
    weights *= 100 / (weights @ counts)
    loss = make_loss("LA-PW", counts, model_log_prior=LOG_Q)
    shifted = LOGITS + torch.from_numpy(np.log(np.array(counts) / 100) + np.log(weights))
    each = F.cross_entropy(shifted, LABELS, reduction="none").numpy()
    assert float(loss(LOGITS, LABELS)) == pytest.approx((weights[LABELS] * each).mean(), rel=1e-9)
    assert weights[2] > 2 * weights[0]
    plain = make_loss("LA-PW", counts, model_log_prior=LOG_Q, rho=0)
    la = make_loss("LA", counts)
    assert float(plain(LOGITS, LABELS)) == pytest.approx(float(la(LOGITS, LABELS)), rel=1e-9)


@pytest.mark.parametrize("name", ["LA-PW", "LA-DRO"])
def test_a_wrong_prior_or_setting_is_refused(name):
    with pytest.raises(CausalFTError, match=f"{name} needs model_log_prior"):
        make_loss(name, EVEN)
    with pytest.raises(CausalFTError, match="model_log_prior must hold 3 finite numbers"):
        make_loss(name, EVEN, model_log_prior=LOG_Q[:2])
    setting = {"LA-PW": "rho", "LA-DRO": "step"}[name]
    with pytest.raises(CausalFTError, match=f"{setting} of the loss {name} is -1"):
        make_loss(name, EVEN, model_log_prior=LOG_Q, **{setting: -1})
