"""Another number of blocks: more of them start as the identity, fewer are evenly spaced ones."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from causalft.errors import CausalFTError
from causalft.models.strata.cards import ModelCard, ResizedName
from causalft.models.strata.depth import with_blocks
from causalft.models.strata.stratum import Stratum, square_crop
from causalft.models.strata.zoo import open_zoo

PIXELS = torch.randint(0, 256, (3, 16, 16, 3), generator=torch.Generator().manual_seed(0)).byte()


def blocks(stratum):
    return stratum.visual.transformer.resblocks


def test_deeper_tower_answers_as_before_and_all_its_blocks_can_learn(tiny_zoo):
    zoo = open_zoo(tiny_zoo)
    whole, deeper = zoo.load("clip"), zoo.load("clip:blocks=5")
    assert len(blocks(deeper)) == 5 > len(blocks(whole)) and deeper.name == "clip:blocks=5"
    assert torch.equal(deeper.image_features(PIXELS), whole.image_features(PIXELS))
    deeper.model.requires_grad_(True)
    deeper.model.encode_image(deeper.normalise(PIXELS)).sum().backward()
    assert all(bool((block.mlp.c_proj.weight.grad != 0).any()) for block in blocks(deeper))


def test_shallower_tower_keeps_the_first_and_the_last_block(tiny_zoo):
    zoo = open_zoo(tiny_zoo)
    deep = with_blocks(zoo.load("clip"), 5)
    ends = [blocks(deep)[0], blocks(deep)[-1]]
    assert list(blocks(with_blocks(deep, 2))) == ends
    last = blocks(zoo.load("clip:blocks=1"))
    assert torch.equal(last[0].mlp.c_fc.weight, blocks(zoo.load("clip"))[-1].mlp.c_fc.weight)


def test_each_number_of_blocks_has_its_own_hash_and_card(tiny_zoo):
    zoo = open_zoo(tiny_zoo)
    found = [zoo.load(name) for name in ("clip", "clip:blocks=1", "clip:blocks=4")]
    assert len({stratum.sha256 for stratum in found}) == 3
    card = zoo.card("clip:blocks=4")
    assert isinstance(card, ModelCard) and card == found[2].card
    assert card.sha256 == found[2].sha256 and card.architecture["layers"] == 4
    assert card.prior == found[0].card.prior


@pytest.mark.parametrize("number", ["0", "999"])
def test_number_of_blocks_out_of_range_is_refused(tiny_zoo, number):
    with pytest.raises(CausalFTError, match="give 1 to 200 blocks"):
        open_zoo(tiny_zoo).check(f"clip:blocks={number}")


def test_only_the_end_of_a_name_is_a_number_of_blocks():
    assert ResizedName.parse("timm:vit:blocks=3") == ResizedName("timm:vit", 3)
    assert ResizedName.parse("timm:vit") == ResizedName("timm:vit")
    assert str(ResizedName.parse("clip:blocks=06")) == "clip:blocks=6"


def test_blocks_of_timm_are_inserted_too():
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    vit = VisionTransformer(
        img_size=16, patch_size=8, embed_dim=8, depth=2, num_heads=2, num_classes=0
    ).eval()
    images = torch.rand(2, 3, 16, 16)
    before = vit(images)
    found = with_blocks(_stratum(vit), 4)
    assert len(found.visual.blocks) == 4 and torch.equal(found.visual(images), before)


def test_tower_without_transformer_blocks_is_refused():
    with pytest.raises(CausalFTError, match="Sequential, no plain vision transformer"):
        with_blocks(_stratum(nn.Sequential(nn.Linear(2, 2))), 2)


def _stratum(visual):
    model, half = SimpleNamespace(visual=visual), (0.5, 0.5, 0.5)
    return Stratum("v", "random", model, square_crop(16), 16, half, half, None, "0" * 64, "random")
