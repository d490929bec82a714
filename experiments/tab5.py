"""Tables 5 to 7: the main comparison, with every control that reviewers asked for under the same recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from experiments import Experiment

if TYPE_CHECKING:
    from experiments.frame.claims import Claim
    from experiments.frame.scales import Roles
    from experiments.frame.study import Study

OURS, SEEDS, CE, GLA = (
    "strata, mixture",
    "seeds of one, mixture",
    "CE strata, averaged",
    "strata, mixture of GLA-FT",
)
LIFT, OF_LIFT = "LIFT+ recipe", "strata of the LIFT+ recipe, mixture"
BEST, LARGER, LONGER = "best single on validation", "one larger model", "one model, trained longer"

RIVALS: dict[str, tuple[str, dict[str, Any]]] = {
    "LA": ("LA", {"section": "Tab. 5"}),
    "GLA-FT": ("GLA-FT", {"section": "Tab. 5"}),
    "TDE": ("TDE", {"section": "Tab. 5"}),
    BEST: ("the best single stratum by validation", {"objection": 4}),
    SEEDS: ("as many seeds of one model", {"objection": 4}),
    CE: ("CE-tuned strata averaged", {"objection": 4}),
    LONGER: ("one model trained as long as all strata together", {"objection": 8}),
    LARGER: ("one larger model of the same cost", {"objection": 8}),
}


def study(roles: Roles) -> Study:
    """Single models, ensembles that are no adjustment, and fusions of the strata."""
    from experiments.frame import arms
    from experiments.frame.measures import Contrast
    from experiments.frame.study import Study

    return Study(
        title="Tables 5 to 7: the main comparison",
        arms=[
            arms.singles("zero-shot", roles, view="zero-shot"),
            arms.singles("CE", roles, loss="CE"),
            arms.singles("LA", roles),
            arms.singles("GLA-FT", roles, view="GLA-FT"),
            arms.singles("TDE", roles, loss="CE", head="tde", tde_alpha="validation"),
            arms.singles(LIFT, roles, recipe="lift+"),
            arms.best_single(BEST, roles),
            arms.oracle_single("best single on test (oracle)", roles),
            arms.longer(LONGER, roles),
            arms.larger(LARGER, roles),
            arms.seeds_of_one(SEEDS, roles),
            arms.ce_strata(CE, roles),
            arms.fused(OURS, roles),
            arms.fused("strata, mean of logits", roles, "logit"),
            arms.fused("strata, product", roles, "product"),
            arms.fused("strata, estimated P(c)", roles, stratum_prior="em"),
            arms.placebo_prior("strata, placebo P(c)", roles),
            arms.shuffled("strata, shuffled", roles),
            arms.fused(GLA, roles, view="GLA-FT"),
            arms.fused(OF_LIFT, roles, recipe="lift+"),
        ],
        contrasts=[
            *(Contrast(f"over {other}", (OURS,), (other,)) for other in RIVALS),
            Contrast("over LIFT+, under its recipe", (OF_LIFT,), (LIFT,)),
            Contrast("over LA, D-few", (OURS,), ("LA",), "few"),
            Contrast("over mean of logits", (OURS,), ("strata, mean of logits",)),
            Contrast("over shuffled strata", (OURS,), ("strata, shuffled",)),
            Contrast("estimated P(c)", ("strata, estimated P(c)",), (OURS,)),
            Contrast("GLA-FT in the mixture", (GLA,), (OURS,)),
            Contrast("gap fall beyond seeds", (SEEDS,), (OURS,), "own_gap"),
        ],
        conclude=lambda shown: [
            f"The mixture over the strata gains {shown('over LA')} points over a single stratum with LA, "
            f"{shown('over LA, D-few')} on D-few, and {shown(f'over {BEST}')} over the best by validation.",
            f"Against controls: {shown(f'over {SEEDS}')} points over as many seeds of one model, {shown(f'over {CE}')} "
            f"over CE strata averaged, {shown(f'over {LONGER}')} over longer and {shown(f'over {LARGER}')} over a "
            f"larger model, {shown('over mean of logits')} over the mean of logits.",
            f"GLA-FT in the mixture adds {shown('GLA-FT in the mixture')} points, an estimated P(c) "
            f"{shown('estimated P(c)')}.",
        ],
    )


def claims() -> tuple[Claim, ...]:
    """What Tables 5 to 7 claim, and what their controls answer."""
    from experiments.frame.claims import Claim

    gap = "It lowers the own P gap more than seeds of one model"
    logits = "It is not worse than the mean of logits by half a point"
    lift = "The mixture is more accurate than LIFT+, whose recipe it takes"
    margin = "The gain over the best single stratum exceeds one point, over seeds and images"
    return (
        *(
            Claim(f"The mixture is more accurate than {words}", f"paired/over {arm}", above=0.0, **of)
            for arm, (words, of) in RIVALS.items()
        ),
        Claim(lift, "paired/over LIFT+, under its recipe", above=0.0, section="Tab. 5"),
        Claim("The mixture gains on D-few", "paired/over LA, D-few", above=0.0, section="Tab. 5"),
        Claim(gap, "paired/gap fall beyond seeds", above=0.0, objection=4),
        Claim(logits, "paired/over mean of logits", above=-0.005, objection=4),
        Claim(margin, f"paired/over {BEST}", above=0.01, objection=10),
    )


EXPERIMENT = Experiment(
    name="tab5",
    also=("tab6", "tab7"),
    reproduces="Tab. 5 to 7",
    claim="the mixture over strata beats single models; controls: seeds of one, CE strata, larger, longer, placebos",
    scale="creatures-lt, mini zoo, 20 arms on shared members",
    minutes=9,
    study=study,
    claims=claims,
)
