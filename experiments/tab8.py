"""Table 8: M = 1, 2, 3 strata, beside the control that the table lacks: M = 1, 2, 3 seeds of one model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments import Experiment

if TYPE_CHECKING:
    from experiments.frame.claims import Claim
    from experiments.frame.scales import Roles
    from experiments.frame.study import Study


def study(roles: Roles) -> Study:
    """Every subset of the strata and of the seeds, as a mixture."""
    from causalft.errors import several
    from experiments.frame.arms import fused
    from experiments.frame.measures import Contrast
    from experiments.frame.study import Study

    sizes = range(1, len(roles.strata) + 1)
    last = len(roles.strata)
    strata = [fused(several(range(m), "stratum", "strata"), roles, m=m) for m in sizes]
    seeds = [fused(several(range(m), "seed of one", "seeds of one"), roles, of="seeds", m=m) for m in sizes]
    first, whole = strata[0].name, strata[-1].name
    one, many = seeds[0].name, seeds[-1].name
    return Study(
        title="Table 8: how many strata, and is it their number?",
        arms=[*strata, *seeds],
        measures=("accuracy", "many", "medium", "few", "own_gap"),
        contrasts=[
            Contrast("gain, strata", (whole,), (first,)),
            Contrast("gain, strata, D-few", (whole,), (first,), "few"),
            Contrast("gain, seeds", (many,), (one,)),
            Contrast("gain, strata minus seeds", (whole, one), (first, many)),
            Contrast("gap fall, strata", (first,), (whole,), "own_gap"),
            Contrast("gap fall, seeds", (one,), (many,), "own_gap"),
        ],
        conclude=lambda shown: [
            f"From M = 1 to {last} the own P gap falls by {shown('gap fall, strata')} points over the strata and by "
            f"{shown('gap fall, seeds')} over seeds of one model.",
            f"Accuracy gains {shown('gain, strata')} points over the strata and {shown('gain, seeds')} over seeds, "
            f"which is an ordinary ensemble's gain; the difference is {shown('gain, strata minus seeds')}.",
        ],
    )


def claims() -> tuple[Claim, ...]:
    """What Table 8 claims, and what its control answers."""
    from experiments.frame.claims import Claim

    return (
        Claim("More strata raise accuracy", "paired/gain, strata", above=0.0, section="Tab. 8"),
        Claim("More strata raise D-few accuracy", "paired/gain, strata, D-few", above=0.0, section="Tab. 8"),
        Claim("More strata lower the own P gap", "paired/gap fall, strata", above=0.0, section="Tab. 8"),
        Claim(
            "Fusing strata gains more than fusing as many seeds of one model",
            "paired/gain, strata minus seeds",
            above=0.0,
            objection=4,
        ),
    )


EXPERIMENT = Experiment(
    name="tab8",
    reproduces="Tab. 8",
    claim="M = 1, 2, 3 strata raise accuracy and lower the P gap; control: as many seeds of one model",
    scale="creatures-lt, mini zoo, every subset of the strata and of the seeds of one",
    minutes=5,
    study=study,
    claims=claims,
)
