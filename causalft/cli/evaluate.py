"""``causalft evaluate``: score a fitted run on labelled images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table
from rich.text import Text

from causalft.analysis.diagnosis import count, points
from causalft.analysis.diagnosis.classes import worst_classes_line
from causalft.cli.layers import layer_options
from causalft.cli.options import DEVICE, FILE, PATH, GroupedCommand, Number, console, options_of, print_json
from causalft.cli.sensitivity import print_table
from causalft.data.settings import DATA, DataOptions
from causalft.runs import limits
from causalft.runs.progress import phase

if TYPE_CHECKING:
    from rich.console import Console

    from causalft.analysis.diagnosis import Diagnosis, ModelScore
    from causalft.analysis.diagnosis.classes import ClassReport

__all__ = ["WORDS", "accuracy_table", "command", "cross_table", "print_diagnosis"]


_GROUPS = ("many", "medium", "few")

WORDS = (
    "stratum = one foundation model; P-many / P-few = the 30 % of classes its pre-training favoured most / the 40 % it "
    "favoured least"
)


def print_diagnosis(console: Console, diagnosis: Diagnosis, worst: Sequence[ClassReport] = ()) -> None:
    """Print the tables of a diagnosis and its conclusion.

    Parameters
    ----------
    console : rich Console
    diagnosis : Diagnosis
    worst : sequence of ClassReport
        The worst classes, for the last line.
    """
    console.print(Text(WORDS, style="dim"))
    console.print()
    tables = [accuracy_table(diagnosis), cross_table(diagnosis)]
    if diagnosis.controls:
        tables.append(_control_table(diagnosis))
    for table in tables:
        console.print(table)
        console.print()
    first, *rest = diagnosis.conclusion()
    console.print(Text(first, style="bold"))
    for sentence in rest:
        console.print(Text(sentence))
    if line := worst_classes_line(worst):
        console.print(Text(line))


def accuracy_table(found: Diagnosis, *, with_data: bool = True) -> Table:
    """Accuracy of every stratum and of the fusion, overall and by group; ``with_data`` shows D groups."""
    mean = "" if found.balanced_test else "; all: mean over classes"
    table = _table(
        f"Accuracy (%) on {found.n} test images, {count(found.n_seeds, 'seed')}{mean}", "model", "all", "95 %"
    )
    of_data = [f"D-{g}" for g in _GROUPS] if with_data else []
    for name in (*of_data, "", *(f"P-{g}" for g in _GROUPS)):
        table.add_column(name, justify="right", no_wrap=True)

    def data_cells(score: ModelScore) -> list[str]:
        return _cells(score.D) if with_data else []

    for name, score in found.strata.items():
        table.add_row(name, *_overall(score), *data_cells(score), "", *_cells(score.P[name]))
    table.add_section()
    for index, prior in enumerate(found.priors):
        data = (
            (*_overall(found.fused), *data_cells(found.fused)) if index == 0 else ("",) * (2 + len(of_data))
        )
        table.add_row(f"fused, P by {prior}", *data, "", *_cells(found.fused.P[prior]), style="bold")
    legend = "D: by training images (> 100, 20 to 100, < 20). " if with_data else ""
    words = " or ".join(sorted(set(found.prior_from.values()) or {"estimated"}, reverse=True))
    table.caption = f"{legend}P: by the {words} pre-training prior."
    return table


def cross_table(found: Diagnosis) -> Table:
    """P gap of every model on the groups of every prior."""
    table = _table("P-many minus P-few (points): model by prior", "model")
    for prior in found.priors:
        table.add_column(f"prior of {prior}", justify="right", overflow="fold")
    for model, row in found.gap.items():
        if model == "fused":
            table.add_section()
        cells = [
            Text(points(gap, missing="-"), style="bold" if model in (prior, "fused") else "")
            for prior, gap in row.items()
        ]
        table.add_row(model, *cells)
    table.caption = (
        "Diagonal: a model on the groups of its own prior. The rest of a column: class difficulty."
    )
    return table


def _control_table(found: Diagnosis) -> Table:
    columns = ("accuracy", "gain over\nmean member", "gap before", "gap after")
    table = _table("The same fusion over one prior", "models fused", *columns)
    table.columns[0].max_width = 13  # keeps intervals on one line of 80 columns
    gap = found.own_minus_off_gap
    gain = found.paired["fused_minus_mean_single"]
    rows = [("strata", found.fused, gain, gap)]
    rows += [
        (f"{_of_kind(name, c.kind)}: {', '.join(c.member_accuracy)}", c.score, c.gain, c.own_minus_off_gap)
        for name, c in found.controls.items()
    ]
    for label, score, gained, measure in rows:
        accuracy = f"{100 * score.class_mean.estimate:.1f}"
        intervals = (points(value, missing="-") for value in (gained, measure.before, measure.after))
        table.add_row(label, accuracy, *intervals)
    table.caption = "gap: points beyond class difficulty, in the single models and after their fusion."
    return table


def _of_kind(name: str, kind: str | None) -> str:
    return name if kind is None else f"{name} of {kind}"


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left", box=None, pad_edge=False)
    table.add_column(first, overflow="fold")  # names may wrap, numbers may not
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _overall(score: ModelScore) -> tuple[str, str]:
    accuracy, _, interval = points(score.class_mean).partition(" ")
    return accuracy.rstrip(","), interval.strip("[]").replace(", ", "-")


def _cells(groups: dict[str, float | None]) -> list[str]:
    return ["-" if value is None else f"{100 * value:.1f}" for value in (groups[g] for g in _GROUPS)]


@click.command(
    "evaluate",
    cls=GroupedCommand,
    groups={
        "Options that matter first": ("data", "sets", "device", "precision", "merge_tokens", "as_json"),
        "Data": (),
    },
)
@click.argument("run", type=PATH)
@click.option("--data", type=FILE, required=True, help=DATA)
@options_of(DataOptions, "data_options")
@click.option(
    "--sets",
    type=Number(limits.COVERAGE),
    metavar="SHARE",
    help="Also give coverage and size of prediction sets for this coverage (0.9, say) by D and P group.",
)
@click.option("--device", type=DEVICE, default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@layer_options("Its cost on validation images is given.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the metrics and nothing else on standard output."
)
def command(
    run: Path,
    data: str,
    data_options: DataOptions,
    sets: float | None,
    device: str,
    precision: str | None,
    merge_tokens: int,
    as_json: bool,
) -> None:
    """Score RUN, the folder of a fit, on labelled images: every stratum, the fusion, and the groups.

    Scores the test split of the data that the run was fitted on, the test folder of other data that have one, and
    all images of any other set.
    """
    from causalft.methods.estimators.run_documents import open_fit

    opened = open_fit(run)  # refused before PyTorch is imported

    with phase("loading libraries"):
        from causalft.pipelines.workflows.evaluate import evaluate

    found = evaluate(
        opened,
        data,
        device=device,
        data_options=data_options.given(),
        sets=sets,
        precision=precision,
        merge_tokens=merge_tokens,
    )
    if as_json:
        also = {} if found.sets is None else {"sets": found.sets}
        also |= {} if found.merging is None else {"token_merging": found.merging.to_dict()}
        print_json({"data": found.data, "notes": found.notes, **found.diagnosis.to_metrics(), **also})
        return
    screen = console()
    screen.print(f"{found.data}, scored by {run}", style="dim")
    for note in found.notes:
        screen.print(f"note     {note}", style="bold", soft_wrap=True)
    if found.merging is not None:
        screen.print(f"note     {found.merging.sentence()} (validation images)", soft_wrap=True)
    print_diagnosis(screen, found.diagnosis)
    if found.sets is not None:
        from causalft.pipelines.pages.sensitivity import coverage_table

        screen.print()
        for note in found.sets["notes"]:
            screen.print(f"note     {note}", style="dim", soft_wrap=True)
        print_table(screen, coverage_table({"sets": found.sets}, found.data))
