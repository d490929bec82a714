"""Occlusion, maps, the control from scratch and their intervals, on arrays whose truth is known."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from experiments.frame.claims import judge
from experiments.frame.looking import Parts, draw_parts, favourite_metrics, loss_metrics
from experiments.frame.maps import own_part_metrics
from experiments.frame.means import jackknife, mean_over_images


@pytest.fixture(scope="module")
def parts() -> Parts:
    """Strata lose .5 by their own part and .1 by each other; the fusion .2 by any."""
    rng = np.random.default_rng(0)
    losses = np.full((4, 2, 300, 3), 0.1)
    for k in range(3):
        losses[k, :, :, k] = 0.5
    losses[3] = 0.2
    favourites = {"clip": 0, "openclip": 1, "metaclip": 2}
    return Parts((*favourites, "fused"), favourites, losses + 0.05 * rng.normal(size=losses.shape))


def test_favourite_parts_are_compared_with_other_parts_strata_and_the_fusion(parts: Parts) -> None:
    found = favourite_metrics(parts)
    for words, expected in (
        ("less the worst other part", 0.4),
        ("less other strata", 0.4),
        ("less fused", 0.3),
    ):
        assert found[words]["estimate"] == pytest.approx(expected, abs=0.02)
        assert found[words]["ci95"][0] > 0.2 and found[words]["p"] < 0.05
    metrics = loss_metrics(parts)
    occlusion = importlib.import_module("experiments.occlusion")
    assert {judge(claim, metrics).verdict for claim in occlusion.claims()} == {"supported"}
    assert metrics["losses"]["openclip"]["body"]["estimate"] == pytest.approx(0.5, abs=0.02)
    assert [row[:2] for row in metrics["table"]["rows"]][-1] == ["fused", "none"]
    assert len(draw_parts(metrics["losses"], "loss")) == 1 and len(occlusion.draw(metrics)) == 1


def test_a_flat_world_supports_no_claim_about_favourites(parts: Parts) -> None:
    flat = Parts(
        parts.names, parts.favourites, 0.1 + 0.05 * np.random.default_rng(1).normal(size=(4, 2, 300, 3))
    )
    less = favourite_metrics(flat)["less other strata"]
    assert less["ci95"][0] < 0.02 and less["ci95"][1] > -0.02


def test_the_mean_over_images_covers_and_widens_with_seeds_that_differ() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        values = 1.0 + rng.normal(size=(3, 40)) + 0.3 * rng.normal(size=(3, 1))
        low, high = mean_over_images(values)["ci95"]
        hits += low < 1.0 < high
    assert 0.9 < hits / 300
    assert mean_over_images(np.ones((2, 5)))["ci95"] is None


def test_the_jackknife_of_a_slope_is_about_that_of_least_squares() -> None:
    from scipy.stats import linregress

    rng = np.random.default_rng(2)
    x, y = rng.normal(size=60), rng.normal(size=60)
    found = jackknife(lambda rows: float(np.polyfit(x[rows], y[rows], 1)[0]), 60)
    fit = linregress(x, y)
    assert found["estimate"] == pytest.approx(fit.slope)
    assert (found["ci95"][1] - found["ci95"][0]) / 4 == pytest.approx(fit.stderr, rel=0.25)


@pytest.mark.slow
def test_a_network_from_scratch_is_trained_once_and_read_back(tmp_path: Path) -> None:
    from causalft.data.creatures import creatures_longtail
    from experiments.frame.scratch import from_scratch, pixels_of

    splits = creatures_longtail(n_max=4, imbalance_factor=2, n_validation=1, n_test=1)
    world: Any = SimpleNamespace(scale="mini", splits=lambda seed: splits)
    lab: Any = SimpleNamespace(world=world, members=tmp_path, quick=True)
    first = from_scratch(lab, 0)
    assert first.shape == (60,) and (from_scratch(lab, 0) == first).all()
    assert len(list(tmp_path.glob("mini/resnet8-*/answers.safetensors"))) == 1
    assert pixels_of(splits.test).shape == (60, 20, 20, 3)


@pytest.mark.parametrize("name", ["fig4", "fig7", "fig9", "occlusion"])
def test_every_claim_points_into_the_metrics(name: str) -> None:
    from experiments.frame.scales import Roles

    module = importlib.import_module(f"experiments.{name}")
    roles = Roles(
        ("clip", "openclip", "metaclip"), ("clip", "clip@1", "clip@2"), "pre-training", None, "none", True
    )
    study = module.study(roles)
    arms, words = {arm.name for arm in study.arms}, {contrast.words for contrast in study.contrasts}
    assert all({*c.plus, *c.minus} <= arms for c in study.contrasts)
    assert all(c.at.split("/", 1)[1] in words for c in module.claims() if c.at.startswith("paired/"))
    assert all(isinstance(sentence, str) for sentence in study.conclude(lambda words: "1.0"))


def test_the_order_of_figure_7_is_that_of_the_first_stratum_for_all() -> None:
    from experiments import fig7
    from experiments.frame.scales import Roles

    study = fig7.study(Roles(("a", "b"), ("a", "a@1"), "pre-training", None, "none", True))
    assert {(m.draw.order, m.draw.order_by) for m in study.members} == {
        (order.lower(), "a") for order in fig7.ORDERS
    }
    assert len(study.members) == 6  # two strata, three orders: the fusion needs no more


@pytest.mark.slow
def test_estimates_are_compared_with_the_exact_truth_of_the_strict_design() -> None:
    from experiments import fig12

    found = {"exact": fig12.against_truth(quick=True)}
    judged = {claim.at: judge(claim, found).verdict for claim in fig12.claims() if claim.objection == 2}
    assert judged == {
        "exact/naive/bias": "supported",
        "exact/backdoor/bias": "supported",
        "exact/backdoor/coverage": "supported",
    }
    assert found["exact"]["naive"]["bias"]["estimate"] == pytest.approx(
        found["exact"]["seeing_less_doing"], abs=0.01
    )


def test_own_parts_are_compared_stratum_by_stratum(parts: Parts) -> None:
    found = own_part_metrics(parts)
    for words, expected in (("less other parts", 0.4), ("less other strata", 0.4), ("contrast", 0.6)):
        assert found[words]["mean"]["estimate"] == pytest.approx(expected, abs=0.02)
        assert found[words]["least"] in found[words]["strata"].values()
    # one stratum that looks elsewhere contradicts a claim about every stratum, and not the mean
    values = parts.values.copy()
    values[1, ..., 1] = 0.05 + 0.01 * np.random.default_rng(3).normal(size=values[1, ..., 1].shape)
    other = own_part_metrics(Parts(parts.names, parts.favourites, values))
    other = other["less other strata"]
    assert other["mean"]["ci95"][0] > 0 > other["least"]["ci95"][1]
    # what all strata share cancels in the contrast
    large = parts.values + np.array([0.0, 1.0, 0.0])
    moved = own_part_metrics(Parts(parts.names, parts.favourites, large))
    assert moved["contrast"]["mean"]["estimate"] == pytest.approx(found["contrast"]["mean"]["estimate"])
    assert moved["less other parts"]["least"]["ci95"][1] < 0


def test_every_kind_of_map_is_measured_on_the_same_views(monkeypatch: pytest.MonkeyPatch) -> None:
    from causalft.data.creatures import creatures_longtail
    from causalft.methods.estimators.maps import FusedView, zero_shot_view
    from causalft.methods.estimators.mixing import Mixing
    from causalft.models.strata.zoo import open_zoo
    from experiments import fig4
    from experiments.frame import maps

    zoo, splits = open_zoo("mini"), creatures_longtail(n_max=4, imbalance_factor=2, n_validation=1)
    favourites = {"clip": 0, "openclip": 1}
    classes, loaded = splits.test.class_names, []

    def view_of(lab: Any, seed: int) -> FusedView:
        loaded.append(seed)
        strata = {name: zero_shot_view(zoo.load(name), classes) for name in favourites}
        return FusedView(strata, Mixing("mixture", (0.5, 0.5), 1.0), classes)

    monkeypatch.setattr(maps, "view_of", view_of)
    monkeypatch.setattr(maps, "favourites_of", lambda lab: favourites)
    lab: Any = SimpleNamespace(seeds=1, world=SimpleNamespace(splits=lambda seed: splits))
    kinds = ["integrated-gradients", "rollout"]
    found = maps.map_metrics(lab, 12, kinds, steps=2)
    assert found is not None and list(found) == kinds and loaded == [0]
    for of in found.values():
        assert set(of["faithfulness"]["fused"]) == {"random", "centre"}
        assert 0 < of["spread"]["fused"]["estimate"] < 1
        assert sum(of["shares"]["fused"][part]["estimate"] for part in ("head", "body", "tail")) < 1
    choice = maps.deletion_on_validation(lab, 12, kinds, steps=2)
    assert choice["best"] in kinds and {*choice["deletion"]} == {*kinds, "random", "centre"}
    metrics = {"maps": found, "choice": choice}
    assert all(judge(claim, metrics).numbers for claim in fig4.claims())
    assert len(fig4.sections(metrics)[0].tables[0].rows) == 6 and len(fig4.draw(metrics)) == 1
