"""Tables of class accuracy as people publish them: shapes, percent or fractions, names, and what is refused."""

from __future__ import annotations

import json
import math

import pandas as pd
import pytest

from causalft.data.class_accuracy import (
    ClassAccuracy,
    accuracy_unit,
    join_models,
    pick_models,
    read_class_accuracy,
    resolve_model,
)
from causalft.errors import CausalFTError

TABLE = {"tench": 92.0, "great white shark": 74, "eel": 0}


@pytest.mark.parametrize(
    ("document", "models"),
    [
        (
            {"RN50": {"full": 60.2, "classwise": TABLE}, "ViT": {"full": 1.0, "classwise": TABLE}},
            ["RN50", "ViT"],
        ),
        ({"RN50": TABLE, "ViT": TABLE}, ["RN50", "ViT"]),
        (TABLE, ["clip"]),
        ({"full": 55.3, "classwise": TABLE}, ["clip"]),
    ],
)
def test_every_shape_of_json(tmp_path, document, models):
    file = tmp_path / "clip.json"
    file.write_text(json.dumps(document))
    found = read_class_accuracy(file)
    assert [table.model for table in found] == models
    for table in found:
        assert table.accuracy == {"tench": 0.92, "great white shark": 0.74, "eel": 0.0}
        assert (table.unit, table.n_test) == ("percent", None)


@pytest.mark.parametrize(
    ("text", "models", "tests"),
    [
        ("class,accuracy\ntench,0.5\neel,1\n", {"t": [0.5, 1.0]}, None),
        (
            "name;RN50;ViT-B;n\ntench;50,0;25;50\neel;1;;40\n",
            {"RN50": [0.5, 0.01], "ViT-B": [0.25, None]},
            [50, 40],
        ),
        ("wnid,class,acc,support\nn01,tench,50 %,50\nn02,eel,100%,\n", {"t": [0.5, 1.0]}, [50]),
        ("accuracy,breed\n12.5,tench\nn/a,eel\n", {"t": [0.125, None]}, None),
    ],
)
def test_columns_of_tables(tmp_path, text, models, tests):
    file = tmp_path / "t.csv"
    file.write_text(text)
    found = read_class_accuracy(file)
    values = {t.model: [None if math.isnan(v) else v for v in t.accuracy.values()] for t in found}
    assert values == models and list(found[0].accuracy) == ["tench", "eel"]
    assert found[0].n_test == (None if tests is None else dict(zip(["tench", "eel"], tests)))


def test_parquet_is_read(tmp_path):
    file = tmp_path / "clip.parquet"
    pd.DataFrame({"class": ["tench", "eel"], "accuracy": [0.5, float("nan")]}).to_parquet(file)
    [found] = read_class_accuracy(file)
    assert found.model == "clip" and found.accuracy["tench"] == 0.5 and math.isnan(found.accuracy["eel"])


@pytest.mark.parametrize(
    ("values", "unit"),
    [
        ([0.5, 0.9, 0.2], "fractions"),  # all at most 1
        ([0.5, 1.0, 0.2], "fractions"),  # one of exactly 1
        ([0.0, 0.0, 0.0], "fractions"),  # 0 is 0 in both
        ([50.0, 1.0, 0.0], "percent"),  # exactly 1, and it is 1 %
        ([50.5, 0.5, 12.0], "percent"),  # one of 200 images
        ([100.0, 100.0, 1.0], "percent"),
        ([1.5, 0.0, 2.5], "percent"),
    ],
)
def test_percent_and_fractions_are_told_apart(values, unit):
    table = {"clip": {f"class {k}": value for k, value in enumerate(values)}}
    assert accuracy_unit(table, "a.json")[0] == unit


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"clip": [1, 0, 1]}, "only zeros and ones"),
        ({"clip": [0.5, 85.0, 90.0]}, "mix"),  # a fraction among whole percentages
        ({"clip": [0.5, 0.25, 85.5]}, "mix"),  # more fractions than percentages
        ({"clip": [85.0, 90.0, 1.0], "other": [0.5, 0.9, 1.0]}, "mix.*other"),
        ({"clip": [-0.1, 0.5, 0.5]}, "'class 0' under clip is -0.1"),
        ({"clip": [101.0, 50, 50]}, "'class 0' under clip is 101"),
        ({"clip": [math.inf, 50, 50]}, "is inf"),
        ({"clip": [math.nan, math.nan]}, "no accuracy at all"),
    ],
)
def test_doubtful_and_impossible_accuracies_are_refused(table, words):
    values = {m: {f"class {k}": v for k, v in enumerate(row)} for m, row in table.items()}
    with pytest.raises(CausalFTError, match=words):
        accuracy_unit(values, "a.json")


def test_a_given_unit_settles_the_doubt_and_is_checked():
    ones = {"clip": {"a": 1.0, "b": 0.0}}
    assert accuracy_unit(ones, "a.json", "percent")[0] == "percent"
    assert accuracy_unit(ones, "a.json", "fractions")[0] == "fractions"
    with pytest.raises(CausalFTError, match="not a fraction from 0 to 1"):
        accuracy_unit({"clip": {"a": 50.0}}, "a.json", "fractions")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.json", "[1, 2]", "holds no table"),
        ("a.json", "{}", "holds no table"),
        ("a.json", '{"clip": {"classwise": {"a": [1]}}}', "'clip' holds no accuracies"),
        ("a.json", '{"clip": {"a": 50}, "n": 5}', "'n' holds no accuracies"),
        ("a.json", '{"a": "high", "b": 1}', "accuracy of 'a' under a is 'high'"),
        ("a.json", '{"a": true, "b": 1}', "accuracy of 'a' under a is True"),
        ("a.json", '{"sea lion": 50, "sea_lion": 60}', "twice, as .sea lion."),
        ("a.json", '{"a": 1', "not valid JSON"),
        ("a.csv", "class,accuracy\na,50\na,60\n", "has the class 'a' twice"),
        ("a.csv", "class,accuracy\n,50\nb,60\n", "row 1 below the header has no class name"),
        ("a.csv", "class,accuracy\na,50 %\nb,60\n", "with and without a percent sign"),
        ("a.csv", "class,accuracy,n\na,50,0\nb,60,5\n", "'a' has '0' test images"),
        ("a.csv", "class,group\na,x\nb,y\n", "no column of accuracies"),
        ("a.csv", "1,2\n3,4\n", "call the one with the class names 'class'"),
        ("a.csv", "class,accuracy\na,50\nb,6o\n", "accuracy of 'b' under a is '6o'"),
        ("a.yaml", "a: 50\n", "ending .yaml is unknown"),
    ],
)
def test_tables_of_another_shape_are_refused(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(CausalFTError, match=words):
        read_class_accuracy(tmp_path / name)


def test_folders_and_missing_files_are_refused(tmp_path):
    with pytest.raises(CausalFTError, match="is a folder"):
        read_class_accuracy(tmp_path)
    with pytest.raises(CausalFTError, match="no such file"):
        read_class_accuracy(tmp_path / "gone.json")


NAMES = [
    "backboneViT-B-16_pretrainedlaion400m",
    "backboneViT-B-16_pretrainedlaion2b",
    "backboneRN50_pretrainedcc12m",
]


def test_models_are_picked_by_part_or_pattern():
    assert pick_models(NAMES, ["vit-b-16"]) == NAMES[:2]
    assert pick_models(NAMES, ["*cc12m", "*2b"]) == NAMES[1:]
    with pytest.raises(CausalFTError, match="matches no model; did you mean"):
        pick_models(NAMES, ["backboneRN50_pretrainedcc3m"])


def test_a_part_of_a_name_means_one_model_or_is_refused_with_the_candidates():
    assert resolve_model("cc12m", NAMES) == NAMES[2]
    assert resolve_model("vit b 16 pretrained laion2b", NAMES) == NAMES[1]
    with pytest.raises(CausalFTError, match="could be 2 models .*laion400m, .*laion2b"):
        resolve_model("laion", NAMES)
    with pytest.raises(CausalFTError, match="no model is called so"):
        resolve_model("yfcc15m", NAMES)


def test_tables_of_other_classes_do_not_join():
    one = ClassAccuracy("a", {"eel": 0.5, "ant": 0.4, "bee": 0.1}, "a.json", "fractions", "")
    part = ClassAccuracy("b", {"Ant": 0.2, "eel": 0.1, "owl": 0.9}, "b.json", "fractions", "")
    classes, accuracy, notes = join_models([one, part])
    assert (
        classes == ["eel", "ant", "bee"]
        and accuracy[1].tolist()[:2] == [0.1, 0.2]
        and math.isnan(accuracy[1, 2])
    )
    assert notes == ["b: 2 of 3 classes have an accuracy, not bee; of other classes: owl"]
    other = ClassAccuracy("c", {"oak": 0.2, "eel": 0.1}, "c.json", "fractions", "")
    with pytest.raises(CausalFTError, match="c.json has 1 of the 3 classes of a.json, not ant, bee"):
        join_models([one, other])
