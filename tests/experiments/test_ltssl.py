"""Experiments on unlabelled images: draws, claims on made-up members, rare precision, FixMatch from scratch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from causalft.data.creatures import creatures_longtail
from causalft.data.image_set import ImageSet
from causalft.data.splits import Splits
from causalft.methods.adaptation.settings import default_tuning
from causalft.methods.semi.choices import METHODS
from experiments import ltssl, ltssl_cost, ltssl_dual, ltssl_parts, ltssl_strata
from experiments.frame import ltssl as frame
from experiments.frame.claims import judge
from experiments.frame.members import Draw, Member
from experiments.frame.protocol import protocol_splits
from experiments.frame.scratch_semi import fixmatch_loss
from experiments.frame.study import study_metrics
from tests.experiments.made_up import ROLES, MadeUpLab


def test_every_method_is_an_arm_under_every_law_and_supervised_ones_once() -> None:
    arms = {arm.name for arm in ltssl.study(ROLES).arms}
    for record in METHODS.values():
        if record.name == "fixmatch":  # as lft-fixmatch
            continue
        wanted = {f"{record.name}, {law}" for law in frame.LAWS} if record.unlabelled else {record.name}
        assert wanted <= arms, record.name
    named = {name for c in ltssl.study(ROLES).contrasts for name in (*c.plus, *c.minus)}
    assert named <= arms


def test_methods_that_do_not_differ_support_no_claim(fewer_resamples: None) -> None:
    lab = MadeUpLab({"LA": (0.0, 0.5)})
    metrics = study_metrics(ltssl.study(ROLES), lab)  # type: ignore[arg-type]
    verdicts = [judge(claim, metrics).verdict for claim in ltssl.claims()]
    assert "supported" not in verdicts
    assert metrics["pseudo_labels"] == {}  # made-up members have none


def test_strata_that_share_their_answers_gain_and_one_model_does_not(
    monkeypatch: pytest.MonkeyPatch, fewer_resamples: None
) -> None:
    lab = MadeUpLab({"LA": (0.0, 0.5)}, openclip=2.0, metaclip=2.0)

    def shared(lab, members, seed):  # strata that share are as good as their mixture; seeds gain nothing
        logits = [lab.prediction(member, seed).test_logits for member in members]
        apart = len({member.name.partition("@")[0] for member in members}) > 1
        return np.mean(logits, axis=0) if apart else logits[0]

    monkeypatch.setattr(frame, "shared", shared)
    interval = {"estimate": 0.1, "ci95": [0.05, 0.15]}
    found = {"shared": interval, "best single": interval, "difference": interval, "n": 3.0}
    monkeypatch.setattr(frame, "rare_precision", lambda lab, members: found)
    metrics = study_metrics(ltssl_strata.study(ROLES), lab)  # type: ignore[arg-type]
    verdicts = {claim.at: judge(claim, metrics).verdict for claim in ltssl_strata.claims()}
    assert verdicts["paired/strata over seeds, consistent"] == "supported"
    assert verdicts["precision/consistent/difference"] == "supported"


@pytest.mark.slow  # draws whole sets of creatures
def test_a_law_changes_the_unlabelled_images_alone() -> None:
    usual = creatures_longtail(n_max=4, imbalance_factor=2, n_validation=1, n_test=1)
    drawn = {
        law: protocol_splits(usual, usual, 0, law, built_in=True) for law in ("none", "uniform", "reversed")
    }
    assert drawn["none"].unlabelled is None
    assert len({splits.train.fingerprint for splits in drawn.values()}) == 1
    uniform, turned = (drawn[law].unlabelled.hidden_counts(60) for law in ("uniform", "reversed"))
    assert uniform.min() == uniform.max() and abs(uniform.sum() - turned.sum()) < 60
    labelled = drawn["reversed"].train.class_counts
    assert np.corrcoef(np.log(labelled), np.log(turned))[0, 1] < -0.9


def test_photographs_are_drawn_from_what_is_left_for_training() -> None:
    pixels = np.arange(1200, dtype=np.uint32).view(np.uint8).reshape(1200, 1, 1, 4)[..., :3]
    images = ImageSet.from_arrays(np.repeat(np.repeat(pixels, 4, 1), 4, 2), np.arange(1200) % 3, list("abc"))
    pool = Splits(train=images, validation=images.subset([]), test=images.subset([]))
    order = images.subset(
        np.concatenate([np.flatnonzero(images.labels == k)[: 10 * (k + 1)] for k in range(3)])
    )
    usual = Splits(train=order, validation=images.subset([]), test=images.subset([]))
    found = protocol_splits(usual, pool, 0, "consistent", built_in=False)
    assert found.train.class_counts.tolist() == [1, 4, 20]  # a twentieth of 400, the order of the usual tail
    assert found.unlabelled.hidden_counts(3).tolist() == [4, 17, 80]
    assert not {*found.train.files} & {*found.unlabelled.images.files}


def test_members_of_older_experiments_keep_their_folders() -> None:
    assert Draw("reverse", "clip").document == {"order": "reverse", "order_by": "clip"}
    assert Draw(law="uniform").document == {"order": "", "order_by": "", "law": "uniform"}
    assert (
        Member("clip", method="lp-fixmatch", draw=Draw(law="uniform")).label == "clip-lp-fixmatch-LA-uniform"
    )


def test_a_fresh_draw_shares_no_image_and_no_seed_with_the_usual_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[int] = []

    def draw(split: str, counts: np.ndarray, size: int, seed: int, name: str = "") -> ImageSet:
        drawn.append(seed)
        labels = np.repeat(np.arange(len(counts)), counts)
        pixels = np.full((len(labels), 4, 4, 3), drawn.index(seed) % 256, np.uint8)
        return ImageSet.from_arrays(pixels, labels, [f"{k:02}" for k in range(len(counts))])

    monkeypatch.setattr("causalft.data.creatures._draw", draw)
    usual = creatures_longtail()
    before = [protocol_splits(usual, usual, seed, "reversed", built_in=True) for seed in range(3)]
    of_choice, drawn[:] = {*drawn}, []
    first = ltssl_dual.FIRST_SEED
    after = [
        protocol_splits(usual, usual, seed, "reversed", first_seed=first, built_in=True) for seed in range(3)
    ]
    validation_and_test = 2  # drawn with the others; this test set is then replaced
    assert (
        len({*drawn} & of_choice) == validation_and_test and len({*drawn}) == 3 + 3 + 1 + validation_and_test
    )
    assert all(splits.test.fingerprint == before[0].test.fingerprint for splits in before)
    assert len({splits.test.fingerprint for splits in after}) == 1  # one set for all seeds
    assert after[0].test.fingerprint != before[0].test.fingerprint
    assert np.array_equal(after[0].test.labels, usual.test.labels)  # what paired intervals count on
    recipe = default_tuning("mini")
    fresh = Member("clip", method="ulfine", draw=Draw(law="reversed", first_seed=first))
    assert fresh.tuning(recipe, 2).seed == first + 2
    assert fresh.label.endswith(f"reversed-from-{first}")


def test_every_arm_of_the_fresh_test_is_fresh() -> None:
    draws = {model.members[0].draw.first_seed for arm in ltssl_dual.study(ROLES).arms for model in arm.models}
    assert draws == {ltssl_dual.FIRST_SEED}


def test_precision_is_that_of_the_surest_rare_answers() -> None:
    few = np.array([False, True])
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.1, 0.9]])
    hidden = np.array([0, 0, 1, 1])
    assert frame._right_of_first(p, hidden, few, 1) == 1.0  # image 3
    assert frame._right_of_first(p, hidden, few, 2) == 0.5  # images 3 and 1
    assert frame._right_of_first(p, hidden, few, 3) == pytest.approx(2 / 3)


class _Fixed(torch.nn.Module):
    """The same logits for every image."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(torch.tensor(logits))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(x), -1)


@pytest.mark.parametrize(("logits", "unlabelled"), [([0.0, 0.0], 0.0), ([9.0, 0.0], np.log1p(np.exp(-9.0)))])
def test_fixmatch_from_scratch_learns_what_it_is_sure_of(logits: list[float], unlabelled: float) -> None:
    pixels = torch.zeros(4, 16, 16, 3, dtype=torch.uint8)
    log_prior = torch.tensor([0.75, 0.25]).log()
    loss = fixmatch_loss((pixels, torch.zeros(4, dtype=torch.int64)), pixels, log_prior, side=16)
    found = loss(_Fixed(logits), torch.arange(4), torch.Generator().manual_seed(0)).item()
    supervised = -float((torch.tensor(logits) + log_prior).log_softmax(0)[0])
    assert found == pytest.approx(supervised + unlabelled, abs=1e-6)


def test_the_claims_on_cost_are_judged_by_the_metrics() -> None:
    gain = {"estimate": 0.2, "ci95": [0.1, 0.3]}
    gains = dict.fromkeys(ltssl_cost.METHODS, gain)
    times = {name: {"estimate": 11.0, "ci95": [11.0, 11.0]} for name in ltssl_cost.METHODS}
    metrics = {"over_scratch": gains, "times": times}
    assert {judge(claim, metrics).verdict for claim in ltssl_cost.claims()} == {"supported"}


def test_the_figure_on_cost_draws_training_time_and_not_that_of_the_run() -> None:
    accuracy = {"estimate": 0.4, "ci95": [0.3, 0.5]}
    metrics = {"methods": {"lp": {"accuracy": accuracy}}, "training_seconds": {"lp": 12.0}, "seconds": 99.0}
    (axes,) = ltssl_cost._draw(metrics)
    assert axes.containers[0].lines[0].get_xydata().tolist() == [[12.0, 40.0]]


def test_a_part_that_is_off_changes_the_setting_and_the_folder_and_nothing_else() -> None:
    recipe, data = default_tuning("mini"), {"zoo": "mini"}
    whole = Member("clip", method="ulfine")
    for _, off in ltssl_parts.PARTS.values():
        less = Member("clip", method="ulfine", method_settings=off)
        assert less.semi is not None and less.semi.method_settings == dict(off)
        assert less.tuning(recipe, 0) == whole.tuning(recipe, 0)
        assert less.folder(recipe, 0, data) != whole.folder(recipe, 0, data)
    study = ltssl_parts.study(ROLES)
    settings = {model.members[0].method_settings for arm in study.arms for model in arm.models}
    assert settings == {(), *(off for _, off in ltssl_parts.PARTS.values())}
