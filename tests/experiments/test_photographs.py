"""The experiment on photographs, from a zoo of two tiny minis to its page; and what it asks for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from scipy.special import log_softmax, softmax

from causalft.errors import CausalFTError
from causalft.methods.estimators.settings import FitSettings
from causalft.models.strata.zoo import open_zoo
from causalft.pipelines.workflows.fit_data import load_splits
from causalft.pipelines.workflows.settings import strata_and_control
from experiments.photographs import COMPARISONS
from tests.command_line import run, said


class Made(NamedTuple):
    """A run, the words that make it without its folder, and what it printed."""

    out: Path
    words: list[str]
    printed: str


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


@pytest.fixture(scope="module")
def made(images: Path, zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A quick run: its folder, the words that make it, and what it printed."""
    out = tmp_path_factory.mktemp("made") / "out"
    words = ["experiment", "run", "photographs", "--data", str(images), "--zoo", str(zoo)]
    words += ["--quick", "--seeds", "2", "--json"]
    result = run(*words, "--out", str(out))
    assert result.exit_code == 0, result.output
    return Made(out, words, result.stdout)


def test_every_method_is_compared_and_the_control_stands_beside(made: Made) -> None:
    out = made.out
    metrics = json.loads((out / "metrics.json").read_text())
    assert json.loads(made.printed) == metrics
    assert list(metrics["paired"]) == list(COMPARISONS)
    assert {name for pair in COMPARISONS.values() for name in pair[:2]} <= set(metrics["methods"])
    assert metrics["strata"] == ["clip", "openclip"] and metrics["control"] == ["clip", "clip@1"]
    assert metrics["best_single"] in metrics["strata"] and metrics["n_test"] == 27
    for name in ("strata", "control"):
        assert {"before", "after"} <= set(metrics["P_gap"][name])
    page = (out / "report.html").read_text()
    assert "backdoor mixture of GLA" in page and "clip@1" in page
    # each member is tuned with LA, the strata with CE too, for both draws
    assert len(list(out.glob("members/*/*/*/predictions.safetensors"))) == 2 * (3 + 2)


def test_the_plan_has_every_member_with_each_of_its_losses(
    made: Made, images: Path, zoo: Path, tmp_path: Path
) -> None:
    words = ["experiment", "show", "photographs", "--data", str(images), "--zoo", str(zoo)]
    words += ["--quick", "--seeds", "2", "--json"]

    def left(out: Path) -> dict[str, tuple[int, int]]:
        plan = json.loads(run(*words, "--out", str(out)).stdout)["plan"]
        assert plan["images"]["0"]["test"] == 27
        return {member["name"]: (member["runs"], member["finished"]) for member in plan["members"]}

    assert left(tmp_path / "new") == {"clip": (4, 0), "openclip": (4, 0), "clip@1": (2, 0)}
    assert left(made.out) == {"clip": (4, 4), "openclip": (4, 4), "clip@1": (2, 2)}
    assert "give --data and --zoo for a plan" in run("experiment", "show", "photographs").stdout
    assert not (tmp_path / "new").exists()


def test_every_accuracy_is_that_of_the_method_it_stands_for(
    made: Made, images: Path, zoo: Path, tmp_path: Path
) -> None:
    """Tiny minis are all at chance, where no mistake shows: the run reads back members that say something else."""
    out = shutil.copytree(made.out, tmp_path / "out")
    (out / "metrics.json").unlink()
    splits = load_splits(FitSettings(data=str(images), zoo=str(zoo), imbalance_factor=100.0), 0)
    let_members_say_something(out, splits.validation.labels, splits.test.labels)
    result = run(*made.words, "--out", str(out))
    assert result.exit_code == 0, result.output
    metrics = json.loads(result.stdout)
    expected = by_hand(out, splits.test.labels)
    # methods that happen to agree could stand for each other unseen
    assert np.diff(sorted(expected.values())).min() > 1e-9, expected
    found = {name: row["accuracy"]["estimate"] for name, row in metrics["methods"].items()}
    assert found == pytest.approx(expected)
    gains = {
        w: expected[one] - expected[other] for w, (one, other, of) in COMPARISONS.items() if of == "accuracy"
    }
    assert {words: metrics["paired"][words]["estimate"] for words in gains} == pytest.approx(gains)


def let_members_say_something(out: Path, validation: np.ndarray, test: np.ndarray) -> None:
    """Write noisy logits that find the label more or less often, one quality a member, into the members' files."""
    rng = np.random.default_rng(17)  # one that leaves no two methods alike
    quality = {"CE/clip": 1.0, "CE/openclip": 1.4, "LA/clip": 1.2, "LA/openclip": 2.2, "LA/clip@1": 2.0}
    prior = np.array([0.7, 0.2, 0.1])
    for path in sorted(out.glob("members/*/*/*/predictions.safetensors")):
        with safe_open(path, framework="np") as file:
            arrays, about = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()
        strength = quality["/".join(path.parts[-3:-1])]
        for labels, name in ((validation, "validation"), (test, "test")):
            hint = np.eye(3)[labels]
            arrays[f"zero_shot_{name}"] = hint + np.log(prior) + rng.normal(size=hint.shape)
            arrays[f"{name}_logits"] = strength * hint + rng.normal(0, 2, hint.shape)
        save_file({**arrays, "prior": prior}, path, about)


def by_hand(out: Path, labels: np.ndarray) -> dict[str, float]:
    """Accuracy of every method from the files of the members, without the library.

    A temperature above 0 changes no argmax, and strata are not calibrated one by one, so no temperature is needed.
    """
    of_draws = []
    for draw in sorted((out / "members").iterdir()):
        LA, CE = (
            {p.parent.name: load_file(p) for p in draw.glob(f"{loss}/*/predictions.safetensors")}
            for loss in ("LA", "CE")
        )
        strata = [LA[name] for name in ("clip", "openclip")]
        tuned = [m["test_logits"] for m in strata]
        debiased = [m["zero_shot_test"] - np.log(m["prior"]) for m in strata]
        gla = [one + other for one, other in zip(debiased, tuned, strict=True)]
        of_draws.append(
            {
                "zero-shot": [m["zero_shot_test"] for m in strata],
                "GLA of zero-shot": debiased,
                "CE": [CE[name]["test_logits"] for name in ("clip", "openclip")],
                "LA": tuned,
                "GLA": gla,
                "best single": tuned,
                "logit mean": [np.mean([log_softmax(z, axis=1) for z in tuned], axis=0)],
                "backdoor mixture": [np.mean([softmax(z, axis=1) for z in tuned], axis=0)],
                "backdoor mixture of GLA": [np.mean([softmax(z, axis=1) for z in gla], axis=0)],
                "control: one model's seeds": [
                    np.mean([softmax(LA[name]["test_logits"], axis=1) for name in ("clip", "clip@1")], axis=0)
                ],
                "validation": [m["validation_logits"].argmax(1) == m["validation_labels"] for m in strata],
            }
        )
    best = int(np.argmax(np.mean([np.mean(d.pop("validation"), axis=1) for d in of_draws], axis=0)))
    for found in of_draws:
        found["best single"] = [found["best single"][best]]
    return {
        name: float(np.mean([(scores.argmax(1) == labels).mean() for d in of_draws for scores in d[name]]))
        for name in of_draws[0]
    }


def test_it_says_what_it_needs(zoo: Path, tmp_path: Path) -> None:
    line = said(run("experiment", "run", "photographs", "--zoo", str(zoo), "--out", str(tmp_path / "x")))
    assert "photographs needs --data" in line and "--zoo ZOO" in line
    line = said(run("experiment", "run", "tab8", "--zoo", str(zoo), "--out", str(tmp_path / "x")))
    assert "--zoo does nothing for tab8" in line
    assert not (tmp_path / "x").exists()


def test_the_control_has_as_many_members_as_there_are_strata(tiny_zoo: Path, tmp_path: Path) -> None:
    """A zoo with more seeds than needed serves; one with too few is told how many it takes."""
    zoo = Path(shutil.copytree(tiny_zoo, tmp_path / "zoo"))
    for name in ("manifest.parquet", "metaclip.json", "metaclip.safetensors"):
        (zoo / name).unlink() if (zoo / name).exists() else (zoo / name).touch()
    for kind in ("json", "safetensors"):
        shutil.copy(zoo / f"clip@1.{kind}", zoo / f"clip@2.{kind}")
        shutil.copy(zoo / f"clip.{kind}", zoo / f"clip-wide.{kind}")  # neither a stratum nor a seed
    assert strata_and_control(open_zoo(zoo), str(zoo)) == (("clip", "openclip"), ("clip", "clip@1"))
    for kind in ("json", "safetensors"):
        (zoo / f"clip@1.{kind}").unlink()
        (zoo / f"clip@2.{kind}").unlink()
    with pytest.raises(CausalFTError, match="2 strata .* --control-seeds 1 --out"):
        strata_and_control(open_zoo(zoo), str(zoo))
    for kind in ("json", "safetensors"):
        (zoo / f"openclip.{kind}").unlink()
    with pytest.raises(CausalFTError, match="1 stratum"):
        strata_and_control(open_zoo(zoo), str(zoo))


def test_a_zoo_without_a_control_is_refused(images: Path, tmp_path: Path) -> None:
    words = ["--data", str(images), "--zoo", "mini", "--out", str(tmp_path / "x")]
    line = said(run("experiment", "run", "photographs", *words))
    assert "the folder of a zoo" in line and "--control-seeds" in line
    assert not (tmp_path / "x").exists()
