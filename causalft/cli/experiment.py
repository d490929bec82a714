"""``causalft experiment``: list and reproduce tables and figures of the paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from causalft.cli.options import FILE, PATH, TEXT, Number, VerbGroup, console, print_json
from causalft.errors import CausalFTError
from causalft.runs import limits

__all__ = ["command"]


@click.group("experiment", cls=VerbGroup)
def command() -> None:
    """Reproduce tables and figures of the paper."""


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else on standard output.")
def list_command(as_json: bool) -> None:
    """List the experiments, with scale and time."""
    from rich.table import Table

    from experiments import EXPERIMENTS

    fields = ("name", "reproduces", "claim", "scale", "minutes", "command", "seeds", "source")
    rows = [{field: getattr(found, field) for field in fields} for found in EXPERIMENTS.values()]
    if as_json:
        print_json(rows)
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("name", no_wrap=True)
    table.add_column("minutes", justify="right")
    table.add_column("what it gives")
    for row in rows:
        words = f"{row['reproduces']}: {row['claim']}\n{row['scale']}\n{row['command']}\n"
        table.add_row(row["name"], f"{row['minutes']:g}", words)
    console().print(table)


@command.command("run")
@click.argument("name", type=TEXT)
@click.option("--out", type=PATH, help="Run folder. Default: runs/NAME.")
@click.option("--quick", is_flag=True, help="A smaller run, to see that it works.")
@click.option(
    "--seeds",
    type=Number(limits.SEEDS),
    help="Repetitions. Default: the experiment's own.",
)
@click.option("--data", type=FILE, help="Images or tables, for an experiment that needs them.")
@click.option(
    "--zoo", type=FILE, help="Folder made by `causalft zoo pretrain`, for an experiment on your own images."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print metrics.json and nothing else on standard output."
)
def run_command(
    name: str, out: Path | None, quick: bool, seeds: int | None, as_json: bool, **brought: str | None
) -> None:
    """Reproduce one table or figure.

    \b
    causalft experiment run tab8 --quick
    causalft experiment run photographs --data photos/ --zoo my-zoo
    """
    from experiments import EXPERIMENTS

    experiment = EXPERIMENTS.get_or_refuse(name)
    needed = _needed(experiment, brought)
    folder = out or Path("runs") / name
    screen = console(as_json)
    screen.print(f"{experiment.reproduces}: {experiment.claim}\n{experiment.scale}", style="dim")
    metrics = experiment.run(folder, quick, seeds or (1 if quick else experiment.seeds), **needed)
    if as_json:
        print_json(metrics)
    else:
        _show(screen, metrics)
    screen.print(f"report: {folder / 'report.html'}", soft_wrap=True)


def _needed(experiment: Any, brought: dict[str, str | None]) -> dict[str, str]:
    """Return the inputs that the experiment needs; refuse missing and unused ones."""
    for what, value in brought.items():
        if value is None and what in experiment.needs:
            raise CausalFTError(f"{experiment.name} needs --{what}: {experiment.command}")
        if value is not None and what not in experiment.needs:
            raise CausalFTError(
                f"--{what} does nothing for {experiment.name}, which brings its own; leave it out"
            )
    return {what: value for what, value in brought.items() if value is not None}


def _show(screen: Any, metrics: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    if "table" in metrics:
        shown = metrics["table"]
        table = Table(title=shown.get("caption"), title_justify="left", box=None, pad_edge=False)
        for index, column in enumerate(shown["columns"]):
            table.add_column(column, justify="left" if index == 0 else "right")
        for row in shown["rows"]:
            table.add_row(*row)
        screen.print(table)
    for sentence in metrics.get("conclusion", []):
        screen.print(Text(sentence))
