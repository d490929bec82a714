"""Joint training of the strata by one loss on their fused logits, beside strata tuned one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments import Experiment

if TYPE_CHECKING:
    from experiments.frame.claims import Claim
    from experiments.frame.scales import Roles
    from experiments.frame.study import Study

APART, TOGETHER, MIXED = "tuned apart, mixture", "tuned together, mean of logits", "tuned together, mixture"


def study(roles: Roles) -> Study:
    """The same models and recipe; what differs is where the loss is."""
    from experiments.frame.arms import fused
    from experiments.frame.measures import Contrast
    from experiments.frame.study import Study

    return Study(
        title="Are strata better tuned together?",
        arms=[
            fused(APART, roles),
            fused("tuned apart, mean of logits", roles, "logit"),
            fused(TOGETHER, roles, "joint, mean of logits"),
            fused(MIXED, roles, "joint, mixture"),
        ],
        contrasts=[
            Contrast("apart over together", (APART,), (TOGETHER,)),
            Contrast("apart over together, D-few", (APART,), (TOGETHER,), "few"),
            Contrast("apart over together, mean of logits", ("tuned apart, mean of logits",), (TOGETHER,)),
            Contrast("apart over together, mixture", (APART,), (MIXED,)),
        ],
        conclude=lambda shown: [
            f"Strata tuned apart are {shown('apart over together')} points from strata tuned together by the mean of "
            f"logits, {shown('apart over together, D-few')} on D-few, and {shown('apart over together, mixture')} from "
            "those tuned together by the mixture.",
        ],
    )


def claims() -> tuple[Claim, ...]:
    """What the paper claims: 79.57 against 78.15 on ImageNet-LT, 53.01 against 52.30 on Places365-LT."""
    from experiments.frame.claims import Claim

    logits = "Strata tuned apart are more accurate than strata tuned together"
    mixture = "So they are than strata tuned together by the mixture of Eq. 7"
    return (
        Claim(logits, "paired/apart over together", above=0.0, section="Sec. 5, joint training"),
        Claim(mixture, "paired/apart over together, mixture", above=0.0, section="Sec. 5, joint training"),
    )


EXPERIMENT = Experiment(
    name="joint",
    reproduces="Sec. 5: joint training",
    claim="strata tuned apart beat strata tuned together; control: the same fusion for both",
    scale="creatures-lt, mini zoo, LA",
    minutes=9,
    study=study,
    claims=claims,
)
