"""Pretrained strata load all their weights, with their transform, or say why not."""

from __future__ import annotations

import huggingface_hub
import numpy as np
import open_clip
import pytest
import timm
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import load_file, save_file

from causalft.errors import CausalFTError
from causalft.models.strata.cards import sha256_file
from causalft.models.strata.zoo import PRETRAINED, PretrainedZoo, open_zoo

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8))


def load(name, file=None, **options):
    return PretrainedZoo({} if file is None else {name: file}, **options).load(name)


def refused(name, file=None, **options):
    with pytest.raises(CausalFTError) as caught:
        load(name, file, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- what a name loads ---------------------------------------------------------------------------------------------


def test_the_three_strata_of_the_paper_are_known_to_open_clip():
    zoo = open_zoo("pretrained")
    assert zoo.names() == ["clip", "openclip", "metaclip"]
    for name in zoo.names():
        architecture, tag = zoo.resolve(name)
        settings = open_clip.pretrained.get_pretrained_cfg(architecture, tag)
        assert settings, f"open_clip has no {architecture}/{tag}"
        # The activation belongs to the weights: OpenAI's and MetaCLIP's were trained with quick-GELU, LAION's not.
        assert bool(settings.get("quick_gelu")) == ("quickgelu" in architecture) == (name != "openclip")


def test_every_open_clip_tag_resolves_to_a_safetensors_candidate():
    zoo = PretrainedZoo()
    for architecture, tag in open_clip.list_pretrained():
        what = zoo.describe(f"{architecture}/{tag}")
        assert what.repository and what.safe_filenames
        squash = open_clip.pretrained.get_pretrained_cfg(architecture, tag)["resize_mode"] == "squash"
        assert (what.settings["resize_mode"] == "squash") == squash
    assert zoo.describe("ViT-B-16-SigLIP/webli").tokenizer_repository == "timm/ViT-B-16-SigLIP"
    assert zoo.describe("ViT-B-16/LAION2B-s34b-b88k").full_name == zoo.describe("openclip").full_name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("opnclip", "has no stratum 'opnclip'; did you mean 'openclip'"),
        ("ViT-B-16", r"'ViT-B-16' is an architecture; say which weights, as in ViT-B-16/openai"),
        ("ViT-B-61/openai", r"no architecture 'ViT-B-61'; did you mean 'ViT-B-16'"),
        ("ViT-B-16/opanai", r"ViT-B-16 has no weights 'opanai'; did you mean 'openai'"),
        ("hf-hub:maker/model", r"no architecture 'hf-hub:maker'"),
        ("resnet50", r"did you mean 'timm:resnet50'"),
        ("timm:resnet5", r"timm has no model 'resnet5'; did you mean 'resnet50'"),
        ("timm:resnet50.a1_in2k", r"timm's resnet50 has no weights 'a1_in2k'; did you mean 'a1_in1k'"),
        (
            "timm:vit_huge_patch16_gap_448.in1k_ijepa",
            r"no weights .* on the hub; give a file with weights timm:vit_",
        ),
    ],
)
def test_wrong_names_offer_the_nearest(name, message):
    with pytest.raises(CausalFTError, match=message):
        PretrainedZoo().check(name)


def test_local_file_loads_completely_without_network(tiny_files, empty_places, no_network):
    file = tiny_files["tiny-vit"]
    stratum = load("tiny-vit/mine", file)
    assert stratum.source == "open_clip tiny-vit/mine" and stratum.sha256 == sha256_file(file)
    assert stratum.image_size == 16 and stratum.mean == pytest.approx(open_clip.OPENAI_DATASET_MEAN)
    expected, found = load_file(file), stratum.model.state_dict()
    assert expected.keys() == found.keys() and all(torch.equal(expected[k], found[k]) for k in expected)
    assert stratum.visual is stratum.model.visual and stratum.has_text
    assert stratum.text_features(["lynx", "fire_truck"]).shape == (2, 16)


def test_short_names_resolve_to_architecture_and_tag(tiny_files, monkeypatch):
    monkeypatch.setitem(PRETRAINED, "openclip", ("tiny-vit", "laion"))
    assert load("openclip", tiny_files["tiny-vit"]).source == "open_clip tiny-vit/laion"


# --- what belongs to the weights -----------------------------------------------------------------------------------


@pytest.mark.parametrize("quick_gelu", [True, False])
def test_activation_and_normalisation_follow_the_tag(tiny_files, known_tag, quick_gelu):
    known_tag(quick_gelu=quick_gelu, mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.5), interpolation="bilinear")
    stratum = load("tiny-vit/made", tiny_files["tiny-vit"])
    assert stratum.activation == ("quick_gelu" if quick_gelu else "gelu")
    assert stratum.mean == (0.1, 0.2, 0.3) and stratum.interpolation == "bilinear"
    grey = torch.full((1, 16, 16, 3), 51, dtype=torch.uint8)
    assert stratum.normalise(grey)[0, :, 0, 0].tolist() == pytest.approx([0.2, 0.0, -0.2], abs=1e-6)


@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_images_are_resized_as_in_training(tiny_files, known_tag, resize_mode, interpolation):
    known_tag(resize_mode=resize_mode, interpolation=interpolation)
    stratum = load("tiny-vit/made", tiny_files["tiny-vit"])
    cfg = PreprocessCfg(size=16, resize_mode=resize_mode, interpolation=interpolation)
    expected = image_transform_v2(cfg, is_train=False)(PICTURE)
    found = stratum.normalise(torch.from_numpy(stratum.crop(PICTURE).copy())[None])[0]
    assert stratum.resize_mode == resize_mode and torch.allclose(found, expected, atol=1e-6)


def test_own_weights_use_settings_common_to_the_architecture(tiny_files, known_tag):
    known_tag(resize_mode="squash", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    stratum = load("tiny-vit/fine-tuned", tiny_files["tiny-vit"])
    assert stratum.resize_mode == "squash" and stratum.mean == (0.5, 0.5, 0.5)


def test_clip_resnet_features_equal_open_clip(tiny_files, no_network):
    stratum = load("tiny-resnet/mine", tiny_files["tiny-resnet"])
    model = open_clip.create_model("tiny-resnet", load_weights=False).eval()
    model.load_state_dict(load_file(tiny_files["tiny-resnet"]))
    pixels = torch.from_numpy(stratum.crop(PICTURE).copy())[None]
    with torch.no_grad():
        expected = model.encode_image(stratum.normalise(pixels), normalize=True)
    assert stratum.activation == "relu" and torch.allclose(
        stratum.image_features(pixels), expected, atol=1e-6
    )


def test_siglip_with_timm_tower_loads_its_tokenizer(
    tiny_files, known_tag, empty_places, no_network, fill_cache, words_tokenizer
):
    known_tag("tiny-sigmoid", resize_mode="squash", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    stratum = load("tiny-sigmoid/made", tiny_files["tiny-sigmoid"])
    assert stratum.resize_mode == "squash" and stratum.has_text
    # The files of the tokenizer are wanted only when texts are.
    assert stratum.image_features(torch.zeros(1, 160, 160, 3, dtype=torch.uint8)).shape == (1, 64)
    offline = load("tiny-sigmoid/made", tiny_files["tiny-sigmoid"], offline=True)
    with pytest.raises(
        CausalFTError, match=r"tokenizer of 'tiny-sigmoid/made' is not here: maker/tiny-words, tokenizer.json"
    ):
        offline.text_features(["cat"])
    for name, file in words_tokenizer.items():
        fill_cache(empty_places, "maker/tiny-words", name, file)
    assert stratum.tokenizer(["a photo of a cat."]).tolist() == [[2, 3, 4, 2, 5, 7, 0, 0]]
    text = stratum.text_features(["cat", "dog"])
    assert text.shape == (2, 64) and not torch.allclose(text[0], text[1])
    # A sigmoid loss does not clamp its temperature.
    stratum.model.logit_scale.fill_(5.0)
    assert stratum.logit_scale == pytest.approx(148.41, abs=0.01)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """A file of a small backbone of timm, with its classifier."""
    torch.manual_seed(0)
    model = timm.create_model("test_vit.r160_in1k", pretrained=False)
    file = tmp_path_factory.mktemp("timm") / "model.safetensors"
    save_file(model.state_dict(), file)
    return model.eval(), file


def test_timm_backbone_gives_pooled_features_without_text(backbone, empty_places, no_network, fill_cache):
    model, file = backbone
    fill_cache(empty_places, "timm/test_vit.r160_in1k", "model.safetensors", file)
    stratum = load("timm:test_vit.r160_in1k")
    assert stratum.source == "timm test_vit.r160_in1k" and stratum.sha256 == sha256_file(file)
    assert stratum.visual is stratum.model.visual and not stratum.has_text
    assert stratum.pretraining_loss == "no captions"
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    with torch.no_grad():
        pooled = model.forward_head(model.forward_features(transform(PICTURE)[None]), pre_logits=True)
    found = stratum.image_features(torch.from_numpy(stratum.crop(PICTURE).copy())[None])
    assert torch.allclose(found, torch.nn.functional.normalize(pooled, dim=-1), atol=1e-5)
    for ask in (lambda: stratum.text_features(["cat"]), lambda: stratum.logit_scale):
        with pytest.raises(
            CausalFTError, match="no text tower.*head_start='class-mean' or head_start='linear-probe'"
        ):
            ask()


def test_timm_weights_load_with_or_without_a_classifier(backbone, tmp_path):
    model, file = backbone
    tensors = {name: value for name, value in load_file(file).items() if not name.startswith("head.")}
    save_file(tensors, tmp_path / "headless.safetensors")
    save_file(
        {**tensors, "head.weight": torch.zeros(7, 64), "head.bias": torch.zeros(7)},
        tmp_path / "seven.safetensors",
    )
    for name in ("headless", "seven"):
        stratum = load("timm:test_vit.mine", tmp_path / f"{name}.safetensors")
        assert torch.equal(stratum.visual.norm.weight, model.norm.weight)
    del tensors["norm.bias"]
    save_file(tensors, tmp_path / "lacks.safetensors")
    assert "do not fit test_vit: it lacks norm.bias" in refused(
        "timm:test_vit.mine", tmp_path / "lacks.safetensors"
    )


def test_one_zoo_holds_strata_of_different_architectures_and_sizes(tiny_files, backbone):
    zoo = PretrainedZoo(
        {
            "tiny-vit/a": tiny_files["tiny-vit"],
            "tiny-resnet/b": tiny_files["tiny-resnet"],
            "timm:test_vit.c": backbone[1],
        }
    )
    sizes = []
    for name in zoo.weights:
        stratum = zoo.load(name)
        sizes.append(stratum.image_size)
        assert stratum.image_features(torch.from_numpy(stratum.crop(PICTURE).copy())[None]).isfinite().all()
    assert sizes == [16, 32, 160]


# --- all of the weights, and nothing else --------------------------------------------------------------------------


def test_mismatched_weights_name_the_first_tensor_and_both_shapes(tiny_files):
    said = refused("tiny-vit/mine", tiny_files["tiny-wide"])
    assert "tiny-wide.safetensors do not fit tiny-vit: " in said
    assert "; give weights of this architecture, or the name that the file goes with" in said
    wanted, found = load_file(tiny_files["tiny-vit"]), load_file(tiny_files["tiny-wide"])
    model = open_clip.create_model("tiny-vit", load_weights=False)
    first = next(name for name in model.state_dict() if wanted[name].shape != found[name].shape)
    shapes = [str(tuple(tensors[first].shape)) for tensors in (found, wanted)]
    assert f"{first} is {shapes[0]} in the file and {shapes[1]} in the model" in said
    other = refused("tiny-vit/mine", tiny_files["tiny-resnet"])
    assert "it lacks visual." in other and "; it has visual." in other


def test_weights_of_another_resolution_are_refused(tiny_files, tmp_path):
    tensors = load_file(tiny_files["tiny-vit"])
    grown = torch.zeros(10, 32)
    save_file(tensors | {"visual.positional_embedding": grown}, tmp_path / "larger.safetensors")
    said = refused("tiny-vit/mine", tmp_path / "larger.safetensors")
    assert "visual.positional_embedding is (10, 32) in the file and (5, 32) in the model" in said


def test_missing_tensor_is_refused_not_left_random(tiny_files, tmp_path):
    tensors = load_file(tiny_files["tiny-vit"])
    name = "visual.transformer.resblocks.1.mlp.c_fc.weight"
    save_file({k: v for k, v in tensors.items() if k != name}, tmp_path / "lacks.safetensors")
    assert f"it lacks {name}" in refused("tiny-vit/mine", tmp_path / "lacks.safetensors")
    save_file(tensors | {"extra.weight": torch.zeros(1)}, tmp_path / "extra.safetensors")
    assert "it has extra.weight, which the model lacks" in refused(
        "tiny-vit/mine", tmp_path / "extra.safetensors"
    )
    tensors[name][0, 0] = torch.nan
    save_file(tensors, tmp_path / "nan.safetensors")
    assert f"{name} is not a number in the file" in refused("tiny-vit/mine", tmp_path / "nan.safetensors")


def test_half_precision_weights_load_as_float32(tiny_files, tmp_path):
    tensors = {name: value.half() for name, value in load_file(tiny_files["tiny-vit"]).items()}
    save_file(tensors, tmp_path / "half.safetensors")
    stratum = load("tiny-vit/mine", tmp_path / "half.safetensors")
    assert stratum.model.token_embedding.weight.dtype == torch.float32
    assert torch.equal(stratum.model.visual.proj, tensors["visual.proj"].float())


def test_the_conventions_of_older_files_are_understood(tiny_files, known_tag, tmp_path):
    tensors = load_file(tiny_files["tiny-vit"])
    sizes = {
        name: torch.tensor(number)
        for name, number in [("input_resolution", 16), ("context_length", 77), ("vocab_size", 49408)]
    }
    file = tmp_path / "openai.safetensors"
    save_file(tensors | sizes | {"logit_scale": tensors["logit_scale"].reshape(1)}, file)
    assert load("tiny-vit/mine", file).logit_scale == pytest.approx(1 / 0.07, rel=1e-4)
    # A text tower whose tensors lie beside the image tower's, where newer files have them in a tower of their own.
    moved = load("tiny-custom/mine", tiny_files["tiny-vit"])
    assert torch.equal(moved.model.text.text_projection, tensors["text_projection"])
    assert torch.equal(moved.text_features(["cat"]), load("tiny-vit/mine", file).text_features(["cat"]))
    # A model that was not trained with a sigmoid loss has no bias.
    known_tag("tiny-sigmoid")
    tensors = load_file(tiny_files["tiny-sigmoid"])
    del tensors["logit_bias"]
    save_file(tensors, tmp_path / "no-bias.safetensors")
    assert load("tiny-sigmoid/made", tmp_path / "no-bias.safetensors").model.logit_bias.item() == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a file of weights (an empty file)"),
        (b"not weights at all", "is not a file of weights (neither safetensors nor a state dict of torch)"),
        (b"PK but no archive", "is not a file of weights (neither"),
        (b"\n<!doctype html><html></html>", "is not a file of weights (a web page)"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:ab",
            "is not a file of weights (a Git LFS pointer",
        ),
    ],
)
def test_other_file_kinds_are_named_in_the_refusal(tiny_files, tmp_path, content, message):
    for name in ("w.safetensors", "w.pt"):
        (tmp_path / name).write_bytes(content)
        assert message in refused("tiny-vit/mine", tmp_path / name)


def test_truncated_file_folder_and_missing_file_are_refused(tiny_files, tmp_path):
    (tmp_path / "cut.safetensors").write_bytes(tiny_files["tiny-vit"].read_bytes()[:-1])
    assert "is damaged or cut short" in refused("tiny-vit/mine", tmp_path / "cut.safetensors")
    assert "is a folder; name the file in it" in refused("tiny-vit/mine", tmp_path)
    with pytest.raises(CausalFTError, match="gone.safetensors does not exist"):
        PretrainedZoo({"tiny-vit/mine": tmp_path / "gone.safetensors"}).check("tiny-vit/mine")


# --- pickles -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap", [lambda t: t, lambda t: {"epoch": 3, "state_dict": {f"module.{k}": t[k] for k in t}}]
)
@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_is_read_only_on_request(tiny_files, tmp_path, wrap, legacy):
    tensors = load_file(tiny_files["tiny-vit"])
    file = tmp_path / "w.safetensors"  # the content decides, not the name
    torch.save(wrap(tensors), file, _use_new_zipfile_serialization=not legacy)
    assert "is a pickle, which can run code when it is read, so it is refused" in refused(
        "tiny-vit/mine", file
    )
    stratum = load("tiny-vit/mine", file, allow_pickle=True)
    assert torch.equal(stratum.model.visual.proj, tensors["visual.proj"])
    assert stratum.sha256 == sha256_file(file)


def test_a_pickle_with_code_in_it_is_not_run(tiny_files, tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    torch.save({"state_dict": Trap()}, tmp_path / "trap.pt")
    refused("tiny-vit/mine", tmp_path / "trap.pt")
    said = refused("tiny-vit/mine", tmp_path / "trap.pt", allow_pickle=True)
    assert "cannot be read safely" in said and "open" in said
    assert not (tmp_path / "sprung").exists()


def test_a_pickle_in_the_hub_cache_follows_the_same_rule(
    tiny_files, known_tag, empty_places, no_network, fill_cache, tmp_path
):
    known_tag()
    torch.save(load_file(tiny_files["tiny-vit"]), tmp_path / "w.bin")
    fill_cache(empty_places, "maker/tiny", "open_clip_pytorch_model.bin", tmp_path / "w.bin")
    said = refused("tiny-vit/made")
    assert "is a pickle" in said and "maker/tiny, open_clip_model.safetensors" in said
    assert "`causalft weights fetch tiny-vit/made`" in said and "allow_pickle=True" in said
    assert load("tiny-vit/made", allow_pickle=True).image_size == 16


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_torchscript_archive_is_refused_with_allow_pickle_too(tiny_files, known_tag, tmp_path):
    known_tag()
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "RN50.pt"))
    for allow_pickle in (False, True):
        said = refused("tiny-vit/made", tmp_path / "RN50.pt", allow_pickle=allow_pickle)
        assert "is a TorchScript archive, a program that must be run to be read" in said
        assert "maker/tiny, open_clip_model.safetensors" in said


# --- where weights are looked for ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "hub_name", ["maker/tiny/", "maker/tiny/special.safetensors", "maker/tiny/special.bin"]
)
def test_the_cache_is_read_before_any_network(
    tiny_files, known_tag, empty_places, no_network, fill_cache, hub_name
):
    known_tag(hf_hub=hub_name)
    filename = "special.safetensors" if "special" in hub_name else "open_clip_model.safetensors"
    fill_cache(empty_places, "maker/tiny", filename, tiny_files["tiny-vit"])
    assert load("tiny-vit/made").sha256 == sha256_file(tiny_files["tiny-vit"])
    assert load("tiny-vit/made", offline=True).has_text


def test_a_file_of_the_cache_with_another_hash_is_refused(
    tiny_files, known_tag, empty_places, no_network, fill_cache
):
    known_tag()
    path = fill_cache(empty_places, "maker/tiny", "open_clip_model.safetensors", tiny_files["tiny-vit"])
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.resolve().write_bytes(bytes(content))
    said = refused("tiny-vit/made")
    assert f"but the hub cache says {sha256_file(tiny_files['tiny-vit'])[:12]}..." in said


def test_the_hash_in_the_address_of_a_publication_is_checked(tiny_files, known_tag, tmp_path):
    sha256 = sha256_file(tiny_files["tiny-vit"])
    file = tmp_path / "tiny.safetensors"
    file.write_bytes(tiny_files["tiny-vit"].read_bytes())
    known_tag(url=f"https://example.org/models/{sha256}/tiny.safetensors")
    assert load("tiny-vit/made", file).sha256 == sha256
    known_tag(url=f"https://example.org/models/{'0' * 64}/tiny.safetensors")
    assert "the address of its publication says 000000000000..." in refused("tiny-vit/made", file)


def test_missing_weights_are_reported_before_training_when_offline(
    tiny_files, known_tag, empty_places, no_network, tmp_path
):
    known_tag()
    with pytest.raises(CausalFTError) as caught:
        open_zoo("pretrained", offline=True).check("tiny-vit/made")
    said = str(caught.value)
    assert "(maker/tiny, open_clip_model.safetensors) are not on this machine" in said
    assert "the network may not be used (offline)" in said
    assert "`causalft weights fetch tiny-vit/made --to FOLDER` on a connected machine" in said
    place = tmp_path / "local" / "maker--tiny" / "open_clip_model.safetensors"
    assert f"put the file at {place}" in said and "weights tiny-vit/made=FILE.safetensors" in said
    # The way out is one: a file put there is loaded.
    place.parent.mkdir(parents=True)
    place.write_bytes(tiny_files["tiny-vit"].read_bytes())
    assert open_zoo("pretrained", offline=True).load("tiny-vit/made").sha256 == sha256_file(place)


def test_hf_hub_offline_forbids_the_network(tiny_files, known_tag, empty_places, no_network, monkeypatch):
    known_tag()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in refused("tiny-vit/made")


def test_no_network_is_one_error_after_one_request(tiny_files, known_tag, empty_places, monkeypatch):
    known_tag()
    asked = []

    def unreachable(repository, filename):
        asked.append(filename)
        raise huggingface_hub.errors.LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    assert "could not be fetched (no connection); run `causalft weights fetch" in refused("tiny-vit/made")
    assert asked == ["open_clip_model.safetensors"]


def test_network_error_reports_the_original_cause(tiny_files, known_tag, empty_places, monkeypatch):
    known_tag()

    def unreachable(repository, filename):
        try:
            raise OSError("[Errno -2] Name or service not known")
        except OSError as error:
            text = "An error happened while trying to locate the file on the Hub, and so on. Please check."
            raise huggingface_hub.errors.LocalEntryNotFoundError(text) from error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    assert "could not be fetched ([Errno -2] Name or service not known); run" in refused("tiny-vit/made")


def test_the_next_file_name_is_tried_when_the_repository_lacks_one(tiny_files, known_tag, hub):
    known_tag()
    hub["maker/tiny"] = {"open_clip_pytorch_model.safetensors": tiny_files["tiny-vit"]}
    assert load("tiny-vit/made").sha256 == sha256_file(tiny_files["tiny-vit"])
    assert [name for _, name in hub.asked] == [
        "open_clip_model.safetensors",
        "open_clip_pytorch_model.safetensors",
    ]


def test_a_repository_with_a_pickle_only_is_fetched_on_request(tiny_files, known_tag, hub, tmp_path):
    known_tag()
    torch.save(load_file(tiny_files["tiny-vit"]), tmp_path / "w.bin")
    hub["maker/tiny"] = {"open_clip_pytorch_model.bin": tmp_path / "w.bin"}
    said = refused("tiny-vit/made")
    assert (
        "on the hub only as a pickle (maker/tiny, open_clip_pytorch_model.bin); pass allow_pickle=True"
        in said
    )
    assert load("tiny-vit/made", allow_pickle=True).image_size == 16


def test_full_disk_while_fetching_is_reported_as_such(tiny_files, known_tag, empty_places, monkeypatch):
    known_tag()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", full)
    with pytest.raises(OSError, match="No space left"):
        load("tiny-vit/made")


def test_weights_without_a_hub_address_ask_for_a_file(tiny_files, known_tag, empty_places):
    known_tag(hf_hub="")
    assert "not on the hub; give a file with weights tiny-vit/made=FILE" in refused("tiny-vit/made")
