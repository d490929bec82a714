"""``causalft verify-confounder``: the A/B experiment on the command line."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from causalft.cli.output import console, print_json
from causalft.errors import CausalFTError
from causalft.runs import read_json

__all__ = ["command", "parse_classes", "parse_ratio"]


def parse_ratio(text: str) -> float:
    """Read ``90:10``, ``0.9`` or ``90%`` as a fraction.

    Examples
    --------
    >>> parse_ratio("90:10"), parse_ratio("0.8"), parse_ratio("3:1")
    (0.9, 0.8, 0.75)
    """
    try:
        if ":" in text:
            first, second = (float(part) for part in text.split(":"))
            value = first / (first + second)
        elif text.endswith("%"):
            value = float(text[:-1]) / 100
        else:
            value = float(text)
    except (ValueError, ZeroDivisionError):
        raise CausalFTError(f"--ratio {text}: not a ratio; write it as 90:10 or 0.9") from None
    return value


def parse_classes(text: str | None) -> list[str] | None:
    """Split a list of class names at commas; None stays None."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


@click.command("verify-confounder")
@click.option(
    "--design",
    default="confounded",
    show_default=True,
    metavar="paper|confounded|null",
    help="paper: B has 90:10 of the same part in every class; confounded: the majority part depends on the class; "
    "null: a control in which the factor changes nothing in the picture.",
)
@click.option("--generator", default="renderer", show_default=True, help="Who draws the pictures.")
@click.option("--classes", metavar="A,B,...", help="At least two class names  [default: all six]")
@click.option(
    "--n-per-class", type=int, default=100, show_default=True, help="Pictures of each class in each set."
)
@click.option("--ratio", default="90:10", show_default=True, help="Majority to minority part in the B sets.")
@click.option("--seeds", type=int, help="Number of replications.  [default: 5]")
@click.option("--first-seed", type=int, default=0, show_default=True, help="Seed of the first replication.")
@click.option(
    "--backbone",
    metavar="resnet32|resnet20|resnet8",
    help="Network trained from scratch.  [default: resnet32; resnet8 with --quick]",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder of the run.  [default: runs/verify-confounder-DESIGN, numbered if taken]",
)
@click.option("--quick", is_flag=True, help="A smaller network and shorter training.")
@click.option(
    "--json", "json_mode", is_flag=True, help="Print metrics.json, and nothing else, on standard output."
)
def command(
    design: str,
    generator: str,
    classes: str | None,
    n_per_class: int,
    ratio: str,
    seeds: int | None,
    first_seed: int,
    backbone: str | None,
    out: Path | None,
    quick: bool,
    json_mode: bool,
) -> None:
    """Is a semantic factor a confounder?

    Draws balanced (A) and unbalanced (B) image sets, trains a network from scratch on each, tests both on both over
    several seeds, and judges: verified, not detected or inconclusive.
    """
    share, names = parse_ratio(ratio), parse_classes(classes)
    screen = console(json_mode)
    repeat = _command_line(
        design=design,
        generator=generator,
        classes=classes,
        n_per_class=n_per_class,
        ratio=ratio,
        seeds=seeds,
        first_seed=first_seed,
        backbone=backbone,
        quick=quick,
    )
    from causalft.confounding.verify import verify_confounder

    folder = out if out is not None else _free_folder(Path("runs"), f"verify-confounder-{design}")
    result = verify_confounder(
        design,
        generator=generator,
        classes=names,
        n_per_class=n_per_class,
        ratio=share,
        seeds=seeds,
        first_seed=first_seed,
        backbone=backbone,
        out=folder,
        quick=quick,
        command=repeat,
    )
    if json_mode:
        print_json(read_json(folder / "metrics.json"))
        return
    _show(screen, result.metrics())
    screen.print(f"report: {folder / 'report.html'}", soft_wrap=True)


def _show(screen: Any, metrics: dict[str, Any]) -> None:
    from rich.table import Table

    from causalft.confounding.page import TEST_NAMES, explain_sets, verdict_line

    seeds = len(metrics["seeds"])
    how = f"{metrics['backbone']}{' (quick)' if metrics['quick'] else ''}, {seeds} seed{'s' if seeds > 1 else ''}"
    cells = Table(
        "", "tested on A", "tested on B", title=f"Accuracy, % [95 % interval]; {how}", title_justify="left"
    )
    for trained in "AB":
        cells.add_row(
            f"trained on {trained}",
            *(
                _interval(
                    metrics["cells"][f"{trained}->{t}"]["mean"], metrics["cells"][f"{trained}->{t}"]["ci95"]
                )
                for t in "AB"
            ),
        )
    tests = Table(
        "test", "points [95 %]", "p", title="Tests; B->A: trained on B, tested on A", title_justify="left"
    )
    tests.columns[1].no_wrap = tests.columns[2].no_wrap = True
    for name, test in metrics["tests"].items():
        tests.add_row(
            f"{name}: {TEST_NAMES[name]}", _interval(test["estimate"], test["ci95"]), f"{test['p']:.2g}"
        )
    screen.print(f"Does the part in view mislead a classifier? Design {metrics['design']}:")
    for line in explain_sets(metrics):
        screen.print(line)
    screen.print(cells)
    screen.print(tests)
    screen.print(f"verdict: {verdict_line(metrics)}", style="bold")
    if metrics["design"] == "paper":
        screen.print("note: the strict test of confounding is --design confounded")
    screen.print(f"{metrics['seconds']:.0f} seconds")


def _interval(value: float, ci95: tuple[float, float]) -> str:
    return f"{100 * value:.1f} [{100 * ci95[0]:.1f}, {100 * ci95[1]:.1f}]"


def _free_folder(parent: Path, name: str) -> Path:
    """The first of name, name-2, name-3, ... that holds no complete run (an interrupted one is resumed)."""
    number = 1
    while True:
        folder = parent / (name if number == 1 else f"{name}-{number}")
        if not (folder / "metrics.json").exists():
            return folder
        number += 1


def _command_line(**options: Any) -> str:
    words = ["causalft", "verify-confounder"]
    for name, value in options.items():
        if value is True:
            words.append(f"--{name.replace('_', '-')}")
        elif value is not None and value is not False:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)
