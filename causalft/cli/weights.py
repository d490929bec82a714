"""``causalft weights``: list, fetch, check and import the weights of pretrained strata."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from causalft.cli.options import FILE, PATH, TEXT, SpelledOption, VerbGroup, console, print_json
from causalft.errors import CausalFTError

__all__ = ["command"]


@click.group("weights", cls=VerbGroup)
def command() -> None:
    """List, fetch, check and import the weights of pretrained strata.

    A NAME is clip, openclip or metaclip; ARCH/TAG of open_clip, as in ViT-L-14/datacomp_xl_s13b_b90k; or timm:NAME,
    an image-only backbone of timm.
    """


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON and nothing else on standard output."
)
pickle_option = click.option(
    "--allow-pickle",
    is_flag=True,
    help="Take a pickle (.pt, .bin) where there is nothing better; its tensors are read, and nothing else.",
)


@command.command("list")
@click.argument("names", type=TEXT, nargs=-1, metavar="[NAME|PATTERN]...")
@json_option
def list_weights(names: tuple[str, ...], as_json: bool) -> None:
    """List the weights behind names, and whether they are on this machine.

    Without NAME: the three short names, and imported weights. A PATTERN such as 'ViT-L-14*/*' or 'timm:resnet50*'
    lists matching weights of open_clip or timm.
    """
    from dataclasses import asdict

    from causalft.models.strata.carry import describe_names
    from causalft.models.strata.zoo import PretrainedZoo
    from causalft.models.weights import names_like

    zoo = PretrainedZoo(offline=True)
    wanted: list[str] = []
    for name in names:
        found = names_like(name) if any(sign in name for sign in "*?[") else [name]
        if not found:
            raise CausalFTError(f"no weights match {name!r}; try 'ViT-B-16*/*' or 'timm:vit_base*'")
        wanted += found
    if not names:
        wanted = zoo.names()
        known = {zoo.describe(name).full_name for name in wanted}
        for line in zoo.source.store.files().values():
            wanted += [name for name in line.names if name not in known]
    rows = describe_names(list(dict.fromkeys(wanted)), zoo)
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    shown = [
        {
            "name": row.name,
            "weights": row.weights if row.weights != row.name else "",
            "here": row.here,
            "size": _size(row.bytes),
            "sha256": (row.sha256 or "")[:12],
            "licence": row.licence or "",
            "repository": row.repository,
        }
        for row in rows
    ]
    _print_table(shown, f"weights (local folder: {zoo.source.store.folder})")


@command.command("fetch")
@click.argument("names", type=TEXT, nargs=-1, required=True, metavar="NAME...")
@click.option(
    "--to", cls=SpelledOption, former=("--out",), type=PATH, help="A folder to carry to an offline machine."
)
@pickle_option
@json_option
def fetch_weights(names: tuple[str, ...], to: Path | None, allow_pickle: bool, as_json: bool) -> None:
    """Fetch weights, and tokenizers where needed, into the hub's cache; with --to also into a folder.

    The folder has a manifest of hashes; `causalft weights import FOLDER` imports it on another machine. Repeating a
    failed fetch resumes it.
    """
    from causalft.models.strata.carry import fetch

    screen = console(as_json)
    files = fetch(names, to=to, allow_pickle=allow_pickle, say=screen.print)
    if as_json:
        print_json({"folder": to, "files": files})
    elif to is not None:
        screen.print(f"on the other machine: causalft weights import {to}")


@command.command("check")
@click.argument("places", type=FILE, nargs=-1, metavar="[FOLDER|NAME]...")
@pickle_option
@json_option
def check_weights(places: tuple[str, ...], allow_pickle: bool, as_json: bool) -> None:
    """Check hashes, and that weights load and run. Without an argument: the local folder of weights.

    A FOLDER is compared with its manifest. A NAME is loaded from this machine.
    """
    from causalft.models.strata.carry import check_folder, check_names
    from causalft.models.strata.zoo import PretrainedZoo
    from causalft.models.weights.store import weights_folder

    screen = console(as_json)
    zoo = PretrainedZoo(offline=True, allow_pickle=allow_pickle)

    def say(name: str) -> None:
        screen.print(f"checking {name}", style="dim")

    rows: list[dict[str, str]] = []
    for place in places or (str(weights_folder()),):
        if not places or (Path(place) / "manifest.json").exists():
            rows += check_folder(Path(place), allow_pickle=allow_pickle, say=say)
        elif Path(place).is_dir() and not _is_name(place):
            raise CausalFTError(
                f"{place} has no manifest of weights; `causalft weights fetch --to` writes one"
            )
        else:
            rows += check_names([place], zoo, say=say)
    bad = [row for row in rows if row["problem"]]
    if as_json:
        print_json(rows)
    elif len(rows) > 1 or not bad:  # the error that follows describes a single one
        shown = [{**row, "sha256": row["sha256"][:12], "problem": row["problem"] or "none"} for row in rows]
        _print_table([{key: row[key] for key in ("name", "sha256", "problem")} for row in shown], "weights")
    if bad:
        raise CausalFTError(
            f"{len(bad)} of {len(rows)} are not as they should be; {bad[0]['name']}: {bad[0]['problem']}"
        )


@command.command("import")
@click.argument("source", type=PATH, metavar="FOLDER|FILE")
@click.option(
    "--name", type=TEXT, help="With a FILE: what it holds the weights of, as in openclip or ViT-B-16/my-own."
)
@pickle_option
@json_option
def import_weights(source: Path, name: str | None, allow_pickle: bool, as_json: bool) -> None:
    """Import a fetched FOLDER, or one FILE, into the local folder of weights, checked by hash.

    Strata are then loaded from there by name, offline. A FILE that is a pickle (--allow-pickle) is converted to
    safetensors. The local folder is $CAUSALFT_WEIGHTS, or ~/.cache/causalft/weights.
    """
    from causalft.models.strata.carry import import_file, import_folder
    from causalft.models.weights.store import weights_folder

    screen = console(as_json)
    if not source.exists():
        raise CausalFTError(
            f"{source} does not exist; name a folder made by `causalft weights fetch`, or a file"
        )
    if source.is_dir():
        if name is not None:
            raise CausalFTError("--name goes with a FILE; the manifest of a FOLDER says what is in it")
        files = import_folder(source, allow_pickle=allow_pickle, say=screen.print)
    else:
        if name is None:
            raise CausalFTError(
                f"{source} is a file; say what it holds with --name NAME, as in --name openclip or --name "
                "ViT-B-16/my-own"
            )
        files = [import_file(source, name, allow_pickle=allow_pickle)]
        screen.print(f"{name}: {files[0]}")
    if as_json:
        print_json({"folder": weights_folder(), "files": files})


def _is_name(text: str) -> bool:
    from causalft.models.weights import resolve_name

    try:
        resolve_name(text)
    except CausalFTError:
        return False
    return True


def _size(n_bytes: int | None) -> str:
    if n_bytes is None:
        return ""
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.1f} MB"


def _print_table(rows: list[dict[str, Any]], title: str) -> None:
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, header_style="bold")
    columns = [column for column in rows[0] if any(str(row[column]) for row in rows)]
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(str(row[column]) for column in columns))
    console().print(table)
