"""LoFT against numbers by hand, and outliers that it leaves out."""

import math

import pytest
import torch

from causalft.errors import CausalFTError, CausalFTWarning
from causalft.methods.semi.choices import METHODS
from causalft.methods.semi.loft import Loft
from causalft.methods.semi.method import Answers, Task
from tests.methods.semi.gaussians import gaussians, predict, recall, train_directly


def method(**settings):
    return Loft(Task(torch.ones(4), torch.eye(4), n_unlabelled=16, epochs=3), **settings)


BELIEFS = torch.tensor(
    [[[0.6, 0.4, 0.0, 0.0]], [[0.5, 0.3, 0.1, 0.1]], [[0.3, 0.3, 0.2, 0.2]], [[0.0, 0.0, 0.1, 0.9]]]
)


def test_targets_are_hard_soft_or_none_by_confidence():
    targets = method().choose(BELIEFS, torch.arange(4))
    assert targets.probabilities[0, 0].tolist() == [1, 0, 0, 0]
    assert targets.probabilities[1, 0].tolist() == pytest.approx([0.5, 0.3, 0.1, 0.1])
    assert targets.probabilities[3, 0].tolist() == [0, 0, 0, 1]
    assert targets.weights[:, 0].tolist() == [3, 1, 0, 3]


def test_outliers_are_kept_with_a_threshold_of_zero():
    assert method(outlier_threshold=0.0).choose(BELIEFS, torch.arange(4)).weights[:, 0].tolist() == [
        3,
        1,
        1,
        3,
    ]


def test_the_loss_is_the_weighted_mean_over_all_images():
    loft = method()
    targets = loft.choose(BELIEFS, torch.arange(4))
    # At equal logits each cross-entropy is log 4: (3 + 1 + 0 + 3) / 4 of them.
    shown = Answers(torch.zeros(4, 4), torch.zeros(4, 1, 4))
    assert loft.unlabelled_loss(shown, targets).item() == pytest.approx(7 / 4 * math.log(4))


def test_a_threshold_below_that_of_outliers_is_refused():
    with pytest.raises(
        CausalFTError, match="probability of 0.3 or less as outliers; give a threshold above that"
    ):
        method(threshold=0.3)


def test_images_of_no_class_are_left_out_and_rare_classes_are_learnt():
    data = gaussians([60, 20, 8, 4], [60] * 4, spread=0.2)
    loft = train_directly(Loft(data.task(scale=10.0)), data)
    assert recall(loft, data).min() > 0.8
    # As far from all classes as can be: with equal cosines to all weights, it is answered without conviction.
    weight, _ = loft.final()
    outlier = torch.linalg.pinv(weight) @ torch.ones(4)
    with torch.no_grad():
        beliefs = loft.beliefs(loft(torch.stack([outlier, weight[3]])))
        torch.testing.assert_close(predict(loft, data.test), loft(data.test).logits[:, 0])
    assert loft.choose(beliefs, torch.arange(2)).weights[:, 0].tolist() == [0, 3]


def test_the_record_names_its_settings():
    assert METHODS["loft"].settings == {
        "threshold": 0.6,
        "unlabelled_weight": 1.0,
        "hard_weight": 3.0,
        "soft_weight": 1.0,
        "outlier_threshold": 0.3,
        "zero_shot_threshold": 0.0,
    }


def test_the_zero_shot_filter_leaves_images_out_for_good():
    loft = Loft(Task(torch.ones(4), torch.eye(4), n_unlabelled=4, epochs=3), zero_shot_threshold=0.6)
    zero_shot = torch.tensor(
        [[0.6, 0.4, 0.0, 0.0], [0.3, 0.3, 0.2, 0.2], [0.1, 0.9, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]]
    )
    with pytest.warns(CausalFTWarning, match="leaves out 2 of 4 unlabelled images: none of them has"):
        loft.see_zero_shot(zero_shot)
    assert loft.kept.tolist() == [True, False, True, False]
    sure = torch.eye(4)[None].transpose(0, 1)  # all four are sure by now
    assert loft.choose(sure, torch.tensor([3, 2, 1, 0])).weights[:, 0].tolist() == [0, 3, 0, 3]
    with pytest.raises(
        CausalFTError, match="no unlabelled image has a zero-shot probability of 0.6 or more; lower"
    ):
        loft.see_zero_shot(torch.full((4, 4), 0.25))


def test_without_a_zero_shot_threshold_nothing_is_asked_of_the_untuned_model():
    assert not method().needs_zero_shot and method().kept.all()
