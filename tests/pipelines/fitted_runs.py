"""A small fit run on pictures of four kinds, made once for the tests of what comes after a fit."""

from __future__ import annotations

from tests.command_line import run

__all__ = ["fit"]


def fit(folder, zoo, photos, *options):
    """Fit two strata for one epoch."""
    words = ["fit", "--strata", "clip,openclip", "--zoo", zoo, "--data", photos, "--epochs", 1, "--lr", 0.05]
    words += ["--n-test", 4, "--n-validation", 3, "--batch-size", 16, "--out", folder]
    result = run(*words, *options)
    assert result.exit_code == 0, result.output
    return folder
