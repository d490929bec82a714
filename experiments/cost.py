"""What M strata cost, against their accuracy and that of one model at the same cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments import Experiment

if TYPE_CHECKING:
    from experiments.frame.claims import Claim
    from experiments.frame.scales import Roles
    from experiments.frame.study import Study

LARGER, LONGER, FREE = "larger model", "longer training", "strata without tuning, GLA-ZS"


def study(roles: Roles) -> Study:
    """Equal cost at prediction (a larger model) and in training (longer), and two ways to pay less."""
    from causalft.errors import several
    from experiments.frame.arms import fused, larger, longer
    from experiments.frame.costs import cost_section, costs
    from experiments.frame.measures import Contrast
    from experiments.frame.study import Study

    m = len(roles.strata)
    names = [several(range(size), "stratum", "strata") for size in range(1, m + 1)]  # as in the costs
    first, fewer, whole = names[0], names[-2], names[-1]
    return Study(
        title="What do M strata cost, and what do they give?",
        arms=[
            *(fused(name, roles, m=size) for size, name in enumerate(names, 1)),
            larger(LARGER, roles),
            longer(LONGER, roles),
            fused(FREE, roles, view="GLA-ZS"),
        ],
        contrasts=[
            Contrast("gain of all", (whole,), (first,)),
            Contrast("one stratum fewer keeps more than half", (fewer, fewer), (first, whole)),
            Contrast("strata over larger model", (whole,), (LARGER,)),
            Contrast("strata over longer training", (whole,), (LONGER,)),
            Contrast("without tuning over one stratum", (FREE,), (first,)),
        ],
        conclude=lambda shown: [
            f"{m} strata cost {m} times one and gain {shown('gain of all')} points; at the same cost they are "
            f"{shown('strata over larger model')} points from one larger model and "
            f"{shown('strata over longer training')} from longer training.",
            f"GLA-ZS of the fused strata, which trains nothing, is {shown('without tuning over one stratum')} points "
            "from one tuned stratum.",
        ],
        measure=lambda lab, _: costs(lab),
        sections=cost_section,
    )


def claims() -> tuple[Claim, ...]:
    """What answers the objection that cost grows with M."""
    from experiments.frame.claims import Claim

    half = "One stratum fewer costs less and keeps more than half of the gain"
    at = "paired/one stratum fewer keeps more than half"
    return (Claim(half, at, above=0.0, objection=8),)  # equal cost: see tab5


EXPERIMENT = Experiment(
    name="cost",
    reproduces="FLOPs and parameters for M = 1, 2, 3",
    claim="cost grows with M, and so does accuracy; controls: one larger model, one trained longer, no tuning at all",
    scale="creatures-lt, mini zoo; operations counted, time measured on two batches",
    minutes=7,
    study=study,
    claims=claims,
)
