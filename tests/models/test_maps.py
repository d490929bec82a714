"""Maps of every family of towers: rollout against a plain computation, gradients complete, refusals in one line."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from causalft.errors import CausalFTError
from causalft.models.maps import MAPS, MapTarget
from causalft.models.maps.attributions import grad_cam, integrated_gradients, occlusion
from causalft.models.maps.rollout import attention_matrices, attention_rollout
from causalft.models.strata.mini import MiniConfig, build_mini, empty_mini
from causalft.models.tuning.precision import round_frozen_layers
from causalft.models.tuning.towers import open_tower
from causalft.models.tuning.tuners import apply_tuner

SIZE = 32


def images_of(n=2, size=SIZE):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(0))


def target_of(visual, n_classes=4, size=SIZE):
    tower = open_tower(visual.eval())
    with torch.no_grad():
        width = tower(images_of(1, size)).shape[1]
    weight = torch.randn(n_classes, width, generator=torch.Generator().manual_seed(1))
    return MapTarget("some", tower, lambda features: features.float() @ weight.T)


def open_clip_vit(**options):
    from open_clip.transformer import VisionTransformer

    torch.manual_seed(0)
    return VisionTransformer(
        image_size=SIZE, patch_size=8, width=24, layers=2, heads=2, mlp_ratio=2, output_dim=8, **options
    )


def mini():
    return build_mini(MiniConfig(image_size=SIZE, width=24, layers=2, heads=2)).visual


def empty_of(visual):
    model = empty_mini(MiniConfig(image_size=SIZE, width=24, layers=2, heads=2)).visual
    model.load_state_dict(visual.state_dict())
    return model


def timm_vit(**options):
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    return VisionTransformer(
        img_size=SIZE, patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=0, **options
    )


def eva():
    from timm.models.eva import Eva

    torch.manual_seed(0)
    return Eva(
        img_size=SIZE, patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=0, use_rot_pos_emb=True
    )


def clip_resnet():
    from open_clip.modified_resnet import ModifiedResNet

    torch.manual_seed(0)
    return ModifiedResNet((1, 1, 1, 1), output_dim=8, heads=4, image_size=SIZE, width=8)


def timm_resnet():
    from timm.models.resnet import BasicBlock, ResNet

    torch.manual_seed(0)
    return ResNet(BasicBlock, (1, 1, 1, 1), num_classes=0, channels=(8, 16, 24, 32))


VITS = {
    "mini": mini,
    "open_clip": open_clip_vit,
    "open_clip mean": lambda: open_clip_vit(pool_type="avg"),
    "open_clip scaled": lambda: open_clip_vit(block_type="custom", qk_norm=True),
    "timm": timm_vit,
    "timm mean": lambda: timm_vit(global_pool="avg", class_token=False),
    "timm map": lambda: timm_vit(global_pool="map", class_token=False),
    "eva": eva,
}
RESNETS = {"clip resnet": clip_resnet, "timm resnet": timm_resnet}


@pytest.mark.parametrize("name", VITS)
def test_rollout_of_every_vision_transformer_is_a_share_of_what_is_pooled(name):
    found = attention_rollout(target_of(VITS[name]()), images_of())
    assert found.shape == (2, 4, 4)
    assert found.min() >= 0
    assert (found.flatten(1).sum(1) <= 1 + 1e-5).all()
    if name == "timm mean":  # no class token that keeps a part for itself
        assert torch.allclose(found.flatten(1).sum(1), torch.ones(2), atol=1e-5)


def test_rollout_is_the_product_of_the_attention_matrices():
    target = target_of(mini())
    last = attention_matrices(target.tower, images_of())
    assert [tuple(each.shape) for each in last] == [(2, 17, 17), (2, 1, 17)]
    first = (last[0] + torch.eye(17)) / 2
    row = (last[1] + F.one_hot(torch.tensor([0]), 17)) / 2
    expected = (row @ first)[:, 0, 1:].unflatten(1, (4, 4))
    assert torch.allclose(attention_rollout(target, images_of()), expected, atol=1e-6)


def test_attention_matrices_are_those_of_the_weights():
    target = target_of(timm_vit())
    block = target.tower.blocks[0]
    tokens = block.norm1(target.tower.embed(images_of()))
    q, k, _ = block.attn.qkv(tokens).unflatten(2, (3, 2, 12)).permute(2, 0, 3, 1, 4)
    expected = (q @ k.transpose(-1, -2) / 12**0.5).softmax(-1).mean(1)
    assert torch.allclose(attention_matrices(target.tower, images_of())[0], expected, atol=1e-6)


def test_rollout_of_a_rounded_tower_reads_all_images_at_once(monkeypatch):
    monkeypatch.setattr("causalft.models.tuning.towers._TOGETHER", 40)  # two images
    target = target_of(open_clip_vit())
    exact = attention_rollout(target, images_of(5))
    round_frozen_layers(target.tower)
    assert torch.allclose(attention_rollout(target, images_of(5)), exact, atol=0.01)
    assert target.tower.in_pieces


def test_both_implementations_of_a_mini_have_one_rollout():
    visual = mini().eval()
    ours = attention_rollout(target_of(empty_of(visual)), images_of())
    assert torch.allclose(ours, attention_rollout(target_of(visual), images_of()), atol=1e-6)


@pytest.mark.parametrize("tuner", ["vpt-shallow", "vpt-deep", "adaptformer"])
def test_rollout_of_a_tuned_tower_reads_patches_and_no_prompts(tuner):
    target = target_of(mini())
    apply_tuner(target.tower, tuner, bottleneck=4, seed=0)
    found = attention_rollout(target, images_of())
    assert found.shape == (2, 4, 4)
    total = found.flatten(1).sum(1)
    assert (total > 0).all() and (total <= 1 + 1e-5).all()


@pytest.mark.parametrize("name", RESNETS)
def test_rollout_of_a_resnet_is_refused(name):
    with pytest.raises(CausalFTError, match="attention rollout needs a vision transformer.*'ResNet'"):
        attention_rollout(target_of(RESNETS[name]()), images_of())


@pytest.mark.parametrize("name", ["mini", "timm map", "eva", *RESNETS])
def test_gradients_and_occlusion_work_on_every_family(name):
    target = target_of({**VITS, **RESNETS}[name]())
    images, classes = images_of(), torch.tensor([1, 3])
    baseline = images.mean(dim=(2, 3), keepdim=True).expand_as(images).contiguous()
    for compute in (integrated_gradients, occlusion, grad_cam):
        found = compute(target, images.clone(), classes, baseline)
        assert found.ndim == 3 and len(found) == 2
        assert found.isfinite().all() and found.abs().sum() > 0


def test_integrated_gradients_sum_to_the_difference_of_the_log_probabilities():
    target = target_of(mini())
    images, classes = images_of(), torch.tensor([1, 3])
    baseline = images.mean(dim=(2, 3), keepdim=True).expand_as(images).contiguous()
    found = integrated_gradients(target, images.clone(), classes, baseline)
    with torch.no_grad():
        ends = [target.logits(x).log_softmax(-1)[[0, 1], classes] for x in (images, baseline)]
    total = found.flatten(1).sum(1) * 64  # pixels of a cell
    assert torch.allclose(total, ends[0] - ends[1], atol=0.02)


def test_occlusion_is_the_fall_of_the_log_probability():
    target = target_of(mini())
    images, classes = images_of(), torch.tensor([1, 3])
    baseline = torch.zeros_like(images)
    found = occlusion(target, images, classes, baseline)
    hidden = images.clone()
    hidden[:, :, 8:16, 24:] = 0
    with torch.no_grad():
        falls = [target.logits(x).log_softmax(-1)[[0, 1], classes] for x in (images, hidden)]
    assert torch.allclose(found[:, 1, 3], falls[0] - falls[1], atol=1e-5)


def test_a_tower_that_cannot_be_opened_has_occlusion_and_integrated_gradients_alone():
    visual = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 8, 8), torch.nn.Flatten(), torch.nn.Linear(64, 8))
    target = target_of(visual)
    images, classes = images_of(), torch.tensor([0, 1])
    baseline = torch.zeros_like(images)
    with pytest.raises(CausalFTError, match="no vision transformer and no ResNet.*method occlusion"):
        grad_cam(target, images, classes, baseline)
    with pytest.raises(CausalFTError, match="attention rollout needs"):
        attention_rollout(target, images)
    assert occlusion(target, images, classes, baseline).shape == (2, 7, 7)


def test_the_other_half_of_a_model_takes_part():
    target = target_of(mini())
    other = target_of(timm_resnet())
    both = MapTarget("both", target.tower, target.head, other.logits)
    images, classes = images_of(), torch.tensor([1, 3])
    baseline = torch.zeros_like(images)
    alone = integrated_gradients(target, images.clone(), classes, baseline)
    assert not torch.allclose(integrated_gradients(both, images.clone(), classes, baseline), alone, atol=1e-3)


def test_kinds_of_map_are_known_by_name_without_torch():
    assert list(MAPS) == sorted(MAPS, key=lambda name: MAPS[name].order)
    assert {"rollout", "integrated-gradients", "grad-cam", "occlusion"} <= set(MAPS)
    with pytest.raises(CausalFTError, match="no kind of map is named 'rolout'; did you mean 'rollout'"):
        MAPS.get_or_refuse("rolout")
    assert np.isfinite([MAPS[name].order for name in MAPS]).all()
