"""The mini Stable Diffusion: captions, tokenizer, reproducible and resumable training, and the shipped folder."""

from __future__ import annotations

import builtins
import json
import socket
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from causalft.errors import CausalFTError
from causalft.models.pretraining import diffusion_training as diffusion_pretrain
from causalft.models.pretraining import diffusion_training as diffusion_vae
from causalft.models.pretraining import diffusion_zoo
from causalft.models.pretraining.diffusion_training import (
    Denoiser,
    roughness,
    rounds,
    sharpen_decoder,
    tokenize,
    train_vae,
)
from causalft.models.pretraining.diffusion_zoo import MINI_DIFFUSION, check_files, pretrain_diffusion
from causalft.models.pretraining.mini_diffusion import (
    EMPTY,
    FAULTS,
    DiffusionConfig,
    caption_table,
    import_diffusion,
    rendered_pool,
    save_tokenizer,
    spoil,
    words_of,
)
from causalft.pipelines.workflows import check_images as prompt_check
from causalft.pipelines.workflows.check_images import check_prompts, diversity, name_cells, train_judge
from causalft.runs.folder import read_json
from synthetic.generate import open_source
from synthetic.objects import CLASSES, PARTS, render
from synthetic.prompts import default_prompts
from tests.command_line import run

TINY = DiffusionConfig(
    image_size=16,
    vae_channels=(8, 16),
    text_width=16,
    text_layers=1,
    text_heads=2,
    unet_channels=(16, 32),
    unet_heads=2,
)
PLAN = {
    "seed": 3,
    "steps_vae": 12,
    "steps_decoder": 12,
    "steps_unet": 12,
    "config": TINY,
    "n_per_cell": 4,
    "progress": False,
}


def weights(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.glob("*/*.safetensors")}


@pytest.fixture(scope="module")
def table():
    return caption_table(CLASSES, PARTS)


@pytest.fixture(scope="module")
def short_rounds():
    """Checkpoints after every four steps, small batches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diffusion_vae, "_ROUND", 4)
        patch.setattr(diffusion_zoo, "VAE", replace(diffusion_vae.VAE, batch_size=8))
        patch.setattr(diffusion_zoo, "DECODER", replace(diffusion_vae.DECODER, batch_size=8))
        patch.setattr(diffusion_zoo, "DENOISER", replace(diffusion_pretrain.DENOISER, batch_size=8))
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory, short_rounds):
    folder = tmp_path_factory.mktemp("diffusion") / "mini"
    return folder, pretrain_diffusion(folder, **PLAN)


# captions and words


def test_caption_probabilities_sum_to_one_with_a_tenth_empty(table):
    assert torch.allclose(table.law.sum(-1), torch.ones(12, 4))
    assert torch.allclose(table.law[:, 0, table.texts.index("")], torch.full((12,), EMPTY), atol=0.01)
    assert table.law[:, 1:, table.texts.index("")].max() == 0


def test_captions_name_their_own_class_and_part_only(table):
    for cell in range(12):
        name, part = CLASSES[cell // 2], PARTS[CLASSES[cell // 2]][cell % 2].split(" (")[0]
        other = PARTS[CLASSES[cell // 2]][1 - cell % 2].split(" (")[0]
        said = [text for text, p in zip(table.texts, table.law[cell].sum(0)) if p > 0]
        assert f"a photo of a {name}'s {part}" in said
        for text in said:
            words = words_of([text])
            assert not set(words) & (set(CLASSES) - {name}) and other not in words, text


def test_captions_of_spoilt_images_name_the_fault(table):
    for fault, word in enumerate(FAULTS, 1):
        said = [text for text, p in zip(table.texts, table.law[:, fault].sum(0)) if p > 0]
        assert said and all(word in text for text in said)
    clean = [text for text, p in zip(table.texts, table.law[:, 0].sum(0)) if p > 0]
    assert not any(word in text for word in FAULTS for text in clean)


def test_captions_cover_the_vocabulary_of_the_shipped_prompts(table):
    prompts = default_prompts()
    shipped = [
        template.replace("{class}", name).replace("{part}", part)
        for template in prompts.templates.values()
        for name, parts in prompts.classes.items()
        for part in parts
    ]
    assert set(shipped) <= set(table.texts)
    assert set(words_of([prompts.negative_prompt])) <= set(words_of(table.texts))


def test_drawn_captions_follow_their_probabilities(table):
    cells, faults = torch.full((4000,), 5), torch.zeros(4000, dtype=torch.int64)
    drawn = table.draw(cells, faults, torch.Generator().manual_seed(0))
    share = torch.bincount(drawn, minlength=len(table.texts)) / 4000
    assert (share - table.law[5, 0]).abs().max() < 0.03


def test_caption_table_refuses_uneven_parts():
    with pytest.raises(CausalFTError, match="same number of parts"):
        caption_table(["cat", "dog"], {"cat": ("head", "body"), "dog": ("head",)})
    with pytest.raises(CausalFTError, match="same number of parts"):
        caption_table([], {})


def test_caption_words_are_one_token_and_others_are_spelt_in_bytes(tmp_path, table):
    _, transformers = import_diffusion()
    tokenizer = save_tokenizer(table.texts, 32, tmp_path)
    for word in words_of(table.texts):
        assert len(tokenizer(word, add_special_tokens=False).input_ids) == 1, word
    spelt = tokenizer("a Zebra", add_special_tokens=False).input_ids
    assert len(spelt) > 3 and tokenizer.decode(spelt) == "a zebra"
    assert tokenize(tokenizer, table.texts).shape == (len(table.texts), 32)
    again = transformers.CLIPTokenizer.from_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    older = transformers.CLIPTokenizer.from_pretrained(tmp_path)  # from vocab.json and merges.txt alone
    for text in table.texts[::7]:
        assert tokenizer(text).input_ids == again(text).input_ids == older(text).input_ids


# images


def test_faults_blur_coarsen_or_darken_images():
    pixels = render("cat", 0, np.random.default_rng(0).random((8, 32)), size=32)
    rng = np.random.default_rng(1)

    def roughness(x):
        return np.abs(np.diff(x.astype(float), axis=2)).mean()

    assert roughness(spoil(pixels, "blurry", rng)) < 0.5 * roughness(pixels)
    assert roughness(spoil(pixels, "low quality", rng)) > roughness(pixels)
    assert spoil(pixels, "dark", rng).mean() < 0.4 * pixels.mean()
    with pytest.raises(CausalFTError, match="unknown fault"):
        spoil(pixels, "ugly", rng)


def test_rendered_pool_is_balanced_and_reproducible():
    pool, again = rendered_pool(20, 16, 4, spoilt=0.1), rendered_pool(20, 16, 4, spoilt=0.1)
    assert np.array_equal(pool.pixels, again.pixels) and np.array_equal(pool.faults, again.faults)
    assert np.bincount(pool.cells).tolist() == [22] * 12
    assert np.bincount(pool.cells[pool.faults > 0]).tolist() == [2] * 12


# training


def test_rounds_keep_the_number_of_steps():
    for steps in (1, 99, 100, 101, 250, 5000):
        recipe, n = rounds(diffusion_pretrain.DENOISER, steps)
        assert steps <= recipe.epochs * (n // recipe.batch_size) < steps + recipe.epochs
    with pytest.raises(CausalFTError, match="no training"):
        rounds(diffusion_pretrain.DENOISER, 0)


def test_ema_of_constant_weights_is_the_weights():
    model = Denoiser(torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False))
    values, expected = [2.0, 5.0, 3.0], model.unet.weight.item()
    for number, value in enumerate(values):
        with torch.no_grad():
            model.unet.weight.fill_(value)
        model.update()
        decay = (1 + number) / (10 + number)
        expected = decay * expected + (1 - decay) * value
    model.take_mean()
    assert model.unet.weight.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_all_losses_fall(tmp_path, short_rounds):
    card = pretrain_diffusion(
        tmp_path / "a", **{**PLAN, "steps_vae": 40, "steps_decoder": 40, "steps_unet": 40}
    )
    for stage in ("vae", "decoder", "unet"):
        losses = card["recipe"][stage]["losses"]
        assert len(losses) == 10 and np.mean(losses[-3:]) < 0.95 * losses[0], (stage, losses)


@pytest.mark.slow
def test_sharpened_decoder_matches_image_roughness_and_keeps_latents():
    pool = rendered_pool(20, 16, 0)
    recipe = replace(diffusion_vae.VAE, batch_size=16)
    vae, _ = train_vae(pool, TINY, recipe, 60, progress=False)
    x = diffusion_vae.to_unit(torch.from_numpy(pool.pixels[::5]))
    with torch.inference_mode():
        latents = vae.encode(x).latent_dist.mean
        before = roughness(vae.decode(latents).sample).mean() / roughness(x).mean()
    sharpen_decoder(vae, pool, replace(diffusion_vae.DECODER, batch_size=16), 100, progress=False)
    with torch.inference_mode():
        assert torch.equal(vae.encode(x).latent_dist.mean, latents)
        after = roughness(vae.decode(latents).sample).mean() / roughness(x).mean()
    assert before < 0.7 and abs(1 - after) < 0.6 * abs(1 - before)


def test_same_seed_gives_same_files(made, tmp_path):
    folder, card = made
    again = pretrain_diffusion(tmp_path / "again", **PLAN)
    assert weights(folder) == weights(tmp_path / "again") and card["sha256"] == again["sha256"]
    other = pretrain_diffusion(tmp_path / "other", **{**PLAN, "seed": 4})
    assert all(other["sha256"][name] != digest for name, digest in card["sha256"].items())


@pytest.mark.parametrize(
    "stage, killed_at",
    [("vae", 9), ("decoder", 6), pytest.param("unet", 1, marks=pytest.mark.slow), ("unet", 11)],
)
def test_resumed_training_gives_the_same_files(made, tmp_path, monkeypatch, stage, killed_at):
    folder, _ = made
    steps, real = {"vae": 0, "decoder": 0, "unet": 0}, torch.optim.AdamW.step

    def step(self, *arguments, **keywords):
        first = self.param_groups[0]["params"][0]  # of images, of latents, or the table of tokens
        now = "unet" if first.ndim < 4 else "vae" if first.shape[1] == 3 else "decoder"
        steps[now] += 1
        if now == stage and steps[now] == killed_at:
            raise KeyboardInterrupt
        return real(self, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", step)
        with pytest.raises(KeyboardInterrupt):
            pretrain_diffusion(tmp_path / "k", **PLAN)
    assert not (tmp_path / "k" / "card.json").exists()
    before = dict(steps)
    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", step)
        pretrain_diffusion(tmp_path / "k", **PLAN)
    assert weights(folder) == weights(tmp_path / "k")
    done_again = steps[stage] - before[stage]
    assert done_again == 12 - 4 * ((killed_at - 1) // 4)  # from the last checkpoint, not from the start
    later = {"vae": {"vae", "decoder", "unet"}, "decoder": {"decoder", "unet"}, "unet": {"unet"}}[stage]
    assert all(steps[name] == 12 for name in steps if name not in later)
    assert not list((tmp_path / "k").glob(".*"))


# the folder


def test_the_folder_opens_with_diffusers_without_network(made, monkeypatch):
    folder, card = made
    diffusers, _ = import_diffusion()

    def refuse(*arguments):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    assert type(pipeline).__name__ == "StableDiffusionPipeline"
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    pictures = pipeline(
        ["a photo of a cat's head"] * 2,
        num_inference_steps=2,
        generator=[torch.Generator().manual_seed(i) for i in (1, 2)],
        output_type="np",
    ).images
    assert pictures.shape == (2, 16, 16, 3) and np.isfinite(pictures).all() and pictures.std() > 0
    assert {
        str(value.dtype) for value in load_file(folder / "unet/diffusion_pytorch_model.safetensors").values()
    } == {"torch.float16"}
    assert card["parameters"]["unet"] == sum(p.numel() for p in pipeline.unet.parameters())


def test_saved_files_contain_no_local_path(made):
    folder, _ = made
    for path in folder.rglob("*"):
        if path.suffix in (".json", ".txt"):
            assert str(folder.parent) not in path.read_text(encoding="utf-8"), path


def test_files_that_differ_from_the_card_are_refused(made, tmp_path):
    import shutil

    with pytest.raises(CausalFTError, match="no card.json"):
        check_files(tmp_path)
    broken = tmp_path / "broken"
    shutil.copytree(made[0], broken)
    name = "unet/diffusion_pytorch_model.safetensors"
    content = bytearray((broken / name).read_bytes())
    content[-1] ^= 1
    (broken / name).write_bytes(content)
    with pytest.raises(CausalFTError, match=r"unet.* is not the file of its card"):
        check_files(broken)
    (broken / name).unlink()
    with pytest.raises(CausalFTError, match=r"unet.* is missing"):
        check_files(broken)


def test_missing_diffusers_is_a_one_line_error(monkeypatch):
    real = builtins.__import__

    def refuse(name, *arguments, **keywords):
        if name == "diffusers":
            raise ModuleNotFoundError("No module named 'diffusers'")
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", refuse)
    result = run("zoo", "pretrain-diffusion", "--out", "never")
    assert result.exit_code == 2 and "Traceback" not in result.output
    assert "pip install 'causalft[diffusion]'" in result.stderr


@pytest.mark.parametrize(
    "options, message",
    [
        (["--size", "20"], "multiple of 8"),
        (["--steps-unet", "0"], "'--steps-unet': '0' is out of range"),
        (["--seed", "-1"], "seed"),
        (["--n-per-cell", "0"], "'--n-per-cell': '0' is out of range"),
    ],
)
def test_wrong_options_are_refused_before_a_folder_is_made(tmp_path, options, message):
    result = run("zoo", "pretrain-diffusion", "--out", str(tmp_path / "x"), *options)
    assert result.exit_code == 2 and message in result.stderr, result.output
    assert not (tmp_path / "x").exists()


def test_command_refuses_to_overwrite_a_finished_folder(tmp_path, short_rounds):
    steps = [word for stage in ("vae", "decoder", "unet") for word in (f"--steps-{stage}", "2")]
    sizes = ["--size", "16", "--n-per-cell", "2"]
    command = ["zoo", "pretrain-diffusion", "--out", str(tmp_path / "mini"), *steps, *sizes, "--json"]
    result = run(*command)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == read_json(tmp_path / "mini" / "metrics.json")
    assert check_files(tmp_path / "mini")["recipe"]["vae"]["steps"] == 2
    again = run(*command)
    assert again.exit_code == 2 and "already holds a complete" in again.stderr


# the check


class Renders:
    """Draws what is asked, or always the other part."""

    name, size, batch_size, parts = "renders", 24, 64, PARTS

    def __init__(self, swap=False):
        self.swap = swap

    def draw(self, requests):
        return np.concatenate(
            [
                render(
                    r.look,
                    1 - r.part if self.swap else r.part,
                    np.random.default_rng(r.seed).random((1, 32)),
                    24,
                )
                for r in requests
            ]
        )


@pytest.mark.slow
def test_image_check_accepts_right_and_rejects_wrong_images():
    judge = train_judge(24, n_per_cell=150, recipe=replace(prompt_check.JUDGE, epochs=6), progress=False)
    good = check_prompts(Renders(), n_per_cell=10, judge=judge, progress=False)
    bad = check_prompts(Renders(swap=True), n_per_cell=10, judge=judge, progress=False)
    assert good.n == 120 and good.right > 0.75 and good.judge_right > 0.75
    assert bad.right < 0.2 and bad.part_right < 0.25 < bad.class_right
    assert good.diversity == pytest.approx(1, abs=0.1)
    with pytest.raises(CausalFTError, match="cannot be checked"):
        check_prompts(Renders(), n_per_cell=1, judge=judge)


def test_diversity_is_the_spread_within_a_cell():
    rng = np.random.default_rng(0)
    pixels = np.zeros((400, 4, 4, 3), np.uint8)
    pixels[:200] = rng.integers(0, 256, (200, 1, 1, 1))
    pixels[200:] = 200  # a cell that differs from the other, but not in itself
    spread = diversity(pixels, np.repeat([0, 1], 200))
    assert spread[0] == pytest.approx(1 / np.sqrt(12), rel=0.1) and spread[1] < 1e-9


# what ships


def test_shipped_diffusion_is_small_and_matches_its_card(table):
    card = check_files(MINI_DIFFUSION)
    assert sum(path.stat().st_size for path in MINI_DIFFUSION.rglob("*") if path.is_file()) < 8_000_000
    assert card["words"] == words_of(table.texts)
    assert card["class_names"] == list(CLASSES) and card["recipe"]["seed"] == 0
    assert card["recipe"]["vae"]["steps"] == diffusion_zoo.STEPS_VAE
    assert card["recipe"]["decoder"]["steps"] == diffusion_zoo.STEPS_DECODER
    assert card["recipe"]["unet"]["steps"] == diffusion_zoo.STEPS_UNET
    assert not list(MINI_DIFFUSION.rglob("*.bin")) and not list(MINI_DIFFUSION.rglob("*.pt"))


class Halved:
    """The shipped pipeline at 16 pixels: a judge of small images is trained in seconds."""

    name, size, batch_size, parts = "halved", 16, 48, PARTS

    def __init__(self):
        self.source = open_source("stable-diffusion", model="mini", negative_prompt="", batch_size=48)

    def draw(self, requests):
        drawn = self.source.draw(requests).astype(float)
        return drawn.reshape(len(drawn), 16, 2, 16, 2, 3).mean((2, 4)).round().astype(np.uint8)


@pytest.mark.slow
def test_shipped_diffusion_images_show_the_prompted_class_and_part():
    judge = train_judge(16, n_per_cell=250, recipe=replace(prompt_check.JUDGE, epochs=8), progress=False)
    result = check_prompts(Halved(), n_per_cell=8, judge=judge, progress=False)
    assert result.judge_right > 0.9
    assert result.right >= 0.8 and result.class_right >= 0.85
    assert result.diversity >= 0.75  # of eight images per cell, against renders by the hundred


@pytest.mark.slow
def test_shipped_diffusion_reaches_the_documented_accuracy():
    result = check_prompts(open_source("stable-diffusion", model="mini", negative_prompt=""), progress=False)
    assert result.n == 1200 and result.right >= 0.97 and result.diversity >= 0.85


def test_classes_are_recognised_image_by_image():
    judge = train_judge(16, n_per_cell=4, recipe=replace(prompt_check.JUDGE, epochs=1), progress=False)
    pixels = render("dog", 1, np.random.default_rng(0).random((5, 32)), size=16)
    assert np.array_equal(name_cells(judge, pixels)[:2], name_cells(judge, pixels[:2]))
