"""The five designs side by side: one table, one figure, one paragraph that says what follows."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from causalft.confounding.page import interval
from causalft.confounding.verify import Verification, verify_confounder
from causalft.report.html import Figure, Section, Table, render_report
from causalft.report.style import PALETTE, figure_style, new_figure, save_figure
from causalft.runs import Run, write_text
from synthetic.designs import DESIGNS

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

__all__ = ["COLUMNS", "draw_side_by_side", "run_side_by_side", "table_rows", "what_follows_from"]

COLUMNS = (
    "design",
    "I(C;Y) in B",
    "P(Y|X) to P(Y|do(X))",
    "drop B->B to B->A",
    "A->A minus B->A",
    "gap closed",
    "verdict",
)

_EXPECTED = {
    "paper": "shift of C",
    "confounded": "verified",
    "selection": "selection",
    "null": "not detected",
    "label-noise": "not detected",
}


def run_side_by_side(
    out: str | os.PathLike[str], *, command: str, **settings: Any
) -> dict[str, Verification]:
    """Run every design with the same settings, each into a folder of its own, and one page over all.

    Parameters
    ----------
    out : folder; an interrupted run in it is resumed.
    command : what the page gives as the way to repeat the run.
    settings : of `verify_confounder`, except ``design`` and ``out``.
    """
    started = time.perf_counter()
    plain = {
        key: value if isinstance(value, (str, int, float, bool, list, type(None))) else value.name
        for key, value in settings.items()
    }
    run = Run.create(out, kind="verify-confounder-all", config={"designs": list(DESIGNS), **plain})
    results: dict[str, Verification] = {}
    for name in DESIGNS:
        folder = run.path / name
        if (folder / "metrics.json").exists():
            (folder / "metrics.json").unlink()  # its networks are kept, so that it is read back in seconds
        results[name] = verify_confounder(
            name, out=folder, command=command.replace("--design all", f"--design {name}"), **settings
        )
    with figure_style():
        figure = save_figure(draw_side_by_side(results), run.file("figures/side_by_side.png"))
    write_text(run.file("report.html"), _page(results, figure, command))
    run.finish(
        {
            "designs": {name: result.metrics() for name, result in results.items()},
            "verdicts": {name: result.verdict for name, result in results.items()},
            "what_follows": what_follows_from(results),
            "seconds": time.perf_counter() - started,
        }
    )
    return results


def table_rows(results: dict[str, Verification]) -> list[list[str]]:
    """One row a design, in the order of `COLUMNS`; accuracies and total variations in points."""
    rows = []
    for name, result in results.items():
        drop, deficit = result.gaps["gap_B"], result.gaps["A_minus_B_on_A"]
        closed = result.share_closed if result.verdict in ("verified", "selection") else None
        rows.append(
            [
                name,
                f"{result.design.dependence('B'):.2f} nats",
                f"{100 * result.truth.tv:.1f}",
                interval(drop.mean, drop.ci95),
                interval(deficit.mean, deficit.ci95),
                "" if closed is None else f"{interval(*closed)} %",
                result.verdict,
            ]
        )
    return rows


def what_follows_from(results: dict[str, Verification]) -> str:
    """One paragraph on all designs together: which answers came out as the laws say they must."""
    as_expected = [name for name, result in results.items() if result.verdict == _EXPECTED.get(name)]
    others = [f"{name} ({result.verdict})" for name, result in results.items() if name not in as_expected]
    text = (
        "A drop from B to A alone does not show a confounder: the paper's own 90:10 design drops because P(C) shifts, "
        "with C independent of Y, and a selected sample drops although C causes nothing. Only where C has an arrow "
        "into Y is P(Y|X) away from P(Y|do(X)) for a reason that adjustment for C removes. Where C is invisible, or "
        "only the labels are noisy, the experiment must not say 'verified'. "
    )
    text += f"Here {len(as_expected)} of {len(results)} designs came out as their laws say."
    return text + (f" Otherwise: {', '.join(others)}." if others else "")


def draw_side_by_side(results: dict[str, Verification]) -> Drawing:
    """The drop of the B-trained model and its deficit on A in every design, with 95 % intervals."""
    figure = new_figure(8.6, 3.6)
    axes = figure.add_subplot()
    kinds = (
        ("gap_B", "drop of the B-trained model, B->B minus B->A", PALETTE["orange"]),
        ("A_minus_B_on_A", "its deficit on A, A->A minus B->A", PALETTE["blue"]),
        ("truth", "exact distance of P(Y|X) to P(Y|do(X))", PALETTE["green"]),
    )
    for number, (kind, label, colour) in enumerate(kinds):
        x = np.arange(len(results)) + (number - 1) * 0.27
        if kind == "truth":
            axes.bar(
                x, [100 * r.truth.tv for r in results.values()], 0.24, color=colour, alpha=0.75, label=label
            )
            continue
        found = [r.gaps[kind] for r in results.values()]
        means = np.array([100 * e.mean for e in found])
        ends = np.array([[100 * limit for limit in e.ci95] for e in found]).T
        axes.bar(x, means, 0.24, color=colour, alpha=0.75, label=label)
        axes.errorbar(x, means, yerr=np.maximum(0, np.abs(ends - means)), fmt="none", color="black", lw=1.2)
    axes.axhline(0, color="#444444", lw=0.8)
    axes.set_xticks(range(len(results)), [f"{name}\n{r.verdict}" for name, r in results.items()])
    axes.set_ylabel("points")
    figure.legend(loc="outside upper center", ncols=1)
    return figure


def _page(results: dict[str, Verification], figure: Path, command: str) -> str:
    first = next(iter(results.values()))
    return render_report(
        title="Is C a confounder? The designs side by side",
        verdict=what_follows_from(results),
        facts={
            "pictures": first.generator,
            "classes": ", ".join(first.design.classes),
            "seeds": ", ".join(map(str, first.seeds)),
            "seconds": f"{sum(result.seconds for result in results.values()):.0f}",
        },
        sections=[
            Section(
                "What was found",
                ["Each design has a page of its own in its folder beside this one."],
                tables=[
                    Table(
                        columns=COLUMNS,
                        rows=table_rows(results),
                        caption="Points with 95 % intervals over seeds; total variation is exact.",
                    )
                ],
                figures=[
                    Figure(
                        figure,
                        "Drops, deficits and the exact distance between seeing and doing.",
                        "Bar chart of the designs side by side.",
                    )
                ],
            ),
            Section("The designs", [f"{name}: {meaning}." for name, meaning in DESIGNS.items()]),
        ],
        command=command,
    )
