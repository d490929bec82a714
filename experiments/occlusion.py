"""Occlusion: confidence in the true class when head, body or tail is hidden, per stratum and fused."""

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
    from experiments.frame.tested import Tested


def study(roles: Roles) -> Study:
    """The loss of confidence of the strata, each tuned with LA, and of their mixture."""
    from experiments.frame.arms import fused
    from experiments.frame.study import Study

    arms = [fused("LA, strata fused", roles)]
    return Study(
        title="Occlusion: which part does a model need?",
        arms=arms,
        measures=("accuracy",),
        measure=measure,
        draw=draw,
    )


def measure(lab: Lab, _: Tested | None) -> dict[str, Any]:
    """Loss of confidence of each model by hidden part, and favourite parts against the others."""
    from experiments.frame.looking import hidden_losses, loss_metrics

    found = hidden_losses(lab, 240 if lab.quick else 1200)
    if found is None:
        why = "the parts of these images are not known, so none can be hidden"
        return {"left_out": {"hidden parts": why}, "conclusion": [f"Left out: {why}."]}
    return loss_metrics(found)


def draw(metrics: Mapping[str, Any]) -> list[Axes]:
    """Loss of confidence by hidden part, one group of bars per model."""
    from experiments.frame.looking import draw_parts

    if "losses" not in metrics:
        from experiments.frame.study import draw_arms

        return draw_arms(metrics)
    return draw_parts(metrics["losses"], "loss of confidence in the\ntrue class, part hidden (points)")


def claims() -> tuple[Claim, ...]:
    """What the paper shows with hidden heads and bodies, and the answer to objection 11."""
    from experiments.frame.claims import Claim

    own = "Each stratum loses most confidence when the part that it was pre-trained on most is hidden"
    more = "It loses more by that than the other strata lose by the same part"
    less = "The fused model loses less than the stratum whose favourite part is hidden"
    return (
        Claim(own, "favourite/less the worst other part", above=0.0, section="Fig. 4"),
        Claim(more, "favourite/less other strata", above=0.0, objection=11),
        Claim(less, "favourite/less fused", above=0.0, section="Fig. 10"),
    )


EXPERIMENT = Experiment(
    name="occlusion",
    reproduces="Occlusion",
    claim="each stratum needs its favourite part most; control: the other strata with the same part hidden",
    scale="creatures-lt, mini zoo, strata with LA, 1200 test images with the parts known",
    minutes=4,
    study=study,
    claims=claims,
)
