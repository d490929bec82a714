"""Large buffers return to the system at once."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

MEASURE = """
import torch
from causalft.models.tuning.heap import return_buffers

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20

assert return_buffers(of_mib=4)
fills = [torch.ones(5 * 2**18) for _ in range(100)]  # of 5 MiB
blocks = [torch.ones(2**10) for _ in range(100)]  # live on above them
full = resident()
del fills
print(full - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_freed_buffers_of_the_size_leave_the_process():
    done = subprocess.run([sys.executable, "-c", MEASURE], check=True, capture_output=True, text=True)
    assert float(done.stdout) > 450
