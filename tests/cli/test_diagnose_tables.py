"""``causalft diagnose --class-accuracy``: from tables of class accuracy to numbers and a page, and refusals."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest

from tests import command_line
from tests.analysis.class_evidence.made_up import counts_and_accuracy
from tests.command_line import said

run = partial(command_line.run, "diagnose")
K = 60
MODELS = ["RN50_cc12m", "RN50_yfcc15m", "ViT_cc12m"]
QUICK = ["--n-boot", 60, "--permutations", 60]


def names(k=K):
    return [f"class {i}" for i in range(k)]


@pytest.fixture
def tables(tmp_path):
    """Accuracies of three models in one file, and counts of two pre-training sets; slope 0.2."""
    x, y = counts_and_accuracy(2, K, slope=0.2, noise=0.02)
    y = np.clip(y, 0, 1)
    rows = dict(zip(MODELS, [y[0], y[1], y[0]]))
    document = {
        m: {"full": 1, "classwise": dict(zip(names(), (100 * r).round(3).tolist()))} for m, r in rows.items()
    }
    (tmp_path / "acc.json").write_text(json.dumps(document))
    for name, row in zip(("cc12m", "yfcc15m"), x):
        counts = (10**row).round().astype(int)
        (tmp_path / f"{name}.txt").write_text("".join(f"{c}\t{n}\n" for c, n in zip(names(), counts)))
    return tmp_path


def given(tables, *more):
    priors = [
        "--prior-of",
        f"cc12m={tables / 'cc12m.txt'}",
        "--prior-of",
        f"yfcc15m={tables / 'yfcc15m.txt'}",
    ]
    return ["--class-accuracy", tables / "acc.json", "--models", "RN50", *priors, *QUICK, *more]


def test_json_has_the_promised_keys_and_the_known_slope(tables):
    result = run(*given(tables, "--test-images", 50, "--json"))
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert {"strata", "priors", "cross_table", "slope", "classes", "placebo", "variants", "likeness"} <= set(
        found
    )
    assert found["strata"]["cc12m"]["model"] == "RN50_cc12m"
    assert found["slope"]["ci95"][0] < 20 < found["slope"]["ci95"][1] and found["slope"]["claimed"]
    assert found["slope"]["ci95_images"] is not None
    assert found["priors"]["yfcc15m"]["n_known"] == K
    first = found["classes"][0]
    assert first["class"] == "class 0" and set(first["P"]) == {"cc12m", "yfcc15m"} and first["n_test"] == 50
    assert first["P"]["cc12m"] in {"many", "medium", "few"} and 0 <= first["accuracy"]["cc12m"] <= 1
    assert "percent" in found["notes"][0]


def test_printed_summary_says_what_was_read_and_found_in_plain_words(tables):
    result = run(*given(tables))
    assert result.exit_code == 0, result.output
    text = " ".join(result.stdout.split())
    assert "Parameter imbalance: a class a hundred times rarer" in text
    assert "intervals are over classes only" in text and "read as percent" in text


def test_run_folder_holds_a_self_contained_page_and_refuses_another_run(tables):
    out = tables / "out"
    assert run(*given(tables, "--out", out)).exit_code == 0
    page = (out / "report.html").read_text()
    assert "http" not in page.replace("http://www.w3.org", "") and "<script src" not in page
    assert "Parameter imbalance" in page
    config = json.loads((out / "config.json").read_text())
    assert config["kind"] == "diagnose" and str(tables) not in json.dumps(config)
    assert sorted(p.name for p in (out / "figures").iterdir()) == [
        "counts.png",
        "cross_table.png",
        "slopes.png",
    ]
    again = run(*given(tables, "--out", out))
    assert again.exit_code == 2 and str(out) in said(again)


def test_further_models_appear_in_the_cross_table_only(tables):
    document = json.loads((tables / "acc.json").read_text())
    document["RN50_cc3m"] = document["RN50_cc12m"]
    (tables / "acc.json").write_text(json.dumps(document))
    found = json.loads(run(*given(tables, "--json")).stdout)
    assert set(found["strata"]) == {"cc12m", "yfcc15m"}
    assert found["outside_models"]["cc3m"]["model"] == "RN50_cc3m"
    assert set(found["cross_table"]) == {"cc12m", "yfcc15m", "cc3m"}
    assert "difficulty_by_model" in found["checks"]


def test_models_of_several_files_and_test_counts_of_a_file(tables):
    document = json.loads((tables / "acc.json").read_text())
    for name in MODELS[:2]:
        table = {c.replace(" ", "_").upper(): v / 100 for c, v in document[name]["classwise"].items()}
        (tables / f"{name}.json").write_text(json.dumps(table))
    counts = dict.fromkeys(names()[1:], 25)
    (tables / "n.json").write_text(json.dumps(counts))
    files = [word for name in MODELS[:2] for word in ("--class-accuracy", tables / f"{name}.json")]
    found = json.loads(run(*files, *given(tables)[4:], "--test-images", tables / "n.json", "--json").stdout)
    assert found["left_out"] == ["CLASS_0"] and found["n_classes"] == K - 1
    assert found["classes"][1]["n_test"] == 25 and "fractions" in found["notes"][0]


def test_one_model_has_a_gap_and_no_slope(tables):
    prior = ["--prior-of", f"RN50_cc12m={tables / 'cc12m.txt'}"]
    out = tables / "one"
    result = run("--class-accuracy", tables / "acc.json", *prior, *QUICK, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["slope"]["estimate"] is None and found["own_minus_off"] is None
    assert "class difficulty" in found["conclusion"][0]
    assert (out / "report.html").exists() and [f.name for f in (out / "figures").iterdir()] == ["counts.png"]


def test_equal_priors_claim_no_slope(tables):
    same = ["--prior-of", f"cc12m={tables / 'cc12m.txt'}", "--prior-of", f"yfcc15m={tables / 'cc12m.txt'}"]
    words = ["--class-accuracy", tables / "acc.json", "--models", "RN50", *same, *QUICK]
    result = run(*words, "--out", tables / "same", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["slope"]["claimed"] is False and found["likeness"]["too_alike"]
    assert found["conclusion"][0].startswith("No slope is claimed, for the priors are too alike")
    drawn = sorted(file.name for file in (tables / "same" / "figures").iterdir())
    assert drawn == ["counts.png", "cross_table.png"]  # no checks of what is not claimed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--class-accuracy", "gone.json"], "no such file"),
        (["--prior-of", "cc12m"], "is not NAME=FILE"),
        (["--prior-of", "cc3m=cc12m.txt"], "--prior-of cc3m: no model is called so"),
        (["--prior-of", "RN50=cc12m.txt"], "could be 2 models (RN50_cc12m, RN50_yfcc15m)"),
        (["--prior-of", "RN50_cc12m=cc12m.txt"], "both mean RN50_cc12m"),
        (["--models", "alexnet"], "matches no model"),
        (["--test-images", "0"], "--test-images"),
        (["--test-images", "gone.txt"], "no such file"),
        (["--accuracy-unit", "promille"], "promille"),
        (["--accuracy-unit", "fractions"], "not a fraction from 0 to 1"),
        (["--prior-map", "gone.csv"], "no such file"),
        (["--zero-counts", "maybe"], "maybe"),
        (["--n-boot", "3"], "--n-boot"),
    ],
)
def test_wrong_options_end_in_one_line(tables, change, words, monkeypatch):
    monkeypatch.chdir(tables)
    assert words in said(run(*given(tables), *change))


def test_counts_of_other_classes_are_refused_with_the_way_out(tables):
    (tables / "cc12m.txt").write_text("".join(f"thing {k}\t{k + 1}\n" for k in range(K)))
    line = said(run(*given(tables)))
    assert "for only 0 of 60 classes" in line and "--prior-map FILE" in line


def test_nothing_given_is_refused():
    assert "--class-accuracy FILE" in said(run())
    assert "--prior-of NAME=FILE" in said(run("--class-accuracy", "a.json"))
