"""``causalft diagnose --data`` as typed: its document, known priors, and what it refuses in one line."""

from __future__ import annotations

import json

import pytest

from tests.command_line import run, said

KINDS = ("ant", "bee", "cow", "doe")


@pytest.fixture(scope="module")
def words(tiny_zoo, photos):
    given = [
        "--strata",
        "clip,openclip",
        "--n-test",
        8,
        "--n-validation",
        4,
        "--n-boot",
        100,
        "--permutations",
        50,
    ]
    return ["diagnose", "--data", photos, "--zoo", tiny_zoo, *given]


@pytest.fixture
def counts(tmp_path):
    """A file of counts, by the classes it holds."""

    def write(name="counts.txt", **numbers):
        path = tmp_path / name
        path.write_text("".join(f"{kind}\t{number}\n" for kind, number in numbers.items()))
        return path

    return write


def document(*arguments):
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_json_has_the_keys_of_both_ways_of_diagnosing(words):
    found = document(*words)
    assert {"strata", "priors", "cross_table", "slope", "classes"} <= found.keys()
    assert set(found["strata"]) == {"clip", "openclip"} == set(found["priors"])
    row = found["classes"][0]
    assert row["class"] == "ant" and row["D"] == "few" and row["n_train"] == 18 and row["n_test"] == 8
    assert set(row["P"]) == {"clip", "openclip"} and row["count"] == {"clip": None, "openclip": None}
    assert set(row["accuracy"]) == set(row["taken_for"]) == {"clip", "openclip", "fused"}
    assert found["conclusion"] and found["data"]["n_train"] == 72


def test_known_counts_stand_beside_the_estimate_and_define_the_groups(words, counts):
    file = counts(ant=1, bee=10, cow=100, doe=1000)
    found = document(*words, "--prior-of", f"clip={file}", "--prior-of", f"openclip={file}")
    assert set(found["prior_from"].values()) == {"known"}
    assert [row["P"]["clip"] for row in found["classes"]] == ["few", "few", "medium", "many"]
    assert [row["count"]["clip"] for row in found["classes"]] == [1, 10, 100, 1000]
    assert found["slope"]["claimed"] is False and found["likeness"]["too_alike"]
    prior = found["priors"]["clip"]
    assert prior["source"] == str(file) and prior["n_known"] == 4 == prior["truth"]["n_known"]
    assert prior["classes"][3]["true_prior"] == pytest.approx(1000 / 1111)
    assert found["by_estimate"]["slope"].keys() >= {"estimate", "ci95"}


def test_a_class_without_a_count_is_named(words, counts):
    found = document(*words, "--prior-of", f"clip={counts(ant=1, bee=10, cow=100)}")
    assert found["left_out"] == ["doe"] and found["classes"][3]["count"]["clip"] is None
    assert any("no count for one class" in note or "doe" in note for note in found["notes"])


def test_tables_and_sentences_are_printed(words):
    shown = run(*words)
    assert shown.exit_code == 0, shown.output
    for part in ("P-many minus P-few", "GLA-ZS", "Logit adjustment (LA):", "Backdoor adjustment (fusion):"):
        assert part in shown.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--class-accuracy", "x.csv"], "give either --data or --class-accuracy, not both"),
        (["--models", "x"], "--models goes with --class-accuracy FILE, not with --data"),
        (["--test-images", 5], "--test-images goes with --class-accuracy FILE, not with --data"),
        (["--strata", "clip,clip"], "a stratum is named twice"),
        (["--strata", "clap"], "no stratum 'clap'"),
        (["--prior-of", "clop=x.txt"], "--prior-of clop: no model is called so; did you mean 'clip'"),
        (["--prior-of", "clip=lost.txt"], "lost.txt: no such file"),
        (["--zero-counts", "unknown"], "--zero-counts goes with --prior-of NAME=FILE"),
        (["--prior-images", 0], "'--prior-images': '0' is out of range"),
        (["--batch-size", 0], "'--batch-size': '0' is out of range"),
        (["--prompts", "fine"], "'fine' is no set of templates"),
        (["--order", "class"], "--order goes with --imbalance-factor"),
    ],
)
def test_bad_options_are_refused_in_one_line(words, options, message):
    assert message in said(run(*words, *options))


def test_counts_of_other_classes_are_refused(words, counts):
    assert "count for only 1 of 4 classes" in said(run(*words, "--prior-of", f"clip={counts(ant=1, elk=2)}"))


def test_one_way_of_diagnosing_is_asked_for():
    assert "nothing to diagnose; give images with --data" in said(run("diagnose"))
    line = said(run("diagnose", "--class-accuracy", "x.csv", "--strata", "clip"))
    assert "--strata goes with --data, not with --class-accuracy" in line


def test_built_in_data_bring_their_splits():
    assert "brings its splits and its order" in said(run("diagnose", "--data", "creatures-lt", "--n-test", 3))
