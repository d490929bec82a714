"""Figures 4 and 10: which part each stratum and the fused model look at, in maps and in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from experiments import Experiment

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from experiments.frame.claims import Claim
    from experiments.frame.lab import Lab
    from experiments.frame.scales import Roles
    from experiments.frame.study import Study
    from experiments.frame.tested import Tested

METHODS = ("occlusion", "rollout")


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
    )


def measure(lab: Lab, _: Tested | None) -> dict[str, Any]:
    """Shares, spread and faithfulness of two kinds of map."""
    from causalft.runs.intervals import interval_text
    from experiments.frame.looking import PARTS, map_metrics

    maps = {method: map_metrics(lab, 120 if lab.quick else 360, method) for method in METHODS}
    if None in maps.values():
        why = "the parts of these images are not known"
        return {"left_out": {"shares of the maps": why}, "conclusion": [f"Left out: {why}."]}

    def shown(value: Mapping[str, Any]) -> str:
        return interval_text(value["estimate"], value["ci95"])

    rows, conclusion = [], []
    for method, found in maps.items():
        assert found is not None
        for name, shares in found["shares"].items():
            true = shown(found["faithfulness"][name]["centre"])
            rows.append([method, name, *(shown(shares[part]) for part in PARTS), true])
        favourite, spread = found["favourite"], found["spread"]
        conclusion.append(
            f"By {method}, the favourite part of a stratum has {shown(favourite['less other strata'])} points more of "
            f"its map than of the other strata's; the fused map covers {shown(spread['fused'])} % of the image, those "
            f"of the strata {shown(spread['strata'])} %."
        )
    columns = ["map", "model", *PARTS, "insertion less deletion, above a centre map"]
    caption = "Shares of the map in percent, area between the curves in points; 95 % intervals over images and seeds."
    return {
        "maps": maps,
        "table": {"columns": columns, "rows": rows, "caption": caption},
        "conclusion": conclusion,
    }


def draw(metrics: Mapping[str, Any]) -> list[Axes]:
    """Share of the map on each part."""
    from experiments.frame.looking import draw_parts
    from experiments.frame.study import draw_arms

    if "maps" not in metrics:
        return draw_arms(metrics)
    return draw_parts(metrics["maps"][METHODS[0]]["shares"], f"share of the map by {METHODS[0]} (%)")


def claims() -> tuple[Claim, ...]:
    """What Figures 4 and 10 claim, and the answer to objection 11."""
    from experiments.frame.claims import Claim

    at = f"maps/{METHODS[0]}"
    most = "Each stratum has the largest share of its map on the part that it was pre-trained on most"
    more = "It has a larger share on that part than the other strata have"
    spread = "The fused model looks at more of the image than its strata do"
    true = "The fused map is truer to the model than a map of the centre: insertion less deletion area"
    return (
        Claim(most, f"{at}/favourite/less the worst other part", above=0.0, section="Fig. 4"),
        Claim(spread, f"{at}/spread/difference", above=0.0, section="Fig. 10"),
        Claim(more, f"{at}/favourite/less other strata", above=0.0, objection=11),
        Claim(true, f"{at}/faithfulness/fused/centre", above=0.0, objection=11),
    )


EXPERIMENT = Experiment(
    name="fig4",
    reproduces="Fig. 4 and Fig. 10",
    claim="each stratum looks at its favourite part, the fusion at more; controls: the other strata, a centre map",
    scale="creatures-lt, mini zoo, strata with LA, 360 test images with the parts known, two kinds of map",
    minutes=7,
    study=study,
    claims=claims,
    also=("fig10",),
)
