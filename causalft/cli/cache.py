"""``causalft cache``: list, verify and clear cached features."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from causalft.cli.options import PATH, Number, VerbGroup, console, print_json
from causalft.runs import limits

if TYPE_CHECKING:
    from causalft.models.features.store import CacheEntry, FeatureCache

__all__ = ["command"]

_DAY = 86400.0


def _folder_option(function: Any) -> Any:
    return click.option(
        "--folder",
        type=PATH,
        help="The cache; by default $CAUSALFT_CACHE, or causalft/features in your cache folder.",
    )(function)


def _json_option(function: Any) -> Any:
    return click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON document and nothing else on standard output."
    )(function)


@click.group("cache", cls=VerbGroup)
def command() -> None:
    """Manage the cache of frozen features.

    Features are computed once per combination of weights, images, transform and precision, so entries never become
    outdated. The cache grows until it is cleared.
    """


@command.command("list")
@_folder_option
@_json_option
def list_command(folder: Path | None, as_json: bool) -> None:
    """List the entries with size and age."""
    from rich.table import Table

    cache = _open(folder)
    entries = cache.entries()
    if as_json:
        print_json({"folder": str(cache.folder), "entries": [_plain(entry) for entry in entries]})
        return
    screen = console()
    table = Table(box=None, header_style="bold", pad_edge=False)
    whats = [_what(entry) for entry in entries]
    told_apart = set(whats) != {"features"}  # drop a column that is the same in every row
    for name in (
        "key",
        *(["what"] if told_apart else []),
        "stratum",
        "images",
        "shape",
        "size",
        "age",
        "unused",
    ):
        table.add_column(
            name,
            overflow="fold",
            # text may wrap, numbers and keys may not
            no_wrap=name not in ("what", "stratum", "images"),
            justify="right" if name in ("shape", "size", "age", "unused") else "left",
        )
    for entry, what in zip(entries, whats, strict=True):
        table.add_row(
            entry.key[:8],
            *([what] if told_apart else []),
            str(entry.about.get("stratum", "")),
            str(entry.about.get("data", "")),
            " x ".join(f"{side:,}" for side in entry.shape),
            _size(entry.n_bytes),
            _age(entry.made),
            _age(entry.used),
        )
    if entries:
        screen.print(table)
    screen.print(f"{len(entries)} entries, {_size(sum(e.n_bytes for e in entries))}, in {cache.folder}")


def _what(entry: CacheEntry) -> str:
    """Describe the content of an entry."""
    kind, view = str(entry.about.get("kind", "?")), entry.about.get("view", "centre")
    return (kind if view == "centre" else f"{kind}, {view}") + ("" if entry.complete else " (interrupted)")


@command.command("clear")
@_folder_option
@click.option(
    "--unused-days",
    type=Number(limits.DAYS),
    default=0.0,
    show_default=True,
    help="Only entries that were not used for so many days.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@_json_option
def clear_command(folder: Path | None, unused_days: float, yes: bool, as_json: bool) -> None:
    """Remove entries; they are recomputed when needed."""
    from causalft.errors import CausalFTError

    cache = _open(folder)
    old = [entry for entry in cache.entries() if time.time() - entry.used >= unused_days * _DAY]
    if old and not yes:
        if as_json:
            raise CausalFTError("with --json nothing can be asked; add --yes to clear the cache")
        whole = _size(sum(entry.n_bytes for entry in old))
        try:
            click.confirm(f"Remove {len(old)} entries ({whole}) from {cache.folder}?", abort=True, err=True)
        except click.Abort as abort:
            if not isinstance(abort.__context__, EOFError):
                raise
            click.echo(err=True)  # end the line of the question
            raise CausalFTError(
                "standard input ended before an answer; add --yes to clear the cache"
            ) from None
    count, size = cache.clear(unused_days * _DAY)
    if as_json:
        print_json({"folder": str(cache.folder), "removed": count, "bytes": size})
    else:
        console().print(f"removed {count} entries, {_size(size)}")


@command.command("verify")
@_folder_option
@click.option("--remove", is_flag=True, help="Remove the damaged entries.")
@_json_option
@click.pass_context
def verify_command(context: click.Context, folder: Path | None, remove: bool, as_json: bool) -> None:
    """Read every entry and compare it with its SHA-256; exit code 1 if one is damaged (and stays)."""
    cache = _open(folder)
    found = cache.verify()
    damaged = {key: problem for key, problem in found.items() if problem is not None}
    if remove:
        for key in damaged:
            cache.remove(key)
    if as_json:
        print_json(
            {"folder": str(cache.folder), "checked": len(found), "damaged": damaged, "removed": remove}
        )
    else:
        screen = console()
        for key, problem in damaged.items():
            screen.print(f"{key}: {problem}" + ("; removed" if remove else ""))
        screen.print(f"{len(found) - len(damaged)} of {len(found)} entries are whole, in {cache.folder}")
    if damaged and not remove:
        context.exit(1)


def _open(folder: Path | None) -> FeatureCache:
    from causalft.errors import CausalFTError
    from causalft.models.features.store import FeatureCache

    cache = FeatureCache(folder)
    if folder is not None and not folder.exists():
        raise CausalFTError(f"{folder}: no such folder")
    if cache.folder.exists() and not cache.folder.is_dir():
        name = "--folder" if folder is not None else "CAUSALFT_CACHE"
        raise CausalFTError(f"{cache.folder} is a file, not a folder; set {name} to the folder of a cache")
    return cache


def _plain(entry: CacheEntry) -> dict[str, Any]:
    return {
        "key": entry.key,
        **entry.about,
        "shape": entry.shape,
        "bytes": entry.n_bytes,
        "made": entry.made,
        "used": entry.used,
        "complete": entry.complete,
    }


def _size(n_bytes: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n_bytes < 1024 or unit == "GiB":
            break
        n_bytes /= 1024
    return f"{n_bytes:,.0f} {unit}" if n_bytes >= 10 or unit == "B" else f"{n_bytes:,.1f} {unit}"


def _age(moment: float) -> str:
    seconds = max(0.0, time.time() - moment)
    for unit, length in (("d", _DAY), ("h", 3600.0), ("min", 60.0)):
        if seconds >= length:
            return f"{int(seconds / length)} {unit}"
    return "< 1 min"
