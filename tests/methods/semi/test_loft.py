"""LoFT against numbers by hand, and outliers that it leaves out."""

import math

import pytest
import torch

from causalft.errors import CausalFTError
from causalft.methods.semi.choices import METHODS
from causalft.methods.semi.loft import Loft
from causalft.methods.semi.method import Answers, Task
from tests.methods.semi.gaussian_classes import World, assert_same_state, learn, predict, recalls


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
    world = World.draw()
    counts = [60, 20, 8, 4]
    labelled, (u, _) = world.images(counts, 1), world.images([60] * 4, 2)
    loft = learn(Loft(world.task(counts, len(u))), labelled, u)
    test, truth = world.images([100] * 4, 3)
    assert recalls(loft, test, truth).min() > 0.8
    # As far from all classes as can be: the sum of their means, with equal cosines, is answered without conviction.
    outlier = torch.linalg.pinv(loft.final()[0]) @ torch.ones(4)
    with torch.no_grad():
        beliefs = loft.beliefs(loft(torch.stack([outlier, world.means[3]])))
    assert loft.choose(beliefs, torch.arange(2)).weights[:, 0].tolist() == [0, 3]
    with torch.no_grad():
        torch.testing.assert_close(predict(loft, test), loft(test).logits[:, 0])


def test_the_state_does_not_depend_on_how_a_batch_is_cut():
    world = World.draw()
    labelled, (u, _) = world.images([30, 10, 5, 5], 1), world.images([32] * 4, 2)
    one, two = (
        learn(Loft(world.task([30, 10, 5, 5], 128)), labelled, u, epochs=2, parts=parts) for parts in (1, 2)
    )
    assert_same_state(one, two)


def test_the_record_names_its_settings():
    assert METHODS["loft"].settings == {
        "threshold": 0.6,
        "unlabelled_weight": 1.0,
        "hard_weight": 3.0,
        "soft_weight": 1.0,
        "outlier_threshold": 0.3,
    }
