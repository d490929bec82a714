"""The plan of a fit: arithmetic on known costs, bytes and steps of a real run, what is missing, nothing written."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from causalft.methods.adaptation.cost import StratumCost
from causalft.methods.adaptation.settings import default_tuning
from causalft.methods.estimators.settings import FitSettings
from causalft.methods.semi.settings import SemiSettings
from causalft.models.tuning import train as loops
from causalft.pipelines.workflows import plan as plan_workflow
from causalft.pipelines.workflows import room
from causalft.pipelines.workflows.fit_data import load_splits
from causalft.pipelines.workflows.plan import MemberPlan, Sizes, member_plan, plan_fit
from causalft.runs import resources
from tests.command_line import run, said
from tests.pipelines.fitted_runs import fit

COST = StratumCost(
    feature_dim=4,
    image_size=10,
    n_parameters=1000,
    n_tuned=50,
    tuned_bytes=200,
    encode_flops=100,
    tune_flops=7,
    prefix_flops=3,
    encode_seconds=1.0,
    tune_seconds=0.5,
    prefix_seconds=0.25,
    predict_seconds=2.0,
    token_bytes=8,
    kept_bytes=16,
    device_bytes=0,
    batch=2,
    precision="fp32",
)
SIZES = Sizes(train=10, validation=4, test=6, classes=3)
TUNING = replace(default_tuning("mini"), epochs=5, batch_size=4, augmentation="none")


def planned(tuning=TUNING, cost=COST, runs=1, finished=0, **options):
    plan = MemberPlan("clip", "here", "an architecture", runs, finished)
    return member_plan(plan, cost, SIZES, tuning, **options)


def test_prefix_is_computed_once_without_augmentation():
    found = planned(read_seconds=0.1)
    assert found.steps == 3 * 5  # batches of 4, 4, 2
    assert found.flops == (4 + 6) * 100 * 2 + 10 * 3 + 10 * 5 * 7
    reading = (10 + 4 + 6) * 0.1  # all sets are kept in memory
    assert found.seconds == pytest.approx(reading + 10 * 1.0 + 10 * 0.25 + 50 * 0.5 + 10 * 2.0)


def test_prefix_is_computed_every_epoch_with_augmentation():
    found = planned(replace(TUNING, augmentation="crop-flip"))
    assert found.flops == (4 + 6) * 100 * 2 + 10 * 5 * 3 + 10 * 5 * 7


def test_learning_rates_seeds_and_patience_multiply_the_work():
    one, two = planned(), planned(rates=2)
    assert two.steps == 2 * one.steps
    assert two.flops - one.flops == 4 * 100 + 10 * 3 + 50 * 7  # validation, prefix, training
    assert planned(runs=3, finished=1).flops == 2 * one.flops
    assert planned(runs=2, finished=2).seconds == 0
    patient = planned(replace(TUNING, patience=2))
    assert patient.flops - one.flops == 5 * 4 * 100  # validation after every epoch


def test_gla_runs_the_frozen_model_beside_the_tuned_one():
    assert planned(gla=True).flops - planned().flops == (4 + 10) * 100


def test_training_images_are_encoded_for_a_head_that_starts_from_them():
    assert planned(has_text=False).flops - planned().flops == 10 * 100
    assert planned(replace(TUNING, head_start="class-mean")).flops - planned().flops == 10 * 100


def test_memory_holds_images_weights_and_one_batch():
    found = planned(before=10_000)
    images, logits = 20 * 300, (2 * 4 * 10 + 4 * 6) * 3
    assert found.memory_bytes == 10_000 + images + logits + 2 * 4000 + 12 * 50 + 4 * 16 + 10 * 8
    on_gpu = planned(cost=replace(COST, device_bytes=123), before=10_000)
    assert on_gpu.memory_bytes == 10_000 + images + logits + 4000
    assert on_gpu.device_bytes == 4000 + 12 * 50 + 4 * 16 + 10 * 8


def test_strata_tuned_together_are_in_memory_at_once():
    assert plan_workflow._at_a_time([110, None, 150], joint=False, before=100) == 150
    assert plan_workflow._at_a_time([110, None, 150], joint=True, before=100) == 160
    assert plan_workflow._at_a_time([None], joint=True) is None
    all_tokens = COST.token_bytes * SIZES.train
    many = planned(
        n_together=2**30 // all_tokens + 1
    )  # no room for those of so many: computed in every epoch
    assert many.flops - planned().flops == 4 * 10 * 3


SEMI = SemiSettings(method="fixmatch", unlabeled_ratio=2)


def with_unlabelled(tuner, semi=SEMI, n=10, **options):
    plan = MemberPlan("clip", "here", "an architecture", 1, 0)
    tuning = replace(TUNING, tuner=tuner, augmentation="crop-flip")
    return member_plan(plan, COST, replace(SIZES, unlabelled=n), tuning, semi=semi, **options)


def test_a_method_shows_every_unlabelled_image_twice_and_labelled_ones_beside_them():
    """10 unlabelled images in batches of 4, 4 and 2, beside 2, 2 and 1 labelled ones, five times."""
    found = with_unlabelled("adaptformer", read_seconds=0.1)
    assert found.steps == 3 * 5
    shown, weak = (10 + 5) * 5, 10 * 5  # strong views and labelled images; weak views
    evaluated = 4 + 6 + 10  # the unlabelled images once more, for their law
    assert found.flops == (4 + 6 + evaluated + weak) * 100 + shown * 3 + shown * 7
    reading = (10 + 4 + 6 + 10) * 0.1
    forward = 10 * 1.0 + (evaluated + weak) * 2.0
    assert found.seconds == pytest.approx(reading + forward + shown * 0.25 + shown * 0.5)
    images, logits = 30 * 300, (2 * 4 * 10 + 4 * (6 + 10)) * 3
    assert found.memory_bytes == images + logits + 2 * 4000 + 12 * 50 + (4 + 2) * 16


def test_a_frozen_tower_encodes_every_view_once():
    """The labelled images, and of each unlabelled one the image and two strong views."""
    found = with_unlabelled("linear-probe")
    encoded = 10 + 3 * 10
    assert found.flops == (4 + 6 + 4 + 6 + 10) * 100 + encoded * 3 + 15 * 5 * 7
    assert found.memory_bytes - with_unlabelled("adaptformer").memory_bytes == encoded * 4 * 4


def test_a_method_of_labels_alone_and_a_fusion_that_looks_at_unlabelled_images():
    tuning = replace(TUNING, augmentation="crop-flip")
    alone = with_unlabelled("linear-probe", SemiSettings(method="lp"), n=0)
    assert alone.flops == planned(replace(tuning, tuner="linear-probe")).flops
    looking = with_unlabelled("adaptformer", None)
    assert looking.flops - planned(replace(tuning, tuner="adaptformer")).flops == 10 * 100


def test_the_steps_of_a_method_are_those_of_its_run(tmp_path, tiny_zoo, photos, monkeypatch):
    draw = ["--labeled-per-class", 4, "--unlabeled-per-class", 10, "--gamma-l", 2, "--order", "class"]
    options = ["--strata", "clip", *draw, "--method", "lp-fixmatch"]
    words = [
        "fit",
        "--zoo",
        tiny_zoo,
        "--data",
        photos,
        "--epochs",
        1,
        "--lr",
        0.05,
        "--n-test",
        4,
        "--n-validation",
        3,
    ]
    words += ["--batch-size", 16, "--out", tmp_path / "run", *options, "--plan"]
    plan = json.loads(run(*words, "--json").stdout)
    assert plan["images"]["0"]["unlabelled"] == 28
    assert "4 classes, 28 unlabelled images;" in run(*words).stdout
    steps = []
    update = loops._Loop._update
    monkeypatch.setattr(loops._Loop, "_update", lambda self: steps.append(1) or update(self))
    fit(tmp_path / "run", tiny_zoo, photos, *options)
    assert plan["members"][0]["steps"] == len(steps) == 2


def test_plan_agrees_with_the_run(tmp_path, tiny_zoo, photos, monkeypatch):
    monkeypatch.setenv("CAUSALFT_CACHE", str(tmp_path / "cache"))
    options = ["--strata", "clip,openclip", "--control", "seeds", "--seeds", "2", "--gla"]
    planned = run(
        "fit", "--zoo", tiny_zoo, "--data", photos, "--epochs", 1, "--lr", 0.05, "--n-test", 4, "--n-validation", 3,
        "--batch-size", 16, "--out", tmp_path / "run", *options, "--plan", "--json",
    )  # fmt: skip
    assert planned.exit_code == 0, planned.output
    plan = json.loads(planned.stdout)
    assert not (tmp_path / "run").exists() and not (tmp_path / "cache").exists()
    steps = []
    update = loops._Loop._update
    monkeypatch.setattr(loops._Loop, "_update", lambda self: steps.append(1) or update(self))
    folder = fit(tmp_path / "run", tiny_zoo, photos, *options)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert set(plan["images"]) == {"0", "1"}
    for sizes in plan["images"].values():
        assert [sizes[part] for part in ("train", "validation", "test")] == [
            metrics["data"][f"n_{part}"] for part in ("train", "validation", "test")
        ]
    assert sum(member["steps"] for member in plan["members"]) == len(steps) > 0
    files = [path for path in folder.rglob("*") if path.suffix in (".safetensors", ".parquet")]
    written = sum(path.stat().st_size for path in files)
    headers = 6_000 * len(files)  # names, settings and shapes; of Parquet the schema
    assert abs(written - plan["disk_bytes"] - headers / 2) <= headers / 2  # Parquet packs equal names
    cached = sum(path.stat().st_size for path in (tmp_path / "cache").glob("*.npy"))
    assert plan["cache_bytes"] <= cached <= plan["cache_bytes"] + 10_000
    assert plan["missing"] == [] and plan["seconds"] > 0 and plan["flops"] > 0

    again = plan_fit(
        FitSettings(
            strata=("clip", "openclip"), zoo=str(tiny_zoo), data=str(photos), control="seeds", n_seeds=2, n_test=4,
            n_validation=3,
        ),
        folder,
    )  # fmt: skip
    assert [(m.name, m.runs, m.finished) for m in again.members] == [
        ("clip", 2, 2), ("openclip", 2, 2), ("clip@1", 2, 2),
    ]  # fmt: skip
    assert again.flops == 0 and again.seconds == 0


def test_missing_weights_and_data_are_part_of_the_plan(tmp_path, monkeypatch):
    monkeypatch.setenv("CAUSALFT_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    lost = tmp_path / "lost.safetensors"
    plan = plan_fit(
        FitSettings(
            strata=("clip", "openclip"), data=str(tmp_path / "gone"), weights={"openclip": str(lost)}, offline=True
        ),
        tmp_path / "run",
    )  # fmt: skip
    assert [member.weights for member in plan.members] == ["missing", "missing"]
    assert plan.images == {} and plan.flops is None and plan.seconds is None and plan.disk_bytes is None
    said = "\n".join(plan.missing)
    assert "gone: no such file or folder" in said and f"{lost} does not exist" in said
    assert "the weights of 'clip'" in said and "causalft weights fetch clip" in said


def test_unreadable_training_images_are_named(tmp_path, tiny_zoo, pictures):
    photos = pictures(tmp_path / "photos", {"ant": 8, "bee": 8})
    settings = FitSettings(strata=("clip",), zoo=str(tiny_zoo), data=str(photos), n_test=1, n_validation=1)
    bad = load_splits(settings, 0).train.files[3]
    (photos / bad).write_bytes(b"no image")
    plan = plan_fit(settings, tmp_path / "run")
    assert len(plan.missing) == 1 and bad in plan.missing[0]
    assert plan.flops is not None


@pytest.mark.parametrize("words", [("--strata", "clp"), ("--strata", "clip,clip"), ("--tuner", "adaptformr")])
def test_wrong_names_are_refused(tmp_path, tiny_zoo, photos, words):
    found = run("fit", "--zoo", tiny_zoo, "--data", photos, "--out", tmp_path / "run", "--plan", *words)
    assert found.exit_code == 2 and "did you mean" in found.output or "twice" in found.output
    assert not (tmp_path / "run").exists()


def test_fit_is_refused_where_the_disk_has_no_room(tmp_path, tiny_zoo, photos, monkeypatch):
    monkeypatch.setattr(resources, "free_bytes", lambda path: 2_000)
    found = run(
        "fit", "--zoo", tiny_zoo, "--data", photos, "--strata", "clip,openclip", "--out", tmp_path / "run"
    )
    assert found.exit_code == 2
    assert (
        "the run needs at least" in found.output
        and "which has 2 kB free; free some space or choose" in found.output
    )
    assert not (tmp_path / "run").exists()


def test_members_lie_where_the_fit_writes_them(tiny_zoo, photos):
    settings = FitSettings(strata=("clip", "openclip"), zoo=str(tiny_zoo), data=str(photos))
    names = room.fit_members(settings, [])
    folders = [
        room.member_folder("run", settings, name, number).as_posix() for name in names for number in (0, 1)
    ]
    assert folders == [
        "run/strata/clip", "run/seeds/1/strata/clip", "run/strata/openclip", "run/seeds/1/strata/openclip",
    ]  # fmt: skip


def test_classes_that_a_mini_has_no_words_for_are_missing_before_any_image_is_read(
    tmp_path, tiny_zoo, photos
):
    folder = shutil.copytree(photos, tmp_path / "photos")
    (folder / "ant").rename(folder / "aardvark")
    words = ["--data", folder, "--zoo", tiny_zoo, "--strata", "clip", "--out", tmp_path / "run"]
    planned = run("fit", "--plan", "--json", *words)
    assert "never saw the word 'aardvark'" in json.loads(planned.stdout)["missing"][0]
    fitted = run("fit", *words)
    assert "never saw the word 'aardvark'" in said(fitted) and "training images" not in fitted.stdout
