"""Fixtures of the experiments."""

from __future__ import annotations

from functools import partial

import pytest


@pytest.fixture
def fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """200 resamples of the test images in place of 1000."""
    from experiments.frame import measures

    monkeypatch.setattr(measures, "bootstrap", partial(measures.bootstrap, n_boot=200))
