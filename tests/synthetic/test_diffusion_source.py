"""The stable-diffusion generator with tiny real pipelines: same seed, same picture; every wrong model is named."""

from __future__ import annotations

import json
import shutil
import socket

import numpy as np
import pytest

from causalft.errors import CausalFTError
from synthetic.generate import PictureSource, Renderer, Request, open_source, picture_seed
from synthetic.prompts import default_prompts

pytest.importorskip("diffusers")

import torch
import transformers
from safetensors.torch import load_file, save_file

from synthetic.diffusion import DiffusionSource


def open_tiny(folder, **options) -> DiffusionSource:
    settings = {"model": str(folder), "steps": 2, "batch_size": 4, "device": "cpu", **options}
    source = open_source("stable-diffusion", **settings)
    assert isinstance(source, DiffusionSource)
    return source


REQUESTS = [
    Request(look, part, seed) for seed, (look, part) in enumerate([("cat", 0), ("dog", 1), ("cat", 1)] * 3)
]


def test_the_same_request_gives_the_same_picture_alone_and_in_any_company(tiny):
    source = open_tiny(tiny)
    together = source.draw(REQUESTS)
    assert together.shape == (9, 16, 16, 3) and together.dtype == np.uint8
    assert np.array_equal(source.draw(REQUESTS[::-1])[::-1], together)
    for number in (0, 3, 8):
        assert np.array_equal(source.draw([REQUESTS[number]])[0], together[number])
    assert np.array_equal(open_tiny(tiny).draw(REQUESTS[2:7]), together[2:7])
    assert len({picture.tobytes() for picture in together}) == 9
    assert source.draw([]).shape == (0, 16, 16, 3)


def test_an_ancestral_sampler_keeps_the_promise_too(tiny):
    source = open_tiny(tiny, scheduler="euler-a")
    together = source.draw(REQUESTS[:6])
    assert np.array_equal(source.draw(REQUESTS[4:6]), together[4:6])


def test_prompt_seed_guidance_steps_and_scheduler_change_the_picture(tiny):
    source = open_tiny(tiny)
    base = source.draw([Request("cat", 0, 1)])
    assert not np.array_equal(source.draw([Request("cat", 1, 1)]), base)
    assert not np.array_equal(source.draw([Request("cat", 0, 2)]), base)
    for options in (
        {"guidance": 3.0},
        {"steps": 3},
        {"scheduler": "dpm++"},
        {"negative_prompt": "blurry"},
        {"templates": ["picture"]},
    ):
        assert not np.array_equal(open_tiny(tiny, **options).draw([Request("cat", 0, 1)]), base), options
    assert open_tiny(tiny, size=24).draw([Request("cat", 0, 1)]).shape == (1, 24, 24, 3)


def test_provenance_names_what_was_used(tiny):
    source = open_tiny(tiny, scheduler="dpm++", guidance=2.5, attention_slicing="on", precision="bf16")
    facts = source.provenance()
    assert all(isinstance(value, str) for value in facts.values())
    wanted = {
        "model": str(tiny),
        "scheduler": "DPMSolverMultistepScheduler",
        "steps": "2",
        "guidance": "2.5",
        "size": "16",
        "precision": "bf16",
        "device": "cpu",
        "attention_slicing": "on",
        "safety_checker": "off",
        "batch_size": "4",
        "negative_prompt": "",
        "torch": torch.__version__,
    }
    assert {name: facts[name] for name in wanted} == wanted
    assert facts["revision"].startswith("sha256:") and {"diffusers", "transformers"} <= facts.keys()
    assert source.pipeline.unet.dtype == torch.bfloat16
    assert source.prompt(Request("dog", 1, 0)) == "a photo of a dog's body"
    assert isinstance(source, PictureSource) and isinstance(Renderer(16), PictureSource)


def test_the_revision_of_a_folder_is_its_content(tiny, tmp_path):
    copy = shutil.copytree(tiny, tmp_path / "copy")
    assert open_tiny(copy).provenance()["revision"] == open_tiny(tiny).provenance()["revision"]
    weights = load_file(copy / "vae" / "diffusion_pytorch_model.safetensors")
    save_file(
        {name: value + 0.01 for name, value in weights.items()},
        copy / "vae" / "diffusion_pytorch_model.safetensors",
    )
    assert open_tiny(copy).provenance()["revision"] != open_tiny(tiny).provenance()["revision"]


def test_defaults_come_from_the_pipeline_or_from_its_card(tiny, tmp_path):
    source = open_source("stable-diffusion", model=str(tiny))
    assert (source.steps, source.guidance, source.size) == (50, 7.5, 16)
    copy = shutil.copytree(tiny, tmp_path / "copy")
    words = sorted({"a", "photo", "of", "'s", "head", "body", "blurry", "cat", "dog"})
    (copy / "card.json").write_text(json.dumps({"sampler": {"steps": 7, "guidance": 2.0}, "words": words}))
    with pytest.raises(CausalFTError, match="was not trained on '\\(' of the prompt \"a photo of a airplane"):
        open_source("stable-diffusion", model=str(copy))
    file = tmp_path / "p.yaml"
    file.write_text("classes:\n  cat: [head, body]\n  dog: [head, body]\n")
    source = open_source("stable-diffusion", model=str(copy), prompts=str(file))
    assert (source.steps, source.guidance) == (7, 2.0)
    with pytest.raises(CausalFTError, match="not trained on 'ugly'"):
        open_source("stable-diffusion", model=str(copy), prompts=str(file), negative_prompt="ugly")


def test_nothing_is_fetched_when_the_files_are_there(tiny, tmp_path, monkeypatch):
    def refuse(*arguments):
        raise AssertionError("a network call")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    open_tiny(tiny)
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--someone--tiny"
    shutil.copytree(tiny, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    source = open_tiny("someone/tiny")
    assert source.provenance()["model"] == "someone/tiny" and source.provenance()["revision"] == commit
    assert np.array_equal(source.draw(REQUESTS[:2]), open_tiny(tiny).draw(REQUESTS[:2]))


def test_one_file_gives_the_pictures_of_its_folder(tiny, write_single_file, tmp_path, monkeypatch):
    file = write_single_file(tiny, tmp_path / "model.safetensors")
    source = open_tiny(file, model_config=str(tiny))
    assert np.array_equal(source.draw(REQUESTS[:4]), open_tiny(tiny).draw(REQUESTS[:4]))
    assert source.provenance()["model"] == str(file)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(
        CausalFTError, match="needs the small text files of .*model_config=FOLDER; `--model mini`"
    ):
        open_tiny(file)
    with pytest.raises(CausalFTError, match="model_config .* has no model_index.json"):
        open_tiny(file, model_config=str(tmp_path))
    weights = load_file(file)
    name = "model.diffusion_model.input_blocks.0.0.weight"
    save_file({**weights, name: torch.zeros(8, 9, 3, 3)}, tmp_path / "inpaint.safetensors")
    with pytest.raises(CausalFTError, match="inpainting or editing model .9 input channels."):
        open_tiny(tmp_path / "inpaint.safetensors", model_config=str(tiny))


def test_the_safety_checker_runs_unless_it_is_switched_off(tiny, tmp_path):
    from diffusers import StableDiffusionPipeline
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    checker = StableDiffusionSafetyChecker(
        transformers.CLIPConfig(
            text_config={**sizes, "vocab_size": 9},
            vision_config={**sizes, "image_size": 32, "patch_size": 16},
            projection_dim=8,
        )
    )
    checker.concept_embeds_weights.data.fill_(-2.0)  # every picture is over this threshold
    reader = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32)
    pipeline = StableDiffusionPipeline.from_pretrained(tiny, safety_checker=checker, feature_extractor=reader)
    pipeline.save_pretrained(tmp_path / "checked")
    on = open_tiny(tmp_path / "checked")
    assert on.provenance()["safety_checker"] == "on" and on.draw(REQUESTS[:2]).max() == 0
    off = open_tiny(tmp_path / "checked", safety_checker=False)
    assert off.provenance()["safety_checker"] == "off"
    assert np.array_equal(off.draw(REQUESTS[:2]), open_tiny(tiny).draw(REQUESTS[:2]))


class Greedy:
    """A pipeline whose device holds two pictures, or none."""

    def __init__(self, pipeline, most):
        self.pipeline, self.most, self.scheduler = pipeline, most, pipeline.scheduler

    def __call__(self, *, prompt, **options):
        if len(prompt) > self.most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return self.pipeline(prompt=prompt, **options)


def test_a_batch_that_does_not_fit_is_halved_and_said(tiny):
    said: list[str] = []
    source = open_tiny(tiny, batch_size=8, say=said.append)
    source.pipeline = Greedy(source.pipeline, 2)
    source._takes = {"guidance_scale", "negative_prompt"}
    pictures = source.draw(REQUESTS)
    assert source.batch_size == 2 and source.provenance()["batch_size"] == "2"
    assert len(said) == 2 and "4 images at once" in said[0] and "2 images at once" in said[1]
    assert np.array_equal(pictures, open_tiny(tiny, batch_size=2).draw(REQUESTS))
    source.pipeline.most = 0
    with pytest.raises(CausalFTError, match="no memory for one image of 16 px; use attention_slicing='on'"):
        source.draw(REQUESTS)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"steps": 0}, "steps 0 is out of range; give a whole number from 1 to 1,000"),
        ({"guidance": -1.0}, "guidance -1.0 is out of range"),
        ({"guidance": float("nan")}, "guidance nan is not a finite number"),
        ({"size": 4}, "size 4 is too small"),
        ({"batch_size": 0}, "batch_size 0 is out of range"),
        ({"batch_size": "many"}, "batch_size 'many' is not a number"),
        ({"attention_slicing": "maybe"}, "attention_slicing maybe: use auto, on or off"),
        ({"precision": "fp8"}, "no precision 'fp8'; did you mean .*'fp16'"),
        ({"device": "gpu"}, "device 'gpu' is unknown; use auto, cpu"),
        ({"device": "cuda:99"}, "device cuda:99: not on this machine"),
        ({"scheduler": "eulr"}, "no scheduler 'eulr' for StableDiffusionPipeline; did you mean 'euler'"),
        ({"scheduler": "flow-euler"}, "'flow-euler' does not fit StableDiffusionPipeline; use auto, ddim"),
        ({"revision": "main"}, "revision main goes with a model of the hub"),
        ({"model_config": "x"}, "model_config goes with a single .safetensors file"),
        ({"templates": ["poto"]}, "template: no template 'poto'; did you mean 'photo'"),
        ({"prompts": "none.yaml"}, "none.yaml: no such file"),
        ({"negative_prompt": "blurry " * 20}, "tokens, and .* reads 77; make it shorter"),
    ],
)
def test_bad_settings_are_named(tiny, options, message):
    with pytest.raises(CausalFTError, match=message) as caught:
        open_tiny(tiny, **options)
    assert "\n" not in str(caught.value)


def test_a_size_that_the_networks_cannot_draw_is_named(tiny):
    with pytest.raises(CausalFTError, match="failed to draw 20 px: .*divisible by 8"):
        open_tiny(tiny, size=20).draw(REQUESTS[:1])


def broken(tiny, folder, change):
    copy = shutil.copytree(tiny, folder / "broken")
    change(copy)
    return copy


def set_class(name):
    def change(folder):
        index = json.loads((folder / "model_index.json").read_text())
        (folder / "model_index.json").write_text(json.dumps({**index, "_class_name": name}))

    return change


def pickled(folder):
    (folder / "unet" / "diffusion_pytorch_model.safetensors").rename(
        folder / "unet" / "diffusion_pytorch_model.bin"
    )


def cut_short(folder):
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])


def without_a_weight(folder):
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    del weights["conv_out.weight"]
    save_file(weights, file)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            set_class("StableDiffusionImg2ImgPipeline"),
            "Img2ImgPipeline, which does not make images from text alone",
        ),
        (set_class("StableDiffusionInpaintPipeline"), "does not make images from text alone"),
        (set_class("DDPMPipeline"), "is a DDPMPipeline, which does not make images from text alone"),
        (set_class("TextToVideoSDPipeline"), "does not make images from text alone"),
        (set_class("StableDifusionPipeline"), "has no pipeline 'StableDifusionPipeline'; did you mean"),
        (set_class(["my_code", "MyPipeline"]), "code of its own is not run"),
        (lambda folder: (folder / "model_index.json").write_text("{"), "model_index.json cannot be read"),
        (lambda folder: (folder / "model_index.json").unlink(), "it has no model_index.json"),
        (lambda folder: shutil.rmtree(folder / "vae"), "is not whole: it has no folder vae/"),
        (pickled, "the weights of unet are pickles"),
        (cut_short, "cannot be loaded as StableDiffusionPipeline"),
        (without_a_weight, "not whole|cannot be loaded"),
    ],
)
def test_folders_that_are_no_pipeline_are_named(tiny, tmp_path, change, message):
    with pytest.raises(CausalFTError, match=message) as caught:
        open_tiny(broken(tiny, tmp_path, change))
    assert "\n" not in str(caught.value)


def test_models_that_are_not_there_say_what_to_do(tmp_path, monkeypatch):
    for name in ("model.ckpt", "model.bin"):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(CausalFTError, match="is a pickle, which can run code"):
            open_tiny(tmp_path / name)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(CausalFTError, match="takes a .safetensors file or a folder"):
        open_tiny(tmp_path / "notes.txt")
    (tmp_path / "junk.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(CausalFTError, match="not a whole safetensors file"):
        open_tiny(tmp_path / "junk.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CausalFTError, match="not a whole Stable Diffusion checkpoint"):
        open_tiny(tmp_path / "other.safetensors")
    for name in ("./nowhere", "stable-diffusion", str(tmp_path / "none.safetensors")):
        with pytest.raises(CausalFTError, match="no model .*: model takes a folder.*or mini"):
            open_tiny(name)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(
        CausalFTError, match="fetch it on a connected .*model=FOLDER; `--model mini`"
    ) as caught:
        open_tiny("someone/unheard-of")
    assert "\n" not in str(caught.value)
    monkeypatch.setattr("synthetic.pipelines.mini_pipeline_folder", lambda: tmp_path / "no-mini")
    with pytest.raises(CausalFTError, match="mini Stable Diffusion of the package is not installed"):
        open_source("stable-diffusion")


def test_unknown_generators_and_options_are_named():
    with pytest.raises(
        CausalFTError, match="no generator 'stable-difusion'; did you mean 'stable-diffusion'"
    ):
        open_source("stable-difusion")
    with pytest.raises(CausalFTError, match="'steps' is an option of stable-diffusion"):
        open_source("renderer", steps=3)


def test_seeds_of_pictures_are_stable_and_all_different():
    assert picture_seed(0, "confounded", "A_train", "cat", 0, 0) == 7198557659948833025
    places = [
        (seed, design, split, label, factor, index, attempt)
        for seed in (0, 1)
        for design in ("paper", "null")
        for split in ("A_train", "B_train")
        for label in ("cat", "dog")
        for factor in (0, 1)
        for index in range(20)
        for attempt in (0, 1)
    ]
    seeds = {picture_seed(*place) for place in places}
    assert len(seeds) == len(places) and all(0 <= seed < 2**63 for seed in seeds)


def test_default_prompts_fit_the_tokenizer_of_clip(tiny):
    longest = max(
        (
            default_prompts().using([name]).text(look, part)
            for name in default_prompts().templates
            for look in default_prompts().classes
            for part in (0, 1)
        ),
        key=len,
    )
    assert len(open_tiny(tiny).pipeline.tokenizer(longest).input_ids) <= 77
