"""The experiment on public tables: families found from file names, known truths, refusals, and the first reading."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from causalft.pipelines.workflows.public_tables import families_of, plausible_counts, synonyms_by_place
from tests.analysis.class_evidence.made_up import counts_and_accuracy
from tests.command_line import run, said

PUBLIC = Path("/work/shared/data")


def write_set(folder, name, models, *, slope=0.2, counts_of=None, n=120, seed=0):
    """A set in the public layout: ``models`` maps architecture to pre-training sets; returns the true log counts."""
    sets = sorted({p for each in models.values() for p in each})
    x, y = counts_and_accuracy(len(sets), n, slope=slope, noise=0.02, seed=seed)
    x, y = dict(zip(sets, x)), dict(zip(sets, np.clip(y, 0, 1)))
    classes = [f"thing {k}" for k in range(n)]
    table = {
        f"backbone{a}_pretrained{p}": {
            "full": 1.0,
            "classwise": dict(zip(classes, (100 * y[p]).round().tolist())),
        }
        for a, each in models.items()
        for p in each
    }
    for place in ("class-accuracy", "pretraining-counts"):
        (folder / place).mkdir(exist_ok=True)
    (folder / "class-accuracy" / f"{name}_ensemble_results.json").write_text(json.dumps(table))
    for p in counts_of or sets:
        counts = dict(zip(classes, (10 ** x[p]).round().astype(int).tolist()))
        file = f"{name}_{p}_integrated_tlemmatized_i0.7_search_counts.json"
        (folder / "class-accuracy" / file).write_text(json.dumps(counts))
    return x


def experiment(folder, *more):
    words = [
        "experiment",
        "run",
        "real_priors",
        "--data",
        folder,
        "--quick",
        "--out",
        folder / "run",
        "--json",
    ]
    return run(*words, *more)


def test_a_further_set_in_the_same_layout_is_read_and_its_slope_found(tmp_path):
    write_set(
        tmp_path,
        "oxford_pets",
        {"ViT-B-16": ["cc12m", "yfcc15m"], "RN50": ["cc12m", "cc3m"]},
        counts_of=["cc12m", "yfcc15m"],
    )
    result = experiment(tmp_path)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    family = found["families"]["oxford_pets"]["vit_b_16"]
    assert list(found["families"]["oxford_pets"]) == ["vit_b_16"]
    assert family["slope"]["ci95"][0] < 20 < family["slope"]["ci95"][1] and family["slope"]["claimed"]
    assert set(found["placebo"]) == {"shuffled_classes", "swapped_models"}
    assert all(each["covers_zero"] for each in found["placebo"].values())
    assert "at least 100 test images" in family["notes"][0]
    assert "1 of the 1 families" in found["conclusion"][0]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "oxford_pets ViT-B-16" in page and "<script src" not in page


def test_a_set_whose_name_begins_like_another_takes_its_own_counts(tmp_path):
    write_set(tmp_path, "food", {"RN50": ["cc12m", "yfcc15m"]}, n=40)
    write_set(tmp_path, "food_101", {"RN50": ["cc12m", "yfcc15m"]}, n=50, seed=1)
    assert {(f.set, len(f.tables.classes)) for f in families_of(tmp_path)} == {("food", 40), ("food_101", 50)}


def test_imagenet_stands_at_the_top_and_like_priors_beside_it(tmp_path):
    models = {"ViT-B-16": ["cc12m", "laion2b", "laion400m"], "RN50": ["laion2b", "laion400m"]}
    write_set(tmp_path, "imagenet", models, counts_of=["cc12m"])
    cc = (tmp_path / "class-accuracy").glob("imagenet_cc12m*").__next__()
    base = json.loads(cc.read_text())
    cc.rename(cc.with_name("other.json"))
    places = tmp_path / "pretraining-counts"
    rng = np.random.default_rng(0)
    for p, factor, noise in (("cc12m", 1, 0.5), ("laion400m", 10, 0.0), ("laion2b", 60, 0.01)):
        text = "".join(
            f"{c}\t{max(1, round(factor * n * 10 ** rng.normal(0, noise)))}\n" for c, n in base.items()
        )
        (places / f"class_frequency_{p}_imagenet_ori.txt").write_text(text)
    families = {family.key: family for family in families_of(tmp_path)}
    assert list(families) == ["vit_b_16", "vit_b_16_laion400m_laion2b", "rn50"]
    assert families["vit_b_16"].tables.models == ["cc12m", "laion400m"]
    assert families["vit_b_16"].alike == ("laion2b",)
    found = json.loads(experiment(tmp_path).stdout)
    assert found["families"]["rn50"]["slope"]["claimed"] is False
    assert found["families"]["vit_b_16_laion400m_laion2b"]["likeness"]["too_alike"]
    assert found["families"]["vit_b_16"]["checks"]["with_alike"]["n_models"] == 3
    assert found["placebo"] == found["families"]["vit_b_16"]["placebo"]


def test_names_that_differ_are_matched_by_place_in_lists_of_one_order():
    names = [f"thing {k}" for k in range(20)]
    other = [*names[:7], "airplane", *names[8:]]
    assert synonyms_by_place(other, names) == {"thing 7": "airplane"}
    assert synonyms_by_place(list(reversed(other)), names) == {}
    assert synonyms_by_place(other[:-1], names) == {}


def test_zeros_are_true_where_little_is_expected_and_no_entry_where_much_is():
    counts = {
        "small": np.array([0.0, 0.0, 0.0, 10.0, 20.0, 30.0]),
        "large": np.array([90.0, 20_000.0, 0.0, 1_000.0, 2_000.0, 3_000.0]),
    }
    found, doubted = plausible_counts(counts)
    assert doubted == {"small": [1, 2], "large": [2]}
    assert found["small"][0] == 0 and np.isnan(found["small"][1:3]).all() and np.isnan(found["large"][2])


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ([], "lacks pretraining-counts/ and class-accuracy/"),
        (["class-accuracy"], "lacks pretraining-counts/;"),
        (["class-accuracy", "pretraining-counts"], "holds no SET_ensemble_results.json"),
    ],
)
def test_folders_that_lack_something_are_refused(tmp_path, made, words):
    for name in made:
        (tmp_path / name).mkdir()
    assert words in said(experiment(tmp_path))
    assert not (tmp_path / "run").exists()


def test_tables_without_counts_and_missing_data_are_refused(tmp_path):
    write_set(tmp_path, "pets", {"RN50": ["cc12m", "yfcc15m"]}, counts_of=["cc12m"])
    assert "no architecture with counts of two of its pre-training sets" in said(experiment(tmp_path))
    assert "real_priors needs --data" in said(run("experiment", "run", "real_priors"))
    assert "--data FOLDER" in said(run("experiment", "run", "real_priors"))
    assert "no such file or folder" in said(
        run("experiment", "run", "real_priors", "--data", tmp_path / "gone", "--out", tmp_path / "run")
    )


@pytest.mark.skipif(
    not (PUBLIC / "class-accuracy").is_dir(), reason="the public tables are not on this machine"
)
def test_the_first_reading_is_reproduced(tmp_path):
    words = [
        "experiment",
        "run",
        "real_priors",
        "--data",
        PUBLIC,
        "--quick",
        "--out",
        tmp_path / "run",
        "--json",
    ]
    result = run(*words)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    family = found["families"]["vit_b_16"]
    assert 33.2 < family["slope"]["estimate"] < 41.7
    table = {
        m: {p: round(cell["estimate"], 1) for p, cell in row.items()}
        for m, row in family["cross_table"].items()
    }
    sets = ("cc12m", "yfcc15m", "laion400m")
    assert [[table[m][p] for p in sets] for m in sets] == [
        [23.0, 23.8, 18.9],
        [11.5, 21.7, 7.2],
        [3.4, 7.4, 3.8],
    ]
    assert family["strata"]["laion400m"]["rank_correlation"]["estimate"] == pytest.approx(0.07, abs=0.01)
    alike = found["families"]["vit_b_16_laion400m_laion2b"]["slope"]
    assert alike["estimate"] == pytest.approx(5.8, abs=0.1) and alike["ci95"][0] < 0 < alike["ci95"][1]
    assert not alike["claimed"]
    assert family["own_minus_off"]["ci95"][0] > 0
    assert all(each["covers_zero"] for each in found["placebo"].values())
    assert {"vit_b_16", "rn50"} <= set(found["families"]["cifar100"])
