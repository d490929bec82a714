"""Do prediction sets keep their coverage in every D and P group? Control: one threshold for all classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from experiments import Experiment

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from experiments.frame.claims import Claim
    from experiments.frame.lab import Lab
    from experiments.frame.scales import Roles
    from experiments.frame.study import Study

_GROUPS = ("D-many", "D-medium", "D-few", "P-many", "P-medium", "P-few")


def study(roles: Roles) -> Study:
    """Mixture and adjusted fusion of LA-tuned strata that other experiments tune too."""
    from experiments.frame.study import Study

    return Study(
        title="Do prediction sets keep their coverage in every group?",
        measure=measure,
        draw=draw,
        caption="Coverage of the mixture less what was asked for, by group; the band is two points.",
    )


def measure(lab: Lab, tested: Any) -> dict[str, Any]:
    """Coverage by group over random divisions of the labelled images."""
    from causalft.runs.intervals import interval_text
    from experiments.frame.uncertain import coverage_metrics, group_rows

    found, adjusted = coverage_metrics(lab), coverage_metrics(lab, fusion="adjusted")
    worst, few = found["largest"], found["one_threshold"].get("D-few")
    conclusion = []
    if worst is not None:
        shown = interval_text(worst["estimate"], worst["ci95"], sign=True)
        conclusion.append(
            f"Of the groups with 50 validation images, {worst['group']} is furthest from {100 * found['coverage']:g} "
            f"% coverage: {shown} points. The sets hold {found['mean_size']:.1f} classes on average."
        )
    if few is not None:
        shown = interval_text(few["estimate"], few["ci95"], sign=True)
        conclusion.append(
            f"With one threshold for all classes D-few is {shown} points off; such sets hold "
            f"{found['one_threshold_size']:.1f} classes."
        )
    if adjusted["largest"] is not None:
        worst = adjusted["largest"]
        shown = interval_text(worst["estimate"], worst["ci95"], sign=True)
        conclusion.append(
            f"With the adjusted fusion {worst['group']} is furthest off: {shown} points; the sets hold "
            f"{adjusted['mean_size']:.1f} classes."
        )
    conclusion += found["notes"]
    caption = (
        f"Coverage less {100 * found['coverage']:g} %, in points [95 %], means over {found['repetitions']} random "
        f"divisions of the labelled images, intervals over seeds; as fitted: the division of the runs. P: by the "
        f"pooled prior."
    )
    columns = ["fusion", "group", "validation images", "own thresholds", "as fitted", "one threshold"]
    rows = [
        [fusion, *row]
        for fusion, of in (("mixture", found), ("adjusted", adjusted))
        for row in group_rows(of)
    ]
    table = {"columns": columns, "rows": rows, "caption": caption}
    return {"sets": found, "adjusted": adjusted, "table": table, "conclusion": conclusion}


def draw(metrics: Mapping[str, Any]) -> list[Axes]:
    """Deviation of each group, with own thresholds and with one."""
    from causalft.report.style import PALETTE, new_axes

    found = metrics["sets"]
    names = list(found["deviation"])
    axes = new_axes(6.4, 1.1 + 0.26 * len(names))
    axes.axvspan(-2, 2, color="#DDDDDD", zorder=0)
    for key, colour, words in (
        ("one_threshold", "orange", "one threshold"),
        ("deviation", "blue", "a threshold per group"),
    ):
        values = [100 * found[key][name]["estimate"] for name in names]
        axes.plot(values, range(len(names)), "o", color=PALETTE[colour], label=words)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("coverage less what was asked for (points)")
    axes.grid(axis="x")
    axes.legend(loc="best")
    return [axes]


def claims() -> tuple[Claim, ...]:
    """Two points in each group, and what happens without groups."""
    from experiments.frame.claims import Claim

    section = "What stays uncertain"
    keeps = "Prediction sets with a threshold per group keep their coverage in {} (within 2 points)"
    adjusted = "Prediction sets of the adjusted fusion keep their coverage in {} (within 2 points)"
    return (
        *(
            Claim(keeps.format(group), f"sets/deviation/{group}", within=0.02, section=section)
            for group in _GROUPS
        ),
        Claim(
            "One threshold for all classes covers D-few too seldom by more than 2 points",
            "sets/one_threshold/D-few",
            below=-0.02,
            section=section,
        ),
        *(
            Claim(adjusted.format(group), f"adjusted/deviation/{group}", within=0.02, section=section)
            for group in _GROUPS
        ),
    )


EXPERIMENT = Experiment(
    name="conformal",
    reproduces="Coverage of prediction sets by group",
    claim="sets keep 90 % coverage in each D and P group; control: one threshold for all classes",
    scale="creatures-lt, mini zoo, LA-tuned strata, 40 divisions of the labelled images per seed",
    minutes=2,
    study=study,
    claims=claims,
    seeds=5,
    source="this project",
)
