"""``causalft data``: inspect a set of images before fitting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from causalft.cli.options import FILE, Number, VerbGroup, console, options_of, print_json
from causalft.data.settings import DataOptions, SplitCounts
from causalft.runs import limits
from causalft.runs.limits import BUILT_IN

if TYPE_CHECKING:
    from rich.console import Console

    from causalft.data.image_set import ImageSet
    from causalft.data.summary import Overview

__all__ = ["command"]


@click.group("data", cls=VerbGroup)
def command() -> None:
    """Inspect sets of labelled images."""


@command.command("show")
@click.argument("path", type=FILE)
@options_of(DataOptions, "data_options")
@click.option("--drop-empty-classes", is_flag=True, help="Leave classes without an image out.")
@options_of(SplitCounts, "counts")
@click.option(
    "--imbalance-factor",
    type=Number(limits.IMBALANCE_FACTOR),
    help="CIFAR only: resample the training part to CIFAR-LT.",
)
@click.option(
    "--check", is_flag=True, help="Read every image and list the damaged ones; exit code 1 if there are any."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document and nothing else on standard output."
)
def show(
    path: str,
    data_options: DataOptions,
    counts: SplitCounts,
    drop_empty_classes: bool,
    imbalance_factor: float | None,
    check: bool,
    as_json: bool,
) -> None:
    """Show how PATH is read, and what fit would do with it.

    Format, classes, splits, imbalance, groups and skipped files; how fit would split it, and what will be uncertain.

    \b
    causalft data show photos/
    causalft data show ImageNet_LT/ --root imagenet/ --class-names synsets.txt
    causalft data show labels.csv --check
    """
    from causalft.data.image_set import damaged_images
    from causalft.data.summary import overview, plan_for_fit

    images = _open(path, drop_empty_classes, imbalance_factor, data_options.given())
    found = overview(images)
    plan = plan_for_fit(images, **vars(counts))
    damaged = damaged_images(images) if check else {}
    if as_json:
        document = {**found.to_dict(), "fingerprint": images.fingerprint, "fit": plan}
        print_json({**document, "damaged": damaged} if check else document)
    else:
        screen = console()
        _print(screen, found)
        _print_plan(screen, plan)
        if check:
            _print_damaged(screen, damaged, len(images))
    if damaged:
        click.get_current_context().exit(1)


def _open(
    path: str, drop_empty_classes: bool, imbalance_factor: float | None, options: dict[str, Any]
) -> ImageSet:
    """Open a path or the built-in set."""
    from causalft.data.opening import open_images
    from causalft.errors import CausalFTError

    if path not in BUILT_IN:
        return open_images(
            path,
            drop_empty_classes=drop_empty_classes,
            min_classes=1,
            imbalance_factor=imbalance_factor,
            **options,
        )
    given = [*options, *(["imbalance_factor"] if imbalance_factor else [])]
    if given:
        raise CausalFTError(f"--{given[0].replace('_', '-')} is for your own images; {path} is built in")
    from causalft.data.creatures import creatures_images

    return creatures_images(path)


def _print(screen: Console, found: Overview) -> None:
    from rich.table import Table

    screen.print(f"{found.name}: {found.n_images:,} images of {found.n_classes:,} classes", style="bold")
    screen.print(f"format     {found.format}, {found.location}", soft_wrap=True)
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("split")
    for column in ("images", "classes", "largest", "smallest", "imbalance"):
        table.add_column(column, justify="right")
    for split in found.splits or ("all",):
        counts = [row[split] for row in found.class_counts.values()]
        held = [count for count in counts if count]
        table.add_row(
            split,
            f"{sum(counts):,}",
            f"{len(held):,}",
            f"{max(held):,}",
            f"{min(held):,}",
            f"{max(held) / min(held):.4g}",
        )
    screen.print(table)
    part = "training images" if "train" in found.splits else "images"
    groups = found.groups
    screen.print(
        f"groups     {groups['many']} many (over 100 {part}), {groups['medium']} medium, {groups['few']} few (under 20)"
    )
    sizes = found.by_size()
    screen.print("largest    " + ", ".join(f"{name} {n:,}" for name, n in sizes[:5]), soft_wrap=True)
    screen.print("smallest   " + ", ".join(f"{name} {n:,}" for name, n in sizes[::-1][:5]), soft_wrap=True)
    if found.factors:
        values = list(found.factors.items())
        more = f", ... ({len(values)} values)" if len(values) > 8 else ""
        screen.print(
            "factor     " + ", ".join(f"{value} {n:,}" for value, n in values[:8]) + more, soft_wrap=True
        )
    for note in found.notes:
        screen.print(f"note       {note}", soft_wrap=True)


def _print_plan(screen: Console, plan: dict[str, Any]) -> None:
    from rich.table import Table

    screen.print()
    if plan["refused"]:
        screen.print(f"fit        would refuse this: {plan['refused']}", soft_wrap=True)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("fit would use")
    for column in ("classes", "training", "validation", "test", "tested", "± points"):
        table.add_column(column, justify="right")
    for row in plan["groups"]:
        width = row["uncertainty"]
        numbers = [row[name] for name in ("classes", "train", "validation", "test")]
        table.add_row(
            row["name"],
            *(f"{number:,}" for number in numbers),
            f"{row['tested']:,}",
            "-" if width is None else f"{100 * width:.0f}",
        )
    screen.print(table)
    screen.print(
        "many, medium, few: by training images. tested: classes with a test image. ± points: half the 95 % interval of "
        "an accuracy of 50 %.",
        style="dim",
    )
    for sentence in (*plan["notes"], *plan["sentences"]):
        screen.print(f"fit        {sentence}", soft_wrap=True)


def _print_damaged(screen: Console, damaged: dict[str, str], total: int) -> None:
    if not damaged:
        screen.print(f"check      all {total:,} images can be read")
        return
    screen.print(f"check      {len(damaged):,} of {total:,} images cannot be read:")
    for reason in damaged.values():
        screen.print(f"  {reason}", soft_wrap=True)
