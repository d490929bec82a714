"""The HTML page of one A/B run: question, graph, pictures, table, truth, tests, verdict, what would change it."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from causalft.analysis.confounding.words import (
    TEST_NAMES,
    VERDICT_WORDS,
    estimand,
    explain_sets,
    verdict_line,
    what_follows,
)
from causalft.report.drawing import Drawing
from causalft.report.html import Figure, Section, Table, made_line, render_report
from causalft.runs.folder import write_text
from causalft.scm.intervals import interval_text, p_relation, p_words

__all__ = ["closed_sentence", "interval", "write_report"]

GAPS = ("gap_B", "gap_A", "A_minus_B_on_A", "gap_B_minus_gap_A")
"""The tests that are differences of accuracies, in points."""

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
    """The text with a capital at the start of each sentence and a full stop at the end."""
    return ". ".join(part[:1].upper() + part[1:] for part in text.split(". ")) + "."


def closed_sentence(metrics: Mapping[str, Any]) -> str:
    """How much of the gap on A adjustment closes; empty where the gap itself could be zero, or nothing was adjusted."""
    closed = metrics["share_of_gap_closed"]
    if closed is None or any(limit is None or not isfinite(limit) for limit in closed["ci95"]):
        return ""
    return f"Adjustment closes {interval(closed['estimate'], closed['ci95'])} % of the gap on A"


def interval(value: float, ci95: Any) -> str:
    """A fraction and its interval in percent; the interval is left out where it has no bounds."""
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
        [f"(who knew P(Y|X) of {m} exactly)", *(f"{100 * best[f'{m}->{t}']:.1f}" for t in "AB")] for m in "AB"
    ]
    columns = ["majority", "minority", "C=0", "C=1"]
    return Section(
        "What was found",
        [what_follows(metrics)],
        tables=[
            Table(
                columns=["", "tested on A", "tested on B"],
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
