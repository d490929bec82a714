"""Towers: the three parts compose to the original tower, which they share and do not change."""

from __future__ import annotations

import importlib

import pytest
import timm
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from open_clip.timm_model import TimmModel
from torch import nn

from causalft.errors import CausalFTError
from causalft.models.strata.mini import MiniConfig, build_mini, empty_mini
from causalft.models.tuning import towers
from causalft.models.tuning.towers import open_tower

TEXT = CLIPTextCfg(context_length=8, vocab_size=32, width=16, heads=2, layers=1)

POOLER = {"attn_pooler_queries": 4, "attn_pooler_heads": 2}


def open_clip_vit(**settings):
    config = {"layers": 3, "width": 32, "head_width": 16, "patch_size": 8, "image_size": 32}
    return CLIP(
        16, CLIPVisionCfg(**{**config, **settings}), TEXT, quick_gelu=settings.get("layers") == 2
    ).visual


def timm_vit(name="vit_tiny_patch16_224", **settings):
    return timm.create_model(name, num_classes=0, img_size=32, depth=3, embed_dim=48, num_heads=2, **settings)


def timm_clip(name, monkeypatch, pool="map", proj="none"):
    """A TimmModel of small depth (its constructor takes no such options)."""
    create = timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda *a, **k: create(*a, **k, img_size=32, depth=2, embed_dim=48, num_heads=2)
    )
    return TimmModel(name, 24, 32, pool=pool, proj=proj)


def loaded_mini():
    config = MiniConfig(image_size=32)
    mini = empty_mini(config)
    mini.load_state_dict(build_mini(config).state_dict())
    return mini.visual


TOWERS = {
    "ViT": lambda m: open_clip_vit(),
    "quick GELU": lambda m: open_clip_vit(layers=2),
    "mini": lambda m: build_mini(MiniConfig(image_size=32)).visual,
    "mini of a zoo": lambda m: loaded_mini(),
    "average, no first norm": lambda m: open_clip_vit(no_ln_pre=True, pool_type="avg", final_ln_after_pool=True),
    "attentional pool": lambda m: open_clip_vit(attentional_pool=True, **POOLER),
    "own pool": lambda m: open_clip_vit(width=16, head_width=8, attentional_pool="cascade", **POOLER),
    "layer scale": lambda m: open_clip_vit(ls_init_value=0.5),
    "query norms": lambda m: open_clip_vit(qk_norm=True, scale_attn_inner=True, scale_heads=True, scale_fc=True),
    "timm": lambda m: timm_vit(),
    "timm average": lambda m: timm_vit(global_pool="avg", reg_tokens=2),
    "EVA": lambda m: timm_vit("eva_giant_patch14_224", patch_size=8, mlp_ratio=2.0),
    "EVA-02": lambda m: timm_vit("eva02_base_patch16_clip_224", mlp_ratio=2.0),
    "SigLIP": lambda m: timm_clip("vit_base_patch16_siglip_224", m),
    "EVA CLIP": lambda m: timm_clip("eva02_base_patch16_clip_224", m, pool="token", proj=""),
    "ResNet CLIP": lambda m: CLIP(16, CLIPVisionCfg(layers=(1, 1, 1, 1), width=8, image_size=32), TEXT).visual,
    "timm ResNet": lambda m: timm.create_model("resnet18", num_classes=0),
    "ConvNeXt": lambda m: timm.create_model("convnext_atto", num_classes=0),
}  # fmt: skip


@pytest.fixture(params=TOWERS, scope="module")
def visual(request):
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as monkeypatch:
        found = TOWERS[request.param](monkeypatch).eval()
    with torch.no_grad():
        for name, tensor in [*found.named_parameters(), *found.named_buffers()]:
            if tensor.ndim == 1 and tensor.is_floating_point() and "rope" not in name:
                tensor.add_(
                    0.1 * torch.rand_like(tensor)
                )  # no norm, bias or running mean at its trivial start
    return found


def pictures():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_embed_run_and_pool_compose_to_the_tower(visual):
    tower = open_tower(visual)
    with torch.no_grad():
        truth = visual(pictures())
        truth = truth[0] if isinstance(truth, tuple) else truth
        tokens = tower.embed(pictures())
        n = len(tower.blocks)
        cut = tower.run(tower.run(tokens, stop=n - 1), start=n - 1)
        assert torch.equal(tower.run(tokens), cut)
        assert torch.allclose(tower.pool(cut), truth, rtol=1e-5, atol=1e-6)
        assert torch.equal(tower(pictures()), tower.pool(cut))
    assert truth.std() > 1e-3


def test_the_original_is_not_changed_and_its_weights_are_shared(visual):
    before = {name: value.clone() for name, value in visual.state_dict().items()}
    names = [name for name, _ in visual.named_modules()]
    asked = [p.requires_grad for p in visual.parameters()]
    tower = open_tower(visual)
    storages = {t.untyped_storage().data_ptr() for t in visual.state_dict().values()}
    own = [n for n, p in tower.named_parameters() if p.untyped_storage().data_ptr() not in storages]
    assert all(name.endswith("attn.qkv.bias") for name in own)  # only EVA's: put together from two
    assert not any(p.requires_grad for p in tower.parameters())
    assert [p.requires_grad for p in visual.parameters()] == asked
    assert [name for name, _ in visual.named_modules()] == names
    tower.to(torch.float64)
    assert all(torch.equal(visual.state_dict()[name], value) for name, value in before.items())
    counted = sum(p.numel() for p in tower.parameters())
    biases = sum(tower.get_parameter(n).numel() // 3 for n in own)  # EVA's key bias is a buffer
    assert counted == sum(p.numel() for p in visual.parameters()) + biases


def test_every_linear_layer_of_a_block_is_called_as_a_module(visual):
    tower = open_tower(visual)
    if tower.kind not in ("open_clip ViT", "timm ViT"):
        with pytest.raises(CausalFTError, match="no attention and no MLP"):
            tower.parts(tower.blocks[0])
        return
    linears = [m for block in tower.blocks for m in block.modules() if isinstance(m, nn.Linear)]
    called = set()
    for layer in linears:
        layer.register_forward_hook(lambda module, *_: called.add(module))
    tower(pictures())
    assert called == set(linears) and len(linears) >= 4 * len(tower.blocks)
    parts = tower.parts(tower.blocks[0])
    assert parts.proj.out_features == parts.fc2.out_features == tower.width
    assert parts.qkv is None or parts.qkv.out_features == 3 * tower.width


def test_reaches_gives_the_first_block_a_tensor_affects(visual):
    tower = open_tower(visual)
    n = len(tower.blocks)
    places = {name: tower.reaches(name) for name in dict(tower.named_parameters())}
    assert all(
        place == int(name.split(".")[1]) for name, place in places.items() if name.startswith("blocks.")
    )
    first = tower.embed(pictures())
    for (
        name,
        place,
    ) in places.items():  # a tensor of the embedding changes the tokens, one of the pool does not
        if not name.startswith("blocks."):
            tower.get_parameter(name).requires_grad_()
            assert tower.embed(pictures()).requires_grad == (place == 0) and place in (0, n)
            tower.get_parameter(name).requires_grad_(False)
    assert not first.requires_grad


@pytest.mark.parametrize("name", towers.Family)
def test_a_family_is_the_class_that_its_library_defines(name):
    module, _, kind = name.rpartition(".")
    found = getattr(importlib.import_module(module), kind)
    assert f"{found.__module__}.{found.__qualname__}" == name


def test_a_family_has_its_subclasses_and_a_plain_one_runs_as_it_does():
    class Own(timm.models.resnet.ResNet):
        pass

    class Other(timm.models.resnet.ResNet):
        def forward_features(self, x):
            return x

    own, other = object.__new__(Own), object.__new__(Other)
    assert towers.is_a(own, towers.Family.TIMM_RESNET) and towers.is_a(other, towers.Family.TIMM_RESNET)
    assert not towers.is_exactly(own, towers.Family.TIMM_RESNET)
    assert towers.is_plain(own, towers.Family.TIMM_RESNET) and not towers.is_plain(
        other, towers.Family.TIMM_RESNET
    )
    assert not towers.is_a(own, towers.Family.EVA, towers.Family.OPEN_CLIP_RESNET)
