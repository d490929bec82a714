"""What a command says of what it is doing: on standard error, in order, and only if it takes long."""

from __future__ import annotations

import json
import re
import time

import pytest

from causalft.runs import progress as phases
from causalft.runs.progress import named, phase, spoken, steps
from tests.command_line import run


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(phases, "PATIENCE", 0.0)


def lines(text):
    return [line.removeprefix("causalft: ") for line in text.splitlines() if line.startswith("causalft: ")]


def in_order(expected, found):
    left = iter(found)
    return all(any(line.startswith(wanted) for line in left) for wanted in expected)


def test_phases_are_named_in_order_and_steps_are_counted(impatient, capsys):
    with spoken("fit"):
        with phase("reading", total=3) as reading:
            reading.update(2)
        assert list(steps([1, 2], "training", 2)) == [1, 2]
        named("judging")(lambda: None)()
    said = capsys.readouterr()
    assert reading.n == 2
    assert lines(said.err) == ["fit", "reading", "training", "judging"]
    assert said.out == ""


def test_a_phase_that_begins_again_at_once_is_said_once(impatient, capsys):
    with spoken("fit"):
        for label in ("hashing files", "hashing files", "reading", "hashing files"):
            with phase(label):
                pass
    assert lines(capsys.readouterr().err) == ["fit", "hashing files", "reading", "hashing files"]


def test_short_command_prints_no_progress(capsys):
    with spoken("fit"), phase("reading", total=3), phase("training"):
        pass
    assert capsys.readouterr() == ("", "")


def test_python_prints_no_progress_in_a_pipe(impatient, capsys):
    with phase("reading", total=3), phase("training"):
        pass
    assert capsys.readouterr() == ("", "")


def test_progress_false_is_silent(impatient, capsys):
    with spoken("fit"), phase("reading", total=3, progress=False):
        pass
    assert lines(capsys.readouterr().err) == ["fit"]


def test_long_phase_is_printed_repeatedly_with_progress(monkeypatch, capsys):
    monkeypatch.setattr(phases, "PATIENCE", 0.05)
    monkeypatch.setattr(phases, "OFTEN", 0.05)
    monkeypatch.setattr(phases, "TICK", 0.01)
    with spoken("fit"), phase("training", total=10) as training:
        training.update(4)
        said = []
        while len(said) < 2:
            time.sleep(0.01)
            said += lines(capsys.readouterr().err)
    assert said[0] == "training"
    assert said[1].startswith("training: 40 %, ")


def test_no_silence_of_five_seconds_at_first():
    assert phases.PATIENCE + phases.TICK < 5 and phases.OFTEN + phases.TICK < 5


def test_command_of_minutes_speaks_less_often(monkeypatch, capsys):
    for name, seconds in (
        ("PATIENCE", 0.0),
        ("OFTEN", 0.0),
        ("LONG", 0.0),
        ("AGAIN", 3600.0),
        ("TICK", 0.01),
    ):
        monkeypatch.setattr(phases, name, seconds)
    with spoken("fit"), phase("training", total=10):
        time.sleep(0.2)
    assert lines(capsys.readouterr().err).count("training") == 1


def test_a_terminal_gets_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(phases, "_is_terminal", lambda: True)
    with spoken("fit"), phase("training", total=10, unit="step") as training:
        training.update(10)
        training.set_postfix(loss="0.1")
    said = capsys.readouterr()
    assert "training: 100%" in said.err and "10/10" in said.err and said.out == ""
    assert not lines(said.err)


def test_failed_phase_is_closed(impatient, capsys):
    with pytest.raises(ValueError, match="lost"), spoken("fit"), phase("reading"):
        raise ValueError("lost")
    assert phases._speaker is None
    assert lines(capsys.readouterr().err) == ["fit", "reading"]


def test_phases_of_fit_predict_and_evaluate_go_to_standard_error(impatient, tiny_zoo, photos, tmp_path):
    sizes = ["--n-validation", 3, "--n-test", 3, "--epochs", 1, "--batch-size", 32]
    out = tmp_path / "run"
    made = run("fit", "--data", photos, "--zoo", tiny_zoo, "--strata", "clip", *sizes, "--out", out, "--json")
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)
    expected = [
        "looking through the data",
        "reading 12 images for clip",
        "estimating the label prior",
        "tuning clip",
        "comparing accuracy",
        "writing the report",
    ]
    assert in_order(expected, lines(made.stderr)), made.stderr

    predicted = run("predict", out, photos, "--json")
    assert len(json.loads(predicted.stdout)) == 120
    assert in_order(
        ["loading libraries", "loading the run", "predicting 120 images"], lines(predicted.stderr)
    )

    shown = run("data", "show", photos, "--check", "--json")
    assert json.loads(shown.stdout)["damaged"] == {}
    assert in_order(["looking through the data", "checking images"], lines(shown.stderr))


def test_verify_confounder_prints_its_phases(impatient, tmp_path):
    options = ["--quick", "--classes", "cat,truck", "--n-per-class", 4, "--seeds", 1, "--no-adjust", "--json"]
    made = run("verify-confounder", "--design", "null", *options, "--out", tmp_path / "run")
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)
    expected = ["model 1 of 2", "model 2 of 2", "testing dependence", "weighing", "writing the report"]
    assert in_order(expected, lines(made.stderr)), made.stderr


def test_few_long_steps_are_counted_and_not_given_in_percent() -> None:
    with phase("pre-training minis", 5, progress=False, counted="minis") as running:
        running.said = running.started
        assert re.fullmatch(r"pre-training minis: 0 of 5 minis, \d+ s", running.line())
        running.update()
        assert running.line().startswith("pre-training minis: 1 of 5 minis, ")
