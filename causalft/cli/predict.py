"""``causalft predict``: classify images with a fitted run, on the screen or into a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from causalft.cli.engines import check_engine, engine_options
from causalft.cli.launched import follows, is_launched
from causalft.cli.layers import layer_options
from causalft.cli.options import (
    DEVICE,
    FILE,
    PATH,
    TEXT,
    GroupedCommand,
    Number,
    SpelledOption,
    console,
    given_options,
    print_json,
)
from causalft.errors import CausalFTError
from causalft.methods.adaptation.at_test import AT_TEST, BATCH_SIZE, check_adapt
from causalft.runs import limits
from causalft.runs.progress import phase
from causalft.runs.settings import one_of

if TYPE_CHECKING:
    import numpy as np

    from causalft.data.image_set import ImageSet
    from causalft.pipelines.workflows.predict import Prediction

__all__ = ["command"]


@click.command(
    "predict",
    cls=GroupedCommand,
    groups={
        "Output": ("output", "kind", "top", "all_probabilities", "sets", "as_json"),
        "Test-time adaptation": ("adapt", "stored_images", "save_adapted"),
        "Reading and speed": (
            "on_error",
            "batch_size",
            "device",
            "precision",
            "merge_tokens",
            "engine",
            "workers",
        ),
    },
)
@click.argument("run", type=PATH)
@click.argument("paths", type=FILE, nargs=-1, required=True)
@click.option(
    "--out",
    "-o",
    "output",
    cls=SpelledOption,
    former=("--output",),
    type=FILE,
    metavar="FILE|-",
    help="Write one row per image to this file (- is standard output), streaming.",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["jsonl", "csv", "parquet"]),
    help="Format of --out. Default: from the file ending, jsonl for -.",
)
@click.option(
    "--top",
    type=Number(limits.TOP, "all"),
    default="3",
    show_default=True,
    help="Classes given for each image: a number, or all.",
)
@click.option("--all-probabilities", is_flag=True, help="Give every class: the same as --top all.")
@click.option(
    "--sets",
    type=Number(limits.COVERAGE),
    metavar="SHARE",
    help="Also give the set of classes that holds the true one this often (0.9, say), in each group of classes.",
)
@click.option(
    "--adapt",
    type=TEXT,
    metavar="NAME",
    help=f"Adapt each stratum to the images while predicting them, in their order: {one_of(AT_TEST)}.",
)
@click.option(
    "--stored-images",
    type=Number(limits.STORED_IMAGES),
    metavar="N",
    help="With --adapt bn: images that the stored statistics are worth beside those of a batch; 0 takes those of the "
    f"batch alone.  [default: {AT_TEST['bn'].stored_images:g}]",
)
@click.option(
    "--save-adapted",
    type=PATH,
    metavar="FOLDER",
    help="Keep the adapted classifier in a new folder, which predict reads. Default: it is forgotten.",
)
@click.option(
    "--on-error",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="An image that cannot be read stops the command, or is named and skipped.",
)
@click.option(
    "--batch-size",
    type=Number(limits.BATCH_SIZE),
    help=f"Images at a time.  [default: 64, with --adapt {BATCH_SIZE}]",
)
@click.option("--device", type=DEVICE, default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@layer_options()
@engine_options
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one JSON document: every class (of more than 200, those of --top), every stratum.",
)
def command(
    run: Path,
    paths: tuple[str, ...],
    output: str | None,
    kind: str | None,
    top: int | str,
    all_probabilities: bool,
    sets: float | None,
    adapt: str | None,
    stored_images: int | None,
    save_adapted: Path | None,
    on_error: str,
    batch_size: int | None,
    device: str,
    precision: str | None,
    merge_tokens: int,
    engine: str,
    workers: int | None,
    as_json: bool,
) -> None:
    """Classify images: PATHS are image files, folders, zips, tars or shards, RUN is the folder of a fit.

    The path - reads standard input: one path or one JSON object with a "path" per line. With --out
    predictions are streamed, and repeating an interrupted command resumes it (JSON lines and CSV).

    \b
    torchrun --nproc-per-node 4 --no-python \\
      causalft predict runs/photos new/ --out rows.jsonl
    causalft predict runs/photos new/ --out rows.jsonl --engine ray
    causalft predict runs/photos foggy/ --adapt cliptta --save-adapted runs/fog
    """
    if "torch" not in sys.modules:
        # decoding threads share the cores, so OpenMP threads must not spin
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from causalft.methods.estimators.run_documents import open_classifier
    from causalft.pipelines.workflows.prediction_files import choose_format
    from causalft.runs.folder import check_place

    if all_probabilities and top != "all" and given_options("top"):
        raise CausalFTError(f"--all-probabilities gives every class, --top {top} some; leave one of them out")
    n_top = None if top == "all" or all_probabilities else int(top)
    if output is None and kind is not None:
        raise CausalFTError("--format goes with --out FILE (or --out - for standard output)")
    if output is not None and as_json:
        raise CausalFTError("--json prints one document; with --out use --format jsonl")
    chosen = None if output is None else choose_format(output, kind)
    if output is not None and output != "-" and not follows():
        check_place(output)
    if batch_size is None:
        batch_size = 64 if adapt is None else BATCH_SIZE
    if adapt is not None:
        if run.is_file():
            raise CausalFTError(
                f"{run} is a file; an exported model cannot adapt, so give the folder of its run"
            )
        check_adapt(adapt, engine, batch_size, sets, 2 if is_launched() else 1, stored_images)
        _check_apart(save_adapted, output)
    elif save_adapted is not None:
        raise CausalFTError(f"--save-adapted goes with --adapt NAME: {one_of(AT_TEST)}")
    elif stored_images is not None:
        raise CausalFTError("--stored-images goes with --adapt bn")
    check_engine(engine, workers)
    open_classifier(run)  # refused before PyTorch is imported
    if sets is not None:
        from causalft.pipelines.workflows.stored_run import StoredRun, sets_of_run

        notes = sets_of_run(StoredRun.open(run), sets).notes
        if not follows():
            for note in notes:
                click.echo(f"causalft: {note}", err=True)
    if is_launched():
        with phase("loading libraries"):
            from causalft.models.tuning.processes import pick_device
            from causalft.models.tuning.team import work_together
        together: AbstractContextManager[object] = work_together(pick_device(device))
    else:
        together = nullcontext()
    with together:
        images = _images(paths)
        with phase("loading libraries"):
            from causalft.pipelines.workflows.predict import Prediction
        prediction = Prediction(
            run,
            images,
            device,
            batch_size,
            on_error,
            engine,
            workers,
            sets,
            adapt,
            save_adapted,
            precision,
            stored_images,
            merge_tokens,
            may_round=True,
        )
        if (note := prediction.precision_note()) and not follows():
            click.echo(f"causalft: {note}", err=True)
        if note := prediction.int8_note():
            click.echo(f"causalft: {note}", err=True)
        if (merged := prediction.merged_agreement()) is not None:
            click.echo(f"causalft: {merged.sentence()}", err=True)
        if output is not None and chosen is not None:
            prediction.to_file(output, chosen, n_top, say=partial(click.echo, err=True))
        elif as_json:
            print_json(prediction.document(n_top))
        else:
            _to_screen(prediction, n_top)
        for note in prediction.adaptation_notes():
            click.echo(f"causalft: {note}", err=True)
        if save_adapted is not None:
            prediction.write_adapted(save_adapted)
            click.echo(f"causalft: the adapted classifier is in {save_adapted}", err=True)
    if prediction.skipped and output is None:
        click.echo(f"{len(prediction.skipped)} of {len(images)} images could not be read", err=True)


def _check_apart(folder: Path | None, file: str | None) -> None:
    """Refuse a classifier and rows in one place, or one below the other."""
    if folder is None or file in (None, "-"):
        return
    place, rows = Path(os.path.abspath(folder)), Path(os.path.abspath(file))
    if place == rows or place in rows.parents or rows in place.parents:
        raise CausalFTError(
            f"--save-adapted {folder} makes a new folder and --out {file} writes rows there; give them different places"
        )


def _images(paths: tuple[str, ...]) -> ImageSet:
    """The images of the paths; standard input is read once, by the process that speaks."""
    from causalft.data.given import unlabelled_images

    listed: Iterator[str] | None = None
    if "-" in paths:
        # file names are bytes, not always UTF-8
        lines = (line.decode("utf-8", "surrogateescape") for line in sys.stdin.buffer)
        if not is_launched():
            listed = lines
        else:
            from causalft.models.tuning.team import current_team

            listed = iter(current_team().from_main(lambda: list(lines)))
    images = unlabelled_images(paths, listed)
    if not follows():
        for note in images.notes:
            click.echo(f"causalft: {note}", err=True)
    return images


def _to_screen(prediction: Prediction, top: int | None) -> None:
    from rich.table import Table

    classes = prediction.classes
    table = Table(
        box=None, header_style="bold", title="P(Y | do(X)), and what each stratum says", title_justify="left"
    )
    table.add_column("file", overflow="fold")
    table.add_column("adjusted prediction", overflow="fold")
    if prediction.sets is not None:
        table.add_column(f"set, {100 * prediction.sets.coverage:g} %", overflow="fold")
    for name in prediction.model.members_:
        table.add_column(name, style="dim", overflow="fold")
    for rows, strata, fused in prediction.stream():
        for i, row in enumerate(rows.tolist()):
            best = fused[i].argsort()[::-1][:top]
            table.add_row(
                prediction.images.files[row],
                "\n".join(f"{classes[k]} {100 * fused[i, k]:.0f} %" for k in best),
                *_set_words(prediction, fused[i : i + 1]),
                *(f"{classes[int(p.argmax())]} {100 * p.max():.0f} %" for p in strata[:, i]),
            )
    console().print(table)


_SHOWN = 6


def _set_words(prediction: Prediction, fused: np.ndarray) -> list[str]:
    """The prediction set of one image (1, K) in words; nothing without sets."""
    if prediction.sets is None:
        return []
    (names,) = prediction.questions(None).set_of(fused)
    more = f", {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return [", ".join(names[:_SHOWN]) + more if names else "none"]
