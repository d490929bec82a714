"""``causalft probe``: how good frozen features are, by nearest neighbours and trained heads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from causalft.cli.engines import check_engine, engine_options
from causalft.cli.fit import DATA_FIRST, refuse_idle_splits
from causalft.cli.launched import follows
from causalft.cli.options import (
    PATH,
    GroupedCommand,
    console,
    options_of,
    print_json,
    refuse_given,
    repeat_command,
)
from causalft.methods.adaptation.settings import FIRST
from causalft.methods.estimators.settings import at_first_rate
from causalft.pipelines.workflows.settings import ProbeSettings
from causalft.runs.progress import phase

__all__ = ["command"]


_GROUPS = {
    FIRST: ("data", "zoo", "strata", "out", "k", "losses", "heads", "n_seeds", "device", "as_json"),
    "Data": DATA_FIRST,
    "Strata": ("weights", "offline", "allow_pickle", "template", "precision"),
    "Many processes": ("engine", "workers"),
    "Heads": ("preset", "learning_rates", "epochs", "batch_size", "head_scale", "seed"),
    "Output": (),
}


@click.command("probe", cls=GroupedCommand, groups=_GROUPS)
@options_of(ProbeSettings)
@click.option(
    "--out",
    type=PATH,
    help="Folder for metrics.json and the report. Default: print only.",
)
@engine_options
@click.option("--json", "as_json", is_flag=True, help="Print only the metrics on standard output.")
def command(
    settings: ProbeSettings, out: Path | None, engine: str, workers: int | None, as_json: bool
) -> None:
    """Evaluate the frozen features of each stratum: nearest neighbours, and heads of several losses and seeds.

    Validation images make all choices; the test images are scored once. D groups: by number of training images.

    \b
    causalft probe --losses CE,LA,BS,LDAM
    causalft probe --data photos/ --strata openclip --out runs/probe
    """
    from causalft.runs.folder import Run

    refuse_idle_splits(settings.fit)
    if not settings.losses:
        trained = ("heads", "preset", "learning_rates", "epochs", "batch_size", "head_scale", "n_seeds")
        refuse_given(trained, "is for heads, and --losses none trains none")
    settings = replace(settings, fit=at_first_rate(settings.fit)).absolute()
    settings.check()
    settings.fit.check_names()
    check_engine(engine, workers)
    if out is not None and not follows():  # of several processes, the one that writes
        Run.check(out, kind="probe")

    with phase("loading libraries"):
        from causalft.pipelines.workflows.probe import probe

    screen = console(as_json)
    metrics = probe(
        settings,
        out,
        progress=False if follows() else None,
        command=repeat_command("as_json"),
        engine=engine,
        workers=workers,
        say=lambda line: screen.print(line, style="dim", soft_wrap=True),
    )
    if as_json:
        print_json(metrics)
    else:
        _print(screen, metrics)
    if out is not None:
        screen.print(f"report: {out / 'report.html'}", soft_wrap=True)


def _print(screen: Any, metrics: dict[str, Any]) -> None:
    from rich.table import Table

    from causalft.pipelines.pages.probe import COLUMNS, probe_cells, probe_rows, probe_sentences

    n_seeds = len(metrics["seeds"])
    title = f"Accuracy (%) on {metrics['data']['n_test']} test images"
    if any(found["heads"] for found in metrics["strata"].values()):
        title += f", heads of {n_seeds} seed{'' if n_seeds == 1 else 's'}"
    table = Table(title=title, title_justify="left", caption_justify="left", box=None, pad_edge=False)
    for index, column in enumerate(COLUMNS):
        if index < 2:
            table.add_column(column, overflow="fold")
        else:
            table.add_column(column, justify="right", no_wrap=True)
    before = None
    for row in probe_rows(metrics):
        if before not in (None, row[0]):
            table.add_section()
        table.add_row(*probe_cells(row))
        before = row[0]
    table.caption = "D: by training images (> 100, 20 to 100, < 20). *: the head that validation chose."
    screen.print(table)
    screen.print()
    for line in probe_sentences(metrics):
        screen.print(line)
