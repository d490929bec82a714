"""``causalft distill``: one student learns what a fitted run answers, at the cost of one model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from causalft.cli.options import PATH, GroupedCommand, console, options_of, print_json
from causalft.methods.adaptation.settings import FIRST
from causalft.pipelines.workflows.distill_settings import DistillSettings
from causalft.runs.progress import phase

__all__ = ["command"]

_GROUPS = {
    FIRST: ("unlabeled", "max_unlabeled", "student", "epochs", "lr", "out", "device", "as_json"),
    "Student": (),
    "Output": (),
}


@click.command("distill", cls=GroupedCommand, groups=_GROUPS)
@click.argument("run", type=PATH)
@options_of(DistillSettings)
@click.option(
    "--out",
    type=PATH,
    default=Path("runs/student"),
    show_default=True,
    help="Folder of the student, a run like that of a fit; the same command resumes an interrupted one.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print only the comparison of student, teacher and best single stratum on standard output.",
)
def command(run: Path, settings: DistillSettings, out: Path, as_json: bool) -> None:
    """Distil RUN, the folder of a fit, into one model: a student that learns the fused answers.

    The student costs one model per image instead of one per stratum. Its folder is a run with one stratum, which
    predict, evaluate, explain, export and push take. Unlabelled images help most.

    \b
    causalft distill runs/photos --unlabeled more-photos/ --out runs/student
    causalft distill runs/fit --unlabeled creatures-lt
    """
    from causalft.methods.estimators.run_documents import open_fit
    from causalft.methods.estimators.settings import FitSettings
    from causalft.runs.folder import Run

    opened = open_fit(run)  # refused before PyTorch is imported
    settings.check()
    best = opened.metrics["controls"]["best_single"]["name"]
    settings.absolute().check_names(FitSettings.from_config(opened.config), best)
    Run.check(out, kind="fit")

    with phase("loading libraries"):
        from causalft.cli.evaluate import print_diagnosis
        from causalft.pipelines.workflows.distill import run_distill

    screen = console(as_json)
    found = run_distill(
        opened, settings, out, say=lambda line: screen.print(line, style="dim", soft_wrap=True)
    )
    if as_json:
        print_json(found.summary)
    else:
        _print(screen, found.summary)
        print_diagnosis(screen, found.diagnosis, found.worst_classes)
    screen.print(f"report: {found.run.path / 'report.html'}", soft_wrap=True)


def _print(screen: Any, summary: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from causalft.pipelines.pages.distill import COLUMNS, distilled_rows, distilled_sentences

    table = Table(
        title="Teacher, student and best single stratum on the test images",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for number, name in enumerate(COLUMNS):
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    for row in distilled_rows(summary):
        table.add_row(*row)
    screen.print(table)
    screen.print()
    for line in distilled_sentences(summary):
        screen.print(Text(line))
    screen.print()
