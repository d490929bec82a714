"""`causalft cache`: what is kept is listed, checked and cleared."""

from __future__ import annotations

import json
import os
from functools import partial

import numpy as np
import pytest

from causalft.cli.cache import _age, _size
from causalft.models.features.store import FeatureCache
from tests import command_line
from tests.command_line import said

run = partial(command_line.run, "cache")


@pytest.fixture
def cache(tmp_path):
    """Two whole entries, one of them unused for ten days, and one that was interrupted."""
    cache = FeatureCache(tmp_path / "cache")
    about = {"kind": "features", "stratum": "clip", "data": "photos", "view": "five-crop"}
    cache.array({"n": 1}, 3, lambda start: [np.ones((3, 2))], about)
    cache.array({"n": 2}, 3, lambda start: [np.zeros((3, 5))], {"kind": "zero-shot logits"})

    def interrupted(start):
        yield np.ones((1, 2))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.array({"n": 3}, 4, interrupted, {"kind": "text features"})
    old = cache.folder / f"{cache.key({'n': 1})}.json"
    os.utime(old, (old.stat().st_mtime - 10 * 86400,) * 2)
    return cache


def test_list_shows_content_size_and_age(cache):
    found = run("list", "--folder", cache.folder)
    assert found.exit_code == 0
    document = json.loads(run("list", "--folder", cache.folder, "--json").stdout)
    by_kind = {entry["kind"]: entry for entry in document["entries"]}
    assert by_kind["features"]["shape"] == [3, 2] and by_kind["features"]["data"] == "photos"
    assert [by_kind[kind]["complete"] for kind in ("features", "zero-shot logits", "text features")] == [
        True,
        True,
        False,
    ]
    assert "3 entries" in found.stdout.replace("\n", " ")


def test_the_table_fits_80_columns_with_keys_and_numbers_whole(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    cache = FeatureCache(tmp_path / "cache")
    about = {"kind": "zero-shot logits", "stratum": "ViT-L-14/openai", "data": "long-tailed-photographs"}
    cache.array({"n": 1}, 20_000, lambda start: [np.ones((20_000, 7), np.float32)], about)
    cache.array({"n": 2}, 3, lambda start: [np.ones((3, 2))], {"kind": "features", "stratum": "clip"})
    lines = run("list", "--folder", cache.folder).stdout.splitlines()
    assert lines[0].split() == ["key", "what", "stratum", "images", "shape", "size", "age", "unused"]
    assert max(map(len, lines[:-1])) <= 80
    for number, numbers in ((1, "20,000 x 7  547 KiB  < 1 min  < 1 min"), (2, "3 x 2")):
        [line] = [line for line in lines if line.startswith(cache.key({"n": number})[:8])]
        assert numbers in line


def test_constant_column_is_dropped(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    cache = FeatureCache(tmp_path / "cache")
    about = {"kind": "features", "stratum": "openclip", "data": "creatures/validation"}
    cache.array({"n": 1}, 10_000, lambda start: [np.ones((10_000, 64), np.float32)], about)
    header, line, _ = run("list", "--folder", cache.folder).stdout.splitlines()[:3]
    assert "what" not in header and "openclip  creatures/validation" in line


def test_file_in_place_of_the_cache_is_refused_in_one_line(tmp_path, monkeypatch):
    file = tmp_path / "note.txt"
    file.write_text("x")
    monkeypatch.setenv("CAUSALFT_CACHE", str(file))
    for verb in (["list"], ["list", "--json"], ["verify"], ["clear", "--yes"]):
        assert f"{file} is a file, not a folder; set CAUSALFT_CACHE to" in said(run(*verb))
    assert "set --folder to" in said(run("list", "--folder", file))


def test_clear_removes_unused_entries(cache):
    found = run("clear", "--folder", cache.folder, "--unused-days", 9, "--yes", "--json")
    assert json.loads(found.stdout)["removed"] == 1
    assert sorted(entry.about["kind"] for entry in cache.entries()) == ["text features", "zero-shot logits"]
    assert run("clear", "--folder", cache.folder, input="n\n").exit_code == 130
    assert len(cache.entries()) == 2
    found = run("clear", "--folder", cache.folder, input="y\n")
    assert found.exit_code == 0 and "removed 2 entries" in found.stdout and not cache.entries()


def test_clear_with_json_does_not_ask(cache):
    found = run("clear", "--folder", cache.folder, "--json")
    assert found.exit_code == 2 and "add --yes" in found.stderr and len(cache.entries()) == 3


def test_clear_without_input_names_the_option(cache):
    found = run("clear", "--folder", cache.folder, input="")
    assert found.exit_code == 2 and len(cache.entries()) == 3
    assert (
        found.stderr.splitlines()[-1].startswith("causalft: error: standard input ended")
        and "--yes" in found.stderr
    )


def test_verify_finds_damage_and_removes_it_when_asked(cache):
    assert run("verify", "--folder", cache.folder).exit_code == 0
    file = cache.folder / f"{cache.key({'n': 2})}.npy"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    found = run("verify", "--folder", cache.folder, "--json")
    assert found.exit_code == 1 and list(json.loads(found.stdout)["damaged"]) == [file.stem]
    found = run("verify", "--folder", cache.folder, "--remove")
    assert found.exit_code == 0 and "1 of 2 entries are whole" in found.stdout.replace("\n", " ")
    assert not file.exists() and run("verify", "--folder", cache.folder).exit_code == 0


def test_the_folder_of_the_environment_is_the_default(cache, monkeypatch, tmp_path):
    monkeypatch.setenv("CAUSALFT_CACHE", str(cache.folder))
    assert len(json.loads(run("list", "--json").stdout)["entries"]) == 3
    monkeypatch.setenv("CAUSALFT_CACHE", str(tmp_path / "none"))
    assert json.loads(run("list", "--json").stdout)["entries"] == []
    assert not (tmp_path / "none").exists()
    found = run("list", "--folder", tmp_path / "none")
    assert found.exit_code == 2 and "no such folder" in found.stderr


def test_sizes_and_ages_in_words(monkeypatch):
    monkeypatch.setattr("causalft.cli.cache.time.time", lambda: 1e6)
    assert [_age(1e6 - s) for s in (5, 70, 7200, 86400 * 2.5)] == [
        "< 1 min",
        "1 min",
        "2 h",
        "2 d",
    ]
    assert [_size(b) for b in (12, 2048, 200 * 2**20, 5 * 2**40)] == [
        "12 B",
        "2.0 KiB",
        "200 MiB",
        "5,120 GiB",
    ]
