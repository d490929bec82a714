"""`causalft fit` under a launcher: two processes train one classifier, and one of them writes it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from safetensors.torch import load_file

FIT = (
    "fit --zoo {zoo} --strata clip,openclip --data {data} --n-validation 4 --n-test 4 --epochs 2 --batch-size 10 "
    "--loss CE --augmentation none"  # each process would draw its own
)


def fit(launcher, out, tiny_zoo, photos):
    words = FIT.format(zoo=tiny_zoo, data=photos).split()
    command = [sys.executable, *(launcher or ["-c", "from causalft.cli import main; main()"])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *words, "--no-cache", "--out", str(out)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.mark.slow
def test_two_processes_end_with_the_weights_of_one(tmp_path, tiny_zoo, photos):
    script = tmp_path / "causalft_main.py"
    script.write_text("from causalft.cli import main\n\nmain()\n")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    together = fit(launcher, tmp_path / "two", tiny_zoo, photos)
    alone = fit([], tmp_path / "one", tiny_zoo, photos)
    assert together.stdout.count("report:") == alone.stdout.count("report:") == 1
    for name in ("clip", "openclip"):
        for file in ("adapter", "head"):
            one, two = (
                load_file(tmp_path / run / "strata" / name / f"{file}.safetensors") for run in ("one", "two")
            )
            assert one.keys() == two.keys()
            assert max(float((one[key] - two[key]).abs().max()) for key in one) < 1e-5
    accuracy = [
        json.loads((tmp_path / run / "metrics.json").read_text())["fused"]["accuracy"]
        for run in ("one", "two")
    ]
    assert accuracy[0] == pytest.approx(accuracy[1])
