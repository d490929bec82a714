"""The five designs side by side: one table, one figure, one paragraph that says what follows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from causalft.pipelines.pages.confounder import interval
from causalft.report.drawing import draw
from causalft.report.html import Figure, Section, Table, made_line, render_report
from causalft.report.style import PALETTE, figure_style, new_figure
from causalft.runs.folder import Run, write_text
from synthetic.designs import BUILT_IN, DESIGNS

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Plot

__all__ = [
    "COLUMNS",
    "draw_side_by_side",
    "table_rows",
    "what_follows_from",
    "write_side_by_side",
]

Metrics = Mapping[str, Any]

COLUMNS = (
    "design",
    "I(C;Y) in B",
    "P(Y|X) to P(Y|do(X))",
    "drop B->B to B->A",
    "A->A minus B->A",
    "gap closed",
    "verdict",
)


def _expected(name: str, verdict: str) -> bool:
    return name in BUILT_IN and verdict == BUILT_IN[name].expected


def table_rows(found: Mapping[str, Metrics]) -> list[list[str]]:
    """One row a design, in the order of `COLUMNS`; accuracies and total variations in points."""
    rows = []
    for name, metrics in found.items():
        drop, deficit = metrics["tests"]["gap_B"], metrics["tests"]["A_minus_B_on_A"]
        closed = metrics["share_of_gap_closed"] if metrics["verdict"] in ("verified", "selection") else None
        rows.append(
            [
                name,
                f"{metrics['mutual_information_nats']['B_train']:.2f} nats",
                f"{100 * metrics['truth']['tv']:.1f}",
                interval(drop["estimate"], drop["ci95"]),
                interval(deficit["estimate"], deficit["ci95"]),
                "" if closed is None else f"{interval(closed['estimate'], closed['ci95'])} %",
                metrics["verdict"],
            ]
        )
    return rows


def what_follows_from(found: Mapping[str, Metrics]) -> str:
    """One paragraph on all designs together: which answers came out as the laws say they must."""
    verdicts = {name: metrics["verdict"] for name, metrics in found.items()}
    as_expected = [name for name, verdict in verdicts.items() if _expected(name, verdict)]
    others = [f"{name} ({verdict})" for name, verdict in verdicts.items() if name not in as_expected]
    text = (
        "A drop from B to A alone does not show a confounder: the paper's own 90:10 design drops because P(C) shifts, "
        "with C independent of Y, and a selected sample drops although C causes nothing. Only where C has an arrow "
        "into Y is P(Y|X) away from P(Y|do(X)) for a reason that adjustment for C removes. Where C is invisible, or "
        "only the labels are noisy, the experiment must not say 'verified'. "
    )
    text += f"Here {len(as_expected)} of {len(found)} designs came out as their laws say."
    return text + (f" Otherwise: {', '.join(others)}." if others else "")


def draw_side_by_side(found: Mapping[str, Metrics]) -> Plot:
    """The drop of the B-trained model and its deficit on A in every design, with 95 % intervals."""
    figure = new_figure(8.6, 3.6)
    axes = figure.add_subplot()
    kinds = (
        ("gap_B", "drop of the B-trained model, B->B minus B->A", PALETTE["orange"]),
        ("A_minus_B_on_A", "its deficit on A, A->A minus B->A", PALETTE["blue"]),
        ("truth", "exact distance of P(Y|X) to P(Y|do(X))", PALETTE["green"]),
    )
    for number, (kind, label, colour) in enumerate(kinds):
        x = np.arange(len(found)) + (number - 1) * 0.27
        if kind == "truth":
            axes.bar(
                x,
                [100 * m["truth"]["tv"] for m in found.values()],
                0.24,
                color=colour,
                alpha=0.75,
                label=label,
            )
            continue
        tests = [metrics["tests"][kind] for metrics in found.values()]
        means = np.array([100 * test["estimate"] for test in tests])
        ends = np.array([[100 * limit for limit in test["ci95"]] for test in tests]).T
        axes.bar(x, means, 0.24, color=colour, alpha=0.75, label=label)
        axes.errorbar(x, means, yerr=np.maximum(0, np.abs(ends - means)), fmt="none", color="black", lw=1.2)
    axes.axhline(0, color="#444444", lw=0.8)
    axes.set_xticks(range(len(found)), [f"{name}\n{m['verdict']}" for name, m in found.items()])
    axes.set_ylabel("points")
    figure.legend(loc="outside upper center", ncols=1)
    return figure


def write_side_by_side(run: Run, metrics: Metrics, command: str) -> None:
    """Write ``report.html`` and its figure."""
    found = metrics["designs"]
    with figure_style():
        figure = draw(draw_side_by_side(found), run.file("figures/side_by_side.png"))
    first = next(iter(found.values()))
    as_expected = sum(_expected(name, of["verdict"]) for name, of in found.items())
    page = render_report(
        title="Is C a confounder? The designs side by side",
        verdict=f"{as_expected} of {len(found)} designs came out as their laws say.",
        details=[what_follows_from(found)],
        made=made_line(metrics),
        facts={
            "pictures": first["generator"],
            "classes": ", ".join(first["classes"]),
            "seeds": ", ".join(f"{len(of['seeds'])} ({name})" for name, of in found.items()),
        },
        sections=[
            Section(
                "What was found",
                ["Each design has a page of its own in its folder beside this one."],
                tables=[
                    Table(
                        columns=COLUMNS,
                        rows=table_rows(found),
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
    write_text(run.file("report.html"), page)
