"""Strata from one backbone: the control decides, errors and views against what is known."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from causalft.data.creatures import creatures_longtail
from causalft.errors import CausalFTError
from causalft.methods.adaptation.settings import Tuning
from causalft.methods.adaptation.tuned import TunedStratum
from causalft.methods.estimators.fusion import fuse
from causalft.models.features.encoder import Crops
from causalft.models.strata.zoo import open_zoo
from experiments import one_backbone
from experiments.frame import attended, backbone, further, inside
from experiments.frame.claims import judge
from experiments.frame.members import Member
from experiments.frame.study import study_metrics
from tests.experiments.made_up import ROLES, MadeUpLab


@dataclass(frozen=True)
class SimpleFields:
    """As much of a prediction as a view replaces."""

    test_logits: Any


def joint(lab: Any, members: Any, rule: str, seed: int) -> Any:
    """What tunings with other seeds answer, each or fused."""
    logits = [lab.prediction(member, seed).test_logits for member in members]
    alone = further.JOINT[rule].alone
    return np.log(fuse(logits, kind="logits")) if alone is None else logits[alone]


def test_tunings_of_one_model_are_an_ensemble_and_strata_are_not(
    monkeypatch: pytest.MonkeyPatch, fewer_resamples: None
) -> None:
    lab = MadeUpLab({"LA": (0.0, 0.8)})
    compared: dict[str, Any] = {}
    monkeypatch.setattr(backbone, "map_overlaps", lambda lab, members, n: compared.update(members) or {})
    for module, name in ((attended, "looked"), (inside, "inside")):
        monkeypatch.setattr(module, name, lambda lab, member, seed, view: lab.prediction(member, seed))
    monkeypatch.setattr(further, "joint", joint)
    metrics = study_metrics(one_backbone.study(ROLES), lab)  # type: ignore[arg-type]
    alike = {family: of["estimate"] for family, of in metrics["error_correlation"].items()}
    assert alike.keys() == {*compared, *backbone.FOREIGN} and [m.name for m in compared["strata"]] == list(
        ROLES.strata
    )
    assert all(
        alike[name] == pytest.approx(1.0) for name in ("views", "read-outs", "token groups", "head groups")
    )
    assert alike["kept apart"] == pytest.approx(alike["tunings"]) and alike["strata"] < alike["tunings"]
    verdicts = {claim.at: judge(claim, metrics).verdict for claim in one_backbone.claims()}
    assert "supported" not in {verdicts[f"paired/{family} over tunings"] for family in backbone.FAMILIES}
    # Views that are all the same image gain nothing, which is less than tunings with other seeds gain.
    for family in ("views", "read-outs", "token groups", "head groups"):
        assert verdicts[f"paired/{family} over tunings"] == "contradicted"
    fall = metrics["paired"]["gap fall, strata less tunings"]
    assert fall["ci95"][0] > 0 and metrics["paired"]["strata over tunings"]["ci95"][0] > 0


def test_errors_that_are_the_same_correlate_by_one_and_independent_ones_by_nothing() -> None:
    labels = np.repeat(np.arange(40), 50)
    rng = np.random.default_rng(0)
    one = rng.random((1, 2, len(labels))) < 0.6
    other = rng.random((1, 2, len(labels))) < 0.8
    same = backbone._error_correlation(np.concatenate([one, one]), labels)
    assert same["estimate"] == pytest.approx(1.0)
    apart = backbone._error_correlation(np.concatenate([one, other]), labels)
    assert apart["ci95"][0] < 0 < apart["ci95"][1] and abs(apart["estimate"]) < 0.05
    mixed = np.where(rng.random(one.shape) < 0.5, one, rng.random(one.shape) < 0.6)
    half = backbone._error_correlation(np.concatenate([one, mixed]), labels)
    expected = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(one[0], mixed[0], strict=True)])
    assert half["estimate"] == pytest.approx(expected) and half["ci95"][0] < 0.5 < half["ci95"][1]


def test_the_two_halves_share_no_pixel_and_the_fusion_is_the_mixture_of_three() -> None:
    splits = creatures_longtail(n_max=4, imbalance_factor=2, n_validation=2, n_test=1)
    stratum = open_zoo("mini").load("clip")
    tuned = TunedStratum(stratum, _weights(stratum, splits.train.n_classes), Tuning(precision="fp32"))
    logits = tuned.logits(Crops(splits.test, stratum))
    prediction = SimpleFields(test_logits=logits)
    lab: Any = SimpleNamespace(
        tuned=lambda member, seed: (prediction, tuned),
        prediction=lambda member, seed: prediction,
        folder=lambda member, seed: "halves",
        world=SimpleNamespace(splits=lambda seed, draw: splits),
    )
    found = {
        view: np.asarray(attended.looked(lab, Member("clip"), 0, view).test_logits) for view in attended.LOOKS
    }
    probs = [
        np.exp(values) / np.exp(values).sum(1, keepdims=True)
        for values in (logits.astype(float), *found.values())
    ]
    assert probs[3] == pytest.approx(np.mean(probs[:3], axis=0), abs=1e-6)
    assert not np.allclose(found["attended half"], found["other half"])
    hidden = attended._halves(np.random.default_rng(0).random((5, 8, 8)))
    assert (hidden.mean(axis=(1, 2)) == 0.5).all()


@pytest.fixture(scope="module")
def one_model() -> tuple[Any, Any, Any]:
    """A lab with one tuned model, the model, and its images."""
    splits = creatures_longtail(n_max=4, imbalance_factor=2, n_validation=2, n_test=1)
    stratum = open_zoo("mini").load("clip")
    recipe = Tuning(precision="fp32", epochs=1)
    tuned = TunedStratum(stratum, _weights(stratum, splits.train.n_classes), recipe)
    prediction = SimpleFields(test_logits=tuned.logits(Crops(splits.test, stratum)))
    lab = SimpleNamespace(
        tuned=lambda member, seed: (prediction, tuned),
        prediction=lambda member, seed: prediction,
        folder=lambda member, seed: "one model",
        world=SimpleNamespace(
            splits=lambda seed, draw: splits, settings=SimpleNamespace(tuning=recipe, data="creatures-lt")
        ),
    )
    return lab, tuned, splits


def test_a_silenced_group_of_heads_is_a_projection_without_its_columns(one_model: Any) -> None:
    lab, tuned, splits = one_model
    pixels = Crops(splits.test, tuned.stratum)
    for group, view in enumerate(inside.views_of(inside.HEADS)[0]):
        other = copy.deepcopy(tuned)
        for block in other.tower.blocks:
            weight = other.tower.parts(block).proj.weight
            head = weight.shape[1] // 3
            with torch.no_grad():
                weight *= 1.5  # two of three heads are left
                weight[:, group * head : (group + 1) * head] = 0
        found = inside.inside(lab, Member("clip"), 0, view).test_logits
        assert np.allclose(found, other.logits(pixels), atol=1e-4)
    assert np.array_equal(tuned.logits(pixels), lab.prediction(None, 0).test_logits)  # no hook is left


def test_read_outs_are_heads_on_the_tower_that_ends_early(one_model: Any) -> None:
    lab, tuned, splits = one_model
    views, together = inside.views_of(inside.READOUTS)
    found = [np.asarray(inside.inside(lab, Member("clip"), 0, view).test_logits) for view in views]
    assert np.array_equal(found[2], lab.prediction(None, 0).test_logits)
    assert not np.allclose(found[0], found[1])
    fused = inside.inside(lab, Member("clip"), 0, together).test_logits
    assert np.allclose(np.exp(fused), fuse(found, kind="logits"), atol=1e-6)
    with torch.no_grad():
        pixels = _pixels(tuned, splits.test)
        whole = inside._early(tuned, len(tuned.tower.blocks), pixels)
        assert np.allclose(whole, tuned.features(tuned.tokens(pixels)), atol=1e-5)


def test_token_groups_are_thirds_of_the_patches_along_their_main_direction(
    one_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, tuned, splits = one_model
    tower = tuned.tower
    direction = inside._main_direction(tuned, splits.train, 1)
    with torch.no_grad():
        train = tower.run(tower.embed(_pixels(tuned, splits.train)), stop=1)[:, 1:].reshape(-1, tower.width)
        along = (train @ direction).var()
        assert all(along >= (train @ F.normalize(torch.randn(tower.width), dim=0)).var() for _ in range(20))
        given: list[Any] = []
        run = tower.run
        monkeypatch.setattr(
            tower, "run", lambda tokens, **where: given.append(tokens) or run(tokens, **where)
        )
        pixels = _pixels(tuned, splits.test)
        for group in range(3):
            features = inside._of_group(tuned, 1, direction, group, pixels)
            assert features.shape == (len(splits.test), 64)
    tokens = run(tower.embed(pixels), stop=1)
    groups = given[1::2]  # what the later blocks saw
    assert [group.shape[1] for group in groups] == [1 + 9, 1 + 8, 1 + 8]
    assert all(torch.allclose(group[:, 0], tokens[:, 0], atol=1e-5) for group in groups)
    scores = [group[:, 1:] @ direction for group in groups]
    assert (scores[0].amax(1) <= scores[1].amin(1)).all() and (scores[1].amax(1) <= scores[2].amin(1)).all()
    rejoined = torch.cat([group[:, 1:] for group in groups], dim=1).sum(dim=1)
    assert torch.allclose(rejoined, tokens[:, 1:].sum(dim=1), atol=1e-3)


def test_each_token_group_has_a_head_of_its_own(one_model: Any) -> None:
    lab, _, splits = one_model
    views, together = inside.views_of(inside.TOKENS)
    found = [np.asarray(inside.inside(lab, Member("clip"), 0, view).test_logits) for view in views]
    assert all(logits.shape == (len(splits.test), splits.train.n_classes) for logits in found)
    assert not np.allclose(found[0], found[1]) and not np.allclose(found[1], found[2])
    fused = inside.inside(lab, Member("clip"), 0, together).test_logits
    assert np.allclose(np.exp(fused), fuse(found, kind="logits"), atol=1e-6)


def test_each_seed_is_computed_once_for_the_arms_that_ask_one_after_the_other(
    one_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, _, _ = one_model
    lab.folder = lambda member, seed: f"seed {seed}"
    computed: list[int] = []

    def logits(lab: Any, member: Any, seed: int) -> Any:
        computed.append(seed)
        return [np.zeros((2, 3), np.float32)] * 3

    monkeypatch.setattr(inside, "_without_heads", logits)
    views, together = inside.views_of(inside.HEADS)
    for view in (*views, together):
        for seed in (0, 1, 2):
            inside.inside(lab, Member("clip"), seed, view)
    assert computed == [0, 1, 2]
    inside._FOUND.clear()


def test_a_tower_without_tokens_has_no_views_inside(one_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lab, tuned, _ = one_model
    other = copy.deepcopy(tuned)
    other.tower.kind = "ResNet"
    monkeypatch.setattr(lab, "tuned", lambda member, seed: (None, other))
    monkeypatch.setattr(lab, "folder", lambda member, seed: "a ResNet")
    for family in (inside.READOUTS, inside.TOKENS, inside.HEADS):
        with pytest.raises(CausalFTError, match="clip is no vision transformer"):
            inside.inside(lab, Member("clip"), 0, f"{family}, 1")


def test_a_model_with_two_heads_has_no_three_groups(one_model: Any) -> None:
    lab, tuned, _ = one_model
    few = copy.deepcopy(tuned)
    for block in few.tower.blocks:
        few.tower.parts(block).attention.n_heads = 2
    with (
        pytest.raises(CausalFTError, match="has 2 attention heads; 3 groups need 3"),
        inside._silenced(few, 0),
    ):
        pass


def _pixels(tuned: TunedStratum, images: Any) -> torch.Tensor:
    return tuned.stratum.normalise(Crops(images, tuned.stratum)[torch.arange(len(images))])


def _weights(stratum: Any, n_classes: int) -> Any:
    return torch.randn(n_classes, 64, generator=torch.Generator().manual_seed(0))
