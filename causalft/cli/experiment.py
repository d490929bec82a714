"""``causalft experiment``: list and reproduce tables and figures of the paper."""

from __future__ import annotations

from functools import wraps
from pathlib import Path
from typing import Any

import click

from causalft.cli.options import (
    FILE,
    PATH,
    TEXT,
    Number,
    VerbGroup,
    console,
    name_value_pairs,
    print_json,
)
from causalft.cli.verdict import verdict_command
from causalft.errors import CausalFTError, first_few
from causalft.runs import limits
from causalft.runs.progress import phase

__all__ = ["command"]


_SCALE = (
    "mini: the embedded world; photo: your photographs, with minis pre-trained on half of them; full: a real set and "
    "real weights."
)


def _brought_options(run: Any) -> Any:
    """Options that bring what a scale or an experiment needs, as the mapping ``brought``."""

    @wraps(run)
    def gathered(
        data: Any, zoo: Any, set: Any, weights: tuple[str, ...], offline: bool, **others: Any
    ) -> Any:
        files = name_value_pairs(weights, "--weights")
        brought = {"set": set, "data": data, "zoo": zoo, "weights": files, "offline": offline}
        return run(brought=brought, **others)

    for option in (
        click.option("--data", type=FILE, help="Your images; at the scale full, the folder of the set."),
        click.option(
            "--zoo",
            type=FILE,
            help="Folder made by `causalft zoo pretrain`, for your images. At the scale photo it is made if not given.",
        ),
        click.option(
            "--set", type=TEXT, help="Scale full: imagenet-lt, places-lt, inaturalist, cifar-100-lt."
        ),
        click.option(
            "--weights",
            type=TEXT,
            metavar="NAME=FILE",
            multiple=True,
            help="Scale full: local weights. Repeatable. If names other than clip, openclip, metaclip are among them, "
            "these are the strata.",
        ),
        click.option("--offline", is_flag=True, help="Scale full: never ask the network for weights."),
    )[::-1]:
        gathered = option(gathered)
    return gathered


_FIELDS = ("name", "also", "reproduces", "claim", "scale", "minutes", "command", "seeds", "source")


@click.group("experiment", cls=VerbGroup)
def command() -> None:
    """Reproduce tables and figures of the paper."""


command.add_command(verdict_command)


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else on standard output.")
def list_command(as_json: bool) -> None:
    """List the experiments, with scale and time."""
    from rich.table import Table

    from experiments import EXPERIMENTS

    rows = [{field: getattr(found, field) for field in _FIELDS} for found in EXPERIMENTS.values()]
    if as_json:
        print_json([each for row in rows for each in _by_name(row)])
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("name", no_wrap=True)
    table.add_column("minutes", justify="right")
    table.add_column("what it gives")
    for row in rows:
        words = f"{row['reproduces']}: {row['claim']}\n{row['scale']}\n{row['command']}\n"
        table.add_row("\n".join([row["name"], *row["also"]]), f"{row['minutes']:g}", words)
    console().print(table)


def _by_name(row: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each name of an experiment."""
    names = [row["name"], *row["also"]]
    return [{**row, "name": name, "also": [other for other in names if other != name]} for name in names]


@command.command("run")
@click.argument("name", type=TEXT)
@click.option("--scale", default="mini", type=TEXT, help=_SCALE, show_default=True)
@click.option(
    "--out", type=PATH, help="Run folder; of all, the folder of their runs. Default: runs/NAME, runs."
)
@click.option("--quick", is_flag=True, help="A smaller run, to see that it works.")
@click.option("--long", is_flag=True, help="Of all: also those that take over ten minutes at the scale mini.")
@click.option(
    "--seeds",
    type=Number(limits.SEEDS),
    help="Repetitions. Default: the experiment's own.",
)
@click.option(
    "--jobs",
    type=Number(limits.JOBS),
    help="Processes that train side by side. Default: one per usable processor and 2 GiB of free memory; one on a GPU "
    "and at the scale full.",
)
@_brought_options
@click.option(
    "--json", "as_json", is_flag=True, help="Print metrics.json and nothing else on standard output."
)
def run_command(
    name: str,
    scale: str,
    out: Path | None,
    quick: bool,
    long: bool,
    seeds: int | None,
    jobs: int | None,
    as_json: bool,
    brought: dict[str, Any],
) -> None:
    """Reproduce one table or figure, or all of a scale.

    Models that are tuned once serve all experiments: they lie in `members` beside the run folders.

    \b
    causalft experiment run tab8 --quick
    causalft experiment run all --scale mini
    causalft experiment run all --scale mini --long
    causalft experiment run tab8 --scale photo --data photos/
    causalft experiment run tab8 --scale full --set places-lt --data Places_LT/
    """
    from experiments import EXPERIMENTS
    from experiments.frame.all import needed_of, run_all, run_name
    from experiments.frame.scales import get_scale
    from experiments.frame.side_by_side import usual_jobs

    screen = console(as_json)
    _check_data(scale, brought["data"])
    if name == "all":
        found = run_all(out or Path("runs"), scale, quick, seeds, brought, screen.print, jobs, long)
        if as_json:
            print_json(found)
        failed = [each for each, row in found.items() if row["state"] == "failed"]
        if failed:
            raise CausalFTError(f"{len(failed)} of {len(found)} experiments failed: {first_few(failed)}")
        return
    if long:
        raise CausalFTError(f"--long is for `run all`; {name} runs whole without it, so leave it out")
    experiment = EXPERIMENTS.get_or_refuse(name)
    if jobs is not None and experiment.study is None:
        raise CausalFTError(f"{name} tunes no members, so --jobs has no effect; leave it out")
    needed = needed_of(experiment, scale, brought)
    folder = out or Path("runs") / run_name(experiment.name, scale, needed)
    where = experiment.scale if scale == "mini" else f"scale {scale}: {get_scale(scale).help}"
    screen.print(f"{experiment.reproduces}: {experiment.claim}\n{where}", style="dim")
    n_seeds, jobs = seeds or (1 if quick else experiment.seeds), jobs or usual_jobs(scale)
    metrics = experiment.run(folder, quick, n_seeds, scale, jobs=jobs, **needed)
    if as_json:
        print_json(metrics)
    else:
        _show(screen, metrics)
    screen.print(f"report: {folder / 'report.html'}", soft_wrap=True)


@command.command("show")
@click.argument("name", type=TEXT)
@click.option("--scale", default="mini", type=TEXT, help=_SCALE, show_default=True)
@click.option(
    "--out",
    type=PATH,
    help="Run folder; finished models beside it are not counted. Of all, the folder of the runs. Default: runs/NAME, "
    "runs.",
)
@click.option("--quick", is_flag=True, help="Of the smaller run.")
@click.option("--long", is_flag=True, help="Of all: as `run all --long` would run them.")
@click.option("--seeds", type=Number(limits.SEEDS), help="Repetitions. Default: the experiment's own.")
@_brought_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else on standard output.")
def show_command(
    name: str,
    scale: str,
    out: Path | None,
    quick: bool,
    long: bool,
    seeds: int | None,
    as_json: bool,
    brought: dict[str, Any],
) -> None:
    """Show an experiment: what it claims, which models it would tune, and the cost.

    Prints images, operations and estimated time, and which models exist already. Of all: which experiments `run all`
    would run, and their minutes.

    \b
    causalft experiment show tab8
    causalft experiment show all
    """
    from experiments import EXPERIMENTS
    from experiments.frame.all import given_of, outlook, run_name

    if name == "all":
        if seeds is not None:
            raise CausalFTError("the minutes of all are those of the usual repetitions; leave out --seeds")
        _show_all(outlook(out or Path("runs"), scale, quick, brought, long), as_json)
        return
    if long:
        raise CausalFTError("--long is for `show all`; leave it out")
    experiment = EXPERIMENTS.get_or_refuse(name)
    seeds = seeds or (1 if quick else experiment.seeds)
    needs = experiment.needed_at(scale)
    given = given_of(experiment, scale, brought)
    lacking = [f"--{what}" for what in needs if what not in given]
    row = {field: getattr(experiment, field) for field in _FIELDS} | {"seeds": seeds}
    row |= {"command": experiment.command_at(scale)}
    screen, plan = console(as_json), None
    trains = experiment.study is not None or experiment.plans is not None
    if not lacking and trains:
        with phase("planning" if experiment.study is None else "measuring two batches of each architecture"):
            plan = experiment.plan(
                out or Path("runs") / run_name(experiment.name, scale, given), quick, seeds, scale, **given
            )
    if as_json:
        print_json({**row, "plan": None if plan is None else plan.to_json()})
        return
    screen.print(f"{experiment.reproduces}: {experiment.claim}", soft_wrap=True)
    screen.print(
        f"scale    {scale}: {experiment.scale}" if scale == "mini" else f"scale    {scale}", soft_wrap=True
    )
    screen.print(f"source   {experiment.source}", soft_wrap=True)
    screen.print(f"command  {row['command']}", soft_wrap=True)
    if scale == "mini":
        screen.print(f"minutes  {experiment.minutes:g} on two cores, with {experiment.seeds} seeds")
    if plan is not None:
        from causalft.cli.plan import print_networks, print_plan
        from experiments.frame.networks import NetworkPlan

        if isinstance(plan, NetworkPlan):
            print_networks(screen, plan)
        else:
            print_plan(screen, plan)
    elif lacking and trains:
        screen.print(f"plan     give {' and '.join(lacking)} for a plan")
    elif trains and scale == "photo":
        screen.print("plan     the first run pre-trains the zoo on half of the images; a plan needs it")
    else:
        screen.print("plan     nothing is trained")


def _show_all(found: dict[str, Any], as_json: bool) -> None:
    from rich.table import Table

    if as_json:
        print_json(found)
        return
    screen, total = console(), found["minutes"]
    table = Table(box=None, pad_edge=False)
    table.add_column("name", no_wrap=True)
    if total is not None:
        table.add_column("minutes", justify="right")
    table.add_column("run all")
    for row in found["experiments"]:
        minutes = [] if total is None else [f"{row['minutes']:g}"]
        told = f"{row['state']}, {row['why']}\n{row['command']}" if row["why"] else row["state"]
        table.add_row(row["name"], *minutes, told)
    screen.print(table)
    if total is not None:
        left = sum(row["minutes"] for row in found["experiments"] if row["state"] == "left out")
        screen.print(
            f"\n{total:g} minutes to run, {left:g} left out; on two cores, less where they share models",
            soft_wrap=True,
        )


def _check_data(scale: str, data: str | None) -> None:
    """Refuse images that are not there, before anything is loaded or trained."""
    if data is None or scale == "full":  # a set says itself which of its files is missing
        return
    from causalft.data.opening import find_paths, open_images

    if scale == "photo":
        open_images(data)
    else:
        find_paths(data)


def _show(screen: Any, metrics: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    if "table" in metrics:
        shown = metrics["table"]
        table = Table(title=shown.get("caption"), title_justify="left", box=None, pad_edge=False)
        for index, column in enumerate(shown["columns"]):
            table.add_column(column, justify="left" if index == 0 else "right")
        for row in shown["rows"]:
            table.add_row(*row)
        screen.print(table)
    for sentence in metrics.get("conclusion", []):
        screen.print(Text(sentence))
