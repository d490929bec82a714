"""``causalft explain``: what comes out of a fitted run, the page, and what is refused in one line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import causalft
from causalft.analysis.maps import truest_map
from causalft.errors import CausalFTError
from causalft.methods.estimators.fitted import load_fitted
from causalft.methods.estimators.maps import evidence_shares, fused_view, zero_shot_view
from causalft.methods.estimators.mixing import Mixing
from causalft.models.maps import MAPS, NoSuchMap
from causalft.models.strata.zoo import open_zoo
from tests.command_line import run
from tests.golden.old_folders import copy_old_folders


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A fitted run of two small strata, their zoo and their photos."""
    return copy_old_folders(tmp_path_factory.mktemp("explain") / "home")


@pytest.fixture(scope="module")
def view(home):
    model = load_fitted(home / "run", precision="fp32")
    return fused_view(model.members_, model.mixing_, model.classes_)


@pytest.fixture(scope="module")
def photos(home, tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    first, second = sorted((home / "photos").glob("*/*.png"))[:2]
    Image.open(first).save(folder / "a.png")
    Image.open(second).resize((90, 60)).save(folder / "b.png")
    return folder


def frames_of(view, home, n=4):
    paths = sorted((home / "photos").glob("*/*.png"))[:n]
    return np.stack([view.frame(Image.open(path)) for path in paths])


def test_the_command_writes_maps_numbers_and_a_page(home, photos, tmp_path):
    out = tmp_path / "out"
    result = run("explain", home / "run", photos, "--method", "rollout", "--steps", 2, "--out", out)
    assert result.exit_code == 0, result.output
    assert "a.png: evidence for" in result.output and "deletion" in result.output
    metrics = json.loads((out / "metrics.json").read_text())
    assert [found["file"].rpartition("/")[2] for found in metrics["images"]] == ["a.png", "b.png"]
    for found in metrics["images"]:
        models = found["models"]
        assert list(models) == ["clip", "openclip", "fused"]
        assert found["of"] == models["fused"]["prediction"]
        assert models["clip"]["evidence_share"] + models["openclip"]["evidence_share"] == pytest.approx(1)
        assert 0 < models["fused"]["spread"] <= 1 and 0 <= found["overlap_of_strata"] <= 1
        assert {"deletion_auc", "random_insertion_auc", "centre_deletion_auc"} <= set(models["clip"])
    assert sorted(path.name for path in (out / "figures").iterdir()) == ["map-001.png", "map-002.png"]
    page = (out / "report.html").read_text()
    assert "Evidence for" in page and "causalft explain" in page and "b.png" in page


def test_probabilities_are_those_of_predict(home):
    paths = sorted((home / "photos").glob("*/*.png"))[:3]
    found = causalft.explain(home / "run", paths, steps=0, method="rollout")
    expected = causalft.StrataClassifier.load(home / "run", progress=False).predict_proba(paths)
    shown = [image["models"]["fused"]["probability"] for image in found.metrics["images"]]
    assert np.allclose(shown, expected.max(axis=1), atol=1e-5)
    assert np.allclose(found.maps.sum(axis=(2, 3)), 1)
    assert "deletion_auc" not in found.metrics["images"][0]["models"]["fused"]


def test_the_kind_that_is_shown_has_the_lowest_deletion_area_on_these_images(home):
    paths = sorted((home / "photos").glob("*/*.png"))[:3]

    def areas(found):
        return [
            model["deletion_auc"] for image in found.metrics["images"] for model in image["models"].values()
        ]

    auto = causalft.explain(home / "run", paths, steps=3)
    each = {name: causalft.explain(home / "run", paths, steps=3, method=name) for name in MAPS}
    assert auto.metrics["chosen_from"] == pytest.approx(
        {name: np.mean(areas(of)) for name, of in each.items()}
    )
    kept = min(each, key=lambda name: np.mean(areas(each[name])))
    assert auto.metrics["method"] == kept
    assert auto.metrics["images"] == each[kept].metrics["images"]  # curves of the controls too
    assert np.array_equal(auto.maps, each[kept].maps)
    assert each[kept].metrics["chosen_from"] == {}


class WithoutSome:
    """A view whose towers lack some kinds of map, and a record of what was asked of it."""

    def __init__(self, view, lacking):
        self.view, self.lacking, self.strata = view, lacking, view.strata
        self.probabilities = view.probabilities

    def look(self, frames, method, classes=None):
        if method in self.lacking:
            raise NoSuchMap(f"no {method}")
        return self.view.look(frames, method, classes)


def test_kinds_that_a_tower_lacks_are_left_out_of_the_choice(view, home):
    frames = frames_of(view, home, 2)
    found = truest_map(WithoutSome(view, {"rollout", "integrated-gradients"}), frames, steps=2)
    assert set(found.deletion) == set(MAPS) - {"rollout", "integrated-gradients"}
    assert set(found.curves["fused"]) == {"map", "random", "centre"}
    alone = truest_map(view, frames, methods=["rollout"], steps=2, controls=False)
    assert alone.method == "rollout" and set(alone.curves["clip"]) == {"map"}
    with pytest.raises(NoSuchMap, match="have no kind of map in common of rollout, grad-cam"):
        truest_map(WithoutSome(view, set(MAPS)), frames, methods=["rollout", "grad-cam"])
    with pytest.raises(CausalFTError, match="without an image"):
        truest_map(view, frames[:0])
    with pytest.raises(CausalFTError, match="steps is 1; a choice between kinds of map needs 2 or more"):
        truest_map(view, frames, steps=1)


def test_a_map_that_does_not_depend_on_the_class_is_no_evidence_for_a_class_that_is_named(home, view):
    paths = sorted((home / "photos").glob("*/*.png"))[:2]
    named = causalft.explain(home / "run", paths, steps=2, of=view.classes[0])
    assert (
        "rollout" not in named.metrics["chosen_from"] and len(named.metrics["chosen_from"]) == len(MAPS) - 1
    )
    assert "rollout" in causalft.explain(home / "run", paths, steps=2).metrics["chosen_from"]


def test_the_fused_map_mixes_maps_by_what_strata_contribute(view, home):
    frames, classes = frames_of(view, home), np.arange(4) % len(view.classes)
    look = view.look(frames, "rollout", classes)
    shares = evidence_shares(view.mixing, view.log_probabilities(frames), classes)
    assert np.allclose(look.maps[-1], np.einsum("mn,mnhw->nhw", shares, look.maps[:-1]))
    assert np.allclose(shares.sum(axis=0), 1)


@pytest.mark.parametrize("fusion", ["mixture", "logit", "product"])
def test_evidence_shares_are_derivatives_of_the_fused_log_probability(fusion):
    mixing = Mixing(fusion, (0.2, 0.8), 1.0)
    log_p = np.log(np.random.default_rng(0).dirichlet(np.ones(3), size=(2, 1)))
    shares = evidence_shares(mixing, log_p, [1])
    step, derivative = 1e-6, []
    for c in range(2):
        nudged = log_p.copy()
        nudged[c, 0, 1] += step
        weights = np.array([0.2, 0.8])
        if fusion == "mixture":
            f = [np.log(weights @ np.exp(each[:, 0, 1])) for each in (nudged, log_p)]
        else:  # before it is normalised
            f = [weights @ each[:, 0, 1] for each in (nudged, log_p)]
        derivative.append((f[0] - f[1]) / step)
    assert shares[:, 0] == pytest.approx(derivative, abs=1e-4)


def test_a_zero_shot_stratum_can_be_explained():
    stratum = open_zoo("mini").load("clip")
    view = zero_shot_view(stratum, ["aradax", "beldax", "cordax"])
    frames = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3)).astype(np.uint8)
    assert view.box == (0.0, 1.0)
    assert np.allclose(view.probabilities(frames).sum(axis=1), 1)
    found = view.map(frames, [0, 1], "integrated-gradients")
    assert found.shape == (2, 40, 40) and np.allclose(found.sum(axis=(1, 2)), 1)


def test_the_box_of_a_stratum_is_what_its_crop_keeps():
    from torchvision.transforms import CenterCrop, Compose, Resize

    stratum = open_zoo("mini").load("clip")
    view = zero_shot_view(stratum, ["aradax", "beldax", "cordax"])
    stratum.geometry = Compose([Resize(50), CenterCrop(40)])
    assert view.box == pytest.approx((0.1, 0.9), abs=0.011)
    outside = view.map(np.zeros((1, 80, 80, 3), np.uint8), [0], "rollout")
    assert outside[0, :6].sum() == 0 and outside.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--of", "nothing"], "'nothing' is no class of"),
        (["--method", "rolout"], "no kind of map is named 'rolout'; did you mean 'rollout'?"),
        (["--steps", -1], "steps"),
        (["--steps", 1], "with 1 step no curve says which kind of map is truest; give 2 or more"),
        (["--steps", 0], "with 0 steps no curve says which kind of map is truest; give 2 or more"),
        (["--method", "auto", "--steps", 1], "or a method: integrated-gradients, occlusion"),
    ],
)
def test_wrong_choices_are_refused_in_one_line(home, photos, options, message):
    result = run("explain", home / "run", photos, *options)
    assert result.exit_code == 2
    assert message in result.output and "Traceback" not in result.output


def test_an_image_that_cannot_be_read_is_named(home, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    result = run("explain", home / "run", tmp_path / "broken.png")
    assert result.exit_code == 2
    assert "broken.png" in result.output and "Traceback" not in result.output


def test_unknown_classes_name_the_nearest(home, view):
    first = view.classes[0]
    with pytest.raises(CausalFTError, match=f"did you mean '{first}'"):
        causalft.explain(home / "run", np.zeros((40, 40, 3), np.uint8), of=first[:-1])
