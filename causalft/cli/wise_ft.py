"""``causalft wise-ft``: a fitted run at points between its initial and its tuned weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from causalft.cli.options import DEVICE, PATH, Numbers, console, print_json, repeat_command
from causalft.runs import limits
from causalft.runs.progress import phase

__all__ = ["command"]


@click.command("wise-ft")
@click.argument("run", type=PATH)
@click.option(
    "--alphas",
    type=Numbers(limits.WISE_FT_LINE),
    metavar="A,A,...",
    help="Positions from 0 (initial weights) to 1 (tuned weights); both ends are always included.  "
    "[default: 0,0.1,...,1]",
)
@click.option(
    "--device", type=DEVICE, default="auto", show_default=True, help="Device: auto, cpu, cuda or cuda:N."
)
@click.option(
    "--out",
    type=PATH,
    help="Folder for metrics.json, figure and report. Default: print only.",
)
@click.option("--json", "as_json", is_flag=True, help="Print only the metrics on standard output.")
def command(
    run: Path, alphas: tuple[float, ...] | None, device: str, out: Path | None, as_json: bool
) -> None:
    """Interpolate between the initial and tuned weights of RUN, the folder of a fit (WiSE-FT).

    Evaluates every stratum and the fusion at each alpha on the validation and test images of the run. Validation
    chooses alpha.

    \b
    causalft wise-ft runs/fit
    causalft wise-ft runs/fit --alphas 0.25,0.5,0.75 --out runs/wise-ft
    """
    from causalft.methods.estimators.run_documents import open_fit

    fitted = open_fit(run)  # before PyTorch is imported

    with phase("loading libraries"):
        from causalft.pipelines.workflows.wise_ft import ALPHAS, wise_ft_curve

    screen = console(as_json)
    metrics = wise_ft_curve(
        fitted,
        ALPHAS if alphas is None else alphas,
        out,
        command=repeat_command("as_json"),
        device=device,
        say=lambda line: screen.print(line, style="dim", soft_wrap=True),
    )
    if as_json:
        print_json(metrics)
    else:
        _print(screen, metrics)
    if out is not None:
        screen.print(f"report: {out / 'report.html'}", soft_wrap=True)


def _print(screen: Any, metrics: dict[str, Any]) -> None:
    from rich.table import Table

    from causalft.pipelines.pages.wise_ft import CHOICES, choice_rows, curves, wise_ft_rows, wise_ft_sentences

    title = "Accuracy (%) on validation | test; * chosen on validation"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in ("alpha", *curves(metrics)):
        table.add_column(name, justify="right", overflow="fold")
    for alpha, *cells in wise_ft_rows(metrics):
        pairs = (f"{validation} | {test}" for validation, test in zip(cells[::2], cells[1::2]))
        table.add_row(alpha, *pairs)
    screen.print(table)
    screen.print()
    chosen = Table(
        title=f"At the chosen alpha, on {metrics['data']['n_test']} test images",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for index, name in enumerate(CHOICES):
        chosen.add_column(name, justify="left" if index == 0 else "right", overflow="fold", no_wrap=index > 0)
    for row in choice_rows(metrics):
        chosen.add_row(*row)
    screen.print(chosen)
    screen.print()
    for line in wise_ft_sentences(metrics):
        screen.print(line)
    if metrics["fused"]["chosen"] not in (0, 1):
        screen.print(f"To keep it: the command of the fit with --wise-ft {metrics['fused']['chosen']:g}")
