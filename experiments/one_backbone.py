"""Strata from one backbone: do several tunings of one model act as strata of C, or only as an ensemble?"""

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

STRATA = "strata"


def study(roles: Roles) -> Study:
    """Families of three members; the yardstick are three tunings of one model with other seeds."""
    from experiments.frame.arms import fused, singles
    from experiments.frame.backbone import FAMILIES, FOREIGN, TUNINGS, one_and_fused
    from experiments.frame.inside import READOUTS, TOKENS
    from experiments.frame.measures import Contrast
    from experiments.frame.study import Study

    arms = [arm for family in (TUNINGS, *FAMILIES, *FOREIGN) for arm in one_and_fused(roles, family)]
    arms += [singles(f"{STRATA}, one", roles), fused(f"{STRATA}, fused", roles)]
    yard_one, yard = f"{TUNINGS}, one", f"{TUNINGS}, fused"
    contrasts = [Contrast(f"gain of {TUNINGS}", (yard,), (yard_one,))]
    for family in (*FAMILIES, *FOREIGN, STRATA):
        one, whole = f"{family}, one", f"{family}, fused"
        contrasts += [
            Contrast(f"{family} over {TUNINGS}", (whole,), (yard,)),
            Contrast(f"{family} over {TUNINGS}, D-few", (whole,), (yard,), "few"),
            Contrast(f"gap fall, {family} less {TUNINGS}", (one, yard), (whole, yard_one), "own_gap"),
        ]
    return Study(
        title="Strata from one backbone",
        arms=arms,
        contrasts=contrasts,
        measure=measure,
        sections=_sections,
        conclude=lambda shown: [
            f"Fusing three tunings of one model with other seeds gains {shown(f'gain of {TUNINGS}')} points. Accuracy "
            f"beyond that, at the same cost ({READOUTS} and {TOKENS}: that of about one model): "
            + ", ".join(
                f"{family} {shown(f'{family} over {TUNINGS}')}" for family in (*FAMILIES, *FOREIGN, STRATA)
            )
            + ".",
            "The own P gap falls beyond that of the tunings by: "
            + ", ".join(
                f"{family} {shown(f'gap fall, {family} less {TUNINGS}')}"
                for family in (*FAMILIES, *FOREIGN, STRATA)
            )
            + ".",
        ],
    )


def measure(lab: Lab, tested: Any) -> dict[str, Any]:
    """Correlation of errors and overlap of maps, of the families and of the strata that they are to stand for."""
    from experiments.frame.backbone import (
        FAMILIES,
        FOREIGN,
        TUNINGS,
        error_correlations,
        map_overlaps,
        members_of_family,
    )
    from experiments.frame.members import Member

    roles = lab.world.roles
    members = {family: members_of_family(roles, family) for family in (TUNINGS, *FAMILIES)}
    members[STRATA] = [Member(name) for name in roles.strata]
    return {
        "error_correlation": error_correlations(tested, (*members, *FOREIGN)),
        "overlap": map_overlaps(lab, members, 40 if lab.quick else 240),
    }


def _sections(metrics: Mapping[str, Any]) -> list[Section]:
    from causalft.report.html import Section, Table
    from causalft.runs.intervals import interval_text

    rows = []
    for family, value in metrics["error_correlation"].items():
        low, high = value["ci95"]
        seen = metrics["overlap"].get(family)  # not of families without tunings of their own
        rows.append(
            [
                family,
                f"{value['estimate']:.2f} [{low:.2f}, {high:.2f}]",
                "-" if seen is None else interval_text(seen["estimate"], seen["ci95"]),
            ]
        )
    columns = ["family", "correlation of errors", "overlap of maps (%)"]
    caption = "Of two members, on average; 95 % intervals over classes and over images of the first seed."
    return [Section("How alike the members are", [], [Table(columns, rows, caption)])]


def claims() -> tuple[Claim, ...]:
    """What a family would have to show to stand for several foundation models."""
    from experiments.frame.backbone import TUNINGS, VIEWS
    from experiments.frame.claims import Claim
    from experiments.frame.further import APART
    from experiments.frame.inside import HEADS, READOUTS, TOKENS

    more = "{} of one model gain more than as many tunings with other seeds"
    gap = "{} of one model lower its own P gap more than such tunings"
    named = {
        "depths": "Tunings of different depths",
        "tuners": "Different tuners",
        "re-weighted": "Tunings on re-weighted data",
        "crops": "Tunings on different crops",
        VIEWS: "Views guided by its own attention",
        READOUTS: "Read-outs of early and late layers",
        TOKENS: "Thirds of the patches",
        HEADS: "Groups of attention heads",
        APART: "Decorrelated tunings",
    }
    section = "One backbone"
    return tuple(
        claim
        for family in named
        for claim in (
            Claim(more.format(named[family]), f"paired/{family} over {TUNINGS}", above=0.0, section=section),
            Claim(
                gap.format(named[family]),
                f"paired/gap fall, {family} less {TUNINGS}",
                above=0.0,
                objection=9,
            ),
        )
    )


EXPERIMENT = Experiment(
    name="one_backbone",
    reproduces="Strata from one backbone",
    claim="members of one model that differ in kind act as strata; control: as many tunings with other seeds",
    scale="creatures-lt, mini zoo, nine families of three members of the first stratum",
    minutes=10,
    study=study,
    claims=claims,
    source="this project",
)
