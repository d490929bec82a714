"""``causalft verify-confounder``: the A/B experiment, its tests, the exact truth and the verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from causalft.cli.generate import refuse_diffusion_options
from causalft.cli.options import PATH, GroupedCommand, console, options_of, print_json, repeat_command
from causalft.methods.adaptation.settings import FIRST
from causalft.pipelines.workflows.settings import VerifySettings
from causalft.runs.folder import read_json

__all__ = ["command"]


_GROUPS = {
    FIRST: ("design", "quick", "n_per_class", "seeds", "out", "generator", "curve", "json_mode"),
    "Design": (),
    "Training": ("backbone", "adjust", "first_seed"),
    "Stable Diffusion (with --generator stable-diffusion)": (),
}


@click.command("verify-confounder", cls=GroupedCommand, groups=_GROUPS)
@options_of(VerifySettings)
@click.option(
    "--out",
    type=PATH,
    help="Folder of the run.  [default: runs/verify-confounder-DESIGN, numbered if taken]",
)
@click.option("--json", "json_mode", is_flag=True, help="Print only metrics.json on standard output.")
def command(settings: VerifySettings, out: Path | None, json_mode: bool) -> None:
    """Is a semantic factor a confounder?

    Draws balanced (A) and unbalanced (B) image sets, trains a network on each and one adjusted for the factor, tests
    all on both over several seeds, compares them with the exact truth of the design, and concludes: verified, shift of
    C, selection, not detected or inconclusive.
    """
    repeat = repeat_command("out", "json_mode")
    from causalft.pipelines.workflows.trial import usual_jobs

    screen = console(json_mode)
    design = settings.design
    folder = out if out is not None else _free_folder(Path("runs"), f"verify-confounder-{Path(design).stem}")
    refuse_diffusion_options(settings.source)
    source = settings.source.open()
    generator = source if source.name != "renderer" else "renderer"
    options = {**settings.options(), "generator": generator, "command": repeat}
    options["jobs"] = usual_jobs(settings.quick, generator)
    if design == "all":
        from causalft.pipelines.pages.confounder import table_rows, what_follows_from
        from causalft.pipelines.workflows.verify_confounder import verify_all_designs

        results = verify_all_designs(folder, **options)
        if json_mode:
            print_json(read_json(folder / "metrics.json"))
            return
        _show_all(screen, table_rows(results), what_follows_from(results))
    else:
        from causalft.pipelines.workflows.verify_confounder import verify_confounder

        result = verify_confounder(design, out=folder, **options)
        if json_mode:
            print_json(read_json(folder / "metrics.json"))
            return
        _show(screen, result.metrics())
    screen.print(f"report: {folder / 'report.html'}", soft_wrap=True)


def _show(screen: Any, metrics: dict[str, Any]) -> None:
    from rich.table import Table

    from causalft.analysis.confounding.words import TEST_NAMES, estimand, explain_sets, verdict_line
    from causalft.pipelines.pages.confounder import GAPS, closed_sentence, interval
    from causalft.runs.intervals import p_words

    seeds = len(metrics["seeds"])
    how = f"{metrics['backbone']}{' (quick)' if metrics['quick'] else ''}, {seeds} seed{'s' if seeds > 1 else ''}"
    cells = Table(
        "", "tested on A", "tested on B", title=f"Accuracy, % [95 % interval]; {how}", title_justify="left"
    )
    for model, name in (("A", "trained on A"), ("B", "trained on B"), ("adjusted", "B, adjusted for C")):
        if f"{model}->A" in metrics["cells"]:
            found = (metrics["cells"][f"{model}->{t}"] for t in "AB")
            cells.add_row(name, *(interval(cell["mean"], cell["ci95"]) for cell in found))
    truth = Table(
        "estimator",
        "to P(Y|do(X))",
        "to P(Y|X)",
        title="Total variation to the truth, points",
        title_justify="left",
    )
    for name, found in metrics["estimates"].items():
        truth.add_row(
            name, interval(found["tv_to_truth"], found["ci95"]), f"{100 * found['tv_to_p_y_given_x']:.1f}"
        )
    tests = Table("test", "found [95 %]", "p (Holm)", title="Tests", title_justify="left")
    tests.columns[1].no_wrap = tests.columns[2].no_wrap = True
    for name, test in metrics["tests"].items():
        if "p_holm" not in test and name not in GAPS:
            continue
        p = test.get("p_holm", test["p"])
        nats = name in ("c_to_x", "c_to_y")
        value = f"{test['estimate']:.3f} nats" if nats else interval(test["estimate"], test["ci95"])
        tests.add_row(f"{name}: {TEST_NAMES[name]}", value, p_words(p))
    screen.print(f"Is the part in view a confounder? Design {metrics['design']}:")
    for line in explain_sets(metrics):
        screen.print(line)
    screen.print(estimand(metrics))
    screen.print(cells)
    screen.print(truth)
    screen.print(tests)
    if closed := closed_sentence(metrics):
        screen.print(closed)
    for note in metrics["notes"]:
        screen.print(f"note: {note}")
    screen.print(f"verdict: {verdict_line(metrics)}", style="bold")
    screen.print(f"{metrics['seconds']:.0f} seconds")


def _show_all(screen: Any, rows: list[list[str]], paragraph: str) -> None:
    from rich.table import Table

    from causalft.pipelines.pages.confounder import COLUMNS

    table = Table(*COLUMNS, title="The designs side by side", title_justify="left")
    for row in rows:
        table.add_row(*row)
    screen.print(table)
    screen.print(paragraph)


def _free_folder(parent: Path, name: str) -> Path:
    """The first of name, name-2, ... without a complete run (an interrupted one is resumed)."""
    number = 1
    while True:
        folder = parent / (name if number == 1 else f"{name}-{number}")
        if not (folder / "metrics.json").exists():
            return folder
        number += 1
