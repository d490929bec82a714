"""``causalft generate`` with Stable Diffusion: plan, provenance, check, refusals."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest

from causalft.cli.generate import command as generate_command
from synthetic.settings import GeneratorSettings
from tests import command_line

pytest.importorskip("diffusers")


run = partial(command_line.run, "generate")


def test_pipeline_run_prints_and_stores_its_provenance(tmp_path, tiny):
    words = [
        "--generator",
        "stable-diffusion",
        "--model",
        tiny,
        "--steps",
        1,
        "--classes",
        "cat,dog",
        "--n-per-class",
        4,
    ]
    result = run(
        *words, "--design", "paper", "--out", tmp_path / "out", "--scheduler", "dpm++", "--guidance", 2
    )
    assert result.exit_code == 0, result.output
    assert "1 steps, guidance 2, DPMSolverMultistepScheduler, fp32 on cpu" in " ".join(result.stdout.split())
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["images"] == 32 and metrics["size"] == 16 and metrics["batch_sizes"] == {"16": 32}
    config = json.loads((tmp_path / "out" / "config.json").read_text())["config"]
    assert config["prompts"]["templates"] == ["a photo of a {class}'s {part}"]
    again = run(*words, "--design", "paper", "--out", tmp_path / "out", "--json")
    assert again.exit_code == 2 and "already holds a complete generate run" in again.stderr


def test_an_interrupted_run_with_other_settings_is_refused(tmp_path, tiny):
    words = ["--generator", "stable-diffusion", "--model", tiny, "--classes", "cat,dog", "--n-per-class", 4]
    assert run(*words, "--steps", 1, "--out", tmp_path / "out").exit_code == 0
    (tmp_path / "out" / "metrics.json").unlink()
    result = run(*words, "--steps", 2, "--out", tmp_path / "out")
    assert result.exit_code == 2 and "another interrupted generate run (it differs in steps)" in result.stderr
    assert run(*words, "--steps", 1, "--out", tmp_path / "out").exit_code == 0


def test_dry_run_prints_the_plan_and_writes_nothing(tmp_path, tiny, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(
        "--dry-run", "--classes", "cat,dog", "--n-per-class", 10, "--out", tmp_path / "out", "--json"
    )
    plan = json.loads(result.stdout)
    assert plan["images"] == 80 and plan["seconds"] > 0 and 80 * 1000 < plan["bytes"] < 80 * 20000
    words = ["--dry-run", "--generator", "stable-diffusion", "--steps", 1]
    result = run(*words, "--model", tiny, "--n-per-class", 10)
    assert result.exit_code == 0 and "images/s, from one timed batch" in result.stdout, result.output
    assert (
        "DDIMScheduler" in result.stdout and "240" in result.stdout and "nothing was written" in result.stdout
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    result = run(*words, "--model", "someone/unheard-of")
    assert result.exit_code == 0 and "not timed: someone/unheard-of is not in the hub cache" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_user_prompts_define_the_classes(tmp_path, tiny):
    file = tmp_path / "prompts.yaml"
    file.write_text("classes:\n  horse: [head, tail]\n  ship: [bow, stern]\n")
    words = [
        "--generator",
        "stable-diffusion",
        "--model",
        tiny,
        "--steps",
        1,
        "--prompts",
        file,
        "--n-per-class",
        4,
    ]
    result = run(*words, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "out" / "B_test").iterdir()) == [
        "horse",
        "metadata.csv",
        "ship",
    ]
    result = run(*words, "--classes", "horse,shp", "--out", tmp_path / "other")
    assert result.exit_code == 2 and "no class 'shp'" in result.stderr and "'ship'" in result.stderr


def test_classifier_of_renders_rejects_wrong_images(tmp_path, monkeypatch):
    import causalft.pipelines.workflows.check_images as module
    from synthetic.objects import CLASSES

    sizes: list[int] = []

    def no_training(size, **options):
        sizes.append(size)
        return "network"

    def all_cats(network, pixels):
        return np.full(len(pixels), 2 * CLASSES.index("cat"))

    monkeypatch.setattr(module, "train_judge", no_training)
    monkeypatch.setattr(module, "name_cells", all_cats)
    words = [
        "--check",
        "renders",
        "--classes",
        "cat,dog",
        "--n-per-class",
        4,
        "--size",
        8,
        "--design",
        "paper",
    ]
    result = run(*words, "--out", tmp_path / "out", "--max-rejects", 30)
    assert result.exit_code == 2 and "30 of 32 are allowed" in result.stderr and sizes == [8]
    kept = len(list((tmp_path / "out").rglob("*.png")))
    assert kept >= 32 and not (tmp_path / "out" / "metrics.json").exists()


@pytest.mark.parametrize(
    "words, message",
    [
        (["--steps", "5"], "--steps goes with --generator stable-diffusion"),
        (["--template", "photo"], "--template goes with --generator stable-diffusion"),
        (["--no-safety-checker"], "--safety-checker goes with --generator stable-diffusion"),
        (["--generator", "stable-difusion"], "did you mean 'stable-diffusion'"),
        (["--generator", "stable-diffusion", "--model", "x.ckpt"], "is a pickle"),
        (["--generator", "stable-diffusion", "--model", "nowhere"], "no model 'nowhere'"),
        (
            ["--generator", "stable-diffusion", "--batch-size", "few"],
            "'--batch-size': 'few' is not a whole number",
        ),
        (["--generator", "stable-diffusion", "--prompts", "none.yaml"], "none.yaml: no such file"),
        (["--max-rejects", "lots"], "'--max-rejects': 'lots': use a share"),
        (["--max-rejects", "-1"], "'--max-rejects': '-1': use a share"),
        (["--check-weights", "w.safetensors"], "--check-weights goes with --check"),
        (["--check", "clop"], "--check clop: no such judge; did you mean 'clip'"),
        (["--check", "rendrs"], "--check rendrs: no such judge; did you mean 'renders'?"),
        (["--check", "zebra"], "known: clip, metaclip, openclip, renders (or ARCH/TAG of open_clip)"),
        (["--check", "ViT-B-16"], "'ViT-B-16' is an architecture; say which weights, as in ViT-B-16/openai"),
        (["--check", "clip", "--check-weights", "none.safetensors"], "none.safetensors does not exist"),
        (["--check", "renders", "--check-weights", "w.safetensors"], "drop --check-weights"),
    ],
)
def test_mistakes_are_refused_in_one_line_without_a_folder(tmp_path, words, message):
    result = run("--out", tmp_path / "out", "--n-per-class", 4, *words)
    assert result.exit_code == 2 and message in result.stderr and "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1 and not (tmp_path / "out").exists()


def test_out_is_required_except_for_the_plan():
    result = run("--n-per-class", 4)
    assert result.exit_code == 2 and "--out is missing" in result.stderr


def test_every_option_of_the_generator_reaches_the_source():
    names = {parameter.name for parameter in generate_command.params}
    assert set(vars(GeneratorSettings())) <= names
