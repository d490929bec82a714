"""``causalft push``: a fitted run on a model hub, or in a folder of the same layout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from causalft.cli.options import PATH, TEXT, print_json

if TYPE_CHECKING:
    from causalft.pipelines.hub import HalfChange
    from causalft.runs.folder import Run

__all__ = ["command"]


@click.command("push")
@click.argument("run", type=PATH)
@click.argument("repo", type=TEXT, required=False)
@click.option("--private", is_flag=True, help="Make the new repository private.")
@click.option("--update", is_flag=True, help="Add a commit to a repository that exists.")
@click.option("--to-folder", type=PATH, help="Write the layout into a new folder; no network.")
@click.option("--dry-run", is_flag=True, help="List the files and their sizes, and send nothing.")
@click.option(
    "--license", "licence", type=TEXT, help="The hub's name of this model's licence, as in mit or cc-by-4.0."
)
@click.option("--allow-large", is_flag=True, help="Accept tuned parts above 10 MB a stratum.")
@click.option(
    "--half",
    is_flag=True,
    help="Store what was tuned in half precision, half the size, and say how far test probabilities change.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the files and where they went as JSON.")
def command(
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

    What goes: the model card, settings, metrics, report, and what was tuned. What stays: the backbones, the images, the
    predictions that name them, and paths of this machine.
    """
    from causalft.cli.card import card_of
    from causalft.errors import CausalFTError
    from causalft.methods.estimators.run_documents import open_fit
    from causalft.pipelines.hub import layout, push, write_layout
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
    halved: dict[Path, bytes] | None = None
    kinds, change = "", None
    if half:
        from causalft.pipelines.hub import half_files

        halved, kinds = half_files(opened)
        change = _change(opened)
    stored = None if change is None else _stored(kinds, change)
    card = card_of(opened, repo=repo, licence=licence, stored=stored)
    files = layout(opened, card, allow_large=allow_large, halved=halved)
    sizes = {
        name: len(content) if isinstance(content, bytes) else content.stat().st_size
        for name, content in sorted(files.items())
    }
    if dry_run:
        where = None
    elif to_folder is not None:
        where = str(write_layout(files, to_folder))
    else:
        assert repo is not None
        where = push(files, repo, private=private, update=update)
    if as_json:
        about_half = {} if change is None else {"half": _as_json(kinds, change)}
        print_json({"to": where, "files": sizes, **about_half})
        return
    if dry_run:
        for name, size in sizes.items():
            click.echo(f"{size / 1e6:9.3f} MB  {name}")
    if stored is not None:
        click.echo(f"stored in {stored}")
        if isinstance(change, str):
            click.echo(f"not measured: {change}")
    total = f"{len(sizes)} files, {sum(sizes.values()) / 1e6:.1f} MB"
    click.echo(f"{total}; nothing was sent" if where is None else f"{total} in {where}")


def _change(run: Run) -> HalfChange | str:
    """What half precision does to predictions of the test images, or why it cannot be said here."""
    from causalft.errors import CausalFTError
    from causalft.methods.estimators.settings import FitSettings
    from causalft.pipelines.hub import half_change
    from causalft.pipelines.workflows.fit_data import load_splits

    try:
        settings = FitSettings.from_config(run.config)
        test = load_splits(settings, settings.seed).test
        if test.fingerprint != run.config["data_fingerprint"][2]:
            return f"{settings.data} has changed since the fit"
        return half_change(run, test)
    except CausalFTError as error:  # the images or a backbone are elsewhere; the run can go out all the same
        return str(error)


def _stored(kinds: str, change: HalfChange | str) -> str:
    """In what the tuned tensors go out, and what that changes; the reason why that is not known stays here."""
    measured = "what that changes was not measured" if isinstance(change, str) else change.sentence()
    return f"{kinds}, and used in float32: {measured}"


def _as_json(kinds: str, change: HalfChange | str) -> dict[str, Any]:
    measured = {"not_measured": change} if isinstance(change, str) else {"change": change.to_dict()}
    return {"stored": kinds, **measured}
