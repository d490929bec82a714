"""FreeMatch's thresholds against numbers by hand."""

from __future__ import annotations

import pytest
import torch

from causalft.methods.semi.choices import METHODS
from causalft.methods.semi.freematch import AdaptiveEnsemble, class_thresholds
from causalft.methods.semi.method import Answers, Step, Targets, Task
from tests.methods.semi.gaussians import gaussians, recall, same, train_directly


def method(**settings) -> AdaptiveEnsemble:
    task = Task(torch.tensor([3.0, 1.0]), torch.eye(2, 12), n_unlabelled=16, epochs=3)
    return AdaptiveEnsemble(task, **{"heads": 3, "agree": 2, **settings})


def show(ensemble, beliefs) -> None:
    """One batch of weak views: beliefs (n, heads, 2)."""
    each = torch.tensor(beliefs)
    both = torch.cat([each.mean(1, keepdim=True), each], dim=1)
    empty = Answers(torch.zeros(0, 12), torch.zeros(0, 4, 2))
    targets = Targets(both[:, :1], torch.zeros(len(both), 1))
    labels = torch.zeros(0, dtype=torch.int64)
    ensemble.start_batch()
    ensemble.observe(Step(empty, labels, empty, both, targets, torch.arange(len(both))))
    ensemble.finish_batch(same)


def test_the_averages_start_at_equal_shares_and_move_by_the_published_rule():
    ensemble = method(decay=0.75)
    assert ensemble.level.item() == 0.5 and ensemble.law.tolist() == [0.5, 0.5]
    show(ensemble, [[[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]]])
    # Confidence .8 on average, and so is the first class: 3/4 of a half and 1/4 of .8.
    assert ensemble.level.item() == pytest.approx(0.575)
    assert ensemble.law.tolist() == pytest.approx([0.575, 0.425])
    assert ensemble.least_confidence == pytest.approx(0.575)
    thresholds = class_thresholds(ensemble.level, ensemble.law)
    assert thresholds.tolist() == pytest.approx([0.575, 0.425])


def test_the_step_moves_the_resting_head_on():
    ensemble = method()
    awake = ensemble.awake
    show(ensemble, [[[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]]])
    assert ensemble.awake != awake


def test_rare_classes_have_lower_thresholds_and_enough_heads_must_pass_theirs():
    ensemble = method()
    ensemble.level.fill_(0.9)
    ensemble.law.copy_(torch.tensor([0.75, 0.25]))  # thresholds .9 and .3
    each = torch.tensor(
        [
            [[0.95, 0.05], [0.92, 0.08], [0.6, 0.4]],  # two of three are sure of the frequent class
            [[0.95, 0.05], [0.85, 0.15], [0.6, 0.4]],  # one of three
            [[0.95, 0.05], [0.4, 0.6], [0.6, 0.4]],  # one of the frequent class, one of the rare one
        ]
    )
    beliefs = torch.cat([each.mean(1, keepdim=True), each], dim=1)
    assert ensemble.choose(beliefs, torch.arange(3)).weights[:, 0].tolist() == [1, 0, 1]
    capped = method(threshold=0.8)
    capped.level.fill_(0.9)
    capped.law.copy_(torch.tensor([0.75, 0.25]))
    assert capped.choose(beliefs, torch.arange(3)).weights[:, 0].tolist() == [1, 1, 1]


def test_thresholds_follow_a_model_that_grows_sure():
    data = gaussians([60, 20, 8, 4], [60] * 4, spread=0.25, width=24)
    ensemble = train_directly(AdaptiveEnsemble(data.task(scale=10.0)), data)
    with torch.no_grad():
        sure = ensemble.beliefs(ensemble(data.unlabelled))[:, 1:].amax(-1).mean().item()
    assert 0.25 < ensemble.level.item() < 1 and abs(ensemble.level.item() - sure) < 0.1
    assert recall(ensemble, data).min() > 0.7


def test_the_record_names_its_settings():
    settings = METHODS["channel-freematch"].settings
    assert (settings["threshold"], settings["decay"], settings["heads"]) == (1.0, 0.9, 5)
