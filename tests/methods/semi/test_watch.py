"""The counts of pseudo-labels against a hand count, and what is said about them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from causalft.methods.semi.method import Targets
from causalft.methods.semi.pseudo_labels import BINS, PseudoLabels
from causalft.methods.semi.watch import Watch

HIDDEN = np.array([0, 0, 1, 2, -1])
BELIEFS = torch.tensor(
    [[0.97, 0.02, 0.01], [0.1, 0.88, 0.02], [0.05, 0.93, 0.02], [0.3, 0.3, 0.4], [0.01, 0.01, 0.98]]
)
LABELS, WEIGHTS = [0, 1, 1, 2, 2], [1.0, 1.0, 0.5, 0.0, 1.0]


def targets_of(rows) -> Targets:
    one_hot = torch.eye(3)[[LABELS[row] for row in rows]][:, None]
    return Targets(one_hot, torch.tensor([WEIGHTS[row] for row in rows])[:, None])


def watched(parts, hidden=HIDDEN, epochs=2) -> Watch:
    """One batch, in parts."""
    watch = Watch(3, epochs, hidden)
    watch.start_batch()
    for rows in parts:
        watch.look(BELIEFS[rows][:, None], targets_of(rows), torch.tensor(rows), 0)
    watch.finish_batch(lambda tensor: tensor)
    return watch


@pytest.mark.parametrize("parts", [[[0, 1, 2, 3, 4]], [[3, 0], [4], [1, 2]]])
def test_counts_by_hand_however_a_batch_is_cut(parts):
    watch = watched(parts)
    watch.end_epoch()
    found = watch.found(np.array([200, 50, 5]))
    assert found.likeliest.tolist() == [[1, 2, 2]]
    assert found.kept.tolist() == [[1, 2, 1]]  # a small weight is a pseudo-label, a weight of 0 is none
    assert found.right.tolist() == [[1, 1, 0]]  # an image of none of the classes is never right
    bins = dict(enumerate(found.confidence[0]))
    assert {k: v for k, v in bins.items() if v} == {8: 1, 17: 1, 18: 1, 19: 2}
    assert {k: v for k, v in enumerate(found.confident_right[0]) if v} == {8: 1, 18: 1, 19: 1}
    assert found.prior[0] == pytest.approx(BELIEFS.double().mean(0).numpy())


def test_rows_are_the_groups_of_each_epoch():
    watch = watched([[0, 1, 2, 3, 4]])
    watch.end_epoch()
    rows = watch.found(np.array([200, 50, 5])).rows()
    assert rows == [
        {"epoch": 1, "group": "all", "n": 4, "precision": 0.5},
        {"epoch": 1, "group": "many", "n": 1, "precision": 1.0},
        {"epoch": 1, "group": "medium", "n": 2, "precision": 0.5},
        {"epoch": 1, "group": "few", "n": 1, "precision": 0.0},
    ]


def test_precision_is_none_where_the_truth_is_not_known_or_nothing_was_kept():
    watch = watched([[0, 1, 2, 3, 4]], hidden=None)
    watch.end_epoch()
    found = watch.found(np.array([200, 50, 5]))
    assert not found.known and found.right.sum() == 0 and found.confident_right.sum() == 0
    assert {row["precision"] for row in found.rows()} == {None}
    watch = watched([[3]])
    watch.end_epoch()
    assert watch.found(np.array([200, 50, 5])).rows()[0] == {
        "epoch": 1,
        "group": "all",
        "n": 0,
        "precision": None,
    }


def test_an_epoch_that_is_not_complete_is_left_out_and_batches_add_up():
    watch = watched([[0, 1]])
    assert watch.found(np.array([200, 50, 5])).rows() == []
    watch.look(BELIEFS[[2]][:, None], targets_of([2]), torch.tensor([2]), 0)
    watch.finish_batch(lambda tensor: 2 * tensor)  # another process has seen as much
    watch.end_epoch()
    watch.look(BELIEFS[[4]][:, None], targets_of([4]), torch.tensor([4]), 0)
    watch.finish_batch(lambda tensor: tensor)
    watch.end_epoch()
    assert watch.found(np.array([200, 50, 5])).kept.tolist() == [[1, 3, 0], [0, 0, 1]]


def test_only_the_head_that_predicts_is_counted():
    watch = Watch(3, 1, HIDDEN)
    both = torch.stack([BELIEFS[0], BELIEFS[4]])[None]
    targets = Targets(torch.eye(3)[[0, 2]][None], torch.tensor([[0.0, 1.0]]))
    watch.look(both, targets, torch.tensor([0]), 1)
    watch.finish_batch(lambda tensor: tensor)
    watch.end_epoch()
    found = watch.found(np.array([200, 50, 5]))
    assert (found.kept.tolist(), found.likeliest.tolist(), found.right.sum()) == ([[0, 0, 1]], [[0, 0, 1]], 0)


def labels_of(kept, right, sure, sure_right, unsure=0, counts=(200, 5)) -> PseudoLabels:
    """One epoch: images of a probability from 0.95 on, and unsure ones."""
    confidence, confident_right = np.zeros((1, BINS)), np.zeros((1, BINS))
    confidence[0, -1], confident_right[0, -1], confidence[0, 10] = sure, sure_right, unsure
    return PseudoLabels(
        likeliest=np.array([kept], dtype=float),
        kept=np.array([kept], dtype=float),
        right=np.array([right], dtype=float),
        confidence=confidence,
        confident_right=confident_right,
        belief=np.array([kept], dtype=float),
        known=np.array(1),
        labelled_counts=np.array(counts, dtype=float),
    )


NAMES = ["cat", "lynx"]


def test_nothing_is_said_of_pseudo_labels_that_are_many_and_right():
    assert labels_of([50, 40], [48, 38], 90, 86).reading(NAMES, 0.95) == []


def test_confident_images_that_a_method_leaves_out_are_not_underlearned():
    """As the masks of ABC leave out images of frequent classes."""
    assert labels_of([5, 15], [5, 14], 90, 86, unsure=10).reading(NAMES, 0.95) == []


def test_reading_names_what_went_wrong():
    assert labels_of([10, 9], [10, 9], 19, 19, unsure=81).reading(NAMES, 0.95) == [
        "underlearned: in the last epoch 19 % of the unlabelled images were learnt from; lower the threshold, or tune "
        "more of the tower"
    ]
    assert labels_of([50, 40], [40, 32], 90, 72).reading(NAMES, 0.95) == [
        "overconfident: of the images with a probability of 0.95 or more, 80 % are right"
    ]
    assert labels_of([80, 10], [79, 5], 90, 84).reading(NAMES, 0.95) == [
        "biased to the head: pseudo-labels of rare classes are right in 50 % of cases, all of them in 93 %"
    ]
    assert labels_of([90, 0], [88, 0], 90, 88).reading(NAMES, 0.95) == [
        "1 class has no pseudo-label in the last epoch: lynx"
    ]


@pytest.mark.parametrize("threshold", [0.97, 1.0])
def test_overconfidence_is_seen_above_the_last_bin_edge(threshold):
    """Answers are counted in bins of 0.05: what is said is about the bin that the threshold lies in."""
    found = labels_of([50, 40], [40, 32], 90, 45).reading(NAMES, threshold)
    assert "overconfident: of the images with a probability of 0.95 or more, 50 % are right" in found


def test_labels_of_strata_are_pooled_over_the_epochs_that_all_have():
    one, other = labels_of([5, 4], [4, 4], 9, 8), labels_of([1, 2], [1, 0], 3, 1)
    twice = PseudoLabels(
        **{
            name: np.concatenate([value, value]) if value.ndim == 2 else value
            for name, value in one.arrays().items()
        }
    )
    pooled = PseudoLabels.pooled([twice, other])
    assert pooled.kept.tolist() == [[6, 6]] and pooled.right.tolist() == [[5, 4]]
    assert pooled.labelled_counts.tolist() == [200, 5]
