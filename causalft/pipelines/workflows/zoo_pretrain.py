"""The work of ``causalft zoo pretrain`` and ``zoo pretrain-diffusion``: plan, time estimate, parallel processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from causalft.data.opening import open_images
from causalft.errors import CausalFTError, nearest
from causalft.models.pretraining.photo_zoo import (
    PhotoZoo,
    estimate_seconds,
    plan_photo_zoo,
    pretrain_photo_member,
)
from causalft.models.pretraining.pretrain import MEMBERS, PRETRAINING, pretrain_member
from causalft.models.strata.cards import ModelCard
from causalft.models.strata.leakage import write_manifest
from causalft.runs.lifecycle import NewRun, new_run
from causalft.runs.progress import phase

__all__ = ["pretrain_creatures", "pretrain_diffusion", "pretrain_photos"]

Say = Callable[[str], None]
Tasks = dict[str, Callable[..., object]]
"""Name of a member and what makes it; takes ``progress``."""


def pretrain_creatures(
    out: Path,
    members: Sequence[str],
    *,
    jobs: int,
    say: Say,
    n_images: int,
    epochs: int | None,
    **_: Any,
) -> dict[str, Any]:
    """Pre-train members of the embedded zoo on the part world; return the metrics document."""
    names = list(members) or list(MEMBERS)
    for name in names:
        if name not in MEMBERS:
            raise CausalFTError(f"the embedded zoo has no member {name!r}; {nearest(name, MEMBERS)}")
    epochs = PRETRAINING.epochs if epochs is None else epochs
    with new_run(out, "zoo") as new:
        new.create({"data": None, "n_images": n_images, "epochs": epochs, "members": names})
        say(f"pre-training {len(names)} minis on the part world, {n_images} pictures each, into {out}")
        tasks: Tasks = {
            name: partial(pretrain_member, name, new.run.path, n_images=n_images, epochs=epochs)
            for name in names
            if not new.run.has(f"{name}.json")
        }
        return _make_members(new, names, tasks, jobs, say)


def pretrain_photos(
    out: Path,
    data: str,
    views: dict[str, str],
    *,
    jobs: int,
    say: Say,
    control_seeds: int,
    epochs: int | None,
    order_seeds: Sequence[int] | None,
    **options: Any,
) -> dict[str, Any]:
    """Pre-train minis on the user's images; return the metrics document."""
    settings = {
        **options,
        "epochs": epochs,
        "order_seeds": list(order_seeds or ()),
        "n_control_seeds": control_seeds,
    }
    with new_run(out, "zoo") as new:
        images = open_images(data)
        for note in images.notes:
            say(f"note: {note}")
        # With the fingerprint, a pre-training of images that have changed meanwhile is not resumed.
        config = {
            "data": os.path.abspath(data),
            "data_fingerprint": images.fingerprint,
            "views": views,
            **settings,
        }
        say(
            f"{images.name}: {len(images)} images of {images.n_classes} classes\n"
            "looking for duplicates and choosing splits and priors ..."
        )
        zoo = plan_photo_zoo(images, views, **settings)
        new.create(config)
        if not new.run.has("zoo.json"):
            write_manifest(new.run, images, zoo)
        _say_plan(say, images, zoo)
        names = [member.name for member in zoo.members]
        tasks: Tasks = {
            name: partial(_pretrain_photo, data, name, zoo, new.run.path)
            for name in names
            if not new.run.has(f"{name}.json")
        }
        if tasks:
            minutes = estimate_seconds(images, zoo, jobs) * len(tasks) / len(names) / 60
            say(f"about {max(minutes, 0.1):.1f} minutes for {_minis(len(tasks))}, {jobs} at a time")
        return _make_members(new, names, tasks, jobs, say)


def _minis(n: int) -> str:
    return "1 mini" if n == 1 else f"{n} minis"


def _pretrain_photo(
    data: str, name: str, zoo: PhotoZoo, folder: Path, *, progress: bool | None = None
) -> None:
    """In a process of its own: open the images again and pre-train one member."""
    member = next(member for member in zoo.members if member.name == name)
    pretrain_photo_member(open_images(data), member, zoo, folder, progress=progress)


def _say_plan(say: Say, images: Any, zoo: PhotoZoo) -> None:
    parts = ", ".join(f"{len(rows)} {name}" for name, rows in zoo.parts.items())
    say(f"splits: {parts}; duplicates: {zoo.duplicates}")
    for line in _uncertain(images, zoo):
        say(f"note: {line}")
    largest = max(abs(float(zoo.correlation[i, j])) for i in range(len(zoo.correlation)) for j in range(i))
    say(f"rank correlation of the priors with each other and the downstream order: at most {largest:.2f}")
    for member in zoo.members:
        head, tail = images.class_names[member.order[0]], images.class_names[member.order[-1]]
        say(f"  {member.name}: view {member.view}, most frequent {head}, rarest {tail}")


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


def _in_processes(tasks: Tasks, jobs: int) -> None:
    """Run tasks in spawned processes of one thread each, with a bar over all of them; one job runs here."""
    if not tasks:
        return
    if jobs == 1 or len(tasks) == 1:
        for task in tasks.values():
            task()
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(tasks)), mp_context=context) as pool:
        with _deaf_to_interrupts():
            running = [pool.submit(task, progress=False) for task in tasks.values()]
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


def _make_members(new: NewRun, names: Sequence[str], tasks: Tasks, jobs: int, say: Say) -> dict[str, Any]:
    """Do the tasks, ``jobs`` at a time, and finish; members without a task were made by an interrupted call."""
    _in_processes(tasks, jobs)
    cards = [ModelCard.read(new.run.path / f"{name}.json") for name in names]
    earlier = [card.measured.get("seconds", 0.0) for card in cards if card.name not in tasks]
    new.seconds_before = sum(earlier) / max(1, min(jobs, len(earlier)))
    members = {card.name: {"sha256": card.sha256, "loss": card.recipe["losses"][-1]} for card in cards}
    metrics = new.finish({"members": members}, stamp=("seconds",))
    minutes = max(metrics["seconds"] / 60, 0.1)
    say(f"{_minis(len(cards))} in {new.run.path} after {minutes:.1f} minutes")
    return metrics


def pretrain_diffusion(
    out: Path,
    *,
    say: Say,
    seed: int,
    size: int,
    steps_vae: int | None,
    steps_decoder: int | None,
    steps_unet: int | None,
    n_per_cell: int | None,
) -> dict[str, Any]:
    """Train a mini Stable Diffusion on renders; return the metrics document."""
    from causalft.models.pretraining import diffusion_zoo as zoo
    from causalft.models.pretraining.mini_diffusion import DiffusionConfig, import_diffusion

    import_diffusion()
    config = DiffusionConfig(image_size=size)
    plan: dict[str, Any] = {
        "steps_vae": zoo.STEPS_VAE if steps_vae is None else steps_vae,
        "steps_decoder": zoo.STEPS_DECODER if steps_decoder is None else steps_decoder,
        "steps_unet": zoo.STEPS_UNET if steps_unet is None else steps_unet,
    }
    n_per_cell = zoo.N_PER_CELL if n_per_cell is None else n_per_cell
    zoo.check_plan(seed, n_per_cell, *plan.values())
    with new_run(out, "zoo-diffusion") as new:
        new.create({"seed": seed, **plan, "size": size, "n_per_cell": n_per_cell})
        say(
            f"a mini Stable Diffusion of {size} pixels into {out}: {plan['steps_vae']} steps of the autoencoder, "
            f"{plan['steps_decoder']} of its decoder, {plan['steps_unet']} of text encoder and U-Net"
        )
        minutes = zoo.estimate_seconds(config, **plan) / 60
        say(f"about {max(minutes, 0.1):.1f} minutes on one core from the start, less what is already done")
        card = zoo.pretrain_diffusion(new.run.path, seed=seed, config=config, n_per_cell=n_per_cell, **plan)
        recipe = card["recipe"]
        metrics: dict[str, Any] = {
            "sha256": card["sha256"],
            "parameters": card["parameters"],
            "losses": {stage: recipe[stage]["losses"][-1] for stage in ("vae", "decoder", "unet")},
            "seconds": sum(recipe[stage]["seconds"] for stage in ("vae", "decoder", "unet")),
        }
        return new.finish(metrics, stamp=())
