"""P(C): the uniform stratum prior of the paper beside an estimated one, a placebo, and the mean of logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments import Experiment

if TYPE_CHECKING:
    from experiments.frame.claims import Claim
    from experiments.frame.scales import Roles
    from experiments.frame.study import Study

UNIFORM, ESTIMATED, PLACEBO = "mixture, P(c) = 1/M", "mixture, estimated P(c)", "mixture, placebo P(c)"
MEAN, BEST = "mean of logits", "best single stratum"


def study(roles: Roles) -> Study:
    """Fusions of the same members."""
    from experiments.frame.answers import estimated_weights
    from experiments.frame.arms import best_single, fused, placebo_prior
    from experiments.frame.measures import Contrast
    from experiments.frame.study import Study

    rivals = {"estimated": ESTIMATED, "placebo": PLACEBO, "mean of logits": MEAN, "best single": BEST}
    return Study(
        title="Does P(C) matter?",
        arms=[
            fused(UNIFORM, roles),
            fused(ESTIMATED, roles, stratum_prior="em"),
            placebo_prior(PLACEBO, roles),
            fused(MEAN, roles, "logit"),
            best_single(BEST, roles),
        ],
        contrasts=[Contrast(words, (arm,), (UNIFORM,)) for words, arm in rivals.items()],
        conclude=lambda shown: [
            f"{arm}: {shown(words)} points from P(c) = 1/M." for words, arm in rivals.items()
        ],
        measure=lambda lab, _: estimated_weights(lab),
    )


def claims() -> tuple[Claim, ...]:
    """What answers the objection that P(c) = 1/M is assumed."""
    from experiments.frame.claims import Claim

    gain, cost = "An estimated P(c) gains less than half a point", "A placebo P(c) costs less than one point"
    estimate = Claim(gain, "paired/estimated", below=0.005, objection=5)
    return estimate, Claim(cost, "paired/placebo", above=-0.01, objection=5)


EXPERIMENT = Experiment(
    name="stratum_prior",
    reproduces="Objection 5: P(C) = 1/M is assumed",
    claim="an estimated P(C) changes the mixture little; controls: placebo, mean of logits, best stratum",
    scale="creatures-lt, mini zoo, the strata with LA",
    minutes=4,
    study=study,
    claims=claims,
)
