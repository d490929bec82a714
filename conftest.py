"""What holds for every test and doctest: one thread per process, no network, no window, no chance, one width."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

# Small models are slower on two threads than on one, and the tests run in several processes.
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"

# The default run tries the same examples everywhere, and no load fails one; `make slow` searches at random.
settings.register_profile(
    "default-run",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("search", settings.get_profile("default-run"), derandomize=False, print_blob=True)
settings.load_profile("default-run")

for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE"):
    os.environ.pop(name, None)


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """No line wraps, whatever the terminal, or the length of a temporary folder's path."""
    monkeypatch.setenv("COLUMNS", "1000")
