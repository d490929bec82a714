"""Commands under `torchrun`: two processes give what one gives, one speaks, and one says what failed."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.command_line import run

pytestmark = pytest.mark.slow

# Runs several commands in one launch. A list of two commands: one for each process.
SCRIPT = """
import json, os, sys
from causalft.cli import main

for words in json.loads(sys.argv[1]):
    if isinstance(words[0], list):
        words = words[int(os.environ["RANK"])]
    code = main(words, standalone_mode=False)
    if code:
        sys.exit(code)
"""


def launch(tmp_path, *commands, stdin=""):
    script = tmp_path / "commands.py"
    script.write_text(SCRIPT)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    done = subprocess.run(
        [sys.executable, *launcher, json.dumps(commands, default=str)],
        capture_output=True,
        text=True,
        input=stdin,
        timeout=850,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    errors = [line for line in done.stderr.splitlines() if line.startswith("causalft: error: ")]
    return done, errors


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, tiny_zoo, photos):
    folder = tmp_path_factory.mktemp("launched") / "run"
    options = ["--epochs", 1, "--n-validation", 5, "--n-test", 5, "--strata", "clip,openclip"]
    assert run("fit", "--zoo", tiny_zoo, "--data", photos, *options, "--out", folder).exit_code == 0
    return folder


def test_two_processes_predict_evaluate_and_probe_as_one(fitted, photos, tiny_zoo, tmp_path):
    files = [str(path) for path in sorted(photos.rglob("*.png"))][:37]
    predict = ["predict", fitted, "-", "--top", "all", "--batch-size", 4, "--out"]
    evaluate = ["evaluate", fitted, "--data", photos, "--json"]
    probe = [
        "probe",
        "--zoo",
        tiny_zoo,
        "--strata",
        "clip",
        "--data",
        photos,
        "--losses",
        "none",
        "--k",
        "1,5",
    ]
    probe += ["--n-validation", 4, "--n-test", 4, "--out"]
    done, errors = launch(
        tmp_path,
        [*map(str, predict), str(tmp_path / "two.jsonl")],
        [*map(str, evaluate)],
        [*map(str, probe), str(tmp_path / "two"), "--no-cache"],
        stdin="\n".join(files),
    )
    assert done.returncode == 0 and not errors, done.stderr[-3000:]
    assert done.stderr.count("37 images in") == 1 and done.stdout.count("report:") == 1
    assert run(*predict, tmp_path / "one.jsonl", input="\n".join(files)).exit_code == 0
    assert (tmp_path / "two.jsonl").read_text() == (tmp_path / "one.jsonl").read_text()
    alone = json.loads(run(*evaluate).stdout)
    assert json.JSONDecoder().raw_decode(done.stdout)[0] == alone
    assert run(*probe, tmp_path / "one", "--no-cache").exit_code == 0
    one, two = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two"))
    assert one["strata"] == two["strata"]


@pytest.mark.parametrize("what", ["image", "more images", "batch size"])
def test_one_message_and_no_waiting(fitted, photos, tmp_path, what):
    files = [str(path) for path in sorted(photos.rglob("*.png"))][:12]
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    out = tmp_path / "rows.jsonl"
    command = ["predict", str(fitted), *files, "--batch-size", "2", "--out", str(out)]
    if what == "image":
        # in the share of the second process
        commands, message = [*command, str(broken)], "broken.png: it is not an image"
    elif what == "more images":
        commands = [command, [*command, files[0]]]
        message = "process 1 of this launch has other images than process 0"
    else:
        commands = [command, [*command, "--batch-size", "3"]]
        message = "process 1 of this launch has other settings than process 0"
    done, errors = launch(tmp_path, commands)
    assert done.returncode != 0 and len(errors) == 1, done.stderr[-3000:]
    assert message in errors[0] and not out.exists()
    assert "exitcode  : 2" in done.stderr
