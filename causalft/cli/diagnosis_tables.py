"""A diagnosis on the terminal: groups, cross-table, controls, and the conclusion last, where the eye rests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console

    from causalft.diagnosis import Diagnosis, Interval, ModelScore

__all__ = ["print_diagnosis"]

_GROUPS = ("many", "medium", "few")


def print_diagnosis(console: Console, diagnosis: Diagnosis) -> None:
    """Print the tables of a diagnosis and its conclusion.

    Parameters
    ----------
    console : rich Console
    diagnosis : Diagnosis
    """
    tables = [_accuracy_table(diagnosis), _cross_table(diagnosis)]
    if diagnosis.controls:
        tables.append(_control_table(diagnosis))
    for table in tables:
        console.print(table)
        console.print()
    first, *rest = diagnosis.conclusion()
    console.print(Text(first, style="bold"))
    for sentence in rest:
        console.print(Text(sentence))


def _accuracy_table(found: Diagnosis) -> Table:
    table = _table(f"Accuracy (%) on {found.n} test images, {found.n_seeds} seed(s)", "model", "all", "95 %")
    for name in (*(f"D-{g}" for g in _GROUPS), "", *(f"P-{g}" for g in _GROUPS)):
        table.add_column(name, justify="right")
    for name, score in found.strata.items():
        table.add_row(name, *_overall(score), *_cells(score.D), "", *_cells(score.P[name]))
    table.add_section()
    for index, prior in enumerate(found.priors):
        data = (*_overall(found.fused), *_cells(found.fused.D)) if index == 0 else ("",) * 5
        table.add_row(f"fused, P by {prior}", *data, "", *_cells(found.fused.P[prior]), style="bold")
    table.caption = "D: by training images (> 100, 20 to 100, < 20). P: by the estimated pre-training prior."
    return table


def _cross_table(found: Diagnosis) -> Table:
    table = _table("P-many minus P-few (points): model by prior", "model")
    for prior in found.priors:
        table.add_column(f"prior of {prior}", justify="right")
    for model, row in found.gap.items():
        if model == "fused":
            table.add_section()
        cells = [
            Text(_points(gap), style="bold" if model in (prior, "fused") else "")
            for prior, gap in row.items()
        ]
        table.add_row(model, *cells)
    table.caption = (
        "Diagonal: a model on the groups of its own prior. The rest of a column: class difficulty."
    )
    return table


def _control_table(found: Diagnosis) -> Table:
    table = _table("The same fusion over one prior", "fused", "accuracy", "gain over its mean member")
    for name in ("own gap beyond difficulty, single", "fused"):
        table.add_column(name, justify="right")
    gap = found.own_minus_off_gap
    gain = found.paired["fused_minus_mean_single"]
    rows = [("strata", found.fused, gain, gap)]
    rows += [
        (f"control {name}: {', '.join(c.member_accuracy)}", c.score, c.gain, c.own_minus_off_gap)
        for name, c in found.controls.items()
    ]
    for label, score, gained, measure in rows:
        accuracy = f"{100 * score.accuracy.estimate:.1f}"
        table.add_row(label, accuracy, _points(gained), _points(measure.before), _points(measure.after))
    return table


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left", box=None, pad_edge=False)
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _overall(score: ModelScore) -> tuple[str, str]:
    value = score.accuracy
    return f"{100 * value.estimate:.1f}", f"{100 * value.low:.1f}-{100 * value.high:.1f}"


def _cells(groups: dict[str, float | None]) -> list[str]:
    return ["-" if value is None else f"{100 * value:.1f}" for value in (groups[g] for g in _GROUPS)]


def _points(value: Interval) -> str:
    if not value.exists:
        return "-"
    return f"{100 * value.estimate:.1f} [{100 * value.low:.1f}, {100 * value.high:.1f}]"
