"""``causalft explain``: what each stratum of a fitted run looks at in images, and what the fusion looks at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from causalft.cli.options import DEVICE, FILE, PATH, TEXT, Number, console, print_json, repeat_command
from causalft.models.maps import AUTO, MAPS, check_map
from causalft.runs import limits
from causalft.runs.progress import phase

if TYPE_CHECKING:
    from causalft.pipelines.workflows.explain import Explanation

__all__ = ["command"]


@click.command("explain")
@click.argument("run", type=PATH)
@click.argument("paths", type=FILE, nargs=-1, required=True)
@click.option(
    "--of",
    type=TEXT,
    metavar="CLASS",
    help="Class whose evidence is shown. Default: the class that the fusion predicts for each image.",
)
@click.option(
    "--method",
    type=TEXT,
    metavar="NAME",
    default=AUTO,
    show_default=True,
    help=f"Kind of map: {', '.join(MAPS)}, or {AUTO}: the one with the lowest deletion curve on these images.",
)
@click.option(
    "--steps",
    type=Number(limits.CURVE_STEPS),
    default=10,
    show_default=True,
    help="Steps of the deletion and insertion curves; 0 leaves them out; --method auto needs 2 or more.",
)
@click.option(
    "--fill",
    type=click.Choice(["mean", "blur"]),
    default="mean",
    show_default=True,
    help="What takes the place of deleted pixels: the mean colour of the image, or the image blurred.",
)
@click.option(
    "--device", type=DEVICE, default="auto", show_default=True, help="Device: auto, cpu, cuda or cuda:N."
)
@click.option("--out", type=PATH, help="Folder for metrics.json, figures and report. Default: print only.")
@click.option("--json", "as_json", is_flag=True, help="Print only the metrics on standard output.")
def command(
    run: Path,
    paths: tuple[str, ...],
    of: str | None,
    method: str,
    steps: int,
    fill: str,
    device: str,
    out: Path | None,
    as_json: bool,
) -> None:
    """Show where every stratum of RUN, the folder of a fit, looks in the images of PATHS, and where their fusion looks.

    PATHS are image files, folders, zips or tars. Beside each map stand its spread, its overlap with the fused
    map, and deletion and insertion curves, which say whether it is true to the model. No kind of map is the default:
    on the embedded world none gives each stratum the largest share on the part that it saw most in pre-training. So
    every kind is computed, and the one with the lowest deletion curve on your images is shown.

    \b
    causalft explain runs/fit photo.jpg --out runs/explain
    causalft explain runs/fit photos/ --of lynx --method rollout
    """
    from causalft.data.given import unlabelled_images
    from causalft.errors import CausalFTError
    from causalft.methods.estimators.run_documents import check_class, open_classifier
    from causalft.runs.folder import Run

    check_map(method, steps)  # this and what follows is refused before PyTorch is imported
    opened = open_classifier(run)
    if of is not None:
        check_class(opened, of)
    if out is not None:
        Run.check(out, kind="explain")
    images = unlabelled_images(paths)
    most = limits.EXPLAINED_IMAGES.most
    if len(images) > most:
        raise CausalFTError(
            f"{len(images):,} images were given; maps are made to be looked at: give {most} or fewer"
        )
    for row in range(len(images)):
        images.image(row)
    for note in images.notes:
        click.echo(f"causalft: {note}", err=True)
    with phase("loading libraries"):
        from causalft.pipelines.workflows.explain import explain

    screen = console(as_json)
    found = explain(
        run,
        images,
        of=of,
        method=method,
        out=out,
        steps=steps,
        fill=fill,
        device=device,
        command=repeat_command("as_json"),
    )
    if as_json:
        print_json(found.metrics)
    else:
        _print(screen, found)
    if out is not None:
        screen.print(f"report: {out / 'report.html'}", soft_wrap=True)


def _print(screen: Any, found: Explanation) -> None:
    from rich.table import Table

    from causalft.pipelines.pages.explain import chosen_words

    with_curves = found.metrics["steps"] > 0
    for image in found.metrics["images"]:
        table = Table(
            title=f"{image['file']}: evidence for {image['of']}",
            title_justify="left",
            box=None,
            pad_edge=False,
        )
        table.add_column("model", overflow="fold")
        table.add_column("prediction", overflow="fold")
        for column in ("P(class)", "spread", "overlap", *(("deletion", "insertion") if with_curves else ())):
            table.add_column(column, justify="right", no_wrap=True)
        for name, model in image["models"].items():
            keys = ["of_probability", "spread", "overlap_with_fused"]
            keys += ["deletion_auc", "insertion_auc"] if with_curves else []
            cells = [f"{100 * model[key]:.0f}" if key in model else "" for key in keys]
            table.add_row(name, f"{model['prediction']} {100 * model['probability']:.0f} %", *cells)
        screen.print(table)
        screen.print()
    words = "Percent. Spread: share of the image that a map covers; overlap: with the fused map."
    if with_curves:
        words += " Deletion (low is good) and insertion (high is good): mean probability of the class."
    screen.print(words, style="dim")
    screen.print(chosen_words(found.metrics))
    screen.print(found.metrics["caution"])
