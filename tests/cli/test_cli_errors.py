"""Errors on the command line: one line, an exit code, no traceback."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time

import click
import pytest

from causalft.cli import VERBS, main
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
        monkeypatch.setitem(VERBS, "fail", ("failing_verb:command", "Fails."))

    return install


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/a/head.safetensors")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (CausalFTError("no such thing; do that"), 2, "no such thing; do that"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
        (click.Abort(), 130, "error: interrupted\n"),
        (MemoryError(), 2, "the memory does not suffice"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 1 TB"), 2, "the memory does not suffice"),
        (FileNotFoundError(errno.ENOENT, "gone", "x.png"), 2, "x.png: no such file or folder (any more)"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "a" * 300), 2, "aa: File name too long; choose"),
        (OSError(errno.EMFILE, "Too many open files", "x"), 2, "too many open files at x; raise the limit"),
        (FULL, 2, "the disk is full while writing runs/a/head.safetensors; free some space"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 2, "the disk is full; free some space"),
        (PermissionError(errno.EACCES, "denied", "/locked"), 2, "/locked: permission denied"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "a.png/run"), 2, "a.png/run: Not a directory"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", ".a.x", None, "a"), 2, "error: a: Is a directory"),
        (FileExistsError(errno.EEXIST, "File exists", "link"), 2, "link: File exists; choose another place"),
        (OSError(errno.EROFS, "Read-only file system", "/read/only"), 2, "/read/only: Read-only file system"),
    ],
)
def test_exception_is_one_line_with_its_exit_code(failing, error, code, line):
    failing(error)
    result = run("fail")
    assert result.exit_code == code
    assert result.stdout == "" and len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("causalft: error: ") and line in result.stderr


@pytest.mark.parametrize("error", [CausalFTError("wrong"), KeyboardInterrupt(), FULL])
def test_debug_raises_the_exception(failing, error):
    failing(error)
    result = run("--debug", "fail")
    assert result.exit_code != 0 and "causalft: error" not in result.stderr
    if not isinstance(error, KeyboardInterrupt):
        assert result.exception is error


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("a bug"),
        KeyError("config"),
        RecursionError("too\ndeep"),
        AssertionError(),
        OSError(5, "IO"),
    ],
)
def test_bug_is_one_line_with_its_type_and_exit_code_1(failing, error):
    failing(error)
    result = run("fail")
    assert result.exit_code == 1 and result.stdout == "" and len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith(f"causalft: error: {type(error).__name__}: ")
    assert "this is a fault of causalft: `causalft --debug fail ...`" in result.stderr
    assert run("--debug", "fail").exception is error


@pytest.mark.parametrize("words", [["zoo", "pretrain"], ["fit"], ["predict"]])
def test_only_verbs_that_resume_say_so(words, monkeypatch):
    command = main.get_command(None, words[0])
    for word in words[1:]:
        command = command.commands[word]

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "callback", interrupted)
    needed = {"zoo": ["--out", "x"], "fit": [], "predict": ["run", "x.png"]}[words[0]]
    result = run(*words, *needed)
    assert result.exit_code == 130
    assert result.stderr == "causalft: error: interrupted; repeat the command to resume where it stopped\n"


def test_long_message_keeps_start_and_end(failing):
    failing(CausalFTError("first " + "x" * 389_000 + "\nlast"))
    line = run("fail").stderr
    assert len(line) < 1_100 and line.count("\n") == 1
    assert line.startswith("causalft: error: first x") and line.endswith("x last\n") and " [...] " in line


def test_library_warnings_are_hidden_and_own_warnings_are_printed(monkeypatch):
    import logging
    import warnings

    @click.command("warn")
    def command():
        warnings.warn_explicit("of a library", UserWarning, "/site-packages/torch/x.py", 1)
        logging.getLogger("matplotlib").warning("a temporary cache directory")
        warnings.warn_explicit("made again", UserWarning, importlib_file("causalft.runs.folder"), 1)

    def importlib_file(name):
        import importlib

        return importlib.import_module(name).__file__

    module = type(sys)("warning_verb")
    module.command = command
    monkeypatch.setitem(sys.modules, "warning_verb", module)
    monkeypatch.setitem(VERBS, "warn", ("warning_verb:command", "Warns."))
    monkeypatch.setattr(sys, "warnoptions", [])
    result = run("warn")
    assert result.exit_code == 0 and result.stderr == "causalft: warning: made again\n"


def shell(line, **environment):
    """A command line in a real process."""
    program = f"{sys.executable} -m causalft"
    return subprocess.run(
        ["bash", "-c", line.replace("causalft ", program + " ", 1)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )


def test_closed_standard_streams_are_reopened_empty(tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    for streams in ("<&-", "<&- >&-", ">&-", "<&- >&- 2>&-"):
        done = shell(f"causalft cache list --folder {cache} {streams}")
        assert done.returncode == 0 and "Traceback" not in done.stderr, (streams, done.stderr)


def test_full_standard_output_and_closed_pipe(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    done = shell(f"causalft cache list --folder {tmp_path} > /dev/full")
    assert done.returncode == 2
    assert done.stderr == "causalft: error: the disk is full; free some space and repeat the command\n"
    done = shell(f"causalft cache list --folder {tmp_path} | true")
    assert done.stderr == ""


def test_read_only_home_causes_no_warnings(tmp_path):
    home = {"HOME": "/proc", "MPLCONFIGDIR": "", "XDG_CACHE_HOME": "", "XDG_CONFIG_HOME": ""}
    done = shell(f"causalft graph show --out {tmp_path}/graph.png", **home)
    # on a slow machine it also says what it is doing
    other = [line for line in done.stderr.splitlines() if not line.startswith("causalft: ")]
    assert done.returncode == 0 and not other, done.stderr


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
def test_usage_errors_are_one_line(typed, line):
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
    while not list((tmp_path / "zoo").glob(".*.checkpoint.safetensors")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130, said
    assert "Traceback" not in said and said.count("causalft: error: interrupted") == 1
    assert not (tmp_path / "zoo" / "metrics.json").exists()


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_group_help_fits_80_columns_without_truncation(verb, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    shown = run(verb, "--help").stdout
    assert max(map(len, shown.splitlines())) <= 80
    assert "..." not in shown.partition("Commands:")[2]
