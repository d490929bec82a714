"""``causalft sensitivity``: what stays uncertain about the predictions of a fitted run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from causalft.cli.options import DEVICE, FILE, PATH, SEED, Number, console, print_json, repeat_command
from causalft.runs import limits
from causalft.runs.progress import phase

if TYPE_CHECKING:
    from rich.console import Console

    from causalft.report.html import Table

__all__ = ["command", "print_table"]


@click.command("sensitivity")
@click.argument("run", type=PATH)
@click.argument("paths", type=FILE, nargs=-1)
@click.option(
    "--coverage",
    type=Number(limits.COVERAGE),
    default=0.9,
    show_default=True,
    help="Share of images whose prediction set is to hold their class.",
)
@click.option(
    "--rows",
    type=Number(limits.TOP),
    default=20,
    show_default=True,
    help="Classes printed, those with most uncertain predictions first.",
)
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of the interval of P(c).")
@click.option(
    "--device", type=DEVICE, default="auto", show_default=True, help="Device: auto, cpu, cuda or cuda:N."
)
@click.option(
    "--out", type=PATH, help="Folder for metrics.json, sensitivity.parquet and report. Default: print only."
)
@click.option("--json", "as_json", is_flag=True, help="Print only the metrics on standard output.")
def command(
    run: Path,
    paths: tuple[str, ...],
    coverage: float,
    rows: int,
    seed: int,
    device: str,
    out: Path | None,
    as_json: bool,
) -> None:
    """Tell which predictions of RUN, the folder of a fit, hold for every P(c), and what stays uncertain.

    Without PATHS the test images of the run are analysed, from the logits that it kept; with PATHS (image files,
    folders, zips or tars) those images.

    Beside P(c): how strong an unobserved confounder must be to change a prediction, how often the front door through B
    gives another one, and the coverage of prediction sets by D and P group.

    \b
    causalft sensitivity runs/fit
    causalft sensitivity runs/fit photos/ --out runs/sensitivity
    """
    from causalft.methods.estimators.run_documents import open_classifier
    from causalft.runs.folder import Run

    open_classifier(run)  # refused before PyTorch is imported
    if out is not None:
        Run.check(out, kind="sensitivity")
    images = None
    if paths:
        from causalft.data.given import unlabelled_images

        images = unlabelled_images(paths)
        for note in images.notes:
            click.echo(f"causalft: {note}", err=True)
    with phase("loading libraries"):
        from causalft.pipelines.workflows.sensitivity import sensitivity

    screen = console(as_json)
    found = sensitivity(
        run,
        images,
        coverage=coverage,
        out=out,
        device=device,
        seed=seed,
        command=repeat_command("as_json", "rows"),
    )
    if as_json:
        print_json(found.metrics)
    else:
        _print(screen, found.metrics, rows)
    if out is not None:
        screen.print(f"report: {out / 'report.html'}", soft_wrap=True)


def _print(screen: Any, metrics: Mapping[str, Any], rows: int) -> None:
    from rich.text import Text

    from causalft.pipelines.pages.sensitivity import (
        coverage_table,
        flips_table,
        group_table,
        sentences,
        unobserved_table,
    )

    first, *rest = sentences(metrics)
    screen.print(Text(first, style="bold"))
    for sentence in rest:
        screen.print(Text(sentence))
    for note in metrics["notes"]:
        screen.print(Text(f"note  {note}", style="dim"))
    screen.print()
    shown = [group_table(metrics), flips_table(metrics, rows), unobserved_table(metrics)]
    if "covered" in metrics.get("sets", {}):
        shown.append(coverage_table(metrics))
    for each in shown:
        print_table(screen, each)


def print_table(screen: Console, table: Table) -> None:
    """Print a table of a page, its caption first."""
    from rich.table import Table as Shown
    from rich.text import Text

    filled = table.filled
    screen.print(Text(filled.caption, style="italic"))
    shown = Shown(box=None, pad_edge=False)
    for column, number in zip(filled.columns, filled.numeric, strict=True):
        side = "right" if number else "left"
        shown.add_column(column, justify=side, overflow="fold", no_wrap=number)  # type: ignore[arg-type]
    for row in filled.rows:
        shown.add_row(*row)
    screen.print(shown)
    screen.print()
