"""Terms of the training that attend to P-few classes, beside LA alone and beside moving the decision afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments import Experiment

if TYPE_CHECKING:
    from experiments.frame.claims import Claim
    from experiments.frame.scales import Roles
    from experiments.frame.study import Study

LA, DRO, WEIGHTS, ADJUSTED = "LA alone, product", "group-DRO", "P-few weights", "LA alone, adjusted"
STEPS = (0.01, 0.1)
"""Step sizes of group-DRO; validation images choose one for each stratum and seed."""


def study(roles: Roles) -> Study:
    """LA with each term; the strata are fused by the product."""
    from experiments.frame.answers import EACH
    from experiments.frame.arms import Arm, Model, fused
    from experiments.frame.further import ALIGNED, DISAGREE
    from experiments.frame.measures import Contrast
    from experiments.frame.members import Member
    from experiments.frame.study import Study

    steps = [(("loss_setting", f"step={step:g}"),) for step in STEPS]
    dro = [Member(name, "LA-DRO", changes=step) for name in roles.strata for step in steps]
    compared = (DRO, WEIGHTS, DISAGREE, ALIGNED, ADJUSTED)
    return Study(
        title="Do training terms close the gap of the pre-training?",
        arms=[
            fused(LA, roles, "product"),
            Arm(DRO, (Model(tuple(dro), rule=EACH),)),
            fused(WEIGHTS, roles, "product", loss="LA-PW"),
            fused(ADJUSTED, roles, "adjusted"),
            *(fused(rule, roles, rule) for rule in (DISAGREE, ALIGNED)),
        ],
        contrasts=[
            *(Contrast(f"gap fall, {arm}", (LA,), (arm,), "own_gap") for arm in compared),
            *(Contrast(f"{arm} over LA", (arm,), (LA,)) for arm in compared),
            *(Contrast(f"{arm} over LA, D-few", (arm,), (LA,), "few") for arm in compared),
        ],
        caption=f"{DISAGREE}, {ALIGNED}: strata tuned in one training, each by LA, and by a common term; without one "
        "they learn as alone.",
        conclude=lambda shown: [
            f"{arm}: the own P gap of LA falls by {shown(f'gap fall, {arm}')} points, accuracy changes by "
            f"{shown(f'{arm} over LA')}, D-few by {shown(f'{arm} over LA, D-few')}."
            for arm in compared
        ],
    )


def claims() -> tuple[Claim, ...]:
    """What a term is to reach beside its control, LA alone."""
    from experiments.frame.claims import Claim
    from experiments.frame.further import ALIGNED, DISAGREE

    named = {
        DRO: "Group-DRO over P groups",
        WEIGHTS: "A stronger weight of P-few classes",
        DISAGREE: "A term that lets strata disagree on P-few classes",
        ALIGNED: "A term that aligns the features of P-few classes with the others",
    }
    lowers = "lowers the own P gap of its control, LA alone"
    keeps, closes = "loses no accuracy to its control, LA alone", "brings the gap under 2.5 points"
    return tuple(
        claim
        for arm, text in named.items()
        for claim in (
            Claim(f"{text} {lowers}", f"paired/gap fall, {arm}", above=0.0, objection=7),
            Claim(f"{text} {closes}", f"methods/{arm}/own_gap", closed=0.025, section="The cure"),
            Claim(f"{text} {keeps}", f"paired/{arm} over LA", above=-0.005, section="The cure"),
        )
    )


EXPERIMENT = Experiment(
    name="training_terms",
    reproduces="The cure: training terms",
    claim="a term closes the own P gap at no loss of accuracy; controls: LA alone, the adjusted fusion",
    scale="creatures-lt, mini zoo, LA with each term",
    minutes=10,
    study=study,
    claims=claims,
    source="Sagawa et al., ICLR 2020; Pang et al., ICML 2019; this project",
)
