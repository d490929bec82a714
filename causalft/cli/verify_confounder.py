"""``causalft verify-confounder``: the A/B experiment, its tests, the truth beside it and its verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from causalft.cli.generator_options import generator_options, open_from_options, take_options
from causalft.cli.options import (
    FILE,
    GENERATOR_GROUP,
    NAMES,
    PATH,
    SEED,
    TEXT,
    Checked,
    GroupedCommand,
    Number,
    SpelledOption,
    console,
    print_json,
    repeat_command,
)
from causalft.errors import CausalFTError
from causalft.runs import limits
from causalft.runs.folder import read_json

__all__ = ["RATIO", "command", "parse_ratio"]


def parse_ratio(text: str) -> float:
    """Read ``90:10``, ``0.9`` or ``90%`` as the majority's share.

    Examples
    --------
    >>> parse_ratio("90:10"), parse_ratio("0.8"), parse_ratio("3:1")
    (0.9, 0.8, 0.75)
    """
    try:
        if ":" in text:
            first, second = (float(part) for part in text.split(":"))
            value = first / (first + second)
            if not (0 <= first < float("inf") and 0 <= second < float("inf")):
                raise ValueError("a part below zero")
        elif text.endswith("%"):
            value = float(text[:-1]) / 100
        else:
            value = float(text)
        return float(limits.SHARE.check(value, "the ratio"))
    except (ValueError, ZeroDivisionError):
        raise CausalFTError(
            f"{limits.shown(text)} is not a ratio of two parts; write it as 90:10 or 0.9"
        ) from None


RATIO = Checked("ratio", parse_ratio)
"""The majority's share of a set, written as a ratio or as a number."""


_GROUPS = {
    "Options that matter first": (
        "design",
        "quick",
        "n_per_class",
        "seeds",
        "out",
        "generator",
        "curve",
        "json_mode",
    ),
    "Design": ("classes", "ratio", "strength"),
    "Training": ("backbone", "adjust", "first_seed"),
    "Stable Diffusion (with --generator stable-diffusion)": GENERATOR_GROUP,
}


@click.command("verify-confounder", cls=GroupedCommand, groups=_GROUPS)
@click.option(
    "--design",
    type=FILE,
    default="confounded",
    show_default=True,
    metavar="NAME|FILE|all",
    help="confounded, paper, selection, null, label-noise, a .yaml file of your own, or all of the five side by side.",
)
@click.option(
    "--classes", type=NAMES, metavar="A,B,...", help="At least two class names.  [default: all six]"
)
@click.option(
    "--n-per-class",
    type=Number(limits.PICTURES_PER_CLASS),
    help="Pictures of each class in each set.  [default: 100 for paper, else 600; 200 with --quick]",
)
@click.option(
    "--ratio", type=RATIO, help="Majority to minority value of C within a class of B.  [default: 90:10]"
)
@click.option(
    "--strength",
    type=Number(limits.STRENGTH),
    help="The same as a number from 0 to 1: 2 * ratio - 1.  [default: 0.8]",
)
@click.option(
    "--seeds",
    type=Number(limits.SEEDS),
    help="Number of replications.  [default: 3; 5 for paper and with --quick]",
)
@click.option(
    "--seed",
    "first_seed",
    cls=SpelledOption,
    former=("--first-seed",),
    type=SEED,
    default=0,
    show_default=True,
    help="Seed of the first replication; the others have the seeds SEED + 1, SEED + 2, ...",
)
@click.option(
    "--backbone",
    type=TEXT,
    metavar="resnet32|resnet20|resnet8",
    help="Network trained from scratch.  [default: resnet32 for paper, else resnet8]",
)
@click.option(
    "--adjust/--no-adjust", default=True, show_default=True, help="Train the adjusted network on B as well."
)
@click.option(
    "--curve", is_flag=True, help="Measure bias and coverage of the estimators against the number of rows."
)
@generator_options
@click.option(
    "--out",
    type=PATH,
    help="Folder of the run.  [default: runs/verify-confounder-DESIGN, numbered if taken]",
)
@click.option("--quick", is_flag=True, help="A smaller experiment.")
@click.option(
    "--json", "json_mode", is_flag=True, help="Print metrics.json, and nothing else, on standard output."
)
def command(design: str, out: Path | None, json_mode: bool, **options: Any) -> None:
    """Is a semantic factor a confounder?

    Draws balanced (A) and unbalanced (B) image sets, trains a network from scratch on each and one adjusted for the
    factor, tests all on both over several seeds, puts the exact truth of the design beside them, and judges: verified,
    shift of C, selection, not detected or inconclusive.
    """
    repeat = repeat_command("out", "json_mode")
    ratio, classes = options.pop("ratio"), options.pop("classes")
    screen = console(json_mode)
    generator = take_options(options)
    folder = out if out is not None else _free_folder(Path("runs"), f"verify-confounder-{Path(design).stem}")
    source = open_from_options(**generator)
    settings = {
        **options,
        "generator": source if source.name != "renderer" else "renderer",
        "classes": None if classes is None else list(classes),
        "ratio": ratio,
        "command": repeat,
    }
    if design == "all":
        from causalft.pipelines.pages.side_by_side import table_rows, what_follows_from
        from causalft.pipelines.workflows.verify_confounder import verify_all_designs

        results = verify_all_designs(folder, **settings)
        if json_mode:
            print_json(read_json(folder / "metrics.json"))
            return
        _show_all(screen, table_rows(results), what_follows_from(results))
    else:
        from causalft.pipelines.workflows.verify_confounder import verify_confounder

        result = verify_confounder(design, out=folder, **settings)
        if json_mode:
            print_json(read_json(folder / "metrics.json"))
            return
        _show(screen, result.metrics())
    screen.print(f"report: {folder / 'report.html'}", soft_wrap=True)


def _show(screen: Any, metrics: dict[str, Any]) -> None:
    from rich.table import Table

    from causalft.analysis.confounding.words import TEST_NAMES, estimand, explain_sets, verdict_line
    from causalft.pipelines.pages.confounder import GAPS, closed_sentence, interval
    from causalft.scm.intervals import p_words

    seeds = len(metrics["seeds"])
    how = f"{metrics['backbone']}{' (quick)' if metrics['quick'] else ''}, {seeds} seed{'s' if seeds > 1 else ''}"
    cells = Table(
        "", "tested on A", "tested on B", title=f"Accuracy, % [95 % interval]; {how}", title_justify="left"
    )
    for model, name in (("A", "trained on A"), ("B", "trained on B"), ("adjusted", "B, adjusted for C")):
        if f"{model}->A" in metrics["cells"]:
            found = (metrics["cells"][f"{model}->{t}"] for t in "AB")
            cells.add_row(name, *(interval(cell["mean"], cell["ci95"]) for cell in found))
    truth = Table(
        "estimator",
        "to P(Y|do(X))",
        "to P(Y|X)",
        title="Total variation to the truth, points",
        title_justify="left",
    )
    for name, found in metrics["estimates"].items():
        truth.add_row(
            name, interval(found["tv_to_truth"], found["ci95"]), f"{100 * found['tv_to_p_y_given_x']:.1f}"
        )
    tests = Table("test", "found [95 %]", "p (Holm)", title="Tests", title_justify="left")
    tests.columns[1].no_wrap = tests.columns[2].no_wrap = True
    for name, test in metrics["tests"].items():
        if "p_holm" not in test and name not in GAPS:
            continue
        p = test.get("p_holm", test["p"])
        nats = name in ("c_to_x", "c_to_y")
        value = f"{test['estimate']:.3f} nats" if nats else interval(test["estimate"], test["ci95"])
        tests.add_row(f"{name}: {TEST_NAMES[name]}", value, p_words(p))
    screen.print(f"Is the part in view a confounder? Design {metrics['design']}:")
    for line in explain_sets(metrics):
        screen.print(line)
    screen.print(estimand(metrics))
    screen.print(cells)
    screen.print(truth)
    screen.print(tests)
    if closed := closed_sentence(metrics):
        screen.print(closed)
    for note in metrics["notes"]:
        screen.print(f"note: {note}")
    screen.print(f"verdict: {verdict_line(metrics)}", style="bold")
    screen.print(f"{metrics['seconds']:.0f} seconds")


def _show_all(screen: Any, rows: list[list[str]], paragraph: str) -> None:
    from rich.table import Table

    from causalft.pipelines.pages.side_by_side import COLUMNS

    table = Table(*COLUMNS, title="The designs side by side", title_justify="left")
    for row in rows:
        table.add_row(*row)
    screen.print(table)
    screen.print(paragraph)


def _free_folder(parent: Path, name: str) -> Path:
    """The first of name, name-2, name-3, ... that holds no complete run (an interrupted one is resumed)."""
    number = 1
    while True:
        folder = parent / (name if number == 1 else f"{name}-{number}")
        if not (folder / "metrics.json").exists():
            return folder
        number += 1
