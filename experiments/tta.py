"""Test-time adaptation on clean, shifted and long-tailed streams; control: doing nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from experiments import Experiment

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from causalft.report.html import Section
    from experiments.frame.claims import Claim
    from experiments.frame.lab import Lab
    from experiments.frame.scales import Roles
    from experiments.frame.study import Study

_COLOURS = {"tent": "orange", "cliptta": "blue", "bn": "green"}


def study(roles: Roles) -> Study:
    """The strata tuned with LA that other experiments tune too."""
    from experiments.frame.study import Study

    return Study(
        title="Does adapting at test time help?",
        measure=measure,
        draw=draw,
        sections=sections,
        caption="Accuracy by adapting less accuracy without, by stream; 95 % intervals.",
    )


def measure(lab: Lab, tested: Any) -> dict[str, Any]:
    """Accuracy, balanced accuracy and macro-F1 with every method, beside the unadapted model."""
    from causalft.runs.intervals import interval_text
    from experiments.frame.streams import CLEAN, answers_to_streams, gain_rows, stream_metrics

    n = 128 if lab.quick else 384 if lab.world.scale == "mini" else 2048
    found = stream_metrics(answers_to_streams(lab, n))
    methods = list(found["shifted"])
    conclusion = []
    for method in methods:
        shifted, clean = found["shifted"][method], found["streams"][CLEAN][method]["gain"]["accuracy"]
        worse = found["worse"][method]
        conclusion.append(
            f"{method}: {interval_text(shifted['estimate'], shifted['ci95'], sign=True)} points on shifted images, "
            f"{interval_text(clean['estimate'], clean['ci95'], sign=True)} on clean ones; less accurate than doing "
            f"nothing in {worse['at all']['hits']} of {worse['at all']['n']} streams, by more than a point in "
            f"{worse['by a point']['hits']}."
        )
    conclusion += [f"Left out: {method}: {why}." for method, why in found["left_out"].items()]
    who = found["stratum"]
    caption = (
        f"Accuracy of {who} in percent, and what adapting adds, in points [95 %], over images and seeds."
    )
    table = {
        "columns": ["stream", "unadapted", *methods],
        "rows": gain_rows(found["streams"], "accuracy", methods),
        "caption": caption,
    }
    return {**found, "table": table, "conclusion": conclusion}


def sections(metrics: Mapping[str, Any]) -> list[Section]:
    """Balanced accuracy, macro-F1, and the fusion."""
    from causalft.report.html import Section, Table
    from experiments.frame.streams import gain_rows

    methods = list(metrics["shifted"])
    columns = ["stream", "unadapted", *methods]
    caption = "In percent, and what adapting adds, in points [95 %]."
    found = [
        Section(title, [], [Table(columns, gain_rows(metrics["streams"], measure, methods), caption)])
        for title, measure in (("Balanced accuracy", "balanced"), ("Macro-F1", "f1"))
    ]
    if metrics["fused"]:
        tables = [
            Table(columns, gain_rows(metrics["fused"], measure, methods), f"{words}: {caption}")
            for measure, words in (("accuracy", "Accuracy"), ("balanced", "Balanced accuracy"))
        ]
        found.append(Section("Fused", ["Each stratum adapts by itself; the fusion is the mixture."], tables))
    return found


def draw(metrics: Mapping[str, Any]) -> list[Axes]:
    """What each method adds, by stream."""
    from causalft.report.style import PALETTE, new_axes

    streams = list(metrics["streams"])
    axes = new_axes(6.4, 0.9 + 0.3 * len(streams))
    axes.axvline(0, color="#AAAAAA", lw=1)
    for place, method in enumerate(metrics["shifted"]):
        gains = [metrics["streams"][stream][method]["gain"]["accuracy"] for stream in streams]
        values = [100 * gain["estimate"] for gain in gains]
        limits = [gain["ci95"] or [gain["estimate"]] * 2 for gain in gains]
        low = [value - 100 * limit[0] for value, limit in zip(values, limits)]
        high = [100 * limit[1] - value for value, limit in zip(values, limits)]
        rows = [row + 0.2 * (place - 1) for row in range(len(streams))]
        colour = PALETTE[_COLOURS.get(method, "grey")]
        axes.errorbar(values, rows, xerr=[low, high], ls="", marker="o", ms=4, color=colour, label=method)
    axes.set_yticks(range(len(streams)), streams)
    axes.invert_yaxis()
    axes.set_xlabel("accuracy less that of the unadapted model (points)")
    axes.grid(axis="x")
    axes.legend(loc="best")
    return [axes]


def claims() -> tuple[Claim, ...]:
    """Harmless on clean images; a gain on shifted ones; balanced on a long tail."""
    from experiments.frame.claims import Claim

    section = "Test-time adaptation"
    gain = "gain/accuracy"
    return (
        *(
            Claim(
                f"On clean images {m} costs less than a point",
                f"streams/clean/{m}/{gain}",
                above=-0.01,
                section=section,
            )
            for m in _COLOURS
        ),
        *(
            Claim(
                f"On shifted images {m} gains over doing nothing", f"shifted/{m}", above=0.0, section=section
            )
            for m in _COLOURS
        ),
        Claim("On shifted images cliptta gains more than tent", "between", above=0.0, section=section),
        *(
            Claim(
                f"On a long-tailed stream {m} costs less than a point of balanced accuracy",
                f"streams/long-tailed/{m}/gain/balanced",
                above=-0.01,
                section=section,
            )
            for m in _COLOURS
        ),
    )


EXPERIMENT = Experiment(
    name="tta",
    reproduces="Test-time adaptation under shift",
    claim="adapting gains on shifted images and costs nothing on clean ones; control: doing nothing",
    scale="creatures-lt, mini zoo, LA-tuned strata, eleven streams of 384 test images",
    minutes=7,
    study=study,
    claims=claims,
    source="Wang et al., ICLR 2021; Nado et al., 2020; Lafon et al., NeurIPS 2025",
)
