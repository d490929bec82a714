"""The commands from images to diagnosis: pre-train, fit with control, predict, evaluate, resume."""

from __future__ import annotations

import errno
import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import causalft.pipelines.workflows.fit as fit_workflow
from causalft.analysis.diagnosis.no_conclusion import grouped
from causalft.data.opening import open_images
from causalft.methods.estimators import member as members
from causalft.methods.estimators import strata
from causalft.methods.estimators.fusion import apply_temperature
from causalft.methods.estimators.settings import FitSettings, control_members
from causalft.methods.estimators.strata import StrataClassifier
from causalft.pipelines.workflows import outcome
from causalft.runs.folder import Run, read_json
from tests.command_line import run, said, shows

FAST = ["--epochs", "20", "--lr", "0.01", "--batch-size", "16"]
GROUPS = {"many", "medium", "few"}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory, photos):
    """Two minis and a control seed, pre-trained for one epoch on half of the photos."""
    folder = tmp_path_factory.mktemp("fit") / "zoo"
    options = [
        "--member",
        "clip=upper",
        "--member",
        "openclip=lower",
        "--control-seeds",
        "1",
        "--n-test",
        "6",
    ]
    options += [
        "--n-validation",
        "3",
        "--epochs",
        "1",
        "--image-size",
        "16",
        "--imbalance-factor",
        "5",
        "--jobs",
        "1",
    ]
    result = run("zoo", "pretrain", "--data", photos, "--out", folder, *options)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="module")
def command(zoo, photos):
    return [
        "fit",
        "--strata",
        "clip,openclip",
        "--zoo",
        zoo,
        "--data",
        photos,
        "--imbalance-factor",
        4,
        *FAST,
    ]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, command):
    """A complete run with its control, and what the command said."""
    folder = tmp_path_factory.mktemp("fit") / "run"
    result = run(*command, "--control", "seeds", "--out", folder, "--json")
    assert result.exit_code == 0, result.output
    return folder, result


@pytest.fixture(scope="module")
def metrics(fitted):
    return read_json(fitted[0] / "metrics.json")


# --- the document that others rely on ----------------------------------------------------------------------------


def test_json_prints_only_metrics_json(fitted, metrics):
    assert json.loads(fitted[1].stdout) == metrics
    assert shows(fitted[1].stderr, "14 training images of 4 classes")


def test_metrics_json_has_the_documented_fields(metrics, zoo, photos):
    assert metrics["zoo"] == str(zoo) and metrics["data"]["name"] == str(photos)
    assert set(metrics["weights"]) == {"clip", "openclip", "clip@1"}
    assert all(len(sha) == 64 for sha in metrics["weights"].values())
    assert list(metrics["class_counts"]) == ["ant", "bee", "cow", "doe"]
    assert sorted(metrics["class_counts"].values()) == [2, 2, 4, 6]
    assert metrics["data"]["imbalance_factor"] == 3  # what became of the 4 asked for, with whole images
    assert set(metrics["strata"]) == set(metrics["cross_P"]) == {"clip", "openclip"}
    for name, stratum in metrics["strata"].items():
        check_score(stratum)
        assert set(stratum["P"]) == GROUPS and set(stratum["DxP"]) == GROUPS
        assert all(set(row) == GROUPS for row in stratum["DxP"].values())
        assert sum(stratum["label_prior"]) == pytest.approx(1)
        assert set(metrics["cross_P"][name]) == {"clip", "openclip"}
        assert metrics["cross_P"][name][name] == stratum["P"]
    fused = metrics["fused"]
    check_score(fused)
    assert fused["fusion"] == "adjusted" and fused["temperature"] > 0 and fused["nll"] > 0
    assert list(np.ravel(list(fused["stratum_prior"].values()))) == [0.5, 0.5]
    for what in ("P", "DxP"):
        assert set(fused[what]) == {"clip", "openclip"}
    assert all(set(groups) == GROUPS for groups in fused["P"].values())
    for measure in ("own_minus_off_gap", "prior_slope"):
        assert set(metrics[measure]) >= {"before", "after"}
        assert all("ci95" in metrics[measure][when] for when in ("before", "after"))
    assert {"best_single", "logit_mean", "seeds"} <= set(metrics["controls"])
    assert metrics["controls"]["seeds"]["kind"] == "pre-training"
    assert fused["temperature_per_seed"] == [fused["temperature"]]
    for control in metrics["controls"].values():
        assert 0 <= control["accuracy"] <= 1 and "P" in control
    assert metrics["seconds"] > 0


def check_score(score):
    low, high = score["ci95"]
    assert 0 <= low <= score["accuracy"] <= high <= 1
    assert set(score["D"]) == GROUPS
    assert all(value is None or 0 <= value <= 1 for value in score["D"].values())


def test_metrics_agree_with_stored_predictions(fitted, metrics):
    table = pd.read_parquet(fitted[0] / "predictions.parquet")
    assert len(table) == metrics["data"]["n_test"] == 24
    right = table["prediction"] == table["label"]
    assert right.mean() > 0.4  # it has learnt something: chance is a quarter
    assert right.mean() == pytest.approx(metrics["fused"]["accuracy"])
    for name in ("clip", "openclip"):
        share = (table[f"{name}_prediction"] == table["label"]).mean()
        assert share == pytest.approx(metrics["strata"][name]["accuracy"])
    probabilities = np.stack(table["probabilities"])
    assert np.allclose(probabilities.sum(1), 1, atol=1e-5)
    assert np.allclose(probabilities.max(1), table["probability"], atol=1e-6)
    classes = np.array(metrics["classes"])
    assert (classes[probabilities.argmax(1)] == table["prediction"]).all()
    chosen = probabilities[np.arange(24), [metrics["classes"].index(label) for label in table["label"]]]
    assert -np.log(chosen).mean() == pytest.approx(metrics["fused"]["nll"], abs=1e-4)


def test_images_of_the_pretraining_pool_are_not_reused(fitted, zoo, metrics):
    manifest = pd.read_parquet(zoo / "manifest.parquet").set_index("file")
    table = pd.read_parquet(fitted[0] / "predictions.parquet")
    assert (manifest.loc[table["file"], "split"] == "test").all()
    assert any("pre-training pool left out" in note for note in metrics["data"]["notes"])


def test_run_folder_has_the_documented_files(fitted):
    folder = fitted[0]
    for name in ("clip", "openclip"):
        assert (folder / "strata" / name / "adapter.safetensors").stat().st_size < 100_000
        assert (folder / "strata" / name / "head.safetensors").exists()
    assert (folder / "controls" / "clip@1" / "head.safetensors").exists()
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "data:image/svg+xml;base64," in page and "clip@1" in page
    assert list((folder / "figures").glob("*.png"))
    assert not [path for path in folder.rglob("*") if path.name.startswith(".")]
    assert not [path for path in folder.rglob("*") if path.suffix in (".pkl", ".pt", ".npy")]


def test_conclusion_starts_with_parameter_imbalance_and_names_the_control(metrics):
    assert metrics["conclusion"][0].startswith("Parameter imbalance")
    assert any("ontrol 'seeds'" in sentence for sentence in metrics["conclusion"])


def test_reasons_for_no_conclusion_are_in_metrics_page_and_card(fitted, metrics):
    """Of four classes only one is P-many: no gap of it speaks for frequent classes."""
    reasons = metrics["no_conclusion"]
    assert "P-many by clip has 6 test images of 1 class; 10 images and 2 classes are needed" in reasons
    page = (fitted[0] / "report.html").read_text(encoding="utf-8")
    card = run("card", fitted[0]).output
    told = grouped(reasons)
    assert len(told) < len(reasons)
    for reason in told:
        assert f": {reason}." in " ".join(metrics["conclusion"])
        assert reason in page and reason.replace("[", "\\[") in card.replace("\n", " ")
    said = " ".join(metrics["conclusion"])
    assert "averaging its members" not in said and "hundred times rarer" not in said


# --- predict and evaluate ----------------------------------------------------------------------------------------


def test_predict_reproduces_stored_predictions(fitted, photos):
    folder = fitted[0]
    table = pd.read_parquet(folder / "predictions.parquet")
    files = [photos / file for file in table["file"][:3]]
    found = json.loads(run("predict", folder, *files, "--json").stdout)
    assert [row["file"] for row in found] == [str(file) for file in files]
    for row, (_, stored) in zip(found, table.iterrows()):
        assert row["prediction"] == stored["prediction"]
        assert list(row["probabilities"].values()) == pytest.approx(
            stored["probabilities"].tolist(), abs=1e-4
        )
        assert set(row["strata"]) == {"clip", "openclip"}
        assert sum(row["strata"]["clip"]["probabilities"].values()) == pytest.approx(1)
    shown = run("predict", folder, photos / "ant", "--top", 1)
    assert shown.exit_code == 0 and shown.stdout.count(".png") == 30


def test_evaluate_on_the_data_of_the_fit_uses_its_test_split(fitted, photos, metrics):
    found = json.loads(run("evaluate", fitted[0], "--data", photos, "--json").stdout)
    assert found["fused"]["accuracy"] == pytest.approx(metrics["fused"]["accuracy"])
    for name in ("clip", "openclip"):
        assert found["strata"][name]["P"] == pytest.approx(metrics["strata"][name]["P"])
    best = found["controls"]["best_single"]
    assert (best["name"], best["chosen_on"]) == (metrics["controls"]["best_single"]["name"], "validation")
    shown = run("evaluate", fitted[0], "--data", photos)
    assert shown.exit_code == 0 and "photos" in shown.stdout
    assert "No one-prior control" not in shown.stdout  # evaluate has no --control


def test_evaluate_on_other_images_scores_them_all(fitted, tmp_path, pictures):
    other = pictures(tmp_path / "other", {"ant": 3, "cow": 5}, seed=4)
    found = json.loads(run("evaluate", fitted[0], "--data", other, "--json").stdout)
    assert found["n_test"] == 8
    model = StrataClassifier.load(fitted[0], device="cpu", progress=False)
    assert found["fused"]["accuracy"] == pytest.approx(model.score(open_images(other)))


def test_evaluate_refuses_the_data_of_the_fit_after_it_has_changed(tmp_path, command, pictures, tiny_zoo):
    """With other files the split would fall elsewhere, and training images would be scored as test images."""
    data = pictures(tmp_path / "photos", dict.fromkeys(("ant", "bee", "cow", "doe"), 12))
    fit = [
        "fit",
        "--strata",
        "clip",
        "--zoo",
        tiny_zoo,
        "--data",
        data,
        "--out",
        tmp_path / "run",
        "--epochs",
        1,
    ]
    assert run(*fit, "--n-test", 3, "--n-validation", 2).exit_code == 0
    assert run("evaluate", tmp_path / "run", "--data", data).exit_code == 0
    (data / "bee" / "011.png").unlink()
    assert "has changed since" in said(run("evaluate", tmp_path / "run", "--data", data))


def test_run_loads_in_python(fitted, photos):
    model = StrataClassifier.load(fitted[0], device="cpu", progress=False)
    table = pd.read_parquet(fitted[0] / "predictions.parquet")
    images = open_images(photos)
    test = images.subset([images.files.index(file) for file in table["file"]])
    assert (model.predict(test) == table["prediction"]).all()


# --- what stands in the way --------------------------------------------------------------------------------------


def test_predict_refuses_a_zoo_that_changed_after_the_fit(fitted, zoo, photos, tmp_path):
    moved = shutil.copytree(fitted[0], tmp_path / "run")
    changed = shutil.copytree(zoo, tmp_path / "zoo")
    for suffix in (".json", ".safetensors"):
        shutil.copy(changed / f"clip@1{suffix}", changed / f"clip{suffix}")
    config = read_json(moved / "config.json")
    config["config"]["zoo"] = str(changed)
    (moved / "config.json").write_text(json.dumps(config))
    line = said(run("predict", moved, photos / "ant" / "000.png"))
    assert "was fitted with other weights of 'clip'" in line


def test_damaged_adapters_are_named(fitted, photos, tmp_path):
    moved = shutil.copytree(fitted[0], tmp_path / "run")
    shutil.copy(moved / "strata" / "openclip" / "adapter.safetensors", moved / "strata" / "clip")
    assert "belong to another model" in said(run("predict", moved, photos / "ant" / "000.png"))
    (moved / "strata" / "clip" / "head.safetensors").unlink()
    assert "fit it again" in said(run("predict", moved, photos / "ant" / "000.png"))


def test_predict_refuses_missing_and_unreadable_images(fitted, tmp_path):
    folder = fitted[0]
    assert "gone.png: no such image" in said(run("predict", folder, tmp_path / "gone.png"))
    assert "holds no image" in said(run("predict", folder, tmp_path))
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 20)
    assert "cut.png" in said(run("predict", folder, tmp_path / "cut.png"))
    assert "'--top': '0' is out of range; give a whole number from 1 to" in said(
        run("predict", folder, tmp_path / "cut.png", "--top", 0)
    )


def test_evaluate_refuses_a_class_unknown_to_the_run(fitted, tmp_path, pictures):
    other = pictures(tmp_path / "other", {"ant": 2, "bea": 2})
    assert "did you mean 'bee'" in said(run("evaluate", fitted[0], "--data", other))


def test_predict_and_evaluate_refuse_folders_of_other_kinds(zoo, photos, tmp_path):
    for arguments in (("predict", "{}", photos / "ant"), ("evaluate", "{}", "--data", photos)):
        for folder, message in (
            (tmp_path, "is not a run folder"),
            (tmp_path / "gone", "no such run folder"),
            (zoo, "is a zoo run; a fit run is needed"),
        ):
            assert message in said(run(*(folder if a == "{}" else a for a in arguments)))


def test_complete_run_is_not_overwritten(fitted, command):
    before = (fitted[0] / "metrics.json").read_bytes()
    assert "already holds a complete fit run" in said(run(*command, "--control", "seeds", "--out", fitted[0]))
    assert (fitted[0] / "metrics.json").read_bytes() == before


def numbers(document):
    """The document without what the clock decides."""
    if isinstance(document, dict):
        return {key: numbers(value) for key, value in document.items() if key != "seconds"}
    return document


def test_interrupted_fit_resumes_and_gives_the_same_numbers(command, metrics, fitted, tmp_path, monkeypatch):
    whole = members.fit_member
    done = []

    def stops_after_the_first(splits, name, *arguments, **options):
        if done:
            raise KeyboardInterrupt
        done.append(name)
        return whole(splits, name, *arguments, **options)

    monkeypatch.setattr(strata, "fit_member", stops_after_the_first)
    again = [*command, "--control", "seeds", "--out", tmp_path / "run"]
    stopped = run(*again)
    assert stopped.exit_code == 130 and "Traceback" not in stopped.output
    assert "interrupted; repeat the command to resume" in stopped.stderr
    assert "interrupted fit run" in said(run("predict", tmp_path / "run", "x.png"))
    assert "another interrupted fit run (it differs in" in said(run(*again, "--seed", 1))

    # made before these settings were there
    config = read_json(tmp_path / "run" / "config.json")
    config["config"] = {key: v for key, v in config["config"].items() if key not in ("gla", "order_by")}
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))

    def tune_no_more(stratum, *arguments, **options):
        assert stratum.name != "clip", "the finished stratum was trained again"
        return tune(stratum, *arguments, **options)

    tune = members.tune
    monkeypatch.setattr(strata, "fit_member", whole)
    monkeypatch.setattr(members, "tune", tune_no_more)
    took_an_hour(tmp_path / "run" / "strata" / "clip" / "predictions.safetensors")
    assert run(*again).exit_code == 0
    assert 3600 < read_json(tmp_path / "run" / "metrics.json")["seconds"] < 4200
    assert numbers(read_json(tmp_path / "run" / "metrics.json")) == numbers(metrics)
    one, other = (pd.read_parquet(place / "predictions.parquet") for place in (fitted[0], tmp_path / "run"))
    assert one.drop(columns="probabilities").equals(other.drop(columns="probabilities"))


def took_an_hour(path):
    """Make a stored member one that took 3600 seconds."""
    with safe_open(path, framework="np") as file:
        metadata, arrays = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
    member = json.loads(metadata["member"]) | {"seconds": 3600.0}
    save_file(arrays, path, metadata | {"member": json.dumps(member)})


def test_occupied_folder_is_refused_before_data_is_read(tmp_path, command, monkeypatch):
    (tmp_path / "photo.png").write_bytes(b"x")
    monkeypatch.setattr(fit_workflow, "load_splits", lambda *_: pytest.fail("data was read"))
    assert "is not empty and is not a run" in said(run(*command, "--out", tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


def test_full_disk_leaves_no_run_that_looks_complete(command, tmp_path, monkeypatch):
    replace = os.replace

    def full(source, target):
        if str(target).endswith("predictions.parquet"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    line = said(run(*command, "--out", tmp_path / "run"))
    assert "the disk is full while writing" in line and "predictions.parquet" in line
    left = {path.name for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert "metrics.json" not in left and "report.html" not in left
    assert not [name for name in left if name.startswith(".predictions")]
    monkeypatch.setattr(os, "replace", replace)
    assert run(*command, "--out", tmp_path / "run").exit_code == 0


def test_debug_shows_the_traceback(tmp_path):
    result = run("--debug", "predict", str(tmp_path), "x.png")
    assert result.exit_code == 1 and "is not a run folder" in str(result.exception)
    assert result.exc_info[2] is not None


# --- the settings ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--strata", "clip,opnclip"], "no stratum 'opnclip'; did you mean 'openclip'"),
        (["--strata", ","], "'--strata': ',' names nothing"),
        (["--strata", "clip", "--control", "seeds"], "name two or more strata"),
        (
            ["--control", "seeds", "--control-of", "metaclip"],
            "--control-of 'metaclip' is not one of the strata",
        ),
        (["--control-of", "clip"], "--control-of goes with --control seeds"),
        (["--stratum-prior", "0.5,0.6"], "sum to 1"),
        (["--stratum-prior", "half"], "'--stratum-prior': 'half' is not a number; give a number from 0 to 1"),
        (["--lr", "0.01,-1"], "'--lr': '-1' is out of range; give a number above 0"),
        (["--epochs", "0"], "'--epochs': '0' is out of range; give a whole number from 1"),
        (["--batch-size", "-3"], "'--batch-size': '-3' is out of range"),
        (["--seed", "-1"], "'--seed': '-1' is out of range; give a whole number from 0"),
        (["--seeds", "0"], "'--seeds': '0' is out of range; give a whole number from 1"),
        (["--imbalance-factor", "0"], "'--imbalance-factor': '0' is out of range; give a number from 1"),
        (["--device", "gpu"], "'--device': 'gpu' is unknown; use auto, cpu"),
        (["--weights", "clip=a.safetensors"], "--weights goes with --zoo pretrained"),
        (["--n-test", "3"], "its minis never saw; leave it out"),
        (["--order", "class"], "--order is decided by"),
        (["--data", "creatures-lt", "--n-test", "3"], "--n-test is for your own images"),
    ],
)
def test_invalid_settings_are_refused_in_one_line(command, tmp_path, options, message):
    given = [str(a) for a in command]
    for option, value in zip(options[::2], options[1::2]):  # the last one given wins; spell it once
        if option in given:
            given[given.index(option) + 1] = value
        else:
            given += [option, value]
    assert message in said(run(*given, "--out", tmp_path / "run"))
    assert not (tmp_path / "run" / "metrics.json").exists()


@pytest.mark.parametrize(
    "option",
    [
        ["--gla"],
        ["--calibrate-strata"],
        ["--stratum-prior", "em"],
        ["--control", "seeds"],
        ["--gla", "--plan"],
    ],
)
def test_what_needs_separate_strata_is_refused_with_joint(command, tmp_path, option):
    message = f"{' '.join(option).removesuffix(' --plan')} is for strata that are tuned one by one"
    assert message in said(run(*command, "--joint", *option, "--out", tmp_path / "run"))


@pytest.mark.slow
def test_strata_tuned_together_are_an_ordinary_run(command, photos, tmp_path):
    folder, options = tmp_path / "run", ["--joint", "--fusion", "logit", "--epochs", 2, "--json"]
    planned = json.loads(run(*command, *options, "--plan", "--out", folder).stdout)
    biggest = max(member["memory_bytes"] for member in planned["members"])
    assert biggest < planned["memory_bytes"] < 2 * biggest  # both at once, in one process
    result = run(*command, *options, "--out", folder)
    assert result.exit_code == 0, result.output
    metrics = json.loads(result.stdout)
    assert "tuned together" in metrics["conclusion"][-1] and "gla_ft" not in metrics["fused"]
    assert {path.name for path in (folder / "strata" / "openclip").iterdir()} >= {
        "adapter.safetensors",
        "predictions.safetensors",
    }
    model = StrataClassifier.load(folder)
    assert model.joint
    stored = pd.read_parquet(folder / "predictions.parquet")
    shown = json.loads(run("predict", folder, photos / stored["file"][0], "--json").stdout)[0]
    assert list(shown["probabilities"].values()) == pytest.approx(
        stored["probabilities"][0].tolist(), abs=1e-5
    )


def test_corrected_command_can_reuse_the_folder(command, tmp_path):
    wrong = ["--device", "cpu", "--precision", "fp16"]  # known when the tower is there
    assert "fp16 is for CUDA" in said(run(*command, *wrong, "--out", tmp_path / "run"))
    assert not (tmp_path / "run").exists()  # a failed fit leaves nothing that looks like a run
    assert run(*command, "--epochs", 1, "--out", tmp_path / "run").exit_code == 0


def test_paths_in_a_run_are_absolute(tmp_path, tiny_zoo, photos, monkeypatch):
    monkeypatch.chdir(photos.parent)
    weights = {"clip": "some/file.safetensors"}
    seen = {}

    def remember(zoo, weights, **_):
        seen.update(weights)
        raise KeyboardInterrupt

    monkeypatch.setattr("causalft.models.strata.zoo.open_zoo", remember)
    with pytest.raises(KeyboardInterrupt):
        fit_workflow.run_fit(FitSettings(data="photos", weights=weights), tmp_path / "run")
    assert seen == {"clip": str(photos.parent / "some" / "file.safetensors")}


def test_settings_round_trip_through_config(fitted):
    config = Run.open(fitted[0]).config
    settings = FitSettings.from_config(config)
    assert settings.strata == ("clip", "openclip") and settings.control == "seeds"
    assert settings.tuning.lr == 0.01 and settings.imbalance_factor == 4.0


def test_several_seeds_with_product_fusion(tmp_path, tiny_zoo, photos, monkeypatch):
    """A zoo without a manifest: the splits are cut here; the control without reseeded minis tunes one mini again."""
    options = ["--n-test", 4, "--n-validation", 3, "--imbalance-factor", 3, "--order", "class", "--seeds", 2]
    options += [
        "--fusion",
        "logit",
        "--stratum-prior",
        "0.25,0.75",
        "--control",
        "seeds",
        "--control-of",
        "metaclip",
    ]
    command = [
        "fit",
        "--strata",
        "metaclip,openclip",
        "--zoo",
        tiny_zoo,
        "--data",
        photos,
        "--epochs",
        1,
        *options,
    ]
    given = []

    def remember(labels, strata, control, gla):
        given.append((control, answer(labels, strata, control, gla)))
        return given[0][1]

    answer = outcome.answer_test_images
    monkeypatch.setattr(outcome, "answer_test_images", remember)
    result = run(*command, "--out", tmp_path / "run", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["controls"]["seeds"]["kind"] == "tuning"
    assert shows(result.stderr, "seeds of tuning: metaclip with metaclip#1")
    assert any("a weaker control" in sentence for sentence in found["conclusion"])
    assert len(found["fused"]["temperature_per_seed"]) == 2
    assert found["fused"]["temperature"] == found["fused"]["temperature_per_seed"][0]
    # P(c) names strata; the members of a control are weighted alike
    ((control, answers),) = given
    for seed, mixing in enumerate(control.mixings):
        log_p = [np.log(members[seed].test_probs) for members in control.members.values()]
        expected = apply_temperature(np.mean(log_p, axis=0), mixing.temperature, kind="logits")
        assert np.allclose(answers.control_fused.confidence[seed], expected.max(axis=1), atol=1e-9)
    assert found["seeds"] == [0, 1] and found["fused"]["fusion"] == "logit"
    assert found["fused"]["stratum_prior"] == {"metaclip": 0.25, "openclip": 0.75}
    assert set(found["weights"]) == {"metaclip", "openclip", "metaclip#1"}
    assert found["weights"]["metaclip"] == found["weights"]["metaclip#1"]
    counts = list(found["class_counts"].values())
    assert counts == sorted(counts, reverse=True)
    assert [folder.name for folder in (tmp_path / "run" / "seeds").iterdir()] == ["1"]
    loaded = StrataClassifier.load(tmp_path / "run", device="cpu", progress=False)
    assert loaded.fusion == "logit" and list(loaded.stratum_prior) == [0.25, 0.75]


@pytest.mark.parametrize(
    ("in_the_zoo", "members", "kind"),
    [
        ({"clip@1", "clip@2"}, ["clip", "clip@1", "clip@2"], "pre-training"),
        ({"clip@1"}, ["clip", "clip#1", "clip#2"], "tuning"),
        (set(), ["clip", "clip#1", "clip#2"], "tuning"),
    ],
)
def test_control_does_not_mix_pretraining_and_tuning_seeds(in_the_zoo, members, kind):
    class Zoo:
        def names(self):
            return ["clip", "openclip", "metaclip", *in_the_zoo]

    found, found_kind = control_members(FitSettings(control="seeds"), Zoo())
    assert ([str(member) for member in found], found_kind) == (members, kind)
    seeds = [member.tuning_seed(5) for member in found]
    assert seeds == ([5, 5, 5] if kind == "pre-training" else [5, 1005, 2005])
    assert {member.weights for member in found} <= set(Zoo().names())


def test_names_that_look_like_markup_are_printed_literally(tmp_path, pictures, tiny_zoo):
    data = pictures(tmp_path / "[red]photos[/x]", dict.fromkeys(("ant", "bee", "cow", "doe"), 8))
    options = ["--strata", "clip", "--zoo", tiny_zoo, "--n-test", 2, "--n-validation", 2, "--epochs", 1]
    result = run("fit", "--data", data, "--out", tmp_path / "[bold]run", *options)
    assert result.exit_code == 0, result.output
    assert shows(result.stdout, "[red]photos[/x]")
    assert shows(result.stdout, "[bold]run")


def test_the_top_and_all_probabilities_exclude_each_other(tmp_path):
    result = run("fit", "--top", 3, "--all-probabilities", "--out", tmp_path / "run")
    assert result.exit_code == 2 and not (tmp_path / "run").exists()
    assert "--top keeps some classes, --all-probabilities every class; leave one of them out" in result.stderr


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("mu", "--method-setting 'mu' is not NAME=VALUE"),
        ("margin=1", "the method ulfine has no margin; it has threshold"),
        ("fusion=2", "fusion 2.0 is out of range; give a number from 0 to 1"),
    ],
)
def test_settings_that_a_method_cannot_take_are_refused_before_any_work(tmp_path, given, message):
    out = tmp_path / "run"
    result = run(
        "fit", "--data", "creatures-ltssl", "--method", "ulfine", "--method-setting", given, "--out", out
    )
    assert result.exit_code == 2 and not out.exists()
    assert message in said(result)
