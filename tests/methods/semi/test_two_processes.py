"""Processes that share the batches of a semi-supervised training end with one state."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

SCRIPT = Path(__file__).parent / "two_processes.py"
METHODS = ("lp-fixmatch", "crest", "daso", "abc", "acr", "cpe")


@pytest.mark.slow
def test_two_processes_end_with_one_classifier_and_count_every_image_once(photos, tiny_zoo, tmp_path):
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--num_machines=1", "--mixed_precision=no"]
    launch += ["--multi_gpu", "--num_processes=2", "--main_process_port=0", "--dynamo_backend=no"]
    done = subprocess.run(
        [*launch, str(SCRIPT), str(tmp_path), str(photos), str(tiny_zoo), *METHODS],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1))
    for key, value in first.items():
        assert torch.equal(value, second[key]), key
    for name in METHODS:
        assert first[f"{name}/likeliest"].sum(1).tolist() == [40, 40], name
        assert first[f"{name}/right"].sum() > 0
