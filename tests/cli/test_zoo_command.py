"""``causalft zoo``: minis from a folder of images, resumed after Ctrl-C, listed, shown, checked; wrong options."""

from __future__ import annotations

import json
import shutil

import pytest
from safetensors.torch import load_file

from causalft.models.pretraining import photo_zoo
from causalft.models.strata.zoo import open_zoo
from causalft.runs.folder import read_json
from tests.command_line import run, said, shows

OPTIONS = ["--member", "clip=upper", "--member", "openclip=lower", "--control-seeds", "1", "--n-test", "6"]
OPTIONS += [
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


@pytest.fixture(scope="module")
def made(tmp_path_factory, photos):
    folder = tmp_path_factory.mktemp("made") / "zoo"
    return folder, run("zoo", "pretrain", "--data", photos, "--out", folder, *OPTIONS, "--json")


def test_pretraining_writes_a_zoo_with_cards_manifest_and_one_json_document(made):
    folder, result = made
    assert result.exit_code == 0, result.output
    metrics = json.loads(result.stdout)
    assert metrics == read_json(folder / "metrics.json")
    assert set(metrics["members"]) == {"clip", "openclip", "clip@1"} and metrics["seconds"] > 0
    assert (folder / "manifest.parquet").exists()
    zoo = open_zoo(folder)
    assert zoo.names() == ["clip", "clip@1", "openclip"]
    cards = {name: zoo.card(name) for name in zoo.names()}
    assert cards["clip"].prior == cards["clip@1"].prior != cards["openclip"].prior
    assert cards["clip"].view == {"view": "upper", "share": 0.8}
    assert cards["clip"].class_names == ["ant", "bee", "cow", "doe"]
    assert {name: card.sha256 for name, card in cards.items()} == {
        name: member["sha256"] for name, member in metrics["members"].items()
    }
    assert shows(result.stderr, "no near-identical images")
    assert "about 0." in result.stderr and "minutes for 3 minis" in result.stderr
    assert result.stderr.startswith("photos: 120 images of 4 classes") and "ImageSet(" not in result.stderr
    assert not list(folder.glob(".*"))


def test_the_same_command_makes_the_same_weights_also_after_an_interruption(
    made, photos, tmp_path, monkeypatch
):
    folder, _ = made
    whole = photo_zoo.pretrain_mini

    def interrupted(*arguments, label="the time estimate", **options):
        if label == "pre-training openclip":
            raise KeyboardInterrupt
        return whole(*arguments, label=label, **options)

    monkeypatch.setattr(photo_zoo, "pretrain_mini", interrupted)
    command = ["zoo", "pretrain", "--data", photos, "--out", tmp_path / "zoo", *OPTIONS]
    stopped = run(*command)
    assert stopped.exit_code == 130 and "repeat the command to resume" in stopped.stderr
    assert "Traceback" not in stopped.output
    assert not (tmp_path / "zoo" / "metrics.json").exists()
    assert open_zoo(tmp_path / "zoo").names() == ["clip"]

    monkeypatch.setattr(photo_zoo, "pretrain_mini", whole)
    card = read_json(tmp_path / "zoo" / "clip.json")
    assert 0 < card["measured"]["seconds"] < 600
    card["measured"]["seconds"] = 3600.0
    (tmp_path / "zoo" / "clip.json").write_text(json.dumps(card))
    assert run(*command).exit_code == 0
    assert 3600 < read_json(tmp_path / "zoo" / "metrics.json")["seconds"] < 4200
    for name in ("clip", "openclip", "clip@1"):
        one, other = (load_file(place / f"{name}.safetensors") for place in (folder, tmp_path / "zoo"))
        assert all((one[key] == other[key]).all() for key in one), name
    again = said(run(*command))
    assert "already holds a complete zoo run" in again


def test_changed_images_do_not_resume_a_pretraining(photos, tmp_path, monkeypatch):
    data = shutil.copytree(photos, tmp_path / "photos")

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(photo_zoo, "pretrain_mini", stop)
    command = ["zoo", "pretrain", "--data", data, "--out", tmp_path / "zoo", *OPTIONS]
    assert run(*command).exit_code == 130
    (data / "ant" / "000.png").unlink()
    (tmp_path / "zoo" / "zoo.json").write_text("{}")  # as if it had come that far
    assert "differs in data_fingerprint" in said(run(*command))


def test_list_show_and_check(made):
    folder, _ = made
    listed = run("zoo", "list", "--zoo", folder)
    assert listed.exit_code == 0 and "openclip" in listed.stdout and "lower (80%)" in listed.stdout
    rows = json.loads(run("zoo", "list", "--zoo", folder, "--json").stdout)
    assert [row["name"] for row in rows] == ["clip", "clip@1", "openclip"]
    shown = run("zoo", "show", "clip", "--zoo", folder)
    assert shown.exit_code == 0 and "not the real clip model" in shown.stdout.replace("\n", " ")
    assert "upper (80%)" in shown.stdout and "{" not in shown.stdout
    card = json.loads(run("zoo", "show", "clip", "--zoo", folder, "--json").stdout)
    assert card["loss"] == "caption-bank" and sum(card["prior"]) == pytest.approx(1)
    checked = json.loads(run("zoo", "check", "--zoo", folder, "--json").stdout)
    assert [row["sha256"] for row in checked] == [
        open_zoo(folder).card(row["name"]).sha256 for row in checked
    ]
    written = run("zoo", "check", "--zoo", folder)
    assert written.exit_code == 0 and "sha256" in written.stdout and rows[0]["sha256"] in written.stdout
    assert "GLA" not in written.stdout  # nothing of the prior was measured: no empty columns
    pretrained = run("zoo", "list", "--zoo", "pretrained")
    assert pretrained.exit_code == 0 and "laion2b_s34b_b88k" in pretrained.stdout


def test_a_changed_member_fails_the_check(made, tmp_path):
    folder = shutil.copytree(made[0], tmp_path / "zoo")
    shutil.copy(folder / "clip@1.safetensors", folder / "clip.safetensors")
    assert "clip.safetensors is not the file of its card" in said(run("zoo", "check", "--zoo", folder))


def test_missing_member_fails_the_check(made, tmp_path):
    folder = shutil.copytree(made[0], tmp_path / "zoo")
    (folder / "openclip.safetensors").unlink()
    line = said(run("zoo", "check", "--zoo", folder))
    assert "'openclip'" in line and "openclip.safetensors" in line


def test_part_world_members_are_made_by_name_and_repeat(tmp_path):
    options = ["--member", "clip", "--n-images", "200", "--epochs", "1", "--jobs", "1"]
    hashes = []
    for place in ("a", "b"):
        result = run("zoo", "pretrain", "--out", tmp_path / place, *options, "--json")
        assert result.exit_code == 0, result.output
        hashes.append(json.loads(result.stdout)["members"]["clip"]["sha256"])
    assert hashes[0] == hashes[1]
    card = open_zoo(tmp_path / "a").card("clip")
    assert card.view["favourite"] == "head" and len(card.prior) == 60
    assert max(card.prior) / min(card.prior) == pytest.approx(100)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--member", "clip"], "--member 'clip' is not NAME=VIEW"),
        (["--member", "Clip=upper", "--member", "clip=lower"], "'Clip' and 'clip' differ only in case"),
        (["--member", "clip=upper", "--member", "clip=lower"], "'clip' is given twice"),
        (["--member", "clip=uper"], "no view 'uper'; did you mean 'upper'"),
        (["--member", "config=upper"], "'config' cannot name a member"),
        (["--order-seeds", "1,two,3"], "'--order-seeds': 'two' is not a whole number"),
        (["--order-seeds", "1,2"], "2 order seeds for 3 strata"),
        (["--image-size", "30"], "image size 30 is not a multiple"),
        (["--epochs", "0"], "'--epochs': '0' is out of range"),
        (["--jobs", "0"], "'--jobs': '0' is out of range; give a whole number from 1"),
        (["--n-test", "40"], "class 'ant' has 30 images"),
        (["--n-images", "10"], "--n-images goes with the part world"),
    ],
)
def test_wrong_options_with_images(photos, tmp_path, options, message):
    given = ["--n-test", "6", "--n-validation", "3", *options]
    assert message in said(run("zoo", "pretrain", "--data", photos, "--out", tmp_path / "zoo", *given))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--member", "clp"], "no member 'clp'; did you mean 'clip'"),
        (["--loss", "in-batch"], "--loss goes with --data"),
        (["--seed", "3"], "--seed goes with --data"),
        (["--view-share", "0.5"], "--view-share goes with --data"),
        (["--member", "clip", "--n-images", "0"], "'--n-images': '0' is out of range"),
        (["--member", "clip", "--epochs", "0"], "'--epochs': '0' is out of range"),
    ],
)
def test_wrong_options_with_the_part_world(tmp_path, options, message):
    """An option that would do nothing is refused: the embedded members have settings of their own."""
    assert message in said(run("zoo", "pretrain", "--out", tmp_path / "zoo", *options))


def test_missing_zoos_are_refused(tmp_path, photos):
    assert "use mini, pretrained, or a folder" in said(run("zoo", "list", "--zoo", tmp_path / "gone"))
    assert "holds no mini models" in said(run("zoo", "check", "--zoo", photos))
    assert "the pretrained zoo has no cards" in said(run("zoo", "show", "clip", "--zoo", "pretrained"))
    assert "photos" in said(run("zoo", "pretrain", "--data", tmp_path / "photos", "--out", tmp_path / "zoo"))
