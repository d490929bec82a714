"""Large buffers return to the system at once."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

MEASURE = """
import ctypes, threading
import torch
from causalft.models.tuning.heap import return_buffers

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20

def heaps():
    libc = ctypes.CDLL("libc.so.6")
    libc.tmpfile.restype = ctypes.c_void_p
    file = ctypes.c_void_p(libc.tmpfile())
    libc.malloc_info(0, file)
    libc.rewind(file)
    text = ctypes.create_string_buffer(2**20)
    libc.fread(text, 1, len(text), file)
    return text.value.count(b"<heap nr")

torch.ones(5 * 2**20)  # freed at once: glibc then maps nothing below 20 MiB by itself
if {wanted}:
    assert return_buffers(of_mib=4)
fills = [torch.ones(5 * 2**18) for _ in range(100)]  # of 5 MiB
blocks = [torch.ones(2**10) for _ in range(100)]  # live on above them
full, before = resident(), heaps()
del fills
threads = [threading.Thread(target=lambda: blocks.append(torch.ones(2**18))) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(full - resident(), heaps() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
@pytest.mark.parametrize("wanted", [True, False])
def test_freed_buffers_leave_the_process_and_threads_share_a_heap(wanted):
    code = MEASURE.replace("{wanted}", str(wanted))
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    returned, own_heaps = map(float, done.stdout.split())
    assert (returned > 450) == wanted
    assert (own_heaps == 0) == wanted
