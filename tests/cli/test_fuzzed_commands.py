"""Random command lines: no traceback, and no exit code but 0, 1 where it is documented, 2 and 130."""

from __future__ import annotations

import os
import random

import click
import pytest

from causalft.cli.options import Number, Numbers
from tests.cli.test_option_types import COMMANDS
from tests.command_line import run

TEXTS = (
    "",
    " ",
    "nan",
    "-1",
    "é☃",
    "a" * 4000,
    "\x1b[31m",
    "a\0b",
    "{}{}",
    "{",
    "a=b",
    "=",
    "--",
    "clip",
    "X,Y",
    "mini",
)
NUMBERS = (
    "nan",
    "inf",
    "-inf",
    "-1",
    "1e300",
    "1e20",
    str(2**63),
    str(2**70),
    "",
    "x",
    "0.1,nan",
    "--5",
    "²",
)
PLACES = (
    "pipe", "folder", "empty", "list.json", "deep.json", "table.csv", "bytes", "loop", "zero", "missing", "-", "..",
    "run-x", "run-empty", "run-list", "a\nb", "x" * 5000, "\udce9.png", "missing/x.csv", "out.jsonl", "/dev/null",
)  # fmt: skip
# What may end with 1: damage that was looked for and found.
ONE = (["data", "show"], ["cache", "verify"])


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory full of traps."""
    monkeypatch.chdir(tmp_path)
    for name in ("CAUSALFT_CACHE", "CAUSALFT_WEIGHTS"):
        monkeypatch.setenv(name, str(tmp_path / name))
    os.mkfifo("pipe")
    for name, content in (
        ("empty", ""),
        ("list.json", '{"a": [1, null]}'),
        ("deep.json", "[" * 100_000),
        ("table.csv", "X,Y,Z\n" + "1,0,1\n0,1,0\n" * 20),
        ("bytes", "\x00\x01\xff" * 300),
    ):
        (tmp_path / name).write_text(content, encoding="latin-1")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name, config in (
        ("x", '{"kind": "fit", "config": "x"}'),
        ("empty", '{"kind": "fit", "config": {}}'),
        ("list", "[]"),
    ):
        (tmp_path / f"run-{name}").mkdir()
        (tmp_path / f"run-{name}" / "config.json").write_text(config)
        (tmp_path / f"run-{name}" / "metrics.json").write_text("[]")


def value_of(rng, parameter):
    if isinstance(parameter.type, click.Choice):
        return rng.choice([*map(str, parameter.type.choices), "zz", ""])
    if isinstance(parameter.type, Number | Numbers):
        return rng.choice(NUMBERS)
    return rng.choice(PLACES if parameter.type.name == "path" else TEXTS + PLACES)


def line(rng):
    """A command with its arguments, some of its options, and one number that means nothing where it has a number.

    So nothing long is ever begun.
    """
    words, command = rng.choice(COMMANDS)
    arguments = list(words)
    options = [each for each in command.params if isinstance(each, click.Option) and each.name != "help"]
    for each in command.params:
        if isinstance(each, click.Argument) and (each.required or rng.random() < 0.5):
            arguments += [value_of(rng, each) for _ in range(1 if each.nargs == 1 else rng.choice([1, 2]))]
    chosen = rng.sample(options, min(rng.choice([0, 1, 2, 4]), len(options)))
    for each in dict.fromkeys([*chosen, *(each for each in options if each.required)]):
        if each.is_flag:
            arguments.append(rng.choice([*each.opts, *each.secondary_opts]))
        else:
            arguments.append(f"{max(each.opts, key=len)}={value_of(rng, each)}")
    numbers = [each for each in options if isinstance(each.type, Number | Numbers)]
    if numbers and words not in (["graph", "falsify"], ["predict"], ["cache", "clear"], ["data", "show"]):
        arguments.append(f"{rng.choice(numbers).opts[0]}=nan")
    return words, arguments


def check(seed):
    words, arguments = line(random.Random(seed))
    result = run(*arguments, input="run-x\n")
    shown = (seed, [each[:80] for each in arguments], result.stderr[-500:])
    assert result.exception is None or isinstance(result.exception, SystemExit), (shown, result.exception)
    assert result.exit_code in ((0, 1, 2) if words in ONE else (0, 2)), shown
    assert "this is a fault of causalft" not in result.stderr and "Traceback" not in result.output, shown
    if result.exit_code == 2:
        said = [each for each in result.stderr.splitlines() if each.startswith("causalft: error: ")]
        assert len(said) == 1 and len(said[0]) < 1_100, shown


def test_forty_command_lines(place):
    for seed in range(40):
        check(seed)


@pytest.mark.slow
def test_a_thousand_command_lines(place):
    for seed in range(1_000, 2_000):
        check(seed)
