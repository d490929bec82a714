"""A diagnosis on a page: conclusion, imbalance, groups, controls, priors, worst classes; and methods side by side."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from causalft.analysis.before_training.figures import spread_dots
from causalft.analysis.diagnosis import figures as draw
from causalft.analysis.diagnosis.classes import ClassReport
from causalft.analysis.diagnosis.conclusion import change, interval_text, p_text, points
from causalft.analysis.diagnosis.parameter_imbalance import flat_priors
from causalft.analysis.diagnosis.result import BeforeAfter
from causalft.data.image_set import ImageSet
from causalft.errors import CausalFTError
from causalft.pipelines.pages.priors import prior_section
from causalft.report.drawing import draw as drawn
from causalft.report.drawing import thumbnail_uri
from causalft.report.html import Card, Figure, Section, Table, Thumbnail
from causalft.report.style import PALETTE, figure_style
from causalft.runs.intervals import interval_text as written

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "TITLE",
    "class_cards",
    "class_section",
    "class_table",
    "diagnosis_sections",
    "draw_figures",
    "error_bars",
    "group_table",
    "headline",
    "method_dots",
    "method_table",
    "paired_table",
]


Metrics = Mapping[str, Any]
_GROUPS = ("many", "medium", "few")

# file -> (drawing function, caption)
_FIGURES: dict[str, tuple[Callable[[Metrics], Any], str]] = {
    "imbalance": (
        draw.imbalance_before_after,
        "How much better a model does on the classes its own pre-training had many of than on those it had few of, "
        "beyond what models with other priors show on the same classes. The control fuses models of one prior.",
    ),
    "cross_gap": (
        draw.cross_gap_heat,
        "P-many minus P-few accuracy of each model (row) on the groups by each prior (column), with 95 % intervals. A "
        "large diagonal beside a small rest is parameter imbalance; a large column is class difficulty.",
    ),
    "spread": (
        lambda metrics: spread_dots(metrics["spread"]),
        "Shares of the variance of class accuracy within a stratum, net of the noise of few test images. What is "
        "common to all strata is class difficulty; fusion can average only what differs between them.",
    ),
    "slope": (
        draw.slope_plot,
        "Class accuracy with class difficulty taken out, against the estimated pre-training prior. One point is one "
        "class under the prior of one stratum; before fusion its accuracy is that stratum's, after it the fusion's.",
    ),
    "class_profiles": (
        draw.class_profiles,
        "Accuracy of each class (points) and its running mean (line), classes sorted by each estimated prior.",
    ),
    "prior_groups": (
        draw.prior_group_bars,
        "Accuracy by the estimated pre-training prior: a stratum alone on its own groups, and the fusion on the same.",
    ),
    "data_groups": (draw.data_group_bars, "Accuracy by the number of downstream training images of a class."),
    "groups": (
        draw.group_heat_tables,
        "Accuracy in percent by training count (rows) and by prior (columns).",
    ),
}


_OF_MANY_CLASSES = {
    "slope": "Class accuracy with class difficulty taken out, against the estimated pre-training prior. One point is "
    "the mean of a fiftieth of the classes under the prior of one stratum; before fusion the accuracy is that "
    "stratum's, after it the fusion's.",
    "class_profiles": "Mean accuracy of each fiftieth of the classes (points) and the running mean (line), classes "
    "sorted by each estimated prior.",
}


def headline(metrics: Metrics) -> str:
    """Return the main result of a diagnosis in one sentence.

    Examples
    --------
    >>> value = {"estimate": 0.12, "ci95": [0.1, 0.14], "p": 0.0}
    >>> after = {"estimate": 0.05, "ci95": [0.03, 0.07], "p": 0.0}
    >>> fall = {"estimate": 0.57, "ci95": [0.47, 0.68], "p": 0.0}
    >>> headline({"own_minus_off_gap": {"before": value, "after": after, "fall": fall}})
    'Fusion lowers parameter imbalance from 12.0 to 5.0 points.'
    """
    measure = BeforeAfter.from_json(metrics["own_minus_off_gap"])
    if metrics.get("no_conclusion"):
        return "This run allows no conclusion on parameter imbalance."
    if not measure.before.exists:
        return "Parameter imbalance cannot be told from class difficulty here."
    if not measure.before.low > 0:
        return "No parameter imbalance is shown here."
    before, after = (f"{100 * value.estimate:.1f}" for value in (measure.before, measure.after))
    if measure.fall.excludes_zero:
        verb = "lowers" if measure.fall.estimate > 0 else "raises"
        return f"Fusion {verb} parameter imbalance from {before} to {after} points."
    return f"Parameter imbalance: {before} points in single models, {after} after fusion, no clear change."


def draw_figures(metrics: Metrics, folder: Path, names: Collection[str] = ()) -> dict[str, Figure]:
    """Draw the figures for which there are metrics into ``folder``.

    Parameters
    ----------
    metrics : mapping
        Of a diagnosis.
    folder : Path
    names : collection of str
        Only these figures; by default all.

    Returns
    -------
    dict
        Name -> figure of the page.
    """
    needs = {"imbalance": "own_minus_off_gap", "slope": "prior_slope"}
    words = draw.prior_words(metrics)
    figures = {}
    for name, (function, caption) in _FIGURES.items():
        unknown = name in needs and metrics[needs[name]]["before"] is None
        unknown |= name == "slope" and bool(_flat(metrics))
        unknown |= name == "spread" and not _has_spread(metrics)
        if (names and name not in names) or unknown:
            continue
        with figure_style():
            axes = function(metrics)
            first = axes[0] if isinstance(axes, list) else axes
            drawing = drawn(first.figure, Path(folder) / f"{name}.png")
        if len(metrics["class_difficulty"]) > draw.MANY_POINTS:
            caption = _OF_MANY_CLASSES.get(name, caption)
        caption = caption.replace("estimated", words)
        figures[name] = Figure(drawing, caption, f"{name.replace('_', ' ')}: {caption}")
    return figures


def _flat(metrics: Metrics) -> list[str]:
    return flat_priors({name: found["label_prior"] for name, found in metrics["strata"].items()})


def _has_spread(metrics: Metrics) -> bool:
    """False for runs of older versions, and with few classes."""
    found = metrics.get("spread")
    if not found:
        return False
    return any(found[name]["ci95"] is not None for name in ("difficulty", "data", "own_prior"))


def diagnosis_sections(metrics: Metrics, figures_dir: Path) -> list[Section]:
    """Draw the figures of a diagnosis and return its sections of a page.

    Parameters
    ----------
    metrics : mapping
        Content of ``metrics.json``.
    figures_dir : Path
        Folder of the figures.

    Returns
    -------
    list of Section
    """
    figures = draw_figures(metrics, figures_dir)
    words = draw.prior_words(metrics)

    def shown(*names: str) -> list[Figure]:
        return [figures[name] for name in names if name in figures]

    return [
        Section(
            "Parameter imbalance, before and after",
            tables=[_measures(metrics)],
            figures=shown("imbalance", "cross_gap"),
        ),
        Section(
            "Class by class",
            ["What remains of a slope here is what the pre-training does to single classes."],
            figures=shown("slope", "spread", "class_profiles"),
        ),
        Section(
            "Groups",
            [
                "D groups: more than 100, 20 to 100, fewer than 20 training images. P groups: the 30 % of classes "
                f"with the largest {words} prior, the next 30 %, the last 40 %. Accuracies are means over classes."
            ],
            tables=[group_table(metrics)],
            figures=shown("prior_groups", "data_groups", "groups"),
        ),
        Section(
            "Is it just an ensemble?",
            [
                "Every row is an accuracy on the same test images. Fusing seeds of one model is an ordinary ensemble: "
                "what it gains too is not due to the strata, and what it does to the P gap is its share of that."
            ],
            tables=[_controls(metrics), _paired(metrics)],
        ),
        prior_section(metrics),
    ]


def _measures(metrics: Metrics) -> Table:
    rows = []
    for title, key in (
        ("own P gap (raw)", "P_gap"),
        ("own P gap beyond class difficulty", "own_minus_off_gap"),
        ("slope on log prior, per factor 100", "prior_slope"),
    ):
        if key == "prior_slope" and _flat(metrics):
            continue
        concluded = not metrics.get("no_conclusion")
        rows.append([title, *_before_after(metrics[key], concluded)])
        for name, control in metrics["controls"].items():
            if key in control:
                rows.append([f"    the same, control {name}", *_before_after(control[key], concluded)])
    rows.append(
        [
            "fused gap minus mean of its members' gaps",
            "",
            interval_text(metrics["fused_minus_members_gap"]),
            "",
        ]
    )
    return Table(
        ["measure (points, 95 % interval)", "single models", "fused", "change"],
        rows,
        "Parameter imbalance, mean over the strata's priors.",
    )


def _before_after(measure: Metrics, concluded: bool) -> list[str]:
    """Before, after and relative change."""
    return [
        interval_text(measure["before"]),
        interval_text(measure["after"]),
        change(BeforeAfter.from_json(measure)) if concluded else "",
    ]


def group_table(metrics: Metrics) -> Table:
    """Accuracy of every model by D and P group, in percent; no D columns where D is null."""
    rows = []
    for name, scores in metrics["strata"].items():
        rows.append([name, name, *_cells(scores["D"]), *_cells(scores["P"])])
    for prior in metrics["strata"]:
        rows.append(["fused", prior, *_cells(metrics["fused"]["D"]), *_cells(metrics["fused"]["P"][prior])])
    columns = ["model", "prior of", *(f"D-{g}" for g in _GROUPS), *(f"P-{g}" for g in _GROUPS)]
    return Table(columns, rows, "Accuracy in percent.")


def _controls(metrics: Metrics) -> Table:
    rows = [[name, *_accuracy(scores)] for name, scores in metrics["strata"].items()]
    rows.append(["fused", *_accuracy(metrics["fused"])])
    for name, control in metrics["controls"].items():
        label = name.replace("_", " ")
        if name == "best_single":
            label = f"best single by {control['chosen_on']}: {control['name']}"
        elif "members" in control:
            label = f"control {name}: {', '.join(control['members'])}"
        rows.append([label, *_accuracy(control)])
    return Table(["model", "accuracy (%)", "95 % interval"], rows, "Overall accuracy.")


_PAIRED = {
    "fused_minus_best_single": "fused minus the single stratum that is best on the test set",
    "fused_minus_chosen_single": "fused minus the single stratum that validation chose",
    "fused_minus_mean_single": "fused minus the mean of the strata: the gain",
    "fused_minus_logit_mean": "fused minus the mean of log-probabilities",
    "fused_minus_control": "fused strata minus fused control",
    "fused_minus_control_gain": "gain of the strata minus gain of the control",
}


def _paired(metrics: Metrics) -> Table:
    rows = [
        [_PAIRED.get(name, name.replace("_", " ")), interval_text(value), p_text(value["p"])]
        for name, value in metrics["paired"].items()
    ]
    return Table(["difference (points)", "95 % interval", "p"], rows, "Paired over the test images.")


def _accuracy(scores: Metrics) -> list[str]:
    accuracy, _, interval = written(scores["accuracy"], scores["ci95"], scores.get("reason", "")).partition(
        " "
    )
    return [accuracy.rstrip(","), interval]


def _cells(groups: Mapping[str, float | None] | None) -> list[str]:
    if groups is None:
        return [""] * len(_GROUPS)
    return ["none" if groups[g] is None else f"{100 * groups[g]:.1f}" for g in _GROUPS]  # type: ignore[operator]


TITLE = "Which of my classes?"

N_CARDS = 6
"""Classes shown with images: at most 36 images of a few kilobytes."""


def class_section(
    reports: Sequence[ClassReport],
    single: str,
    test: ImageSet | None = None,
    train: ImageSet | None = None,
) -> Section:
    """Return the section on the worst classes, with images if the image sets are given.

    Parameters
    ----------
    reports : sequence of ClassReport
        From :func:`causalft.analysis.diagnosis.classes.worst_classes`.
    single : str
        Stratum of the accuracies ``zero_shot`` and ``single``.
    test, train : ImageSet, optional
        Image sets that ``misses`` and ``examples`` index.
    """
    if not reports:
        return Section(TITLE, ["The fused model recognises every test image of every class."])
    return Section(
        TITLE,
        [
            "The classes that the fused model recognises worst, worst first. With few test images an interval is wide, "
            "and the order of the classes is uncertain."
        ],
        tables=[class_table(reports, single)],
        cards=class_cards(reports, test, train),
    )


def class_table(reports: Sequence[ClassReport], single: str) -> Table:
    """One row per class: groups, accuracies in percent with 95 % intervals, most frequent confusion.

    Accuracies that no class has are left out.
    """
    strata = list(reports[0].P)
    before, tuned = reports[0].zero_shot.exists, reports[0].single.exists
    columns = [
        "class",
        *([f"{single}, zero-shot"] if before else []),
        *([f"{single}, tuned"] if tuned else []),
        "fused",
        "taken for",
    ]
    columns += ["D", f"P by {' / '.join(strata)}", "trained on", "tested on"]
    rows = []
    for report in reports:
        row = [report.name, *([points(report.zero_shot)] if before else [])]
        row += [points(report.single)] if tuned else []
        row += [points(report.fused), _taken_for(report), report.D, " / ".join(report.P.values())]
        rows.append([*row, str(report.n_train), str(report.n_test)])
    caption = "Accuracy in percent with 95 % intervals over test images; numbers of training and test images."
    return Table(columns, rows, caption)


def class_cards(
    reports: Sequence[ClassReport], test: ImageSet | None, train: ImageSet | None, most: int = N_CARDS
) -> list[Card]:
    """One card per class: the most confident misclassified test images, and training images of both classes."""
    cards = []
    for report in reports[:most]:
        rows: list[tuple[str, list[Thumbnail]]] = []
        if test is not None:
            missed = [
                _thumbnail(
                    test,
                    miss.row,
                    f"{100 * miss.probability:.0f} % {miss.taken_for}",
                    f"test image of {report.name}, taken for {miss.taken_for}",
                )
                for miss in report.misses
            ]
            rows.append(("Test images most surely taken for another class:", missed))
        if train is not None:
            shown = [
                _thumbnail(train, row, "", f"training image of {report.name}") for row in report.examples
            ]
            rows.append(("In training:", shown))
        if any(images for _, images in rows):
            right = f"{points(report.fused)} % of {report.n_test} test images recognised."
            taken = f" Taken for {_taken_for(report)}." if report.confused_with else ""
            cards.append(Card(report.name, [right + taken], rows))
    return cards


def _taken_for(report: ClassReport) -> str:
    return ", ".join(f"{other.name} ({100 * other.share:.0f} %)" for other in report.confused_with)


def _thumbnail(images: ImageSet, row: int, caption: str, alt: str) -> Thumbnail:
    try:
        return Thumbnail(thumbnail_uri(images.image(row)), caption, alt)
    except CausalFTError:  # predictions were cached, and the file is gone
        return Thumbnail("", f"{caption} (cannot be read)".strip(), alt)


def method_table(methods: Mapping[str, Mapping[str, Any]]) -> Table:
    """One row per method: accuracy with its interval, and D groups, in percent."""
    rows = []
    for name, of in methods.items():
        accuracy, *groups = of.values()
        bare = ["none" if value is None else f"{100 * value['estimate']:.1f}" for value in groups]
        rows.append([name, interval_text(accuracy), *bare])
    return Table(
        ["method", "accuracy", "D-many", "D-medium", "D-few"],
        rows,
        "Percent, 95 % intervals; single strata: their mean.",
    )


def paired_table(paired: Mapping[str, Any], comparisons: Mapping[str, tuple[str, str, str]]) -> Table:
    """One row per comparison: difference in points, interval and p."""
    rows = []
    for words, (one, other, measure) in comparisons.items():
        found = paired[words]
        p = p_text(None if found is None else found["p"])
        rows.append([f"{one} less {other} ({measure})", interval_text(found), p])
    return Table(["difference (points)", "95 % interval", "p"], rows)


def error_bars(values: Sequence[Mapping[str, Any]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return estimates (n,) in percent and error bars (2, n), 0 without an interval.

    Examples
    --------
    >>> y, error = error_bars([{"estimate": 0.5, "ci95": [0.25, 1.0]}, {"estimate": 0.0, "ci95": None}])
    >>> y.tolist(), error.tolist()
    ([50.0, 0.0], [[25.0, 0.0], [50.0, 0.0]])
    """
    estimate = np.array([100 * value["estimate"] for value in values])
    bounds = [value["ci95"] or [value["estimate"]] * 2 for value in values]
    return estimate, np.abs(100 * np.array(bounds).T - estimate)


def method_dots(axes: Axes, methods: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw the accuracy of each method over all classes and on D-few; the first method on top."""
    names = list(methods)[::-1]
    for measure, label, colour, marker in (
        ("accuracy", "all classes", "blue", "o"),
        ("few", "D-few", "orange", "s"),
    ):
        there = [(y, methods[name][measure]) for y, name in enumerate(names) if methods[name][measure]]
        if there:
            x, error = error_bars([found for _, found in there])
            y = [y for y, _ in there]
            axes.errorbar(x, y, xerr=error, color=PALETTE[colour], marker=marker, ls="", label=label)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("accuracy (%)")
    axes.grid(axis="x")
