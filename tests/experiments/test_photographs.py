"""The experiment on photographs, from a zoo of two tiny minis to its page; and what it asks for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.photographs import COMPARISONS
from tests.command_line import run, said

CLASSES = ("disc", "stripes", "noise")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 60 small pictures, one folder each."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:16, :16]
    for name in CLASSES:
        (folder / name).mkdir()
        for number in range(60):
            pixels = rng.normal(60, 25, (16, 16, 3))
            colour = rng.uniform(60, 180, 3)
            if name == "disc":
                pixels += ((x - rng.uniform(5, 11)) ** 2 + (y - rng.uniform(5, 11)) ** 2 < 20)[
                    ..., None
                ] * colour
            if name == "stripes":
                pixels += ((x + rng.integers(4)) % 4 < 2)[..., None] * colour
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def zoo(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two minis of two views, and a second seed of the first."""
    folder = tmp_path_factory.mktemp("zoo") / "zoo"
    words = ["--member", "clip=upper", "--member", "openclip=lower", "--control-seeds", "1", "--epochs", "2"]
    words += ["--n-validation", "3", "--n-test", "9", "--imbalance-factor", "4", "--image-size", "16"]
    result = run("zoo", "pretrain", "--data", str(images), "--out", str(folder), *words, "--jobs", "1")
    assert result.exit_code == 0, result.output
    return folder


def test_every_method_is_compared_and_the_control_stands_beside(
    images: Path, zoo: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ["--data", str(images), "--zoo", str(zoo), "--out", str(out), "--quick", "--seeds", "2", "--json"]
    result = run("experiment", "run", "photographs", *words)
    assert result.exit_code == 0, result.output
    metrics = json.loads((out / "metrics.json").read_text())
    assert json.loads(result.stdout) == metrics
    assert list(metrics["paired"]) == list(COMPARISONS)
    assert {name for pair in COMPARISONS.values() for name in pair[:2]} <= set(metrics["methods"])
    assert metrics["strata"] == ["clip", "openclip"] and metrics["control"] == ["clip", "clip@1"]
    assert metrics["best_single"] in metrics["strata"] and metrics["n_test"] == 27
    gain = metrics["paired"]["mixture, best single"]["estimate"]
    parts = [metrics["methods"][name]["accuracy"]["estimate"] for name in ("backdoor mixture", "best single")]
    assert gain == pytest.approx(parts[0] - parts[1])
    for name in ("strata", "control"):
        assert {"before", "after"} <= set(metrics["P_gap"][name])
    page = (out / "report.html").read_text()
    assert "backdoor mixture of GLA" in page and "clip@1" in page
    # each member is tuned with LA, the strata with CE too, for both draws
    assert len(list(out.glob("members/*/*/*/predictions.safetensors"))) == 2 * (3 + 2)


def test_it_says_what_it_needs(zoo: Path, tmp_path: Path) -> None:
    line = said(run("experiment", "run", "photographs", "--zoo", str(zoo), "--out", str(tmp_path / "x")))
    assert "photographs needs --data" in line and "--zoo ZOO" in line
    line = said(run("experiment", "run", "tab8", "--zoo", str(zoo), "--out", str(tmp_path / "x")))
    assert "--zoo does nothing for tab8" in line
    assert not (tmp_path / "x").exists()


def test_a_zoo_without_a_control_is_refused(images: Path, tmp_path: Path) -> None:
    words = ["--data", str(images), "--zoo", "mini", "--out", str(tmp_path / "x")]
    line = said(run("experiment", "run", "photographs", *words))
    assert "the folder of a zoo" in line and "--control-seeds" in line
    assert not (tmp_path / "x").exists()
