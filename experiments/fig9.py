"""Figure 9: a network trained from scratch on the downstream images has no slope along the pre-training prior."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from experiments import Experiment

if TYPE_CHECKING:
    from experiments.frame.claims import Claim
    from experiments.frame.lab import Lab
    from experiments.frame.scales import Roles
    from experiments.frame.study import Study


def study(roles: Roles) -> Study:
    """The single strata tuned with LA, beside a ResNet trained from scratch with LA on the same images."""
    from experiments.frame.arms import singles
    from experiments.frame.study import Study

    return Study(
        title="Figure 9: without pre-training, no slope along its prior",
        arms=[singles("LA", roles)],
        measures=("accuracy", "few", "P_gap"),
        measure=measure,
        draw=_draw,
        caption="Each point is the mean of a twentieth of the classes, along the prior of each stratum.",
    )


def measure(lab: Lab, tested: Any) -> dict[str, Any]:
    """Slopes along the priors of the strata, with intervals over test images and seeds, and over classes."""
    from dataclasses import replace

    import numpy as np

    from causalft.data.groups import class_accuracy
    from causalft.runs.intervals import interval_text
    from experiments.frame.curves import curve_metrics, slope_vectors
    from experiments.frame.means import jackknife
    from experiments.frame.measures import Answered
    from experiments.frame.scratch import from_scratch

    right = np.stack([from_scratch(lab, seed) == tested.labels for seed in range(lab.seeds)])[None]
    arms = {**tested.arms, "from scratch": Answered(right, [list(range(len(tested.estimated)))])}
    found = replace(tested, arms=arms)
    priors = found.estimated if found.known is None else found.known
    accuracy = class_accuracy(right, found.labels, found.n_classes).mean(axis=(0, 1))
    tuned = class_accuracy(found.baseline, found.labels, found.n_classes).mean(axis=1)
    there = np.flatnonzero(~np.isnan(accuracy))

    def slope(of: np.ndarray, rows: np.ndarray) -> float:
        kept = there[rows]
        vectors = slope_vectors(priors[:, kept], np.ones(len(kept), dtype=bool))
        return float((vectors * np.broadcast_to(of, priors.shape)[:, kept]).sum(axis=1).mean())

    shown = {
        "strata": jackknife(lambda rows: slope(tuned, rows), len(there)),
        "from scratch": jackknife(lambda rows: slope(accuracy, rows), len(there)),
        "strata less from scratch": jackknife(lambda rows: slope(tuned - accuracy, rows), len(there)),
    }
    rows = [[name, interval_text(value["estimate"], value["ci95"])] for name, value in shown.items()]
    caption = "Slope of class accuracy, points per factor 100 of the prior, 95 % intervals over the classes."
    kind = "estimated" if found.known is None else "known"
    return {
        **curve_metrics(found),
        "over_classes": shown,
        "scratch_accuracy": float(right.mean()),
        "table": {"columns": ["model", f"slope along the {kind} prior"], "rows": rows, "caption": caption},
        "conclusion": [
            f"From scratch the slope along the {kind} priors of the strata is {rows[1][1]} points per factor 100, that "
            f"of the tuned strata {rows[0][1]}; the difference is {rows[2][1]}.",
            f"From scratch the accuracy is {100 * right.mean():.1f} %.",
        ],
    }


def _draw(metrics: Any) -> Any:
    from experiments.frame.curves import draw_curves

    return draw_curves(metrics)


def claims() -> tuple[Claim, ...]:
    """What Figure 9 claims."""
    from experiments.frame.claims import Claim

    less = "The slope along the pre-training prior is steeper in tuned foundation models than from scratch"
    flat = (
        "A network trained from scratch has a slope below 10 points per factor 100 of the pre-training prior"
    )
    return (
        Claim(less, "over_classes/strata less from scratch", above=0.0, section="Fig. 9"),
        Claim(flat, "over_classes/from scratch", within=0.1, section="Fig. 9"),
    )


EXPERIMENT = Experiment(
    name="fig9",
    reproduces="Fig. 9",
    claim="tuned strata slope along their own prior; control: a ResNet from scratch on the same images does not",
    scale="creatures-lt, mini zoo, strata with LA; ResNet-8 at 20 px, 30 epochs, LA",
    minutes=6,
    study=study,
    claims=claims,
)
