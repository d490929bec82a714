"""Token merging against numbers made by hand, and what it must not change."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from causalft.errors import CausalFTError
from causalft.models.strata.zoo import open_zoo
from causalft.models.tuning.attention import OpenedAttention
from causalft.models.tuning.merging import merge_similar, proportional_attention, run_merging
from causalft.models.tuning.precision import lower_frozen_layers
from causalft.models.tuning.towers import open_tower
from causalft.models.tuning.tuners import apply_tuner

IMAGES = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def tower(tiny_zoo):
    return open_tower(open_zoo(tiny_zoo).load("clip").visual)


def timm_tower(depth=3, **settings):
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    vit = VisionTransformer(
        img_size=16, patch_size=4, embed_dim=16, depth=depth, num_heads=2, num_classes=0, **settings
    )
    return open_tower(vit.eval())


def tokens_of(*values):
    return torch.tensor(values, dtype=torch.float32)[None, :, None]


def test_merged_token_is_the_mean_by_size_and_its_size_the_sum():
    # patches 1, 3, 5 and 7 behind a class token; 1 and 5 are dealt into the first set
    keys = torch.tensor([[[0.0, 1.0], [1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.9, 0.9]]])
    sizes = torch.tensor([[1.0, 3.0, 1.0, 1.0, 1.0]])
    found, size = merge_similar(tokens_of(9, 1, 3, 5, 7), sizes, keys, r=1)
    assert found.flatten().tolist() == [9, 5, (3 * 1 + 3) / 4, 7] and size.tolist() == [[1, 1, 4, 1]]
    # the next edge goes from 5 to 7
    found, size = merge_similar(tokens_of(9, 1, 3, 5, 7), sizes, keys, r=2)
    assert found.flatten().tolist() == [9, 1.5, 6] and size.tolist() == [[1, 4, 2]]


def test_two_tokens_merge_into_the_same_one():
    keys = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])
    found, size = merge_similar(tokens_of(2, 4, 6, 8), None, keys, r=2, n_prefix=0)
    assert found.flatten().tolist() == [4, 8] and size.tolist() == [[3, 1]]


def test_at_most_half_of_the_patches_are_merged_and_prefix_tokens_never():
    tokens = torch.randn(2, 9, 4, generator=torch.Generator().manual_seed(0))
    for n_prefix in (1, 2):
        found, size = merge_similar(tokens, None, tokens, r=100, n_prefix=n_prefix)
        left = n_prefix + (9 - n_prefix + 1) // 2
        assert found.shape == (2, left, 4) and size.sum(1).tolist() == [9, 9]
        assert torch.equal(found[:, :n_prefix], tokens[:, :n_prefix]) and bool(
            (size[:, :n_prefix] == 1).all()
        )
    assert merge_similar(tokens[:, :2], None, tokens[:, :2], r=3)[0].shape == (2, 2, 4)


def test_each_block_but_the_last_merges_r_tokens(tower):
    lengths = []
    for block in tower.blocks:
        block.mlp.register_forward_pre_hook(lambda module, args: lengths.append(args[0].shape[1]))
    tower.merge_tokens(1)
    tower(IMAGES)
    n = 1 + (16 // tower.patch_size) ** 2
    assert lengths == [n - 1 - k for k in range(len(tower.blocks) - 1)] + [1]


@pytest.mark.parametrize("kind", ["mini", "timm"])
def test_merging_nothing_changes_nothing(tower, kind):
    tower = tower if kind == "mini" else timm_tower()
    expected = tower(IMAGES)
    tower.merge_tokens(0)
    assert torch.equal(tower(IMAGES), expected)
    # its own blocks give what those of the tower give
    run = run_merging(tower._halves(), tower.embed(IMAGES), 0, tower.n_prefix)
    assert torch.allclose(tower.pool(run), expected, atol=1e-5)


def test_merging_equal_tokens_changes_nothing_with_proportional_attention():
    tower = timm_tower(depth=2)  # merges once
    embedded = tower.embed(IMAGES)
    pairs = embedded.clone()
    pairs[:, 2::2] = pairs[:, 1::2]  # each token of the second set equals one of the first
    expected = tower.pool(tower.run(pairs))
    tower.merge_tokens(8)
    assert torch.allclose(tower.pool(tower.run(pairs)), expected, atol=1e-5)
    assert not torch.allclose(tower.pool(tower.run(embedded)), expected, atol=1e-3)


def test_attention_counts_a_token_as_often_as_its_size():
    torch.manual_seed(0)
    attention = OpenedAttention(nn.Linear(8, 24), nn.Linear(8, 8), 2).eval()
    x = torch.randn(1, 3, 8)
    twice = torch.cat([x, x[:, 2:]], dim=1)
    found, keys = proportional_attention(attention, x, torch.tensor([[1.0, 1.0, 2.0]]))
    assert torch.allclose(found, attention(twice)[:, :3], atol=1e-6) and keys.shape == (1, 3, 4)


def test_an_image_does_not_depend_on_the_others_of_its_batch(tower):
    tower.merge_tokens(1)
    assert torch.allclose(tower(IMAGES)[1:2], tower(IMAGES[1:2]), atol=1e-6)


def test_lowered_tower_merges_too(tower):
    exact = tower(IMAGES)
    lower_frozen_layers(tower)
    tower.merge_tokens(1)
    merged = tower(IMAGES)
    assert merged.dtype == torch.float32 and merged.shape == exact.shape and bool(merged.isfinite().all())


def test_towers_that_are_not_read_at_a_class_token_are_refused(tiny_zoo):
    from open_clip.modified_resnet import ModifiedResNet

    resnet = open_tower(ModifiedResNet([1, 1, 1, 1], 16, 8, image_size=32, width=8))
    with pytest.raises(CausalFTError, match="this one is a ResNet"):
        resnet.merge_tokens(2)
    with pytest.raises(CausalFTError, match="read at its class token"):
        timm_tower(global_pool="avg").merge_tokens(2)
    prompted = open_tower(open_zoo(tiny_zoo).load("clip").visual)
    apply_tuner(prompted, "vpt-deep", bottleneck=2, seed=0)
    with pytest.raises(CausalFTError, match="this one has visual prompts"):
        prompted.merge_tokens(2)
