"""The evidence as a whole: cross-table, placebos, partial slopes, checks, and what cannot be told."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from causalft.analysis.class_evidence import (
    Draws,
    class_evidence,
    cross_gaps,
    exchanged_priors,
    shuffled_classes,
    swapped_models,
)
from causalft.data.groups import gap, group_accuracy, prior_groups
from causalft.errors import CausalFTError
from tests.analysis.class_evidence.made_up import counts_and_accuracy

QUICK = {"n_boot": 100, "n_permutations": 100}


def evidence(x, y, **settings):
    models = ["cc", "yfcc", "laion", "more"][: len(x)]
    names = [f"class {k}" if k % 2 else f"class{k}" for k in range(x.shape[1])]
    return class_evidence(np.clip(y, 0, 1), x, models, names, **{**QUICK, **settings})


def test_cross_table_is_many_minus_few_of_each_model_by_each_prior():
    x, y = counts_and_accuracy()
    table = cross_gaps(y, x, Draws(300, 50, 0))
    for r in range(3):
        for j in range(3):
            assert table[r][j].value == pytest.approx(gap(group_accuracy(y[r], prior_groups(x[j]))))


def test_own_minus_off_is_the_diagonal_less_the_column_means():
    x, y = counts_and_accuracy()
    found = evidence(x, y)
    table = np.array([[cell.value for cell in row] for row in found.gap])
    each = [table[j, j] - np.delete(table[:, j], j).mean() for j in range(3)]
    assert [e.value for e in found.comparison.own_minus_off_of] == pytest.approx(each)
    assert found.comparison.own_minus_off.value == pytest.approx(np.mean(each))
    # the images see the same number: its linear map gives it back
    counted = evidence(x, y, n_test=np.full(300, 50)).comparison.own_minus_off.images
    assert counted.bounded and counted.estimate == pytest.approx(np.mean(each))


def test_a_known_slope_is_found_and_both_placebos_cover_zero():
    x, y = counts_and_accuracy(slope=0.15)
    found = evidence(x, y).comparison
    assert found.claimed
    assert found.slope.classes.low < 0.15 < found.slope.classes.high and found.slope.value > 0.13
    for placebo in (found.shuffled_classes, found.swapped_models):
        assert placebo.covers_zero and abs(placebo.mean) < 0.05
        assert placebo.p == pytest.approx(1 / 101)


def test_without_an_effect_the_placebos_are_no_smaller_than_the_slope():
    x, y = counts_and_accuracy(slope=0.0)
    found = evidence(x, y).comparison
    assert found.slope.classes.low < 0 < found.slope.classes.high
    assert min(found.shuffled_classes.p, found.swapped_models.p) > 0.02


def test_placebo_p_values_are_uniform_without_an_effect():
    p = []
    for seed in range(60):
        x, y = counts_and_accuracy(n_classes=40, slope=0.0, seed=seed)
        p.append([shuffled_classes(y, x, 60, seed).p, swapped_models(y, x, 60, seed).p])
    below = (np.array(p) <= 0.2).mean(axis=0)
    assert ((below > 0.08) & (below < 0.36)).all()


def test_exchanged_priors_average_to_zero_over_all_orders():
    x, y = counts_and_accuracy(slope=0.3)
    found = exchanged_priors(y, x)
    assert list(found) == list(permutations(range(3)))
    assert np.mean(list(found.values())) == pytest.approx(0, abs=1e-12)
    assert max(found, key=found.__getitem__) == (0, 1, 2)


def test_partial_slopes_tell_own_counts_from_those_of_others():
    rng = np.random.default_rng(0)
    x = rng.normal(3, 0.6, (3, 400))
    others = (x.sum(axis=0) - x) / 2
    y = 0.3 + 0.10 * (x - 3) - 0.02 * (others - 3) + 0.01 * rng.standard_normal(x.shape)
    found = evidence(x, y).comparison
    assert found.partial_own.value == pytest.approx(0.20, abs=0.01)
    assert found.partial_others.value == pytest.approx(-0.04, abs=0.01)


def test_classes_without_a_count_or_an_accuracy_are_left_out_by_name():
    x, y = counts_and_accuracy()
    whole = evidence(x[:, 3:], y[:, 3:])
    x[0, 0] = y[1, 1] = np.nan
    tests = np.full(300, 50.0)
    tests[2] = np.nan
    found = evidence(x, y, n_test=tests)
    assert found.left_out == ["class0", "class 1", "class2"]
    assert found.comparison.slope.value == pytest.approx(whole.comparison.slope.value)
    rows = found.to_json()["classes"]
    assert rows[0]["P"] == {"cc": None, "yfcc": None, "laion": None} and not rows[0]["used"]
    assert rows[0]["count"]["cc"] is None and rows[2]["n_test"] is None
    assert {row["P"]["cc"] for row in rows[3:]} == {"many", "medium", "few"}


def test_document_has_the_promised_keys_and_points_for_fractions():
    x, y = counts_and_accuracy()
    document = evidence(x, y, outside={"more": np.full(300, 0.4)}, n_test=np.full(300, 50)).to_json()
    assert {"strata", "cross_table", "slope", "classes", "own_minus_off", "placebo", "variants"} <= set(
        document
    )
    assert 10 < document["slope"]["estimate"] < 30
    assert set(document["cross_table"]) == {"cc", "yfcc", "laion", "more"}
    assert document["cross_table"]["more"]["cc"]["estimate"] == pytest.approx(0)
    assert document["strata"]["cc"]["mean_accuracy"] < 1
    assert {
        "difficulty_by_model",
        "popularity_by_model",
        "bend",
        "no_ceiling",
        "one_word",
        "without cc",
    } <= set(document["checks"])


def test_difficulty_that_weighs_differently_in_each_model_is_taken_out():
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 1, 500)
    x = np.stack([3 - 0.6 * hard, 3 + 0.0 * hard]) + rng.normal(0, 0.5, (2, 500))
    y = 0.5 + np.array([[-0.10], [-0.05]]) * hard + 0.05 * (x - 3) + 0.01 * rng.standard_normal(x.shape)
    found = evidence(x, y, outside={"more": np.clip(0.5 - 0.1 * hard, 0, 1)}).comparison
    assert found.slope.value > 0.13  # fooled
    check = next(check for check in found.checks if check.name == "difficulty_by_model")
    assert check.slope.value == pytest.approx(0.10, abs=0.01)


def test_bend_is_the_change_of_slope_over_a_factor_100():
    rng = np.random.default_rng(0)
    x = rng.uniform(1, 5, (3, 300))
    y = 0.3 + 0.1 * x - 0.01 * x**2
    check = next(check for check in evidence(x, y).comparison.checks if check.name == "bend")
    assert check.slope.value == pytest.approx(-0.08, rel=1e-6)


def test_priors_of_one_source_are_too_alike_for_a_claim():
    x, y = counts_and_accuracy(2, apart=0.02)
    found = evidence(x, y).comparison
    assert found.likeness.too_alike and not found.claimed
    slope = found.to_json(["a", "b"])["slope"]
    assert slope["claimed"] is False and "too alike" in slope["reason"]


def test_one_model_has_a_gap_and_no_slope():
    x, y = counts_and_accuracy(1)
    found = evidence(x, y)
    assert found.comparison is None
    document = found.to_json()
    assert document["slope"]["estimate"] is None and "class difficulty" in document["slope"]["reason"]
    assert document["strata"]["cc"]["P_gap"]["ci95"] is not None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x, y: (x, 100 * y), "fractions"),
        (lambda x, y: (x[:, :5], y), "shape"),
        (lambda x, y: (np.where(x > 4, np.nan, x), y), None),
        (lambda x, y: (np.full_like(x, np.nan), y), "0 classes"),
        (lambda x, y: (np.where(x == x.max(), -np.inf, x), y), "infinite"),
    ],
)
def test_impossible_tables_are_refused(change, words):
    x, y = change(*counts_and_accuracy(2, 30))
    names = [str(k) for k in range(30)]
    if words is None:
        assert class_evidence(np.clip(y, 0, 1), x, ["a", "b"], names, **QUICK).used.sum() < 30
        return
    with pytest.raises(CausalFTError, match=words):
        class_evidence(y if words == "fractions" else np.clip(y, 0, 1), x, ["a", "b"], names, **QUICK)
