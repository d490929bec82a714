"""Tables and figures of the paper, one file per table or figure, found by name.

A file defines ``EXPERIMENT = Experiment(...)`` and opens with what it reproduces, on which scale, in what time and with
what command. It imports heavy libraries inside its functions, so that listing the experiments is quick.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from causalft.errors import CausalFTError, nearest
from causalft.runs.folder import Run, write_text
from causalft.runs.lifecycle import new_run

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
    compute : callable
        ``compute(create, quick, seeds, **needed) -> metrics``. ``create(**config)`` gives the run; ``config`` is what
        it depends on beside the arguments. The metrics may hold ``table`` (``{columns, rows, caption}``, cells of
        text) and ``conclusion`` (sentences), which the command line prints.
    page : callable
        ``page(run, metrics)`` draws the figures into the run and gives title, verdict, details, facts and sections of
        :func:`causalft.report.html.render_report`.
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
    compute: Callable[..., dict[str, Any]]
    page: Callable[[Run, Mapping[str, Any]], Mapping[str, Any]]
    seeds: int = 3
    needs: tuple[str, ...] = ()

    def run(self, out: str | os.PathLike[str], quick: bool, seeds: int, **needed: str) -> dict[str, Any]:
        """Make the run folder ``out`` with ``metrics.json``, figures and ``report.html``; return the metrics.

        Parameters
        ----------
        out : path
        quick : bool
            A smaller run.
        seeds : int
        needed : str
            What :attr:`needs` names.
        """
        with new_run(out, "experiment") as new:

            def create(**config: Any) -> Run:
                new.create({"name": self.name, "quick": quick, "seeds": seeds, **config})
                return new.run

            found = self.compute(create, quick, seeds, **needed)
            return new.finish({**found, "seeds": seeds, "quick": quick}, self._write, stamp=("made",))

    def _write(self, run: Run, metrics: Mapping[str, Any]) -> None:
        from causalft.report.html import made_line, render_report

        brought = "".join(f" --{what} {metrics[what]}" for what in self.needs)
        quick = " --quick" if metrics["quick"] else ""
        command = f"causalft experiment run {self.name}{brought} --seeds {metrics['seeds']}{quick}"
        page = render_report(**self.page(run, metrics), made=made_line(metrics), command=command)
        write_text(run.file("report.html"), page)


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
