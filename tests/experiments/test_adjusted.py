"""The experiment on the gap-closing adjustment, with members of which it is known what the tuning left in them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from causalft.runs.folder import Run
from experiments import EXPERIMENTS
from experiments.adjusted import NULL, OURS, SEEDS_OURS, UNLABELLED
from experiments.frame import adjusting, unlabelled
from experiments.frame.adjusting import (
    ADJUSTING,
    AT,
    CLASS_WEIGHTS,
    RIVALS,
    Fused,
    _class_weighted,
    _fuse,
    _less_prior,
)
from experiments.frame.arms import Model
from experiments.frame.claims import judge
from experiments.frame.members import Member
from experiments.frame.study import study_metrics, study_page
from experiments.frame.tested import _classes
from tests.experiments.made_up import N_CLASSES, ROLES, STRATA, MadeUpLab


@pytest.fixture(scope="module")
def lab():
    return MadeUpLab({"LA": (0.1, 0.4)})


@pytest.fixture(scope="module")
def metrics(lab):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(unlabelled, "images_without_labels", lambda lab, seed: (lab.splits.test, "made up"))
        patched.setattr(
            unlabelled,
            "logits_of",
            lambda lab, members, seed, images: [lab.prediction(m, seed).test_logits for m in members],
        )
        return study_metrics(EXPERIMENTS["adjusted"].study(ROLES), lab)


def test_the_adjustment_closes_the_gap_that_is_there_and_its_null_does_not(metrics):
    gaps = {name: of["own_gap"]["estimate"] for name, of in metrics["methods"].items()}
    assert gaps["product"] > 0.08 and abs(gaps[OURS]) < 0.04 and abs(gaps[NULL] - gaps["product"]) < 0.04
    assert gaps[AT.format(0)] > gaps[AT.format(0.2)] > gaps[AT.format(0.5)]
    for rule in (
        "product, equal recall",
        "mixture, equal recall",
        "product, optimal transport",
        "mixture, optimal transport",
    ):
        assert abs(gaps[rule]) < 0.06 < gaps["product"]
    assert abs(gaps[SEEDS_OURS]) < 0.15
    assert all(0.25 < found["strength"] < 0.75 for found in metrics["adjustment"])


def test_a_strength_without_labels_is_chosen_on_images_of_no_split(lab, monkeypatch):
    spare, given = [np.full((4, N_CLASSES), place) for place in range(3)], []
    monkeypatch.setattr(unlabelled, "images_without_labels", lambda lab, seed: (f"spare {seed}", "made up"))
    monkeypatch.setattr(unlabelled, "logits_of", lambda *asked: given.append(asked) or spare)

    def chosen(fused, **options):
        given.append(options["unlabeled"])
        return lambda logits, kind: np.asarray(logits[0]), None

    monkeypatch.setattr(adjusting, "chosen", chosen)
    members = tuple(Member(name) for name in STRATA)
    _classes(lab, Model(members, rule=UNLABELLED), 1)
    assert given[0] == (lab, members, 1, "spare 1")
    assert all(one is other for one, other in zip(given[1], spare, strict=True))


def test_class_weights_by_themselves_take_no_prior_out():
    """Of strata that share their prior no class weighs another stratum more, so they decide as the product."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(10), 40)
    lean = np.log(0.5 ** np.arange(10))
    logits = 3 * np.eye(10)[labels] + rng.normal(size=(2, 3, len(labels), 10)) + lean
    members = [
        SimpleNamespace(gla_prior=np.full(10, 0.1), validation_logits=a, test_logits=b)
        for a, b in zip(*logits, strict=True)
    ]
    images = SimpleNamespace(labels=labels, n_classes=10)
    train = SimpleNamespace(class_counts=np.rint(1000 * 0.5 ** np.arange(10)) + 1)
    fused = Fused(members, (), SimpleNamespace(validation=images, train=train), 0)
    product = logits[1].sum(axis=0).argmax(axis=1)
    assert np.array_equal(ADJUSTING[CLASS_WEIGHTS](fused), product)
    assert not np.array_equal(ADJUSTING[AT.format(0)](fused), product)  # takes the training prior out


def test_its_claims_are_judged_by_numbers_that_are_there(metrics):
    judged = [judge(claim, metrics) for claim in EXPERIMENTS["adjusted"].claims()]
    assert all(one.numbers for one in judged)
    by_text = {one.claim.text: one.verdict for one in judged}
    assert by_text["It loses no accuracy to the product"] == "supported"
    assert {one.claim.objection for one in judged} >= {4, 5, 9}


def test_its_page_shows_the_frontier_and_what_was_chosen(metrics, tmp_path):
    page = study_page(EXPERIMENTS["adjusted"].study(ROLES), Run(tmp_path, "experiment", {}), metrics)
    assert page["sections"][-1].title == "What validation images chose"
    assert (tmp_path / "figures" / "figure.png").is_file()


def test_every_family_is_compared_with_the_adjustment_in_accuracy_gap_and_d_few(metrics):
    for rival in RIVALS:
        assert {f"adjusted over {rival}, {words}" for words in ("accuracy", "gap", "D-few")} <= metrics[
            "paired"
        ].keys()


def test_class_weights_follow_the_priors_and_leave_the_fusion_at_strength_0():
    log_p = np.log([[[0.7, 0.3]], [[0.2, 0.8]]])
    log_q = np.log([[0.8, 0.2], [0.2, 0.8]])
    for rule in ("product", "mixture"):
        np.testing.assert_allclose(_class_weighted(rule, log_p, log_q, 0.0), _fuse(log_p, rule))
    # at strength 1 the first stratum weighs 0.8 in the first class and 0.2 in the second
    expected = np.array([0.8 * 0.7 + 0.2 * 0.2, 0.2 * 0.3 + 0.8 * 0.8])
    found = np.exp(_class_weighted("mixture", log_p, log_q, 1.0))[0]
    np.testing.assert_allclose(found, expected / expected.sum())
    powers = np.array([0.7**1.6 * 0.2**0.4, 0.3**0.4 * 0.8**1.6])
    np.testing.assert_allclose(
        np.exp(_class_weighted("product", log_p, log_q, 1.0))[0], powers / powers.sum()
    )


def test_the_logit_mean_decides_as_the_product_at_every_strength():
    rng = np.random.default_rng(0)
    log_p, log_q = np.log(rng.dirichlet(np.ones(5), (3, 200))), np.log(rng.dirichlet(np.ones(5), 3))
    for strength in (0.0, 0.3, 1.0):
        mean, product = (_less_prior(rule, log_p, log_q, strength) for rule in ("logit mean", "product"))
        np.testing.assert_array_equal(mean.argmax(axis=1), product.argmax(axis=1))


@pytest.mark.parametrize(
    "rule", ["product, optimal transport", "product, equal marginals", "mixture, optimal transport"]
)
def test_the_marginals_of_the_chosen_decision_are_near_the_target_law(lab, rule):
    members = [lab.prediction(Member(name), 0) for name in STRATA]
    fused = Fused(members, (), lab.world.splits(0), 0)
    n_classes = lab.splits.test.n_classes
    shares, plain = (
        np.bincount(found, minlength=n_classes) / len(found)
        for found in (
            ADJUSTING[rule](fused),
            sum(np.asarray(each.test_logits) for each in members).argmax(axis=1),
        )
    )
    log_q = np.log(fused.priors)
    before, after = (
        np.abs((log_q - log_q.mean(axis=1, keepdims=True)) @ each).max() for each in (plain, shares)
    )
    assert after < before / 2
