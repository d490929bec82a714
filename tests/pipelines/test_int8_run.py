"""A run in int8 on the command line: fit, predict, and an ONNX file."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from causalft.data.given import unlabelled_images
from causalft.errors import CausalFTError
from causalft.methods.adaptation.settings import Tuning
from causalft.methods.adaptation.tuned import TunedStratum, load_tuned
from causalft.methods.estimators.fitted import load_fitted, predict_stream
from causalft.methods.estimators.run_documents import open_fit
from causalft.methods.estimators.settings import FitSettings
from causalft.methods.estimators.strata import StrataClassifier
from causalft.models.strata.zoo import open_zoo
from causalft.models.tuning.int8 import Int8Linear
from causalft.pipelines.export import FORMATS, write
from causalft.pipelines.export.int8 import frozen_weights, kept_in_fp32, round_onnx
from causalft.pipelines.workflows.evaluate import evaluate
from causalft.pipelines.workflows.fit_data import load_splits
from causalft.pipelines.workflows.int8_agreement import int8_agreement
from causalft.pipelines.workflows.predict import Prediction
from tests.command_line import run, said
from tests.pipelines.fitted_runs import fit

WORK = "causalft.pipelines.workflows"


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, tiny_zoo, photos):
    return fit(tmp_path_factory.mktemp("int8") / "run", tiny_zoo, photos, "--precision", "int8")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for number in range(4):
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


def predicted(folder, pictures, precision):
    model = load_fitted(folder, device="cpu", precision=precision)
    return np.concatenate([fused for _, _, fused in predict_stream(model, unlabelled_images([pictures]))])


def test_predict_in_int8_says_how_far_it_agrees_with_fp32(fitted, pictures, monkeypatch):
    result = run("predict", fitted, pictures, "--precision", "int8", "--json")
    assert result.exit_code == 0 and "int8 predicts" not in result.stderr  # too few images to measure it
    found = np.array([list(each["probabilities"].values()) for each in json.loads(result.stdout)])
    assert np.array_equal(found, predicted(fitted, pictures, "int8"))
    exact = predicted(fitted, pictures, "fp32")
    assert 0 < np.abs(found - exact).max() < 0.05
    measured = int8_agreement(fitted, unlabelled_images([pictures]))
    assert measured.n_images == 4 and measured.largest_difference == np.abs(found - exact).max()
    assert measured.agreement == (found.argmax(1) == exact.argmax(1)).mean()
    monkeypatch.setattr("causalft.pipelines.workflows.predict.CHECKED", 2)
    monkeypatch.setattr("causalft.pipelines.workflows.predict.CHECKED_SHARE", 0.5)
    result = run("predict", fitted, pictures, "--precision", "int8", "--out", "-")
    assert "int8 predicts the class of fp32 for 2 of 2 images" in result.stderr
    assert "did you mean 'int8'?" in said(run("predict", fitted, pictures, "--precision", "int4"))


@pytest.mark.parametrize(
    ("alike", "precision", "words"),
    [
        (
            0.99,
            "int8",
            "auto takes int8, which is faster here: int8 predicts the class of fp32 for 2 of 2 images",
        ),
        (1.01, "fp32", "auto stays in fp32: int8 predicts the class of fp32 for 2 of 2 images"),
    ],
)
def test_auto_takes_int8_where_it_is_faster_and_answers_alike(
    fitted, pictures, monkeypatch, alike, precision, words
):
    asked = []
    monkeypatch.setattr(f"{WORK}.predict.int8_pays", lambda width, device: asked.append(width) or True)
    monkeypatch.setattr(f"{WORK}.int8_agreement.ALIKE", alike)

    def answers(wanted):
        result = run("predict", fitted, pictures, "--precision", wanted, "--json")
        assert result.exit_code == 0, result.output
        found = [list(each["probabilities"].values()) for each in json.loads(result.stdout)]
        return np.array(found), result.stderr

    assert "auto" not in answers("auto")[1] and not asked  # too few images to compare
    monkeypatch.setattr(f"{WORK}.predict.CHECKED", 2)
    monkeypatch.setattr(f"{WORK}.predict.CHECKED_SHARE", 0.5)
    found, said_of_auto = answers("auto")
    assert asked and words in said_of_auto
    assert ("--precision fp32 computes exactly" in said_of_auto) == (precision == "int8")
    assert np.array_equal(found, predicted(fitted, pictures, precision))
    n_asked = len(asked)
    assert "auto" not in answers("fp32")[1] and "auto" not in answers("int8")[1] and len(asked) == n_asked
    prediction = Prediction(fitted, unlabelled_images([pictures]), "cpu", precision="auto")
    assert prediction.rounding is None  # `sensitivity` and others that predict are not rounded unasked
    monkeypatch.setattr(f"{WORK}.predict.int8_pays", lambda width, device: False)
    found, said_of_auto = answers("auto")
    assert "auto" not in said_of_auto and np.array_equal(found, predicted(fitted, pictures, "fp32"))


@pytest.mark.parametrize("precision", ["int8", "auto"])
def test_what_is_compared_is_the_model_that_predicts(fitted, pictures, monkeypatch, precision):
    """With tokens merged and in int8 at once, each comparison changes one of the two."""
    monkeypatch.setattr(f"{WORK}.predict.int8_pays", lambda width, device: True)
    monkeypatch.setattr(f"{WORK}.int8_agreement.ALIKE", 0.0)
    monkeypatch.setattr(f"{WORK}.predict.CHECKED", 2)
    monkeypatch.setattr(f"{WORK}.predict.CHECKED_SHARE", 0.5)
    prediction = Prediction(
        fitted, unlabelled_images([pictures]), "cpu", precision=precision, merge_tokens=2, may_round=True
    )
    asked = {}
    for module in ("int8_agreement", "merged_agreement"):

        def loaded(*arguments, module=module, **options):
            asked.setdefault(module, []).append((options.get("precision"), options.get("merge_tokens")))
            return load_fitted(*arguments, **options)

        monkeypatch.setattr(f"{WORK}.{module}.load_fitted", loaded)
    assert "2 of 2 images" in prediction.merged_agreement().sentence()
    assert asked.pop("merged_agreement") == [("int8", 0), ("int8", 2)]
    assert "2 of 2 images" in prediction.int8_note()
    assert asked == ({} if precision == "auto" else {"int8_agreement": [("fp32", 2), ("int8", 2)]})


def test_auto_stays_in_fp32_where_the_images_to_compare_cannot_be_read(
    fitted, pictures, monkeypatch, tmp_path
):
    folder = shutil.copytree(pictures, tmp_path / "some")
    for name in ("0.png", "3.png"):  # the two that are compared
        (folder / name).write_bytes(b"no image")
    monkeypatch.setattr(f"{WORK}.predict.int8_pays", lambda width, device: True)
    monkeypatch.setattr(f"{WORK}.predict.CHECKED", 2)
    monkeypatch.setattr(f"{WORK}.predict.CHECKED_SHARE", 0.5)
    result = run("predict", fitted, folder, "--precision", "auto", "--on-error", "skip", "--out", "-")
    assert result.exit_code == 0 and len(result.stdout.splitlines()) == 4
    assert "auto stays in fp32: none of 2 images could be read to compare int8 with fp32" in result.stderr


def test_rows_of_two_precisions_do_not_meet_in_one_file(fitted, pictures, monkeypatch, tmp_path):
    def identity(**options):
        prediction = Prediction(fitted, unlabelled_images([pictures]), "cpu", **options)
        seen = []
        monkeypatch.setattr(
            f"{WORK}.predict.open_rows", lambda *given: seen.append(given[-1]) or pytest.fail("x")
        )
        with pytest.raises(pytest.fail.Exception):
            prediction.to_file(str(tmp_path / "rows.jsonl"), "jsonl", None, print)
        return tuple(seen[0])

    monkeypatch.setattr(f"{WORK}.predict.int8_pays", lambda width, device: True)
    monkeypatch.setattr(f"{WORK}.predict.CHECKED", 2)
    monkeypatch.setattr(f"{WORK}.predict.CHECKED_SHARE", 0.5)
    taken = identity(precision="auto", may_round=True)
    assert taken == identity(precision="int8") != identity(precision="fp32")
    monkeypatch.setattr(f"{WORK}.int8_agreement.ALIKE", 1.01)
    assert identity(precision="auto", may_round=True) not in (taken, identity(precision="fp32"))


def test_evaluate_scores_what_predict_predicts_in_the_same_precision(fitted, photos):
    test = load_splits(FitSettings.from_config(open_fit(fitted).config), 0).test
    chosen = unlabelled_images([photos / name for name in test.files])
    scores = {}
    for options in ((), ("--precision", "int8"), ("--precision", "fp32")):
        result = run("evaluate", fitted, "--data", photos, "--json", *options)
        assert result.exit_code == 0, result.output
        scores[options[1:]] = json.loads(result.stdout)
    assert scores[()] == scores[("int8",)] and scores[()]["notes"] == []  # the run's own precision
    for precision in ("int8", "fp32"):
        model = load_fitted(fitted, device="cpu", precision=precision)
        fused = np.concatenate([each for _, _, each in predict_stream(model, chosen)])
        found = scores[(precision,)]["fused"]
        assert found["accuracy"] == (fused.argmax(1) == test.labels).mean()
        of_label = fused[np.arange(len(test)), test.labels]
        assert found["nll"] == pytest.approx(-np.log(of_label).mean(), rel=1e-6)
    assert scores[("fp32",)]["fused"]["nll"] != scores[("int8",)]["fused"]["nll"]
    assert "did you mean 'int8'?" in said(run("evaluate", fitted, "--data", photos, "--precision", "int4"))


def test_evaluate_notes_the_strata_that_have_no_layer_to_round(fitted, photos, monkeypatch):
    load = StrataClassifier.load

    def with_resnet(*arguments, **options):
        model = load(*arguments, **options)
        model.members_["openclip"].precision = "fp32"
        return model

    monkeypatch.setattr(StrataClassifier, "load", with_resnet)
    found = evaluate(open_fit(fitted), str(photos), device="cpu", precision="int8")
    assert found.notes == ("int8 is for the layers of a ViT; openclip: computed in fp32",)


def test_predict_names_the_strata_that_have_no_layer_to_round(fitted, pictures):
    prediction = Prediction(fitted, unlabelled_images([pictures]), "cpu", precision="int8")
    assert prediction.precision_note() == ""
    prediction.model.members_["openclip"].precision = "fp32"  # as of a ResNet
    assert prediction.precision_note() == "int8 is for the layers of a ViT; openclip: computed in fp32"


def test_fit_trains_through_int8_layers_and_its_run_predicts_in_int8(fitted, pictures):
    metrics = json.loads((fitted / "metrics.json").read_text())
    assert {each["precision"] for each in metrics["strata"].values()} == {"int8"}
    member = load_fitted(fitted, device="cpu").members_["clip"]
    assert any(isinstance(module, Int8Linear) for module in member.modules())
    assert np.array_equal(predicted(fitted, pictures, None), predicted(fitted, pictures, "int8"))


@pytest.mark.parametrize("tuner", ["full", "bias", "last-1", "adaptformer", "lora", "vpt-deep"])
def test_a_prediction_rounds_what_was_trained_of_the_backbone_and_not_what_was_added(
    tmp_path, tiny_zoo, tuner, pictures
):
    stratum = open_zoo(tiny_zoo).load("clip", device="cpu")
    tuning = Tuning(tuner=tuner, bottleneck=4)
    TunedStratum(stratum, torch.randn(4, 16), tuning).save(tmp_path / "clip")
    names = ["a", "b", "c", "d"]
    exact = load_tuned(stratum, tmp_path / "clip", names, tuning)
    rounded = load_tuned(stratum, tmp_path / "clip", names, replace(tuning, precision="int8"))
    assert (exact.precision, rounded.precision) == ("fp32", "int8")
    assert rounded.lowered == 2 * 4  # two blocks of in- and out-projection and two layers of the MLP
    assert bool(rounded.tuned.added) == (tuner in ("adaptformer", "lora", "vpt-deep"))
    assert all(rounded.tower.get_parameter(name).dtype == torch.float32 for name in rounded.tuned.added)
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8))
    difference = (rounded.logits_of(pixels) - exact.logits_of(pixels)).abs().max()
    assert 0 < difference < 0.5
    if tuner in ("full", "last-1"):
        with pytest.raises(
            CausalFTError, match="rounded to int8 for prediction and cannot be saved; load it in fp32"
        ):
            rounded.trained_state()


@pytest.mark.parametrize("after_gelu", [False, True])
def test_a_layer_in_an_onnx_file_computes_as_in_the_model(tmp_path, after_gelu):
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    linear, x = torch.nn.Linear(24, 6, bias=False), torch.randn(5, 7, 24)
    weight = linear.weight.detach().numpy()
    steps = [onnx.helper.make_node("MatMul", ["h" if after_gelu else "x", "w"], ["y"], name="layer")]
    if after_gelu:
        steps.insert(0, onnx.helper.make_node("Gelu", ["x"], ["h"]))
    shapes = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 7, d])
        for name, d in (("x", 24), ("y", 6))
    ]
    stored = [onnx.numpy_helper.from_array(np.ascontiguousarray(weight.T), "w")]
    graph = onnx.helper.make_graph(steps, "layer", shapes[:1], shapes[1:], stored)
    path = tmp_path / "model.onnx"
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10), path
    )
    round_onnx(path, [weight])
    assert "MatMul" not in {node.op_type for node in onnx.load(path).graph.node}
    found = onnxruntime.InferenceSession(path).run(None, {"x": x.numpy()})[0]
    given = torch.nn.functional.gelu(x) if after_gelu else x
    expected = Int8Linear(linear)(given)
    assert np.allclose(found, expected.numpy(), atol=1e-3)
    with pytest.raises(CausalFTError, match="holds 0 of 1 layers"):
        round_onnx(path, [weight])


def test_a_file_in_int8_rounds_the_layers_that_a_prediction_rounds(fitted):
    model = StrataClassifier.load(fitted, device="cpu", precision="fp32")
    assert "adaptformer" in {member.tuned.spec for member in model.members_.values()}
    rounded = load_fitted(fitted, device="cpu", precision="int8").members_
    assert len(frozen_weights(model)) == sum(member.lowered for member in rounded.values())


@pytest.mark.slow
def test_the_int8_file_predicts_what_the_run_predicts_in_int8(fitted, pictures, tmp_path):
    pytest.importorskip("onnxruntime")
    whole, small = tmp_path / "fp32" / "model.onnx", fitted / "export" / "onnx-int8" / "model.onnx"
    assert run("export", fitted, "--to", "onnx", "--out", whole).exit_code == 0
    result = run("export", fitted, "--to", "onnx", "--precision", "int8")
    assert result.exit_code == 0, result.output
    assert "int8 predicts the class of fp32 for" in result.stdout
    assert small.stat().st_size < whole.stat().st_size
    images = unlabelled_images([pictures])
    stratum = load_fitted(fitted, device="cpu").members_["clip"].stratum
    crops = torch.from_numpy(np.stack([stratum.crop(images.image(i)) for i in range(4)]))
    batch = crops.permute(0, 3, 1, 2).float() / 255
    found = FORMATS["onnx"].run(small, [batch])[0].numpy()
    assert np.allclose(found, predicted(fitted, pictures, "int8"), atol=0.01)
    alone = FORMATS["onnx"].run(small, [batch[2:3]])[0].numpy()
    assert np.allclose(alone, found[2:3], atol=1e-5)  # whatever else is in the batch


def test_a_file_in_int8_names_the_strata_that_have_no_layer_to_round(fitted):
    model = StrataClassifier.load(fitted, device="cpu", precision="fp32")
    assert kept_in_fp32(model) == []
    model.members_["clip"].tower.kind = "ResNet"
    assert kept_in_fp32(model) == ["clip"] and kept_in_fp32(model, ["openclip"]) == []


@pytest.mark.slow
def test_an_int8_file_that_deviates_is_not_kept(fitted, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(write, "INT8_TOLERANCE", 0.0)
    out = tmp_path / "x" / "model.onnx"
    line = said(run("export", fitted, "--to", "onnx", "--precision", "int8", "--out", out))
    assert "it was not kept" in line and not out.parent.exists()


@pytest.mark.parametrize("missing", ["int8 layers", "onnx"])
def test_export_names_what_is_missing_before_it_computes_anything(fitted, tmp_path, monkeypatch, missing):
    def computed(*arguments, **options):
        raise AssertionError("computed before the check")

    monkeypatch.setattr(write, "_load", computed)
    if missing == "onnx":
        monkeypatch.setitem(sys.modules, "onnx", None)
        words = "ONNX needs the package onnx: pip install 'causalft[export]'"
    else:
        pytest.importorskip("onnxruntime")
        monkeypatch.setattr("causalft.models.tuning.int8.has_int8", lambda: False)
        words = "this build of PyTorch has no int8 layers (oneDNN); use --precision fp32"
    out = tmp_path / "x" / "model.onnx"
    assert words in said(run("export", fitted, "--to", "onnx", "--precision", "int8", "--out", out))
    assert not out.parent.exists()


def test_mistakes_are_one_line(fitted):
    assert "int8 is for --to onnx" in said(
        run("export", fitted, "--to", "single-file", "--precision", "int8")
    )
    assert "fp32 or int8, not 'bf16'" in said(run("export", fitted, "--to", "onnx", "--precision", "bf16"))
