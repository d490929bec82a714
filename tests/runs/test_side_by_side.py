"""Tasks in processes of their own: all are done, an error stops them, a killed process is said."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from causalft.errors import CausalFTError
from causalft.runs.progress import phase
from causalft.runs.side_by_side import side_by_side


def write(path: Path, shown: bool = False) -> None:
    with phase("writing", 1, progress=True if shown else None) as bar:
        bar.update()
    path.write_text(str(os.getpid()))


def fail() -> None:
    raise CausalFTError("class 'ant' has no image")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def begin(folder: Path) -> None:
    (folder / f"begun-{os.getpid()}").touch()


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_task_is_done_and_every_process_begun_once(tmp_path, jobs):
    tasks = [partial(write, tmp_path / f"{n}.txt") for n in range(4)]
    side_by_side(tasks, jobs, "writing", "file", partial(begin, tmp_path))
    processes = {(tmp_path / f"{n}.txt").read_text() for n in range(4)}
    assert processes <= {path.name.removeprefix("begun-") for path in tmp_path.glob("begun-*")}
    assert (str(os.getpid()) in processes) == (jobs == 1)


def test_only_the_first_process_shows_progress(tmp_path, capfd):
    side_by_side([partial(write, tmp_path / f"{n}", shown=True) for n in range(2)], 2, "tasks", "task")
    assert "writing" not in capfd.readouterr().err


def test_the_error_of_a_task_is_raised_as_it_is():
    with pytest.raises(CausalFTError, match=r"^class 'ant' has no image$"):
        side_by_side([fail, fail], 2, "tuning", "member")


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_killed_process_is_said_with_the_way_out():
    with pytest.raises(CausalFTError, match="members: a process was killed.*smaller (--)?jobs"):
        side_by_side([die, die], 2, "members", "member")
    with pytest.raises(CausalFTError, match="repeat the command when more memory is free: what is finished"):
        side_by_side([die, die], 2, "members", "member", lighter="when more memory is free")


@pytest.mark.parametrize("progress", [True, False])
def test_progress_is_shown_or_not_as_asked(tmp_path, capfd, progress):
    tasks = [partial(write, tmp_path / f"{n}") for n in range(2)]
    side_by_side(tasks, 2, "tasks", "task", progress=progress)
    assert ("tasks" in capfd.readouterr().err) == progress


def linger(path: Path) -> None:
    path.write_text(str(os.getpid()))
    time.sleep(600)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_processes_end_with_the_one_that_started_them(tmp_path):
    code = (
        "from functools import partial; from pathlib import Path; from tests.runs.test_side_by_side import linger\n"
        "from causalft.runs.side_by_side import side_by_side\n"
        f"tasks = [partial(linger, Path({str(tmp_path)!r}) / name) for name in 'ab']\n"
        "if __name__ == '__main__': side_by_side(tasks, 2, 'tasks', 'task')"
    )
    (tmp_path / "main.py").write_text(code)
    here = Path(__file__).resolve().parents[2]
    parent = subprocess.Popen(
        [sys.executable, tmp_path / "main.py"], env={**os.environ, "PYTHONPATH": str(here)}, cwd=here
    )

    def numbers() -> list[int]:
        texts = [path.read_text() for path in tmp_path.glob("[ab]")]
        return [int(text) for text in texts if text]

    until = time.monotonic() + 120
    while len(numbers()) < 2 and time.monotonic() < until:
        time.sleep(0.1)
    workers = [psutil.Process(number) for number in numbers()]
    assert len(workers) == 2
    parent.kill()
    parent.wait()
    assert not psutil.wait_procs(workers, timeout=60)[1]


def test_nothing_to_do_starts_no_process():
    side_by_side([], 8, "tuning", "member", fail)
