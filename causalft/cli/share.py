"""Sharing a fitted run: ``causalft export``, ``card``, ``push`` and ``pull``."""

from __future__ import annotations

from pathlib import Path

import click

from causalft.cli.options import (
    FILE,
    NAMES,
    PATH,
    TEXT,
    SpelledOption,
    console,
    name_value_pairs,
    print_json,
)
from causalft.errors import CausalFTError, nearest
from causalft.runs.progress import phase
from causalft.runs.resources import size_words

__all__ = ["card", "export", "pull", "push"]

licence_option = click.option(
    "--license", "licence", type=TEXT, help="The hub's name of this model's licence, as in mit or cc-by-4.0."
)


@click.command("export")
@click.argument("run", type=PATH)
@click.option("--to", type=TEXT, required=True, help="onnx, torch-export or single-file.")
@click.option("--out", type=PATH, help="The model's file; by default RUN/export/FORMAT/model.*")
@click.option("--strata", type=NAMES, help="Export only these, as in clip,openclip; all by default.")
@click.option(
    "--fused/--no-fused",
    default=True,
    show_default=True,
    help="Whether the fused probabilities are an output beside those of each stratum.",
)
@click.option(
    "--pictures",
    type=TEXT,
    default="float",
    show_default=True,
    help="What the model takes: float on [0, 1], or uint8.",
)
@click.option(
    "--precision",
    type=TEXT,
    default="fp32",
    show_default=True,
    help="fp32, or int8 for the linear layers of a ViT (--to onnx): smaller, and faster on a CPU.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the description of the export as JSON.")
def export(
    run: Path,
    to: str,
    out: Path | None,
    strata: tuple[str, ...] | None,
    fused: bool,
    pictures: str,
    precision: str,
    as_json: bool,
) -> None:
    """Write the classifier of RUN, the folder of a fit, as one model file with preprocessor.json beside it.

    The model takes images and returns fused, calibrated probabilities and those of each stratum; it includes
    normalisation, heads, fusion and temperature. The file is checked against the classifier before it is kept.
    """
    from causalft.methods.estimators.run_documents import EXPORT_FORMATS, open_fit

    if to not in EXPORT_FORMATS:
        raise CausalFTError(f"no export format {to!r}; {nearest(to, EXPORT_FORMATS)}")
    open_fit(run)  # refused before PyTorch is imported

    with phase("loading libraries"):
        from causalft.pipelines.export import export_run

    made = export_run(run, to, out=out, strata=strata, fused=fused, dtype=pictures, precision=precision)
    if as_json:
        print_json({"files": made.files, "difference": made.difference, **made.about})
        return
    screen = console()
    for file in made.files:
        screen.print(f"{file}  {size_words(file.stat().st_size)}", soft_wrap=True)
    screen.print(f"checked: probabilities differ from the classifier's by at most {made.difference:.1g}")
    if made.agreement is not None:
        screen.print(f"{made.agreement.sentence()} (test images of the run)", soft_wrap=True)
    elif made.note:
        screen.print(f"note: the agreement of int8 with fp32 was not measured: {made.note}", soft_wrap=True)
    if exact := made.about.get("precision", {}).get("fp32_strata"):
        screen.print(f"note: int8 is for the layers of a ViT; {', '.join(exact)}: in fp32", soft_wrap=True)
    if made.about["view"] != "centre":
        sides = " or ".join(str(entry["shorter_side"]) for entry in made.about["inputs"])
        screen.print(
            f"note: the file cuts the {made.about['view']} squares itself; give pictures with a shorter side of "
            f"{sides} pixels, not cut"
        )
    if fused and not made.about["fusion"]["calibrated"]:
        screen.print(
            "note: the temperature belongs to the fusion of all strata; this part of them is not calibrated"
        )


@click.command("card")
@click.argument("run", type=PATH)
@click.option("--out", type=PATH, help="Write it here, as in README.md; printed by default.")
@licence_option
def card(run: Path, out: Path | None, licence: str | None) -> None:
    """Write the model card of RUN, the folder of a fit: data, weights, groups, cost, limits, how to repeat it."""
    from causalft.methods.estimators.run_documents import open_fit
    from causalft.pipelines.pages.model_card import run_card
    from causalft.runs.folder import check_place, write_text
    from causalft.runs.locks import writing

    if out is not None:
        check_place(out)
    text = run_card(open_fit(run), licence=licence)
    if out is None:
        click.echo(text, nl=False)
    else:
        with writing(out):
            click.echo(f"card     {write_text(out, text)}", err=True)


@click.command("push")
@click.argument("run", type=PATH)
@click.argument("repo", type=TEXT, required=False)
@click.option("--private", is_flag=True, help="Make the new repository private.")
@click.option("--update", is_flag=True, help="Add a commit to a repository that exists.")
@click.option("--to-folder", type=PATH, help="Write the layout into a new folder; no network.")
@click.option("--dry-run", is_flag=True, help="List the files and their sizes, and send nothing.")
@licence_option
@click.option("--allow-large", is_flag=True, help="Accept tuned parts above 10 MB per stratum.")
@click.option(
    "--half",
    is_flag=True,
    help="Store what was tuned in half precision, half the size, and say how far test probabilities change.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the files and where they went as JSON.")
def push(
    run: Path,
    repo: str | None,
    private: bool,
    update: bool,
    to_folder: Path | None,
    dry_run: bool,
    licence: str | None,
    allow_large: bool,
    half: bool,
    as_json: bool,
) -> None:
    """Send RUN, the folder of a fit, to REPO (OWNER/NAME) on the Hugging Face hub.

    Sends the model card, settings, metrics, report and tuned files. Backbones, images, predictions and local paths
    are not sent.
    """
    from causalft.methods.estimators.run_documents import open_fit
    from causalft.pipelines import hub
    from causalft.pipelines.pages.model_card import run_card
    from causalft.runs.folder import check_place

    if to_folder is not None and repo is not None:
        raise CausalFTError(f"give either {repo} or --to-folder, not both: a run goes to one place at a time")
    if to_folder is not None and (private or update):
        raise CausalFTError("--private and --update are of a repository; leave them out with --to-folder")
    if repo is None and (private or update):
        raise CausalFTError("--private and --update are of a repository; name one, OWNER/NAME")
    if private and update:
        raise CausalFTError("--private is for a new repository, --update for one that exists; leave one out")
    if repo is None and to_folder is None and not dry_run:
        raise CausalFTError("say where to: OWNER/NAME, or --to-folder DIR")
    if to_folder is not None:
        check_place(to_folder / "manifest.json")
    opened = open_fit(run)
    halved = hub.halve(opened) if half else None
    stored = None if halved is None else halved.sentence()
    text = run_card(opened, repo=repo, licence=licence, stored=stored)
    kept = None if halved is None else halved.files
    files = hub.layout(opened, text, allow_large=allow_large, halved=kept)
    sizes = {
        name: len(content) if isinstance(content, bytes) else content.stat().st_size
        for name, content in sorted(files.items())
    }
    where = None
    if not dry_run and to_folder is not None:
        where = str(hub.write_layout(files, to_folder))
    elif not dry_run:
        where = hub.push(files, str(repo), private=private, update=update)
    if as_json:
        about_half = {} if halved is None else {"half": halved.to_dict()}
        print_json({"to": where, "files": sizes, **about_half})
        return
    if dry_run:
        for name, size in sizes.items():
            click.echo(f"{size / 1e6:9.3f} MB  {name}")
    if halved is not None:
        click.echo(f"stored in {stored}")
        if halved.change is None:
            click.echo(f"not measured: {halved.why_not}")
    total = f"{len(sizes)} files, {sum(sizes.values()) / 1e6:.1f} MB"
    click.echo(f"{total}; nothing was sent" if where is None else f"{total} in {where}")


@click.command("pull")
@click.argument("source", type=FILE)
@click.option(
    "--to", cls=SpelledOption, former=("--out",), required=True, type=PATH, help="A new folder for the run."
)
@click.option("--revision", type=TEXT, help="Branch, tag or commit of the repository; the newest by default.")
@click.option(
    "--weights",
    type=TEXT,
    multiple=True,
    metavar="NAME=FILE",
    help="A local weights file of a stratum of the pretrained zoo; repeat for several.",
)
@click.option(
    "--data",
    type=FILE,
    help="Where the images of the run lie here, so that evaluate scores its test split alone.",
)
def pull(source: str, to: Path, revision: str | None, weights: tuple[str, ...], data: str | None) -> None:
    """Fetch the run SOURCE: OWNER/NAME on the Hugging Face hub, or a folder that `push --to-folder` wrote.

    Every file is checked against the manifest of hashes; pickles and links out of the folder are refused. The page
    (report.html) and unlisted files are not installed.
    """
    from causalft.pipelines import hub

    run = hub.pull(source, to, revision=revision, data=data, weights=name_value_pairs(weights, "--weights"))
    strata = ", ".join(run.config["strata"])
    console().print("report.html is not installed: a page from elsewhere may hold anything", style="dim")
    console().print(f"{run.path}: {strata}, {len(run.metrics['classes'])} classes", soft_wrap=True)
