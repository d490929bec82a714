"""Tables and figures of the paper: one file with one record per experiment, found by name.

A file holds what it claims, its arms and its measures; the folder, the page and the command come from here. It imports
heavy libraries inside its functions.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalft.runs.folder import Run
from causalft.runs.lifecycle import new_run
from causalft.runs.records import Records

if TYPE_CHECKING:
    from causalft.methods.estimators.settings import FitSettings
    from causalft.pipelines.workflows.plan import FitPlan

__all__ = ["EXPERIMENTS", "Experiment"]


@dataclass(frozen=True)
class Experiment:
    """One table or figure.

    Attributes
    ----------
    name : str
        For the command; also the name of its file.
    reproduces : str
        The table, figure or objection, such as ``Tab. 8``.
    claim : str
        What it tests, in one line, with its control.
    scale : str
        Data, models, sizes.
    minutes : float
        Wall time of the full run on two cores.
    compute : callable
        ``compute(create, quick, seeds, **needed) -> metrics``. ``create(**config)`` gives the run; ``config`` is what
        it depends on besides the arguments. The metrics may hold ``table`` (``{columns, rows, caption}``, cells of
        text) and ``conclusion`` (sentences), which the command line prints.
    trains : callable, optional
        ``trains(quick, **needed) -> (FitSettings, names)``: what ``compute`` tunes for each seed, for `plan`; each
        member lies in ``members/SEED/NAME`` of the run.
    page : callable
        ``page(run, metrics)`` draws the figures into the run and returns title, verdict, details, facts and sections of
        :func:`causalft.report.html.render_report`.
    seeds : int
        Default number of repetitions.
    needs : tuple of str
        What the user must bring, of ``data`` and ``zoo`` (a folder made by ``causalft zoo pretrain``).
    data : str
        Placeholder for ``data`` in the command.
    source : str
    """

    name: str
    reproduces: str
    claim: str
    scale: str
    minutes: float
    compute: Callable[..., dict[str, Any]]
    page: Callable[[Run, Mapping[str, Any]], Mapping[str, Any]]
    trains: Callable[..., tuple[FitSettings, tuple[str, ...]]] | None = None
    seeds: int = 3
    needs: tuple[str, ...] = ()
    data: str = "IMAGES"
    source: str = "Chen et al., ICML 2025"

    @property
    def command(self) -> str:
        """The command of the full run."""
        brought = {"data": f" --data {self.data}", "zoo": " --zoo ZOO"}
        return f"causalft experiment run {self.name}" + "".join(brought[what] for what in self.needs)

    def run(self, out: str | os.PathLike[str], quick: bool, seeds: int, **needed: str) -> dict[str, Any]:
        """Make the run folder ``out`` with ``metrics.json``, figures and ``report.html``; return the metrics.

        Parameters
        ----------
        out : path
        quick : bool
            A smaller run.
        seeds : int
        **needed : str
            The paths that :attr:`needs` names.
        """
        with new_run(out, "experiment") as new:

            def create(**config: Any) -> Run:
                new.create({"name": self.name, "quick": quick, "seeds": seeds, **config})
                return new.run

            found = self.compute(create, quick, seeds, **needed)
            return new.finish({**found, "seeds": seeds, "quick": quick}, self._write, stamp=("made",))

    def plan(self, out: str | os.PathLike[str], quick: bool, seeds: int, **needed: str) -> FitPlan | None:
        """Return what the run will tune and cost, as ``fit --plan`` does; None where that is not declared.

        Parameters
        ----------
        out, quick, seeds, **needed
            As in :meth:`run`; members that ``out`` has finished are not counted.
        """
        if self.trains is None:
            return None
        from causalft.models.strata.cards import MemberName
        from causalft.pipelines.workflows.plan import plan_members

        settings, names = self.trains(quick, **needed)
        settings = replace(settings, n_seeds=seeds).absolute()
        folders = {
            MemberName.parse(name): [Path(out) / "members" / str(seed) / name for seed in range(seeds)]
            for name in names
        }
        return plan_members(settings, folders, out, tables=False)

    def _write(self, run: Run, metrics: Mapping[str, Any]) -> None:
        from causalft.report.html import made_line, render_report

        brought = "".join(f" --{what} {metrics[what]}" for what in self.needs)
        quick = " --quick" if metrics["quick"] else ""
        command = f"causalft experiment run {self.name}{brought} --seeds {metrics['seeds']}{quick}"
        page = render_report(**self.page(run, metrics), made=made_line(metrics), command=command)
        run.write_page(page)


EXPERIMENTS = Records("experiments", Experiment, "experiment")
"""Every experiment by name."""
