"""Does int8 answer as fp32 does? Agreement and accuracy of the fused strata; the speed is measured by `make bench`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from experiments import Experiment

if TYPE_CHECKING:
    from experiments.frame.claims import Claim
    from experiments.frame.lab import Lab
    from experiments.frame.scales import Roles
    from experiments.frame.study import Study


def study(roles: Roles) -> Study:
    """LA-tuned strata that other experiments tune too, in both precisions."""
    from experiments.frame.study import Study

    return Study(title="Does int8 answer as fp32 does?", measure=measure)


def measure(lab: Lab, tested: Any) -> dict[str, Any]:
    """Agreement and accuracy of the mixture and of each stratum."""
    from causalft.runs.intervals import interval_text
    from experiments.frame.rounded import compare_precisions, logits_by_precision

    found = compare_precisions(logits_by_precision(lab), lab.world.splits(0).test.labels)
    rows = []
    for name, agreement in found["agreement"].items():
        difference = found["difference"][name]
        shown = interval_text(difference["estimate"], difference["ci95"], sign=True, digits=2)
        accuracy = [f"{100 * found['accuracy'][precision][name]:.1f}" for precision in ("fp32", "int8")]
        rows.append([name, interval_text(agreement["estimate"], agreement["ci95"]), *accuracy, shown])
    columns = ["model", "same class (%)", "fp32 (%)", "int8 (%)", "difference (points)"]
    caption = "Test images, strata tuned with LA, their mixture; 95 % intervals over images and seeds."
    fused = rows[0]
    conclusion = [
        f"int8 predicts the class of fp32 for {fused[1]} % of the images; accuracy changes by {fused[4]} points."
    ]
    return {
        "int8": found,
        "table": {"columns": columns, "rows": rows, "caption": caption},
        "conclusion": conclusion,
    }


def claims() -> tuple[Claim, ...]:
    """What a user is promised."""
    from experiments.frame.claims import Claim

    section = "Fast on any CPU"
    same = "int8 predicts the class of its control, fp32, for at least 99 % of the images (fused)"
    keeps = "int8 keeps the fused accuracy of its control, fp32, within 0.3 points"
    return (
        Claim(same, "int8/agreement/fused", above=0.99, section=section),
        Claim(keeps, "int8/difference/fused", within=0.003, section=section),
    )


EXPERIMENT = Experiment(
    name="int8",
    reproduces="Predictions in int8",
    claim="int8 agrees with fp32 in 99 % of the predictions and keeps the fused accuracy; control: fp32",
    scale="creatures-lt, mini zoo, mixture of LA-tuned strata",
    minutes=4,
    study=study,
    claims=claims,
    source="this project",
)
