"""The A/B experiment from the command line: its documents, its resuming, its errors, and the network's form."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from causalft.analysis.confounding import battery
from causalft.analysis.confounding.statistics import CELLS, CONTRASTS
from causalft.analysis.confounding.verdict import PATH_TESTS
from causalft.analysis.confounding.words import VERDICT_WORDS
from causalft.errors import CausalFTError
from causalft.models.resnet import resnet
from causalft.models.tuning.train import Recipe
from causalft.pipelines.workflows import trial
from causalft.pipelines.workflows import verify_confounder as verify
from causalft.pipelines.workflows.verify_confounder import verify_confounder
from synthetic.designs import make_design
from synthetic.generate import Renderer
from tests.command_line import run

TINY = ["verify-confounder", "--quick", "--classes", "bird,truck", "--n-per-class", "12", "--seeds", "2"]
SMALL = {"classes": ["bird", "truck"], "n_per_class": 10, "seeds": 2, "quick": True, "progress": False}


@pytest.fixture(autouse=True)
def short_training(monkeypatch):
    """Two epochs on pictures of 16 pixels, and as few simulations as the refuters take."""
    plan_for = verify.plan_for
    monkeypatch.setattr(verify, "plan_for", lambda *given: replace(plan_for(*given), size=16))
    monkeypatch.setattr(verify.Plan, "recipe", lambda plan, n: Recipe(epochs=2, batch_size=32, lr=0.1))
    monkeypatch.setattr(battery, "refute", partial(battery.refute, simulations=10))


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
    result = run(*TINY, "--out", tmp_path / "run", "--json")
    assert result.exit_code == 0, result.output
    metrics = json.loads(result.stdout)
    assert metrics == json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["design"] == "confounded" and metrics["seeds"] == [0, 1] and metrics["n_per_class"] == 12
    assert metrics["generator"] == "renderer" and metrics["backbone"] == "resnet8" and metrics["seconds"] > 0
    assert set(metrics["cells"]) == {*CELLS, "adjusted->A", "adjusted->B"}
    for cell in metrics["cells"].values():
        assert 0 <= cell["ci95"][0] <= cell["mean"] <= cell["ci95"][1] <= 1
        assert cell["mean"] == pytest.approx(np.mean(cell["per_seed"])) and len(cell["per_seed"]) == 2
    cells = {name: cell["mean"] for name, cell in metrics["cells"].items()}
    tests = {name: test["estimate"] for name, test in metrics["tests"].items()}
    assert tests["gap_B"] == pytest.approx(cells["B->B"] - cells["B->A"])
    assert tests["gap_A"] == pytest.approx(cells["A->B"] - cells["A->A"])
    assert tests["A_minus_B_on_A"] == pytest.approx(cells["A->A"] - cells["B->A"])
    assert tests["gap_closed"] == pytest.approx(cells["adjusted->A"] - cells["B->A"])
    assert metrics["verdict"] == "inconclusive" and "too few images" in metrics["reason"]

    import pandas

    table = pandas.read_parquet(tmp_path / "run" / "predictions.parquet")
    right = (table.label == table.prediction).groupby([table.model, table.tested_on]).mean()
    assert right["B", "A"] == pytest.approx(cells["B->A"])
    assert right["adjusted", "A"] == pytest.approx(cells["adjusted->A"])
    assert set(table.model) == {"A", "B", "adjusted", "ipw", "frontdoor"}
    assert not list((tmp_path / "run" / "models").glob("*.safetensors"))

    again = run(*TINY, "--out", tmp_path / "run")
    assert again.exit_code == 2 and "already holds a complete" in again.stderr


def test_document_and_page_have_truth_estimates_tests_and_power(tmp_path):
    found = verify_confounder(
        "confounded", out=tmp_path / "run", command="causalft verify-confounder --quick", **SMALL
    )
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    law = np.array(metrics["truth"]["p_y_do_x"])
    assert law.shape == (4, 2) and np.allclose(law.sum(1), 1)
    assert 0 < metrics["truth"]["tv"] < 1 and metrics["truth"]["kl"] > 0
    assert set(metrics["estimates"]) == {"naive", "backdoor", "ipw", "frontdoor"}
    for estimate in metrics["estimates"].values():
        assert 0 <= estimate["tv_to_truth"] <= 1 and estimate["coverage"] is None
        assert np.allclose(np.array(estimate["p_y"]).sum(1), 1)
    assert set(metrics["tests"]) == {
        *CONTRASTS,
        *("c_to_x", "c_to_y", "open_backdoor_path", "gap_closed", "placebo_c", "placebo_treatment"),
        *("dummy_outcome", "random_common_cause", "subset_stability", "unobserved_confounder"),
    }
    for name, test in metrics["tests"].items():
        assert 0 <= test["p"] <= 1 and len(test["ci95"]) == 2 and len(test["words"]) > 20, name
    corrected = {name for name, test in metrics["tests"].items() if "p_holm" in test}
    assert corrected == {"gap_B", "A_minus_B_on_A", "gap_B_minus_gap_A", *PATH_TESTS, "gap_closed"}
    assert all(metrics["tests"][name]["p_holm"] >= metrics["tests"][name]["p"] for name in corrected)
    assert set(metrics["power"]) >= {"images_needed", "seeds_needed"}

    page = (tmp_path / "run" / "report.html").read_text()
    for heading in (
        *("The question", "What was found", "The truth beside the estimates", "The tests"),
        *("What the networks saw", "what would change it"),
    ):
        assert heading in page
    figures = {path.stem for path in (tmp_path / "run" / "figures").glob("*.png")}
    assert figures == {"cells", "samples", "estimates", "graph"}
    assert page.count('<img src="data:image/svg+xml') == 4 and "causalft verify-confounder --quick" in page
    assert "nan" not in page.replace("data:image", "").split("<h2")[1][:3000]
    box = re.search(r'<p class="verdict">(.*?)</p>', page)
    assert box is not None and box[1] == VERDICT_WORDS[found.verdict].headline and len(box[1]) < 80
    assert found.verdict in page and "P(Y | do(X))" in page


def test_one_seed_gives_no_intervals(tmp_path):
    found = verify_confounder("confounded", out=tmp_path / "run", **{**SMALL, "seeds": 1})
    assert (
        found.verdict == "inconclusive" and found.reason.startswith("one seed only") and found.power is None
    )
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["estimates"]["naive"]["ci95"] == [None, None]
    text = re.sub(r"<[^>]*>", " ", (tmp_path / "run" / "report.html").read_text())
    assert not re.search(r"\b(nan|inf)\b", text, re.IGNORECASE)


def test_without_overlap_adjusted_model_and_curve_are_absent_with_notes():
    found = verify_confounder("paper", curve=True, **SMALL)
    assert set(found.cells) == set(CELLS) and set(found.estimates) == {"naive"} and found.curve is None
    assert "no adjusted model" in found.notes[0] and "no curve" in found.notes[-1]
    assert found.truth.tv == pytest.approx(0, abs=1e-9) and found.share_closed is None


def test_without_adjustment_two_networks_are_trained(monkeypatch):
    labels, train = [], trial.train
    monkeypatch.setattr(
        trial, "train", lambda *a, **named: labels.append(named["label"]) or train(*a, **named)
    )
    found = verify_confounder("confounded", adjust=False, **{**SMALL, "seeds": 1})
    assert len(labels) == 2 and "model 2 of 2" in labels[1]
    assert "gap_closed" not in found.evidence and found.notes == ()


def test_a_curve_gives_each_estimate_its_coverage(monkeypatch, tmp_path):
    monkeypatch.setattr(verify, "bias_curve", partial(verify.bias_curve, repetitions=20))
    monkeypatch.setattr(verify, "CURVE_NS", (300, 1000))
    verify_confounder("confounded", curve=True, out=tmp_path / "run", **{**SMALL, "seeds": 1})
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert 0.8 < metrics["estimates"]["backdoor"]["coverage"] <= 1
    assert metrics["estimates"]["naive"]["coverage"] < 0.8 and metrics["curve"]["ns"] == [300, 1000]
    assert (tmp_path / "run" / "figures" / "curve.png").exists()


def test_impossible_image_is_refused_before_training(monkeypatch, tmp_path):
    monkeypatch.setattr(trial, "train", lambda *a, **k: pytest.fail("trained"))
    with pytest.raises(CausalFTError, match="bird body") as error:
        verify_confounder("paper", strength=1.0, out=tmp_path / "run", **SMALL)
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


def test_a_design_object_states_its_own_classes():
    design = make_design("confounded", ["cat", "dog", "truck"])
    with pytest.raises(CausalFTError, match="states its own classes"):
        verify_confounder(design, classes=["cat", "dog"])
    with pytest.raises(CausalFTError, match="states its own classes"):
        verify_confounder(design, strength=0.5)
    found = verify_confounder(design, n_per_class=8, seeds=1, quick=True, progress=False)
    assert found.design is design and found.truth.p_y_do_x.shape == (6, 3)


class Counting(Renderer):
    """A renderer that passes for a slow generator and counts its pictures."""

    name = "counting"

    def __init__(self):
        super().__init__(16)
        self.drawn = 0

    def draw(self, requests):
        self.drawn += len(requests)
        return super().draw(requests)


def test_a_slow_generator_draws_each_picture_once(tmp_path):
    source = Counting()
    found = verify_confounder("confounded", generator=source, out=tmp_path / "run", **SMALL)
    assert source.drawn == 2 * 4 * 2 * 10, (
        "two seeds, four sets, two classes, ten pictures; none for the page"
    )
    assert found.generator == "counting" and found.provenance["size"] == "16"
    assert (
        found.metrics()["cells"]
        == verify_confounder("confounded", generator=Counting(), **SMALL).metrics()["cells"]
    )


@pytest.mark.slow
def test_quick_draws_a_pool_once_from_a_slow_generator(tmp_path, monkeypatch):
    monkeypatch.setattr(verify, "POOL", 6)
    source = Counting()
    settings = {**SMALL, "n_per_class": 30}
    found = verify_confounder("confounded", generator=source, out=tmp_path / "run", **settings)
    assert source.drawn == 48, "two halves, two classes, two parts, six images"
    assert "6 for training and 6 for testing" in found.notes[-1]
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["config"]["pool"] == 6 and len(list((tmp_path / "run" / "pictures").rglob("*.png"))) == 48
    in_memory = verify_confounder("confounded", generator=Counting(), **settings)
    assert found.cells == in_memory.cells


def test_command_prints_tables_and_the_verdict_of_the_paper_design(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("verify-confounder-paper", "verify-confounder-paper-2"):
        result = run(*TINY, "--design", "paper", "--seeds", "1")
        assert result.exit_code == 0, result.output
        words = " ".join(result.stdout.split())
        assert "verdict: inconclusive" in words and "C shifts between A and B but never predicts Y" in words
        assert "resnet8 (quick)" in words and (tmp_path / "runs" / folder / "report.html").exists()


def test_the_same_seed_gives_the_same_numbers_and_an_interrupted_run_resumes(tmp_path, monkeypatch):
    whole = verify_confounder("confounded", **SMALL)
    train, calls = trial.train, []

    def stop_at_the_third(*arguments, **named):
        calls.append(named["label"])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return train(*arguments, **named)

    monkeypatch.setattr(trial, "train", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        verify_confounder("confounded", out=tmp_path / "run", **SMALL)
    assert not (tmp_path / "run" / "metrics.json").exists()
    with pytest.raises(CausalFTError, match="another interrupted.*design"):
        verify_confounder("paper", out=tmp_path / "run", **SMALL)
    resumed = verify_confounder("confounded", out=tmp_path / "run", **SMALL)
    assert len(calls) == 3 + 4, "the two finished models are not trained again"
    assert resumed.cells == whole.cells and resumed.gaps == whole.gaps and "verdict" in repr(resumed)
    assert {k: v.per_seed for k, v in resumed.estimates.items()} == {
        k: v.per_seed for k, v in whole.estimates.items()
    }


def test_ctrl_c_is_one_line(tmp_path, monkeypatch):
    def stop(*arguments, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr(trial, "train", stop)
    result = run(*TINY, "--out", tmp_path / "run")
    assert result.exit_code == 130 and "repeat the command to resume" in result.stderr
    assert not (tmp_path / "run" / "metrics.json").exists()


@pytest.mark.parametrize(
    "options, message",
    [
        (["--design", "confonded"], "did you mean 'confounded'"),
        (["--classes", "cat,trukc"], "did you mean 'truck'"),
        (["--classes", "cat"], "one class only (cat)"),
        (["--ratio", "100:0"], "ratio 1 is out of range"),
        (["--ratio", "a:b"], "'--ratio': 'a:b' is not a ratio"),
        (["--n-per-class", "3"], "too small"),
        (["--seeds", "0"], "'--seeds': '0' is out of range"),
        (["--first-seed", "-1"], "'--first-seed': '-1' is out of range"),
        (["--backbone", "resnet50"], "no backbone 'resnet50'"),
        (["--generator", "diffusion"], "no generator 'diffusion'"),
    ],
)
def test_bad_options_give_one_line_and_no_folder(tmp_path, options, message):
    result = run("verify-confounder", "--quick", "--out", tmp_path / "out", *options)
    assert result.exit_code == 2 and message in result.stderr and "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1 and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_fig12_gathers_the_three_designs(tmp_path, monkeypatch):
    from experiments import fig12

    def small(design, **named):
        return verify_confounder(design, classes=["bird", "truck"], n_per_class=10, progress=False, **named)

    monkeypatch.setattr("causalft.pipelines.workflows.verify_confounder.verify_confounder", small)
    metrics = fig12.EXPERIMENT.run(tmp_path / "run", True, 2)
    assert [row[0] for row in metrics["table"]["rows"]] == ["paper", "confounded", "null"]
    assert len(metrics["conclusion"]) == 4 and (tmp_path / "run" / "report.html").exists()
    cell = metrics["designs"]["null"]["cells"]["A->A"]["mean"]
    assert metrics["table"]["rows"][2][1].startswith(f"{100 * cell:.1f} [")
    assert "fig12 --seeds 2 --quick" in (tmp_path / "run" / "report.html").read_text()


def test_undefined_test_is_null_not_zero(tmp_path):
    # in `paper` the part is C: no picture occurs with both values of C, and the path cannot be told
    words = (
        "verify-confounder --design paper --classes bird,truck --n-per-class 8 --seeds 1 --quick --no-adjust"
    )
    result = run(*words.split(), "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert (
        json.loads((tmp_path / "run" / "metrics.json").read_text())["tests"]["open_backdoor_path"]["estimate"]
        is None
    )
    (row,) = [line for line in result.output.splitlines() if "open_backdoor_path:" in line]
    assert "unknown" in row
