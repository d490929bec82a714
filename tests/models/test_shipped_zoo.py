"""The minis that ship with the package: complete, small, described, with their prior in the logits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from causalft.data.creatures import creatures_longtail
from causalft.methods.adaptation.cost import count_flops
from causalft.models.pretraining.pretrain import MEMBERS
from causalft.models.strata.cards import sha256_file
from causalft.models.strata.zoo import mini_folder, open_zoo
from causalft.pipelines.workflows.zoo import check_member
from synthetic.creatures import CLASS_NAMES, FACTORS, factor_law

STRATA = ("clip", "openclip", "metaclip")


@pytest.fixture(scope="module")
def zoo():
    return open_zoo("mini")


@pytest.fixture(scope="module")
def measured(zoo):
    """The three strata and the in-batch member on 1,800 balanced images."""
    test = creatures_longtail(n_max=1, imbalance_factor=1, n_validation=1, n_test=30).test
    return {
        n: check_member(zoo.load(n), test.pixels, test.labels) for n in (*STRATA, "clip-infonce", "clip-wide")
    }


def test_eleven_members_under_14_megabytes(zoo):
    assert zoo.names() == sorted(MEMBERS) and len(MEMBERS) == 11
    assert sum(path.stat().st_size for path in mini_folder().iterdir()) < 14e6


@pytest.mark.parametrize("name", sorted(MEMBERS))
def test_shipped_members_match_their_cards(zoo, name):
    member, card = MEMBERS[name], zoo.card(name)
    assert sha256_file(mini_folder() / f"{name}.safetensors") == card.sha256
    assert card.name == name and card.world == "creatures" and card.loss == member.loss
    assert card.class_names == list(CLASS_NAMES)
    assert np.allclose(card.prior, member.prior)
    assert max(card.prior) / min(card.prior) == pytest.approx(100)
    assert card.view["favourite"] == member.favourite
    assert [card.view["factor_law"][f] for f in FACTORS] == pytest.approx(
        factor_law(member.favourite).tolist()
    )
    assert card.recipe["seed"] == member.seed and card.recipe["n_images"] >= 10_000
    assert card.recipe["losses"] == sorted(card.recipe["losses"], reverse=True)
    stratum = zoo.load(name)
    n_parameters = 1_307_819 if name == "clip-wide" else 507_185
    assert sum(p.numel() for p in stratum.model.parameters()) == pytest.approx(n_parameters, rel=0.01)


@pytest.mark.slow
def test_the_wide_member_costs_three_minis_and_is_better_than_one(zoo, measured):
    """The control 'a larger single model of the same cost': clip's prior, factor and seed, three times the FLOPs."""
    cost, wide, clip = {}, MEMBERS["clip-wide"], MEMBERS["clip"]
    for name in ("clip", "clip-wide"):
        stratum = zoo.load(name)
        with torch.no_grad():
            cost[name] = count_flops(lambda: stratum.visual(torch.zeros(1, 3, 40, 40)))  # noqa: B023
        assert zoo.card(name).recipe["epochs"] == 6 and zoo.card(name).recipe["n_images"] == 30_000
    assert 2.8 < cost["clip-wide"] / cost["clip"] < 3.2
    assert replace(wide, name="clip", role=clip.role, config=clip.config) == clip
    assert measured["clip-wide"].zero_shot_accuracy > measured["clip"].zero_shot_accuracy


def test_the_priors_are_unrelated(zoo):
    orders = [np.argsort(np.argsort(zoo.card(name).prior)) for name in STRATA]
    correlation = np.corrcoef(orders)
    assert np.abs(correlation - np.eye(3)).max() < 0.05


@pytest.mark.parametrize("name", STRATA)
def test_the_pretraining_prior_is_in_the_logits(measured, name):
    found = measured[name]
    assert found.gap >= 0.30
    assert found.gla_spearman >= 0.90
    assert found.gla_zero_shot_accuracy > found.zero_shot_accuracy


def test_in_batch_infonce_leaves_little_of_the_prior(measured):
    """The documented case in which GLA's estimate is not the pre-training prior."""
    assert measured["clip-infonce"].gla_spearman < 0.6
    assert measured["clip-infonce"].gap < measured["clip"].gap - 0.1
