"""The plan of a fit, printed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from causalft.runs.resources import size_words

if TYPE_CHECKING:
    from rich.console import Console

    from causalft.pipelines.workflows.plan import FitPlan
    from experiments.frame.networks import NetworkPlan, NetworkRow

__all__ = ["duration", "print_networks", "print_plan"]


def duration(seconds: float) -> str:
    """Return a time in words.

    Examples
    --------
    >>> duration(0.2), duration(75), duration(600), duration(9000)
    ('1 s', '75 s', '10 minutes', '2.5 hours')
    """
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def print_plan(screen: Console, plan: FitPlan) -> None:
    """Print a plan: images, a row for each member, the sums, what is missing."""
    from rich.table import Table

    for sizes in list(plan.images.values())[:1]:
        seeds = "1 seed" if len(plan.images) == 1 else f"{len(plan.images)} seeds of as many images each"
        unlabelled = f", {sizes.unlabelled:,} unlabelled images" if sizes.unlabelled else ""
        screen.print(
            f"data     {plan.data}: {sizes.train:,} training, {sizes.validation:,} validation and {sizes.test:,} test "
            f"images of {sizes.classes:,} classes{unlabelled}; {seeds}",
            soft_wrap=True,
        )
    for note in plan.notes:
        screen.print(f"note     {note}", soft_wrap=True)
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("model")
    table.add_column("weights")
    for column in ("seeds left", "steps", "trained", "TFLOP", "memory", "time"):
        table.add_column(column, justify="right")
    for member in plan.members:
        left = f"{member.runs - member.finished} of {member.runs}"
        if member.cost is None or member.flops is None or member.seconds is None:
            table.add_row(member.name, member.weights, left, "-", "-", "-", "-", "-")
            continue
        table.add_row(
            member.name,
            member.weights,
            left,
            f"{member.steps:,}",
            f"{member.cost.n_tuned:,}",
            f"{member.flops / 1e12:,.3g}",
            size_words(member.device_bytes or member.memory_bytes or 0),
            duration(member.seconds),
        )
    screen.print(table)
    if plan.seconds is not None and plan.flops is not None:
        screen.print(
            f"time     about {duration(plan.seconds)} on {plan.device}, from two batches of each architecture; "
            "evaluation and pages are not counted",
            soft_wrap=True,
        )
    if plan.memory_bytes is not None:
        on_device = f", and {size_words(plan.device_bytes)} on {plan.device}" if plan.device_bytes else ""
        screen.print(f"memory   up to {size_words(plan.memory_bytes)}{on_device} while a model is tuned")
    if plan.disk_bytes is not None and plan.cache_bytes is not None:
        cache = f"; feature cache {size_words(plan.cache_bytes)}" if plan.cache_bytes else ""
        screen.print(
            f"disk     {size_words(plan.disk_bytes)} in {plan.out} ({size_words(plan.free_bytes)} free){cache}",
            soft_wrap=True,
        )
    for line in plan.missing or ("nothing",):
        screen.print(f"missing  {line}", soft_wrap=True)
    screen.print("nothing was written")


def print_networks(screen: Console, plan: NetworkPlan) -> None:
    """Print the networks of an experiment on A/B sets: a row for each case, and the sum."""
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("case", "network"):
        table.add_column(column)
    for column in ("networks left", "images", "tested on", "pixels", "steps", "TFLOP"):
        table.add_column(column, justify="right")
    for row in plan.rows:
        left = f"{_left(row)} of {row.networks}"
        counts = (f"{row.images:,}", f"{row.tested:,}", f"{row.side} x {row.side}", f"{row.steps:,}")
        table.add_row(row.name, row.backbone, left, *counts, f"{row.flops / 1e12:,.3g}")
    still, whole = sum(map(_left, plan.rows)), sum(row.networks for row in plan.rows)
    total = sum(row.flops for row in plan.rows)
    table.add_row("in all", "", f"{still} of {whole}", "", "", "", "", f"{total / 1e12:,.3g}")
    screen.print(table)
    screen.print("nothing was written")


def _left(row: NetworkRow) -> int:
    return row.networks - row.finished
