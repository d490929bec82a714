"""Strata tuned together: one of them is a member alone; the loss reaches all; finished folders are read back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import softmax

from causalft.data.opening import open_images
from causalft.data.splits import Splits, cut_splits
from causalft.errors import CausalFTError
from causalft.methods.adaptation import joint as tuning_module
from causalft.methods.adaptation.settings import Tuning
from causalft.methods.adaptation.terms import Term, likeness
from causalft.methods.adaptation.tuned import TunedStratum
from causalft.methods.estimators import FUSIONS
from causalft.methods.estimators import joint as joint_module
from causalft.methods.estimators.fusion import fuse
from causalft.methods.estimators.joint import fit_joint, fused_logits
from causalft.methods.estimators.member import fit_member, gla_members
from causalft.models.strata.zoo import open_zoo

UNFITTED = [name for name, rule in FUSIONS.items() if not rule.adjusts]


FAST = Tuning(epochs=2, lr=0.05, batch_size=16, augmentation="crop-flip")
STRATA = ("clip", "openclip")


@pytest.fixture(scope="module")
def splits(photos) -> Splits:
    return cut_splits(
        open_images(photos),
        n_validation=5,
        n_test=5,
        seed=0,
        imbalance_factor=5,
        order=["cow", "ant", "doe", "bee"],
    )


@pytest.fixture(scope="module")
def zoo(tiny_zoo):
    return open_zoo(tiny_zoo)


def fitted(splits, zoo, names=STRATA, tuning=FAST, **options):
    return fit_joint(splits, names, zoo, tuning, device="cpu", progress=False, **options)


@pytest.fixture(scope="module")
def together(splits, zoo, tmp_path_factory):
    folder = tmp_path_factory.mktemp("joint")
    return *fitted(splits, zoo, folder=folder), folder


@pytest.mark.parametrize("fusion", UNFITTED)
def test_fused_logits_are_the_fusion_of_the_probabilities(fusion):
    logits = 5 * np.random.default_rng(0).normal(size=(3, 40, 4))
    prior = [0.5, 0.3, 0.2]
    found = softmax(fused_logits(list(logits), fusion, prior).astype(float), axis=1)
    assert np.allclose(found, fuse(logits, prior, fusion, kind="logits"), atol=1e-6)


def test_gradient_of_the_fused_loss_is_shared_by_the_members():
    """Mean of logits: each gets (softmax - one-hot) / M; mixture: each times its posterior weight P(c | x, y)."""
    logits = torch.randn(3, 1, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    prior, label = torch.full((3,), 1 / 3, dtype=torch.float64), torch.tensor([2])
    one_hot = torch.eye(4, dtype=torch.float64)[2]
    for fusion in ("logit", "mixture"):
        leaf = logits.clone().requires_grad_()
        fused = FUSIONS[fusion].fuse_logits(leaf, prior)
        torch.nn.functional.cross_entropy(fused, label).backward()
        probs = logits.softmax(-1)[:, 0]
        if fusion == "logit":
            expected = ((fused.softmax(-1) - one_hot) / 3).expand(3, 1, 4)
        else:
            weight = probs[:, 2] / probs[:, 2].sum()
            expected = (weight[:, None] * (probs - one_hot))[:, None]
        assert torch.allclose(leaf.grad, expected)


@pytest.mark.parametrize("fusion", UNFITTED)
def test_one_stratum_is_a_member_alone(splits, zoo, fusion):
    rates = (0.05, 1e-4) if fusion == "logit" else ()
    tuning = FAST
    if fusion == "product":  # what a training keeps beside its weights
        tuning = replace(FAST, head="tde", loss="CE", tde_alpha="validation", augmentation="growing-crop")
    alone, _ = fit_member(splits, "clip", zoo, tuning, learning_rates=rates, device="cpu", progress=False)
    found, _ = fitted(splits, zoo, ["clip"], tuning, fusion=fusion, learning_rates=rates)
    member = found.members["clip"]
    for name in ("zero_shot_test", "validation_logits", "test_logits"):
        assert np.allclose(getattr(member, name), getattr(alone, name), atol=2e-5), name
    assert np.allclose(found.test_probs, alone.test_probs, atol=2e-5)
    assert (member.lr, member.n_tuned, member.joint) == (alone.lr, alone.n_tuned, False)


def test_every_member_is_tuned_by_the_loss_of_the_fusion(splits, zoo, together):
    found, tuned, _ = together
    expected = np.mean([m.test_logits for m in found.members.values()], axis=0)
    assert np.allclose(found.test_logits, expected, atol=1e-5)
    assert found.validation_probs.shape == (20, 4) and np.allclose(found.validation_probs.sum(1), 1)
    assert found.n_tuned == sum(m.n_tuned for m in found.members.values())
    for name, member in tuned.items():
        start = TunedStratum(zoo.load(name), torch.ones_like(member.head.weight), FAST)
        changed = {
            key: not torch.equal(value, start.tuned.state()[key])
            for key, value in member.tuned.state().items()
        }
        assert any(changed.values()), name
        alone, _ = fit_member(splits, name, zoo, FAST, device="cpu", progress=False)
        assert not np.allclose(found.members[name].test_logits, alone.test_logits, atol=1e-3)
        assert found.members[name].joint and not alone.joint
    assert gla_members(FAST, splits.train.class_counts, {"clip": [found.members["clip"]]}) == {}


def test_beside_one_another_each_learns_as_it_would_alone(splits, zoo):
    found, _ = fitted(splits, zoo, fusion="product", term=Term("likeness", 0.0))
    for name in STRATA:
        alone, _ = fit_member(splits, name, zoo, FAST, device="cpu", progress=False)
        member = found.members[name]
        assert np.allclose(member.test_logits, alone.test_logits, atol=2e-5) and not member.joint


def test_a_term_moves_every_member_and_lowers_what_it_measures(splits, zoo, tmp_path):
    def likeness_of(strength):
        long = replace(FAST, epochs=6, augmentation="none", seed=1)
        found, _ = fitted(splits, zoo, tuning=long, fusion="mixture", term=Term("likeness", strength))
        logits = torch.from_numpy(np.stack([each.test_logits for each in found.members.values()]))
        return float(likeness(logits, torch.from_numpy(splits.test.labels))), logits

    (free, before), (kept_apart, after) = likeness_of(0.0), likeness_of(20.0)
    assert kept_apart < free - 0.02
    assert all(not torch.allclose(one, other, atol=1e-3) for one, other in zip(before, after, strict=True))


def test_a_folder_of_another_term_is_refused(splits, zoo, tmp_path):
    few = ((True, False, False, True), (False, False, True, True))
    options = {"fusion": "product", "folder": tmp_path / "made"}
    found, _ = fitted(splits, zoo, term=Term("alignment", 1.0, few), **options)
    again, _ = fitted(splits, zoo, term=Term("alignment", 1.0, few), **options)
    assert again.read_back and np.array_equal(again.test_logits, found.test_logits)
    with pytest.raises(CausalFTError, match="other weights, images or settings"):
        fitted(splits, zoo, term=Term("alignment", 2.0, few), **options)


@pytest.mark.parametrize("few", [True, False])
def test_a_batch_that_does_not_fit_is_cut_unless_a_term_needs_it_whole(splits, zoo, monkeypatch, few):
    sizes, plain = [], Term.__call__

    def short_of_memory(term, logits, features, labels):
        sizes.append(len(labels))
        if len(labels) > 8:
            raise MemoryError
        return plain(term, logits, features, labels)

    monkeypatch.setattr(Term, "__call__", short_of_memory)
    term = Term("likeness", 1.0, ((True, False, False, True),) * 2 if few else ())
    if few:
        with pytest.raises(CausalFTError, match="16 samples at once do not fit .* needs the whole batch"):
            fitted(splits, zoo, term=term)
        assert sizes == [16]
    else:
        with pytest.warns(UserWarning, match="a batch goes in 2 parts"):
            fitted(splits, zoo, term=term)
        assert max(sizes[1:]) == 8


def test_a_training_that_was_killed_does_not_go_on_under_another_term(splits, zoo, tmp_path, monkeypatch):
    seen = []

    def tune_together(*arguments, checkpoint, **options):
        seen.append(checkpoint.name)
        raise KeyboardInterrupt

    monkeypatch.setattr(joint_module, "tune_together", tune_together)
    for term in (None, Term("likeness", 0.0), Term("likeness", 1.0), None):
        with pytest.raises(KeyboardInterrupt):
            fitted(splits, zoo, folder=tmp_path / "made", term=term)
    assert len(set(seen)) == 3 and seen[0] == seen[3]


def test_members_see_the_same_augmentation(splits, zoo, monkeypatch):
    drawn, augment = [], tuning_module.tokens_of_batches

    def remember(*arguments, **options):
        tokens = augment(*arguments, **options)

        def remembering(indices, generator):
            drawn.append(generator.get_state())
            return tokens(indices, generator)

        return remembering

    monkeypatch.setattr(tuning_module, "tokens_of_batches", remember)
    fitted(splits, zoo, tuning=replace(FAST, epochs=1))
    assert len(drawn) > 2 and all(torch.equal(a, b) for a, b in zip(drawn[::2], drawn[1::2], strict=True))
    assert not torch.equal(drawn[0], drawn[2])


def test_columns_follow_the_classes_of_the_data(splits, zoo):
    classes = list(splits.train.class_names)[::-1]
    parts = (splits.train, splits.validation, splits.test)
    turned = Splits(*(part.align_classes(classes) for part in parts))
    one, _ = fitted(splits, zoo)
    other, _ = fitted(turned, zoo)
    assert np.allclose(other.test_logits[:, ::-1], one.test_logits, atol=1e-3)


def test_a_finished_folder_is_read_back_and_an_unfinished_one_made_whole(splits, zoo, together, monkeypatch):
    found, tuned, folder = together
    (folder / "openclip" / "predictions.safetensors").unlink()  # killed between two members
    made, _ = fitted(splits, zoo, folder=folder)
    assert not made.read_back and np.array_equal(made.test_logits, found.test_logits)
    monkeypatch.setattr(joint_module, "tune_together", lambda *_, **__: pytest.fail("trained again"))
    again, read = fitted(splits, zoo, folder=folder)
    assert again.read_back and again.seconds == pytest.approx(made.seconds)
    assert np.array_equal(again.test_logits, found.test_logits)
    assert np.array_equal(again.validation_logits, found.validation_logits)
    for name, member in tuned.items():
        for key, value in member.state_dict().items():
            assert torch.equal(read[name].state_dict()[key], value), key
    for other in (
        {"fusion": "mixture"},
        {"stratum_prior": (0.6, 0.4)},
        {"names": ("clip", "openclip", "metaclip")},
    ):
        with pytest.raises(CausalFTError, match="made with other weights, images or settings"):
            fitted(splits, zoo, **{"folder": folder, **other})


def test_a_killed_training_goes_on_to_the_same_weights(splits, zoo, together, tmp_path, monkeypatch):
    found, _, _ = together
    train = tuning_module.train

    def killed(model, n, batch_loss, *arguments, **options):
        left = iter(range(4))

        def loss(*given):
            if next(left, None) is None:
                raise KeyboardInterrupt
            return batch_loss(*given)

        return train(model, n, loss, *arguments, checkpoint_every_seconds=0, **options)

    monkeypatch.setattr(tuning_module, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        fitted(splits, zoo, folder=tmp_path)
    assert len(list(tmp_path.glob(".joint-*-lr-0.05.checkpoint.safetensors"))) == 1
    monkeypatch.setattr(tuning_module, "train", train)
    again, _ = fitted(splits, zoo, folder=tmp_path)
    assert np.array_equal(again.test_logits, found.test_logits)
    assert not list(tmp_path.glob(".*"))


def test_further_tunings_of_one_stratum_start_from_other_seeds(splits, zoo):
    quick = replace(FAST, epochs=1, patience=1, wise_ft=0.5, augmentation="none", loss="CE")
    found, tuned = fitted(splits, zoo, ["clip", "clip#1"], quick)
    first, second = (member.test_logits for member in found.members.values())
    assert found.members["clip"].sha256 == found.members["clip#1"].sha256
    assert not np.allclose(first, second, atol=1e-5)


@pytest.mark.parametrize(
    ("names", "tuning", "options", "message"),
    [
        ((), FAST, {}, "give one stratum or more, each once"),
        (("clip", "clip"), FAST, {}, "each once"),
        (("clip", "openclop"), FAST, {}, "did you mean 'openclip'"),
        (STRATA, FAST, {"fusion": "logits"}, "did you mean 'logit'"),
        (STRATA, FAST, {"stratum_prior": (0.5, 0.2)}, "sum"),
        (STRATA, FAST, {"term": Term("alignment", 1.0, ((True, False),) * 2)}, "each of the 4 classes"),
        (
            STRATA,
            replace(FAST, accumulation=2),
            {"term": Term("alignment", 1.0, ((True, False, False, True),) * 2)},
            "accumulation 1",
        ),
        (
            STRATA,
            replace(FAST, loss="GLA-Train"),
            {},
            "GLA-Train needs the label prior of one foundation model",
        ),
    ],
)
def test_wrong_choices_are_refused(splits, zoo, names, tuning, options, message):
    with pytest.raises(CausalFTError, match=message):
        fitted(splits, zoo, names, tuning, **options)
