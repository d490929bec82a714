"""Test-time crops in an exported model: it cuts the squares itself and says what `predict` of the run says."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from causalft.data.given import unlabelled_images
from causalft.methods.estimators.strata import StrataClassifier
from causalft.models.features.encoder import TEST_VIEWS, view_cut
from causalft.pipelines.export import FusedModel, standalone
from causalft.pipelines.export.fused_model import geometry_steps, squares
from causalft.pipelines.export.write import trace
from tests.command_line import run
from tests.methods.small_classifiers import Member, classifier, clip_stratum
from tests.pipelines.fitted_runs import fit

SHAPES = ((33, 20), (24, 41), (16, 16), (90, 17), (18, 31), (47, 40))
VIEWS = [view for view, about in TEST_VIEWS.items() if about.n > 1]


def noise(width, height, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.fixture(scope="module", params=VIEWS)
def fitted(request, tmp_path_factory, tiny_zoo, photos):
    out = tmp_path_factory.mktemp(request.param) / "run"
    return fit(out, tiny_zoo, photos, "--test-view", request.param, "--epochs", 20)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    for number, shape in enumerate(SHAPES):
        noise(*shape, seed=number).save(folder / f"{number}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def predicted(fitted, pictures):
    """Fused (n, K) and per-stratum (n, M, K) probabilities of the run."""
    model = StrataClassifier.load(fitted, device="cpu", progress=False)
    images = unlabelled_images(pictures)
    _, strata, fused = next(model.predict_stream(images, progress=False))
    for member in model.members_.values():
        member.view = "centre"
    assert (
        np.abs(fused - model.predict_proba(images)).max() > 3e-3
    )  # else the tolerances below would hide a view
    return fused, strata.transpose(1, 0, 2)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("view", VIEWS)
def test_exported_crops_agree_with_the_run(view, interpolation):
    """Every remainder of the spare pixels: half a pixel goes where torchvision lets it go."""
    stratum = clip_stratum("a", interpolation=interpolation)
    steps = json.loads(json.dumps(geometry_steps(stratum, view)))
    for longer in range(9):
        for width, height in ((35, 35 + longer), (35 + longer, 35)):
            picture = noise(width, height, seed=longer)
            resized = standalone.to_tensor(standalone.shape(picture, steps), "uint8")[None]
            found = squares(resized, stratum.image_size, view).permute(0, 2, 3, 1).numpy()
            assert np.array_equal(found, view_cut(stratum, view)(picture))


def test_a_zoomed_centre_is_cut_before_the_model_sees_it():
    stratum = clip_stratum("a")  # 32 pixels, resized to 32 + round(32 * 32 / 224) = 37
    steps = geometry_steps(stratum, "zoomed-centre")
    assert [step.get("shorter_side") or step.get("size") for step in steps] == [37, 32]
    for width, height in ((40, 40), (61, 45), (33, 90)):
        picture = noise(width, height)
        found = np.asarray(standalone.shape(picture, steps))
        assert np.array_equal(found, view_cut(stratum, "zoomed-centre")(picture))
    member = Member(stratum)
    member.view = "zoomed-centre"
    model = FusedModel(classifier({"a": member}))
    assert [(entry.view, entry.side) for entry in model.inputs] == [("centre", 32)]
    assert model(torch.rand(2, 3, 32, 32))[0].shape == (2, 5)


def test_a_run_with_crops_is_a_single_file_that_predicts_the_same(fitted, pictures, predicted):
    result = run("export", fitted, "--to", "single-file", "--pictures", "uint8", "--json")
    assert result.exit_code == 0, result.output
    about = json.loads(result.stdout)
    assert about["view"] in VIEWS and about["difference"] < 1e-5
    [entry] = about["inputs"]
    assert (entry["view"], entry["size"], entry["shorter_side"]) == (about["view"], 16, 18)
    assert entry["steps"] == [{"step": "resize", "shorter_side": 18, "interpolation": "bicubic"}]
    model = standalone.load(fitted / "export" / "single-file" / "model.safetensors")
    for row, (picture, line) in enumerate(zip(pictures, model.predict(pictures), strict=True)):
        fused, strata = model(*model.pictures([picture]))
        assert torch.allclose(fused[0].double(), torch.tensor(predicted[0][row]), atol=1e-5)
        assert torch.allclose(strata[0].double(), torch.tensor(predicted[1][row]), atol=1e-5)
        assert line["probability"] == pytest.approx(predicted[0][row].max(), abs=1e-5)
    with pytest.raises(ValueError, match="these pictures have several shapes"):
        model.pictures(pictures)
    with pytest.raises(ValueError, match=r"uint8 \(n, 3, height, width\) with a shorter side of 18, not"):
        model(torch.zeros(1, 3, 16, 16, dtype=torch.uint8))


def test_strata_of_several_sizes_have_an_input_each():
    members = {name: Member(clip_stratum(name, size=size)) for name, size in (("a", 32), ("b", 16))}
    for member in members.values():
        member.view = "five-crop"
    model = FusedModel(classifier(members))
    assert [(entry.name, entry.side) for entry in model.inputs] == [("pictures_32", 35), ("pictures_16", 18)]
    program = trace(model).module()
    pictures = [torch.rand(2, 3, 35, 51), torch.rand(2, 3, 26, 18)]
    found, wanted = program(*pictures), model(*pictures)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found, wanted, strict=True))
    for number, (name, member) in enumerate(members.items()):
        seen = squares(pictures[number], member.stratum.image_size, "five-crop")
        each = member.predict((seen - model.mean[number]) / model.std[number]).reshape(5, 2, -1).mean(0)
        assert torch.allclose(found[1][:, number], each.softmax(-1), atol=1e-6), name


@pytest.mark.slow
@pytest.mark.parametrize("to", ["torch-export", "onnx"])
def test_the_other_formats_take_pictures_of_any_shape(fitted, pictures, predicted, to):
    result = run("export", fitted, "--to", to)
    assert result.exit_code == 0, result.output
    said = " ".join(result.stdout.split())
    assert "squares itself; give pictures with a shorter side of 18 pixels, not cut" in said
    steps = json.loads((fitted / "export" / to / "preprocessor.json").read_text())["inputs"][0]["steps"]
    if to == "onnx":
        session = pytest.importorskip("onnxruntime").InferenceSession(fitted / "export" / to / "model.onnx")
        assert session.get_inputs()[0].shape == ["batch", 3, "height", "width"]

        def model(batch):
            return [torch.from_numpy(o) for o in session.run(None, {"pictures": batch.numpy()})]
    else:
        model = torch.export.load(fitted / "export" / to / "model.pt2").module()
    for row, path in enumerate(pictures):
        picture = standalone.to_tensor(standalone.shape(Image.open(path), steps), "float32")
        for copies in (1, 3):
            fused, strata = model(picture.expand(copies, *picture.shape).contiguous())
            assert np.allclose(fused[-1], predicted[0][row], atol=1e-5)
            assert np.allclose(strata[-1], predicted[1][row], atol=1e-5)
