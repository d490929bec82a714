"""Listings and refusals import no heavy library. Nothing is timed."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import open_clip
import pytest

from causalft.models import weights as weight_names
from causalft.models.weights import PRETRAINED, resolve_name
from tests.command_line import run

HEAVY = (
    "torch torchvision open_clip timm transformers peft accelerate sklearn pandas scipy.stats matplotlib dowhy "
    "pgmpy"
)

# Runs the commands in one process and reports which of them imports a heavy library.
PROBE = """
import contextlib, io, json, sys
from causalft.cli import main
found = []
for words in json.loads(sys.argv[2]):
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(words, prog_name="causalft")
        except SystemExit as end:
            code = end.code
    heavy = [name for name in sys.argv[1].split() if name in sys.modules]
    found.append([" ".join(words), code, heavy, err.getvalue().strip()])
    if heavy:
        break
print(json.dumps(found))
"""


def imported_by(commands, heavy=HEAVY):
    """For each command: words, exit code, heavy libraries loaded so far, standard error."""
    words = [[str(word) for word in command] for command in commands]
    done = subprocess.run(
        [sys.executable, "-c", PROBE, heavy, json.dumps(words)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def check(commands, code):
    for words, found, heavy, said in imported_by(commands):
        assert not heavy, f"causalft {words} imports {', '.join(heavy)}"
        assert found == code, f"causalft {words}: exit code {found}, {said}"


LISTINGS = [
    "--help",
    "--version",
    *(
        f"{verb} --help"
        for verb in ("fit", "predict", "probe", "evaluate", "verify-confounder", "generate", "diagnose")
    ),
    "zoo pretrain --help",
    "zoo list",
    "zoo show clip",
    "weights list",
    "weights list clip metaclip",
    "cache list",
    "cache verify",
    "experiment list",
    "graph show --graph GRAPH.txt --out GRAPH.dot",
    "graph show --graph GRAPH.txt --format mermaid",
]


def test_listings_import_nothing_heavy(tmp_path):
    (tmp_path / "g.txt").write_text("rain -> grass\n")
    check([line.replace("GRAPH", str(tmp_path / "g")).split() for line in LISTINGS], 0)


REFUSALS = [
    "fot",
    "fit --nosuch",
    "fit --epochs many",
    "fit --fusion nosuch",
    "fit --zoo MISSING",
    "fit --strata clap",
    "fit --strata clip,clip",
    "fit --data MISSING",
    "fit --data MISSING --zoo mini",
    "fit --data FOLDER --strata clop",
    "fit --tuner nosuch",
    "fit --loss nosuch",
    "fit --loss Focal --gla",
    "fit --sampler nosuch",
    "fit --head nosuch",
    "fit --template nosuch",
    "fit --control seeds --control-of nosuch",
    "fit --out FILE",
    "probe --zoo MISSING",
    "probe --data MISSING",
    "probe --losses nosuch",
    "probe --heads nosuch",
    "predict MISSING x.png",
    "predict FOLDER x.png",
    "predict FOLDER x.png --top 0",
    "evaluate MISSING --data FOLDER",
    "wise-ft MISSING",
    "distill MISSING",
    "export MISSING --to onnx",
    "card MISSING",
    "card FOLDER",
    "push MISSING me/mine",
    "push FOLDER --dry-run",
    "zoo list --zoo MISSING",
    "zoo show nosuch",
    "weights list clop",
    "weights import MISSING",
    "data show MISSING",
    "experiment run nosuch",
    "experiment run real_priors",
    "experiment run tab8 --scale nosuch",
    "experiment run tab8 --scale photo",
    "experiment run tab8 --scale photo --data MISSING",
    "experiment run tab8 --scale photo --data FOLDER",
    "experiment run tab8 --scale full",
    "experiment run all --scale full",
    "experiment show nosuch",
    "experiment verdict MISSING",
    "experiment verdict FOLDER",
    "explain MISSING x.png",
    "explain FOLDER x.png",
    "diagnose",
    "diagnose --class-accuracy MISSING",
    "diagnose --class-accuracy MISSING --prior-of clip=MISSING",
    "graph show --graph MISSING --out FOLDER/a.svg",
]


def test_refusals_import_nothing_heavy(tmp_path):
    (tmp_path / "file").write_text("")
    places = {"MISSING": str(tmp_path / "missing"), "FOLDER": str(tmp_path), "FILE": str(tmp_path / "file")}
    commands = [[places.get(word, word) for word in line.split()] for line in REFUSALS]
    check(commands, 2)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, tiny_zoo, photos):
    folder = tmp_path_factory.mktemp("startup") / "run"
    sizes = ["--n-validation", 3, "--n-test", 3, "--epochs", 1, "--batch-size", 32]
    done = run(
        "fit", "--data", photos, "--zoo", tiny_zoo, "--strata", "clip,openclip", *sizes, "--out", folder
    )
    assert done.exit_code == 0, done.output
    return folder


def test_reading_a_run_imports_nothing_heavy(fitted, tmp_path):
    check(
        [["card", fitted], ["push", fitted, "--dry-run"], ["push", fitted, "--to-folder", tmp_path / "a"]], 0
    )


def test_bad_input_of_explain_is_refused_before_anything_heavy_is_imported(fitted, photos, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    image = next(photos.rglob("*.png"))
    check(
        [
            ["explain", fitted, image, "--of", "nothing"],
            ["explain", fitted, tmp_path / "broken.png"],
            ["explain", fitted, tmp_path / "missing.png"],
        ],
        2,
    )


PREDICTS_WITHOUT = (
    "torchvision open_clip timm transformers sklearn pandas scipy.stats scipy.optimize torch._dynamo matplotlib "
    "dowhy"
)


def test_predict_with_a_mini_imports_only_what_it_needs(fitted, photos, tmp_path):
    image = next(photos.rglob("*.png"))
    commands = [["predict", fitted, image], ["predict", fitted, image, "--output", tmp_path / "a.jsonl"]]
    for words, found, heavy, said in imported_by(commands, PREDICTS_WITHOUT):
        assert not heavy, f"causalft {words} imports {', '.join(heavy)}"
        assert found == 0, said


@pytest.mark.parametrize("name", PRETRAINED)
def test_short_names_agree_with_open_clip(name):
    architecture, tag = PRETRAINED[name]
    assert tag in open_clip.list_pretrained_tags_by_model(architecture)
    assert resolve_name(name) == replace(resolve_name(f"{architecture}/{tag}"), name=name)
    assert set(weight_names._SHORT) == set(PRETRAINED)
