"""The work of ``causalft fit``, from data to report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from causalft.runs.lazy import lazy_names

if TYPE_CHECKING:
    from causalft.pipelines.workflows.fit import FittedRun, run_fit
    from causalft.pipelines.workflows.fit_data import load_splits
    from causalft.pipelines.workflows.settings import CONTROLS, FitSettings, data_name

__all__ = ["CONTROLS", "FitSettings", "FittedRun", "data_name", "load_splits", "run_fit"]

_HOMES = {
    "CONTROLS": "causalft.pipelines.workflows.settings",
    "FitSettings": "causalft.pipelines.workflows.settings",
    "FittedRun": "causalft.pipelines.workflows.fit",
    "data_name": "causalft.pipelines.workflows.settings",
    "load_splits": "causalft.pipelines.workflows.fit_data",
    "run_fit": "causalft.pipelines.workflows.fit",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
