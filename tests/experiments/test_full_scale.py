"""An experiment on a real set in its layout, with small open_clip checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.command_line import run
from tests.experiments.test_scales import WRITERS

NAMES = ("tiny-a", "tiny-b")


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Random weights of two small architectures that open_clip knows during the test."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    image = {"image_size": 16, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
    cfg = {"url": "", "hf_hub": "maker/tiny/", "interpolation": "bicubic", "resize_mode": "shortest"}
    cfg |= {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
    files = {}
    for seed, name in enumerate(NAMES):
        config = {"embed_dim": 16, "vision_cfg": image, "text_cfg": text}
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, config)
        monkeypatch.setitem(open_clip.pretrained._PRETRAINED, name, {"made": cfg})
        torch.manual_seed(seed)
        model = open_clip.create_model(name, load_weights=False)
        files[name] = tmp_path / f"{name}.safetensors"
        save_file({key: value.contiguous() for key, value in model.state_dict().items()}, files[name])
    return files


@pytest.mark.slow
def test_tab8_runs_on_a_real_set_with_small_checkpoints(tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    folder = tmp_path / "ImageNet_LT"
    WRITERS["imagenet-lt"](folder)
    weights = [word for name in NAMES for word in ("--weights", f"{name}/made={checkpoints[name]}")]
    options = ["--scale", "full", "--set", "imagenet-lt", "--data", folder, *weights, "--offline", "--quick"]
    found = run("experiment", "run", "tab8", "--out", tmp_path / "runs" / "tab8", *options)
    assert found.exit_code == 0, found.output
    metrics = json.loads((tmp_path / "runs" / "tab8" / "metrics.json").read_text())
    assert metrics["strata"] == [f"{name}/made" for name in NAMES] and metrics["brought"]["offline"] is True
    verdict = json.loads(run("experiment", "verdict", tmp_path / "runs", "--json").stdout)
    assert verdict["runs"][0]["scale"] == "full imagenet-lt"
    assert f"--weights {NAMES[0]}/made=" in verdict["commands"]["tab8 full imagenet-lt"]
