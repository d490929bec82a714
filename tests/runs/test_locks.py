"""One writer of an output at a time: the second is refused at once and told who the first is; nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from causalft.errors import CausalFTError
from causalft.runs import locks
from causalft.runs.folder import Run
from causalft.runs.locks import check_not_written, writing
from tests.command_line import run, said
from tests.pipelines.fitted_runs import fit

HOLD = (
    "import sys, time; from causalft.runs.locks import writing\n"
    "with writing(sys.argv[1]):\n    print('held', flush=True); time.sleep(60)"
)


@pytest.fixture
def holder():
    """A function that starts a process which writes a place, and the processes that it started."""
    started = []

    def start(place):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(place)], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, tiny_zoo, photos):
    return fit(tmp_path_factory.mktemp("locked") / "run", tiny_zoo, photos)


VERBS = {
    "fit": "fit --strata clip --zoo ZOO --data PHOTOS --out OUT",
    "probe": "probe --strata clip --zoo ZOO --data PHOTOS --losses none --out OUT",
    "wise-ft": "wise-ft RUN --out OUT",
    "verify-confounder": "verify-confounder --quick --out OUT",
    "verify-confounder, all": "verify-confounder --design all --quick --out OUT",
    "generate": "generate --n-per-class 4 --size 16 --out OUT",
    "zoo pretrain": "zoo pretrain --jobs 1 --out OUT",
    "zoo pretrain, own": "zoo pretrain --jobs 1 --data PHOTOS --out OUT",
    "zoo pretrain-diffusion": "zoo pretrain-diffusion --out OUT",
    "experiment run": "experiment run verdict_rates --out OUT",
    "export": "export RUN --to single-file --out OUT.safetensors",
    "card": "card RUN --out OUT.md",
    "graph show": "graph show --out OUT.svg",
    "graph design": "graph design confounded --out OUT.svg",
    "predict": "predict RUN PHOTOS --output OUT.jsonl",
    "predict, parquet": "predict RUN PHOTOS --output OUT.parquet",
    "push": "push RUN --to-folder OUT",
    "pull": "pull HUB --to OUT",
    "weights fetch": "weights fetch clip --to OUT",
}


@pytest.fixture(scope="module")
def layout(fitted, tmp_path_factory):
    place = tmp_path_factory.mktemp("hub") / "layout"
    assert run("push", fitted, "--to-folder", place).exit_code == 0
    return place


@pytest.mark.parametrize("verb", VERBS)
def test_a_second_writer_is_refused_and_told_who_the_first_is(
    verb, tmp_path, fitted, layout, tiny_zoo, photos
):
    """The first writer is a thread: the lock is the system's, and knows threads and processes alike."""
    places = {"OUT": tmp_path / "out", "RUN": fitted, "ZOO": tiny_zoo, "PHOTOS": photos, "HUB": layout}
    line = VERBS[verb].split()
    words = [next((w.replace(k, str(p)) for k, p in places.items() if w.startswith(k)), w) for w in line]
    target = next(word for word in words if word.startswith(str(tmp_path / "out")))
    ready, done = threading.Event(), threading.Event()

    def first():
        with writing(target):
            ready.set()
            done.wait()

    writer = threading.Thread(target=first)
    writer.start()
    assert ready.wait(300)
    try:
        refused = said(run(*words))
        assert f"{target} is being written by process {os.getpid()} (`" in refused and ", since 20" in refused
        assert refused.endswith("; wait until that has ended, or choose another place")
    finally:
        done.set()
        writer.join()
    assert list(tmp_path.iterdir()) == []


def test_killed_process_leaves_no_lock(tmp_path, holder):
    place = tmp_path / "new" / "run"
    process = holder(place)
    with pytest.raises(CausalFTError, match=f"run is being written by process {process.pid} .*-c"):
        with writing(place):
            pass
    with pytest.raises(CausalFTError, match="wait until that has ended"):
        check_not_written(place)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert (tmp_path / "new" / ".run.lock").exists()  # stale, and no obstacle
    check_not_written(place)
    with writing(place):
        assert not place.exists()
    assert list((tmp_path / "new").iterdir()) == []


def test_folders_created_for_the_lock_are_removed(tmp_path):
    with writing(tmp_path / "a" / "b" / "run"):
        assert (tmp_path / "a" / "b").is_dir()
    assert list(tmp_path.iterdir()) == []
    with writing(tmp_path / "a" / "b" / "run"):
        (tmp_path / "a" / "b" / "run").mkdir()
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["run"]


def test_a_link_and_its_target_are_one_output(tmp_path, holder):
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "run")
    holder(tmp_path / "run")
    with pytest.raises(CausalFTError, match="is being written by"), writing(tmp_path / "link"):
        pass


def test_reading_a_run_in_progress_is_refused(tmp_path, holder):
    Run.create(tmp_path / "run", kind="fit", config={})
    process = holder(tmp_path / "run")
    for words in (["evaluate", tmp_path / "run", "--data", tmp_path], ["card", tmp_path / "run"]):
        line = said(run(*words))
        assert f"is being written by process {process.pid}" in line and line.endswith("that has ended")


@pytest.mark.slow
def test_two_fits_into_one_folder(tmp_path, tiny_zoo, photos):
    command = [sys.executable, "-c", "from causalft.cli import main; main()", "fit", "--strata", "clip"]
    command += ["--zoo", str(tiny_zoo), "--data", str(photos), "--n-test", "4", "--n-validation", "3"]
    command += ["--out", str(tmp_path / "run")]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    first = subprocess.Popen([*command, "--epochs", "60", "--seeds", "5"], **quiet)
    while not (tmp_path / ".run.lock").exists() and first.poll() is None:
        time.sleep(0.05)
    second = subprocess.run(
        [*command, "--epochs", "60", "--seeds", "5"], capture_output=True, text=True, check=False
    )
    assert second.returncode == 2 and f"process {first.pid}" in second.stderr, second.stderr
    assert first.wait() == 0
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert not list((tmp_path / "run").rglob(".*"))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail] . PytorchStreamWriter failed writing file data/0: file write failed"),
        pytest.param(OSError(28, "No space left on device"), marks=pytest.mark.slow),
        pytest.param(
            Exception("Error while serializing: I/O error: No space left on device (os error 28)"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_export_on_a_full_disk_names_the_file_and_leaves_nothing(fitted, tmp_path, monkeypatch, error):
    from causalft.pipelines.export import FORMATS

    def full(*_):
        raise error

    monkeypatch.setitem(FORMATS, "single-file", replace(FORMATS["single-file"], write=full))
    line = said(run("export", fitted, "--to", "single-file", "--out", tmp_path / "m.safetensors"))
    assert (
        f"the disk is full while writing {tmp_path / 'm.safetensors'}; free some space and repeat the command"
        in line
    )
    assert list(tmp_path.iterdir()) == []


def test_logits_without_labels_are_refused(tmp_path):
    import numpy as np

    np.lib.format.write_array(open(tmp_path / "x.npy", "wb"), np.zeros((4, 3)))  # noqa: SIM115
    assert "holds one array, the logits, and no labels; give --labels FILE" in said(
        run("prior", "estimate", "--logits", tmp_path / "x.npy")
    )


@pytest.mark.parametrize("program", ["/bin/causalft", "/site-packages/causalft/__main__.py"])
def test_a_lock_names_the_command_as_it_is_typed(monkeypatch, program):
    monkeypatch.setattr("sys.argv", [program, "fit", "--out", "my run"])
    assert locks._this_process()["command"] == "causalft fit --out 'my run'"
