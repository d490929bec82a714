"""Figure 7 and Table 13: the long tail in the order of the pre-training prior, in reverse, or independent of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments import Experiment

if TYPE_CHECKING:
    from experiments.frame.claims import Claim
    from experiments.frame.scales import Roles
    from experiments.frame.study import Study

ORDERS = ("Consistency", "Reverse", "Balance")


def study(roles: Roles) -> Study:
    """Order by the prior of the first stratum: that stratum, the others (a placebo), and all fused."""
    from experiments.frame.arms import Arm, Model, fused, singles
    from experiments.frame.measures import Contrast
    from experiments.frame.members import Draw, Member
    from experiments.frame.study import Study

    first, *rest = roles.strata
    arms = []
    for order in ORDERS:
        draw = Draw(order.lower(), first)
        others = tuple(Model((Member(name, draw=draw),)) for name in rest)
        arms += [
            singles(f"{order}, {first}", roles, of="first", draw=draw),
            Arm(f"{order}, others", others),
            fused(f"{order}, fused", roles, draw=draw),
        ]

    def against(words: str, who: str, measure: str = "accuracy", minus: str = "Consistency") -> Contrast:
        return Contrast(words, (f"Reverse, {who}",), (f"{minus}, {who}",), measure)

    own = (f"Reverse, {first}", "Consistency, others")
    return Study(
        title="Figure 7: the order of the long tail against the pre-training prior",
        arms=arms,
        measures=("accuracy", "P_many", "P_medium", "P_few", "P_gap", "own_gap"),
        contrasts=[
            against("Reverse less Consistency", first),
            against("Reverse less Balance", first, minus="Balance"),
            against("Reverse less Consistency, P-few", first, "P_few"),
            against("Reverse less Consistency, P gap", first, "P_gap"),
            against("Reverse less Consistency, others", "others"),
            Contrast("own less others", own, (f"Consistency, {first}", "Reverse, others")),
            against("Reverse less Consistency, fused", "fused"),
        ],
        conclude=lambda shown: [
            f"Against Consistency, Reverse changes the accuracy of {first} by {shown('Reverse less Consistency')} "
            f"points and on its P-few by {shown('Reverse less Consistency, P-few')}.",
            f"The order is by the prior of {first}: the others, for which it is any order, change by "
            f"{shown('Reverse less Consistency, others')}, the fusion by {shown('Reverse less Consistency, fused')}.",
        ],
    )


def claims() -> tuple[Claim, ...]:
    """What Figure 7 and Table 13 claim."""
    from experiments.frame.claims import Claim

    beats = "A long tail in the reverse order of the pre-training prior is learnt better than one in its own order"
    own = "That belongs to the prior: models with other priors gain less from the same order"
    few = "Reverse raises the accuracy on the classes that are rare in pre-training"
    gap = "Reverse lowers the gap between classes frequent and rare in pre-training"
    return (
        Claim(beats, "paired/Reverse less Consistency", above=0.0, section="Fig. 7"),
        Claim(few, "paired/Reverse less Consistency, P-few", above=0.0, section="Fig. 7"),
        Claim(gap, "paired/Reverse less Consistency, P gap", below=0.0, section="Tab. 13"),
        Claim(own, "paired/own less others", above=0.0, section="Tab. 13"),
    )


EXPERIMENT = Experiment(
    name="fig7",
    reproduces="Fig. 7 and Tab. 13",
    claim="Reverse beats Consistency; control: models with other priors, for which the order is any order",
    scale="creatures-lt, its tail ordered by the prior of the first stratum, three draws an order; mini zoo, LA",
    minutes=9,
    study=study,
    claims=claims,
    also=("tab13",),
)
