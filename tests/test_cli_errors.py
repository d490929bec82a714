"""What a person sees when something goes wrong at the command line: one line, the right exit code, no traceback."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time

import click
import pytest

from causalft.cli import VERBS
from causalft.errors import CausalFTError, nearest
from tests.command_line import run


@pytest.fixture
def failing(monkeypatch):
    """A verb that raises what it is told to."""

    def install(error):
        @click.command("fail")
        def command():
            raise error

        module = type(sys)("failing_verb")
        module.command = command
        monkeypatch.setitem(sys.modules, "failing_verb", module)
        monkeypatch.setitem(VERBS, "fail", ("failing_verb", "Fails."))

    return install


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/a/head.safetensors")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (CausalFTError("no such thing; do that"), 2, "no such thing; do that"),
        (KeyboardInterrupt(), 130, "interrupted; repeat the command to resume where it stopped"),
        (click.Abort(), 130, "interrupted; repeat the command to resume where it stopped"),
        (FULL, 2, "the disk is full while writing runs/a/head.safetensors; free some space"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 2, "the disk is full; free some space"),
        (PermissionError(errno.EACCES, "denied", "/locked"), 2, "/locked: permission denied"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "a.png/run"), 2, "a.png/run: Not a directory"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", ".a.x", None, "a"), 2, "error: a: Is a directory"),
        (FileExistsError(errno.EEXIST, "File exists", "link"), 2, "link: File exists; choose another place"),
        (OSError(errno.EROFS, "Read-only file system", "/read/only"), 2, "/read/only: Read-only file system"),
    ],
)
def test_a_mistake_is_one_line_with_its_exit_code(failing, error, code, line):
    failing(error)
    result = run("fail")
    assert result.exit_code == code
    assert result.stdout == "" and len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("causalft: error: ") and line in result.stderr


@pytest.mark.parametrize("error", [CausalFTError("wrong"), KeyboardInterrupt(), FULL])
def test_debug_lets_the_error_through(failing, error):
    failing(error)
    result = run("--debug", "fail")
    assert result.exit_code != 0 and "causalft: error" not in result.stderr
    if not isinstance(error, KeyboardInterrupt):
        assert result.exception is error


@pytest.mark.parametrize("error", [RuntimeError("a bug"), FileNotFoundError(errno.ENOENT, "gone", "x")])
def test_a_bug_is_not_dressed_up_as_a_mistake(failing, error):
    failing(error)
    assert run("fail").exception is error


def test_unknown_verbs_and_options_offer_the_nearest():
    result = run("evalute")
    assert result.exit_code == 2 and "did you mean 'evaluate'" in result.stderr
    result = run("fit", "--stratas", "clip")
    assert result.exit_code == 2 and "--strata" in result.stderr


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (["fit", "--fusion", "produkt"], "'--fusion': 'produkt' is not one of 'mixture', 'logit', 'product'"),
        (["fit", "--fusion", "produkt"], "did you mean 'product'?"),
        (
            ["fit", "--epochs", "1.5"],
            "'--epochs': '1.5' is not a whole number; give a whole number from 1 to",
        ),
        (["fit", "--epoch", "4"], "no such option '--epoch'. Did you mean '--epochs'?"),
        (["predict"], "missing argument 'RUN'; see `causalft predict --help`"),
        (["data", "shw"], "no such command 'shw'"),
        (["fot"], "no such command 'fot'; did you mean 'fit'?"),
        (["--debg"], "--debug"),
    ],
)
def test_what_click_refuses_is_one_line_as_well(typed, line):
    result = run(*typed)
    assert result.exit_code == 2 and result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("causalft: error: ") and line in result.stderr


def test_version_and_help():
    import causalft

    assert causalft.__version__ in run("--version").stdout
    shown = run("--help")
    assert shown.exit_code == 0 and all(verb in shown.stdout for verb in VERBS)


def test_nearest_says_how_many_names_there_are():
    assert nearest("x", [f"name{k:02d}" for k in range(30)]).endswith(", ... (30 in all)")


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_at_a_terminal_stops_all_processes_with_one_line(tmp_path, photos, jobs):
    """A terminal sends the interrupt to the whole group of processes; the workers must not print tracebacks."""
    command = [
        sys.executable,
        "-c",
        "from causalft.cli import main; main()",
        "zoo",
        "pretrain",
        "--data",
        str(photos),
    ]
    command += ["--out", str(tmp_path / "zoo"), "--n-test", "6", "--n-validation", "3", "--epochs", "5000"]
    command += ["--jobs", str(jobs)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 200
    while not list((tmp_path / "zoo").glob(".*.checkpoint.safetensors")) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said and said.count("causalft: error: interrupted") == 1
    assert not (tmp_path / "zoo" / "metrics.json").exists()


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_help_fits_80_columns_and_cuts_no_sentence_off(verb, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    shown = run(verb, "--help").stdout
    assert max(map(len, shown.splitlines())) <= 80
    assert "..." not in shown.partition("Commands:")[2]
