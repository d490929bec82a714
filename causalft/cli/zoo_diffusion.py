"""``causalft zoo pretrain-diffusion`` and ``zoo check --diffusion``: make and measure a mini Stable Diffusion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from causalft.cli.output import console, print_json
from causalft.cli.types import PATH, SEED, Number
from causalft.runs import limits
from causalft.runs.locks import locked

__all__ = ["check_diffusion", "pretrain_diffusion_command"]


@click.command("pretrain-diffusion")
@click.option("--out", type=PATH, required=True, help="Folder of the new pipeline.")
@click.option(
    "--seed", type=SEED, default=0, show_default=True, help="Seeds pictures, captions, weights and noise."
)
@click.option(
    "--steps-vae",
    type=Number(limits.TRAINING_STEPS),
    help="Steps of the autoencoder. Default: as for the shipped pipeline.",
)
@click.option(
    "--steps-decoder",
    type=Number(limits.TRAINING_STEPS),
    help="Further steps of its decoder. Default: likewise.",
)
@click.option(
    "--steps-unet",
    type=Number(limits.TRAINING_STEPS),
    help="Steps of text encoder and U-Net. Default: as for the shipped pipeline.",
)
@click.option(
    "--size", type=Number(limits.PICTURE_SIZE), default=32, show_default=True, help="Pixels; a multiple of 8."
)
@click.option(
    "--n-per-cell",
    type=Number(limits.PICTURES_PER_CLASS),
    help="Pictures of each part of each class. Default: 2000.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else on standard output.")
@locked("out")
def pretrain_diffusion_command(
    out: Path,
    seed: int,
    steps_vae: int | None,
    steps_decoder: int | None,
    steps_unet: int | None,
    size: int,
    n_per_cell: int | None,
    as_json: bool,
) -> None:
    """Train a small Stable Diffusion on rendered pictures and their captions.

    With the defaults it makes the embedded pipeline again: same seed, same weights on the same machine. An
    interrupted training goes on where it stopped when the command is repeated. The folder opens with
    StableDiffusionPipeline.from_pretrained of diffusers.
    """
    from causalft.models.pretraining import diffusion_zoo as zoo
    from causalft.models.pretraining.mini_diffusion import DiffusionConfig, import_diffusion
    from causalft.runs.folder import Run

    import_diffusion()
    config = DiffusionConfig(image_size=size)
    steps_vae = zoo.STEPS_VAE if steps_vae is None else steps_vae
    steps_decoder = zoo.STEPS_DECODER if steps_decoder is None else steps_decoder
    steps_unet = zoo.STEPS_UNET if steps_unet is None else steps_unet
    n_per_cell = zoo.N_PER_CELL if n_per_cell is None else n_per_cell
    zoo.check_plan(seed, n_per_cell, steps_vae, steps_decoder, steps_unet)
    settings = {
        "seed": seed,
        "steps_vae": steps_vae,
        "steps_decoder": steps_decoder,
        "steps_unet": steps_unet,
        "size": size,
        "n_per_cell": n_per_cell,
    }
    run = Run.create(out, kind="zoo-diffusion", config=settings)
    screen = console(as_json)
    screen.print(
        f"a mini Stable Diffusion of {size} pixels into {out}: {steps_vae} steps of the autoencoder, "
        f"{steps_decoder} of its decoder, {steps_unet} of text encoder and U-Net"
    )
    minutes = zoo.estimate_seconds(config, steps_vae, steps_decoder, steps_unet) / 60
    screen.print(
        f"about {max(minutes, 0.1):.1f} minutes on one core from the start, less what is already done"
    )
    card = zoo.pretrain_diffusion(
        run.path,
        seed=seed,
        steps_vae=steps_vae,
        steps_decoder=steps_decoder,
        steps_unet=steps_unet,
        config=config,
        n_per_cell=n_per_cell,
    )
    recipe = card["recipe"]
    metrics: dict[str, Any] = {
        "sha256": card["sha256"],
        "parameters": card["parameters"],
        "losses": {stage: recipe[stage]["losses"][-1] for stage in ("vae", "decoder", "unet")},
        "seconds": sum(recipe[stage]["seconds"] for stage in ("vae", "decoder", "unet")),
    }
    run.finish(metrics)
    if as_json:
        print_json(metrics)
        return
    screen.print(
        f"{sum(card['parameters'].values()):,} parameters after {metrics['seconds'] / 60:.1f} minutes; check them: "
        f"causalft zoo check --diffusion {out}"
    )


def check_diffusion(folder: str, *, n_per_cell: int, as_json: bool) -> None:
    """Check the hashes of a mini Stable Diffusion, draw pictures of every cell and print what the judge says."""
    from dataclasses import asdict

    from rich.table import Table

    from causalft.models.pretraining import diffusion_zoo as zoo
    from causalft.pipelines.workflows.check_images import check_prompts
    from synthetic.generate import open_source

    path = zoo.MINI_DIFFUSION if folder == "mini" else Path(folder)
    card = zoo.check_files(path)
    source = open_source(
        "stable-diffusion", model=folder if folder == "mini" else str(path), negative_prompt=""
    )
    result = check_prompts(source, n_per_cell=n_per_cell)
    if as_json:
        print_json({"folder": folder, "sha256": card["sha256"], **source.provenance(), **asdict(result)})
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
