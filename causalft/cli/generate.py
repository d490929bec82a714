"""``causalft generate``: writes the image sets of an A/B design as folders of pictures."""

from __future__ import annotations

from pathlib import Path

import click

from causalft.cli.output import console, print_json
from causalft.cli.verify_confounder import parse_classes, parse_ratio
from causalft.runs import read_json

__all__ = ["command"]


@click.command("generate")
@click.option(
    "--design",
    default="confounded",
    show_default=True,
    metavar="paper|confounded|null",
    help="Law of the factor.",
)
@click.option("--generator", default="renderer", show_default=True, help="Who draws the pictures.")
@click.option("--classes", metavar="A,B,...", help="At least two class names  [default: all six]")
@click.option(
    "--n-per-class", type=int, default=100, show_default=True, help="Pictures of each class in each set."
)
@click.option("--ratio", default="90:10", show_default=True, help="Majority to minority part in the B sets.")
@click.option("--size", type=int, default=48, show_default=True, help="Side of the pictures in pixels.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same bytes.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option(
    "--json", "json_mode", is_flag=True, help="Print metrics.json, and nothing else, on standard output."
)
def command(
    design: str,
    generator: str,
    classes: str | None,
    n_per_class: int,
    ratio: str,
    size: int,
    seed: int,
    out: Path,
    json_mode: bool,
) -> None:
    """Write the four image sets of an A/B design.

    OUT gets A_train, A_test, B_train and B_test, each an ImageFolder (CLASS/00000.png) with a metadata.csv, and one
    metadata.csv over all.
    """
    from synthetic.designs import SETS, make_design
    from synthetic.generate import generate

    laws = make_design(design, parse_classes(classes), parse_ratio(ratio))
    folder = generate(laws, out, n_per_class, seed, generator=generator, size=size)
    metrics = read_json(folder / "metrics.json")
    if json_mode:
        print_json(metrics)
        return
    screen = console(json_mode)
    screen.print(f"design {design}: {laws.meaning}")
    screen.print(f"{metrics['images']} pictures of {size} x {size} in {', '.join(SETS)}", soft_wrap=True)
    screen.print(f"written to {folder}", soft_wrap=True)
