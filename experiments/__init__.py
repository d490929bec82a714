"""Tables and figures of the paper: one file with one record per experiment, found by name.

A file holds what it claims, its arms and its measures; members, folder, page and command come from `experiments.frame`.
It imports heavy libraries inside its functions.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalft.errors import CausalFTError
from causalft.runs.folder import Run
from causalft.runs.lifecycle import new_run
from causalft.runs.records import Records

if TYPE_CHECKING:
    from causalft.pipelines.workflows.plan import FitPlan
    from experiments.frame.claims import Claim
    from experiments.frame.networks import NetworkPlan
    from experiments.frame.scales import Roles
    from experiments.frame.study import Study

__all__ = ["EXPERIMENTS", "LONG_MINUTES", "MEMBERS", "Experiment"]

LONG_MINUTES = 10
"""`run all` leaves out what takes longer, unless it is asked for."""

MEMBERS = "members"
"""Folder of the members that experiments share, beside their run folders."""


@dataclass(frozen=True)
class Experiment:
    """One table or figure.

    It has either a ``study``, which runs at every scale, or ``compute`` and ``page``.

    Attributes
    ----------
    name : str
        For the command; also the name of its file.
    reproduces : str
        The table, figure or objection, such as ``Tab. 8``.
    claim : str
        What it tests, in one line, with its control.
    scale : str
        Data, models, sizes, at the scale ``mini``.
    minutes : float
        Wall time of the full run on two cores, at the scale ``mini``.
    study : callable, optional
        ``study(roles) -> Study``: arms, measures and contrasts for the models of a scale.
    claims : callable, optional
        ``claims() -> tuple of Claim``, which ``experiment verdict`` judges by the metrics.
    compute : callable, optional
        ``compute(create, quick, seeds, **needed) -> metrics``. ``create(**config)`` gives the run; ``config`` is what
        it depends on besides the arguments. The metrics may hold ``table`` (``{columns, rows, caption}``, cells of
        text) and ``conclusion`` (sentences), which the command line prints.
    page : callable, optional
        ``page(run, metrics)`` draws the figures into the run and returns title, verdict, details, facts and sections of
        :func:`causalft.report.html.render_report`.
    plans : callable, optional
        ``plans(out, quick, seeds, **needed)``: what ``compute`` will train and cost; left out if it trains nothing.
    seeds : int
        Default number of repetitions.
    needs : tuple of str
        What the user must bring for ``compute``, of ``data`` and ``zoo`` (a folder made by ``causalft zoo pretrain``).
    data : str
        Placeholder for ``data`` in the command.
    also : tuple of str
        Further names: a figure and a table that show the same.
    source : str
    """

    name: str
    reproduces: str
    claim: str
    scale: str
    minutes: float
    study: Callable[[Roles], Study] | None = None
    claims: Callable[[], tuple[Claim, ...]] | None = None
    compute: Callable[..., dict[str, Any]] | None = None
    page: Callable[[Run, Mapping[str, Any]], Mapping[str, Any]] | None = None
    plans: Callable[..., FitPlan | NetworkPlan] | None = None
    seeds: int = 3
    needs: tuple[str, ...] = ()
    data: str = "IMAGES"
    also: tuple[str, ...] = ()
    source: str = "Chen et al., ICML 2025"

    @property
    def is_long(self) -> bool:
        """Whether its full run takes over :data:`LONG_MINUTES`."""
        return self.minutes > LONG_MINUTES

    @property
    def command(self) -> str:
        """The command of the full run at the scale ``mini``."""
        return self.command_at("mini")

    def needed_at(self, scale: str) -> tuple[str, ...]:
        """What the user must bring at a scale.

        Raises
        ------
        CausalFTError
            For an unknown scale, or one that it does not run at.
        """
        from experiments.frame.scales import get_scale

        found = get_scale(scale)
        if self.study is not None:
            return found.needs
        if scale != "mini":
            raise CausalFTError(f"{self.name} has one scale of its own: {self.command}")
        return self.needs

    def command_at(self, scale: str, name: str | None = None) -> str:
        """The command of the full run at a scale, of this experiment or of what ``name`` says ("all")."""
        words = "" if scale == "mini" else f" --scale {scale}"
        needed = self.needed_at(scale)
        placeholders = {"data": self.data, "zoo": "ZOO"}
        if "set" in needed:
            from experiments.frame.sets import SETS

            placeholders = {"set": "|".join(SETS), "data": "FOLDER"}
        brought = "".join(f" --{what} {placeholders[what]}" for what in needed)
        return f"causalft experiment run {name or self.name}{words}{brought}"

    def taken_at(self, scale: str) -> tuple[str, ...]:
        """What the user may bring at a scale, needed or not."""
        from experiments.frame.scales import get_scale

        return self.needed_at(scale) + (get_scale(scale).takes if self.study is not None else ())

    def run(
        self,
        out: str | os.PathLike[str],
        quick: bool,
        seeds: int,
        scale: str = "mini",
        members: str | os.PathLike[str] | None = None,
        jobs: int = 1,
        **brought: Any,
    ) -> dict[str, Any]:
        """Make the run folder ``out`` with ``metrics.json``, figures and ``report.html``; return the metrics.

        A ``table`` in the metrics is also written as ``table.csv`` and ``table.tex``.

        Parameters
        ----------
        out : path
        quick : bool
            A smaller run.
        seeds : int
        scale : str
            In :data:`experiments.frame.scales.SCALES`.
        members : path, optional
            Folder of the members that experiments share; default: :data:`MEMBERS` beside ``out``.
        jobs : int
            Processes that train side by side; a script that asks for several has its work under
            ``if __name__ == "__main__"``.
        **brought : str
            What :meth:`needed_at` names.
        """
        with new_run(out, "experiment") as new:

            def create(**config: Any) -> Run:
                new.create({"name": self.name, "quick": quick, "seeds": seeds, **config})
                return new.run

            asked = {"seeds": seeds, "quick": quick}
            if self.study is None:
                assert self.compute is not None and self.page is not None
                found = self.compute(create, quick, seeds, **brought)
                return new.finish({**found, **asked}, self._writer(self.page), stamp=("made",))

            from experiments.frame.lab import Lab
            from experiments.frame.scales import get_scale
            from experiments.frame.study import study_metrics, study_page

            shared = Path(members or Path(out).absolute().parent / MEMBERS)
            world = get_scale(scale).open(quick, shared, brought)
            run = create(scale=scale, **world.described)
            lab = Lab(run, world, seeds, quick, shared, jobs)
            study = self.study(world.roles)
            found = {**study_metrics(study, lab), "scale": scale, "brought": brought, **asked}
            return new.finish(found, self._writer(lambda run, metrics: study_page(study, run, metrics)))

    def plan(
        self,
        out: str | os.PathLike[str],
        quick: bool,
        seeds: int,
        scale: str = "mini",
        members: str | os.PathLike[str] | None = None,
        **needed: Any,
    ) -> FitPlan | NetworkPlan | None:
        """Return what the run will tune and cost, as ``fit --plan`` does.

        Parameters
        ----------
        out, quick, seeds, scale, members, **needed
            As in :meth:`run`; members that are finished are not counted.

        Returns
        -------
        FitPlan, NetworkPlan or None
            None for an experiment that trains nothing, and where the zoo of the photographs is not pre-trained yet.
        """
        if self.study is None:
            return None if self.plans is None else self.plans(Path(out), quick, seeds, **needed)
        from experiments.frame.lab import Lab
        from experiments.frame.plan import plan_study
        from experiments.frame.scales import get_scale

        shared = Path(members or Path(out).absolute().parent / MEMBERS)
        prepared = get_scale(scale).prepare(shared, needed)
        if prepared is None:
            return None
        world = get_scale(scale).opens(quick, **prepared)
        lab = Lab(Run(Path(out), "experiment", {}), world, seeds, quick, shared)
        return plan_study(self.study(world.roles), lab)

    def command_of(self, metrics: Mapping[str, Any]) -> str:
        """The command that repeats a run."""
        at = metrics.get("scale", "mini") if self.study is not None else "mini"
        scale = "" if at == "mini" else f" --scale {at}"
        given = (
            {what: metrics[what] for what in self.needs} if self.study is None else metrics.get("brought", {})
        )
        words = []
        for what, value in given.items():
            each = (
                [f"{name}={file}" for name, file in value.items()] if isinstance(value, Mapping) else [value]
            )
            words += [f"--{what}" if one is True else f"--{what} {shlex.quote(str(one))}" for one in each]
        brought = "".join(f" {word}" for word in words)
        quick = " --quick" if metrics["quick"] else ""
        return f"causalft experiment run {self.name}{scale}{brought} --seeds {metrics['seeds']}{quick}"

    def _writer(
        self, page: Callable[[Run, Mapping[str, Any]], Mapping[str, Any]]
    ) -> Callable[[Run, Mapping[str, Any]], None]:
        def write(run: Run, metrics: Mapping[str, Any]) -> None:
            from causalft.report.html import Table, made_line, render_report

            if "table" in metrics:
                table = Table(**metrics["table"])
                run.file("table.csv").write_text(table.to_csv(), encoding="utf-8")
                run.file("table.tex").write_text(table.to_latex(), encoding="utf-8")
            made, command = made_line(metrics), self.command_of(metrics)
            run.write_page(render_report(**page(run, metrics), made=made, command=command))

        return write


EXPERIMENTS = Records("experiments", Experiment, "experiment")
"""Every experiment by name."""
