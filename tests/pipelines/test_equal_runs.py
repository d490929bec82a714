"""Equal runs give equal bytes; only times differ, and they stand in the places that are meant for them."""

from __future__ import annotations

import json

import pytest

from causalft.runs.files import sort_metadata
from causalft.runs.folder import read_json
from tests.command_line import run
from tests.pipelines.fitted_runs import fit


def content(folder):
    """Every file of a folder: its bytes, JSON without its seconds."""

    def timeless(value):
        if isinstance(value, dict):
            return {key: timeless(inner) for key, inner in value.items() if key != "seconds"}
        return [timeless(inner) for inner in value] if isinstance(value, list) else value

    return {
        path.relative_to(folder).as_posix(): timeless(read_json(path))
        if path.suffix == ".json"
        else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.slow
def test_two_fits_and_two_exports(tmp_path, tiny_zoo, photos, monkeypatch):
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        monkeypatch.setenv("CAUSALFT_CACHE", str(tmp_path / name / "cache"))
        fit("run", tiny_zoo, photos)
        assert run("export", "run", "--to", "single-file").exit_code == 0
        found.append(content(tmp_path / name / "run"))
    one, two = found
    assert (
        one.keys() == two.keys()
        and {"strata/clip/timing.json", "strata/clip/adapter.safetensors"} <= one.keys()
    )
    different = [name for name in one if one[name] != two[name]]
    assert different in ([], ["report.html"])  # the page rounds the seconds of the run


def test_two_generated_sets(tmp_path):
    for name in ("one", "two"):
        assert run("generate", "--n-per-class", 4, "--size", 16, "--out", tmp_path / name).exit_code == 0
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_metadata_is_sorted_and_tensors_stay(tmp_path):
    import numpy as np
    from safetensors.numpy import load_file, save_file

    tensors = {"b": np.arange(6.0).reshape(2, 3), "a": np.ones(3, np.float16)}
    made = set()
    for number in range(8):
        file = tmp_path / f"{number}.safetensors"
        save_file(tensors, file, dict.fromkeys("zyxwv", "ü" * 3))
        sort_metadata(file)
        made.add(file.read_bytes())
        found = load_file(file)
        assert all(np.array_equal(found[name], value) for name, value in tensors.items())
    assert len(made) == 1
    header = next(iter(made))
    names = json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])["__metadata__"]
    assert list(names) == sorted(names)
