"""Class tables: reading, matching by name, and one clear line for bad ones."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from causalft.data.class_tables import match_classes, name_key, read_class_table, read_name_map
from causalft.errors import CausalFTError


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "great white shark\t1696\ntench\t21\n"),
        ("a.txt", "# counts\n\ngreat white shark 1696\r\n  tench   21.0\n"),
        ("a.tsv", "class\tcount\ngreat white shark\t1696\ntench\t2.1e1\n"),
        ("a.csv", "great white shark,1696\ntench,21\n"),
        ("a.csv", '\ufeffclass;count;\n"great white shark";1696;\n;;\ntench;21;\n'),
        ("a.csv", "id,count,source,class\n2,1696,x,great white shark\n0,21,y,tench\n"),
        ("a.csv", "class,laion400m\ngreat white shark,1696\ntench,21\n"),
        ("a.json", '{"great white shark": 1696, "tench": 21}'),
    ],
)
def test_every_format_gives_names_and_numbers_in_the_order_of_the_file(tmp_path, name, text) -> None:
    found = read_class_table(write(tmp_path, name, text))
    assert list(found.items()) == [("great white shark", 1696.0), ("tench", 21.0)]


def test_quoted_names_hold_separators_and_line_ends(tmp_path) -> None:
    path = write(tmp_path, "a.csv", 'name,count\n"crane, bird",3\n"grey\nwhale",4\n')
    assert read_class_table(path) == {"crane, bird": 3.0, "grey\\x0awhale": 4.0}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.txt", "", "holds no class; write a class name and its count per line"),
        ("a.csv", "class,count\n", "holds no class"),
        ("a.json", "{}", "holds no class"),
        ("a.json", "[1, 2]", "is no object of class name and count"),
        ("a.json", '{"cat": 1', "is not valid JSON"),
        (
            "a.json",
            '{"cat": null}',
            "entry 1 of .*: the count of 'cat' is None; write a number, or leave the class",
        ),
        ("a.json", '{"cat": true}', "the count of 'cat' is True; write a number"),
        ("a.json", '{"cat": 1e999}', "the count of 'cat' is inf; write a number"),
        ("a.json", '{"cat": 1, "cat": 2}', "key 'cat' twice"),
        ("a.txt", "cat\t3\ndog\t-1\n", "line 2 of .*: the count of 'dog' is '-1'; a count is 0 or more"),
        ("a.txt", "cat\t3\n\ndog\tmany\n", "line 3 of .*: the count of 'dog' is 'many'; write a number"),
        ("a.txt", "cat\tmany\ndog\t3\n", "line 1 of .*: the count of 'cat' is 'many'"),
        ("a.txt", "cat\tnan\n", "the count of 'cat' is 'nan'"),
        ("a.tsv", "cat\t\n", "the count of 'cat' is ''"),
        ("a.txt", "\t3\n", "line 1 of .* has no class name"),
        (
            "a.txt",
            "cat\t3\t4\n",
            "line 1 of .* is 'cat 3 4'; write a class name and its count, separated by a tab",
        ),
        ("a.txt", "cat\n", "line 1 of .* is 'cat'; write a class name"),
        ("a.csv", "cat,1,000\n", "line 1 of .* is 'cat 1 000'"),
        (
            "a.csv",
            "class,x,y\ncat,1,2\n",
            "has the columns class, x, y; call the one with the class names 'class'",
        ),
        ("a.csv", 'class,count\ncat,1\n"dog"s,2\n', "line 3 of .* is not valid CSV"),
        ("a.txt", "cat\t3\ndog\t1\ncat\t3\n", r"has the class 'cat' twice \(line 1 and line 3\); keep one"),
        (
            "a.dat",
            "cat\t3\n",
            "ending .dat is unknown; give lines of class name and count as .txt, .tsv or .csv",
        ),
    ],
)
def test_bad_tables_get_one_line_that_names_the_place(tmp_path, name, text, words) -> None:
    with pytest.raises(CausalFTError, match=words) as caught:
        read_class_table(write(tmp_path, name, text))
    assert "\n" not in str(caught.value) and name in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_special_files_and_folders_are_refused(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(CausalFTError, match="is a pipe, not a regular file"):
        read_class_table(tmp_path / "pipe.txt")
    with pytest.raises(CausalFTError, match="is a folder"):
        read_class_table(tmp_path)
    write(tmp_path, "counts.txt", "a\t1")
    with pytest.raises(CausalFTError, match="did you mean 'counts.txt'"):
        read_class_table(tmp_path / "count.txt")


def test_names_match_exactly_first_then_without_case_and_punctuation() -> None:
    table = {
        "Crane": 1,
        "crane": 2,
        "Aquarium fish": 3,
        "arcade (passageway)": 4,
        "apartment_building-outdoor": 5,
    }
    classes = ["crane", "Crane", "aquarium_fish", "Arcade passageway", "apartment building/outdoor"]
    found = match_classes(table, classes)
    assert found.values.tolist() == [2, 1, 3, 4, 5] and not found.missing and not found.unused
    assert dict(found.respelt) == {
        "aquarium_fish": "Aquarium fish",
        "Arcade passageway": "arcade (passageway)",
        "apartment building/outdoor": "apartment_building-outdoor",
    }


def test_what_does_not_match_is_told_on_both_sides() -> None:
    found = match_classes({"eft": 4, "cat": 1, "dog": 2, "maillot": 9}, ["newt", "dog", "cat", "tights"])
    np.testing.assert_array_equal(found.values, [np.nan, 2, 1, np.nan])
    assert found.missing == ("newt", "tights") and found.unused == ("eft", "maillot") and found.n_matched == 2


def test_a_map_names_what_differs_and_settles_spellings() -> None:
    table = {"eft": 4, "cat": 1, "Cat": 7}
    found = match_classes(table, ["newt", "cat"], name_map={"Newt": "EFT", "cat": "Cat"})
    assert found.values.tolist() == [4, 7] and found.unused == ("cat",)
    with pytest.raises(
        CausalFTError, match="prior_map maps 'nwt', which is no class of the data; did you mean 'newt'"
    ):
        match_classes(table, ["newt", "cat"], name_map={"nwt": "eft"})


@pytest.mark.parametrize(
    ("table", "classes", "words"),
    [
        (
            {"a": 1, "x y": 2},
            ["a", "b", "c"],
            r"for only 1 of 3 classes; not for b, c; for 'b' nothing is near \(known: a, x y\); give the names",
        ),
        (
            {"newts": 1},
            ["newt", "cat"],
            "for 'newt' did you mean 'newts'. give the names .* with prior_map=FILE",
        ),
        (
            {"Cat": 1, "CAT": 2, "a": 3},
            ["a", "cat"],
            "'Cat' and 'CAT' of counts.txt are one name but for case",
        ),
        ({"Cat": 1, "cat": 2, "a": 3}, ["a", "cat"], "has the class 'cat' twice, as 'cat' and 'Cat'"),
        ({"CAT": 1, "a": 2}, ["cat", "Cat", "a"], "'cat' and 'Cat' of the data are one name but for case"),
    ],
)
def test_doubtful_matches_are_refused(table, classes, words) -> None:
    with pytest.raises(CausalFTError, match=words):
        match_classes(table, classes, path="counts.txt")


def test_name_maps_are_read_from_the_same_formats(tmp_path) -> None:
    expected = {"car": "automobile", "aquarium_fish": "goldfish"}
    for name, text in (
        ("m.csv", "class,name in counts\ncar,automobile\naquarium_fish,goldfish\n"),
        ("m.tsv", "car\tautomobile\naquarium_fish\tgoldfish\n"),
        ("m.json", '{"car": "automobile", "aquarium_fish": "goldfish"}'),
    ):
        assert read_name_map(write(tmp_path, name, text)) == expected
    with pytest.raises(CausalFTError, match="maps 'car' to two names"):
        read_name_map(write(tmp_path, "m.txt", "car\tauto\ncar\tautomobile\n"))
    with pytest.raises(CausalFTError, match="has no second name for 'car'"):
        read_name_map(write(tmp_path, "n.json", '{"car": 3}'))


@given(st.text(min_size=1))
def test_keys_ignore_case_and_punctuation(name: str) -> None:
    key = name_key(name)
    assert key
    if any(c.isascii() and c.isalnum() for c in name):
        assert name_key(f" {name.replace('_', ' - ')}.") == key and name_key(key) == key


def test_public_counts_of_imagenet_match_a_public_list_of_its_classes(public_tables: Path) -> None:
    counts = read_class_table(
        public_tables / "pretraining-counts" / "class_frequency_laion400m_imagenet_ori.txt"
    )
    accuracy = json.loads((public_tables / "class-accuracy" / "imagenet_ensemble_results.json").read_text())
    classes = list(next(iter(accuracy.values()))["classwise"])
    found = match_classes(counts, classes)
    assert found.missing == ("newt", "tights") and found.unused == ("eft", "maillot") and not found.respelt
    assert found.values[0] == 917 and np.nanmin(found.values) == 22
    mapped = match_classes(counts, classes, name_map={"newt": "eft", "tights": "maillot"})
    assert not mapped.missing and not mapped.unused


def test_public_counts_of_places_match_each_other_in_another_spelling(public_tables: Path) -> None:
    folder = public_tables / "pretraining-counts"
    ours = list(read_class_table(folder / "class_frequency_metaclip_400m_places365_ori.txt"))
    found = match_classes(read_class_table(folder / "class_frequency_laion2b_places365.txt"), ours)
    assert found.n_matched == 365 and not found.unused
