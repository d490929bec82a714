"""A small fit run on pictures of four kinds, made once for the tests of what comes after a fit."""

from __future__ import annotations

from click.testing import CliRunner

from causalft.cli import main


def run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def said(result):
    """The one line of an error."""
    assert result.exit_code == 2 and "Traceback" not in result.output, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("causalft: error: ")]
    assert len(lines) == 1, result.output
    return lines[0]


def fit(folder, zoo, photos, *options):
    """Fit two strata for one epoch."""
    words = ["fit", "--strata", "clip,openclip", "--zoo", zoo, "--data", photos, "--epochs", 1, "--lr", 0.05]
    words += ["--n-test", 4, "--n-validation", 3, "--batch-size", 16, "--out", folder]
    result = run(*words, *options)
    assert result.exit_code == 0, result.output
    return folder
