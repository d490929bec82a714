"""The work behind ``causalft zoo pretrain``: plan, time estimate, members in parallel processes, resume."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from causalft.cli.options import PATH, SEED, Number, console, print_json
from causalft.errors import CausalFTError, nearest
from causalft.models.strata.cards import ModelCard
from causalft.runs import limits
from causalft.runs.folder import Run
from causalft.runs.locks import locked
from causalft.runs.progress import phase

if TYPE_CHECKING:
    from rich.console import Console

    from causalft.models.pretraining.photo_zoo import PhotoZoo

__all__ = ["check_diffusion", "pretrain_creatures", "pretrain_diffusion_command", "pretrain_photos"]


@locked("out")
def pretrain_creatures(
    out: Path,
    members: Sequence[str],
    *,
    jobs: int,
    out_console: Console,
    n_images: int,
    epochs: int | None,
    **_: Any,
) -> dict[str, Any]:
    """Pre-train members of the embedded zoo on the part world; return the metrics document."""
    from causalft.models.pretraining.creatures import MEMBERS, pretrain_member
    from causalft.models.pretraining.pretrain import PRETRAINING

    names = list(members) or list(MEMBERS)
    for name in names:
        if name not in MEMBERS:
            raise CausalFTError(f"the embedded zoo has no member {name!r}; {nearest(name, MEMBERS)}")
    epochs = PRETRAINING.epochs if epochs is None else epochs
    run = Run.create(
        out, kind="zoo", config={"data": None, "n_images": n_images, "epochs": epochs, "members": names}
    )
    out_console.print(
        f"pre-training {len(names)} minis on the part world, {n_images} pictures each, into {out}"
    )
    started = time.perf_counter()
    tasks = {
        name: (pretrain_member, (name, run.path), {"n_images": n_images, "epochs": epochs})
        for name in names
        if not run.has(f"{name}.json")
    }
    kept = [name for name in names if name not in tasks]
    _in_processes(tasks, jobs)
    return _finish(run, names, kept, jobs, started, out_console)


@locked("out")
def pretrain_photos(
    out: Path,
    data: str,
    views: dict[str, str],
    *,
    jobs: int,
    out_console: Console,
    control_seeds: int,
    epochs: int | None,
    order_seeds: Sequence[int] | None,
    **options: Any,
) -> dict[str, Any]:
    """Pre-train minis on the user's images; return the metrics document."""
    from causalft.data.opening import open_images
    from causalft.models.pretraining.photo_pretrain import estimate_seconds
    from causalft.models.pretraining.photo_zoo import plan_photo_zoo, write_manifest

    settings = {
        **options,
        "epochs": epochs,
        "order_seeds": list(order_seeds or ()),
        "n_control_seeds": control_seeds,
    }
    started = time.perf_counter()
    Run.check(out, kind="zoo")
    images = open_images(data)
    for note in images.notes:
        out_console.print(f"note: {note}")
    # With the fingerprint, a pre-training of images that have changed meanwhile is not resumed.
    config = {
        "data": os.path.abspath(data),
        "data_fingerprint": images.fingerprint,
        "views": views,
        **settings,
    }
    out_console.print(
        f"{images.name}: {len(images)} images of {images.n_classes} classes\n"
        "looking for duplicates and choosing splits and priors ..."
    )
    zoo = plan_photo_zoo(images, views, **settings)
    run = Run.create(out, kind="zoo", config=config)  # not before the plan: a refusal leaves nothing behind
    if not run.has("zoo.json"):
        write_manifest(run, images, zoo)
    _print_plan(out_console, images, zoo)
    waiting = [member for member in zoo.members if not run.has(f"{member.name}.json")]
    if waiting:
        minutes = estimate_seconds(images, zoo, jobs) * len(waiting) / len(zoo.members) / 60
        out_console.print(
            f"about {max(minutes, 0.1):.1f} minutes for {_minis(len(waiting))}, {jobs} at a time"
        )
    tasks: dict[str, tuple[Callable, tuple, dict]] = {
        m.name: (_pretrain_photo, (data, m.name, zoo, run.path), {}) for m in waiting
    }
    names = [member.name for member in zoo.members]
    kept = [name for name in names if name not in tasks]
    _in_processes(tasks, jobs)
    return _finish(run, names, kept, jobs, started, out_console)


def _minis(n: int) -> str:
    return "1 mini" if n == 1 else f"{n} minis"


def _pretrain_photo(
    data: str, name: str, zoo: PhotoZoo, folder: Path, *, progress: bool | None = None
) -> None:
    """In a process of its own: open the images again and pre-train one member."""
    from causalft.data.opening import open_images
    from causalft.models.pretraining.photo_pretrain import pretrain_photo_member

    member = next(member for member in zoo.members if member.name == name)
    pretrain_photo_member(open_images(data), member, zoo, folder, progress=progress)


def _print_plan(out_console: Console, images: Any, zoo: PhotoZoo) -> None:
    parts = ", ".join(f"{len(rows)} {name}" for name, rows in zoo.parts.items())
    out_console.print(f"splits: {parts}; duplicates: {zoo.duplicates}")
    for line in _uncertain(images, zoo):
        out_console.print(f"note: {line}", soft_wrap=True)
    largest = max(abs(float(zoo.correlation[i, j])) for i in range(len(zoo.correlation)) for j in range(i))
    out_console.print(
        f"rank correlation of the priors with each other and the downstream order: at most {largest:.2f}"
    )
    for member in zoo.members:
        head, tail = images.class_names[member.order[0]], images.class_names[member.order[-1]]
        out_console.print(f"  {member.name}: view {member.view}, most frequent {head}, rarest {tail}")


def _uncertain(images: Any, zoo: PhotoZoo) -> list[str]:
    """What the sizes cost: repeated images, classes without a test image, how sure an accuracy will be."""
    from causalft.data.splits import Splits
    from causalft.data.summary import plan_of

    parts = {name: images.subset(rows) for name, rows in zoo.parts.items()}
    lines = list(plan_of(Splits(parts["downstream"], parts["validation"], parts["test"])).sentences)
    if zoo.settings["repeats"]:
        lines.insert(
            0,
            f"the pre-training pool is long-tailed ({parts['pool'].class_counts.max()} to "
            f"{parts['pool'].class_counts.min()} images a class): images of its rare classes are repeated where a "
            "prior makes them frequent",
        )
    return lines


def _in_processes(tasks: dict[str, tuple[Callable, tuple, dict]], jobs: int) -> None:
    """Run tasks in spawned processes of one thread each, with a bar over all of them; one job runs here."""
    if not tasks:
        return
    if jobs == 1 or len(tasks) == 1:
        for function, arguments, keywords in tasks.values():
            function(*arguments, **keywords)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(tasks)), mp_context=context) as pool:
        with _deaf_to_interrupts():
            running = {
                pool.submit(function, *arguments, progress=False, **keywords): name
                for name, (function, arguments, keywords) in tasks.items()
            }
        try:
            with phase("pre-training minis", len(running), unit="mini") as bar:
                for done in as_completed(running):
                    done.result()
                    bar.update()
        except BrokenProcessPool:
            raise CausalFTError(
                "a pre-training process was killed, perhaps for want of memory; repeat the command with a smaller "
                "--jobs: what is finished is kept"
            ) from None
        except BaseException:
            # Stop at once, also after Ctrl-C: what is finished is on disk, the rest resumes from its checkpoint.
            for process in list(pool._processes.values()):
                process.terminate()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Processes started inside inherit deafness to Ctrl-C: it is for this process, which then stops them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _finish(
    run: Run, names: Sequence[str], kept: Sequence[str], jobs: int, started: float, out_console: Console
) -> dict[str, Any]:
    """Write the metrics; ``kept`` names the members that an interrupted call had finished, ``jobs`` at a time."""
    cards = [ModelCard.read(run.path / f"{name}.json") for name in names]
    earlier = sum(card.measured.get("seconds", 0.0) for card in cards if card.name in kept)
    metrics: dict[str, Any] = {
        "members": {card.name: {"sha256": card.sha256, "loss": card.recipe["losses"][-1]} for card in cards},
        "seconds": time.perf_counter() - started + earlier / max(1, min(jobs, len(kept))),
    }
    run.finish(metrics)
    minutes = max(metrics["seconds"] / 60, 0.1)
    out_console.print(f"{_minis(len(cards))} in {run.path} after {minutes:.1f} minutes")
    return metrics


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
