"""``causalft card``: the model card of a fitted run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from causalft.cli.options import PATH, TEXT
from causalft.errors import CausalFTError
from causalft.runs.locks import writing

if TYPE_CHECKING:
    from causalft.runs.folder import Run

__all__ = ["card_of", "command"]


@click.command("card")
@click.argument("run", type=PATH)
@click.option("--out", type=PATH, help="Write it here, as in README.md; printed by default.")
@click.option(
    "--license", "licence", type=TEXT, help="The hub's name of this model's licence, as in mit or cc-by-4.0."
)
def command(run: Path, out: Path | None, licence: str | None) -> None:
    """Write the model card of RUN, the folder of a fit: data, weights, groups, cost, limits, how to repeat it."""
    from causalft.methods.estimators.run_documents import open_fit
    from causalft.runs.folder import check_place, write_text

    if out is not None:
        check_place(out)
    text = card_of(open_fit(run), licence=licence)
    if out is None:
        click.echo(text, nl=False)
    else:
        with writing(out):
            click.echo(f"card     {write_text(out, text)}", err=True)


def card_of(
    run: Run, *, repo: str | None = None, licence: str | None = None, stored: str | None = None
) -> str:
    """The card of a complete run; paths of this machine are cut to their last part.

    ``stored`` says in what precision the tuned tensors go out, if it is not that of the run's own files.
    """
    from causalft.methods.estimators.run_documents import portable, stored_precision
    from causalft.pipelines.pages.model_card import model_card
    from causalft.pipelines.workflows.repeat import fit_command

    if stored is None and (kept := stored_precision(run)):
        stored = f"{kept}, and used in float32"
    name = repo.rpartition("/")[2] if repo else os.path.basename(os.path.abspath(run.path))
    repeat = fit_command(run.config, f"runs/{name}")
    try:
        text = model_card(run.config, run.metrics, command=repeat, repo=repo, licence=licence, stored=stored)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        what = str(error) if isinstance(error, CausalFTError) else f"{type(error).__name__}: {error}"
        raise CausalFTError(
            f"{run.path / 'metrics.json'} is not that of a fit ({what}); make the run again"
        ) from error
    return portable(text, run.config)
