"""The folder of a run: whole files or none, no run over another, resume, and a full disk that leaves no half."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalft.errors import CausalFTError
from causalft.runs.folder import Run, atomic_path, read_json, to_json, write_bytes, write_json, write_text


def files_below(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_failed_write_keeps_the_old_file(tmp_path):
    target = write_text(tmp_path / "deep" / "a.txt", "old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert files_below(tmp_path) == ["deep/a.txt"]


def test_a_failed_replace_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_bytes(tmp_path / "a.bin", b"x")
    assert files_below(tmp_path) == []


def test_a_write_that_fails_halfway_names_the_file(tmp_path):
    """The system knows only a number then, and a person needs the place."""
    with pytest.raises(OSError) as caught, atomic_path(tmp_path / "a.parquet"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "a.parquet"))


def test_the_full_disk_of_safetensors_is_the_full_disk_of_the_system(tmp_path):
    """safetensors raises an error of its own with the number in the text; the command line knows only OSError."""

    class SafetensorError(Exception):
        pass

    message = f"Error while serializing: I/O error: No space left on device (os error {errno.ENOSPC})"
    with pytest.raises(OSError) as caught, atomic_path(tmp_path / "a.safetensors"):
        raise SafetensorError(message)
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(tmp_path / "a.safetensors")
    assert files_below(tmp_path) == []
    with pytest.raises(SafetensorError, match="shape"), atomic_path(tmp_path / "a.safetensors"):
        raise SafetensorError("wrong shape")


def test_written_file_has_the_permissions_of_the_umask(tmp_path):
    (tmp_path / "plain.txt").write_text("x")
    target = write_text(tmp_path / "ours.txt", "x")
    assert target.stat().st_mode == (tmp_path / "plain.txt").stat().st_mode


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@given(json_values)
@settings(max_examples=100, deadline=None)
def test_json_is_strict(value):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    def finite(item):
        if isinstance(item, dict):
            return {key: finite(part) for key, part in item.items()}
        if isinstance(item, list):
            return [finite(part) for part in item]
        return None if isinstance(item, float) and not np.isfinite(item) else item

    assert json.loads(to_json(value), parse_constant=refuse) == finite(value)


def test_json_takes_numpy_and_writes_nan_as_null(tmp_path):
    written = write_json(
        tmp_path / "a.json",
        {
            "a": np.float32(0.5),
            "b": np.array([[1, 2]]),
            "c": float("nan"),
            "d": np.array([np.inf]),
            3: (tmp_path,),
        },
    )
    assert read_json(written) == {"a": 0.5, "b": [[1, 2]], "c": None, "d": [None], "3": [str(tmp_path)]}


def test_reading_json_names_the_file(tmp_path):
    with pytest.raises(CausalFTError, match="gone.json: no such file"):
        read_json(tmp_path / "gone.json")
    (tmp_path / "cut.json").write_text('{"a": ')
    with pytest.raises(CausalFTError, match=r"cut\.json: not valid JSON"):
        read_json(tmp_path / "cut.json")


def test_a_run_from_start_to_end(tmp_path):
    run = Run.create(tmp_path / "runs" / "a", kind="fit", config={"seed": 1, "lr": (0.1, 0.2)})
    assert not run.complete and "not complete" in repr(run)
    with pytest.raises(CausalFTError, match="interrupted fit run; repeat its command"):
        Run.open(run.path)
    write_text(run.file("strata/clip/head.txt"), "x")
    assert run.has("strata/clip/head.txt") and not run.has("strata/openclip/head.txt")
    again = Run.create(run.path, kind="fit", config={"seed": 1, "lr": [0.1, 0.2]})
    assert again.has("strata/clip/head.txt")
    again.finish({"accuracy": 0.5})
    opened = Run.open(run.path, kind="fit")
    assert (
        opened.complete
        and opened.metrics == {"accuracy": 0.5}
        and opened.config == {"seed": 1, "lr": [0.1, 0.2]}
    )
    with pytest.raises(CausalFTError, match="is a fit run; a zoo run is needed"):
        Run.open(run.path, kind="zoo")
    with pytest.raises(CausalFTError, match="is a fit run; an experiment run is needed"):
        Run.open(run.path, kind="experiment")
    with pytest.raises(CausalFTError, match="already holds a complete fit run"):
        Run.create(run.path, kind="fit", config={"seed": 1, "lr": [0.1, 0.2]})


def test_different_run_in_the_folder_is_refused(tmp_path):
    run = Run.create(tmp_path / "a", kind="fit", config={"seed": 1})
    write_text(run.file("strata/clip/head.txt"), "x")
    with pytest.raises(CausalFTError, match=r"another interrupted fit run \(it differs in seed\)"):
        Run.create(tmp_path / "a", kind="fit", config={"seed": 2})
    with pytest.raises(CausalFTError, match="another interrupted fit run"):
        Run.create(tmp_path / "a", kind="zoo", config={"seed": 1})
    assert Run.create(tmp_path / "a", kind="fit", config={"seed": 1}).has("strata/clip/head.txt")


def test_an_interrupted_student_is_called_by_its_command_and_settings_by_their_own_names(tmp_path):
    config = {"distilled": {"label_weight": 0.2}, "tuning": {"epochs": 16, "lr": 0.1}}
    run = Run.create(tmp_path / "a", kind="fit", config=config)
    write_text(run.file("strata/clip/head.txt"), "x")
    other = {"distilled": {"label_weight": 0.5}, "tuning": {"epochs": 8, "lr": 0.1}}
    with pytest.raises(
        CausalFTError,
        match=r"another interrupted distill run \(it differs in distilled.label_weight, tuning.epochs\)",
    ):
        Run.create(tmp_path / "a", kind="fit", config=other)
    with pytest.raises(CausalFTError, match="interrupted distill run; repeat its command"):
        Run.open(tmp_path / "a")


def test_interrupted_run_without_a_newer_setting_resumes_at_its_default(tmp_path):
    write_text(Run.create(tmp_path / "a", kind="fit", config={"seed": 1}).file("strata/head.txt"), "x")
    with pytest.raises(CausalFTError, match=r"it differs in gla\)"):
        Run.create(tmp_path / "a", kind="fit", config={"seed": 1, "gla": False})
    with pytest.raises(CausalFTError, match=r"it differs in gla\)"):
        Run.create(tmp_path / "a", kind="fit", config={"seed": 1, "gla": True}, defaults={"gla": False})
    run = Run.create(tmp_path / "a", kind="fit", config={"seed": 1, "gla": False}, defaults={"gla": False})
    assert run.has("strata/head.txt") and run.config == {"seed": 1, "gla": False}
    run.finish({})
    assert Run.open(tmp_path / "a").config == {"seed": 1}


def test_a_run_that_stopped_before_its_first_result_does_not_block_the_folder(tmp_path):
    """A wrong option is found after config.json is written; the corrected command must not need another --out."""
    Run.create(tmp_path / "a", kind="fit", config={"weights": "wrong"})
    run = Run.create(tmp_path / "a", kind="fit", config={"weights": "right"})
    run.finish({})
    assert Run.open(tmp_path / "a").config == {"weights": "right"}


def test_finishing_a_run_removes_temporary_files_of_killed_writers(tmp_path):
    """Killed while a figure is written: its temporary file is neither a result nor part of the finished run."""
    script = """
import os, signal, sys
from causalft.runs.folder import Run, atomic_path
run = Run.create(sys.argv[1], kind="fit", config={"seed": 1})
with atomic_path(run.file("figures/a.b.png")), atomic_path(run.file("plain")), atomic_path(run.file(".lr.json")):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    folder = tmp_path / "run"
    assert subprocess.run([sys.executable, "-c", script, folder]).returncode == -signal.SIGKILL
    assert len(files_below(folder)) == 4 and not any(
        "figures/a.b.png" in name for name in files_below(folder)
    )
    run = Run.create(folder, kind="fit", config={"seed": 2})  # there is no result that would hold the folder
    kept = [".hidden", ".lr.checkpoint.safetensors", "b.part-abcdefgh.png", ".note.part-abc.txt"]
    for name in kept:
        write_text(run.file(f"strata/{name}"), "x")
    run.finish({})
    assert files_below(folder) == sorted(
        ["config.json", "metrics.json", *(f"strata/{name}" for name in kept)]
    )


def test_other_folders_are_refused_as_runs(tmp_path):
    with pytest.raises(CausalFTError, match="no such run folder"):
        Run.open(tmp_path / "gone")
    with pytest.raises(CausalFTError, match="is not a run folder"):
        Run.open(tmp_path)
    (tmp_path / "photo.png").write_bytes(b"x")
    with pytest.raises(CausalFTError, match="is a file, not a folder"):
        Run.create(tmp_path / "photo.png", kind="fit", config={})
    with pytest.raises(CausalFTError, match=r"photo\.png is a file, not a folder"):
        Run.create(tmp_path / "photo.png" / "run", kind="fit", config={})
    with pytest.raises(CausalFTError, match="is not empty and is not a run"):
        Run.create(tmp_path, kind="fit", config={})
    (tmp_path / "model").mkdir()
    write_json(tmp_path / "model" / "config.json", {"architectures": ["CLIP"]})
    with pytest.raises(CausalFTError, match="holds files of something else"):
        Run.create(tmp_path / "model", kind="fit", config={})
    with pytest.raises(CausalFTError, match="is not a run folder"):
        Run.open(tmp_path / "model")


def test_hidden_files_do_not_occupy_a_folder(tmp_path):
    (tmp_path / ".DS_Store").write_bytes(b"x")
    assert not Run.create(tmp_path, kind="fit", config={}).complete


def test_check_refuses_an_occupied_folder_without_writing(tmp_path):
    free, odd, begun = tmp_path / "free", tmp_path / "odd", tmp_path / "begun"
    Run.check(free, kind="fit")
    assert not free.exists()
    odd.mkdir()
    (odd / "photo.png").write_bytes(b"x")
    with pytest.raises(CausalFTError, match="is not empty and is not a run"):
        Run.check(odd, kind="fit")
    with pytest.raises(CausalFTError, match="is a file, not a folder"):
        Run.check(odd / "photo.png" / "run", kind="fit")
    run = Run.create(begun, kind="zoo", config={"seed": 1})
    Run.check(begun, kind="fit")  # nothing is in it yet, so it gives way
    write_text(run.file("clip.json"), "x")
    before = files_below(tmp_path)
    Run.check(begun, kind="zoo")
    with pytest.raises(CausalFTError, match="holds another interrupted zoo run; choose another output"):
        Run.check(begun, kind="fit")
    run.finish({})
    with pytest.raises(CausalFTError, match="already holds a complete zoo run"):
        Run.check(begun, kind="zoo")
    assert files_below(tmp_path) == sorted([*before, "begun/metrics.json"])
