"""`push --half`: half the size, read back as float32, with the change of the probabilities measured and said."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from causalft.data.opening import open_images
from causalft.errors import CausalFTError
from causalft.methods.estimators.settings import FitSettings
from causalft.methods.estimators.strata import StrataClassifier
from causalft.pipelines.hub import ADAPTER_BYTES, MANIFEST, half_change, half_files, stored_precision
from causalft.pipelines.hub import half as half_module
from causalft.pipelines.hub.half import half_file, half_tensor
from causalft.pipelines.workflows.fit_data import load_splits
from causalft.runs.folder import Run, read_json
from tests.command_line import run, said
from tests.pipelines.fitted_runs import fit


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, tiny_zoo, photos):
    return fit(tmp_path_factory.mktemp("half") / "run", tiny_zoo, photos)


@pytest.fixture(scope="module")
def pushed(fitted, tmp_path_factory):
    """The run in hub layout, in half precision, and what the command said."""
    folder = tmp_path_factory.mktemp("shared") / "layout"
    result = run("push", fitted, "--half", "--to-folder", folder, "--json")
    assert result.exit_code == 0, result.output
    return folder, json.loads(result.stdout)


def test_push_half_stores_half_precision(fitted, pushed):
    for name in ("clip", "openclip"):
        for file in ("adapter", "head"):
            place = f"strata/{name}/{file}.safetensors"
            whole, half = load_file(fitted / place), load_file(pushed[0] / place)
            assert whole.keys() == half.keys()
            for key, value in half.items():
                assert value.dtype == torch.float16 and torch.equal(value, whole[key].half())
            with safe_open(pushed[0] / place, framework="pt") as written:
                assert written.metadata()["stored"] == "float16"
        numbers = [sum(v.nbytes for v in load_file(f / place).values()) for f in (fitted, pushed[0])]
        assert numbers[0] == 2 * numbers[1]


def test_half_precision_run_is_loaded_as_float32(fitted, pushed, tmp_path, photos):
    assert run("pull", pushed[0], "--to", tmp_path / "pulled").exit_code == 0
    found = StrataClassifier.load(tmp_path / "pulled", device="cpu", progress=False)
    for member in found.members_.values():
        assert {p.dtype for p in [*member.tuned.parameters(), *member.head.parameters()]} == {torch.float32}
    images = open_images(photos)
    whole = StrataClassifier.load(fitted, device="cpu", progress=False).predict_proba(images)
    gap = np.abs(found.predict_proba(images) - whole).max()
    assert 0 < gap < 1e-2


def test_the_reported_change_is_that_of_the_pulled_run_on_the_test_images(fitted, pushed, tmp_path):
    opened = Run.open(fitted)
    test = load_splits(FitSettings.from_config(opened.config), 0).test
    run("pull", pushed[0], "--to", tmp_path / "pulled")
    one, other = (
        StrataClassifier.load(f, device="cpu", progress=False) for f in (fitted, tmp_path / "pulled")
    )
    change = pushed[1]["half"]["change"]
    assert change["n"] == len(test) == 16
    assert change["fused"] == pytest.approx(np.abs(one.predict_proba(test) - other.predict_proba(test)).max())
    strata = np.abs(one.stratum_proba(test) - other.stratum_proba(test)).max(axis=(1, 2))
    assert list(change["strata"].values()) == pytest.approx(strata.tolist())
    few = half_change(opened, test, n_images=5, device="cpu", progress=False)
    assert few.n == 5 and 0 < few.fused <= change["fused"]


def test_card_and_metadata_name_half_precision(pushed, tmp_path):
    card = (pushed[0] / "README.md").read_text()
    assert "| tuned tensors stored in | float16, and used in float32: a fused probability changes by" in card
    listed = read_json(pushed[0] / MANIFEST)["files"]["strata/clip/adapter.safetensors"]
    assert listed["bytes"] == (pushed[0] / "strata" / "clip" / "adapter.safetensors").stat().st_size
    run("pull", pushed[0], "--to", tmp_path / "pulled")
    assert (
        "| tuned tensors stored in | float16, and used in float32 |"
        in run("card", tmp_path / "pulled").stdout
    )


def test_run_without_images_is_pushed_with_an_unmeasured_change(fitted, tmp_path):
    alone = shutil.copytree(fitted, tmp_path / "run")
    config = read_json(alone / "config.json")
    config["config"]["data"] = str(tmp_path / "secret" / "photos")
    (alone / "config.json").write_text(json.dumps(config))
    result = run("push", alone, "--half", "--to-folder", tmp_path / "layout")
    assert result.exit_code == 0, result.output
    assert "what that changes was not measured" in result.stdout and "not measured: " in result.stdout
    assert "secret" not in (tmp_path / "layout" / "README.md").read_text()


def test_large_values_use_bfloat16_and_nan_is_refused(tmp_path):
    file = tmp_path / "adapter.safetensors"
    save_file(
        {"a": torch.tensor([7e4]), "b": torch.tensor([0.5]), "n": torch.tensor([3])}, file, {"tuner": "x"}
    )
    (tmp_path / "half").write_bytes(half_file(file))
    found = load_file(tmp_path / "half")
    assert found["a"].dtype == torch.bfloat16 and found["b"].dtype == torch.float16
    assert found["n"].dtype == torch.int64
    with safe_open(tmp_path / "half", framework="pt") as written:
        assert written.metadata() == {"tuner": "x", "stored": "float16 and bfloat16"}
    assert float(half_tensor(torch.tensor(65504.0))) == 65504
    save_file({"a": torch.tensor([float("nan")])}, file)
    with pytest.raises(CausalFTError, match="a holds a number that is not finite"):
        half_file(file)


@pytest.mark.parametrize(
    ("megabytes", "offered", "accepted"),
    [(18.9, "pass --half (9.5 MB), fit it with", True), (24.0, "above 10 MB: fit it with", False)],
)
def test_size_limit_counts_the_adapter_and_suggests_half(fitted, tmp_path, megabytes, offered, accepted):
    """The width of 256 that the rule gives for 8,142 classes makes 18.9 MB; heads are not counted."""
    heavy = shutil.copytree(fitted, tmp_path / "run")
    path = heavy / "strata" / "openclip" / "adapter.safetensors"
    with safe_open(path, framework="pt") as file:
        about = file.metadata()
    save_file({"x": torch.zeros(round(megabytes * 250_000))}, path, about)
    save_file({"weight": torch.zeros(4, 1_000_000)}, heavy / "strata" / "openclip" / "head.safetensors")
    line = said(run("push", heavy, "--dry-run"))
    assert "what was tuned of 'openclip' is" in line and offered in line and "--allow-large" in line
    result = run("push", heavy, "--dry-run", "--half")
    assert (result.exit_code == 0) == accepted
    if accepted:
        sizes = json.loads(run("push", heavy, "--dry-run", "--half", "--json").stdout)["files"]
        assert sizes["strata/openclip/adapter.safetensors"] < ADAPTER_BYTES
    else:
        assert "in half precision, above 10 MB: fit it with" in said(result)


def test_gla_file_is_halved_measured_and_not_counted(tmp_path, tiny_zoo, photos):
    folder = fit(tmp_path / "gla", tiny_zoo, photos, "--gla")
    result = run("push", folder, "--half", "--to-folder", tmp_path / "layout", "--json")
    assert result.exit_code == 0, result.output
    place = "strata/clip/gla.safetensors"
    whole, half = load_file(folder / place), load_file(tmp_path / "layout" / place)
    assert all(torch.equal(half[key], whole[key].half()) for key in ("anchors", "shift"))
    run("pull", tmp_path / "layout", "--to", tmp_path / "pulled")
    test = load_splits(FitSettings.from_config(Run.open(folder).config), 0).test
    models = [StrataClassifier.load(f, device="cpu", progress=False) for f in (folder, tmp_path / "pulled")]
    gap = np.abs(models[0].stratum_proba(test) - models[1].stratum_proba(test)).max(axis=(1, 2))
    assert list(json.loads(result.stdout)["half"]["change"]["strata"].values()) == pytest.approx(gap.tolist())
    assert 0 < gap.min()

    many = torch.zeros(8142, 512)
    save_file({"anchors": many, "shift": torch.zeros(8142)}, folder / place)
    assert run("push", folder, "--dry-run").exit_code == 0
    with safe_open(folder / "strata/clip/adapter.safetensors", framework="pt") as file:
        save_file({"x": torch.zeros(4_000_000)}, folder / "strata/clip/adapter.safetensors", file.metadata())
    assert "pass --half (8.0 MB), fit it with" in said(run("push", folder, "--dry-run"))


def test_every_tuned_file_is_read_and_halved_once(fitted, monkeypatch):
    seen, as_it_is = [], half_module.half_tensor

    def not_looked_at(*_):
        raise CausalFTError("not looked at")

    monkeypatch.setattr(half_module, "half_change", not_looked_at)
    monkeypatch.setattr(half_module, "half_tensor", lambda v: (seen.append(1), as_it_is(v))[1])
    found = json.loads(run("push", fitted, "--dry-run", "--half", "--json").stdout)
    assert found["half"] == {"stored": "float16", "not_measured": "not looked at"}
    files = [fitted / name for name in found["files"] if name.startswith("strata/")]
    n_tensors = sum(len(load_file(path)) for path in files if path.suffix == ".safetensors")
    assert len(seen) == n_tensors > 0


def test_kinds_of_several_files_are_named_once(fitted, tmp_path):
    mixed = shutil.copytree(fitted, tmp_path / "run")
    save_file({"a": torch.tensor([7e4]), "b": torch.tensor([0.5])}, mixed / "strata/clip/adapter.safetensors")
    files, kinds = half_files(Run.open(mixed))
    assert kinds == "float16 and bfloat16" and len(files) == 4
    for path, content in files.items():
        path.write_bytes(content)
    assert stored_precision(Run.open(mixed)) == kinds
