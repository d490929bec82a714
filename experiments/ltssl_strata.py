"""Semi-supervised strata: one stratum, three by themselves, and three that share their pseudo-labels."""

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

METHOD, LAWS = "lft-fixmatch", ("consistent", "reversed")


def study(roles: Roles) -> Study:
    """FixMatch with adapters: the best single stratum, the mixture of three, and the mixture with one belief."""
    from experiments.frame.arms import best_single, fused
    from experiments.frame.ltssl import EPOCHS, SHARED
    from experiments.frame.measures import Contrast
    from experiments.frame.members import Draw
    from experiments.frame.study import Study

    arms, contrasts = [], []
    for law in LAWS:
        how: dict[str, Any] = {"method": METHOD, "epochs": EPOCHS, "draw": Draw(law=law)}
        arms += [
            best_single(f"best single, {law}", roles, **how),
            fused(f"strata, {law}", roles, **how),
            fused(f"strata with shared labels, {law}", roles, SHARED, **how),
            fused(f"seeds of one with shared labels, {law}", roles, SHARED, of="seeds", **how),
        ]
        together = (f"strata with shared labels, {law}",)
        for words, measure in (("", "accuracy"), (", D-few", "few")):
            contrasts += [
                Contrast(
                    f"shared over best single, {law}{words}", together, (f"best single, {law}",), measure
                ),
                Contrast(f"shared over apart, {law}{words}", together, (f"strata, {law}",), measure),
                Contrast(
                    f"strata over seeds, {law}{words}",
                    together,
                    (f"seeds of one with shared labels, {law}",),
                    measure,
                ),
            ]
    return Study(
        title="Pseudo-labels of several foundation models",
        arms=arms,
        measures=("accuracy", "medium", "few", "own_gap"),
        contrasts=contrasts,
        measure=_precision,
        sections=_section,
        conclude=lambda shown: [
            f"Strata with shared pseudo-labels over the best single stratum: "
            f"{shown('shared over best single, consistent')} points, D-few "
            f"{shown('shared over best single, consistent, D-few')}; laws reversed "
            f"{shown('shared over best single, reversed')} and {shown('shared over best single, reversed, D-few')}.",
            f"Over the same strata with pseudo-labels of their own: {shown('shared over apart, consistent')} points; "
            f"over seeds of one model that share theirs: {shown('strata over seeds, consistent')}.",
        ],
    )


def _precision(lab: Lab, tested: Any) -> dict[str, Any]:
    from experiments.frame.ltssl import EPOCHS, rare_precision
    from experiments.frame.members import Draw, Member

    found = {}
    for law in LAWS:
        members = [
            Member(name, method=METHOD, epochs=EPOCHS, draw=Draw(law=law)) for name in lab.world.roles.strata
        ]
        found[law] = rare_precision(lab, members)
    return {"precision": found}


def _section(metrics: Mapping[str, Any]) -> list[Section]:
    from causalft.report.html import Section, Table
    from causalft.runs.intervals import interval_text

    rows = [
        [
            law,
            f"{of['n']:.0f}",
            *(
                interval_text(of[who]["estimate"], of[who]["ci95"])
                for who in ("best single", "shared", "difference")
            ),
        ]
        for law, of in metrics["precision"].items()
    ]
    columns = ["law", "pseudo-labels", "best single (%)", "shared (%)", "difference (points)"]
    words = "Pseudo-labels of D-few classes that are right, at equal count: the surest ones of both."
    return [Section("Precision of rare pseudo-labels", [words], [Table(columns, rows, words)])]


def claims() -> tuple[Claim, ...]:
    """What shared pseudo-labels should bring."""
    from experiments.frame.claims import Claim

    precise = "Shared pseudo-labels of rare classes are right more often than those of the best stratum, at equal count"
    better = "Strata with shared pseudo-labels are more accurate on D-few than the best single stratum"
    apart = "They are more accurate than the same strata with pseudo-labels of their own"
    seeds = "They are more accurate than seeds of one model that share theirs"
    return (
        Claim(precise, "precision/consistent/difference", above=0.0, section="ULFine"),
        Claim(better, "paired/shared over best single, consistent, D-few", above=0.0, section="ULFine"),
        Claim(apart, "paired/shared over apart, consistent", above=0.0, section="ULFine"),
        Claim(seeds, "paired/strata over seeds, consistent", above=0.0, objection=4),
    )


EXPERIMENT = Experiment(
    name="ltssl_strata",
    reproduces="Semi-supervised strata",
    claim="strata that share pseudo-labels beat the best single one; controls: labels of their own, seeds of one model",
    scale="creatures-ltssl, three minis, FixMatch with adapters, two laws",
    minutes=15,
    study=study,
    claims=claims,
    source="this project",
)
