"""What holds for every test and doctest: one thread for each process, no network, no window."""

from __future__ import annotations

import os

# Small models are slower on two threads than on one, and the tests run in several processes.
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"
