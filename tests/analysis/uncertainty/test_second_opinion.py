"""The front door as a second opinion: its formula in the part world, its learnt weights, and what it detects."""

from __future__ import annotations

import numpy as np
import pytest

from causalft.analysis.uncertainty.second_opinion import (
    doors_disagree,
    frontdoor_prior,
    labels_and_confidence,
)
from causalft.analysis.uncertainty.summary import difference_of_shares, paired_difference
from causalft.errors import CausalFTError
from causalft.methods.estimators.mixing import Mixing
from causalft.scm import DiscreteSCM, PartSCM, frontdoor_adjustment, part_types, query


def test_front_door_is_a_mixture_with_the_mean_of_p_of_c_given_x():
    law = [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]]
    world = PartSCM(part_types(3, 3), reading_error=0.2, factor_law=law)
    p_x = query(world, "X").p
    weights = p_x @ world.p_c_given_x()
    mixed = np.einsum("xcy,c->xy", world.p_y_given_xc(), weights)
    assert mixed == pytest.approx(frontdoor_adjustment(world, "Y", "X", "B"), abs=1e-9)
    assert weights == pytest.approx(world.p_c())


def test_learnt_weights_are_the_law_of_c_where_c_follows_the_confidence():
    rng = np.random.default_rng(0)
    n, n_classes = 6000, 5
    sure = rng.uniform(0.5, 0.95, (n, 2))
    of_c = 1 / (1 + np.exp(-(0.4 + 4 * (sure[:, 0] - sure[:, 1]))))
    c = (rng.random(n) > of_c).astype(int)
    favourite = np.stack([rng.integers(0, n_classes, n), rng.integers(0, n_classes, n)])
    probs = np.repeat(((1 - sure) / (n_classes - 1)).T[:, :, None], n_classes, axis=2)
    for m in range(2):
        probs[m, np.arange(n), favourite[m]] = sure[:, m]
    labels = np.array([rng.choice(n_classes, p=probs[c[i], i] / probs[c[i], i].sum()) for i in range(n)])
    found = frontdoor_prior(*labels_and_confidence(probs, labels))
    assert found.weights[0] == pytest.approx(of_c.mean(), abs=0.03)
    assert np.corrcoef(found.of_image[:, 0], of_c)[0, 1] > 0.95
    assert found.gain > 0 and found.of_image.sum(1) == pytest.approx(1.0)


def test_strata_that_explain_alike_keep_equal_weights():
    probs = np.tile([0.7, 0.3], (3, 40, 1))
    found = frontdoor_prior(*labels_and_confidence(probs, np.arange(40) % 2))
    assert found.weights == pytest.approx([1 / 3] * 3)


def test_temperatures_of_strata_are_applied_before_the_weights_are_learnt():
    probs = np.array([[[0.8, 0.2]], [[0.6, 0.4]]])
    of_label, confidence = labels_and_confidence(probs, [0], Mixing("mixture", (0.5, 0.5), 1.0, (0.5, 1.0)))
    assert np.exp(of_label[0]) == pytest.approx([0.64 / 0.68, 0.6])
    assert np.exp(confidence) == pytest.approx(np.exp(of_label))


def world_with(u_to_y: float) -> DiscreteSCM:
    """C and a hidden U both cause X and Y; X acts through B alone."""
    graph = [("C", "X"), ("C", "Y"), ("U", "X"), ("U", "Y"), ("X", "B"), ("B", "Y")]
    x = np.array([[0.3, 0.6], [0.5, 0.8]])  # P(X=1 | c, u)
    y = np.array([[[0.2, 0.5], [0.4, 0.7]]] * 2)  # (u, c, b) of P(Y=1), before the effect of U
    y = np.stack([y[0] - u_to_y, y[1] + u_to_y])
    tables = {"C": [0.5, 0.5], "U": [0.5, 0.5], "B": [[0.8, 0.2], [0.2, 0.8]]}
    tables |= {"X": np.stack([1 - x, x], axis=-1)}
    y = np.moveaxis(y, 0, 1)  # (c, u, b): parents in the order of the graph
    tables |= {"Y": np.stack([1 - y, y], axis=-1)}
    return DiscreteSCM(graph, dict.fromkeys("CXYUB", "01"), tables)


@pytest.mark.parametrize(("u_to_y", "detected"), [(0.0, False), (0.15, True)])
def test_hidden_confounder_sets_the_two_doors_apart(u_to_y, detected):
    scm = world_with(u_to_y)
    table = query(scm, ("C", "X", "B", "Y")).p
    exact = doors_disagree(table * 1e9, draws=20)
    assert (exact.distance > 0.01) == detected
    counts = np.random.default_rng(3).multinomial(20_000, table.ravel()).reshape(table.shape)
    found = doors_disagree(counts)
    assert (found.p < 0.05) == detected
    assert found.difference.shape == (2, 2) and abs(found.difference.sum(1)).max() < 1e-12


def test_content_that_is_a_function_of_the_image_has_no_front_door():
    counts = np.zeros((2, 2, 2, 2))
    counts[:, 0, 0], counts[:, 1, 1] = 10.0, 10.0
    found = doors_disagree(counts)
    assert np.isnan(found.distance) and "never goes with" in found.reason
    with pytest.raises(CausalFTError, match=r"give a table \(C, X, B, Y\)"):
        doors_disagree(np.ones(3))


def test_intervals_of_differences_hold_their_estimates():
    found = difference_of_shares([True] * 9 + [False], [True] * 5 + [False] * 5)
    assert found["estimate"] == pytest.approx(0.4) and found["ci95"][0] < 0.4 < found["ci95"][1]
    assert difference_of_shares([], [True]) is None
    paired = paired_difference([True] * 6 + [False] * 4, [False] * 2 + [True] * 4 + [False] * 4)
    assert paired["estimate"] == pytest.approx(0.2) and paired["ci95"][0] < 0.2
