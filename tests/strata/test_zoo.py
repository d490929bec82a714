"""Zoos: a name loads the weights that belong to it, checked, from a file or the cache, and never something else."""

from __future__ import annotations

import json
import shutil

import huggingface_hub
import open_clip
import open_clip.pretrained
import pytest
import torch
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from PIL import Image
from safetensors.torch import load_file, save_file

from causalft.errors import CausalFTError
from causalft.strata.cards import ModelCard, sha256_file
from causalft.strata.zoo import PRETRAINED, MiniZoo, PretrainedZoo, open_zoo

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def tiny_architecture(tmp_path_factory):
    """An open_clip architecture small enough for tests, and a file of its weights."""
    folder = tmp_path_factory.mktemp("architecture")
    (folder / "tiny-clip.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(folder / "tiny-clip.json")
    torch.manual_seed(0)
    model = open_clip.create_model("tiny-clip", load_weights=False)
    save_file(model.state_dict(), folder / "tiny.safetensors")
    yield folder / "tiny.safetensors"
    open_clip.factory._MODEL_CONFIGS.pop("tiny-clip")


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*arguments, **_):
        raise AssertionError(f"asked the network for {arguments}")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)


# --- minis -------------------------------------------------------------------------------------------------------


def test_a_mini_comes_with_its_card_and_frozen(tiny_zoo):
    zoo = open_zoo(tiny_zoo)
    assert zoo.names() == ["clip", "clip@1", "metaclip", "openclip"]
    stratum = zoo.load("openclip")
    assert stratum.sha256 == sha256_file(tiny_zoo / "openclip.safetensors") == stratum.card.sha256
    assert not stratum.model.training and not any(p.requires_grad for p in stratum.model.parameters())
    assert "openclip" in repr(stratum) and stratum.sha256[:12] in repr(stratum)
    crop = stratum.crop(Image.new("L", (40, 20), 7))
    assert crop.shape == (16, 16, 3) and (crop == 7).all()
    features = stratum.image_features(torch.from_numpy(crop.copy())[None])
    assert features.norm(dim=1).item() == pytest.approx(1, abs=1e-5)
    text = stratum.text_features(stratum.card.class_names)
    assert text.shape == (4, 16) and torch.allclose(text.norm(dim=1), torch.ones(4), atol=1e-5)
    with pytest.raises(CausalFTError, match="no {} for the class name"):
        stratum.text_features(["ant"], "a photo")
    with pytest.raises(CausalFTError, match="never saw the word 'zebra'"):
        stratum.text_features(["zebra"])


def test_batches_do_not_change_features(tiny_zoo):
    stratum = open_zoo(tiny_zoo).load("clip")
    pixels = torch.randint(0, 256, (7, 16, 16, 3), generator=torch.Generator().manual_seed(0)).byte()
    whole, parts = stratum.image_features(pixels), stratum.image_features(pixels, batch_size=3)
    assert torch.allclose(whole, parts, atol=1e-6)


@pytest.fixture
def copied_zoo(tiny_zoo, tmp_path):
    return shutil.copytree(tiny_zoo, tmp_path / "copied")


def test_a_changed_or_cut_file_is_refused(copied_zoo):
    weights = copied_zoo / "clip.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(CausalFTError, match=r"clip\.safetensors is not the file of its card"):
        MiniZoo(copied_zoo, "copied").load("clip")


def test_weights_of_another_architecture_are_refused(copied_zoo):
    card = json.loads((copied_zoo / "clip.json").read_text())
    for change in ({"width": 48}, {"depth": 3}):
        edited = card | {"architecture": card["architecture"] | change}
        (copied_zoo / "clip.json").write_text(json.dumps(edited))
        with pytest.raises(CausalFTError, match="does not have the architecture of its card"):
            MiniZoo(copied_zoo, "copied").load("clip")


def test_a_card_that_lacks_something_is_refused_by_name(copied_zoo):
    card = json.loads((copied_zoo / "clip.json").read_text())
    del card["prior"]
    (copied_zoo / "clip.json").write_text(json.dumps(card))
    with pytest.raises(CausalFTError, match=r"clip\.json is not the card of a mini model \(missing: prior\)"):
        MiniZoo(copied_zoo, "copied").card("clip")
    (copied_zoo / "clip.json").write_text("[1, 2]")
    with pytest.raises(CausalFTError, match="is not the card of a mini model"):
        MiniZoo(copied_zoo, "copied").card("clip")


def test_a_card_survives_the_disk(tiny_zoo, tmp_path):
    card = ModelCard.read(tiny_zoo / "clip.json")
    assert ModelCard.read(card.write(tmp_path / "again.json")) == card


def test_unknown_names_and_zoos(tiny_zoo, tmp_path):
    with pytest.raises(CausalFTError, match="has no stratum 'opnclip'; did you mean 'openclip'"):
        open_zoo(tiny_zoo).load("opnclip")
    with pytest.raises(CausalFTError, match="use mini, pretrained, or a folder"):
        open_zoo(tmp_path / "gone")
    with pytest.raises(CausalFTError, match="holds no mini models"):
        open_zoo(tmp_path)
    with pytest.raises(CausalFTError, match="--weights goes with --zoo pretrained"):
        open_zoo("mini", {"clip": "a.safetensors"})
    with pytest.raises(CausalFTError, match="--weights goes with --zoo pretrained"):
        open_zoo(tiny_zoo, {"clip": "a.safetensors"})


def test_a_package_without_its_minis_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("causalft.strata.zoo.mini_folder", lambda: tmp_path)
    with pytest.raises(CausalFTError, match="minis of the package are not installed"):
        open_zoo("mini")


# --- real weights ------------------------------------------------------------------------------------------------


def test_the_three_strata_of_the_paper_are_known_to_open_clip():
    zoo = open_zoo("pretrained")
    assert zoo.names() == ["clip", "openclip", "metaclip"]
    for name in zoo.names():
        architecture, tag = zoo.resolve(name)
        settings = open_clip.pretrained.get_pretrained_cfg(architecture, tag)
        assert settings, f"open_clip has no {architecture}/{tag}"
        # The activation belongs to the weights: OpenAI's and MetaCLIP's were trained with quick-GELU, LAION's not.
        assert bool(settings.get("quick_gelu")) == ("quickgelu" in architecture) == (name != "openclip")


def test_a_local_file_is_loaded_whole_and_without_a_network(tiny_architecture, no_network):
    zoo = PretrainedZoo({"tiny-clip/mine": tiny_architecture})
    stratum = zoo.load("tiny-clip/mine")
    assert stratum.source == "open_clip tiny-clip/mine"
    assert stratum.sha256 == sha256_file(tiny_architecture)
    assert stratum.image_size == 16 and stratum.mean == pytest.approx(open_clip.OPENAI_DATASET_MEAN)
    expected = load_file(tiny_architecture)
    found = stratum.model.state_dict()
    assert expected.keys() == found.keys() and all(torch.equal(expected[k], found[k]) for k in expected)
    assert stratum.text_features(["lynx", "fire_truck"]).shape == (2, 16)
    assert stratum.image_features(torch.zeros(1, 16, 16, 3, dtype=torch.uint8)).shape == (1, 16)


def test_the_name_of_a_stratum_takes_its_architecture_and_tag_from_the_table(
    tiny_architecture, no_network, monkeypatch
):
    monkeypatch.setitem(PRETRAINED, "openclip", ("tiny-clip", "laion"))
    assert (
        PretrainedZoo({"openclip": tiny_architecture}).load("openclip").source == "open_clip tiny-clip/laion"
    )


def known_tag(monkeypatch, **settings):
    """Make open_clip know the weights tiny-clip/made."""
    known = open_clip.pretrained.get_pretrained_cfg
    tags = open_clip.list_pretrained_tags_by_model

    def find(architecture, tag):
        return settings if (architecture, tag) == ("tiny-clip", "made") else known(architecture, tag)

    monkeypatch.setattr(open_clip.pretrained, "get_pretrained_cfg", find)
    monkeypatch.setattr(
        open_clip,
        "list_pretrained_tags_by_model",
        lambda model: ["made"] if model == "tiny-clip" else tags(model),
    )


@pytest.mark.parametrize("quick_gelu", [True, False])
def test_the_activation_and_the_normalisation_belong_to_the_tag(
    tiny_architecture, no_network, monkeypatch, quick_gelu
):
    known_tag(
        monkeypatch,
        quick_gelu=quick_gelu,
        mean=(0.1, 0.2, 0.3),
        std=(0.5, 0.5, 0.5),
        interpolation="bilinear",
    )
    stratum = PretrainedZoo({"tiny-clip/made": tiny_architecture}).load("tiny-clip/made")
    activation = type(stratum.model.visual.transformer.resblocks[0].mlp.gelu).__name__
    assert activation == ("QuickGELU" if quick_gelu else "GELU")
    assert stratum.mean == (0.1, 0.2, 0.3)
    grey = torch.full((1, 16, 16, 3), 51, dtype=torch.uint8)
    assert stratum.normalise(grey)[0, :, 0, 0].tolist() == pytest.approx([0.2, 0.0, -0.2], abs=1e-6)


def hub_cache(root, repository, filename, source):
    """A Hugging Face hub cache with one file in it."""
    folder = root / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / "abc123"
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc123")
    shutil.copy(source, snapshot / filename)
    return root


@pytest.mark.parametrize("hub", ["maker/tiny/", "maker/tiny/special.safetensors"])
def test_the_cache_is_read_before_any_network(tiny_architecture, no_network, monkeypatch, tmp_path, hub):
    known_tag(monkeypatch, hf_hub=hub)
    filename = hub.rpartition("/")[2] or "open_clip_model.safetensors"
    cache = hub_cache(tmp_path, "maker/tiny", filename, tiny_architecture)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    stratum = PretrainedZoo().load("tiny-clip/made")
    assert stratum.sha256 == sha256_file(tiny_architecture)


def test_missing_weights_are_one_clear_error_and_one_question_to_the_network(
    tiny_architecture, monkeypatch, tmp_path
):
    known_tag(monkeypatch, hf_hub="maker/tiny/")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    asked = []

    def offline(repository, filename):
        asked.append(filename)
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(
        CausalFTError, match=r"'tiny-clip/made' \(maker/tiny\) are not in the hub cache.*--weights"
    ):
        PretrainedZoo().load("tiny-clip/made")
    assert asked == ["open_clip_model.safetensors"]


def test_the_next_file_name_is_tried_when_the_repository_lacks_one(tiny_architecture, monkeypatch, tmp_path):
    known_tag(monkeypatch, hf_hub="maker/tiny/")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))

    def hub(repository, filename):
        if filename != "open_clip_pytorch_model.safetensors":
            raise EntryNotFoundError("404")
        return str(tiny_architecture)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hub)
    assert PretrainedZoo().load("tiny-clip/made").sha256 == sha256_file(tiny_architecture)


def test_a_full_disk_while_fetching_is_not_called_a_missing_file(tiny_architecture, monkeypatch, tmp_path):
    known_tag(monkeypatch, hf_hub="maker/tiny/")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", full)
    with pytest.raises(OSError, match="No space left"):
        PretrainedZoo().load("tiny-clip/made")


def test_weights_without_a_hub_address_ask_for_a_file(tiny_architecture, monkeypatch):
    known_tag(monkeypatch)
    with pytest.raises(CausalFTError, match="not on the hub; give a file with --weights tiny-clip/made=FILE"):
        PretrainedZoo().load("tiny-clip/made")


def test_wrong_files_are_one_clear_error(tiny_architecture, tmp_path):
    tensors = load_file(tiny_architecture)
    first = next(iter(tensors))
    save_file({k: v for k, v in tensors.items() if k != first}, tmp_path / "lacks.safetensors")
    save_file(tensors | {first: torch.zeros(3)}, tmp_path / "shape.safetensors")
    (tmp_path / "noise.safetensors").write_bytes(b"not weights at all")
    (tmp_path / "noise.pt").write_bytes(b"not weights at all")
    for file in sorted(tmp_path.iterdir()):
        with pytest.raises(CausalFTError, match=rf"{file.name} do not fit tiny-clip") as caught:
            PretrainedZoo({"tiny-clip/mine": file}).load("tiny-clip/mine")
        assert "\n" not in str(caught.value)
    with pytest.raises(CausalFTError, match="gone.safetensors does not exist"):
        PretrainedZoo({"tiny-clip/mine": tmp_path / "gone.safetensors"}).check("tiny-clip/mine")


def test_a_pickle_with_code_in_it_is_not_run(tiny_architecture, tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    torch.save({"state_dict": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(CausalFTError, match="do not fit"):
        PretrainedZoo({"tiny-clip/mine": tmp_path / "trap.pt"}).load("tiny-clip/mine")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("opnclip", "has no stratum 'opnclip'; did you mean 'openclip'"),
        ("ViT-B-61/openai", r"no architecture 'ViT-B-61'; did you mean 'ViT-B-16'"),
        ("ViT-B-16/opanai", r"ViT-B-16 has no weights 'opanai'; did you mean 'openai'"),
    ],
)
def test_wrong_names_offer_the_nearest(name, message):
    with pytest.raises(CausalFTError, match=message):
        PretrainedZoo().check(name)
