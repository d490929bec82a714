"""Tables 2 and 3: the ways to take the pre-training prior out of one model, in the loss or in the logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments import Experiment

if TYPE_CHECKING:
    from experiments.frame.claims import Claim
    from experiments.frame.scales import Roles
    from experiments.frame.study import Study

TRAIN, FT, KNOWN = "GLA-Train", "GLA-FT", "GLA-FT, known prior"


def study(roles: Roles) -> Study:
    """Each stratum by itself; the known prior in place of the estimated one is the control."""
    from experiments.frame.arms import known_prior_gla, singles
    from experiments.frame.measures import Contrast
    from experiments.frame.study import Study

    return Study(
        title="Tables 2 and 3: does the loss, or an adjustment of the logits, remove the pre-training prior?",
        arms=[
            singles("zero-shot", roles, view="zero-shot"),
            singles("GLA-ZS", roles, view="GLA-ZS"),
            singles("CE", roles, loss="CE"),
            singles("LA", roles),
            singles(TRAIN, roles, loss="GLA-Train"),
            singles(FT, roles, view="GLA-FT"),
            known_prior_gla(KNOWN, roles, rule=None),
        ],
        measures=("accuracy", "many", "medium", "few", "P_gap", "own_gap", "prior_slope"),
        contrasts=[
            Contrast("GLA-Train over LA", (TRAIN,), ("LA",)),
            Contrast("GLA-FT over LA", (FT,), ("LA",)),
            Contrast("GLA-FT over GLA-Train", (FT,), (TRAIN,)),
            Contrast("gap fall, GLA-Train", ("LA",), (TRAIN,), "own_gap"),
            Contrast("gap fall, GLA-FT", ("LA",), (FT,), "own_gap"),
            Contrast("GLA-ZS over zero-shot", ("GLA-ZS",), ("zero-shot",)),
            Contrast("known over estimated prior", (KNOWN,), (FT,)),
        ],
        conclude=lambda shown: [
            f"Against LA, GLA-Train changes accuracy by {shown('GLA-Train over LA')} points and GLA-FT by "
            f"{shown('GLA-FT over LA')}.",
            f"The own P gap of LA falls by {shown('gap fall, GLA-Train')} points with GLA-Train and by "
            f"{shown('gap fall, GLA-FT')} with GLA-FT.",
            f"The known prior in place of the estimated one changes GLA-FT by {shown('known over estimated prior')}.",
        ],
    )


def claims() -> tuple[Claim, ...]:
    """What Tables 2 and 3 claim, and what the known prior answers."""
    from experiments.frame.claims import Claim

    return (
        Claim(
            "GLA-Train does not help: it gains less than one point over LA",
            "paired/GLA-Train over LA",
            below=0.01,
            section="Tab. 2",
        ),
        Claim(
            "GLA-Train does not cure parameter imbalance: an own P gap remains",
            f"methods/{TRAIN}/own_gap",
            beyond=0.0,
            section="Tab. 2",
        ),
        Claim("GLA-FT is more accurate than LA", "paired/GLA-FT over LA", above=0.0, section="Tab. 3"),
        Claim(
            "GLA-FT is more accurate than GLA-Train",
            "paired/GLA-FT over GLA-Train",
            above=0.0,
            section="Tab. 3",
        ),
        Claim("GLA-FT lowers the own P gap of LA", "paired/gap fall, GLA-FT", above=0.0, section="Tab. 3"),
        Claim(
            "The estimated prior serves GLA-FT as well as the known one, to one point of accuracy",
            "paired/known over estimated prior",
            within=0.01,
            objection=6,
        ),
    )


EXPERIMENT = Experiment(
    name="tab2",
    also=("tab3",),
    reproduces="Tab. 2 and 3",
    claim="GLA-Train does not cure parameter imbalance, GLA-FT helps; control: the known prior in place of q",
    scale="creatures-lt, mini zoo, each stratum tuned with CE, LA and GLA-Train",
    minutes=9,
    study=study,
    claims=claims,
)
