"""``causalft diagnose``: which classes does the pre-training hurt, before anything is trained?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from causalft.cli.fit import DATA_FIRST, refuse_idle_splits
from causalft.cli.options import (
    PATH,
    GroupedCommand,
    console,
    given_options,
    options_of,
    print_json,
    refuse_given,
    repeat_command,
)
from causalft.errors import CausalFTError
from causalft.methods.adaptation.settings import FIRST
from causalft.methods.priors.settings import PRIORS, KnownPriorFiles
from causalft.pipelines.workflows.evidence_settings import ACCURACY, DRAWS, EvidenceSettings
from causalft.pipelines.workflows.settings import DiagnoseSettings
from causalft.runs.progress import phase
from causalft.runs.settings import choices_of

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["command"]


_GROUPS = {
    FIRST: ("data", "class_accuracy", "strata", "zoo", "out", "device", "as_json"),
    "Data": DATA_FIRST,
    "Strata": ("weights", "offline", "allow_pickle", "template", "precision"),
    ACCURACY: (),
    PRIORS: (),
    DRAWS: (),
    "Output": (),
}

_SHARED = ("n_boot", "permutations")
"""Options that both ways of diagnosing have."""


@click.command("diagnose", cls=GroupedCommand, groups=_GROUPS)
@options_of(DiagnoseSettings)
@options_of(EvidenceSettings, into="tables")
@options_of(KnownPriorFiles, into="known")
@click.option("--out", type=PATH, help="Folder for metrics.json and the report. Default: print only.")
@click.option("--json", "as_json", is_flag=True, help="Print only the metrics on standard output.")
def command(
    settings: DiagnoseSettings,
    tables: EvidenceSettings,
    known: KnownPriorFiles,
    out: Path | None,
    as_json: bool,
) -> None:
    """Which classes does the pre-training hurt, and what can be mended? Nothing is trained.

    With --data, from images: zero-shot of every stratum, its label prior, imbalance, and what logit adjustment, GLA
    and fusion can each be expected to mend.

    With --class-accuracy, from tables of your own models or of anybody's paper, and the pre-training counts of the
    models: how much accuracy a class loses where it is rare in a model's pre-training. NAME is a model of the tables,
    or a part of its name that no other has.

    \b
    causalft diagnose --data photos/ --strata clip,openclip --out runs/diagnose
    causalft diagnose --class-accuracy imagenet.json --models ViT-B-16 \\
      --test-images 50 --prior-of cc12m=cc12m.txt --prior-of laion2b=laion2b.txt
    """
    from causalft.runs.folder import Run

    images = bool(given_options("data"))
    if images == bool(tables.class_accuracy):
        raise CausalFTError(
            "give either --data or --class-accuracy, not both"
            if images
            else "nothing to diagnose; give images with --data, or tables of class accuracy with --class-accuracy FILE"
        )
    if images:
        refuse_given(_names_of(EvidenceSettings), "goes with --class-accuracy FILE, not with --data")
        settings = _settings(settings, tables, known)
    else:
        refuse_given(_names_of(DiagnoseSettings), "goes with --data, not with --class-accuracy")
        tables.check()
    if out is not None:
        Run.check(out, kind="diagnose")
    screen, line = console(as_json), repeat_command("as_json")
    if images:
        with phase("loading libraries"):
            from causalft.cli.before_training import print_strata
            from causalft.pipelines.workflows.diagnose import diagnose_data

        done = diagnose_data(
            settings, out, command=line, say=lambda text: screen.print(text, style="dim", soft_wrap=True)
        )
        metrics = done.metrics
        if not as_json:
            screen.print()
            print_strata(screen, done.found)
    else:
        with phase("loading libraries"):
            from causalft.pipelines.workflows.class_evidence import diagnose_class_tables

        metrics = diagnose_class_tables(tables, known, out, command=line)
        if not as_json:
            _print(screen, metrics)
    if as_json:
        print_json(metrics)
    if out is not None:
        screen.print(f"report: {out / 'report.html'}", soft_wrap=True)


def _names_of(cls: type) -> list[str]:
    """The options of one way of diagnosing, by name."""
    return [choice.name for choice in choices_of(cls) if choice.name not in _SHARED]


def _settings(
    settings: DiagnoseSettings, tables: EvidenceSettings, known: KnownPriorFiles
) -> DiagnoseSettings:
    """The settings for images, checked before PyTorch is imported."""
    refuse_idle_splits(settings.fit)
    fit = replace(settings.fit, known_priors=known.given())
    settings = replace(settings, fit=fit, n_boot=tables.n_boot, permutations=tables.permutations).absolute()
    settings.check()
    return settings


def _print(screen: Console, metrics: Mapping[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from causalft.pipelines.pages.class_evidence import checks_table, cross_table, models_table

    for note in metrics["notes"]:
        screen.print(Text(f"note  {note}", style="dim"))
    shown = [models_table(metrics), cross_table(metrics)]
    if metrics["slope"].get("claimed"):
        shown.append(checks_table(metrics, brief=True))
    for each in shown:
        each = each.filled
        table = Table(title=each.caption, title_justify="left", box=None, pad_edge=False)
        for index, (column, number) in enumerate(zip(each.columns, each.numeric, strict=True)):
            table.add_column(
                column, justify="right" if number else "left", overflow="fold", no_wrap=index > 0
            )
        for row in each.rows:
            table.add_row(*row)
        screen.print(table)
        screen.print()
    first, *rest = metrics["conclusion"]
    screen.print(Text(first, style="bold"))
    for sentence in rest:
        screen.print(Text(sentence))
