"""The fused module: it computes what the classifier computes, and every format keeps it, tower by tower."""

from __future__ import annotations

import json

import numpy as np
import pytest
import timm
import torch
from open_clip.model import CLIP, CLIPVisionCfg
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from scipy.special import softmax

from causalft.errors import CausalFTError
from causalft.methods.estimators.fusion import FUSIONS, fuse
from causalft.pipelines.export import FusedModel, standalone
from causalft.pipelines.export.formats import run_onnx, write_onnx, write_single_file
from causalft.pipelines.export.write import trace
from tests.methods.small_classifiers import TEXT, Member, classifier, clip_stratum, stratum_of


@pytest.fixture(scope="module")
def two():
    """Two members of one size, with other weights, normalisation and tuner."""
    return {
        "a": Member(clip_stratum("a", mean=0.4, std=0.2), "adaptformer+bias", seed=1),
        "b": Member(clip_stratum("b", seed=2, quick_gelu=True), "ssf", head="layernorm", seed=2),
    }


def by_hand(members, pixels):
    """P(Y|b,c) of each member from uint8 pictures (n, 3, s, s), the way the classifier computes it."""
    found = []
    for member in members.values():
        with torch.no_grad():
            logits = member(member.tokens(member.stratum.normalise(pixels.permute(0, 2, 3, 1))))
        found.append(softmax(logits.double().numpy(), axis=1))
    return np.stack(found)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("prior", [None, (0.8, 0.2), (1.0, 0.0)])
@pytest.mark.parametrize("temperatures", [None, (0.5, 3.0)])
def test_the_module_gives_the_probabilities_of_the_classifier(two, fusion, prior, temperatures):
    model = classifier(two, fusion=fusion, stratum_prior=prior, stratum_temperatures=temperatures)
    fused = FusedModel(model)
    [pixels] = fused.example(4, dtype=torch.uint8)
    wanted = by_hand(two, pixels)
    for pictures in (pixels, pixels.float() / 255):
        probabilities, strata = fused(pictures)
        assert strata.shape == (4, 2, 5)
        assert np.allclose(strata.numpy(), wanted.transpose(1, 0, 2), atol=1e-5)
        assert np.allclose(probabilities.numpy(), model.mixing_(wanted), atol=1e-5)
    assert fused.calibrated and fused.temperature == 0.7


def test_an_adjusted_fusion_weighs_by_class_and_adds_its_offsets(two):
    rng = np.random.default_rng(0)
    weights, offsets = rng.dirichlet(np.ones(2), 5).T, rng.normal(size=(2, 5))
    tables = {"class_weights": weights.tolist(), "offsets": offsets.tolist()}
    model = classifier(two, fusion="adjusted", stratum_temperatures=(0.5, 3.0), **tables)
    fused = FusedModel(model)
    [pixels] = fused.example(4, dtype=torch.uint8)
    wanted = by_hand(two, pixels)
    assert np.allclose(fused(pixels)[0].numpy(), model.mixing_(wanted), atol=1e-5)
    assert not np.allclose(fused(pixels)[0].numpy(), fuse(wanted, fusion="product"), atol=0.01)
    alone = FusedModel(model, ["b"])(pixels)[0].sum(dim=1)
    assert np.allclose(alone.numpy(), 1, atol=1e-5)


def test_subset_of_strata_is_renormalised_and_not_calibrated(two):
    members = {**two, "c": Member(clip_stratum("c", seed=5), seed=5)}
    model = classifier(members, stratum_prior=(0.6, 0.2, 0.2))
    part = FusedModel(model, ["c", "a"])
    assert part.stratum_prior == pytest.approx([0.25, 0.75]) and part.names == ["c", "a"]
    assert part.temperature == 1 and not part.calibrated
    [pixels] = part.example(2, dtype=torch.uint8)
    wanted = by_hand({"c": members["c"], "a": members["a"]}, pixels)
    assert np.allclose(part(pixels)[0].numpy(), fuse(wanted, (0.25, 0.75)), atol=1e-5)
    [alone] = FusedModel(model, ["b"], fused=False)(pixels)
    assert np.allclose(alone[:, 0].numpy(), by_hand({"b": two["b"]}, pixels)[0], atol=1e-5)


def test_unsupported_fusions_are_refused(two):
    model = classifier(two, stratum_prior=(1.0, 0.0))
    with pytest.raises(CausalFTError, match="no stratum 'aa'"):
        FusedModel(model, ["aa"])
    with pytest.raises(CausalFTError, match="P\\(c\\) of b is 0"):
        FusedModel(model, ["b"])
    assert len(FusedModel(model, ["b"], fused=False)(torch.rand(1, 3, 32, 32))) == 1
    with pytest.raises(CausalFTError, match="name each stratum"):
        FusedModel(model, ["a", "a"])
    with pytest.raises(CausalFTError, match="cannot be exported"):
        FusedModel(classifier(two, fusion="vote"))


def test_each_geometry_has_its_own_input():
    members = {
        "small": Member(clip_stratum("small"), seed=1),
        "large": Member(clip_stratum("large", size=48), seed=2),
        "smooth": Member(clip_stratum("smooth", interpolation="bilinear"), seed=3),
        "again": Member(clip_stratum("again", seed=4), seed=4),
    }
    fused = FusedModel(classifier(members))
    assert [(entry.name, entry.strata) for entry in fused.inputs] == [
        ("pictures_32", ["small", "again"]),
        ("pictures_48", ["large"]),
        ("pictures_32_2", ["smooth"]),
    ]
    pictures = fused.example(2, dtype=torch.uint8)
    _, strata = fused(*pictures)
    for number, name in enumerate(members):
        [alone] = by_hand({name: members[name]}, pictures[fused.input_of[number]])
        assert np.allclose(strata[:, number].numpy(), alone, atol=1e-5)
    assert [tuple(p.shape) for p in pictures] == [(2, 3, 32, 32), (2, 3, 48, 48), (2, 3, 32, 32)]


def test_onnx_agrees_for_any_batch_size_and_holds_its_description(two, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    large = clip_stratum("large", size=48)
    fused = FusedModel(classifier({"a": two["a"], "large": Member(large, seed=3)}))
    path = tmp_path / "model.onnx"
    write_onnx(trace(fused, "uint8"), fused, {"causalft": '{"a": "é"}'}, path)
    for n in (1, 3):
        pictures = fused.example(n, dtype=torch.uint8, seed=n)
        for one, other in zip(run_onnx(path, pictures), fused(*pictures), strict=True):
            assert one.shape == other.shape and float((one - other).abs().max()) < 1e-4
    session = onnxruntime.InferenceSession(path)
    assert session.get_modelmeta().custom_metadata_map == {"causalft": '{"a": "é"}'}
    assert [(i.name, i.shape) for i in session.get_inputs()] == [
        ("pictures_32", ["batch", 3, 32, 32]),
        ("pictures_48", ["batch", 3, 48, 48]),
    ]
    assert [(o.name, o.shape) for o in session.get_outputs()] == [
        ("probabilities", ["batch", 5]),
        ("strata", ["batch", 2, 5]),
    ]


def resnet():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vision = CLIPVisionCfg(image_size=64, layers=(1, 1, 1, 1), width=16)
        return stratum_of(CLIP(16, vision, TEXT).eval().requires_grad_(False), "resnet", 64)


class ImageOnly(torch.nn.Module):
    def __init__(self, name, size, **settings):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.visual = timm.create_model(name, num_classes=0, **settings)
        self.eval().requires_grad_(False)


def timm_stratum(name, size=32, **settings):
    return stratum_of(ImageOnly(name, size, **settings), name, size)


TOWERS = {
    "ViT, lora": lambda: Member(clip_stratum("a"), "lora+lora-mlp", head="l2"),
    "pooled ViT, last block": lambda: Member(
        clip_stratum("a", final_ln_after_pool=True, pool_type="avg"), "last-1"
    ),
    "ResNet CLIP, adapter": lambda: Member(resnet(), "adapter", head="linear"),
    "timm ViT": lambda: Member(
        timm_stratum("vit_tiny_patch16_224", img_size=32, depth=2, embed_dim=48, num_heads=2), "adaptformer"
    ),
    "timm ConvNeXt": lambda: Member(timm_stratum("convnext_atto", size=64, depths=(1, 1, 1, 1))),
}


SLOW = {"ViT, vpt-deep": lambda: Member(clip_stratum("a", layers=2), "vpt-deep")}


@pytest.mark.parametrize("tower", [*TOWERS, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_a_single_file_holds_every_tower(tower, tmp_path):
    fused = FusedModel(classifier({"a": {**TOWERS, **SLOW}[tower]()}))
    path = tmp_path / "model.safetensors"
    save(fused, path)
    loaded = standalone.load(path)
    for n in (1, 3):
        pictures = fused.example(n, seed=n)
        for one, other in zip(loaded(*pictures), fused(*pictures), strict=True):
            assert float((one - other).abs().max()) < 1e-5


def save(fused, path, dtype="float"):
    inputs = [entry.document({"float": "float32"}.get(dtype, dtype)) for entry in fused.inputs]
    about = {
        "classes": fused.classes,
        "inputs": inputs,
        "outputs": [{"name": name} for name in fused.outputs],
    }
    about["strata"] = [{"name": name} for name in fused.names]
    write_single_file(trace(fused, dtype), {"causalft": json.dumps(about)}, path)


def test_a_single_file_keeps_shared_tensors_once_and_only_what_is_used(tmp_path):
    stratum = clip_stratum("a")
    members = {"a": Member(stratum, seed=1), "b": Member(stratum, seed=2)}
    save(FusedModel(classifier({"a": members["a"]})), tmp_path / "one.safetensors")
    save(FusedModel(classifier(members)), tmp_path / "two.safetensors")
    one, two = (load_file(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    more = {name: value for name, value in two.items() if name.startswith("members.1.")}
    assert set(more) == {"members.1.head.weight"}  # the backbone is there once
    assert not [name for name in one if "token_embedding" in name or "logit_scale" in name]


@pytest.fixture(scope="module")
def saved(two, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model.safetensors"
    save(FusedModel(classifier({"a": two["a"]})), path)
    return path


def test_the_loader_runs_no_operation_that_it_does_not_know(saved, tmp_path):
    path = saved
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    graph = json.loads(metadata["graph"])

    def tampered(change):
        altered = json.loads(json.dumps(graph))
        change(altered)
        save_file(load_file(path), tmp_path / "x.safetensors", {**metadata, "graph": json.dumps(altered)})
        return standalone.load(tmp_path / "x.safetensors")

    for operation in ("aten.from_file.default", "aten.save.default", "quantized.linear.default"):
        with pytest.raises(ValueError, match="is not one that this loader runs"):
            tampered(lambda found, name=operation: found["steps"][0].__setitem__(1, name))
    model = tampered(lambda found: found["steps"][0][2].append({"torch": "load"}))
    with pytest.raises(ValueError, match="torch.load is no dtype"):
        model(torch.zeros(1, 3, 32, 32))
    with pytest.raises(ValueError, match="this loader reads 1"):
        tampered(lambda found: found.update(format=2))
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="no single-file export"):
        standalone.load(tmp_path / "other.safetensors")


def test_loader_refuses_wrong_inputs(saved):
    model = standalone.load(saved)
    with pytest.raises(ValueError, match=r"must be float32 \(n, 3, 32, 32\), not uint8"):
        model(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"takes \['pictures'\], not 2"):
        model(torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 32))


class Median(Member):
    """A tower with an operation that the loader does not know."""

    def forward(self, tokens):
        return super().forward(tokens) + tokens.flatten(1).median(1).values[:, None] * torch.arange(5)


def test_a_single_file_names_the_operation_that_it_cannot_hold(tmp_path):
    program = trace(FusedModel(classifier({"a": Median(clip_stratum("a"))})))
    with pytest.raises(CausalFTError, match=r"operation aten.median.dim; .* use to='onnx'"):
        write_single_file(program, {}, tmp_path / "model.safetensors")


def test_half_precision_and_untraceable_models_are_refused(two):
    half = Member(clip_stratum("a"))
    half.head.to(torch.bfloat16)
    with pytest.raises(CausalFTError, match="in half precision"):
        trace(FusedModel(classifier({"a": half})))
    with pytest.raises(CausalFTError, match="float or uint8, not 'int'"):
        trace(FusedModel(classifier(two)), "int")

    class Branching(Member):
        def forward(self, tokens):
            return super().forward(tokens) * (2 if tokens.sum() > 0 else 1)

    with pytest.raises(CausalFTError, match="torch.export cannot follow"):
        trace(FusedModel(classifier({"a": Branching(clip_stratum("a"))})))
