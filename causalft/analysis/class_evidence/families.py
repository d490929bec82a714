"""Many families of models at once: their table, and one paragraph computed from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from causalft.analysis.class_evidence.words import excludes_zero, in_points

__all__ = ["HEADLINE", "detects", "every_family", "summarise"]

HEADLINE = "vit_b_16"
"""The family of ImageNet that the paragraph dwells on."""

Document = Mapping[str, Any]


def every_family(families: Mapping[str, Any]) -> list[Document]:
    """The families: those of ImageNet, then those of other sets."""
    return [
        document
        for key, value in families.items()
        for document in ([value] if "slope" in value else value.values())
    ]


def summarise(families: Mapping[str, Any]) -> dict[str, Any]:
    """Table and conclusion."""
    columns = [
        "family",
        "classes",
        "slope",
        "own minus off",
        "placebo: classes",
        "placebo: models",
        "80 % power",
    ]
    rows = []
    for found in every_family(families):
        slope, detectable = in_points(found["slope"]), found["likeness"]["detectable_slope"]
        rows.append(
            [
                found["name"],
                f"{found['n_classes']:,}",
                slope if found["slope"]["claimed"] else f"({slope})",
                in_points(found["own_minus_off"], sign=True),
                in_points(found["placebo"]["shuffled_classes"]),
                in_points(found["placebo"]["swapped_models"]),
                "" if detectable is None else f"{detectable:.1f}",
            ]
        )
    caption = (
        "Slope: points of accuracy per factor 100 of the count, class and model effects taken out; in "
        "parentheses where "
        "none is claimed. Own minus off: P-many minus P-few of a model by its own counts, less that of the "
        "others by the "
        "same counts. Placebos: mean, and range of 95 % of the permutations. Last column: slope that is found "
        "with 80 % power."
    )
    return {
        "table": {"columns": columns, "rows": rows, "caption": caption},
        "conclusion": [" ".join(_sentences(families))],
    }


def _sentences(families: Mapping[str, Any]) -> Iterator[str]:
    """The paragraph."""
    every = every_family(families)
    claimed = [found for found in every if found["slope"]["claimed"]]
    seen = [found for found in claimed if excludes_zero(found["slope"]) and found["slope"]["estimate"] > 0]
    if seen:
        yield (
            f"In {len(seen)} of the {len(claimed)} families whose priors can be told apart, a class that is a "
            "hundred times "
            "rarer in the pre-training of a model loses accuracy in that model, whatever its difficulty: "
            + "; ".join(f"{found['name']} {in_points(found['slope'])} points" for found in seen)
            + "."
        )
    else:
        yield "No family shows that a class loses accuracy where it is rare in the pre-training of a model."
    if unseen := [found for found in claimed if found not in seen]:
        yield (
            "It is not seen in "
            + "; ".join(
                f"{found['name']} {in_points(found['slope'])}, where "
                f"{found['likeness']['detectable_slope']:.0f} points would "
                "be found with 80 % power"
                for found in unseen
            )
            + "."
        )
    if claimed:
        off = [
            f for f in claimed if not all(p["covers_zero"] for p in f["placebo"].values() if p is not None)
        ]
        names = "; ".join(found["name"] for found in off)
        yield (
            f"A placebo does not lie around 0 in {names}."
            if off
            else "Both placebos lie around 0 in all of these."
        )
    best = families.get(HEADLINE)
    if best is not None and best["slope"]["claimed"]:
        yield from _headline_family(best)
        yield from _smaller(best, [found for found in claimed if found["set"] != "imagenet"])
    untold = [found for found in every if not found["slope"]["claimed"]]
    alike = [found for found in untold if found["likeness"]["too_alike"]]
    if alike:
        yield (
            "Where priors hardly differ nothing can be told, and no slope is claimed: "
            + "; ".join(f"{f['name']} {in_points(f['slope'])}" if detects(f) else f["name"] for f in alike)
            + "."
        )
    if few := [found["name"] for found in untold if found not in alike]:
        yield f"Too few classes to see any slope: {'; '.join(few)}."


def detects(found: Document) -> bool:
    """Whether a slope that is possible at all would be found."""
    detectable = found["likeness"]["detectable_slope"]
    return detectable is not None and detectable <= 100


def _smaller(best: Document, others: list[Document]) -> Iterator[str]:
    """Families of other sets whose slope differs from that of the headline family."""
    for found in others:
        difference = best["slope"]["estimate"] - found["slope"]["estimate"]
        error = sum(((f["slope"]["ci95"][1] - f["slope"]["ci95"][0]) / 2) ** 2 for f in (best, found)) ** 0.5
        if abs(difference) > error:
            yield (
                f"The slope of {found['name']} is {abs(difference):.0f} [{abs(difference) - error:.0f}, "
                f"{abs(difference) + error:.0f}] points {'smaller' if difference > 0 else 'larger'} than that of "
                f"{best['name']}."
            )


def _headline_family(best: Document) -> Iterator[str]:
    rho = {name: s["rank_correlation"]["estimate"] for name, s in best["strata"].items()}
    weakest = min(rho, key=lambda name: abs(rho[name]))
    yield (
        f"The plain rank correlation of accuracy with own counts hides it: {rho[weakest]:.2f} in the {weakest} "
        "model of "
        f"{best['name']}."
    )
    checks = {name: check for name, check in best["checks"].items() if name != "bend"}
    low = min(checks.values(), key=lambda check: check["estimate"])
    high = max(checks.values(), key=lambda check: check["estimate"])
    holds = all(excludes_zero(check) and check["estimate"] > 0 for check in checks.values())
    yield (
        f"In this family {'every' if holds else 'not every'} check leaves it above 0, between {low['estimate']:.1f} "
        f"({low['words']}) and {high['estimate']:.1f} ({high['words']})"
        + (
            f"; it is no ceiling ({in_points(best['variants']['logit']['points'])} from the binomial model)."
            if best["variants"]["logit"]["points"]
            else "."
        )
    )
    bend = best["checks"]["bend"]
    if excludes_zero(bend):
        yield f"It is {'weaker' if bend['estimate'] < 0 else 'stronger'} among classes that are frequent everywhere."
