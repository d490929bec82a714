"""Which predictions depend on P(c)? Certain ones for every P(c), beside a fusion of seeds of one model."""

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

MEASURES = {
    "certain": "certain for every P(c)",
    "certain_is_right": "accuracy, certain less others",
    "changed_within_0.05": "changes within .05",
    "changed_within_0.1": "changes within .1",
    "changed_in_interval": "changes in the interval of P(c)",
    "second_opinion": "front door disagrees",
    "second_opinion_accuracy": "its accuracy less the run's",
}


def study(roles: Roles) -> Study:
    """LA-tuned members that other experiments tune too; nothing is trained for this one alone."""
    from experiments.frame.study import Study

    return Study(title="Which predictions depend on P(c)?", measure=measure, draw=draw, caption=CAPTION)


CAPTION = (
    "Mixture: share of predictions that hold for every P(c), by group of the true class, with 95 % intervals."
)


def measure(lab: Lab, tested: Any) -> dict[str, Any]:
    """Sensitivity of strata and of the control, by fusion."""
    from causalft.runs.intervals import interval_text
    from experiments.frame.uncertain import SEEDS, STRATA, sensitivity_metrics

    found = sensitivity_metrics(lab)

    def words(value: Mapping[str, Any]) -> str:
        return interval_text(value["estimate"], value["ci95"])

    rows = [
        [f"{family}, {fusion}", *(words(of[family][key]) for key in MEASURES)]
        for fusion, of in found.items()
        for family in (STRATA, SEEDS)
    ]
    own = found["mixture"][STRATA]
    conclusion = [
        f"{words(own['certain'])} % of the predictions of the mixture hold for every P(c); a fusion of seeds of one "
        f"model has {words(found['mixture'][SEEDS]['certain'])} %.",
        f"Certain predictions are {words(own['certain_is_right'])} points more often right than the others.",
        f"Within the interval of the estimated P(c) {words(own['changed_in_interval'])} % change; the front door "
        f"changes {words(own['second_opinion'])} %, its accuracy is {words(own['second_opinion_accuracy'])} points "
        "from that of uniform P(c).",
        f"Of the adjusted fusion {words(found['adjusted'][STRATA]['certain'])} % hold for every P(c), and "
        f"{words(found['adjusted'][STRATA]['changed_in_interval'])} % change within the interval.",
    ]
    caption = (
        "Percent and points [95 % over test images and seeds]. Changes within: some P(c) up to this total variation "
        "from uniform changes the prediction. For the adjusted fusion P(c) runs over a grid."
    )
    table = {"columns": ["fusion", *MEASURES.values()], "rows": rows, "caption": caption}
    return {"sensitivity": found, "table": table, "conclusion": conclusion}


def draw(metrics: Mapping[str, Any]) -> list[Axes]:
    """Certain predictions by D and P group, strata and control."""
    from causalft.report.style import SERIES, new_axes
    from experiments.frame.uncertain import SEEDS, STRATA

    of = metrics["sensitivity"]["mixture"]
    names = list(of[STRATA]["groups"])
    axes = new_axes(6.4, 1.1 + 0.34 * len(names))
    for shift, family, colour in zip((-0.12, 0.12), (STRATA, SEEDS), SERIES, strict=False):
        for y, name in enumerate(names):
            value = of[family]["groups"][name]
            low, high = value["ci95"] or [value["estimate"]] * 2
            error = [[100 * (value["estimate"] - low)], [100 * (high - value["estimate"])]]
            axes.errorbar(
                100 * value["estimate"],
                y + shift,
                xerr=error,
                marker="o",
                color=colour,
                label=family if y == 0 else None,
            )
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("predictions that hold for every P(c) (%)")
    axes.grid(axis="x")
    axes.legend(loc="best")
    return [axes]


def claims() -> tuple[Claim, ...]:
    """What uniform P(c) decides, and what it does not."""
    from experiments.frame.claims import Claim

    own, section = "sensitivity/mixture/strata", "What stays uncertain"
    adjusted = "sensitivity/adjusted/strata"
    return (
        Claim(
            "Uniform weights decide little: within the 95 % interval of the estimated P(c) fewer than 10 % of the "
            "predictions change",
            f"{own}/changed_in_interval",
            below=0.1,
            objection=5,
        ),
        Claim(
            "P(c) learnt through the front door is not more accurate than uniform P(c) (within 1 point)",
            f"{own}/second_opinion_accuracy",
            within=0.01,
            objection=5,
        ),
        Claim(
            "Predictions that hold for every P(c) are right at least 20 points more often than the others",
            f"{own}/certain_is_right",
            above=0.2,
            section=section,
        ),
        Claim(
            "Strata leave more predictions to P(c) than seeds of one model do",
            "sensitivity/mixture/strata_less_seeds",
            below=0.0,
            section=section,
        ),
        Claim(
            "Of the adjusted fusion fewer than 10 % of the predictions change within the 95 % interval of the "
            "estimated P(c)",
            f"{adjusted}/changed_in_interval",
            below=0.1,
            objection=5,
        ),
        Claim(
            "P(c) learnt through the front door does not make the adjusted fusion more accurate than uniform P(c) "
            "(within 1 point)",
            f"{adjusted}/second_opinion_accuracy",
            within=0.01,
            objection=5,
        ),
        Claim(
            "Predictions of the adjusted fusion that hold for every P(c) are right at least 20 points more often than "
            "the others",
            f"{adjusted}/certain_is_right",
            above=0.2,
            section=section,
        ),
        Claim(
            "The adjusted fusion of strata leaves more predictions to P(c) than that of seeds of one model",
            "sensitivity/adjusted/strata_less_seeds",
            below=0.0,
            section=section,
        ),
    )


EXPERIMENT = Experiment(
    name="sensitivity",
    reproduces="Objection 5: what P(c) decides",
    claim="few predictions depend on P(c) within what data leave open; control: seeds of one model",
    scale="creatures-lt, mini zoo, LA-tuned strata and seeds of one model",
    minutes=0.5,
    study=study,
    claims=claims,
    source="this project",
)
