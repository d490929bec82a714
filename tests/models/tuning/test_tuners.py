"""Tuners start as the frozen model, train what they say and nothing else, reload and merge."""

from __future__ import annotations

import re

import pytest
import timm
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from safetensors.torch import load_file, save_file
from torch import nn

from causalft.errors import CausalFTError
from causalft.models.strata.mini import MiniConfig, build_mini
from causalft.models.tuning.precision import lower_frozen_layers
from causalft.models.tuning.towers import open_tower
from causalft.models.tuning.tuners import TUNERS, apply_tuner, supported_tuners
from causalft.models.tuning.tuners.adapters import AdaptedMLP

WIDTH, BLOCKS, B = 32, 3, 4
TEXT = CLIPTextCfg(context_length=8, vocab_size=32, width=16, heads=2, layers=1)


def vit():
    config = CLIPVisionCfg(layers=BLOCKS, width=WIDTH, head_width=16, patch_size=8, image_size=32)
    return CLIP(16, config, TEXT).visual


def eva():  # rotary positions, three linear layers for qkv, a gated MLP
    return timm.create_model(
        "eva02_base_patch16_clip_224", num_classes=0, img_size=32, depth=2, embed_dim=WIDTH, num_heads=2
    )


def siglip():
    return timm.create_model(
        "vit_base_patch16_siglip_224", num_classes=0, img_size=32, depth=2, embed_dim=WIDTH, num_heads=2
    )


def clip_resnet():
    return CLIP(16, CLIPVisionCfg(layers=(1, 1, 1, 1), width=8, image_size=32), TEXT).visual


def resnet():
    block = timm.models.resnet.BasicBlock
    return timm.models.resnet.ResNet(
        block, (1, 1, 1, 1), num_classes=0, channels=(8, 16, 24, 32), stem_width=8
    )


BACKBONES = {f.__name__: f for f in (vit, eva, siglip, clip_resnet, resnet)}
VIT = "ssf lora lora-mlp adaptformer adaptformer-scaled adapter bias layernorm last-1 full vpt-shallow vpt-deep".split()
COMPOSED = [
    "adaptformer@last-1",
    "lora@last-2+ssf@last-1",
    "adaptformer+adapter+lora+lora-mlp+ssf+bias+layernorm",
]
RESNET = ["ssf", "adapter", "bias", "batchnorm", "last-1", "full", "adapter@last-2+batchnorm", "ssf+bias"]
CASES = (
    [("vit", spec) for spec in [*VIT, *COMPOSED, "vpt-deep@last-2+bias@last-1", "last-1+bias"]]
    + [("eva", spec) for spec in ("vpt-deep", "vpt-shallow", "last-1", "full", COMPOSED[2])]
    + [("siglip", spec) for spec in ("lora", "vpt-shallow", "ssf", "full")]
    + [("clip_resnet", spec) for spec in RESNET]
    + [("resnet", spec) for spec in ("ssf+bias", "adapter", "full")]
)


def model(name, seed=0):
    """A backbone in which every tensor matters: untrained ones have layers at zero and equal tokens."""
    torch.manual_seed(seed)
    visual = BACKBONES[name]().eval()
    with torch.no_grad():
        for parameter in visual.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return visual


def pictures(n=3, seed=1):
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def features(tower):
    with torch.no_grad():
        return tower(pictures())


def two_steps(tuned):
    """Two steps: what comes after a layer that starts at zero learns from the second on."""
    optimizer = torch.optim.SGD(tuned.parameters(), lr=0.05)
    target = torch.randn(features(tuned.tower).shape, generator=torch.Generator().manual_seed(2))
    for _ in range(2):
        optimizer.zero_grad()
        (tuned.tower(pictures()) - target).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize(("backbone", "spec"), CASES)
def test_tuners_start_frozen_train_their_tensors_reload_and_merge(backbone, spec, tmp_path):
    visual = model(backbone)
    original = {name: value.clone() for name, value in visual.state_dict().items()}
    tower = open_tower(visual)
    frozen = features(tower)
    tuned = apply_tuner(tower, spec, bottleneck=B, seed=11)

    # It starts as the frozen model (prompts do not, by their nature).
    start = features(tower)
    assert torch.allclose(start, frozen, atol=1e-5) != ("vpt" in spec)
    assert {n for n, p in tower.named_parameters() if p.requires_grad} == set(tuned._names)
    assert tuned.n_parameters == sum(p.numel() for p in tower.parameters() if p.requires_grad) > 0
    tower.train()
    assert not any(module.training for module in tower.modules())

    # What is before the first tuned block needs no gradient, what is behind it does.
    cut = tuned.first_tuned_block
    prefix = tower.run(tower.embed(pictures()), stop=cut)
    in_the_embedding = any(n.startswith("visual.") and tower.reaches(n) == 0 for n in tuned._names)
    assert prefix.requires_grad == in_the_embedding
    assert tower.run(prefix, start=cut, stop=cut + 1).requires_grad
    assert torch.equal(tower.pool(tower.run(prefix, start=cut)).detach(), start)

    # Two steps change what is declared, each of it, and nothing else.
    before = {name: value.clone() for name, value in tower.state_dict().items()}
    two_steps(tuned)
    after = tower.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    # The bias of keys shifts all logits of a query alike: the softmax gives it no gradient but round-off.
    assert changed - {"visual.attnpool.k_proj.bias"} == set(tuned._names) - {"visual.attnpool.k_proj.bias"}
    assert all(torch.equal(value, original[name]) for name, value in visual.state_dict().items())

    # It comes back from a file.
    save_file(tuned.state(), tmp_path / "tuned.safetensors")
    again = apply_tuner(open_tower(visual), spec, bottleneck=B, seed=8)
    again.load(load_file(tmp_path / "tuned.safetensors"))
    learnt = features(tower)
    assert torch.equal(features(again.tower), learnt) and not torch.allclose(learnt, start, atol=1e-4)

    # And it folds away, where it can, without a trace in the original.
    left = tuned.merge()
    assert torch.allclose(features(tower), learnt, rtol=1e-4, atol=1e-5)
    assert left == tuple(choice.name for choice in tuned.choices if TUNERS[choice.name].stays)
    if not left:
        assert set(tower.state_dict()) <= set(open_tower(visual).state_dict()) | {
            n for n in tower.state_dict() if n.endswith("bias")
        }
    assert all(torch.equal(value, original[name]) for name, value in visual.state_dict().items())
    assert not tuned.parameters()
    with pytest.raises(CausalFTError, match="was merged into the tower"):
        tuned.state()


W = WIDTH
COUNTS = {
    "zero-shot": 0,
    "linear-probe": 0,
    "adaptformer": BLOCKS * (2 * W * B + B + W),
    "adaptformer@last-2": 2 * (2 * W * B + B + W),
    "adaptformer-scaled": BLOCKS * (2 * W * B + B + W + 1),
    "adapter": BLOCKS * (2 * W * B + B + W),
    "lora": BLOCKS * B * (W + 3 * W + W + W),
    "lora-mlp": BLOCKS * B * 2 * (W + 4 * W),
    "vpt-shallow": 10 * W,
    "vpt-shallow@last-2": 10 * W,
    "vpt-deep": BLOCKS * 10 * W,
    "vpt-deep@last-1": 10 * W,
    "bias": BLOCKS * (3 * W + W + 4 * W + W + 2 * W) + 2 * W,
    "bias@last-1": 3 * W + W + 4 * W + W + 2 * W,
    "layernorm": BLOCKS * 4 * W + 4 * W,
    "bias+layernorm": BLOCKS * (11 * W + 2 * W) + 4 * W,
    "ssf": BLOCKS * 2 * (3 * W + W + 4 * W + W + 2 * W) + 2 * (W + 2 * W),
    "last-2": 2 * (12 * W * W + 13 * W),
    "full": BLOCKS * (12 * W * W + 13 * W) + 3 * 64 * W + W + 17 * W + 4 * W + 16 * W,
}


@pytest.mark.parametrize("spec", COUNTS)
def test_how_much_a_tuner_trains(spec):
    tuned = apply_tuner(open_tower(model("vit")), spec, bottleneck=B, seed=0)
    assert tuned.n_parameters == COUNTS[spec]
    last = re.search(r"last-(\d)", spec)
    assert tuned.first_tuned_block == (BLOCKS - int(last[1]) if last else 0 if COUNTS[spec] else BLOCKS)
    assert tuned.trains_head == (spec != "zero-shot")


def test_how_much_a_tuner_trains_in_a_resnet():
    counts = {
        spec: apply_tuner(open_tower(model("clip_resnet")), spec, bottleneck=B, seed=0).n_parameters
        for spec in ("batchnorm", "adapter", "adapter@last-1", "full")
    }
    visual = model("clip_resnet")
    norms = [m for m in visual.modules() if isinstance(m, nn.BatchNorm2d)]
    assert counts["batchnorm"] == 2 * sum(norm.num_features for norm in norms)
    widths = (32, 64, 128, 256)
    assert counts["adapter"] == sum(2 * w * B + B + w for w in widths)
    assert counts["adapter@last-1"] == 2 * 256 * B + B + 256
    assert counts["full"] == sum(p.numel() for p in visual.parameters())


def test_spec_order_does_not_matter_and_seed_fixes_the_start():
    first = apply_tuner(open_tower(model("vit")), "bias+lora+adaptformer", bottleneck=B, seed=3)
    state = torch.random.get_rng_state()
    second = apply_tuner(open_tower(model("vit")), "adaptformer + LoRA + bias", bottleneck=B, seed=3)
    assert torch.equal(state, torch.random.get_rng_state())
    other = apply_tuner(open_tower(model("vit")), "lora+adaptformer+bias", bottleneck=B, seed=4)
    assert first.spec == second.spec == "lora+adaptformer+bias"
    ours, theirs, different = first.state(), second.state(), other.state()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert any(not torch.equal(value, different[name]) for name, value in ours.items())


def test_adaptformer_reads_tensors_of_the_first_runs():
    visual = model("vit").requires_grad_(False)
    tuned = apply_tuner(open_tower(visual), "adaptformer", bottleneck=B, seed=5)
    with torch.random.fork_rng(
        devices=[]
    ):  # how the first runs were made, and what they called their tensors
        torch.manual_seed(5)
        for block in visual.transformer.resblocks:
            block.mlp = AdaptedMLP(block.mlp, WIDTH, B)
    old = {
        f"blocks.{number}.{part}.{name}": value
        for number, block in enumerate(visual.transformer.resblocks)
        for part in ("down", "up")
        for name, value in getattr(block.mlp, part).named_parameters()
    }
    new = tuned.state()
    assert list(old) == list(new) and all(torch.equal(old[name], new[name]) for name in old)
    with torch.no_grad():
        for value in old.values():
            value.add_(0.1 * torch.randn_like(value))
        tuned.load(old)
        assert torch.allclose(tuned.tower(pictures()), visual(pictures()), atol=1e-5)


def test_deep_prompts_are_tokens_beside_the_patches():
    tower = open_tower(model("vit"))
    tokens = torch.randn(2, 17, WIDTH, generator=torch.Generator().manual_seed(0))
    plain = open_tower(model("vit"))
    tuned = apply_tuner(tower, "vpt-deep", bottleneck=B, seed=0)
    (prompts,) = tuned.parameters()
    limit = (6 / (3 * 8 * 8 + WIDTH)) ** 0.5
    assert prompts.shape == (BLOCKS, 10, WIDTH)
    assert 0.9 * limit < prompts.abs().max() <= limit
    x = tokens
    for number in range(BLOCKS):
        x = plain.run(
            torch.cat([x, prompts[number].expand(2, -1, -1)], dim=1), start=number, stop=number + 1
        )[:, :17]
    assert x.shape == (2, 1, WIDTH)  # without prompts inside, the last block gives the class token alone
    assert torch.allclose(tower.run(tokens)[:, :1], x, atol=1e-5)


def test_mismatched_state_is_refused_without_changes():
    tuned = apply_tuner(open_tower(model("vit")), "adaptformer", bottleneck=B, seed=0)
    before = tuned.state()
    wider = apply_tuner(open_tower(model("vit")), "adaptformer", bottleneck=8, seed=0).state()
    with pytest.raises(
        CausalFTError, match=r"have blocks\.0\.down\.weight of shape \(8, 32\) and not \(4, 32\)"
    ):
        tuned.load(wider)
    with pytest.raises(CausalFTError, match=r"lack the tensor blocks\.2\.up\.bias"):
        tuned.load({name: torch.ones_like(v) for name, v in before.items() if name != "blocks.2.up.bias"})
    with pytest.raises(CausalFTError, match="hold the tensor extra, which is not trained here"):
        tuned.load({**{name: torch.ones_like(v) for name, v in before.items()}, "extra": torch.ones(1)})
    assert all(torch.equal(value, before[name]) for name, value in tuned.state().items())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("adaptfomer", "unknown tuner 'adaptfomer': did you mean 'adaptformer'"),
        ("lora+biass", "unknown tuner 'biass' in 'lora\\+biass': did you mean 'bias'"),
        ("", "unknown tuner ''"),
        ("last-K", "unknown tuner 'last-k'"),
        ("last-0", "unknown tuner 'last-0': did you mean 'last-K'"),
        ("lora@4", "after '@' write last-K"),
        ("lora+lora@last-1", "names 'lora' twice"),
        ("full+bias", "full trains the whole tower already; give it alone"),
        ("zero-shot+lora", "zero-shot leaves the tower frozen; give it alone"),
        ("full@last-2", "write last-2"),
        ("vpt-deep+vpt-shallow", "choose one of them"),
        ("adaptformer-scaled+adaptformer", "one bottleneck, .*; choose one of them"),
        ("last-4", "'last-4': this image tower has only 3 blocks"),
        ("adapter@last-9", "'adapter@last-9': this image tower has only 3 blocks"),
        (
            "batchnorm",
            r"not defined for this image tower \(open_clip ViT\); it supports adapter, adaptformer",
        ),
    ],
)
def test_invalid_tuner_specs_are_refused_in_one_line(spec, message):
    with pytest.raises(CausalFTError, match=message) as caught:
        apply_tuner(open_tower(model("vit")), spec, bottleneck=B, seed=0)
    assert "\n" not in str(caught.value)


def test_invalid_bottleneck_and_tuned_tower_are_refused():
    with pytest.raises(CausalFTError, match="a bottleneck of 0 holds nothing"):
        apply_tuner(open_tower(model("vit")), "lora", bottleneck=0, seed=0)
    tower = apply_tuner(open_tower(model("vit")), "lora", bottleneck=1, seed=0).tower
    with pytest.raises(CausalFTError, match="tuned already"):
        apply_tuner(tower, "bias", bottleneck=1, seed=0)


@pytest.mark.parametrize("spec", ["lora", "ssf"])
def test_merging_into_bf16_layers_is_refused(spec):
    tuned = apply_tuner(open_tower(model("vit")), spec, bottleneck=B, seed=0)
    lower_frozen_layers(tuned.tower)
    with pytest.raises(CausalFTError, match="cannot be merged into layers that were rounded to bf16"):
        tuned.merge()


def test_what_each_kind_of_backbone_supports():
    everything = set(TUNERS)
    assert set(supported_tuners(open_tower(model("vit")))) == everything - {"batchnorm"}
    assert set(supported_tuners(open_tower(model("eva")))) == everything - {"batchnorm"}
    assert (
        set(supported_tuners(open_tower(build_mini(MiniConfig()).visual))) == everything
    )  # its stem has batch norms
    resnets = everything - {name for name in TUNERS if TUNERS[name].towers == "ViT"} - {"layernorm"}
    assert set(supported_tuners(open_tower(model("resnet")))) == resnets
    convnext = open_tower(timm.create_model("convnext_atto", num_classes=0))
    assert supported_tuners(convnext) == ["bias", "full", "layernorm", "linear-probe", "zero-shot"]
    with pytest.raises(
        CausalFTError, match=r"image tower \(ResNet\); it supports adapter, batchnorm, bias, full"
    ):
        apply_tuner(open_tower(model("resnet")), "lora", bottleneck=B, seed=0)


VIT_B_16 = {
    "zero-shot": 0,
    "linear-probe": 0,
    "ssf": 207_360,
    "lora": 1_769_472,
    "lora-mlp": 2_949_120,
    "adaptformer": 599_424,
    "adaptformer-scaled": 599_436,
    "adapter": 599_424,
    "vpt-shallow": 7_680,
    "vpt-deep": 92_160,
    "bias": 102_912,
    "layernorm": 39_936,
    "batchnorm": 0,
    "last-K": 7_087_872,
    "full": 86_192_640,
}


def test_documented_parameter_counts_of_a_vit_b_16(tables):
    page = tables.tuners()
    rows = dict(re.findall(r"^\| `([^`]+)` \|.*?\| ([\d,]+) \|", page, flags=re.M))
    assert list(rows) == list(TUNERS)
    assert {name: int(rows[name].replace(",", "")) for name in VIT_B_16} == VIT_B_16
    for name, number in rows.items():
        assert int(number.replace(",", "")) * 4 < 10e6 or name in ("full", "lora-mlp", "last-K"), name
