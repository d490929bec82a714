"""Figures 4 and 10: which part each stratum and the fused model look at, in maps and in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from causalft.models.maps import MAPS
from experiments import Experiment
from experiments.frame.claims import Claim, value_at
from experiments.frame.looking import MAP

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from causalft.report.html import Section
    from experiments.frame.lab import Lab
    from experiments.frame.scales import Roles
    from experiments.frame.study import Study
    from experiments.frame.tested import Tested


def study(roles: Roles) -> Study:
    """Maps of the strata, each tuned with LA, and of their mixture."""
    from experiments.frame.arms import fused
    from experiments.frame.study import Study

    return Study(
        title="Figures 4 and 10: what the strata look at",
        arms=[fused("LA, strata fused", roles)],
        measures=("accuracy",),
        measure=measure,
        draw=draw,
        sections=sections,
    )


def measure(lab: Lab, _: Tested | None) -> dict[str, Any]:
    """Own parts, spread and faithfulness by kind of map, and the choice among them on validation images."""
    from experiments.frame.maps import deletion_on_validation, map_metrics

    methods = list(MAPS)
    maps = map_metrics(lab, 120 if lab.quick else 240, methods)
    if maps is None:
        why = "the parts of these images are not known"
        return {"left_out": {"shares of the maps": why}, "conclusion": [f"Left out: {why}."]}
    choice = deletion_on_validation(lab, 60 if lab.quick else 180, methods)
    rows = [
        [
            method,
            *(_shown(value_at(found, at)) for at in COLUMNS.values()),
            _shown(choice["deletion"][method]),
        ]
        for method, found in maps.items()
    ]
    caption = (
        "Own part: share of a map on the part that its stratum was pre-trained on most, in the stratum where the "
        "difference is lowest. Percent and points; 95 % intervals over images and seeds."
    )
    table = {"columns": ["map", *COLUMNS, "deletion area, validation"], "rows": rows, "caption": caption}
    return {"maps": maps, "choice": choice, "table": table, "conclusion": _concluded(maps, choice)}


COLUMNS = {
    "own part less other parts": "own/less other parts/least",
    "less other strata": "own/less other strata/least",
    "less both": "own/contrast/least",
    "spread, fused less strata": "spread/difference",
    "insertion less deletion, above a centre map": "faithfulness/fused/centre",
}


def _shown(value: Mapping[str, Any]) -> str:
    from causalft.runs.intervals import interval_text

    return interval_text(value["estimate"], value["ci95"])


def _concluded(maps: Mapping[str, Any], choice: Mapping[str, Any]) -> list[str]:
    def where(at: str) -> str:
        found = [method for method, of in maps.items() if value_at(of, at)["ci95"][0] > 0]
        return ", ".join(found) or "none"

    more = [f"{name} {_shown(of)}" for name, of in choice["more than the best"].items()]
    best = choice["best"]
    return [
        f"Maps by which every stratum looks most at its own part: {where(COLUMNS['own part less other parts'])}; per "
        f"area: {where('own_density/less other parts/least')}; more than the other strata look at that part: "
        f"{where(COLUMNS['less other strata'])}.",
        f"Maps by which the fusion looks at more of the image than its strata: {where('spread/difference')}.",
        f"On validation images {best} has the lowest deletion area, {_shown(choice['deletion'][best])} %; more have "
        f"{', '.join(more)} points.",
    ]


def sections(metrics: Mapping[str, Any]) -> list[Section]:
    """Shares of each model's map on the parts."""
    from causalft.report.html import Section, Table
    from experiments.frame.looking import PARTS

    rows = [
        [method, name, *(_shown(shares[part]) for part in PARTS), *(_shown(dense[part]) for part in PARTS)]
        for method, found in metrics.get("maps", {}).items()
        for (name, shares), dense in zip(found["shares"].items(), found["density"].values(), strict=True)
    ]
    columns = ["map", "model", *PARTS, *(f"{part}, by area" for part in PARTS)]
    caption = "Share of the map in percent; by area: as a percentage of the part's share of the image."
    return [Section("Shares of the maps", [], [Table(columns, rows, caption)])] if rows else []


def draw(metrics: Mapping[str, Any]) -> list[Axes]:
    """Share of the map on each part."""
    from experiments.frame.looking import draw_parts
    from experiments.frame.study import draw_arms

    if "maps" not in metrics:
        return draw_arms(metrics)
    return draw_parts(metrics["maps"][MAP]["shares"], f"share of the map by\n{MAP} (%)")


def claims() -> tuple[Claim, ...]:
    """What Figures 4 and 10 claim, and the answer to objection 11."""
    at, own = f"maps/{MAP}", f"maps/{MAP}/own"
    most = "Each stratum has the largest share of its map on the part that it was pre-trained on most"
    dense = "The same per unit of area"
    more = "Each stratum has a larger share on that part than the other strata have"
    contrast = "Against the other strata, each stratum's map favours that part over every other part"
    spread = "The fused model looks at more of the image than its strata do"
    true = "The fused map is truer to the model than a map of the centre: insertion less deletion area"
    return (
        Claim(most, f"{own}/less other parts/least", above=0.0, section="Fig. 4"),
        Claim(
            f"{dense}: {most[0].lower()}{most[1:]}",
            f"{at}/own_density/less other parts/least",
            above=0.0,
            section="Fig. 4",
        ),
        Claim(spread, f"{at}/spread/difference", above=0.0, section="Fig. 10"),
        Claim(more, f"{own}/less other strata/least", above=0.0, objection=11),
        Claim(contrast, f"{own}/contrast/least", above=0.0, objection=11),
        Claim(true, f"{at}/faithfulness/fused/centre", above=0.0, objection=11),
    )


EXPERIMENT = Experiment(
    name="fig4",
    reproduces="Fig. 4 and Fig. 10",
    claim="each stratum looks at its favourite part, the fusion at more; controls: the other strata, a centre map",
    scale="creatures-lt, mini zoo, strata with LA, 240 test images with the parts known, every kind of map",
    minutes=7,
    study=study,
    claims=claims,
    also=("fig10",),
)
