"""``causalft experiment verdict``: claims and objections, judged by the runs in a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from causalft.cli.options import PATH, console, print_json

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["verdict_command"]

_COLOURS = {"supported": "green", "contradicted": "red", "open": "yellow"}


@click.command("verdict")
@click.argument("folder", metavar="[DIR]", type=PATH, default="runs")
@click.option("--page", type=PATH, help="Write a page too: FILE.html or FILE.md.", metavar="FILE")
@click.option(
    "--earlier",
    type=PATH,
    help="Verdict of other runs, as --json printed it; counts for what DIR lacks.",
    metavar="FILE.json",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else on standard output.")
def verdict_command(folder: Path, page: Path | None, earlier: Path | None, as_json: bool) -> None:
    """Judge the paper's claims and its reviewers' objections by finished runs.

    Reads the experiment runs directly below DIR (default: runs). A claim is supported or contradicted by its
    interval, else open; so is an objection, by the claims that answer it. Further claims are those of this project and
    of other papers.

    \b
    causalft experiment run all --scale mini
    causalft experiment verdict
    causalft experiment verdict runs --page verdict.html
    causalft experiment verdict runs --earlier verdict.json
    """
    from experiments.frame.earlier import Earlier
    from experiments.frame.verdict import find_results, give_verdict
    from experiments.frame.verdict_page import write_verdict

    before = None if earlier is None else Earlier.read(earlier)
    found = give_verdict(find_results(folder, may_be_empty=before is not None), before)
    if page is not None:
        write_verdict(page, found)
    if as_json:
        print_json(found)
        return
    screen = console()
    _print(screen, found)
    if page is not None:
        screen.print(f"page: {page}", soft_wrap=True)


def _print(screen: Console, found: Mapping[str, Any]) -> None:
    from experiments.frame.verdict_page import claims_by_title, headline

    for number, (title, rows) in enumerate(claims_by_title(found).items()):
        screen.print("\n" * bool(number) + title, style="bold")
        for row in rows:
            _print_row(screen, row, f"{row['section']}: {row['text']}" if row["section"] else row["text"])
    screen.print("\nObjections of its reviewers: are they answered?", style="bold")
    for row in found["objections"]:
        _print_row(screen, row, f"{row['number']}. {row['doubt']}\nAnswer: {row['answer']}")
    screen.print(f"\n{headline(found)}", soft_wrap=True)
    if any(run["quick"] for run in found["runs"]):
        screen.print("Quick runs show that the commands work; they decide nothing.", soft_wrap=True)


def _print_row(screen: Console, row: Mapping[str, Any], words: str) -> None:
    """A verdict, what it is of, its numbers and its command, with a hanging indent."""
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    from experiments.frame.verdict_page import number_words

    lines = [Text(words)]
    several = len({number["claim"] for number in row["numbers"]}) > 1 or "doubt" in row
    for number in row["numbers"]:
        claim = f"{number['claim']}: " if several else ""
        told = f" {number['verdict']}" if len(row["numbers"]) > 1 else ""
        lines.append(Text(f"{claim}{number['scale']} {number_words(number)}{told}"))
    if row["why"]:
        lines.append(Text(row["why"]))
    lines.append(Text(row["command"], style="dim"))
    grid = Table.grid(padding=(0, 2))
    grid.add_column(width=12, no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(Text(row["verdict"], style=_COLOURS[row["verdict"]]), Text("\n").join(lines))
    screen.print(Padding(grid, (1, 0, 0, 0)))
