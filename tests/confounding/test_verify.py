"""The A/B experiment from the command line: its documents, its resuming, its errors, and the network's form."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from causalft.cli import main
from causalft.confounding import trial, verify, verify_confounder
from causalft.confounding.page import explain_sets, verdict_line
from causalft.confounding.resnet import resnet
from causalft.errors import CausalFTError

TINY = ["verify-confounder", "--quick", "--classes", "bird,truck", "--n-per-class", "12", "--seeds", "2"]


def invoke(*arguments):
    return CliRunner().invoke(main, [*map(str, arguments)])


@pytest.fixture(autouse=True)
def short_training(monkeypatch):
    monkeypatch.setattr(
        verify, "QUICK", replace(verify.QUICK, size=16, recipe=replace(verify.QUICK.recipe, epochs=2))
    )


def test_resnet32_has_the_form_of_he_et_al():
    model = resnet("resnet32", 10, seed=0)
    assert sum(p.numel() for p in model.parameters()) == 464_154
    weighted = [m for m in model.modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))]
    assert len(weighted) == 32
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    assert [
        len(
            [
                m
                for m in resnet(f"resnet{n}", 6, 0).modules()
                if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))
            ]
        )
        for n in (8, 20)
    ] == [8, 20]


def test_weights_come_from_the_seed_alone():
    state = torch.get_rng_state()
    first = resnet("resnet8", 6, seed=1).state_dict()
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(99)
    again, other = resnet("resnet8", 6, seed=1).state_dict(), resnet("resnet8", 6, seed=2).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["stem.0.weight"], other["stem.0.weight"])


def test_command_writes_the_run_and_prints_its_document(tmp_path):
    result = invoke(*TINY, "--out", tmp_path / "run", "--json")
    assert result.exit_code == 0, result.output
    metrics = json.loads(result.stdout)
    assert metrics == json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert {
        "design",
        "generator",
        "seeds",
        "n_per_class",
        "cells",
        "tests",
        "verdict",
        "seconds",
    } <= metrics.keys()
    assert metrics["design"] == "confounded" and metrics["seeds"] == [0, 1] and metrics["n_per_class"] == 12
    assert set(metrics["cells"]) == {"A->A", "A->B", "B->A", "B->B"}
    for cell in metrics["cells"].values():
        assert 0 <= cell["ci95"][0] <= cell["mean"] <= cell["ci95"][1] <= 1
        assert cell["mean"] == pytest.approx(np.mean(cell["per_seed"])) and len(cell["per_seed"]) == 2
    cells = {name: cell["mean"] for name, cell in metrics["cells"].items()}
    tests = {name: test["estimate"] for name, test in metrics["tests"].items()}
    assert tests["gap_B"] == pytest.approx(cells["B->B"] - cells["B->A"])
    assert tests["gap_A"] == pytest.approx(cells["A->B"] - cells["A->A"])
    assert tests["A_minus_B_on_A"] == pytest.approx(cells["A->A"] - cells["B->A"])
    assert all(0 <= test["p"] <= 1 and len(test["ci95"]) == 2 for test in metrics["tests"].values())
    assert metrics["verdict"] == "inconclusive" and "too few images" in metrics["reason"]

    import pandas

    table = pandas.read_parquet(tmp_path / "run" / "predictions.parquet")
    right = (table.label == table.prediction).groupby([table.trained_on, table.tested_on]).mean()
    assert right["B", "A"] == pytest.approx(cells["B->A"])
    page = (tmp_path / "run" / "report.html").read_text()
    assert (
        "inconclusive" in page and page.count("data:image/png;base64") == 2 and "--classes bird,truck" in page
    )
    assert not list((tmp_path / "run" / "models").glob("*.safetensors"))

    again = invoke(*TINY, "--out", tmp_path / "run")
    assert again.exit_code == 2 and "already holds a complete" in again.stderr


def test_people_get_a_table_and_what_the_paper_design_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("verify-confounder-paper", "verify-confounder-paper-2"):
        result = invoke(*TINY, "--design", "paper")
        assert result.exit_code == 0, result.output
        assert (
            "verdict: inconclusive" in result.stdout
            and "C shifts between A and B but never tells Y" in " ".join(result.stdout.split())
            and "resnet8 (quick)" in result.stdout
        )
        assert (tmp_path / "runs" / folder / "report.html").exists()
        assert (
            max(map(len, result.stdout.splitlines())) <= 80
            and "gap_B: B->B minus B->A: what" in result.stdout
        )


@pytest.mark.parametrize(
    "design, meaning, verified",
    [
        (
            "paper",
            "never tells Y",
            "verified: which part is in view changes what this classifier learns (a shift of",
        ),
        (
            "confounded",
            "depends on the class",
            "verified: which part is in view confounds this classifier: R",
        ),
        ("null", "pictures ignore the label", "verified: a false alarm"),
    ],
)
def test_the_words_say_what_a_b_c_and_y_are_and_what_is_verified(design, meaning, verified):
    metrics = {
        "design": design,
        "classes": ["cat", "dog"],
        "ratio": 0.8,
        "verdict": "verified",
        "reason": "R",
    }
    lines = explain_sets(metrics)
    assert [line[:2] for line in lines] == ["Y:", "C:", "A:", "B:"]
    assert meaning in lines[3] and "80 %" in lines[3]
    assert verdict_line(metrics).startswith(verified) and verdict_line(metrics).endswith(": R")
    assert verdict_line(metrics | {"verdict": "not detected"}) == "not detected: R"


def test_the_same_seed_gives_the_same_numbers_and_an_interrupted_run_resumes(tmp_path, monkeypatch):
    options = {"classes": ["bird", "truck"], "n_per_class": 10, "seeds": 2, "quick": True, "progress": False}
    whole = verify_confounder("confounded", **options)
    train, calls = trial.train, []

    def stop_at_the_third(*arguments, **named):
        calls.append(named["label"])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return train(*arguments, **named)

    monkeypatch.setattr(trial, "train", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        verify_confounder("confounded", out=tmp_path / "run", **options)
    assert not (tmp_path / "run" / "metrics.json").exists()
    with pytest.raises(CausalFTError, match="another interrupted.*design"):
        verify_confounder("paper", out=tmp_path / "run", **options)
    resumed = verify_confounder("confounded", out=tmp_path / "run", **options)
    assert len(calls) == 3 + 2, "the two finished models are not trained again"
    assert resumed.cells == whole.cells and resumed.tests == whole.tests and "verdict" in repr(resumed)


def test_ctrl_c_is_one_line(tmp_path, monkeypatch):
    def stop(*arguments, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr(trial, "train", stop)
    result = invoke(*TINY, "--out", tmp_path / "run")
    assert result.exit_code == 130 and "repeat the command to resume" in result.stderr
    assert not (tmp_path / "run" / "metrics.json").exists()


@pytest.mark.parametrize(
    "options, message",
    [
        (["--design", "confonded"], "did you mean 'confounded'"),
        (["--classes", "cat,trukc"], "did you mean 'truck'"),
        (["--classes", "cat"], "one class only (cat)"),
        (["--ratio", "100:0"], "ratio 1 is out of range"),
        (["--ratio", "a:b"], "--ratio a:b: not a ratio"),
        (["--n-per-class", "3"], "too small"),
        (["--seeds", "0"], "0 seeds"),
        (["--first-seed", "-1"], "negative"),
        (["--backbone", "resnet50"], "no backbone 'resnet50'"),
        (["--generator", "diffusion"], "no generator 'diffusion'"),
    ],
)
def test_bad_options_give_one_line_and_no_folder(tmp_path, options, message):
    result = invoke("verify-confounder", "--quick", "--out", tmp_path / "out", *options)
    assert result.exit_code == 2 and message in result.stderr and "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1 and not (tmp_path / "out").exists()


def test_fig12_gathers_the_three_designs(tmp_path, monkeypatch):
    from experiments import fig12

    def small(design, **named):
        return verify_confounder(design, classes=["bird", "truck"], n_per_class=10, progress=False, **named)

    monkeypatch.setattr("causalft.confounding.verify_confounder", small)
    metrics = fig12.EXPERIMENT.run(tmp_path / "run", True, 2)
    assert [row[0] for row in metrics["table"]["rows"]] == ["paper", "confounded", "null"]
    assert len(metrics["conclusion"]) == 4 and (tmp_path / "run" / "report.html").exists()
    cell = metrics["designs"]["null"]["cells"]["A->A"]["mean"]
    assert metrics["table"]["rows"][2][1].startswith(f"{100 * cell:.1f} [")
    assert "fig12 --seeds 2 --quick" in (tmp_path / "run" / "report.html").read_text()
