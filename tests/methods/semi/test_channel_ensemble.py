"""The channel ensemble against numbers by hand, and heads that its losses keep apart."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from causalft.errors import CausalFTError
from causalft.methods.semi.channel_ensemble import ChannelEnsemble, channel_groups, correlation
from causalft.methods.semi.choices import METHODS
from causalft.methods.semi.method import Answers, Targets, Task
from tests.methods.semi.gaussians import gaussians, predict, recall, train_directly


def method(adjust=False, **settings):
    task = Task(torch.tensor([3.0, 1.0]), torch.eye(2, 12), n_unlabelled=16, epochs=3, adjust=adjust)
    return ChannelEnsemble(task, **{"heads": 3, "agree": 2, **settings})


def answers(n=1, features=None):
    return Answers(torch.ones(n, 12) if features is None else features, torch.zeros(n, 4, 2))


def test_each_head_sees_its_own_channels_and_the_common_ones():
    mask, own = channel_groups(10, 3, 0.2)
    assert own == 2
    assert mask.sum(0).tolist() == [1] * 6 + [3] * 4
    assert mask[1].tolist() == [0, 0, 1, 1, 0, 0, 1, 1, 1, 1]
    ensemble = method()
    weight = torch.randn(2, 12, generator=torch.Generator().manual_seed(0))
    for head in ensemble.heads:
        head.weight.data.copy_(weight)
    first = torch.zeros(1, 12)
    first[0, 1] = 1  # the own channel of the second head
    logits = ensemble(first).logits[0].detach()
    assert logits[1].tolist() == [0, 0] and logits[3].tolist() == [0, 0]
    assert logits[2].tolist() == pytest.approx((25 * weight[:, 1]).tolist())
    torch.testing.assert_close(logits[0], logits[1:].mean(0))


def test_an_image_counts_where_enough_heads_are_sure_and_its_label_is_that_of_their_mean():
    logits = torch.tensor(
        [[[0.0, 0.0], [9.0, 0.0], [9.0, 0.0], [0.0, 1.0]], [[0.0, 0.0], [9.0, 0.0], [0, 2], [0, 2]]]
    )
    ensemble = method()
    beliefs = ensemble.beliefs(Answers(torch.ones(2, 12), logits))
    torch.testing.assert_close(beliefs[:, 0], logits[:, 1:].softmax(-1).mean(1))
    targets = ensemble.choose(beliefs, torch.arange(2))
    assert targets.weights.tolist() == [[1], [0]]
    assert targets.probabilities.tolist() == [[[1, 0]], [[0, 1]]]


def test_one_head_rests_in_each_step():
    ensemble = method()
    assert ensemble.awake == [2, 3]
    ensemble.finish_batch(lambda tensor: tensor)
    assert ensemble.awake == [1, 3]
    logits = torch.zeros(1, 4, 2)
    logits[0, 2, 0] = 50.0  # the head that rests is quite wrong
    shown = Answers(torch.ones(1, 12), logits)
    ensemble.low_variance = ensemble.low_bias = 0.0
    assert ensemble.labelled_loss(shown, torch.tensor([1])).item() == pytest.approx(math.log(2))
    targets = Targets(torch.tensor([[[0.0, 1.0]]]), torch.ones(1, 1))
    assert ensemble.unlabelled_loss(shown, targets).item() == pytest.approx(math.log(2))


def test_logit_adjustment_adds_the_label_law_to_all_heads():
    ensemble = method(adjust=True, low_variance=0.0)
    assert ensemble.labelled_loss(answers(), torch.tensor([1])).item() == pytest.approx(math.log(4))


def test_the_added_losses_are_correlations():
    ensemble = method()
    # Heads that say the same of every image are not correlated with the labels: the loss is log 2 + 1.
    assert ensemble.labelled_loss(answers(2), torch.tensor([0, 1])).item() == pytest.approx(math.log(2) + 1)
    logits = torch.zeros(2, 4, 2)
    logits[0, :, 0] = logits[1, :, 1] = 2.0  # right and symmetric: the correlation is 1
    loss = ensemble.labelled_loss(Answers(torch.ones(2, 12), logits), torch.tensor([0, 1])).item()
    assert loss == pytest.approx(math.log(1 + math.exp(-2)))
    # Own channels (one per head) that move together are fully correlated, those in quadrature not at all.
    angles = torch.arange(8) * math.pi / 4
    off = Targets(torch.zeros(8, 1, 2), torch.zeros(8, 1))
    for third, expected in ((angles.cos(), 1.0), (angles.sin(), 1 / 3)):
        features = torch.zeros(8, 12)
        features[:, 0] = features[:, 1] = angles.cos()
        features[:, 2] = third
        features[:, 11] = (9 - features.square().sum(1)).sqrt()  # all of one length
        assert ensemble.unlabelled_loss(answers(8, features), off).item() == pytest.approx(expected, abs=1e-5)
    assert correlation(torch.ones(3), torch.arange(3.0)).item() == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heads": 1, "agree": 1}, "1 heads of which 1 must agree"),
        ({"agree": 4}, "3 heads of which 4 must agree"),
        ({"own_share": 0.4}, "3 heads with 4 channels of their own need more than the 12 channels"),
    ],
)
def test_settings_that_leave_no_ensemble_are_refused(settings, message):
    with pytest.raises(CausalFTError, match=message):
        method(**settings)


class _Tuned(nn.Module):
    """A tower of one trainable layer before the ensemble."""

    def __init__(self, low_bias):
        super().__init__()
        torch.manual_seed(0)
        self.tower = nn.Linear(12, 12, bias=False)
        nn.init.eye_(self.tower.weight)
        # All channels start alike, so that heads see the same.
        self.tower.weight.data += 0.5
        task = Task(torch.ones(4), torch.eye(4, 12), n_unlabelled=64, epochs=3, scale=10.0)
        self.ensemble = ChannelEnsemble(task, own_share=0.17, low_bias=low_bias)

    def own(self, x):
        unit = F.normalize(self.tower(x), dim=-1).detach()
        return unit[:, : 5 * self.ensemble.own].unflatten(1, (5, -1))


def test_the_bias_loss_trains_the_tower_to_keep_the_heads_apart():
    x = gaussians([16] * 4, [1] * 4, spread=0.3, width=12).labelled
    found = []
    for low_bias in (0.0, 1.0):
        tuned = _Tuned(low_bias)
        optimiser = torch.optim.SGD(tuned.parameters(), lr=0.5)
        for _ in range(20):
            optimiser.zero_grad()
            answers = tuned.ensemble(tuned.tower(x))
            off = Targets(torch.zeros(len(x), 1, 4), torch.zeros(len(x), 1))
            tuned.ensemble.unlabelled_loss(answers, off).backward()
            optimiser.step()
        own = tuned.own(x)
        found.append(sum(correlation(own[:, k], own[:, (k + 1) % 5]).abs().item() for k in range(5)) / 5)
    without, kept_apart = found
    assert kept_apart < without / 2


def test_the_mean_of_the_heads_predicts_and_learns_rare_classes():
    data = gaussians([60, 20, 8, 4], [60] * 4, spread=0.25, width=24)
    ensemble = train_directly(ChannelEnsemble(data.task(scale=10.0)), data)
    with torch.no_grad():
        torch.testing.assert_close(predict(ensemble, data.test), ensemble(data.test).logits[:, 0])
    together = recall(ensemble, data)
    singles = torch.stack([recall(ensemble, data, head) for head in range(1, 6)])
    assert together.mean() > singles.mean()
    assert together.min() > 0.7


def test_the_record_names_its_settings():
    settings = METHODS["channel-ensemble"].settings
    assert (settings["heads"], settings["agree"], settings["threshold"], settings["own_share"]) == (
        5,
        4,
        0.9,
        0.1,
    )
