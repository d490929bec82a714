"""The image classifier: one tuned model per stratum, mixed by P(c), calibrated once, in a graph that allows it."""

from __future__ import annotations

import gc
import json
import re
import weakref
from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from scipy.special import log_softmax, softmax
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from causalft.data.opening import open_images
from causalft.data.splits import Splits, cut_splits
from causalft.errors import CausalFTError
from causalft.methods.adaptation import tune as tune_module
from causalft.methods.adaptation.settings import Tuning, default_tuning
from causalft.methods.estimators import member as members_module
from causalft.methods.estimators import strata as strata_module
from causalft.methods.estimators.fusion import apply_temperature, fit_temperature, nll
from causalft.methods.estimators.member import fit_member, pick_device
from causalft.methods.estimators.settings import FitSettings
from causalft.methods.estimators.strata import StrataClassifier
from causalft.methods.priors import estimate_prior
from causalft.models.features import encoder as encoder_module
from causalft.models.strata.stratum import Stratum
from causalft.models.strata.zoo import PretrainedZoo, open_zoo
from causalft.scm import causal_graph

FAST = Tuning(epochs=2, lr=0.01, batch_size=16)
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


def classifier(zoo, strata=STRATA, **options):
    return StrataClassifier(strata, zoo=zoo, tuning=FAST, progress=False, **options)


@pytest.fixture(scope="module")
def fitted(zoo, splits):
    return classifier(zoo).fit(splits.train, validation=splits.validation, test=splits.test)


# --- one member --------------------------------------------------------------------------------------------------


def test_a_member_predicts_before_and_after_tuning(zoo, splits, fitted):
    found = fitted.predictions_["clip"]
    assert found.zero_shot_validation.shape == found.validation_logits.shape == (20, 4)
    assert found.zero_shot_test.shape == found.test_logits.shape == (20, 4)
    assert np.allclose(found.test_probs, softmax(found.test_logits, axis=1))
    again = estimate_prior(found.zero_shot_validation, splits.validation.labels)
    assert np.array_equal(found.prior.prior, again.prior)
    # the known prior of the mini, in the order of the data's classes
    assert found.true_prior.tolist() == pytest.approx(zoo.card("clip").prior)
    member = fitted.members_["clip"]
    trained = [*member.tuned.state().values(), member.head.weight]
    assert found.n_tuned == sum(p.numel() for p in trained)
    assert found.pretraining_loss == zoo.card("clip").loss == "caption-bank"
    assert "clip" in repr(found) and found.sha256 == zoo.card("clip").sha256


def test_nothing_is_learnt_from_the_test_images(zoo, splits, fitted):
    turned = splits.test.subset(np.arange(len(splits.test))[::-1])
    blind = classifier(zoo).fit(splits.train, validation=splits.validation)
    other = classifier(zoo).fit(splits.train, validation=splits.validation, test=turned)
    for model in (blind, other):
        assert model.temperature_ == fitted.temperature_
        assert np.array_equal(model.predict_proba(splits.test), fitted.predict_proba(splits.test))


def test_the_learning_rate_with_the_lowest_validation_risk_is_kept(zoo, splits):
    rates = (1e-5, 0.01, 3.0)
    chosen, _ = fit_member(splits, "clip", zoo, FAST, learning_rates=rates, device="cpu", progress=False)
    risks = {}
    for lr in rates:
        alone, _ = fit_member(splits, "clip", zoo, replace(FAST, lr=lr), device="cpu", progress=False)
        risks[lr] = nll(alone.validation_probs, splits.validation.labels)
        if lr == chosen.lr:
            assert np.array_equal(alone.test_logits, chosen.test_logits)
    assert chosen.lr == min(risks, key=risks.get)


@pytest.mark.parametrize("head_start", ["text", "class-mean", "class-mean without text tower"])
def test_the_frozen_encoder_is_gone_when_tuning_starts_and_the_head_starts_once(
    zoo, splits, monkeypatch, head_start
):
    """It holds a second copy of the weights; the tower of the tuning must not come beside it."""
    head_start, without = head_start.split(" ")[0], " " in head_start
    if without:
        load = zoo.load
        monkeypatch.setattr(zoo, "load", lambda *a, **given: replace(load(*a, **given), tokenizer=None))
    towers, started, tuned_with = [], [], []
    lower, start, tune = encoder_module.open_tower, members_module.start_of_head, members_module.tune

    def opened(visual):
        tower = lower(visual)
        towers.append(weakref.ref(tower))
        return tower

    def starts(*arguments):
        started.append(start(*arguments))
        return started[-1]

    def tunes(*arguments, **options):
        assert towers and all(tower() is None for tower in towers)
        tuned_with.append(options["weight"])
        return tune(*arguments, **options)

    monkeypatch.setattr(encoder_module, "open_tower", opened)
    monkeypatch.setattr(members_module, "start_of_head", starts)
    monkeypatch.setattr(members_module, "tune", tunes)
    tuning = replace(FAST, head_start=head_start, precision="bf16")
    fit_member(splits, "clip", zoo, tuning, learning_rates=(0.01, 0.02), device="cpu", progress=False)
    assert len(towers) == 1  # also where the head starts from images: they are encoded once
    assert len(started) == 1 and len(tuned_with) == 2
    assert all(weight is started[0] for weight in tuned_with)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_with_gla_the_fp32_weights_are_gone_while_the_last_rate_trains(zoo, splits, monkeypatch, precision):
    weights, alive, train = [], [], tune_module.train

    def trains(tuned, *arguments, **options):
        if not weights:
            layers = (layer for layer in tuned.stratum.visual.modules() if isinstance(layer, torch.nn.Linear))
            weights.extend(weakref.ref(layer.weight) for layer in layers)
        gc.collect()
        alive.append([weight() is not None for weight in weights])
        return train(tuned, *arguments, **options)

    monkeypatch.setattr(tune_module, "train", trains)
    tuning = replace(FAST, loss="CE", precision=precision)
    fit_member(
        splits, "clip", zoo, tuning, learning_rates=(0.01, 0.02), gla=True, device="cpu", progress=False
    )
    assert len(alive) == 2 and all(alive[0])
    assert any(alive[1]) == all(alive[1]) == (precision == "fp32")  # in fp32 the towers share them


def test_a_finished_member_is_read_and_not_trained_again(zoo, splits, tmp_path, monkeypatch):
    first, tuned = fit_member(splits, "clip", zoo, FAST, device="cpu", folder=tmp_path, progress=False)
    monkeypatch.setattr(members_module, "tune", lambda *_, **__: pytest.fail("trained again"))
    again, read = fit_member(splits, "clip", zoo, FAST, device="cpu", folder=tmp_path, progress=False)
    for name in ("zero_shot_validation", "zero_shot_test", "validation_logits", "test_logits", "true_prior"):
        assert np.array_equal(getattr(again, name), getattr(first, name)), name
    assert np.array_equal(again.prior.prior, first.prior.prior) and again.prior == first.prior
    assert (again.lr, again.n_tuned, again.sha256, again.seconds) == (
        first.lr,
        first.n_tuned,
        first.sha256,
        first.seconds,
    )
    for name, value in tuned.state_dict().items():
        assert (read.state_dict()[name] == value).all(), name


def test_members_written_before_pretraining_loss_was_stored_are_read(zoo, splits, tmp_path):
    fit_member(splits, "clip", zoo, FAST, device="cpu", folder=tmp_path, progress=False)
    path = tmp_path / "predictions.safetensors"
    with safe_open(path, framework="np") as file:
        metadata, arrays = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
    member = json.loads(metadata["member"])
    del member["pretraining_loss"]
    save_file(arrays, path, metadata | {"member": json.dumps(member)})
    again, _ = fit_member(splits, "clip", zoo, FAST, device="cpu", folder=tmp_path, progress=False)
    assert again.read_back and again.pretraining_loss == "caption-bank"


def test_a_member_made_with_other_settings_is_refused(zoo, splits, tmp_path):
    fit_member(splits, "clip", zoo, FAST, device="cpu", folder=tmp_path, progress=False)
    fewer = replace(splits, test=splits.test.subset(np.arange(7)))
    for other_splits, name, tuning, rates in (
        (splits, "openclip", FAST, ()),
        (splits, "clip", replace(FAST, epochs=3), ()),
        (splits, "clip", FAST, (0.01, 0.02)),
        (fewer, "clip", FAST, ()),
    ):
        with pytest.raises(CausalFTError, match="made with other weights, images or settings"):
            fit_member(
                other_splits,
                name,
                zoo,
                tuning,
                learning_rates=rates,
                device="cpu",
                folder=tmp_path,
                progress=False,
            )
    (tmp_path / "predictions.safetensors").write_bytes(b"\0" * 40)
    with pytest.raises(CausalFTError, match="is damaged"):
        fit_member(splits, "clip", zoo, FAST, device="cpu", folder=tmp_path, progress=False)


def test_devices():
    assert pick_device("cpu").type == "cpu"
    with pytest.raises(CausalFTError, match="device 'gpu' is unknown"):
        pick_device("gpu")


# --- the mixture -------------------------------------------------------------------------------------------------


def test_the_probability_of_the_mixture_is_equation_7_after_one_temperature(zoo, splits):
    fitted = classifier(zoo, fusion="mixture").fit(
        splits.train, validation=splits.validation, test=splits.test
    )
    strata = fitted.stratum_proba(splits.test)
    for row, prediction in zip(strata, fitted.predictions_.values()):
        assert np.allclose(row, prediction.test_probs, atol=1e-6)
    mixed = strata.mean(0)
    expected = softmax(np.log(mixed) / fitted.temperature_, axis=1)
    found = fitted.predict_proba(splits.test)
    assert np.allclose(found, expected) and np.allclose(found.sum(1), 1)
    validation = np.mean([p.validation_probs for p in fitted.predictions_.values()], axis=0)
    assert fitted.temperature_ == pytest.approx(fit_temperature(validation, splits.validation.labels))
    assert nll(apply_temperature(validation, fitted.temperature_), splits.validation.labels) <= nll(
        validation, splits.validation.labels
    )


def test_the_variant_of_the_released_code_is_a_geometric_mean(zoo, splits, fitted):
    model = classifier(zoo, fusion="logit").fit(splits.train, validation=splits.validation)
    strata = fitted.stratum_proba(splits.test)
    expected = log_softmax(np.log(strata).mean(0) / model.temperature_, axis=1)
    assert np.allclose(np.log(model.predict_proba(splits.test)), expected, atol=1e-5)


def test_all_weight_on_one_stratum_is_that_stratum(zoo, splits, fitted):
    model = classifier(zoo, stratum_prior=(0.0, 1.0)).fit(splits.train, validation=splits.validation)
    alone = fitted.predictions_["openclip"].test_probs
    assert (model.predict_proba(splits.test).argmax(1) == alone.argmax(1)).all()


def test_names_scores_and_priors(fitted, splits):
    assert fitted.classes_.tolist() == ["ant", "bee", "cow", "doe"]
    names = fitted.predict(splits.test)
    truth = fitted.classes_[splits.test.labels]
    assert fitted.score(splits.test) == pytest.approx((names == truth).mean())
    turned = splits.test.align_classes(["doe", "cow", "bee", "ant"])
    assert fitted.score(turned) == pytest.approx((names == truth).mean())
    weights = (splits.test.labels == 0).astype(float)
    assert fitted.score(splits.test, sample_weight=weights) == pytest.approx(
        (names[truth == "ant"] == "ant").mean()
    )
    assert all(prior.sum() == pytest.approx(1) for prior in fitted.priors_.values())
    assert "P(" in fitted.adjustment_


def test_without_a_tuning_the_recipe_is_that_of_fit(tiny_zoo, splits, monkeypatch):
    """The library and the command line must not give different classifiers for the same choices."""
    seen = []

    def remember(splits, name, zoo, tuning, **options):
        seen.append(tuning)
        raise KeyboardInterrupt

    monkeypatch.setattr(strata_module, "fit_member", remember)
    zoos = {"mini": "mini", "an opened mini": open_zoo("mini"), str(tiny_zoo): str(tiny_zoo)}
    for zoo in zoos.values():
        with pytest.raises(KeyboardInterrupt):
            StrataClassifier(STRATA, zoo=zoo).fit(splits.train, validation=splits.validation)
    assert seen == [FitSettings(zoo=name).tuning for name in ("mini", "mini", str(tiny_zoo))]
    assert seen[0] != seen[2] and seen == [default_tuning(z) for z in ("mini", "mini", str(tiny_zoo))]


def test_it_can_be_cloned_and_must_be_fitted(tiny_zoo, splits):
    model = StrataClassifier(STRATA, zoo=str(tiny_zoo), tuning=FAST)
    assert clone(model).get_params() == model.get_params()
    with pytest.raises(NotFittedError):
        model.predict_proba(splits.test)


# --- what is refused before anything is trained ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strata": ()}, "no stratum given"),
        ({"strata": ("clip", "clip")}, "named twice in clip, clip"),
        ({"strata": ("clip", "opnclip")}, "did you mean 'openclip'"),
        ({"fusion": "mean"}, "no fusion is named 'mean'"),
        ({"stratum_prior": (0.5, 0.6)}, "sum to 1"),
        ({"stratum_prior": (1.0,)}, "1 number for 2 strata: clip, openclip"),
    ],
)
def test_wrong_choices(zoo, options, message):
    with pytest.raises(CausalFTError, match=message):
        classifier(zoo, **options).check()


def test_weights_for_no_stratum_are_not_ignored(tmp_path):
    """A slip in the name must not end in the real model being fetched instead of the user's file."""
    file = tmp_path / "a.safetensors"
    file.write_bytes(b"")
    model = StrataClassifier(("openclip",), zoo="pretrained", weights={"opnclip": str(file)})
    with pytest.raises(CausalFTError, match="weights are given for 'opnclip'.*did you mean 'openclip'"):
        model.check()
    missing = StrataClassifier(("openclip",), zoo=PretrainedZoo({"openclip": tmp_path / "gone"}))
    with pytest.raises(CausalFTError, match="gone does not exist"):
        missing.check()


def test_a_graph_in_which_the_strata_do_not_block_the_backdoor_is_refused(zoo, splits):
    open_path = causal_graph()
    open_path.add_edge("U", "Y")
    descendant = nx.DiGraph([("X", "C"), ("C", "Y"), ("X", "B"), ("B", "Y")])
    for graph in (open_path, descendant):
        with pytest.raises(CausalFTError, match="U|descendant"):
            classifier(zoo, graph=graph).fit(splits.train, validation=splits.validation)
    assert classifier(zoo, graph=causal_graph()).check() is zoo


def test_sets_that_do_not_agree(zoo, splits):
    other = splits.validation.align_classes(["doe", "cow", "bee", "ant"])
    with pytest.raises(CausalFTError, match="share one list of classes"):
        classifier(zoo).fit(splits.train, validation=other)
    lacking = splits.validation.subset(splits.validation.labels != 1)
    assert classifier(zoo, ("clip",)).fit(splits.train, validation=lacking).predictions_
    with pytest.raises(CausalFTError, match="validation holds no image"):
        classifier(zoo).fit(splits.train, validation=lacking.subset([]))


@pytest.mark.parametrize(
    ("tuning", "message"),
    [
        ({"tuner": "bias+lora@last-9"}, "tuner 'lora@last-9': this image tower has only 2 blocks"),
        ({"tuner": "full", "head_start": "text"}, "has no text tower, so class names mean nothing to it"),
    ],
)
def test_what_a_backbone_does_not_support_is_refused_before_an_image_is_read(
    splits, zoo, tuning, message, monkeypatch
):
    monkeypatch.setattr(members_module, "Crops", lambda *args, **kwargs: pytest.fail("images were read"))
    if "head_start" in tuning:
        monkeypatch.setattr(Stratum, "has_text", property(lambda self: False))
    with pytest.raises(CausalFTError, match=re.escape(message)):
        fit_member(splits, "clip", zoo, replace(FAST, **tuning), device="cpu", progress=False)
