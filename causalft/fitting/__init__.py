"""The work of ``causalft fit``, from data to report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from causalft.runs.lazy import lazy_names

if TYPE_CHECKING:
    from causalft.fitting.data import load_splits
    from causalft.fitting.run import FittedRun, run_fit
    from causalft.fitting.settings import CONTROLS, FitSettings, data_name

__all__ = ["CONTROLS", "FitSettings", "FittedRun", "data_name", "load_splits", "run_fit"]

_HOMES = {
    "CONTROLS": "causalft.fitting.settings",
    "FitSettings": "causalft.fitting.settings",
    "FittedRun": "causalft.fitting.run",
    "data_name": "causalft.fitting.settings",
    "load_splits": "causalft.fitting.data",
    "run_fit": "causalft.fitting.run",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
