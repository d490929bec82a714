"""``causalft diagnose``: which classes does the pre-training hurt, before anything is trained?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from causalft.cli.options import (
    PATH,
    GroupedCommand,
    console,
    options_of,
    print_json,
    repeat_command,
)
from causalft.errors import CausalFTError
from causalft.methods.priors.settings import PRIORS, KnownPriorFiles
from causalft.pipelines.workflows.evidence_settings import ACCURACY, EvidenceSettings
from causalft.runs.progress import phase

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["command"]


@click.command(
    "diagnose", cls=GroupedCommand, groups={ACCURACY: (), PRIORS: (), "Output": ("out", "as_json")}
)
@options_of(EvidenceSettings, into="tables")
@options_of(KnownPriorFiles, into="known")
@click.option("--out", type=PATH, help="Folder for metrics.json and the report. Default: print only.")
@click.option("--json", "as_json", is_flag=True, help="Print only the metrics on standard output.")
def command(tables: EvidenceSettings, known: KnownPriorFiles, out: Path | None, as_json: bool) -> None:
    """Which classes does the pre-training hurt? Nothing is trained.

    From tables of class accuracy, of your own models or from anybody's paper, and the pre-training counts of the
    models: how much accuracy a class loses where it is rare in a model's pre-training. NAME is a model of the tables,
    or a part of its name that no other has.

    \b
    causalft diagnose --class-accuracy imagenet.json --models ViT-B-16 \\
      --prior-of cc12m=cc12m.txt --prior-of laion400m=laion400m.txt --test-images 50
    """
    if not tables.class_accuracy:
        raise CausalFTError("nothing to diagnose; give tables of class accuracy with --class-accuracy FILE")
    tables.check()
    if out is not None:
        from causalft.runs.folder import Run

        Run.check(out, kind="diagnose")
    with phase("loading libraries"):
        from causalft.pipelines.workflows.class_evidence import diagnose_class_tables

    screen = console(as_json)
    metrics = diagnose_class_tables(tables, known, out, command=repeat_command("as_json"))
    if as_json:
        print_json(metrics)
    else:
        _print(screen, metrics)
    if out is not None:
        screen.print(f"report: {out / 'report.html'}", soft_wrap=True)


def _print(screen: Console, metrics: Mapping[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from causalft.pipelines.pages.class_evidence import checks_table, cross_table, models_table

    for note in metrics["notes"]:
        screen.print(Text(f"note  {note}", style="dim"))
    shown = [models_table(metrics), cross_table(metrics)]
    if metrics.get("checks"):
        shown.append(checks_table(metrics, brief=True))
    for each in shown:
        each = each.filled
        table = Table(title=each.caption, title_justify="left", box=None, pad_edge=False)
        for index, (column, number) in enumerate(zip(each.columns, each.numeric, strict=True)):
            table.add_column(
                column, justify="right" if number else "left", overflow="fold", no_wrap=index > 0
            )
        for row in each.rows:
            table.add_row(*row)
        screen.print(table)
        screen.print()
    first, *rest = metrics["conclusion"]
    screen.print(Text(first, style="bold"))
    for sentence in rest:
        screen.print(Text(sentence))
