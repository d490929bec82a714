"""Every option value is checked by a type of `causalft.cli.options`, and in Python by the same limits."""

from __future__ import annotations

import math
from dataclasses import replace

import click
import numpy as np
import pytest

from causalft.cli import main
from causalft.cli.options import Checked, Number, Numbers
from causalft.errors import CausalFTError
from causalft.runs import limits
from tests.command_line import run, said


def commands():
    """Every command below ``causalft`` with its words."""

    def below(group, words):
        context = click.Context(group)
        for name in group.list_commands(context):
            found = group.get_command(context, name)
            if isinstance(found, click.Group):
                yield from below(found, [*words, name])
            else:
                yield [*words, name], found

    return list(below(main, []))


COMMANDS = commands()
OPTIONS = [(words, option) for words, command in COMMANDS for option in command.params]


def test_every_option_has_a_checked_type():
    bare = [
        f"{' '.join(words)} {option.name}"
        for words, option in OPTIONS
        if not getattr(option, "is_flag", False) and not isinstance(option.type, Checked | click.Choice)
    ]
    assert bare == []


NONSENSE = ("nan", "-inf", "inf", "1e300", "1e20", "-1e20", "", " ", "0x10", "1;2", "²", "9" * 5000)


@pytest.mark.parametrize("words", [" ".join(words) for words, _ in COMMANDS])
def test_invalid_numbers_are_refused_with_the_range(words):
    """Refused before anything is opened, so other arguments are not needed."""
    command = next(command for found, command in COMMANDS if " ".join(found) == words)
    for option in command.params:
        if not isinstance(option.type, Number | Numbers) or not isinstance(option, click.Option):
            continue
        top = option.type.limits.most
        for value in (*NONSENSE, str(-(2**70)), *([] if top == math.inf else [str(int(top) * 2 + 2)])):
            if value == "1e20" and not option.type.limits.whole and top >= 1e20:
                continue
            context = click.Context(command, info_name=words)
            with pytest.raises(click.BadParameter) as caught:
                option.process_value(context, (value,) if option.multiple else value)
            said_of_it = caught.value.format_message()
            assert "\n" not in said_of_it and len(said_of_it) < 300
            assert option.type.limits.words() in said_of_it, said_of_it


@pytest.mark.parametrize(
    "line",
    [
        ["cache", "clear", "--unused-days", "nan", "--yes"],
        ["fit", "--seed", 2**63],
        ["fit", "--bottleneck", 1_000_000_000],
        ["fit", "--weight-decay", "1e300"],
        ["fit", "--device", "meta"],
        ["fit", "--device", "cuda:300"],
        ["fit", "--imbalance-factor", "inf"],
        ["fit", "--out", ""],
        ["fit", "--lr", "0.1,nan"],
        ["fit", "--strata", ","],
        ["generate", "--size", 1_000_000, "--out", "x"],
        ["generate", "--ratio", "nan"],
        ["generate", "--max-rejects", "nan"],
        ["verify-confounder", "--batch-size", "1e20"],
        ["predict", "run", "x.png", "--top=--5"],
        ["predict", "run", "x.png", "--batch-size", "1e20"],
        ["predict", "", "x.png"],
        ["graph", "identify", "--graph", ""],
        ["graph", "falsify", "--data", "x.csv", "--alpha", "nan"],
        ["card", "run", "--out", ""],
        ["pull", "a/b", "--to", ""],
        ["data", "show", "a\0b"],
    ],
)
def test_invalid_values_are_refused_in_one_line(line):
    """Through the whole command: one line, exit code 2, nothing opened."""
    assert len(said(run(*line))) < 400


def test_largest_seed_works_with_every_generator():
    import torch

    from causalft.data.formats.cifar import draw_benchmark

    largest = limits.SEED.most
    assert limits.SEED.read(str(largest)) == largest
    torch.Generator().manual_seed(limits.torch_seed((largest * 1_000_003 + 5) * 8_191))
    labels = np.repeat([0, 1, 2], 100)
    assert len(draw_benchmark(labels, 100, seed=largest)) == 111
    assert limits.words_of_seed(12) == 12  # the benchmark's own draws stay


def test_numpy_integers_are_numbers_but_booleans_and_strings_are_not():
    assert limits.EPOCHS.check(np.int64(3), "epochs") == 3
    assert limits.LEARNING_RATE.check(np.float32(0.5), "lr") == 0.5
    for wrong in (True, "3", None, 2.5):
        with pytest.raises(CausalFTError, match="epochs .* is not a"):
            limits.EPOCHS.check(wrong, "epochs")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 2**63}, "seed 9223372036854775808 is out of range"),
        ({"seed": -1}, "seed -1 is out of range"),
        ({"n_seeds": 0}, "n_seeds 0 is out of range"),
        ({"imbalance_factor": math.nan}, "imbalance_factor nan is not a finite number"),
        ({"imbalance_factor": math.inf}, "imbalance_factor inf is not a finite number"),
        ({"n_test": -5}, "n_test -5 is out of range"),
        ({"device": "meta"}, "device 'meta' is unknown"),
        ({"learning_rates": (0.1, math.nan)}, "learning rate nan is not a finite number"),
    ],
)
def test_fit_settings_have_the_same_limits_in_python(change, message):
    from causalft.methods.estimators.settings import FitSettings

    with pytest.raises(CausalFTError, match=message):
        replace(FitSettings(), **change).check()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight_decay": 1e300}, "weight decay 1e.300 is out of range; give a number from 0 to 1,000"),
        ({"weight_decay": math.nan}, "weight decay nan is not a finite number"),
        ({"momentum": 1.5}, "momentum 1.5 is out of range"),
        ({"bottleneck": 10**9}, "bottleneck 1000000000 is out of range; .*no tower is as wide"),
        ({"head_scale": math.inf}, "head scale inf is not a finite number"),
        ({"batch_size": 10**20}, "batch size 100000000000000000000 is out of range"),
        ({"epochs": 2.5}, "epochs 2.5 is not a whole number"),
        ({"seed": -3}, "seed -3 is out of range"),
    ],
)
def test_tuning_has_the_same_limits_in_python(change, message):
    from causalft.methods.adaptation.settings import Tuning

    with pytest.raises(CausalFTError, match=message):
        replace(Tuning(), **change).check()
