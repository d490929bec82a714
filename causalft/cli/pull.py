"""``causalft pull``: a fitted run from a model hub, or from a folder of the same layout."""

from __future__ import annotations

from pathlib import Path

import click

from causalft.cli.options import FILE, PATH, TEXT, SpelledOption, console, name_value_pairs

__all__ = ["command"]


@click.command("pull")
@click.argument("source", type=FILE)
@click.option(
    "--to", cls=SpelledOption, former=("--out",), required=True, type=PATH, help="A new folder for the run."
)
@click.option("--revision", type=TEXT, help="Branch, tag or commit of the repository; the newest by default.")
@click.option(
    "--weights",
    type=TEXT,
    multiple=True,
    metavar="NAME=FILE",
    help="A local weights file of a stratum of the pretrained zoo; repeat for several.",
)
@click.option(
    "--data",
    type=FILE,
    help="Where the images of the run lie here, so that evaluate scores its test split alone.",
)
def command(source: str, to: Path, revision: str | None, weights: tuple[str, ...], data: str | None) -> None:
    """Fetch the run SOURCE: OWNER/NAME on the Hugging Face hub, or a folder that `push --to-folder` wrote.

    Every file is checked against the manifest of hashes, pickles and links out of the folder are refused, the page
    (report.html) stays behind, and nothing else is kept.
    """
    from causalft.pipelines.hub import pull

    run = pull(source, to, revision=revision, data=data, weights=name_value_pairs(weights, "--weights"))
    strata = ", ".join(run.config["strata"])
    console().print("report.html is not installed: a page from elsewhere may hold anything", style="dim")
    console().print(f"{run.path}: {strata}, {len(run.metrics['classes'])} classes", soft_wrap=True)
