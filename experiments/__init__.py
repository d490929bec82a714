"""One short declarative file a table or figure of the paper; this frame finds them by name.

A file defines ``EXPERIMENT = Experiment(...)`` and opens with what it reproduces, on which scale, in what time and with
what command. Heavy libraries are imported inside its ``run`` function, so that listing the experiments is quick.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from causalft.errors import CausalFTError, nearest

__all__ = ["Experiment", "all_experiments", "get_experiment"]


@dataclass(frozen=True)
class Experiment:
    """One table or figure.

    Attributes
    ----------
    name : str
        The name of its file.
    reproduces : str
        Which table or figure, and the claim in it.
    scale : str
        On what: data, models, sizes.
    minutes : float
        Wall time of the full run on two cores.
    command : str
        That makes the full run.
    run : callable
        ``run(out, quick, seeds, **needed) -> metrics``: makes the run folder ``out`` with ``metrics.json``, figures
        and ``report.html`` and returns the metrics. These may hold ``table`` (``{columns, rows, caption}``, cells of
        text) and ``conclusion`` (sentences), which the command line prints.
    seeds : int
        Repetitions when nobody says otherwise.
    needs : tuple of str
        What the user must bring, of ``data`` (images) and ``zoo`` (a folder made by ``causalft zoo pretrain``).
    """

    name: str
    reproduces: str
    scale: str
    minutes: float
    command: str
    run: Callable[..., dict[str, Any]]
    seeds: int = 3
    needs: tuple[str, ...] = ()


def all_experiments() -> dict[str, Experiment]:
    """Every experiment of this package by name, in alphabetical order.

    Examples
    --------
    >>> "tab8" in all_experiments()
    True
    """
    found = {}
    for module in pkgutil.iter_modules(__path__):
        experiment = getattr(importlib.import_module(f"{__name__}.{module.name}"), "EXPERIMENT", None)
        if isinstance(experiment, Experiment):
            found[experiment.name] = experiment
    return dict(sorted(found.items()))


def get_experiment(name: str) -> Experiment:
    """The experiment of that name.

    Raises
    ------
    CausalFTError
        If there is none; the nearest names are offered.
    """
    known = all_experiments()
    if name not in known:
        raise CausalFTError(f"no experiment named '{name}'; {nearest(name, known)}")
    return known[name]
