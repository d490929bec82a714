"""`causalft distill`: a fitted run becomes one student, whose folder is a run like any other."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from causalft.data.opening import open_images
from causalft.methods.estimators import teacher as module
from causalft.methods.estimators.fit_command import fit_command
from causalft.methods.estimators.run_documents import open_fit
from causalft.methods.estimators.settings import FitSettings
from causalft.methods.estimators.teacher import Teacher
from causalft.models.features.cache import FeatureCache
from causalft.pipelines.workflows.answering import fit_fusions
from causalft.pipelines.workflows.distill_settings import DistillSettings, student_settings
from causalft.pipelines.workflows.fit_data import load_splits
from causalft.runs.folder import read_json, write_json
from tests.command_line import run, said, shows
from tests.pipelines.fitted_runs import fit

STUDENT = ["--epochs", 2, "--lr", 0.003, "--batch-size", 16]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, tiny_zoo, photos):
    return fit(tmp_path_factory.mktemp("distill") / "run", tiny_zoo, photos, "--fusion", "adjusted")


@pytest.fixture(scope="module")
def splits(fitted):
    return load_splits(FitSettings.from_config(open_fit(fitted).config), 0)


@pytest.fixture(scope="module")
def more(tmp_path_factory, pictures, photos, splits):
    """A folder in no classes: 24 new images, two test images and a training image of the run."""
    root = tmp_path_factory.mktemp("more")
    new = pictures(root / "made", dict.fromkeys(("ant", "bee", "cow", "doe"), 6), seed=5)
    flat = root / "flat"
    flat.mkdir()
    for number, path in enumerate(sorted(new.rglob("*.png"))):
        shutil.copy(path, flat / f"new-{number}.png")
    for name, part, row in (("a", splits.test, 0), ("b", splits.test, 5), ("c", splits.train, 3)):
        shutil.copy(photos / part.files[row], flat / f"copy-{name}.png")
    return flat


@pytest.fixture(scope="module")
def student(fitted, more, tmp_path_factory):
    out = tmp_path_factory.mktemp("student") / "run"
    result = run("distill", fitted, "--unlabeled", more, *STUDENT, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    return out, json.loads(result.stdout), result.stderr


def test_teacher_answers_as_predict_does_and_once(fitted, photos, tmp_path, monkeypatch):
    chosen = sorted(photos.rglob("*.png"))[::20]
    predicted = json.loads(run("predict", fitted, *chosen, "--json").stdout)
    images = open_images(photos)
    rows = [images.files.index(path.relative_to(photos).as_posix()) for path in chosen]
    teacher = Teacher(open_fit(fitted), cache=FeatureCache(tmp_path / "cache"), progress=False)
    found = teacher(images.subset(rows))
    expected = [list(each["probabilities"].values()) for each in predicted]
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-6)
    for name, classes in found.strata.items():
        assert [images.class_names[k] for k in classes] == [
            each["strata"][name]["prediction"] for each in predicted
        ]
    monkeypatch.setattr(module, "predict_stream", None)  # kept answers need no model
    assert np.array_equal(teacher(images.subset(rows)).probabilities, found.probabilities)


def test_document_compares_student_teacher_and_best_single(fitted, student):
    out, found, _ = student
    metrics, teacher = read_json(out / "metrics.json"), read_json(fitted / "metrics.json")
    assert {"teacher", "student", "best_single", "gain_share"} <= found.keys()
    assert found["teacher"]["accuracy"] == teacher["fused"]["accuracy"]
    best = teacher["controls"]["best_single"]["name"]
    assert found["best_single"]["name"] == found["student"]["name"] == best
    assert found["best_single"]["accuracy"] == teacher["strata"][best]["accuracy"]
    assert found["student"]["accuracy"] == metrics["fused"]["accuracy"]
    assert found["teacher"]["gap"]["estimate"] == pytest.approx(
        teacher["own_minus_off_gap"]["after"]["estimate"]
    )
    flops = {who: found[who]["cost_per_image"]["flops"] for who in ("teacher", "student", "best_single")}
    assert flops["student"] <= flops["best_single"] < flops["teacher"]
    assert all(found[who]["cost_per_image"]["seconds"] > 0 for who in flops)
    assert set(found["gain_share"]) >= {"estimate", "ci95"}


def test_images_of_the_run_are_left_out_of_the_unlabelled_ones_with_a_count(student):
    out, found, stderr = student
    assert found["images"]["unlabelled"] == 24
    assert found["images"]["left_out"] == {"test": 2, "validation": 0, "training": 1}
    assert shows(stderr, "left out unlabelled images that are in the run: 2 test, 1 training")


def test_student_is_a_run_like_any_other(student, photos, tmp_path):
    out, found, _ = student
    opened = open_fit(out)
    assert list(opened.metrics["strata"]) == [found["student"]["name"]]
    scored = run("evaluate", out, "--data", photos, "--json")
    assert scored.exit_code == 0, scored.output
    assert json.loads(scored.stdout)["fused"]["accuracy"] == found["student"]["accuracy"]
    one = sorted(photos.rglob("*.png"))[0]
    predicted = run("predict", out, one, "--json")
    assert predicted.exit_code == 0, predicted.output
    kept = load_file(next((out / "strata").glob("*/predictions.safetensors")))
    assert kept["test_logits"].shape == (16, 4)
    page = (out / "report.html").read_text(encoding="utf-8")
    # the headline is about the student
    assert page.index("teacher&#39;s gain") < page.index("Teacher and student")
    assert fit_command(opened.config, "x").startswith("causalft distill ")


def test_student_is_calibrated_and_not_adjusted_a_second_time(student, photos):
    out, found, _ = student
    opened = open_fit(out)
    mixing = opened.metrics["mixing"]
    assert mixing == {"fusion": "product", "stratum_prior": [1.0], "temperature": mixing["temperature"]}
    assert "adjustment" not in opened.metrics
    assert "equal recall" not in (out / "report.html").read_text(encoding="utf-8")
    test = load_splits(FitSettings.from_config(opened.config), 0).test
    predicted = json.loads(run("predict", out, *[photos / name for name in test.files], "--json").stdout)
    right = [
        each["prediction"] == test.class_names[k] for each, k in zip(predicted, test.labels, strict=True)
    ]
    assert np.mean(right) == found["student"]["accuracy"]


def test_answers_of_a_student_are_the_argmax_of_its_logits(fitted):
    """Logits that hold a class prior, which the adjusted fusion would take out; of 1,200 images."""
    rng = np.random.default_rng(0)
    law = 0.6 ** np.arange(12)
    labels = np.repeat(np.arange(12), 100)
    logits = 2 * np.eye(12)[labels] + rng.normal(size=(1200, 12)) + 0.5 * np.log(law)
    member = SimpleNamespace(gla_prior=law / law.sum(), validation_logits=logits)
    splits = SimpleNamespace(
        train=SimpleNamespace(class_names=[f"class {k}" for k in range(12)], class_counts=law * 100),
        validation=SimpleNamespace(labels=labels, n_classes=12),
    )
    teacher = FitSettings.from_config(open_fit(fitted).config)
    of_student = student_settings(DistillSettings(), teacher, "clip")
    agreement = {}
    for settings in (replace(teacher, strata=("clip",)), of_student):
        fusion = fit_fusions(settings, splits, {"clip": [member]}, settings.stratum_prior)
        answers = fusion.mixings[0](logits[None], kind="logits").argmax(axis=1)
        agreement[settings.fusion] = np.mean(answers == logits.argmax(axis=1))
    assert agreement["product"] == 1 and agreement["adjusted"] < 0.9


def test_same_command_resumes_and_another_is_refused(fitted, more, student):
    out, found, _ = student
    shutil.move(out / "metrics.json", out / "kept.json")
    before = {path: path.read_bytes() for path in (out / "strata").rglob("*.safetensors")}
    again = run("distill", fitted, "--unlabeled", more, *STUDENT, "--out", out, "--json")
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["student"]["accuracy"] == found["student"]["accuracy"]
    assert {path: path.read_bytes() for path in before} == before
    (out / "kept.json").unlink()
    other = run("distill", fitted, *STUDENT, "--out", out)
    assert "choose another" in said(other) or "another" in said(other)


AFTER = {
    "prior": lambda out, photo, tmp: ["prior", "estimate", "--run", out],
    "export": lambda out, photo, tmp: [
        "export",
        out,
        "--to",
        "single-file",
        "--out",
        tmp / "model.safetensors",
    ],
    "explain": lambda out, photo, tmp: ["explain", out, photo, "--out", tmp / "maps"],
    "card": lambda out, photo, tmp: ["card", out],
    "push": lambda out, photo, tmp: ["push", out, "--to-folder", tmp / "hub"],
    "wise-ft": lambda out, photo, tmp: ["wise-ft", out, "--alphas", "0.5"],
}


@pytest.mark.slow
@pytest.mark.parametrize("verb", AFTER)
def test_what_comes_after_a_fit_takes_a_student(student, photos, tmp_path, verb):
    result = run(*AFTER[verb](student[0], sorted(photos.rglob("*.png"))[0], tmp_path))
    assert result.exit_code == 0, result.output


@pytest.mark.slow
def test_pushed_student_names_its_teacher_but_no_path_of_this_machine(student, fitted, more, tmp_path):
    assert run("push", student[0], "--to-folder", tmp_path / "hub").exit_code == 0
    texts = {path.name: path.read_bytes() for path in (tmp_path / "hub").rglob("*") if path.is_file()}
    for private in (fitted, more):
        assert not [name for name, text in texts.items() if str(private.parent).encode() in text]
    card = (tmp_path / "hub" / "README.md").read_text(encoding="utf-8")
    assert "One model was tuned to answer as a teacher does, the fusion (adjusted) of clip, openclip" in card
    assert "causalft distill run --unlabeled flat" in card


@pytest.mark.slow
def test_deeper_student_is_read_by_predict_and_push(fitted, photos, tmp_path):
    out, one = tmp_path / "run", sorted(photos.rglob("*.png"))[0]
    deeper = ["--student", "openclip:blocks=4", *STUDENT, "--epochs", 1]
    assert run("distill", fitted, *deeper, "--out", out).exit_code == 0
    assert list(open_fit(out).metrics["strata"]) == ["openclip:blocks=4"]
    result = run(*AFTER["push"](out, one, tmp_path))
    assert result.exit_code == 0, result.output
    assert (tmp_path / "hub" / "zoo" / "openclip.safetensors").is_file()
    pulled = tmp_path / "pulled"
    assert run("pull", tmp_path / "hub", "--to", pulled).exit_code == 0
    found = [run("predict", place, one, "--json").stdout for place in (out, pulled)]
    assert json.loads(found[0])[0]["prediction"] and found[0] == found[1]


def test_wrong_input_gets_one_line(fitted, photos, tmp_path):
    out = ["--out", tmp_path / "never"]
    assert "no model 'clop' to become the student; did you mean 'clip'" in said(
        run("distill", fitted, "--student", "clop", *out)
    )
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds no image" in said(run("distill", fitted, "--unlabeled", empty, *out))
    assert "no such file or folder" in said(run("distill", fitted, "--unlabeled", tmp_path / "lost", *out))
    own = said(run("distill", fitted, "--unlabeled", photos, *out))
    assert "all 120 unlabelled images" in own and "leave --unlabeled out" in own
    broken = tmp_path / "broken"
    broken.mkdir()
    Image.new("RGB", (24, 24)).save(broken / "good.png")
    (broken / "bad.png").write_bytes(b"no image")
    assert "bad.png" in said(run("distill", fitted, "--unlabeled", broken, *out))
    assert "is a run of causalft (fit), not images" in said(
        run("distill", fitted, "--unlabeled", fitted, *out)
    )
    assert "the tuner full freezes none" in said(run("distill", fitted, "--precision", "int8", *out))
    assert "goes with --unlabeled" in said(run("distill", fitted, "--max-unlabeled", 3, *out))
    assert "trains nothing" in said(run("distill", fitted, "--tuner", "zero-shot", *out))
    for number in ("0", "-1", "x", "2.5", ""):
        assert "give 1 to 200 blocks" in said(
            run("distill", fitted, "--student", f"clip:blocks={number}", *out)
        )
    assert "for another number of blocks write clip:blocks=N" in said(
        run("distill", fitted, "--student", "clip:block=2", *out)
    )
    mini = said(run("distill", fitted, "--student", "mini", *out))
    assert "--zoo" not in mini
    assert "cannot represent the classes" in mini and "never saw the word" in mini
    assert not (tmp_path / "never").exists()


def test_student_keeps_the_target_law_of_its_teacher(fitted, tmp_path):
    law = tmp_path / "law.csv"
    law.write_text("ant,5\nbee,3\ncow,1\ndoe,1\n")
    teacher = tmp_path / "teacher"
    shutil.copytree(fitted, teacher)
    document = read_json(teacher / "config.json")
    document["config"]["target_law"] = str(law)
    write_json(teacher / "config.json", document)
    out = tmp_path / "run"
    assert run("distill", teacher, *STUDENT, "--epochs", 1, "--out", out).exit_code == 0
    config = open_fit(out).config
    assert config["target_law"] == str(law)
    assert config["distilled"]["lessons"]["target_law"] == [0.5, 0.3, 0.1, 0.1]
    law.unlink()
    assert "law.csv" in said(run("distill", teacher, *STUDENT, "--out", tmp_path / "never"))
    assert not (tmp_path / "never").exists()


def test_student_that_sees_less_than_half_of_the_image_is_refused(fitted, tmp_path, monkeypatch):
    from causalft.pipelines.workflows import distill

    monkeypatch.setattr(distill, "_least_side", lambda teacher, splits: 64)
    found = said(run("distill", fitted, "--out", tmp_path / "never"))
    assert "sees 16 pixels of images that the teacher sees at 64" in found


def test_run_without_tuned_strata_is_refused(fitted, tmp_path):
    untuned = tmp_path / "untuned"
    shutil.copytree(fitted, untuned)
    config = read_json(untuned / "config.json")
    config["config"]["tuning"]["tuner"] = "zero-shot"
    write_json(untuned / "config.json", config)
    assert "has no tuned stratum" in said(run("distill", untuned, "--out", tmp_path / "never"))
