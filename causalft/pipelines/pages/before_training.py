"""The page of ``diagnose --data``: what can be mended, imbalance, tail-tail classes, groups, disagreement, priors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from causalft.analysis.before_training.expectation import METHODS
from causalft.analysis.before_training.figures import prior_profiles
from causalft.analysis.before_training.mend import Change
from causalft.analysis.before_training.strata import StrataDiagnosis
from causalft.analysis.diagnosis.conclusion import points
from causalft.analysis.diagnosis.intervals import Interval
from causalft.analysis.diagnosis.no_conclusion import no_conclusion_lines
from causalft.analysis.diagnosis.result import Diagnosis
from causalft.data.splits import Splits
from causalft.methods.priors import prior_caveats
from causalft.models.strata.zoo import pretraining_losses
from causalft.pipelines.pages.diagnosis import (
    N_CARDS,
    class_cards,
    class_table,
    draw_figures,
    group_table,
)
from causalft.pipelines.pages.explain import map_section
from causalft.pipelines.pages.priors import distance_table
from causalft.report.drawing import draw
from causalft.report.html import Card, Figure, Section, Table, made_line, place_name, render_report
from causalft.report.style import figure_style
from causalft.runs.folder import Run
from causalft.runs.progress import named

__all__ = [
    "diagnosis_details",
    "diagnosis_verdict",
    "expectation_cards",
    "measure_rows",
    "write_diagnosis_page",
]

Metrics = Mapping[str, Any]

_MOST_ROWS = 30
"""Classes of a table of tail-tail classes."""


def diagnosis_verdict(found: Diagnosis) -> str:
    """The main result of a diagnosis before training, in one sentence."""
    measure = found.own_minus_off_gap
    if not measure.before.exists:
        return "Parameter imbalance cannot be told from class difficulty here."
    if found.no_conclusion:
        return "These zero-shot models allow no conclusion on parameter imbalance."
    if not measure.before.low > 0:
        return "No parameter imbalance is shown before training."
    before, after = (f"{100 * value.estimate:.1f}" for value in (measure.before, measure.after))
    return f"Before training, parameter imbalance is {before} points in single strata and {after} in their fusion."


def expectation_cards(found: StrataDiagnosis) -> list[Card]:
    """One card per method: what it can be expected to mend."""
    return [Card(METHODS[each.method], [" ".join(each.sentences)]) for each in found.expectations]


def measure_rows(found: StrataDiagnosis) -> list[list[str]]:
    """Accuracy and the measures of parameter imbalance: single strata, after GLA-ZS, and fused."""
    whole, gla = found.zero_shot, found.gla
    measures: list[tuple[str, Interval, Change, Interval]] = [
        ("mean class accuracy (%)", gla.mean.before, gla.mean, whole.fused.class_mean),
        ("own P gap, raw", whole.P_gap.before, gla.P_gap, whole.P_gap.after),
        (
            "own P gap beyond class difficulty",
            whole.own_minus_off_gap.before,
            gla.own_minus_off_gap,
            whole.own_minus_off_gap.after,
        ),
        (
            "slope per factor 100 of the prior",
            whole.prior_slope.before,
            gla.prior_slope,
            whole.prior_slope.after,
        ),
    ]
    return [
        [words, points(before), points(by_gla.after), points(fused)]
        for words, before, by_gla, fused in measures
    ]


def diagnosis_details(found: StrataDiagnosis) -> list[str]:
    """Three lines under the verdict: accuracy, what is common to all strata, and by which prior."""
    whole, parts = found.zero_shot, found.spread
    lines = [
        f"Mean class accuracy, zero-shot: {points(found.gla.mean.before)} % in single strata, "
        f"{points(found.gla.mean.after)} after GLA-ZS, {points(whole.fused.class_mean)} fused."
    ]
    if parts.difficulty.exists and parts.own_prior.exists:
        lines.append(
            f"Of the variance of class accuracy {100 * parts.difficulty.estimate:.0f} % is common to all strata "
            f"(class difficulty), {100 * parts.own_prior.estimate:.0f} % lies along a stratum's own prior."
        )
    if whole.no_conclusion:
        lines += no_conclusion_lines("Parameter imbalance", whole.no_conclusion)
    return lines


@named("writing the report")
def write_diagnosis_page(
    run: Run,
    metrics: Metrics,
    found: StrataDiagnosis,
    splits: Splits,
    command: str,
    maps: Sequence[Card] = (),
) -> Path:
    """Write ``report.html`` and the figures of a diagnosis; return the path of the page.

    Parameters
    ----------
    run : Run
    metrics : mapping
        Content of its ``metrics.json``.
    found : StrataDiagnosis
    splits : Splits
        Their images, to be shown.
    command : str
        Repeats the run.
    maps : sequence of Card
        What the strata look at in some images; as
        :func:`causalft.pipelines.workflows.class_maps.zero_shot_map_cards`.
    """
    figures = _figures(metrics, found, run.path / "figures")
    page = render_report(
        title=f"{', '.join(metrics['strata'])} on {place_name(metrics['data']['name'])}, before training",
        verdict=diagnosis_verdict(found.zero_shot),
        details=diagnosis_details(found),
        made=made_line(metrics),
        facts=_facts(metrics),
        sections=[
            Section("What each method can be expected to mend", cards=expectation_cards(found)),
            Section(
                "What was measured",
                tables=[
                    Table(
                        ["measure (points)", "single strata", "GLA-ZS", "fused"],
                        measure_rows(found),
                        "Zero-shot on the test images, 95 % intervals over test images. GLA-ZS: logits less the "
                        "estimated log prior. Fused: mean of the probabilities.",
                    )
                ],
                figures=[figures[name] for name in ("spread", "cross_gap", "slope") if name in figures],
            ),
            _tail(found, splits),
            *map_section(maps),
            _groups(metrics, found, figures),
            _disagreement(found),
            _priors(metrics, found, figures),
        ],
        command=command,
    )
    return run.write_page(page)


def _figures(metrics: Metrics, found: StrataDiagnosis, folder: Path) -> dict[str, Figure]:
    counted = found.class_counts is not None
    wanted = ["spread", "cross_gap", "slope", *(["groups"] if counted else ["prior_groups"])]
    shown = {**found.zero_shot.to_metrics(), "spread": metrics["spread"]}
    drawn = draw_figures(shown, folder, wanted)
    with figure_style():
        priors = draw(prior_profiles(metrics["priors"])[0].figure, folder / "priors.png")  # type: ignore[arg-type]
    caption = "Label prior of each class as estimated on labelled images, with 95 % intervals."
    drawn["priors"] = Figure(priors, caption, f"priors: {caption}")
    return drawn


def _tail(found: StrataDiagnosis, splits: Splits) -> Section:
    few = found.has_few
    title = "Few by data and few by prior" if few else "Few by prior"
    what = "have fewer than 20 training images and are" if few else "are"
    if not found.tail:
        return Section(
            title, [f"No class with a wrong test image is among those that {what} P-few by most strata."]
        )
    lines = [f"Classes that {what} P-few by most strata, the lowest accuracy of the fused strata first."]
    if not few:
        lines.append("No class is known to have fewer than 20 training images.")
    more = len(found.tail) - _MOST_ROWS
    if more > 0:
        lines.append(f"{more} more are in metrics.json.")
    counted = None if found.class_counts is None else splits.train
    return Section(
        title,
        lines,
        tables=[_without_counts(class_table(found.tail[:_MOST_ROWS], found.zero_shot.best_single), counted)],
        cards=class_cards(found.tail, splits.test, None, N_CARDS),
    )


def _without_counts(table: Table, counted: object) -> Table:
    """The table without training counts if there are none."""
    if counted is not None:
        return table
    empty = {place for place, name in enumerate(table.columns) if name in ("D", "trained on")}
    rows = [["" if place in empty else cell for place, cell in enumerate(row)] for row in table.rows]
    return Table(table.columns, rows, table.caption)


def _groups(metrics: Metrics, found: StrataDiagnosis, figures: Mapping[str, Figure]) -> Section:
    lines = [
        "P groups: the 30 % of classes with the largest prior, the next 30 %, the last 40 %. Accuracies are means over "
        "classes."
    ]
    if found.class_counts is not None:
        lines.append("D groups: more than 100, 20 to 100, fewer than 20 training images.")
    else:
        lines.append("The data have no training split, so there are no D groups.")
    return Section(
        "Groups",
        lines,
        tables=[group_table(metrics)],
        figures=[figures[name] for name in ("groups", "prior_groups") if name in figures],
    )


def _disagreement(found: StrataDiagnosis) -> Section:
    apart = found.disagreement
    if not apart.pairs:
        return Section("What the strata disagree on")
    names = list(found.priors)
    pairs = [[" and ".join(pair), f"{100 * share:.1f}"] for pair, share in apart.pairs.items()]
    classes = [
        [
            each.name,
            *(f"{100 * each.accuracy[name]:.1f} ({each.P[name]})" for name in names),
            str(each.n_test),
        ]
        for each in apart.classes
    ]
    return Section(
        "What the strata disagree on",
        [
            f"All strata are right on {100 * apart.all_right:.1f} % of the test images and at least one of them on "
            f"{100 * apart.some_right:.1f} %; the fusion is right on {points(found.zero_shot.fused.accuracy)} %."
        ],
        tables=[
            Table(["strata", "different predictions (%)"], pairs, "Test images put into different classes."),
            Table(
                ["class", *names, "tested on"],
                classes,
                "Classes on which the strata differ most: accuracy in percent, and P group by the stratum's own prior.",
            ),
        ],
    )


def _priors(metrics: Metrics, found: StrataDiagnosis, figures: Mapping[str, Figure]) -> Section:
    few = [f"{name}: {document['caveat']}" for name, document in metrics["priors"].items() if _few(document)]
    return Section(
        "The priors",
        [*few, *_read_off(found), *prior_caveats(pretraining_losses(metrics))],
        tables=[_estimates(metrics), _beside_known(metrics), distance_table(found.distance)],
        figures=[figures[name] for name in ("priors",) if name in figures],
    )


def _estimates(metrics: Metrics) -> Table:
    rows = []
    for name, document in metrics["priors"].items():
        shares = [row["prior"] for row in document["classes"]]
        ratio = "not known"
        if document["imbalance"] is not None:
            low, high = map(_ratio, document["imbalance_ci95"])
            ratio = f"{_ratio(document['imbalance'])} [{low}, {high}]"
        largest, smallest = (f"{100 * share:.2g} %" for share in (max(shares), min(shares)))
        rows.append([name, str(document["n"]), largest, smallest, ratio])
    caption = "Label priors estimated by GLA on labelled images that are not scored."
    return Table(["stratum", "labelled images", "largest", "smallest", "imbalance"], rows, caption)


def _beside_known(metrics: Metrics) -> Table:
    """The estimates beside known priors: counts of ``--prior-of``, or what the card of a mini says."""
    rows = []
    for name, document in metrics["priors"].items():
        truth = document["truth"]
        if truth:
            rank = "none" if truth["spearman"] is None else f"{truth['spearman']:.2f}"
            inside, same = (
                f"{truth[key]} of {truth['n_known']}" for key in ("n_inside_ci95", "n_same_group")
            )
            source = "card of the mini" if truth["source"] == "card" else place_name(truth["source"])
            rows.append([name, source, _ratio(truth["imbalance"]), rank, f"{truth['kl']:.2f}", inside, same])
    return Table(
        [
            "stratum",
            "known from",
            "imbalance",
            "Spearman",
            "KL (nats)",
            "inside its interval",
            "same P group",
        ],
        rows,
        "The estimates beside the known priors; the last two columns count classes.",
    )


def _ratio(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def _read_off(found: StrataDiagnosis) -> list[str]:
    """A warning where a prior is estimated."""
    if set(found.zero_shot.prior_from.values()) == {"known"}:
        return []
    return [
        "An estimated prior is read off the logits, so accuracy follows it whatever the reason. Known counts "
        "(--prior-of NAME=FILE) say what the pre-training data did."
    ]


def _few(document: Metrics) -> bool:
    """Whether the caveat of a prior begins with that on few images."""
    return str(document["caveat"]).startswith("The ") and "labelled images (median" in document["caveat"]


def _facts(metrics: Metrics) -> dict[str, str]:
    data = metrics["data"]
    images = f"{data['n_train']} train, {data['n_validation']} validation, {data['n_test']} test"
    if data.get("imbalance_factor") is not None:
        images += f"; imbalance factor {data['imbalance_factor']:.3g}"
    zoo = str(metrics["zoo"])
    if zoo == "mini":
        zoo = "mini: small models that this project pre-trained on the embedded world, not the real weights"
    return {
        "zoo": zoo,
        "weights (sha256)": ", ".join(f"{name} {digest[:12]}" for name, digest in metrics["weights"].items()),
        "data": f"{data['name']}: {len(metrics['classes'])} classes",
        "images": images,
        "notes": "; ".join(data["notes"]),
    }
