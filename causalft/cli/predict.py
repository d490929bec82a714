"""``causalft predict``: classify images with a fitted run, a few on the screen or any number into a file."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from causalft.cli.options import (
    DEVICE,
    FILE,
    PATH,
    GroupedCommand,
    Number,
    SpelledOption,
    console,
    print_json,
)
from causalft.runs import limits
from causalft.runs.progress import phase

if TYPE_CHECKING:
    import numpy as np

    from causalft.data.image_set import ImageSet
    from causalft.methods.estimators.fitted import FittedStrata

__all__ = ["command"]


@click.command(
    "predict",
    cls=GroupedCommand,
    groups={
        "Output": ("output", "kind", "top", "as_json"),
        "Reading and speed": ("on_error", "batch_size", "device"),
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
    help="Write one row an image there (- is standard output), streaming.",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["jsonl", "csv", "parquet"]),
    help="Of --out; by default that of its ending, and jsonl for -.",
)
@click.option(
    "--top",
    type=Number(limits.TOP, "all"),
    default="3",
    show_default=True,
    help="Classes given for each image: a number, or all.",
)
@click.option(
    "--on-error",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="An image that cannot be read stops the command, or is named and passed over.",
)
@click.option(
    "--batch-size",
    type=Number(limits.BATCH_SIZE),
    default=64,
    show_default=True,
    help="Images at a time.",
)
@click.option("--device", type=DEVICE, default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document: every class, every stratum.")
def command(
    run: Path,
    paths: tuple[str, ...],
    output: str | None,
    kind: str | None,
    top: int | str,
    on_error: str,
    batch_size: int,
    device: str,
    as_json: bool,
) -> None:
    """Classify images: PATHS are image files, folders or zips of images, RUN is the folder of a fit.

    The path - reads standard input: one path a line, or one JSON object with a "path" a line. With --out the
    memory does not grow with the number of images, and a call that was interrupted goes on if it is repeated
    (JSON lines and CSV).
    """
    if "torch" not in sys.modules:
        # Threads that decode share the cores with those of a layer; these must not spin while they wait for each other.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from causalft.cli.predict_output import choose_format
    from causalft.data.given import unlabelled_images
    from causalft.errors import CausalFTError
    from causalft.methods.estimators.run_documents import open_classifier
    from causalft.runs.folder import check_place

    n_top = None if top == "all" else int(top)
    if output is None and kind is not None:
        raise CausalFTError("--format goes with --out FILE (or --out - for standard output)")
    if output is not None and as_json:
        raise CausalFTError("--json prints one document; with --out use --format jsonl")
    chosen = None if output is None else choose_format(output, kind)
    if output is not None and output != "-":
        check_place(output)
    open_classifier(run)  # refused before PyTorch is imported
    # File names are bytes: what is no UTF-8 goes through unharmed.
    listed = (line.decode("utf-8", "surrogateescape") for line in sys.stdin.buffer) if "-" in paths else None
    images = unlabelled_images(paths, listed)
    for note in images.notes:
        click.echo(f"causalft: {note}", err=True)

    with phase("loading libraries"):
        from causalft.methods.estimators.fitted import load_fitted

    model = load_fitted(run, device=device)
    skipped: list[tuple[int, str]] = []

    def bad(row: int, message: str) -> None:
        from tqdm import tqdm

        skipped.append((row, message))
        tqdm.write(f"causalft: skipped: {message}", file=sys.stderr)

    options: dict[str, Any] = {"batch_size": batch_size, "on_error": on_error, "bad": bad}
    if output is not None and chosen is not None:
        _to_file(run, model, images, output, chosen, n_top, skipped, options)
    elif as_json:
        print_json(_document(model, images, skipped, options))
    else:
        _to_screen(model, images, n_top, options)
    if skipped and output is None:
        click.echo(f"{len(skipped)} of {len(images)} images could not be read", err=True)


Streamed = Iterator[tuple["np.ndarray", "np.ndarray", "np.ndarray"]]


def _stream(model: FittedStrata, images: ImageSet, options: dict[str, Any]) -> Streamed:
    from causalft.methods.estimators.fitted import predict_stream

    label = f"predicting {len(images)} images"
    return predict_stream(model, images, label=label, **options)


def _to_file(
    run: Path,
    model: FittedStrata,
    images: ImageSet,
    output: str,
    kind: str,
    top: int | None,
    skipped: list[tuple[int, str]],
    options: dict[str, Any],
) -> None:
    from causalft.cli.predict_output import open_rows
    from causalft.cli.predict_rows import Questions
    from causalft.errors import CausalFTError
    from causalft.runs.files import sha256_file

    questions = Questions(model.classes_.tolist(), list(model.members_), top)
    fitted = [sha256_file(run / name) for name in ("config.json", "metrics.json")]
    started, written = time.perf_counter(), 0
    with open_rows(output, kind, questions, [*fitted, *images.files]) as place:
        if place.start:
            click.echo(f"{place.start:,} of {len(images):,} images are there already; going on", err=True)
        rows = range(place.start, len(images))
        stream = _stream(model, images, {**options, "rows": rows})
        for piece in _in_order(stream, skipped):
            if isinstance(piece[1], str):
                place.rows.fail(images.files[piece[0]], piece[1])
                place.done = piece[0] + 1
            else:
                found, strata, fused = piece
                place.rows.add([images.files[row] for row in found], strata, fused)
                place.done, written = int(found[-1]) + 1, written + len(found)
            place.save()
        if rows and not written:
            raise CausalFTError(f"none of {len(rows):,} images could be read (they are named above)")
    seconds = time.perf_counter() - started
    where = "standard output" if output == "-" else output
    done = f"{written:,} image{'' if written == 1 else 's'}"
    click.echo(
        f"{done} in {seconds:,.1f} s ({written / max(seconds, 1e-9):,.0f} a second) to {where}"
        + (f"; {len(skipped):,} could not be read" if skipped else ""),
        err=True,
    )


def _in_order(stream: Streamed, skipped: list[tuple[int, str]]) -> Iterator[Any]:
    """Cut the batches at the images that could not be read, so that rows come in the order of the images.

    Yields (rows, stratum_probs, fused), or (row, message).
    """
    import numpy as np

    told = 0
    for found, strata, fused in stream:
        start = 0
        while told < len(skipped) and skipped[told][0] < found[-1]:
            end = int(np.searchsorted(found, skipped[told][0]))
            if end > start:
                yield found[start:end], strata[:, start:end], fused[start:end]
            yield skipped[told]
            start, told = end, told + 1
        yield found[start:], strata[:, start:], fused[start:]
    yield from skipped[told:]


def _document(
    model: FittedStrata, images: ImageSet, skipped: list[tuple[int, str]], options: dict[str, Any]
) -> list[dict[str, Any]]:
    classes = model.classes_.tolist()

    def said(probabilities: np.ndarray) -> dict[str, Any]:
        named = dict(zip(classes, probabilities.tolist(), strict=True))
        return {"prediction": classes[int(probabilities.argmax())], "probabilities": named}

    document: dict[int, dict[str, Any]] = {}
    for rows, strata, fused in _stream(model, images, options):
        for i, row in enumerate(rows.tolist()):
            each = {name: said(strata[c, i]) for c, name in enumerate(model.members_)}
            document[row] = {"file": images.files[row], **said(fused[i]), "strata": each}
    for row, message in skipped:
        document[row] = {"file": images.files[row], "error": message}
    return [document[row] for row in sorted(document)]


def _to_screen(model: FittedStrata, images: ImageSet, top: int | None, options: dict[str, Any]) -> None:
    from rich.table import Table

    classes = model.classes_.tolist()
    table = Table(
        box=None, header_style="bold", title="P(Y | do(X)), and what each stratum says", title_justify="left"
    )
    table.add_column("file", overflow="fold")
    table.add_column("adjusted prediction", overflow="fold")
    for name in model.members_:
        table.add_column(name, style="dim", overflow="fold")
    for rows, strata, fused in _stream(model, images, options):
        for i, row in enumerate(rows.tolist()):
            best = fused[i].argsort()[::-1][:top]
            table.add_row(
                images.files[row],
                "\n".join(f"{classes[k]} {100 * fused[i, k]:.0f} %" for k in best),
                *(f"{classes[int(p.argmax())]} {100 * p.max():.0f} %" for p in strata[:, i]),
            )
    console().print(table)
