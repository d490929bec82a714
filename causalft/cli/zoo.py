"""``causalft zoo``: list, show, check and pre-train the foundation models that serve as strata."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from causalft.cli.options import (
    FILE,
    PATH,
    TEXT,
    GroupedCommand,
    Number,
    VerbGroup,
    console,
    name_value_pairs,
    options_of,
    print_json,
    refuse_given,
)
from causalft.errors import CausalFTError
from causalft.models.pretraining.settings import DEFAULT_VIEWS, DiffusionSettings, PretrainSettings
from causalft.runs import limits

__all__ = ["command"]


@click.group("zoo", cls=VerbGroup)
def command() -> None:
    """List, show, check and pre-train the foundation models."""


zoo_option = click.option(
    "--zoo",
    type=FILE,
    default="mini",
    show_default=True,
    help="mini, or the folder of a zoo made by `causalft zoo pretrain`.",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON and nothing else on standard output."
)


def _open(zoo: str) -> Any:
    from causalft.models.strata.zoo import MiniZoo, open_zoo

    found = open_zoo(zoo)
    if not isinstance(found, MiniZoo):
        raise CausalFTError(
            "the pretrained zoo has no cards: it is open_clip's; see `causalft zoo list --zoo pretrained`"
        )
    return found


@command.command("list")
@zoo_option
@json_option
def list_members(zoo: str, as_json: bool) -> None:
    """List the members of a zoo."""
    from rich.table import Table

    from causalft.models.strata.zoo import PRETRAINED

    rows: list[dict[str, Any]]
    if zoo == "pretrained":
        rows = [
            {"name": name, "architecture": architecture, "tag": tag}
            for name, (architecture, tag) in PRETRAINED.items()
        ]
    else:
        members = _open(zoo)
        cards = [members.card(name) for name in members.names()]
        rows = [
            {
                "name": card.name,
                "world": card.world,
                "classes": len(card.class_names),
                "view": _view(card.view),
                "imbalance": round(max(card.prior) / min(card.prior), 1),
                "loss": card.loss,
                "sha256": card.sha256[:12],
            }
            for card in cards
        ]
    if as_json:
        print_json(rows)
        return
    table = Table(title=f"zoo {zoo}", title_justify="left", box=None, header_style="bold")
    for column in rows[0]:
        table.add_column(column)
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    console().print(table)


def _view(view: dict[str, Any]) -> str:
    return view.get("favourite") or f"{view.get('view')} ({view.get('share', 1):.0%})"


@command.command("show")
@click.argument("name", type=TEXT)
@zoo_option
@json_option
def show(name: str, zoo: str, as_json: bool) -> None:
    """Show the card of one member: prior, view, loss, recipe, hash."""
    from dataclasses import asdict

    card = _open(zoo).card(name)
    if as_json:
        print_json(asdict(card))
        return
    out = console()
    order = sorted(range(len(card.prior)), key=lambda k: -card.prior[k])
    recipe = card.recipe
    out.print(
        f"{card.name}: a mini CLIP pre-trained on {card.world}; it is not the real {card.name} model.",
        style="bold",
    )
    out.print(f"  role      {recipe.get('role') or 'stratum'}")
    out.print(f"  loss      {card.loss}")
    out.print(f"  view      {_view(card.view)}")
    out.print(
        f"  prior     {len(card.prior)} classes, imbalance {max(card.prior) / min(card.prior):.0f}, "
        f"head {card.class_names[order[0]]}, {card.class_names[order[1]]}, tail {card.class_names[order[-1]]}"
    )
    out.print(
        f"  training  {recipe['n_images']} images, {recipe['epochs']} epochs of batches of {recipe['batch_size']}, "
        f"seed {recipe['seed']}"
    )
    for key, value in card.measured.items():
        out.print(f"  {key:<9} {value:.3f}" if isinstance(value, float) else f"  {key:<9} {value}")
    out.print(f"  sha256    {card.sha256}")


@command.command("check")
@zoo_option
@click.option(
    "--diffusion",
    type=FILE,
    is_flag=False,
    flag_value="mini",
    metavar="[FOLDER]",
    help="Check the embedded mini Stable Diffusion, or the one in FOLDER, instead of a zoo.",
)
@click.option(
    "--n-per-cell",
    type=Number(limits.PICTURES_PER_CLASS),
    default=100,
    show_default=True,
    help="With --diffusion: pictures of each part of each class.",
)
@json_option
def check(zoo: str, diffusion: str | None, n_per_cell: int, as_json: bool) -> None:
    """Check the weights of every member against its card, and measure the prior in its logits.

    Members of the part world are measured on 2,400 balanced images; the weights of a zoo of your own images are
    checked and run. With --diffusion: check whether a classifier of renders finds the class and part of each
    prompt in the images, and how diverse they are.
    """
    if diffusion is not None:
        refuse_given(["zoo"], "does not go with --diffusion")
        _check_diffusion(diffusion, n_per_cell, as_json)
        return
    refuse_given(["n_per_cell"], "goes with --diffusion")
    from rich.table import Table

    from causalft.pipelines.workflows.zoo import check_zoo

    rows = check_zoo(_open(zoo))
    if as_json:
        print_json(rows)
        return
    screen = console()
    table = Table(title=f"zoo {zoo}: the weights are those of the cards", title_justify="left", box=None)
    table.add_column("member", no_wrap=True)
    if not any("gap" in row for row in rows):
        table.add_column("sha256")
        for row in rows:
            table.add_row(row["name"], row["sha256"][:12])
        screen.print(table)
        screen.print("Loaded and run. What is in their logits, `causalft fit` measures.", style="dim")
        return
    for column in ("zero-shot", "P-many", "P-few", "GLA rho", "GLA-ZS", "less true"):
        table.add_column(column, justify="right")
    for row in rows:
        if "gap" not in row:
            table.add_row(row["name"], *[""] * 6)
            continue
        groups, points = row["zero_shot_P"], [row["zero_shot_accuracy"], row["gla_zero_shot_accuracy"]]
        table.add_row(
            row["name"],
            f"{100 * points[0]:.1f}",
            f"{100 * groups['many']:.1f}",
            f"{100 * groups['few']:.1f}",
            f"{row['gla_spearman']:.2f}",
            f"{100 * points[1]:.1f}",
            f"{100 * row['true_prior_zero_shot_accuracy']:.1f}",
        )
    screen.print(table)
    screen.print(
        "Accuracies in percent on balanced pictures. GLA rho: Spearman correlation of the estimated with the "
        "true prior; GLA-ZS: zero-shot less the estimated log prior, on pictures the estimate did not use; less true: "
        "zero-shot less the true log prior.",
        style="dim",
    )


def _check_diffusion(folder: str, n_per_cell: int, as_json: bool) -> None:
    """Print the check of a mini Stable Diffusion."""
    from dataclasses import asdict

    from rich.table import Table

    from causalft.pipelines.workflows.zoo import check_diffusion

    about, result = check_diffusion(folder, n_per_cell=n_per_cell)
    if as_json:
        print_json({"folder": folder, **about, **asdict(result)})
        return
    table = Table(title=f"{folder}: the weights are those of the card", title_justify="left", box=None)
    for column in ("class", "part"):
        table.add_column(column, no_wrap=True)
    for column in ("n", "right", "diversity"):
        table.add_column(column, justify="right")
    table.add_column("most often taken for")
    for cell in result.cells:
        table.add_row(
            cell.class_name,
            cell.part,
            str(cell.n),
            f"{100 * cell.right:.1f}",
            f"{cell.diversity:.2f}",
            cell.confused_with,
        )
    screen = console()
    screen.print(table)
    screen.print(
        f"class and part right {100 * result.right:.1f} % of {result.n} pictures (class "
        f"{100 * result.class_right:.1f} %, part {100 * result.part_right:.1f} %; "
        f"of renders {100 * result.judge_right:.1f} %)\n"
        f"diversity {result.diversity:.2f}: within-cell pixel std {result.pixel_std:.3f}, of renders "
        f"{result.pixel_std_renders:.3f}\n"
        f"drawn in {result.seconds:.0f} s, {result.images_per_second:.1f} images per second"
    )
    screen.print(
        "The judge is a ResNet-8 that has seen only renders, softened at random. Right: in percent. Diversity: "
        "over that of renders.",
        style="dim",
    )


_PRETRAIN_GROUPS = {
    "Options that matter first": ("out", "data", "members", "epochs", "jobs", "as_json"),
    "Data and priors": (
        "profile",
        "imbalance_factor",
        "order_seed",
        "order_seeds",
        "pool_fraction",
        "n_validation",
        "n_test",
        "n_images",
    ),
    "Members": ("loss", "view_share", "n_control_seeds", "wide", "image_size", "seed"),
}


@command.command("pretrain", cls=GroupedCommand, groups=_PRETRAIN_GROUPS)
@click.option("--out", type=PATH, required=True, help="Folder of the new zoo.")
@options_of(PretrainSettings)
@json_option
def pretrain(out: Path, as_json: bool, settings: PretrainSettings) -> None:
    """Pre-train minis with known priors and known incomplete views, on the part world or on your images.

    Without --data it reproduces the embedded zoo: same seeds, same weights on the same machine. Repeating an
    interrupted command resumes it.
    """
    from causalft.data.image_set import usable_cores

    say = partial(console(as_json).print, soft_wrap=True)
    jobs = usable_cores() if settings.jobs is None else settings.jobs
    photos = settings.photos
    if settings.data is None:
        only_images = [name for name in vars(photos) if name != "epochs"]
        refuse_given(only_images, "goes with --data: the members of the embedded zoo have their own settings")
        from causalft.pipelines.workflows.zoo import pretrain_creatures

        metrics = pretrain_creatures(out, settings, jobs=jobs, say=say)
    else:
        refuse_given(["n_images"], "goes with the part world; with --data, --pool-fraction decides")
        views = name_value_pairs(settings.members, "--member", "VIEW") or DEFAULT_VIEWS
        from causalft.pipelines.workflows.zoo import pretrain_photos

        metrics = pretrain_photos(out, settings.data, views, jobs=jobs, say=say, settings=photos)
    if as_json:
        print_json(metrics)


@command.command("pretrain-diffusion")
@click.option("--out", type=PATH, required=True, help="Folder of the new pipeline.")
@options_of(DiffusionSettings)
@json_option
def pretrain_diffusion(out: Path, as_json: bool, settings: DiffusionSettings) -> None:
    """Train a small Stable Diffusion on rendered images and their captions.

    The defaults reproduce the embedded pipeline: same seed, same weights on the same machine. Repeating an interrupted
    command resumes it. The folder opens with StableDiffusionPipeline.from_pretrained of diffusers.
    """
    from causalft.pipelines.workflows.zoo import pretrain_diffusion

    screen = console(as_json)
    metrics = pretrain_diffusion(out, say=partial(screen.print, soft_wrap=True), settings=settings)
    if as_json:
        print_json(metrics)
        return
    screen.print(
        f"{sum(metrics['parameters'].values()):,} parameters after {metrics['seconds'] / 60:.1f} minutes; check them: "
        f"causalft zoo check --diffusion {out}"
    )
