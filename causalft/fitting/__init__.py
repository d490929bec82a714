"""The work of ``causalft fit``, from data to report."""

from __future__ import annotations

from causalft.fitting.data import load_splits
from causalft.fitting.run import FittedRun, run_fit
from causalft.fitting.settings import CONTROLS, FitSettings, data_name

__all__ = ["CONTROLS", "FitSettings", "FittedRun", "data_name", "load_splits", "run_fit"]
