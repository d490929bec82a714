"""``--help`` of every verb, byte for byte at 80 columns. Refresh: see `tests.golden.stored`."""

from __future__ import annotations

import click
import pytest

from causalft.cli import main
from tests.command_line import run
from tests.golden.stored import HERE, REFRESH, stored_text


def commands(group=main, words=()):
    """The words of every command and group, ``causalft`` itself first."""
    yield words
    if isinstance(group, click.Group):
        context = click.Context(group)
        for name in group.list_commands(context):
            yield from commands(group.get_command(context, name), (*words, name))


COMMANDS = list(commands())


def file_of(words):
    return "_".join(("causalft", *words)) + ".txt"


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words) or "causalft")
def test_help_text_is_unchanged(words, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    shown = run(*words, "--help")
    assert shown.exit_code == 0
    assert shown.output == stored_text(f"help/{file_of(words)}", shown.output)


def test_no_command_disappeared():
    kept = {path.name for path in (HERE / "help").glob("*.txt")}
    if REFRESH:
        for name in kept - set(map(file_of, COMMANDS)):
            (HERE / "help" / name).unlink()
    else:
        assert kept == set(map(file_of, COMMANDS))
