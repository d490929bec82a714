"""A setting is written once: options, checks, config shape and documentation come from one dataclass field."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from causalft.cli.fit import command as fit
from causalft.cli.options import GroupedCommand, options_of
from causalft.data.settings import DataOptions
from causalft.errors import CausalFTError
from causalft.methods.adaptation.settings import Tuning
from causalft.methods.estimators.settings import FitSettings
from causalft.methods.estimators.strata import StrataClassifier
from causalft.pipelines.workflows.settings import ProbeSettings, VerifySettings
from causalft.pipelines.workflows.verify_confounder import verify_confounder
from causalft.runs import limits
from causalft.runs.documents import check_shape
from causalft.runs.settings import check_settings, documented, nested, own_settings, setting
from synthetic.diffusion import open_diffusion
from synthetic.settings import GenerateSettings, GeneratorSettings


@dataclass(frozen=True)
class Speed:
    lr: float = setting(0.1, "Learning rate.", group="Speed", limits=limits.LEARNING_RATE)
    steps: tuple[int, ...] = setting((1, 2), "Steps.", limits=limits.STEPS)


@documented()
@dataclass(frozen=True)
class Plan:
    """A plan.

    Attributes
    ----------
    {settings}
    """

    kind: str = setting("short", "How long.", choices=("short", "long"))
    names: Mapping[str, str] = setting(help="Names.", factory=dict, metavar="NAME=TEXT")
    speed: Speed = nested(Speed, changes={"lr": {"default": 0.5}})
    size: int | str = setting("auto", "Size.", limits=limits.BATCH_SIZE, words=("auto",), usual="as needed")
    tail: bool = setting(True, "Keep the tail.", option="--tail")
    hidden: int = setting(3, option=None, limits=limits.SEED, noun="hidden number")


def made(*words: str) -> Plan:
    got: list[Plan] = []

    @click.command(cls=GroupedCommand, groups={"Speed": ()})
    @options_of(Plan)
    def verb(settings: Plan) -> None:
        got.append(settings)

    result = CliRunner().invoke(verb, list(words), env={"COLUMNS": "100"})
    assert result.exit_code == 0, result.output
    return got[0] if got else result.output


def test_command_receives_what_was_given_and_the_defaults_of_the_dataclass():
    assert made() == Plan(speed=Speed(lr=0.5))
    line = "--kind long --names a=b --names c=d --lr 2 --steps 3,4 --size 7 --no-tail".split()
    assert made(*line) == Plan("long", {"a": "b", "c": "d"}, Speed(2.0, (3, 4)), 7, False)


def test_help_has_defaults_choices_and_headings():
    text = " ".join(made("--help").split())
    assert "--kind [short|long] How long. [default: short]" in text
    assert "Steps. [default: 1,2]" in text and "Size. [default: as needed]" in text
    assert "--tail / --no-tail Keep the tail. [default: tail]" in text
    assert "Speed: --lr FLOAT Learning rate. [default: 0.5]" in text
    assert "hidden" not in text


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (Plan(kind="shrot"), "unknown kind 'shrot'; did you mean 'short'?"),
        (Plan(size=0), "size 0 is out of range"),
        (Plan(size="Auto"), "size 'Auto' is not a number"),
        (Plan(hidden=-1), "hidden number -1 is out of range"),
    ],
)
def test_wrong_values_are_refused_in_python_too(plan, words):
    check_settings(Plan())
    with pytest.raises(CausalFTError) as caught:
        check_settings(plan)
    assert str(caught.value).startswith(words)


def test_config_has_the_shape_of_the_dataclass():
    good = {"kind": "long", "speed": {"lr": 1, "steps": [1]}, "size": "auto"}
    assert check_shape(good, Plan, "f", strict=True) == good
    for wrong, words in (
        ({**good, "size": None}, "size is null"),
        ({**good, "speed": {"rl": 1}}, "speed.rl is not known here"),
        ({"kind": None}, "kind is null"),
    ):
        with pytest.raises(CausalFTError, match=f"f: {words}"):
            check_shape(wrong, Plan, "f", strict=True, required=("kind",))
    with pytest.raises(CausalFTError, match="f: kind is missing"):
        check_shape({}, Plan, "f", required=("kind",))


def test_docstring_lists_the_settings():
    text = inspect.getdoc(Plan)
    assert "kind : str, default 'short'\n    How long. One of short, long." in text
    assert "size : int | str, default 'auto'\n    Size. A whole number from 1 to" in text
    assert "{settings}" not in text + StrataClassifier.__doc__ + FitSettings.__doc__ + Tuning.__doc__


@pytest.mark.parametrize(
    "cls", [FitSettings, Tuning, ProbeSettings, DataOptions, VerifySettings, GenerateSettings]
)
def test_every_field_is_a_setting(cls):
    assert [each.name for each, _ in own_settings(cls)] == [each.name for each in fields(cls)]


def test_classifier_has_names_and_defaults_of_the_settings_of_fit():
    """scikit-learn reads explicit parameters; a zoo and the files of weights are opened by then."""
    own = {"graph", "progress"}
    taken = {name: each.default for name, each in inspect.signature(StrataClassifier).parameters.items()}
    known = {each.name: each.default for each in fields(FitSettings)}
    assert taken.keys() - known.keys() == own
    for name in taken.keys() - own - {"zoo", "weights", "semi"}:
        assert taken[name] == known[name], name
    assert taken["semi"] is None and FitSettings().semi.method is None
    assert (taken["zoo"], taken["weights"]) == (FitSettings().zoo_name, None)


def test_verify_confounder_takes_its_settings():
    taken = {name: each.default for name, each in inspect.signature(verify_confounder).parameters.items()}
    given = {"design": VerifySettings().design, **VerifySettings().options()}
    assert {name: taken[name] for name in given} == given
    assert taken.keys() - given.keys() == {"generator", "out", "jobs", "progress", "command"}


def test_generator_settings_are_the_arguments_of_open_diffusion():
    taken = {name: each.default for name, each in inspect.signature(open_diffusion).parameters.items()}
    given = {name: value for name, value in vars(GeneratorSettings()).items() if name != "generator"}
    assert {name: taken[name] for name in given} == given
    assert taken.keys() - given.keys() == {"size", "fetch", "say"}


def test_options_in_the_docs_of_fit_exist():
    page = (Path(__file__).parents[2] / "docs/fit.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `--.*$", page, flags=re.M)
    named = {flag for row in rows for flag in re.findall(r"`(--[a-z-]+)", row)}
    assert len(named) > 15 and named <= {flag for option in fit.params for flag in option.opts}
