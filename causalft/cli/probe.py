"""``causalft probe``: how good frozen features are, by their neighbours and by heads trained on them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from causalft.cli.data_options import DATA_HELP, data_options, refuse_idle_splits, split_options
from causalft.cli.options import (
    DATA_GROUP,
    DEVICE,
    FILE,
    NAMES,
    PATH,
    SEED,
    SPLIT_GROUP,
    TEXT,
    GroupedCommand,
    Number,
    Numbers,
    SpelledOption,
    console,
    print_json,
    refuse_given,
)
from causalft.cli.repeat import repeat_command
from causalft.cli.strata_options import strata_options
from causalft.runs import limits
from causalft.runs.locks import locked
from causalft.runs.progress import phase

__all__ = ["command"]


_GROUPS = {
    "Options that matter first": (
        "data",
        "zoo",
        "strata",
        "out",
        "k",
        "losses",
        "heads",
        "seeds",
        "device",
        "as_json",
    ),
    "Data": (*DATA_GROUP, *SPLIT_GROUP),
    "Strata": ("weights", "offline", "allow_pickle", "template", "precision"),
    "Heads": ("lr", "epochs", "batch_size", "head_scale", "seed"),
    "Output": ("cache",),
}


@click.command("probe", cls=GroupedCommand, groups=_GROUPS)
@strata_options
@click.option("--data", type=FILE, default="creatures-lt", show_default=True, help=DATA_HELP)
@data_options
@click.option(
    "--k",
    "k",
    type=Numbers(limits.NEIGHBOURS),
    default="1,5,20",
    show_default=True,
    help="Numbers of neighbours, none above that of the training images; one is chosen on validation.",
)
@click.option(
    "--losses",
    cls=SpelledOption,
    former=("--loss",),
    type=NAMES,
    default="CE,LA",
    show_default=True,
    help="Losses of the heads: CE, Focal, LDAM, CB, GRW, BS, LA, LADE, GLA-Train; none for neighbours alone.",
)
@click.option(
    "--heads",
    cls=SpelledOption,
    former=("--head",),
    type=NAMES,
    default="cosine",
    show_default=True,
    help="Kinds of heads: cosine, linear, l2, layernorm.",
)
@click.option(
    "--lr",
    type=Numbers(limits.LEARNING_RATE),
    help="Learning rate of the heads; with several (0.01,0.05) each head's is chosen on validation. "
    "Default: 0.05 for minis, 0.01 for pretrained.",
)
@click.option("--epochs", type=Number(limits.EPOCHS), help="[default: 10]")
@click.option("--batch-size", type=Number(limits.BATCH_SIZE), help="Images of a step.  [default: 128]")
@click.option(
    "--head-scale", type=Number(limits.HEAD_SCALE), help="Inverse temperature of the heads.  [default: 25]"
)
@click.option(
    "--template",
    type=TEXT,
    metavar="TEXT|NAME|FILE",
    help="Prompt of a class, as for `fit`.  [default: a photo of a {}.]",
)
@click.option(
    "--precision",
    type=TEXT,
    metavar="auto|fp32|bf16|fp16",
    help="Of the frozen tower, as for `fit`.  [default: auto]",
)
@split_options
@click.option("--seed", type=SEED, default=0, show_default=True, help="Draws the long tail.")
@click.option(
    "--seeds",
    type=Number(limits.SEEDS),
    default=5,
    show_default=True,
    help="Trainings of each head, with seeds SEED, SEED+1, ...",
)
@click.option("--cache/--no-cache", default=True, show_default=True, help="Keep the features for later runs.")
@click.option("--device", type=DEVICE, default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--out",
    type=PATH,
    help="Folder for metrics.json and the report; without it, only shown.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print the metrics and nothing else on standard output."
)
@locked("out")
def command(out: Path | None, as_json: bool, **options: Any) -> None:
    """Ask what the frozen features of each stratum can do before anything of the towers is tuned.

    Neighbours by cosine need no head, so they show the features themselves; heads are trained for every loss and seed.
    All choices are made on validation images, the test images are scored once, and D groups go by training images.

    \b
    causalft probe --losses CE,LA,BS,LDAM
    causalft probe --data photos/ --strata openclip --out runs/probe
    """
    from causalft.pipelines.workflows.settings import config_of
    from causalft.runs.folder import Run

    refuse_idle_splits(options)
    if _is_none(options["losses"]):
        trained = ("heads", "lr", "epochs", "batch_size", "head_scale", "seeds")
        refuse_given(trained, "is for heads, and --losses none trains none")
    settings = _settings(options).absolute()
    settings.check()
    settings.fit.check_names()
    if out is not None:
        Run.check(out, kind="probe")

    with phase("loading libraries"):
        from causalft.pipelines.pages.probe import write_probe_report
        from causalft.pipelines.workflows.probe import probe

    screen = console(as_json)
    # What cannot be written is said before anything is computed.
    run = None if out is None else Run.create(out, kind="probe", config=config_of(settings))
    metrics = probe(settings, say=lambda line: screen.print(line, style="dim", soft_wrap=True))
    if run is not None:
        write_probe_report(run, metrics, repeat_command("as_json"))
        run.finish(metrics)
    if as_json:
        print_json(metrics)
    else:
        _print(screen, metrics)
    if run is not None:
        screen.print(f"report: {run.path / 'report.html'}", soft_wrap=True)


def _is_none(losses: tuple[str, ...]) -> bool:
    return [loss.lower() for loss in losses] == ["none"]


def _settings(options: dict[str, Any]) -> Any:
    """Turn the options into :class:`causalft.pipelines.workflows.probe.ProbeSettings`."""
    from causalft.models.tuning.choices import own_spelling
    from causalft.pipelines.workflows.settings import FitSettings, ProbeSettings

    given = dict(options)
    given["n_seeds"] = given.pop("seeds")
    rates = given.pop("lr") or ()
    names = ("epochs", "batch_size", "head_scale", "template", "precision")
    tuning: dict[str, Any] = {name: value for name in names if (value := given.pop(name)) is not None}
    k, heads, named = given.pop("k"), given.pop("heads"), given.pop("losses")
    losses = [] if _is_none(named) else [own_spelling(loss) for loss in named]
    fit = FitSettings(
        learning_rates=rates if len(rates) > 1 else (),
        **given,
    )
    if rates:
        tuning["lr"] = rates[0]
    fit = replace(fit, tuning=replace(fit.tuning, **tuning))
    return ProbeSettings(
        fit=fit,
        k=k,
        losses=tuple(losses),
        heads=heads,
    )


def _print(screen: Any, metrics: dict[str, Any]) -> None:
    from rich.table import Table

    from causalft.pipelines.pages.probe import COLUMNS, probe_cells, probe_rows, probe_sentences

    n_seeds = len(metrics["seeds"])
    title = f"Accuracy (%) on {metrics['data']['n_test']} test images"
    if any(found["heads"] for found in metrics["strata"].values()):
        title += f", heads of {n_seeds} seed{'' if n_seeds == 1 else 's'}"
    table = Table(title=title, title_justify="left", caption_justify="left", box=None, pad_edge=False)
    for index, column in enumerate(COLUMNS):
        if index < 2:
            table.add_column(column, overflow="fold")
        else:
            table.add_column(column, justify="right", no_wrap=True)
    before = None
    for row in probe_rows(metrics):
        if before not in (None, row[0]):
            table.add_section()
        table.add_row(*probe_cells(row))
        before = row[0]
    table.caption = "D: by training images (> 100, 20 to 100, < 20). *: the head that validation chose."
    screen.print(table)
    screen.print()
    for line in probe_sentences(metrics):
        screen.print(line)
