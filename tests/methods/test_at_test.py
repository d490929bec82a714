"""Test-time adaptation: losses against closed forms, steps by hand, memory, guard, and strata that adapt."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from causalft.errors import CausalFTError
from causalft.methods.adaptation.at_test import AT_TEST, adaptation, check_adapt
from causalft.methods.adaptation.at_test.adapting import AdaptingStratum, adapt_batch
from causalft.methods.adaptation.at_test.cliptta import SoftContrast
from causalft.methods.adaptation.at_test.guard import CollapseGuard, effective_classes
from causalft.methods.adaptation.at_test.memory import ConfidentMemory, images_per_class
from causalft.methods.adaptation.at_test.objectives import (
    Entropy,
    entropy_of_mean,
    mean_entropy,
    soft_contrastive,
)
from causalft.methods.adaptation.settings import Tuning
from causalft.methods.adaptation.tuned import TunedStratum, load_tuned
from causalft.models.strata.zoo import open_zoo

KINDS = ["ant", "bee", "cow", "doe"]


def logits_of(*rows: list[float]) -> torch.Tensor:
    """Logits whose softmax is these rows."""
    return torch.tensor(rows, dtype=torch.float64).log()


def h(*p: float) -> float:
    return -sum(x * math.log(x) for x in p if x)


# --- losses ------------------------------------------------------------------------------------------------------


def test_entropies_are_those_of_the_definition() -> None:
    logits = logits_of([0.7, 0.2, 0.1], [0.1, 0.8, 0.1])
    assert mean_entropy(logits).item() == pytest.approx((h(0.7, 0.2, 0.1) + h(0.1, 0.8, 0.1)) / 2)
    assert entropy_of_mean(logits).item() == pytest.approx(h(0.4, 0.5, 0.1))


def test_soft_contrastive_loss_is_the_row_entropy_over_pseudo_captions() -> None:
    # Pseudo-captions: class 0, 0, 1. Row i is softmax over (z_i0, z_i0, z_i1).
    logits = logits_of([0.7, 0.2, 0.1], [0.5, 0.25, 0.25], [0.1, 0.8, 0.1])
    rows = [(0.7, 0.7, 0.2), (0.5, 0.5, 0.25), (0.1, 0.1, 0.8)]
    expected = sum(h(*(x / sum(row) for x in row)) for row in rows) / 3
    assert soft_contrastive(logits).item() == pytest.approx(expected)


@given(st.integers(1, 6), st.integers(2, 5), st.integers(0, 2**32 - 1))
def test_losses_stay_within_their_bounds_and_are_finite_for_extreme_logits(n: int, k: int, seed: int) -> None:
    logits = 1e3 * torch.from_numpy(np.random.default_rng(seed).normal(size=(n, k)))
    for value, most in (
        (mean_entropy(logits), math.log(k)),
        (entropy_of_mean(logits), math.log(k)),
        (soft_contrastive(logits), math.log(n)),
    ):
        assert -1e-9 <= value.item() <= most + 1e-9


def test_gradient_of_soft_contrast_pushes_apart_what_the_batch_predicts_most() -> None:
    # Uniform rows: the entropy terms have gradient 0 there, whatever the batch.
    logits = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    SoftContrast(3).loss(logits).backward()
    assert logits.grad is not None and logits.grad.abs().max() < 1e-12
    # One image, mean entropy 0 for a batch of one: what is left is minus its own entropy.
    single = logits_of([0.7, 0.2, 0.1]).requires_grad_()
    loss = SoftContrast(3).loss(single)
    assert loss.item() == pytest.approx(-h(0.7, 0.2, 0.1))


# --- steps -------------------------------------------------------------------------------------------------------


def test_a_step_on_the_entropy_is_gradient_descent_by_hand() -> None:
    # Logits (w, 0), p = sigmoid(w): dH/dw = -w p (1 - p).
    weight = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))

    def forward(pixels: torch.Tensor) -> torch.Tensor:
        return torch.stack([pixels * weight, torch.zeros_like(pixels)], dim=1)

    p = 1 / (1 + math.exp(-0.5))
    sgd = torch.optim.SGD([weight], lr=0.1)
    assert adapt_batch(forward, torch.ones(3, dtype=torch.float64), Entropy(2), sgd, 1)
    assert weight.item() == pytest.approx(0.5 + 0.1 * 0.5 * p * (1 - p))


def test_no_value_gets_further_from_its_start_than_its_reach() -> None:
    weight = nn.Parameter(torch.tensor([0.5, -0.5]))
    start = {weight: weight.detach().clone()}
    adam = torch.optim.Adam([weight], lr=0.1)  # a first step of Adam is as long as the learning rate

    def forward(pixels: torch.Tensor) -> torch.Tensor:
        return torch.stack([pixels * weight[0], pixels * weight[1]], dim=1)

    adapt_batch(forward, torch.ones(3), Entropy(2), adam, 4, start, reach=0.05)
    assert torch.allclose(weight, torch.tensor([0.55, -0.55]))


def test_remembered_images_add_their_loss_to_every_step() -> None:
    seen = []

    class Recalls(Entropy):
        def recall(self, n: int) -> torch.Tensor | None:
            return torch.full((2,), 7.0)

    weight = nn.Parameter(torch.tensor(0.5))

    def forward(pixels: torch.Tensor) -> torch.Tensor:
        seen.append(pixels.tolist())
        return torch.stack([pixels * weight, torch.zeros_like(pixels)], dim=1)

    adapt_batch(forward, torch.ones(1), Recalls(2), torch.optim.SGD([weight], lr=0.1), 2)
    assert seen == [[1.0], [7.0, 7.0]] * 2


def test_a_loss_that_is_not_finite_takes_no_step() -> None:
    weight = nn.Parameter(torch.tensor(float("inf")))
    adam = torch.optim.Adam([weight], lr=0.1)
    assert not adapt_batch(lambda x: (x * weight)[:, None] - weight, torch.ones(2), Entropy(1), adam, 3)
    assert weight.grad is None


# --- memory ------------------------------------------------------------------------------------------------------


def test_memory_keeps_the_most_confident_images_of_each_class() -> None:
    memory = ConfidentMemory(per_class=2)
    for image, k, p in ((0, 1, 0.5), (1, 1, 0.9), (2, 0, 0.4), (3, 1, 0.7), (4, 1, 0.7), (5, 1, 0.3)):
        memory.add(torch.tensor([[image]]), torch.tensor([k]), torch.tensor([p]))
    kept = {k: [int(image) for image in images] for k, images in memory.images.items()}
    assert kept == {0: [2], 1: [1, 3]} and len(memory) == 3


def test_samples_of_the_memory_are_balanced_over_classes_and_without_replacement() -> None:
    memory = ConfidentMemory(per_class=4)
    assert memory.sample(3) is None
    pixels = torch.arange(9)[:, None]
    memory.add(pixels, torch.tensor([0] * 4 + [1] * 4 + [2]), torch.linspace(1, 0.1, 9))
    classes = np.array([0] * 4 + [1] * 4 + [2])
    for _ in range(20):
        drawn = memory.sample(5)
        assert drawn is not None and len(set(drawn[:, 0].tolist())) == 5
        assert sorted(np.bincount(classes[drawn[:, 0]], minlength=3)) == [1, 2, 2]
    whole = memory.sample(100)
    assert whole is not None and sorted(whole[:, 0].tolist()) == list(range(9))


@given(st.integers(2, 100_000))
def test_memory_holds_4_to_16_images_per_class(n_classes: int) -> None:
    assert 4 <= images_per_class(n_classes) <= 16


# --- guard -------------------------------------------------------------------------------------------------------


def test_effective_classes_of_equal_shares_are_their_number() -> None:
    assert effective_classes([3, 3, 3, 0]) == pytest.approx(3)
    assert effective_classes([0, 0]) == 0


@given(st.integers(0, 2**32 - 1), st.integers(2, 60))
def test_guard_never_stops_a_model_that_predicts_as_the_unadapted_one(seed: int, n_classes: int) -> None:
    rng = np.random.default_rng(seed)
    guard = CollapseGuard(n_classes)
    for _ in range(5):
        classes = rng.integers(n_classes, size=64)
        assert guard.update(rng.permutation(classes), classes) is None


def test_guard_names_the_class_that_gained_most() -> None:
    before = np.arange(128) % 8
    after = np.where(before < 6, 5, before)
    found = CollapseGuard(8).update(after, before)
    assert found is not None and found.k == 5
    assert (found.share, found.before, found.n) == (0.75, 0.125, 128)


def test_a_stream_sorted_by_class_is_no_collapse() -> None:
    guard = CollapseGuard(4)
    assert all(guard.update(np.full(64, k), np.full(64, k)) is None for k in range(4))


def test_the_guard_of_two_classes_sees_one_of_them_vanish() -> None:
    assert CollapseGuard(2).update(np.zeros(64, int), np.arange(64) % 2) is not None


# --- strata ------------------------------------------------------------------------------------------------------


def tuned_mini(zoo: object, **settings: object) -> TunedStratum:
    stratum = open_zoo(str(zoo)).load("clip")
    tuning = replace(Tuning(), precision="fp32", **settings)  # type: ignore[arg-type]
    return TunedStratum(stratum, stratum.text_features(KINDS), tuning)


def pixels(n: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (n, 16, 16, 3), dtype=np.uint8))


@pytest.mark.parametrize("method", ["tent", "cliptta"])
def test_a_stratum_lowers_its_loss_changes_only_layer_norms_and_forgets(tiny_zoo, method: str) -> None:
    tuned = tuned_mini(tiny_zoo)
    backbone = {name: value.clone() for name, value in tuned.stratum.visual.state_dict().items()}
    before = {name: value.clone() for name, value in tuned.state_dict().items()}
    images = pixels(32)
    unadapted = tuned.logits_of(images)
    adapting = AdaptingStratum(tuned, replace(AT_TEST[method], lr=1e-3), KINDS)
    record = AT_TEST[method].objective
    assert record is not None
    adapted = adapting.logits_of(images)
    loss = record(4).loss
    assert loss(adapted) < loss(unadapted)
    moved = {name for name, value in tuned.state_dict().items() if not torch.equal(value, before[name])}
    assert moved and all(".ln_" in name for name in moved)
    assert all(
        torch.equal(value, backbone[name]) for name, value in tuned.stratum.visual.state_dict().items()
    )
    adapting.reset()
    assert torch.equal(tuned.logits_of(images), unadapted)
    assert torch.equal(adapting.logits_of(images), adapted)  # the same stream again gives the same


def test_small_batches_are_predicted_without_a_step(tiny_zoo) -> None:
    tuned = tuned_mini(tiny_zoo)
    few = pixels(7)
    expected = tuned.logits_of(few)
    adapting = AdaptingStratum(tuned, AT_TEST["tent"], KINDS)
    assert torch.equal(adapting.logits_of(few), expected) and adapting.batches == 0 and adapting.first is None


def test_views_of_an_image_adapt_together(tiny_zoo) -> None:
    tuned = tuned_mini(tiny_zoo, test_view="five-crop")
    views = torch.stack([pixels(16, seed) for seed in range(5)], dim=1)
    adapting = AdaptingStratum(tuned, AT_TEST["cliptta"], KINDS)
    assert adapting.logits_of(views).shape == (16, 4) and adapting.batches == 1


@pytest.mark.parametrize("seed", range(10))
def test_a_collapse_is_seen_named_and_left(tiny_zoo, seed: int) -> None:
    """Tent with a learning rate 1,000 times too high; 10 of 10 streams."""
    tuned = tuned_mini(tiny_zoo, head="linear")
    with torch.no_grad():  # an untrained mini answers one class: its own mean logits are taken out
        tuned.head.bias -= tuned(tuned.tokens(tuned.stratum.normalise(pixels(256, 99)))).mean(dim=0)
        tuned.head.weight *= 20
        tuned.head.bias *= 20
    batches = [pixels(64, 100 * seed + number) for number in range(6)]
    unadapted = [tuned.logits_of(batch) for batch in batches]
    adapting = AdaptingStratum(tuned, replace(AT_TEST["tent"], lr=0.1, reach=10.0), KINDS)
    found = [adapting.logits_of(batch) for batch in batches]
    assert adapting.stopped is not None and adapting.last is not None
    k = adapting.stopped.k
    assert k is not None and adapting.stopped.share > adapting.stopped.before
    at = adapting.last // 64
    assert all(torch.equal(a, b) for a, b in zip(found[at:], unadapted[at:], strict=True))
    assert adapting.finish().adapted == ()


def test_an_adapted_stratum_is_read_back_as_it_was_saved(tiny_zoo, tmp_path) -> None:
    tuned = tuned_mini(tiny_zoo)
    adapting = AdaptingStratum(tuned, replace(AT_TEST["tent"], lr=1e-2), KINDS)
    adapting.logits_of(pixels(32))
    expected = tuned.logits_of(pixels(8, 1))
    adapting.finish().save(tmp_path)
    fresh = open_zoo(str(tiny_zoo)).load("clip")
    again = load_tuned(fresh, tmp_path, KINDS, replace(Tuning(), precision="fp32"))
    assert torch.allclose(again.logits_of(pixels(8, 1)), expected)
    again.save(tmp_path / "again")
    assert (tmp_path / "again" / "adapted.safetensors").is_file()
    (tmp_path / "adapted.safetensors").unlink()
    with pytest.raises(CausalFTError, match="adapted.safetensors cannot be read"):
        load_tuned(fresh, tmp_path, KINDS, replace(Tuning(), precision="fp32"))


# --- BatchNorm ---------------------------------------------------------------------------------------------------


def with_tower(tiny_zoo, tower: nn.Module) -> TunedStratum:
    """A mini with another image tower of 16 features."""
    stratum = open_zoo(str(tiny_zoo)).load("clip")
    stratum.model.visual = tower.eval()
    return TunedStratum(
        stratum, torch.randn(4, 16), replace(Tuning(), tuner="linear-probe", precision="fp32")
    )


def resnet(tiny_zoo) -> TunedStratum:
    from timm.models.resnet import BasicBlock, ResNet

    torch.manual_seed(0)
    return with_tower(tiny_zoo, ResNet(BasicBlock, (1, 1, 1, 1), num_classes=0, channels=(8, 8, 16, 16)))


def vit(tiny_zoo) -> TunedStratum:
    from timm.models.vision_transformer import VisionTransformer

    tower = VisionTransformer(
        img_size=16, patch_size=8, embed_dim=16, depth=1, num_heads=2, num_classes=0, class_token=True
    )
    return with_tower(tiny_zoo, tower)


def test_batch_norms_take_the_statistics_of_the_batch_and_average_them(tiny_zoo) -> None:
    tuned = resnet(tiny_zoo)
    first, second = pixels(16), pixels(16, 1)
    adapting = AdaptingStratum(tuned, adaptation("bn", 0), KINDS)
    found = adapting.logits_of(first)
    stem = tuned.tower.get_submodule("visual.bn1")
    convolved = [tuned.tower.visual.conv1(tuned.stratum.normalise(batch)) for batch in (first, second)]
    means = [each.mean(dim=(0, 2, 3)) for each in convolved]
    assert torch.allclose(stem.running_mean, means[0], atol=1e-5)
    adapting.logits_of(second)
    assert torch.allclose(stem.running_mean, (means[0] + means[1]) / 2, atol=1e-5)
    assert not stem.training and adapting.batches == 2
    adapting.reset()
    assert torch.equal(stem.running_mean, torch.zeros_like(stem.running_mean))
    for module in tuned.tower.modules():  # PyTorch's own normalisation by the batch
        module.training = isinstance(module, nn.BatchNorm2d)
    assert torch.allclose(tuned.logits_of(first), found, atol=1e-4)


def test_stored_statistics_count_as_so_many_images(tiny_zoo) -> None:
    """48 stored images beside a batch of 16: three quarters of the stored mean and variance, one of the batch's."""
    tuned = resnet(tiny_zoo)
    stem = tuned.tower.get_submodule("visual.bn1")
    batch = pixels(16)
    convolved = tuned.tower.visual.conv1(tuned.stratum.normalise(batch))
    mean, var = convolved.mean(dim=(0, 2, 3)), convolved.var(dim=(0, 2, 3), unbiased=False)
    before = tuned.logits_of(batch)
    adapting = AdaptingStratum(tuned, adaptation("bn", 48), KINDS)
    stem = tuned.tower.get_submodule("visual.bn1")
    adapting.logits_of(batch)
    assert torch.allclose(stem.running_mean, 0.25 * mean, atol=1e-5)
    assert torch.allclose(stem.running_var, 0.75 + 0.25 * var, atol=1e-5)
    kept = stem.running_mean.clone()
    adapting.logits_of(batch)  # mixed with what was stored at first, not with the mixture
    assert torch.allclose(stem.running_mean, kept, atol=1e-6)
    adapting.reset()
    much = AdaptingStratum(tuned, adaptation("bn", 1e9), KINDS)
    assert torch.allclose(much.logits_of(batch), before, atol=1e-4)


def test_only_a_method_that_takes_statistics_has_stored_ones() -> None:
    assert adaptation("bn").stored_images == AT_TEST["bn"].stored_images
    with pytest.raises(CausalFTError, match="stored_images goes with adapt bn; tent takes no statistics"):
        adaptation("tent", 16)


def test_methods_are_refused_where_the_tower_lacks_what_they_change(tiny_zoo) -> None:
    with pytest.raises(CausalFTError, match=r"changes the weights and biases .* has none; use adapt bn"):
        AdaptingStratum(resnet(tiny_zoo), AT_TEST["tent"], KINDS)
    with pytest.raises(CausalFTError, match="BatchNorms.* has none; use adapt tent or cliptta"):
        AdaptingStratum(vit(tiny_zoo), AT_TEST["bn"], KINDS)
    blind = tuned_mini(tiny_zoo)
    blind.stratum.tokenizer = None
    with pytest.raises(CausalFTError, match="has no text tower"):
        AdaptingStratum(blind, AT_TEST["tent"], KINDS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("tnet", "local", 128, None), "tent"),
        (("tent", "ray", 128, None), "one process"),
        (("tent", "local", 128, None, 2), "one process"),
        (("tent", "local", 1, None), "batches of 8 images or more"),
        (("tent", "local", 128, 0.9), "sets does not go with adapt"),
    ],
)
def test_what_adaptation_does_not_go_with_is_refused(options: tuple, message: str) -> None:
    with pytest.raises(CausalFTError, match=message):
        check_adapt(*options)
