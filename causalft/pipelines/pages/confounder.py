"""Pages of ``verify-confounder``: one A/B run, and all designs side by side."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from causalft.analysis.confounding.words import (
    TEST_NAMES,
    VERDICT_WORDS,
    estimand,
    explain_sets,
    verdict_line,
    what_follows,
)
from causalft.report.drawing import Drawing, draw
from causalft.report.html import Figure, Section, Table, made_line, render_report
from causalft.report.style import PALETTE, figure_style, new_figure
from causalft.runs.folder import Run, write_text
from causalft.runs.intervals import interval_text, p_relation, p_words
from synthetic.designs import BUILT_IN, DESIGNS

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Plot

__all__ = [
    "COLUMNS",
    "closed_sentence",
    "draw_side_by_side",
    "interval",
    "table_rows",
    "what_follows_from",
    "write_report",
    "write_side_by_side",
]

GAPS = ("gap_B", "gap_A", "A_minus_B_on_A", "gap_B_minus_gap_A")
"""Tests that are differences of accuracies, in points."""

_METHOD = (
    "Each seed is a whole replication with its own four image sets and its own initial weights. The estimate "
    "is the mean over seeds. Its squared standard error is the larger of the variance between seeds over their "
    "number and the variance that the number of test pictures alone gives (within class and factor, paired "
    "where models share test pictures); intervals and p-values are Student's t with one degree of freedom less "
    "than seeds. A gap counts if gap_B, A_minus_B_on_A and their difference of gaps are all above zero at 95 "
    "%. It is then called confounding only if C -> X, C -> Y and the open path are significant after Holm's "
    "correction and the design's graph has the backdoor path; 'not detected' means that an effect of 5 points "
    "is excluded; with one seed, fewer than five minority pictures of a class in training, or models that did "
    "not learn, the answer is 'inconclusive'."
)


def write_report(
    path: Path, metrics: Mapping[str, Any], figures: Mapping[str, Drawing], command: str
) -> Path:
    """Write the page of one run."""
    return write_text(
        path,
        render_report(
            title=f"Does the factor confound? Design '{metrics['design']}'",
            verdict=VERDICT_WORDS[metrics["verdict"]].headline,
            details=[_sentences(verdict_line(metrics))],
            made=made_line(metrics),
            facts=_facts(metrics),
            sections=[
                Section(
                    "The question", [*explain_sets(metrics), estimand(metrics)], figures=[_graph(figures)]
                ),
                _found(metrics, figures),
                _truth(metrics, figures),
                _tests(metrics),
                _pictures(figures),
                _judged(metrics),
            ],
            command=command,
        ),
    )


def _sentences(text: str) -> str:
    """Capitalise each sentence and end with a full stop."""
    return ". ".join(part[:1].upper() + part[1:] for part in text.split(". ")) + "."


def closed_sentence(metrics: Mapping[str, Any]) -> str:
    """Share of the gap on A closed by adjustment; empty if the gap may be zero or nothing was adjusted."""
    closed = metrics["share_of_gap_closed"]
    if closed is None or any(limit is None or not isfinite(limit) for limit in closed["ci95"]):
        return ""
    return f"Adjustment closes {interval(closed['estimate'], closed['ci95'])} % of the gap on A"


def interval(value: float, ci95: Any) -> str:
    """A fraction and its interval, if bounded, in percent."""
    if value is None or not isfinite(value):
        return "unknown"
    bounded = all(limit is not None and isfinite(limit) for limit in ci95)
    return interval_text(value, ci95 if bounded else None)


def _facts(metrics: Mapping[str, Any]) -> dict[str, str]:
    facts = {
        "design": f"{metrics['design']}: {metrics['design_meaning']}",
        "strength": f"{metrics['strength']:g}",
        "classes": ", ".join(metrics["classes"]),
        "pictures": f"{metrics['generator']}, {metrics['n_per_class']} of each class in each set",
        "network": metrics["backbone"] + (" (quick: a smaller, shorter run)" if metrics["quick"] else ""),
        "seeds": ", ".join(map(str, metrics["seeds"])),
    }
    for name in ("model", "revision", "scheduler", "steps", "guidance"):
        if metrics["provenance"].get(name):
            facts[name] = str(metrics["provenance"][name])
    return facts


def _graph(figures: Mapping[str, Drawing]) -> Figure:
    return Figure(
        figures["graph"],
        "The causal graph of the B sets; green closes the backdoor path, dashed is not observed.",
        "Causal graph of the design.",
    )


def _found(metrics: Mapping[str, Any], figures: Mapping[str, Drawing]) -> Section:
    cells, parts, best = metrics["cells"], metrics["parts"], metrics["best_accuracy"]
    names = {"A": "trained on A", "B": "trained on B", "adjusted": "trained on B, adjusted for C"}
    rows = [
        [names[m], *(interval(cells[f"{m}->{t}"]["mean"], cells[f"{m}->{t}"]["ci95"]) for t in "AB")]
        for m in names
        if f"{m}->A" in cells
    ]
    rows += [
        [f"best possible, P(Y|X) of {m} known", *(f"{100 * best[f'{m}->{t}']:.1f}" for t in "AB")]
        for m in "AB"
    ]
    columns = ["majority", "minority", "C=0", "C=1"]
    return Section(
        "What was found",
        [what_follows(metrics)],
        tables=[
            Table(
                columns=["model", "tested on A", "tested on B"],
                rows=rows,
                caption=f"Accuracy in percent with 95 % intervals, {len(metrics['seeds'])} seeds.",
            ),
            Table(
                columns=["on the pictures of A", "majority part of B", "minority part of B", "C=0", "C=1"],
                rows=[[names[m], *(f"{100 * parts[m][c]:.1f}" for c in columns)] for m in "AB"],
                caption="Accuracy in percent by the picture's C. The first row says whether the two are equally hard.",
            ),
        ],
        figures=[
            Figure(
                figures["cells"],
                "Accuracy of the models on both test sets; dots are seeds.",
                "Bar chart of accuracies with intervals.",
            )
        ],
    )


def _truth(metrics: Mapping[str, Any], figures: Mapping[str, Drawing]) -> Section:
    truth = metrics["truth"]
    labels = truth["labels"]
    exact = Table(
        columns=["picture", "P(X)", *(f"{law}({label})" for label in labels[:2] for law in ("seen ", "do "))],
        rows=[
            [
                code,
                f"{100 * truth['p_x'][row]:.1f}",
                *(
                    f"{100 * truth[law][row][k]:.1f}"
                    for k in range(min(2, len(labels)))
                    for law in ("p_y_given_x", "p_y_do_x")
                ),
            ]
            for row, code in enumerate(truth["codes"][:4])
        ],
        caption="The exact law for the first pictures and labels, in percent: seen is P(Y|X), do is "
        "P(Y|do(X)). All of it is in metrics.json.",
    )
    rows = [
        [
            name,
            interval(found["tv_to_truth"], found["ci95"]),
            f"{100 * found['tv_to_p_y_given_x']:.1f}",
            ""
            if found["coverage"] is None or not isfinite(found["coverage"])
            else f"{100 * found['coverage']:.1f} %",
        ]
        for name, found in metrics["estimates"].items()
    ]
    covered = any(row[-1] for row in rows)
    estimates = Table(
        columns=["estimator", "to P(Y|do(X))", "to P(Y|X)", "coverage on tables"],
        rows=rows,
        caption="Total variation in points between what networks on pictures say and the truth, mean over "
        "pictures by P(X)."
        + (" Coverage is that of 95 % intervals on tables of rows (--curve)." if covered else ""),
    )
    drawn = [
        Figure(figures[name], caption, alt)
        for name, caption, alt in (
            ("estimates", "Distance to the truth; dots are seeds.", "Bar chart of distances to the truth."),
            (
                "curve",
                "Tables of rows from the exact law: the adjusted estimates converge to P(Y|do(X)), the naive "
                "one does not.",
                "Bias and coverage against the number of rows.",
            ),
        )
        if name in figures
    ]
    text = [estimand(metrics)]
    if closed := closed_sentence(metrics):
        text.append(f"{closed}.")
    return Section(
        "The truth beside the estimates", [*text, *metrics["notes"]], tables=[exact, estimates], figures=drawn
    )


def _tests(metrics: Mapping[str, Any]) -> Section:
    gaps, others = [], []
    for name, test in metrics["tests"].items():
        p = "" if test["p"] is None else p_words(test["p"])
        adjusted = p_words(test["p_holm"]) if "p_holm" in test else ""
        if name in GAPS:
            gaps.append([TEST_NAMES[name], interval(test["estimate"], test["ci95"]), p, adjusted])
        else:
            others.append([TEST_NAMES.get(name, name), p, adjusted, test["words"]])
    power = metrics["power"]
    needs = []
    if power is not None:
        words = [
            f"{power['images_needed']:,} test pictures at these seeds"
            if power["images_needed"]
            else "no number of pictures alone",
            f"{power['seeds_needed']} seeds at these pictures"
            if power["seeds_needed"]
            else "no number of seeds",
        ]
        needs = [
            "Power of this run for the weaker of its two effects, taken at its own size: "
            f"{100 * power['power']:.0f} %. 80 % would take {' or '.join(words)}."
        ]
    return Section(
        "The tests",
        [
            "Claims carry a p-value corrected for the number of claims (Holm). Placebo, refuters and "
            "sensitivity claim nothing: they must find nothing, or leave the effect as it is.",
            *needs,
        ],
        tables=[
            Table(
                columns=["comparison", "points [95 %]", "p", "p (Holm)"],
                rows=gaps,
                caption="Differences of accuracies over seeds.",
            ),
            Table(
                columns=["test", "p", "p (Holm)", "what it found"],
                rows=others,
                caption="Tests on the rows of B.",
            ),
        ],
    )


def _pictures(figures: Mapping[str, Drawing]) -> Section:
    return Section(
        "What the networks saw",
        [
            "Ten training pictures filed under each label, in the proportions of the sets. Renders are drawn "
            "larger here than the networks get them."
        ],
        figures=[
            Figure(
                figures["samples"],
                "A row is a label's folder; a frame is the picture's C.",
                "Grid of sample pictures of each label in sets A and B.",
            )
        ],
    )


def _judged(metrics: Mapping[str, Any]) -> Section:
    return Section(
        "How it was judged, and what would change it",
        [
            _METHOD,
            "Exact paired test of the two models on the pictures of A, the models taken as fixed (McNemar): "
            f"p {p_relation(metrics['mcnemar_p'])}.",
            f"What would change the verdict: {VERDICT_WORDS[metrics['verdict']].would_change}",
        ],
    )


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
    """One row per design, in the order of `COLUMNS`; accuracies and total variations in points."""
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
    """One paragraph on all designs: which verdicts came out as expected."""
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
    """Draw the drop of the B-trained model and its deficit on A per design, with 95 % intervals."""
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
    run.write_page(page)
