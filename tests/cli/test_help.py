"""Help: grouped options within 80 columns; hidden alternative spellings."""

from __future__ import annotations

import re

import click
import pytest

from causalft.cli import VERBS, LazyGroup, main
from causalft.cli.options import GroupedCommand, SpelledOption
from tests.command_line import run, said


def commands(group=main, path=()):
    """Every command with the words that call it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        if isinstance(found, click.Group):
            yield from commands(found, (*path, name))
        else:
            yield (*path, name), found


COMMANDS = dict(commands())
GROUPED = {words: found for words, found in COMMANDS.items() if isinstance(found, GroupedCommand)}


def headings(text):
    return re.findall(r"^(\S.*):$", text, flags=re.M)


def section(text, heading):
    return text.partition(f"\n{heading}:\n")[2].partition("\n\n")[0]


def test_every_verb_is_a_command():
    assert isinstance(main, LazyGroup) and set(VERBS) <= {words[0] for words in COMMANDS}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_fits_80_columns(words):
    shown = run(*words, "--help")
    assert shown.exit_code == 0
    assert max(map(len, shown.output.splitlines())) <= 80


@pytest.mark.parametrize("words", GROUPED, ids=" ".join)
def test_every_option_is_in_exactly_one_group(words):
    command = GROUPED[words]
    named = [name for names in command.groups.values() for name in names]
    known = {parameter.name for parameter in command.params if isinstance(parameter, click.Option)}
    assert len(named) == len(set(named))
    assert set(named) == known, "every option has its group"


@pytest.mark.parametrize("words", GROUPED, ids=" ".join)
def test_every_option_is_shown_once(words):
    command, text = GROUPED[words], run(*words, "--help").output
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert len(re.findall(rf"^  .*{re.escape(parameter.opts[-1])}\b(?!-)", text, flags=re.M)) >= 1


def test_fit_lists_twelve_options_first_then_groups():
    text = run("fit", "--help").output
    assert headings(text)[:8] == [
        "Options that matter first",
        "Data",
        "Unlabelled images",
        "Strata",
        "Known priors",
        "Tuning",
        "Fusion",
        "Output",
    ]
    assert len(re.findall(r"^  --", section(text, "Options that matter first"), flags=re.M)) == 12
    assert "--fusion" in section(text, "Fusion") and "--bottleneck" in section(text, "Tuning")


@pytest.mark.parametrize("verb", ["verify-confounder", "generate"])
def test_stable_diffusion_options_have_their_own_group(verb):
    text = run(verb, "--help").output
    (heading,) = [found for found in headings(text) if found.startswith("Stable Diffusion")]
    assert "--guidance" in section(text, heading)
    assert "--guidance" not in section(text, "Options that matter first")


SPELLINGS = [
    ("predict", "--out", "--output"),
    ("verify-confounder", "--seed", "--first-seed"),
    ("pull", "--to", "--out"),
    ("weights fetch", "--to", "--out"),
    ("probe", "--losses", "--loss"),
    ("probe", "--heads", "--head"),
]


@pytest.mark.parametrize(("words", "shown", "other"), SPELLINGS)
def test_alternative_spelling_works_and_is_hidden(words, shown, other):
    command = COMMANDS[tuple(words.split())]
    (option,) = [p for p in command.params if isinstance(p, SpelledOption) and shown in p.opts]
    value = "3" if "seed" in shown else "here"
    for spelling in (shown, other):
        arguments = [spelling, value, *(["x", "y"] if words == "predict" else [])]
        arguments += ["x"] if words in ("pull", "weights fetch") else []
        # with the settings of the whole command: click keeps the help option that it first makes
        context = command.make_context(words, arguments, **main.context_settings)
        found = context.params[option.name]
        assert str(found[0] if isinstance(found, tuple) else found).rpartition("/")[2] == value
    assert not re.search(rf"{other}\b(?!-)\W", run(*words.split(), "--help").output.replace(shown, ""))


def test_error_names_every_spelling():
    assert "'--seed' / '--first-seed': '-1' is out of range" in said(
        run("verify-confounder", "--first-seed", "-1")
    )
