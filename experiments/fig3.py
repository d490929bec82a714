"""Figure 3: class accuracy along classes sorted by training count, estimated and known prior."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from experiments import Experiment

if TYPE_CHECKING:
    from causalft.report.html import Section
    from experiments.frame.claims import Claim
    from experiments.frame.lab import Lab
    from experiments.frame.scales import Roles
    from experiments.frame.study import Study

FUSED, SEEDS, ONE = "LA, strata fused", "LA, seeds of one fused", "LA, one seed"


def study(roles: Roles) -> Study:
    """CE, LA and GLA-FT of single strata, and fusions of strata and of seeds of one model."""
    from experiments.frame.arms import fused, seeds_of_one, singles
    from experiments.frame.curves import curve_metrics, draw_curves
    from experiments.frame.measures import Contrast
    from experiments.frame.study import Study

    arms = [
        singles("CE", roles, loss="CE"),
        singles("LA", roles),
        singles("GLA-FT", roles, view="GLA-FT"),
        fused(FUSED, roles),
        singles(ONE, roles, of="seeds"),
        seeds_of_one(SEEDS, roles),
    ]
    contrasts = [
        Contrast("fall, strata", ("LA",), (FUSED,), "prior_slope"),
        Contrast("fall, seeds", (ONE,), (SEEDS,), "prior_slope"),
        Contrast("fall, strata less seeds", ("LA", SEEDS), (FUSED, ONE), "prior_slope"),
        Contrast("fall, GLA-FT", ("LA",), ("GLA-FT",), "prior_slope"),
    ]

    def measure(lab: Lab, tested: Any) -> dict[str, Any]:
        return {**curve_metrics(tested, contrasts), **_priors(lab)}

    return Study(
        title="Figure 3: class accuracy along the classes",
        arms=arms,
        measures=("accuracy", "few", "P_gap", "prior_slope"),
        contrasts=contrasts,
        conclude=lambda shown: [
            f"Fusing the strata lowers the slope along the estimated prior by {shown('fall, strata')} points per "
            f"factor 100, fusing seeds of one model by {shown('fall, seeds')}.",
        ],
        measure=measure,
        draw=draw_curves,
        caption="Each point is the mean of a twentieth of the classes, and of the strata along their own priors.",
        sections=_sections,
    )


def _priors(lab: Lab) -> dict[str, Any]:
    """Agreement of the estimated priors with the known ones."""
    from experiments.frame.agreement import agreement_of, mean_agreement
    from experiments.frame.members import Member

    if not lab.world.roles.knows_priors:
        return {}
    labels, draws = lab.world.splits(0).validation.labels, 20 if lab.quick else 100
    strata = lab.world.roles.strata
    found = {name: agreement_of(lab.prediction(Member(name), 0), labels, draws) for name in strata}
    return {"agreement": found, "mean_agreement": mean_agreement(found)}


def _sections(metrics: Mapping[str, Any]) -> list[Section]:
    from causalft.report.html import Section, Table
    from experiments.frame.agreement import agreement_table
    from experiments.frame.curves import curve_table

    words = "With class difficulty in it; the comparisons above take it out."
    sections = [Section("Slopes and rank correlations", [words], [Table(**curve_table(metrics))])]
    if "agreement" in metrics:
        tables = [Table(**agreement_table(metrics["agreement"]))]
        sections.append(Section("Estimated and known priors", [], tables))
    return sections


def claims() -> tuple[Claim, ...]:
    """What Figure 3 claims, and the answers to objections 6 and 7."""
    from experiments.frame.claims import Claim

    falls = "Fusing strata lowers the slope of class accuracy along the {} prior"
    ranks = "Fusing strata lowers the rank correlation of class accuracy with the {} prior"
    more = "Fusing strata lowers the slope more than fusing as many seeds of one model"
    ranked = "rank_changes/estimated prior/fall, strata"
    agree = "The estimated prior agrees with the known one: rank correlation above 0.8"
    return (
        Claim("LA leaves a slope along the prior", "methods/LA/prior_slope", above=0.0, section="Fig. 3"),
        Claim(falls.format("estimated"), "paired/fall, strata", above=0.0, section="Fig. 3"),
        Claim(falls.format("known"), "known/fall, strata", above=0.0, objection=7),
        Claim(more, "paired/fall, strata less seeds", above=0.0, objection=7),
        Claim(ranks.format("estimated"), ranked, above=0.0, objection=7, unit=""),
        Claim(agree, "mean_agreement", above=0.8, objection=6, unit=""),
    )


EXPERIMENT = Experiment(
    name="fig3",
    reproduces="Fig. 3",
    claim="fusing strata lowers the slope of class accuracy along P_P; controls: seeds of one model, known priors",
    scale="creatures-lt, mini zoo, strata with CE and LA, seeds of one with LA",
    minutes=6,
    study=study,
    claims=claims,
)
