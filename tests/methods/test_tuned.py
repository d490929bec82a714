"""A tuned stratum: starts as the zero-shot model, trains adapters and head only, and comes back from disk unchanged."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from causalft.data.opening import open_images
from causalft.errors import CausalFTError
from causalft.methods.adaptation import tuned as tuned_module
from causalft.methods.adaptation.settings import Tuning, check_gla
from causalft.methods.adaptation.tune import start_of_head, tune
from causalft.methods.adaptation.tuned import TunedStratum, load_tuned, tuning_as_saved
from causalft.models.features.augmentation import AUGMENTATIONS, augment
from causalft.models.features.encoder import Crops
from causalft.models.strata.mini import MiniConfig, WordTokenizer, build_mini, vocabulary_of
from causalft.models.strata.stratum import Stratum, square_crop
from causalft.models.strata.zoo import open_zoo
from causalft.models.tuning.heads.tde import ALPHAS

FAST = Tuning(epochs=2, lr=0.01, batch_size=16)


@pytest.fixture(scope="module")
def stratum(tiny_zoo):
    return open_zoo(tiny_zoo).load("clip")


@pytest.fixture(scope="module")
def images(photos):
    return open_images(photos)


@pytest.fixture(scope="module")
def crops(images, stratum):
    return Crops(images, stratum, progress=False)


@pytest.fixture(scope="module")
def tuned(stratum, crops, images):
    return tune(stratum, crops, images.class_names, FAST, progress=False)


def untrained(stratum, class_names, tuning):
    return TunedStratum(stratum, start_of_head(stratum, None, class_names, tuning), tuning)


def test_before_training_it_is_the_zero_shot_model_at_another_scale(stratum, crops, images):
    fresh = untrained(stratum, images.class_names, Tuning(head_scale=25.0))
    features = stratum.image_features(crops.kept)
    expected = 25.0 * features @ stratum.text_features(images.class_names).T
    assert np.allclose(fresh.logits(crops), expected, atol=1e-4)
    tokens = fresh.tokens(stratum.normalise(crops.kept[:5]))
    with torch.no_grad():
        encoded = stratum.model.encode_image(stratum.normalise(crops.kept[:5]))
        assert torch.allclose(fresh.features(tokens), encoded, atol=1e-5)


def test_only_adapters_and_head_get_gradients_and_nothing_is_copied(stratum, images):
    fresh = untrained(stratum, images.class_names, FAST)
    trained = {name for name, p in fresh.named_parameters() if p.requires_grad}
    expected = {
        f"tower.blocks.{block}.mlp.{part}.{kind}"
        for block in range(2)
        for part in ("down", "up")
        for kind in ("weight", "bias")
    }
    assert trained == expected | {"head.weight"}
    own = {p.data_ptr() for p in stratum.model.visual.parameters()}
    shared = [p for name, p in fresh.named_parameters() if name not in trained]
    assert {p.data_ptr() for p in shared} == own
    buffers = {b.data_ptr() for b in stratum.model.visual.buffers()}
    assert {b.data_ptr() for b in fresh.tower.buffers()} == buffers
    assert not any(hasattr(block.mlp, "down") for block in stratum.model.visual.transformer.resblocks)


def test_sixty_classes_on_the_default_mini_tune_13392_parameters():
    names = [f"kind{k}" for k in range(60)]
    words, length = vocabulary_of(names)
    tokenizer = WordTokenizer(words, max(length, MiniConfig.context_length))
    model = build_mini(MiniConfig(vocab_size=tokenizer.vocab_size)).eval().requires_grad_(False)
    one = (0.5, 0.5, 0.5)
    mini = Stratum("clip", "mini", model, square_crop(40), 40, one, one, tokenizer, "0" * 64, "made")
    fresh = untrained(mini, names, Tuning())
    assert sum(p.numel() for p in fresh.parameters() if p.requires_grad) == 13_392


def test_training_moves_adapters_and_head_and_leaves_the_backbone(tiny_zoo, tuned, stratum):
    model, history = tuned
    assert history.losses[-1] < history.losses[0]
    untouched = open_zoo(tiny_zoo).load("clip").model.state_dict()
    assert all(torch.equal(value, untouched[name]) for name, value in stratum.model.state_dict().items())
    moved = [value for name, value in model.tuned.state().items() if name.endswith("up.weight")]
    assert len(moved) == 2 and all(value.abs().sum() > 0 for value in moved)
    assert not any(p.requires_grad for p in model.parameters())


def test_tuning_learns_separable_classes(stratum, crops, images):
    model, _ = tune(stratum, crops, images.class_names, replace(FAST, epochs=30), progress=False)
    assert (model.logits(crops).argmax(1) == images.labels).mean() > 0.8


def test_the_same_seed_trains_the_same_stratum(stratum, crops, images, tuned):
    again, history = tune(stratum, crops, images.class_names, FAST, progress=False)
    assert history.losses == tuned[1].losses
    assert np.array_equal(again.logits(crops), tuned[0].logits(crops))
    other, _ = tune(stratum, crops, images.class_names, replace(FAST, seed=1), progress=False)
    assert not np.array_equal(other.logits(crops), tuned[0].logits(crops))


def test_images_that_do_not_fit_in_memory_are_read_again_with_the_same_result(
    stratum, images, tuned, monkeypatch
):
    monkeypatch.setattr("causalft.methods.adaptation.tune._TOKEN_CACHE_BYTES", 0)
    streamed = Crops(images, stratum, progress=False, in_memory_bytes=0)
    assert streamed.kept is None and len(streamed) == len(images)
    model, history = tune(stratum, streamed, images.class_names, FAST, progress=False)
    assert history.losses == pytest.approx(tuned[1].losses, abs=1e-5)
    assert np.allclose(model.logits(streamed), tuned[0].logits(streamed), atol=1e-3)


def test_logit_adjustment_needs_every_class_and_cross_entropy_does_not(stratum, images):
    lacking = images.subset(images.labels != 2)
    crops = Crops(lacking, stratum, progress=False)
    with pytest.raises(CausalFTError, match="class 'cow' has no training image"):
        tune(stratum, crops, images.class_names, FAST, progress=False)
    tune(stratum, crops, images.class_names, replace(FAST, loss="CE", epochs=1), progress=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "LDMA"}, "unknown loss 'LDMA'; did you mean 'LDAM'"),
        ({"augmentation": "mixup"}, "unknown augmentation 'mixup'"),
        ({"head": "cosin"}, "unknown head 'cosin'; did you mean 'cosine'"),
        ({"head_start": "0-shot"}, "unknown start of a head '0-shot'"),
        ({"tuner": "adaptfomer"}, "unknown tuner 'adaptfomer'"),
        ({"sampler": "balanced"}, "unknown sampler 'balanced'"),
        ({"precision": "int4"}, "unknown precision 'int4'"),
        ({"test_view": "six-crop"}, "no test-time view 'six-crop'"),
        ({"wise_ft": 0.0}, "wise_ft 0.0 is out of range; give a number above 0 and at most 1"),
        ({"template": "a photo"}, "'a photo' is no set of templates"),
        (
            {"tuner": "bias+last-1", "bottleneck": 4},
            "does nothing with the tuner 'bias\\+last-1'",
        ),
    ],
)
def test_unknown_choices(stratum, crops, images, change, message):
    with pytest.raises(CausalFTError, match=message):
        tune(stratum, crops, images.class_names, replace(FAST, **change), progress=False)


# --- every choice trains, is saved, and comes back the same ------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"tuner": "linear-probe"},
        {"tuner": "full", "lr": 0.005},
        {"tuner": "lora+bias", "head": "l2"},
        {"tuner": "vpt-shallow", "loss": "BS"},
        {"tuner": "last-1", "lr": 0.01, "head": "layernorm"},
        {"tuner": "ssf", "sampler": "square-root", "loss": "CE"},
        {"tuner": "adaptformer@last-1", "head_start": "class-mean"},
        {"tuner": "linear-probe", "head": "linear", "head_start": "linear-probe"},
        {"loss": "LADE", "head_start": "1-shot"},
        {"loss": "GLA-Train", "sampler": "class-balanced"},
        {"precision": "bf16"},
        {"test_view": "five-crop", "accumulation": 2},
        {"wise_ft": 0.5},
        {"head": "tde", "loss": "CE", "tde_alpha": 3.0},
        {"head": "tde", "loss": "LDAM", "test_view": "zoomed-centre", "wise_ft": 0.5},
        {"tuner": "adaptformer-scaled", "augmentation": "growing-crop"},
    ],
    ids=lambda change: "-".join(map(str, change.values())),
)
def test_a_choice_trains_and_comes_back(stratum, crops, images, tmp_path, change):
    tuning = replace(FAST, epochs=2, **change)
    model, history = tune(
        stratum, crops, images.class_names, tuning, model_prior=np.full(4, 0.25), progress=False
    )
    assert len(history.losses) == 2 and all(np.isfinite(history.losses))
    model.save(tmp_path)
    back = load_tuned(stratum, tmp_path, images.class_names, tuning)
    assert np.array_equal(back.logits(crops), model.logits(crops))
    assert model.logits(crops).shape == (120, 4)


TDE = replace(FAST, head="tde", loss="CE", epochs=2)


def test_alpha_of_tde_is_the_most_accurate_one_on_validation_images(stratum, crops, images, tmp_path):
    tuning = replace(TDE, tde_alpha="validation")
    model, _ = tune(stratum, crops, images.class_names, tuning, validation=crops, progress=False)
    chosen, right = model.head.alpha.item(), {}
    for alpha in ALPHAS:
        model.head.alpha.fill_(alpha)
        by_class = (model.logits(crops).argmax(1) == images.labels) @ np.eye(4)[images.labels]
        right[alpha] = np.mean(by_class / images.class_counts)
    assert right[chosen] == pytest.approx(max(right.values()))
    assert chosen == min(alpha for alpha in ALPHAS if right[alpha] == right[chosen])
    model.head.alpha.fill_(chosen)
    model.save(tmp_path)
    assert load_tuned(stratum, tmp_path, images.class_names, tuning).head.alpha == chosen
    with pytest.raises(CausalFTError, match="alpha of the head tde is chosen on validation images"):
        tune(stratum, crops, images.class_names, tuning, progress=False)


def test_tde_trains_as_a_plain_head_and_takes_the_mean_feature_out_afterwards(stratum, crops, images):
    """Alpha changes no weight; early stopping looks at what will be predicted."""
    found = [
        tune(
            stratum,
            crops,
            images.class_names,
            replace(TDE, tde_alpha=alpha, patience=2),
            validation=crops,
            progress=False,
        )
        for alpha in (0.0, 4.0)
    ]
    (plain, before), (taken, after) = found
    assert before.losses == after.losses and before.validation != after.validation
    assert torch.equal(plain.head.weight, taken.head.weight) and torch.equal(plain.head.d, taken.head.d)
    assert not taken.head.training and taken.head.d.norm() > 0
    assert np.abs(plain.logits(crops) - taken.logits(crops)).max() > 0.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head_scale": 30.0}, "the head tde has a scale of its own, 16; leave .*head.scale out"),
        ({"tuner": "zero-shot"}, "learns the mean feature in training, and the tuner zero-shot trains"),
        ({"head": "cosine", "tde_alpha": 3.0}, "tde.alpha goes with .*head tde"),
        ({"tde_alpha": -1.0}, "alpha of the head tde -1.0 is out of range"),
    ],
)
def test_settings_that_tde_would_not_use_are_refused(change, message):
    with pytest.raises(CausalFTError, match=message):
        replace(TDE, **change).check()


def test_gla_needs_a_head_whose_logits_are_a_posterior():
    check_gla(replace(TDE, head="l2"))
    with pytest.raises(CausalFTError, match="head tde are no posterior; use the head cosine, linear, l2 or"):
        check_gla(TDE)


def test_the_zero_shot_tuner_trains_nothing(stratum, crops, images):
    model, history = tune(
        stratum, crops, images.class_names, replace(FAST, tuner="zero-shot"), progress=False
    )
    expected = (
        stratum.logit_scale * stratum.image_features(crops.kept) @ stratum.text_features(images.class_names).T
    )
    assert history.losses == [] and model.n_tuned == 0
    assert np.allclose(model.logits(crops), expected, atol=1e-3)


def test_wise_ft_one_half_lies_between_start_and_end(stratum, crops, images):
    whole, _ = tune(stratum, crops, images.class_names, FAST, progress=False)
    half, _ = tune(stratum, crops, images.class_names, replace(FAST, wise_ft=0.5), progress=False)
    start = untrained(stratum, images.class_names, FAST)
    middle = (start.head.weight + whole.head.weight) / 2
    assert torch.allclose(half.head.weight, middle, atol=1e-6)


def test_patience_keeps_the_best_epoch(stratum, crops, images):
    tuning = replace(FAST, lr=30.0, epochs=6, patience=1)  # so high that the risk only grows
    model, history = tune(stratum, crops, images.class_names, tuning, validation=crops, progress=False)
    assert len(history.losses) < 6 and history.best_epoch is not None
    logits = torch.from_numpy(model.logits(crops))
    risk = torch.nn.functional.cross_entropy(logits, torch.from_numpy(images.labels))
    assert float(risk) == pytest.approx(min(history.validation), abs=1e-6)


def test_gradient_steps_see_only_what_lies_behind_the_frozen_prefix(stratum, crops, images):
    last = untrained(stratum, images.class_names, replace(FAST, tuner="adaptformer@last-1"))
    assert last.tuned.first_tuned_block == 1
    pictures = stratum.normalise(crops.kept[:3])
    tokens = last.tokens(pictures)
    assert not tokens.requires_grad
    whole = untrained(stratum, images.class_names, FAST)
    with torch.no_grad():
        assert torch.allclose(last(tokens), whole(whole.tokens(pictures)), atol=1e-5)


# --- on disk -----------------------------------------------------------------------------------------------------


def test_save_and_load_change_nothing_and_leave_the_backbone_out(stratum, crops, images, tuned, tmp_path):
    tuned[0].save(tmp_path / "clip")
    assert sorted(p.name for p in (tmp_path / "clip").iterdir()) == [
        "adapter.safetensors",
        "head.safetensors",
    ]
    saved = load_file(tmp_path / "clip" / "adapter.safetensors") | load_file(
        tmp_path / "clip" / "head.safetensors"
    )
    assert sum(value.numel() for value in saved.values()) == tuned[0].n_tuned
    back = untrained(stratum, images.class_names, replace(FAST, seed=9)).load(tmp_path / "clip")
    assert np.array_equal(back.logits(crops), tuned[0].logits(crops))


def test_a_stratum_is_read_from_disk_once(stratum, images, tuned, tmp_path, monkeypatch):
    tuned[0].save(tmp_path)
    read = []
    monkeypatch.setattr(tuned_module, "load_file", lambda path: read.append(path.name) or load_file(path))
    back = load_tuned(stratum, tmp_path, images.class_names, FAST)
    assert sorted(read) == ["adapter.safetensors", "head.safetensors"]
    assert torch.equal(back.head.weight, tuned[0].head.weight)


def damage(folder, how):
    adapter, head = folder / "adapter.safetensors", folder / "head.safetensors"
    if how == "cut":
        adapter.write_bytes(adapter.read_bytes()[:-9])
    elif how == "missing":
        head.unlink()
    elif how == "noise":
        head.write_bytes(b"\0" * 64)
    elif how == "renamed":
        save_file({"bias": load_file(head)["weight"]}, head)
    elif how == "fewer classes":
        save_file({"weight": load_file(head)["weight"][:2].contiguous()}, head)
    elif how == "not finite":
        save_file({"weight": load_file(head)["weight"] * float("nan")}, head)


@pytest.mark.parametrize("how", ["cut", "missing", "noise", "renamed", "fewer classes", "not finite"])
def test_damaged_files_are_one_clear_error(stratum, images, tuned, tmp_path, how):
    tuned[0].save(tmp_path)
    damage(tmp_path, how)
    with pytest.raises(CausalFTError, match="fit it again"):
        untrained(stratum, images.class_names, FAST).load(tmp_path)


def test_adapters_of_another_backbone_are_refused_though_they_fit(tiny_zoo, images, tuned, tmp_path):
    """All minis have one shape: without the hash, clip's adapters would run on openclip unnoticed."""
    tuned[0].save(tmp_path)
    other = untrained(open_zoo(tiny_zoo).load("openclip"), images.class_names, FAST)
    with pytest.raises(CausalFTError, match="belong to another model than Stratum\\('openclip'"):
        other.load(tmp_path)


def test_adapters_of_another_width_are_refused(stratum, images, tuned, tmp_path):
    tuned[0].save(tmp_path)
    with pytest.raises(CausalFTError, match="not of 'adaptformer' with bottleneck 4"):
        untrained(stratum, images.class_names, replace(FAST, bottleneck=4)).load(tmp_path)


def test_a_damaged_checkpoint_is_one_clear_error(stratum, crops, images, tmp_path):
    checkpoint = tmp_path / "part.safetensors"
    checkpoint.write_bytes(json.dumps({"not": "safetensors"}).encode() * 5)
    with pytest.raises(CausalFTError, match=r"part\.safetensors is damaged .*remove it"):
        tune(stratum, crops, images.class_names, FAST, progress=False, checkpoint=checkpoint)


# --- augmentation ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", AUGMENTATIONS)
def test_augmentation_repeats_its_generator_and_keeps_the_shape(kind):
    pictures = torch.rand(16, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    before = pictures.clone()
    one, same = (augment(pictures, kind, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(pictures, before) and torch.equal(one, same) and one.shape == pictures.shape
    assert torch.equal(one, pictures) == (kind == "none")


def test_a_flip_mirrors_about_half_and_changes_nothing_else():
    pictures = torch.rand(200, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    found = augment(pictures, "flip", torch.Generator().manual_seed(0))
    kept = (found == pictures).flatten(1).all(1)
    assert (found == pictures.flip(-1)).flatten(1).all(1).logical_or(kept).all()
    assert 0.35 < kept.float().mean() < 0.65


def test_a_random_crop_shows_a_window_of_the_image():
    """A horizontal ramp stays a ramp: monotone, within its range, and no steeper than the whole."""
    ramp = torch.linspace(0, 1, 16).expand(64, 3, 16, 16)
    found = augment(ramp, "crop-flip", torch.Generator().manual_seed(0))
    assert found.min() >= 0 and found.max() <= 1
    slope = found.diff(dim=-1)
    assert ((slope >= -1e-5).flatten(1).all(1) | (slope <= 1e-5).flatten(1).all(1)).all()
    assert slope.abs().max() <= 1 / 15 + 1e-5
    assert (found.amax((1, 2, 3)) - found.amin((1, 2, 3))).min() > 0.4


def test_a_growing_crop_is_a_square_that_becomes_the_whole_image():
    """Ramps along both axes: the range that a crop shows is its side."""
    ramp = torch.linspace(0, 1, 64)
    pictures = torch.stack([ramp.expand(64, 64), ramp[:, None].expand(64, 64), torch.zeros(64, 64)])
    pictures = pictures.expand(400, 3, 64, 64)
    least = []
    for progress in (0.0, 0.75, 1.0):
        found = augment(pictures, "growing-crop", torch.Generator().manual_seed(0), progress)
        wide, high = found[:, 0, 32, -1] - found[:, 0, 32, 0], found[:, 1, -1, 32] - found[:, 1, 0, 32]
        assert (wide > 0).all()  # never mirrored
        assert torch.allclose(wide, high, atol=0.01)
        least.append(wide.square().min().item())
    assert least == pytest.approx([0.08, 0.08 + 0.92 * (1 - (1 - 0.75**2) ** 0.5), 1.0], abs=0.02)
    assert torch.allclose(found, pictures, atol=1e-5)


def test_a_training_tells_the_augmentation_how_far_it_is(stratum, crops, images, monkeypatch):
    from causalft.methods.adaptation import tune as module

    seen = []

    def look(pictures, kind, generator, progress):
        seen.append(progress)
        return pictures

    monkeypatch.setattr(module, "augment", look)
    tuning = replace(FAST, augmentation="growing-crop", epochs=3, batch_size=1000)
    tune(stratum, crops, images.class_names, tuning, progress=False)
    assert seen == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("tuner", ["adaptformer", "bias", "full"])
def test_what_computes_in_bf16_says_so(stratum, images, tuner):
    weight = torch.randn(len(images.class_names), 64, generator=torch.Generator().manual_seed(0))
    made = [TunedStratum(stratum, weight, replace(FAST, tuner=tuner, precision=p)) for p in ("fp32", "bf16")]
    assert [tuned.precision for tuned in made] == ["fp32", "bf16"]
    assert [tuned.tower.dtype for tuned in made] == [None, torch.bfloat16]


@pytest.mark.parametrize("tuner", ["adaptformer", "lora", "adapter+bias"])
@pytest.mark.parametrize("stored", [True, False])
def test_a_stratum_keeps_the_width_it_was_tuned_with(stratum, images, tmp_path, tuner, stored):
    """Also where the default rule has changed since, and the settings name no width."""
    names = list(images.class_names)
    wide = untrained(stratum, names, Tuning(tuner=tuner, bottleneck=32))
    wide.save(tmp_path)
    if not stored:
        path = tmp_path / "adapter.safetensors"
        with safe_open(path, framework="pt") as file:
            about = {key: value for key, value in file.metadata().items() if key != "bottleneck"}
        save_file(load_file(path), path, about)
    read = load_tuned(stratum, tmp_path, names, Tuning(tuner=tuner))
    assert read.tuned.bottleneck == 32 == tuning_as_saved(tmp_path, Tuning(tuner=tuner)).bottleneck
    assert untrained(stratum, names, Tuning(tuner=tuner)).tuned.bottleneck == 16
    real = replace(stratum, zoo="pretrained")
    assert (
        untrained(real, names, Tuning(tuner=tuner)).tuned.bottleneck == 1
    )  # LIFT's rule: 4 classes, 2 blocks


def test_a_stratum_is_sent_in_fp32_and_settles_its_precision_where_it_arrives(stratum, images, crops):
    names = list(images.class_names)
    sent = untrained(stratum, names, replace(FAST, precision="fp32"))
    anchors = torch.eye(len(names), sent.head.weight.shape[1])
    sent.untouched = tuned_module.Untouched(stratum, anchors, torch.zeros(len(names)), "fp32")
    arrived = pickle.loads(pickle.dumps(sent))
    arrived.move(torch.device("cpu"), "bf16")
    there = untrained(stratum, names, replace(FAST, precision="bf16"))
    there.untouched = tuned_module.Untouched(stratum, anchors, torch.zeros(len(names)), "bf16")
    assert (arrived.precision, arrived.lowered) == ("bf16", there.lowered) and there.lowered > 0
    assert np.array_equal(arrived.logits(crops), there.logits(crops))
    with pytest.raises(
        CausalFTError, match="is rounded to bf16 for this processor; load it in fp32 to move it"
    ):
        arrived.move(torch.device("cpu"))
