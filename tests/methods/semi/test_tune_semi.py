"""The loop of the semi-supervised methods: resume, shared pseudo-labels, collapse, silence, frozen towers."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch.nn import functional as F

from causalft.data.hidden import Unlabelled
from causalft.data.opening import open_images
from causalft.data.splits import cut_splits
from causalft.errors import CausalFTError, CausalFTWarning
from causalft.methods.adaptation.settings import Tuning
from causalft.methods.adaptation.tune import encode_zero_shot
from causalft.methods.adaptation.tuned import TunedStratum
from causalft.methods.semi import tune as tune_module
from causalft.methods.semi.method import Method
from causalft.methods.semi.settings import SemiSettings, semi_tuning
from causalft.methods.semi.tune import Supervision, tune_semi
from causalft.models.features.encoder import Crops
from causalft.models.strata.zoo import open_zoo

FAST = Tuning(
    epochs=3,
    lr=0.002,
    batch_size=16,
    augmentation="crop-flip",
    tuner="linear-probe",
    head_start="class-mean",
    head_scale=150.0,
)
NAMES = ["ant", "bee", "cow", "doe"]


class Stopped(Exception):
    """The computer was switched off."""


@pytest.fixture(scope="module")
def data(photos, tiny_zoo):
    """Crops of labelled, unlabelled and test images for two strata."""
    splits = cut_splits(open_images(photos), n_validation=10, n_test=10, seed=0, imbalance_factor=3)
    zoo = open_zoo(tiny_zoo)
    strata = [zoo.load(name) for name in ("clip", "openclip")]
    parts = [
        [Crops(images, stratum) for stratum in strata]
        for images in (splits.train, splits.validation, splits.test)
    ]
    return strata, *parts


def learnt(
    data, name="lp-fixmatch", *, n=1, tuning=FAST, hidden=False, checkpoint=None, stops=True, **settings
):
    """Train the first ``n`` strata together."""
    strata, labelled, unlabelled, _ = data
    settings = SemiSettings(method=name, **{"threshold": 0.3, **settings})
    images = unlabelled[0].images
    supervision = Supervision(settings, Unlabelled(images, images.labels if hidden else None), stops)
    tunings = [semi_tuning(tuning, settings)] * n
    return tune_semi(
        strata[:n],
        labelled[:n],
        unlabelled[:n],
        NAMES,
        tunings,
        supervision,
        progress=False,
        checkpoint=checkpoint,
    )


def state_of(member: TunedStratum) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in member.trained_state().items()}


def equal(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_an_epoch_shows_every_unlabelled_image_once(data):
    _, _, found = learnt(data, hidden=True)
    assert found.likeliest.sum(1).tolist() == [40, 40, 40]
    assert found.confidence.sum(1).tolist() == [40, 40, 40]
    assert found.labelled_counts.tolist() == data[1][0].images.class_counts.tolist()
    assert found.right.sum() > 0.9 * found.kept.sum() > 0  # a quarter by chance


def test_what_was_learnt_is_in_the_head_of_the_stratum(data, monkeypatch):
    made = []
    monkeypatch.setattr(
        tune_module, "_method", lambda *args, make=tune_module._method: made.append(make(*args)) or made[-1]
    )
    (member,), _, _ = learnt(data, "cpe")
    crops = data[3][0]
    with torch.inference_mode():
        pixels = member.stratum.normalise(crops[torch.arange(len(crops))])
        features = member.features(member.tokens(pixels))
        weight, bias = made[0].final()
        expected = FAST.head_scale * F.normalize(features, dim=-1) @ weight.T + bias
    assert np.allclose(member.logits(crops), expected.numpy(), atol=1e-4)
    assert not any(parameter.requires_grad for parameter in member.parameters())


@pytest.mark.parametrize("name", ["lp-fixmatch", "abc", "crest"])
@pytest.mark.parametrize("within", [False, True], ids=["after an epoch", "within an epoch"])
def test_a_resumed_training_ends_with_the_weights_and_counts_of_an_uninterrupted_one(
    data, name, within, tmp_path, monkeypatch
):
    """Live views of an adapted tower, masks that are drawn, images that join."""
    settings = {
        "hidden": True,
        "tuning": replace(FAST, tuner="adaptformer" if name == "abc" else "linear-probe"),
    }
    (whole,), history, counts = learnt(data, name, **settings)
    checkpoint, seen = tmp_path / "checkpoint.safetensors", []
    if within:
        monkeypatch.setattr(tune_module, "train", partial(tune_module.train, checkpoint_every_seconds=0.0))

    def stop(self, *args, choose=Method.choose, **kwargs):
        seen.append(0)
        if len(seen) == 5:  # the third of three batches of the second epoch
            raise Stopped
        return choose(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        for kind in {Method, *Method.__subclasses__()}:
            if "choose" in vars(kind):
                patch.setattr(kind, "choose", partial_method(stop, kind.choose))
        with pytest.raises(Stopped):
            learnt(data, name, checkpoint=checkpoint, **settings)
    assert checkpoint.exists()
    (resumed,), again, recounted = learnt(data, name, checkpoint=checkpoint, **settings)
    assert equal(state_of(whole), state_of(resumed))
    assert history.losses == again.losses
    for key, value in counts.arrays().items():
        assert np.array_equal(value, recounted.arrays()[key]), key
    assert not checkpoint.exists()


def partial_method(function, choose):
    def method(self, *args, **kwargs):
        return function(self, *args, choose=choose, **kwargs)

    return method


def test_hidden_classes_are_only_counted_with(data):
    (one,), _, known = learnt(data, hidden=True)
    (other,), _, unknown = learnt(data, hidden=False)
    assert equal(state_of(one), state_of(other))
    assert known.known and not unknown.known
    assert np.array_equal(known.kept, unknown.kept) and unknown.right.sum() == 0


def test_strata_that_share_learn_from_the_mean_of_their_beliefs(data, monkeypatch):
    own, given = [], []
    beliefs, choose = Method.beliefs, Method.choose
    monkeypatch.setattr(Method, "beliefs", lambda self, weak: own.append(beliefs(self, weak)) or own[-1])
    monkeypatch.setattr(
        Method,
        "choose",
        lambda self, common, rows: given.append((common, rows)) or choose(self, common, rows),
    )
    members, _, found = learnt(data, n=2, share_labels=True)
    assert len(own) == len(given) == 2 * 3 * 3
    for first in range(0, len(own), 2):
        assert not torch.equal(own[first], own[first + 1])
        expected = (own[first] + own[first + 1]) / 2
        for common, rows in given[first : first + 2]:
            assert torch.allclose(common, expected) and torch.equal(rows, given[first][1])
    assert found.likeliest.sum() == 3 * 40  # each image once, not once per stratum
    monkeypatch.undo()
    (alone,), _, _ = learnt(data)
    assert not equal(state_of(alone), state_of(members[0]))


def test_a_stratum_that_shares_with_its_double_learns_as_alone(data):
    """Strata share beliefs and no weight, so each takes its own gradient in full."""
    strata, *parts = data
    twice = (strata[:1] * 2, *(part[:1] * 2 for part in parts))
    (alone,), _, _ = learnt(data)
    members, _, _ = learnt(twice, n=2, share_labels=True)
    for member in members:
        for name, value in alone.trained_state().items():
            torch.testing.assert_close(member.trained_state()[name], value)


def test_one_stratum_that_shares_with_none_learns_as_alone(data):
    (alone,), _, _ = learnt(data)
    (shared,), _, _ = learnt(data, share_labels=True)
    assert equal(state_of(alone), state_of(shared))


def collapse_after(monkeypatch, epochs: int, class_index: int) -> None:
    """From then on nearly every weak view is taken for one class."""
    beliefs, end_epoch, passed = Method.beliefs, Method.end_epoch, []

    def biased(self, weak):
        found = beliefs(self, weak)
        if len(passed) < epochs:
            return found
        found = torch.full_like(found, 0.01)
        found[..., class_index] = 0.97
        return found

    monkeypatch.setattr(Method, "beliefs", biased)
    monkeypatch.setattr(
        Method, "end_epoch", lambda self, number: passed.append(number) or end_epoch(self, number)
    )


def test_collapse_stops_with_the_class_named_and_the_checkpoint_of_the_epoch_before_stays(
    data, tmp_path, monkeypatch
):
    checkpoint = tmp_path / "checkpoint.safetensors"
    with monkeypatch.context() as patch:
        collapse_after(patch, 2, NAMES.index("cow"))
        with pytest.raises(CausalFTError) as found:
            learnt(data, checkpoint=checkpoint)
    message = str(found.value)
    assert "in epoch 3 100 % of the unlabelled images are taken for 'cow'" in message
    assert "start a new run with a lower learning rate (now 0.002) or a higher threshold" in message
    assert f"{checkpoint} keeps the last state before" in message and checkpoint.exists()
    (resumed,), history, _ = learnt(data, checkpoint=checkpoint)  # it is a good one
    (whole,), expected, _ = learnt(data)
    assert equal(state_of(whole), state_of(resumed)) and history.losses == expected.losses


def test_collapse_can_end_the_training_with_the_state_before(data, tmp_path, monkeypatch):
    checkpoint = tmp_path / "checkpoint.safetensors"
    (whole,), _, every = learnt(data)
    with monkeypatch.context() as patch:
        collapse_after(patch, 2, NAMES.index("cow"))
        with pytest.warns(CausalFTWarning, match="in epoch 3 .* 'cow' .* ends with the state before"):
            (kept,), _, counts = learnt(data, checkpoint=checkpoint, stops=False)
    assert not checkpoint.exists()
    assert counts.likeliest.tolist() == every.likeliest[:2].tolist()
    assert not equal(state_of(kept), state_of(whole))
    with monkeypatch.context() as patch:  # the state of the checkpoint that a stop leaves
        collapse_after(patch, 2, NAMES.index("cow"))
        with pytest.raises(CausalFTError):
            learnt(data, checkpoint=checkpoint)
    with monkeypatch.context() as patch:
        collapse_after(patch, 0, NAMES.index("cow"))
        with pytest.warns(CausalFTWarning, match="ends with the state before"):
            (resumed,), _, _ = learnt(data, checkpoint=checkpoint, stops=False)
    assert equal(state_of(kept), state_of(resumed))


def test_collapse_in_the_first_epoch_leaves_no_checkpoint(data, tmp_path, monkeypatch):
    collapse_after(monkeypatch, 0, 1)
    with pytest.raises(CausalFTError, match="epoch 1 100 % .* 'bee'") as found:
        learnt(data, checkpoint=tmp_path / "checkpoint.safetensors")
    assert "keeps the last state before" not in str(found.value)
    assert not list(tmp_path.iterdir())


def test_a_collapse_without_pseudo_labels_does_not_advise_a_higher_threshold(data, monkeypatch):
    collapse_after(monkeypatch, 0, 1)
    with pytest.raises(CausalFTError) as found:
        learnt(data, threshold=1.0)
    message = str(found.value)
    assert message.startswith("the training on the labelled images alone has collapsed: in epoch 1 100 %")
    assert message.endswith("start a new run with a lower learning rate (now 0.002)")


def test_no_image_above_the_threshold_warns_once_with_the_way_out(data):
    with pytest.warns(CausalFTWarning) as found:
        _, _, counts = learnt(data, threshold=1.0)
    messages = [str(each.message) for each in found if issubclass(each.category, CausalFTWarning)]
    assert messages == [
        "epoch 1: no unlabelled image was as probable as the threshold 1, so only labelled ones were learnt from; "
        "lower the threshold"
    ]
    assert counts.kept.sum() == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error", CausalFTWarning)
        learnt(data, tuning=replace(FAST, epochs=1))


def test_a_frozen_tower_reads_no_image_after_the_encoding(data, monkeypatch):
    """A probe learns from features alone: neither pixels nor tower are needed in an epoch."""
    train, encoded = tune_module.train, []

    def no_image(self, *args, **kwargs):
        raise AssertionError("an image was read after the encoding")

    def guarded(*args, **kwargs):
        with monkeypatch.context() as patch:
            for kind, names in ((Crops, ("__getitem__", "stream", "_read")), (TunedStratum, ("tokens",))):
                for name in names:
                    patch.setattr(kind, name, no_image)
            return train(*args, **kwargs)

    tokens = TunedStratum.tokens
    monkeypatch.setattr(
        TunedStratum, "tokens", lambda self, pixels: encoded.append(len(pixels)) or tokens(self, pixels)
    )
    monkeypatch.setattr(tune_module, "train", guarded)
    learnt(data, "crest")  # also images that join are features
    n_labelled = len(data[1][0])
    assert sum(encoded) == n_labelled + 3 * 40  # each labelled image once, each unlabelled one in three views


@pytest.mark.parametrize("sharing", [1, 2])
def test_loft_asks_the_untuned_model_once_and_learns_from_what_it_is_sure_of(data, sharing, monkeypatch):
    made = []
    monkeypatch.setattr(
        tune_module, "_method", lambda *args, make=tune_module._method: made.append(make(*args)) or made[-1]
    )
    strata, _, unlabelled, _ = data
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CausalFTWarning)
        _, _, counts = learnt(
            data,
            "loft",
            n=sharing,
            tuning=replace(FAST, epochs=1),
            share_labels=sharing > 1,
            method_setting={"zero-shot-threshold": "0.5", "outlier-threshold": "0"},
        )
    for stratum, crops, method in zip(strata, unlabelled, made, strict=False):
        zero_shot = encode_zero_shot(stratum, NAMES, FAST, [crops], progress=False).logits[0]
        expected = softmax(zero_shot, axis=1).max(1) >= 0.5
        assert method.kept.tolist() == expected.tolist()
    assert 0 < made[0].kept.sum() < len(made[0].kept)
    assert counts.kept.sum() == made[0].kept.sum()  # without outliers every other image is learnt


def test_methods_end_with_other_classifiers(data):
    """Each learns something of its own."""
    found = {
        name: state_of(learnt(data, name, unlabeled_ratio=2)[0][0])["head.weight"]
        for name in ("lp-fixmatch", "crest", "daso", "abc", "acr", "cpe")
    }
    names = list(found)
    for number, name in enumerate(names):
        for other in names[number + 1 :]:
            assert not torch.equal(found[name], found[other]), (name, other)
