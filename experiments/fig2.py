"""Figure 2: accuracy of the nine D x P groups under cross-entropy and logit adjustment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from experiments import Experiment

if TYPE_CHECKING:
    from experiments.frame.claims import Claim
    from experiments.frame.lab import Lab
    from experiments.frame.scales import Roles
    from experiments.frame.study import Study


def study(roles: Roles) -> Study:
    """Every stratum by itself, tuned with CE and with LA, in the P groups of its own estimated prior."""
    from experiments.frame.arms import singles
    from experiments.frame.groups import draw_groups
    from experiments.frame.measures import Contrast
    from experiments.frame.study import Study

    return Study(
        title="Figure 2: data imbalance and parameter imbalance, crossed",
        arms=[singles("CE", roles, loss="CE"), singles("LA", roles)],
        measures=("accuracy", "many", "few", "D_gap", "P_gap", "own_gap", "tail_tail"),
        contrasts=[
            Contrast("D gap, CE less twice LA", ("CE",), ("LA", "LA"), "D_gap"),
            Contrast("own P gap, LA", ("LA",), (), "own_gap"),
            Contrast("own P gap, LA less half of CE, doubled", ("LA", "LA"), ("CE",), "own_gap"),
            Contrast("own P gap, LA less CE", ("LA",), ("CE",), "own_gap"),
        ],
        conclude=lambda shown: [
            "The D gap under CE exceeds twice that under LA by "
            f"{shown('D gap, CE less twice LA')} points: above 0, LA closes more than half of it.",
            f"Under LA the own P gap beyond class difficulty is {shown('own P gap, LA')} points, "
            f"{shown('own P gap, LA less CE')} against CE (control: the other models on the same groups).",
        ],
        measure=measure,
        draw=draw_groups,
        caption="Accuracy in percent with its 95 % interval, averaged over the strata in their own P groups.",
    )


def measure(lab: Lab, tested: Any) -> dict[str, Any]:
    """Accuracy of the nine groups, of every arm."""
    from experiments.frame.groups import group_metrics

    return group_metrics(tested)


def claims() -> tuple[Claim, ...]:
    """What Figure 2 claims."""
    from experiments.frame.claims import Claim

    half = "LA closes at least half of the gap between D-many and D-few that CE leaves"
    leaves = "LA leaves at least half of the P gap beyond class difficulty"
    worst = "{}: no group is worse than the classes that are rare in both (D-few and P-few)"
    return (
        Claim(half, "paired/D gap, CE less twice LA", above=0.0, section="Fig. 2"),
        Claim("Under LA a P gap remains", "paired/own P gap, LA", above=0.0, section="Fig. 2"),
        Claim(leaves, "paired/own P gap, LA less half of CE, doubled", above=0.0, section="Fig. 2"),
        Claim(worst.format("CE"), "tail_tail/CE", below=0.0, section="Fig. 2"),
        Claim(worst.format("LA"), "tail_tail/LA", below=0.0, section="Fig. 2"),
    )


EXPERIMENT = Experiment(
    name="fig2",
    reproduces="Fig. 2",
    claim="LA closes the D gap of CE and leaves the P gap; control: the other models on the same P groups",
    scale="creatures-lt, mini zoo, every stratum with CE and LA",
    minutes=4,
    study=study,
    claims=claims,
)
