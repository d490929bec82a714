"""Figures and page of the A/B experiment: takes its metrics and some pictures, computes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from causalft.report.html import Figure, Section, Table, render_report
from causalft.report.style import PALETTE, figure_style, new_figure, save_figure
from causalft.runs import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure

__all__ = [
    "TEST_NAMES",
    "draw_cells",
    "draw_samples",
    "explain_sets",
    "verdict_line",
    "write_figures",
    "write_report",
]

TEST_NAMES = {
    "gap_B": "B->B minus B->A: what the B-trained model loses when the balance of parts changes",
    "gap_A": "A->B minus A->A: the same change for the A-trained model",
    "A_minus_B_on_A": "A->A minus B->A: what training on B costs on the balanced set",
    "gap_B_minus_gap_A": "the first minus the second: what the B-trained model loses beyond what the A-trained one "
    "loses too, so not because one part is harder to recognise",
}
"""What each test compares."""

_SET_B = {
    "paper": "B: {share:.0f} % of every class shows the same one of its parts (C=0), {rest:.0f} % the other. "
    "C shifts between A and B but never tells Y.",
    "confounded": "B: {share:.0f} % of a class shows one part, {rest:.0f} % the other, and which one it is depends on "
    "the class: in B the part in view tells something about the class, in A nothing.",
    "null": "B: {share:.0f} % of a class is labelled with one value of C, which one depends on the class; but this is "
    "a control: the pictures ignore the label and show both parts equally often, as in A.",
}

_VERIFIED = {
    "paper": "which part is in view changes what this classifier learns (a shift of the part in view: "
    "here C is independent of the class)",
    "confounded": "which part is in view confounds this classifier",
    "null": "a false alarm, as the pictures of this control ignore C",
}

_WHAT_IT_SHOWS = {
    "paper": (
        "In this design the majority part is the same in every class, so the factor C and the class Y "
        "are independent in both "
        "sets (mutual information 0). A drop therefore shows that a shift of C between training and "
        "test harms the model: C "
        "acts on what is learnt. It does not show confounding in the strict sense, for which C must "
        "depend on Y; the design "
        "'confounded' does that."
    ),
    "confounded": (
        "In this design the majority part depends on the class, so the factor C and the class Y are "
        "dependent in B (mutual "
        "information {B_train:.2f} nats) and independent in A. A model trained on B can read the class "
        "off the part; on A, "
        "where the part no longer tells the class, that shortcut is taken away. This is confounding in "
        "the strict sense: C "
        "acts on the picture and goes with the label."
    ),
    "null": (
        "In this design the factor's label is drawn as in 'confounded', but the pictures know nothing of it. It is the "
        "control: a sound experiment must not say 'verified' here."
    ),
}


def explain_sets(metrics: Mapping[str, Any]) -> list[str]:
    """What Y, C, A and B are in the design of a run, a sentence or two each.

    Examples
    --------
    >>> print("\\n".join(explain_sets({"design": "confounded", "classes": ["cat", "dog"], "ratio": 0.9})))
    Y: the class of a picture (cat, dog).
    C: the part in view, the factor in question: C=0 or C=1, such as cat head or cat body.
    A: every class shows both of its parts equally often.
    B: 90 % of a class shows one part, 10 % the other, and which one it is depends on the class: in B the part in view
    tells something about the class, in A nothing.
    """
    from synthetic.objects import PARTS

    first = metrics["classes"][0]
    share = 100 * metrics["ratio"]
    return [
        f"Y: the class of a picture ({', '.join(metrics['classes'])}).",
        "C: the part in view, the factor in question: C=0 or C=1, such as "
        + " or ".join(f"{first} {part}" for part in PARTS[first])
        + ".",
        "A: every class shows both of its parts equally often.",
        _SET_B[metrics["design"]].format(share=share, rest=100 - share),
    ]


def verdict_line(metrics: Mapping[str, Any]) -> str:
    """The verdict, what it is about if it is ``verified``, and its reason."""
    what = [_VERIFIED[metrics["design"]]] if metrics["verdict"] == "verified" else []
    return ": ".join([metrics["verdict"], *what, metrics["reason"]])


def draw_cells(cells: Mapping[str, Mapping[str, Any]]) -> MatplotlibFigure:
    """Bars of the four accuracies with 95 % intervals and one dot a seed (after the paper's Fig. 12)."""
    figure = new_figure(5.2, 3.4)
    axes = figure.add_subplot()
    for shift, trained, colour in ((-0.2, "A", PALETTE["blue"]), (0.2, "B", PALETTE["orange"])):
        for position, tested in enumerate("AB"):
            cell = cells[f"{trained}->{tested}"]
            x, mean = position + shift, 100 * cell["mean"]
            low, high = (100 * value for value in cell["ci95"])
            axes.bar(
                x,
                mean,
                0.36,
                color=colour,
                alpha=0.75,
                label=f"trained on {trained}" if position == 0 else None,
            )
            axes.errorbar(
                x, mean, yerr=[[max(0.0, mean - low)], [max(0.0, high - mean)]], color="black", lw=1.2
            )
            spread = np.linspace(-0.09, 0.09, len(cell["per_seed"])) if len(cell["per_seed"]) > 1 else [0.0]
            axes.plot(
                x + np.asarray(spread),
                [100 * value for value in cell["per_seed"]],
                "o",
                ms=3,
                color="#222222",
                alpha=0.6,
            )
            axes.text(x, 2, f"{mean:.1f}", ha="center", va="bottom", fontsize=8.5)
    axes.set_xticks([0, 1], ["tested on A (balanced)", "tested on B (unbalanced)"])
    axes.set_ylabel("accuracy (%)")
    axes.set_ylim(0, 104)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.14), ncols=2)
    return figure


def draw_samples(
    samples: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]], classes: list[str]
) -> MatplotlibFigure:
    """Ten pictures of each class in the proportions of A and of B; the frame's colour is the label of the factor.

    Parameters
    ----------
    samples : set name -> (pixels uint8 (n, size, size, 3), labels (n,), factors (n,)).
    classes : class names.
    """
    colours = [tuple(int(PALETTE[name][k : k + 2], 16) for k in (1, 3, 5)) for name in ("blue", "vermillion")]
    figure = new_figure(13.0, 0.57 * len(classes) + 0.4)
    for axes, (name, (pixels, labels, factors)) in zip(figure.subplots(1, len(samples)), samples.items()):
        size = pixels.shape[1]
        border = max(2, size // 20)
        framed = np.empty((len(pixels), size + 4 * border, size + 4 * border, 3), np.uint8)
        framed[:] = 255
        for k, (picture, factor) in enumerate(zip(pixels, factors)):
            framed[k, border:-border, border:-border] = colours[int(factor)]
            framed[k, 2 * border : -2 * border, 2 * border : -2 * border] = picture
        rows = [np.concatenate(list(framed[labels == k]), axis=1) for k in range(len(classes))]
        axes.imshow(np.concatenate(rows), interpolation="lanczos", aspect="equal")
        axes.set_title(f"{name} train: blue C=0, red C=1")
        axes.set_xticks([])
        axes.set_yticks((np.arange(len(classes)) + 0.5) * framed.shape[1], classes)
        axes.tick_params(length=0)
        for side in axes.spines.values():
            side.set_visible(False)
    return figure


def write_figures(
    folder: Path, metrics: Mapping[str, Any], samples: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]]
) -> dict[str, Path]:
    """Draw both figures into ``folder``; returns their paths by name."""
    with figure_style():
        cells = draw_cells(metrics["cells"])
        paths = {"cells": save_figure(cells, folder / "cells.png")}
        paths["samples"] = save_figure(
            draw_samples(samples, list(metrics["classes"])), folder / "samples.png"
        )
    return paths


def write_report(path: Path, metrics: Mapping[str, Any], figures: Mapping[str, Path], command: str) -> Path:
    """Write the page of one run."""
    cells, tests, parts = metrics["cells"], metrics["tests"], metrics["parts"]
    n_seeds = len(metrics["seeds"])
    accuracy = Table(
        columns=["", "tested on A", "tested on B"],
        rows=[
            [
                f"trained on {m}",
                *(_interval(cells[f"{m}->{t}"]["mean"], cells[f"{m}->{t}"]["ci95"]) for t in "AB"),
            ]
            for m in "AB"
        ],
        caption=f"Accuracy in percent with 95 % intervals, {n_seeds} seeds.",
    )
    comparison = Table(
        columns=["comparison", "points", "p"],
        rows=[
            [TEST_NAMES[name], _interval(t["estimate"], t["ci95"]), f"{t['p']:.2g}"]
            for name, t in tests.items()
        ],
        caption="Differences in points with 95 % intervals and two-sided p-values.",
    )
    names = ["majority", "minority", "C=0", "C=1"]
    by_part = Table(
        columns=["on the pictures of A", "majority part of B", "minority part of B", "C=0", "C=1"],
        rows=[[f"trained on {m}", *(f"{100 * parts[m][name]:.1f}" for name in names)] for m in "AB"],
        caption="Accuracy in percent by part. The first row says whether the two parts are equally hard.",
    )
    method = (
        "Each seed is a whole replication with its own four image sets and its own initial weights. "
        "The estimate is the mean "
        "over seeds. Its squared standard error is the larger of the variance between seeds over their number and the "
        "variance that the number of test pictures alone gives (within class and factor, paired where "
        "models share test "
        "pictures); intervals and p-values are Student's t with one degree of freedom less than seeds. The verdict is "
        "'verified' if gap_B, A_minus_B_on_A and their difference of gaps are all above zero at 95 %, "
        "'not detected' if an "
        "effect of 5 points is excluded, and 'inconclusive' otherwise, with one seed, with fewer than "
        "five minority pictures "
        "of a class in training, or if the models did not learn."
    )
    mutual = metrics["mutual_information_nats"]
    text = render_report(
        title=f"Does the factor confound? Design '{metrics['design']}'",
        verdict=verdict_line(metrics) + ".",
        facts={
            "design": f"{metrics['design']}: {metrics['design_meaning']}",
            "classes": ", ".join(metrics["classes"]),
            "pictures": f"{metrics['generator']}, {metrics['n_per_class']} of each class in each set, "
            f"B has {100 * metrics['ratio']:.0f} % of one part",
            "network": metrics["backbone"] + (" (quick: a smaller, shorter run)" if metrics["quick"] else ""),
            "seeds": ", ".join(map(str, metrics["seeds"])),
            "seconds": f"{metrics['seconds']:.0f}",
        },
        sections=[
            Section(
                "What was found",
                [*explain_sets(metrics), _WHAT_IT_SHOWS[metrics["design"]].format(**mutual)],
                tables=[accuracy, comparison, by_part],
                figures=[
                    Figure(
                        figures["cells"],
                        "Accuracy of both models on both test sets; dots are seeds.",
                        "Bar chart of four accuracies with intervals.",
                    )
                ],
            ),
            Section(
                "What the networks saw",
                [
                    "Ten training pictures of each class in the proportions of the sets. They are "
                    "drawn larger here than the networks get them."
                ],
                figures=[
                    Figure(
                        figures["samples"],
                        "A has both parts equally often, B mostly one.",
                        "Grid of sample pictures of each class in sets A and B.",
                    )
                ],
            ),
            Section(
                "How it was judged",
                [
                    method,
                    "Exact paired test of both models on the pictures of A, the models taken as fixed "
                    f"(McNemar): p = {metrics['mcnemar_p']:.2g}.",
                ],
            ),
        ],
        command=command,
    )
    return write_text(path, text)


def _interval(value: float, ci95: Any) -> str:
    return f"{100 * value:.1f} [{100 * ci95[0]:.1f}, {100 * ci95[1]:.1f}]"
