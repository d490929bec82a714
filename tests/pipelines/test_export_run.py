"""Export on the command line: the files run without this package and predict what `causalft predict` says."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from causalft.data.given import unlabelled_images
from causalft.methods.estimators.strata import StrataClassifier
from causalft.pipelines.export import FORMATS, formats
from tests.command_line import run, said
from tests.pipelines.fitted_runs import fit

# A process in which this project cannot be imported, as on a machine without it.
WITHOUT = """
import sys
class NotHere:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("causalft", "synthetic", "experiments", "open_clip"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, NotHere())
try:
    import causalft
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("causalft can be imported")
"""


def without_causalft(code, *arguments, cwd=None):
    command = [sys.executable, "-c", WITHOUT + code, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=cwd)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, tiny_zoo, photos):
    return fit(tmp_path_factory.mktemp("export") / "run", tiny_zoo, photos)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for name, shape in (("wide.png", (20, 33, 3)), ("tall.png", (41, 24, 4)), ("exact.png", (16, 16, 3))):
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(folder / name)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def predicted(fitted, pictures):
    """Fused (n, K) and per-stratum (M, n, K) probabilities of the pictures, from the run."""
    model = StrataClassifier.load(fitted, device="cpu", progress=False)
    strata = model.stratum_proba(unlabelled_images(pictures))
    return model.fuse_proba(strata), strata


def inputs(fitted, pictures):
    """The pictures as the strata cut them: float32 on [0, 1], (n, 3, s, s)."""
    stratum = next(
        iter(StrataClassifier.load(fitted, device="cpu", progress=False).members_.values())
    ).stratum
    images = unlabelled_images(pictures)
    crops = np.stack([stratum.crop(images.image(i)) for i in range(len(images))])
    return torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255


def test_torch_export_loads_where_causalft_is_not_installed(fitted, pictures, predicted, tmp_path):
    result = run("export", fitted, "--to", "torch-export", "--json")
    assert result.exit_code == 0, result.output
    about = json.loads(result.stdout)
    path = fitted / "export" / "torch-export" / "model.pt2"
    assert about["files"] == [str(path), str(path.with_name("preprocessor.json"))]
    assert about["difference"] < 1e-5 and about["fusion"]["calibrated"]
    np.save(tmp_path / "pictures.npy", inputs(fitted, pictures).numpy())
    code = """
import json, numpy, torch
extra = {"causalft.json": ""}
model = torch.export.load(sys.argv[1], extra_files=extra).module()
pictures = torch.from_numpy(numpy.load(sys.argv[2]))
whole = model(pictures)
assert all(torch.allclose(model(pictures[:1])[k], whole[k][:1], atol=1e-5) for k in (0, 1))
print(json.dumps([[o.tolist() for o in whole], json.loads(extra["causalft.json"])["classes"]]))
"""
    (fused, strata), classes = json.loads(without_causalft(code, path, tmp_path / "pictures.npy"))
    assert np.allclose(fused, predicted[0], atol=1e-4) and classes == ["ant", "bee", "cow", "doe"]
    assert np.allclose(np.transpose(strata, (1, 0, 2)), predicted[1], atol=1e-4)
    if tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 15):  # weights as raw bytes, nothing pickled
        with zipfile.ZipFile(path) as archive:
            parts = {item.filename: archive.read(item)[:2] for item in archive.infolist()}
        assert not [name for name, start in parts.items() if start in (b"PK", b"\x80\x02", b"\x80\x04")]


def test_the_single_file_predicts_from_files_where_causalft_is_not_installed(fitted, pictures, predicted):
    result = run("export", fitted, "--to", "single-file", "--pictures", "uint8")
    assert result.exit_code == 0 and "checked: probabilities differ" in result.stdout
    folder = fitted / "export" / "single-file"
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "model.py", "preprocessor.json"}
    code = "import runpy; sys.argv[0] = 'model.py'; runpy.run_path('model.py', run_name='__main__')"
    printed = without_causalft(code, "model.safetensors", *pictures, cwd=folder)
    lines = [json.loads(line) for line in printed.splitlines()]
    classes = ["ant", "bee", "cow", "doe"]
    assert [line["file"] for line in lines] == [str(path) for path in pictures]
    for row, line in enumerate(lines):
        assert line["prediction"] == classes[predicted[0][row].argmax()]
        assert line["probability"] == pytest.approx(predicted[0][row].max(), abs=1e-4)
        for name, found in zip(("clip", "openclip"), predicted[1], strict=True):
            assert line["strata"][name]["probability"] == pytest.approx(found[row].max(), abs=1e-4)
    stated = json.loads((folder / "preprocessor.json").read_text())
    assert [entry["dtype"] for entry in stated["inputs"]] == ["uint8"]
    assert set(stated["normalisation"]["strata"]) == {"clip", "openclip"}
    again = said(run("export", fitted, "--to", "single-file"))
    assert "exists; choose another --out" in again


@pytest.mark.slow
@pytest.mark.parametrize("large", [False, True])
def test_onnx_agrees_with_predict(fitted, pictures, predicted, tmp_path, monkeypatch, large):
    onnxruntime = pytest.importorskip("onnxruntime")
    if large:
        monkeypatch.setattr(formats, "_INLINE_BYTES", 1000)
    out = tmp_path / "x" / "model.onnx"
    assert run("export", fitted, "--to", "onnx", "--out", out).exit_code == 0
    beside = {"model.onnx.data"} if large else set()
    assert {path.name for path in out.parent.iterdir()} == {"model.onnx", "preprocessor.json"} | beside
    assert b"site-packages" not in out.read_bytes() and b"/estimators/" not in out.read_bytes()
    session = onnxruntime.InferenceSession(out)
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["classes"]) == ["ant", "bee", "cow", "doe"]
    assert [len(s["sha256"]) for s in json.loads(about["causalft"])["strata"]] == [64, 64]
    batch = inputs(fitted, pictures).numpy()
    for n in (1, 3):
        fused, strata = session.run(None, {"pictures": batch[:n]})
        assert np.allclose(fused, predicted[0][:n], atol=1e-4)
        assert np.allclose(strata.transpose(1, 0, 2), predicted[1][:, :n], atol=1e-4)


def test_exported_files_hold_no_local_path(fitted, tmp_path):
    folder = fitted / "export"
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "model.py"]
    assert {path.suffix for path in files} >= {".pt2", ".safetensors", ".json"}
    for path in files:
        content = path.read_bytes()
        assert b"site-packages" not in content and b"/estimators/" not in content, path
        assert str(tmp_path.parents[2]).encode() not in content, path


def test_single_stratum_is_not_calibrated(fitted, tmp_path):
    out = tmp_path / "clip.safetensors"
    result = run("export", fitted, "--to", "single-file", "--strata", "clip", "--out", out)
    assert result.exit_code == 0 and "not calibrated" in " ".join(result.stdout.split())
    from causalft.pipelines.export import standalone

    model = standalone.load(out)
    fused, strata = model(torch.rand(2, 3, 16, 16))
    assert torch.allclose(fused, strata[:, 0], atol=1e-6) and model.about["fusion"]["temperature"] == 1


def test_a_run_in_low_precision_is_exported_in_float32(fitted, tmp_path):
    low = shutil.copytree(fitted, tmp_path / "run", ignore=shutil.ignore_patterns("export"))
    document = json.loads((low / "config.json").read_text())
    document["config"]["tuning"]["precision"] = "bf16"
    (low / "config.json").write_text(json.dumps(document))
    assert StrataClassifier.load(low, device="cpu").members_["clip"].precision == "bf16"
    result = run("export", low, "--to", "single-file")
    assert result.exit_code == 0, result.output
    tensors = [load_file(folder / "export" / "single-file" / "model.safetensors") for folder in (low, fitted)]
    assert tensors[0].keys() == tensors[1].keys()
    assert all(torch.equal(value, tensors[1][name]) for name, value in tensors[0].items())


@pytest.mark.parametrize(("added", "difference"), [(2e-4, "0.0002"), (float("nan"), "nan")])
def test_deviating_export_is_not_kept(fitted, tmp_path, monkeypatch, added, difference):
    right = FORMATS["single-file"]
    wrong = replace(right, run=lambda *given: [output + added for output in right.run(*given)])
    monkeypatch.setitem(FORMATS, "single-file", wrong)
    line = said(run("export", fitted, "--to", "single-file", "--out", tmp_path / "x" / "model.safetensors"))
    assert f"differ by {difference}; it was not kept" in line and not (tmp_path / "x").exists()


def test_mistakes_are_one_line(fitted, tmp_path, monkeypatch):
    assert "did you mean 'onnx'?" in said(run("export", fitted, "--to", "onx"))
    assert "no stratum 'metaclip'" in said(
        run("export", fitted, "--to", "single-file", "--strata", "metaclip")
    )
    for given, better in (("a.bin", "a.onnx"), (".", "model.onnx")):
        message = said(run("export", fitted, "--to", "onnx", "--out", tmp_path / given))
        assert f"ends in .onnx; give --out {tmp_path / better}" in message
    assert "no such run folder" in said(run("export", tmp_path / "gone", "--to", "onnx"))
    assert "not 'int8'" in said(
        run("export", fitted, "--to", "torch-export", "--pictures", "int8", "--out", tmp_path / "a.pt2")
    )
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    line = said(run("export", fitted, "--to", "onnx", "--out", tmp_path / "a.onnx"))
    assert "pip install 'causalft[export]'" in line and set(FORMATS) == {
        "onnx",
        "torch-export",
        "single-file",
    }
    assert not list(tmp_path.iterdir())
