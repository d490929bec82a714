"""Parameter imbalance in real models: public class accuracies beside the true counts of their pre-training sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from experiments import Experiment

if TYPE_CHECKING:
    from causalft.runs.folder import Run

__all__ = ["EXPERIMENT", "every_family", "summarise"]

HEADLINE = "vit_b_16"
"""The family of ImageNet whose placebo stands at the top of the document."""

Document = Mapping[str, Any]


def compute(create: Callable[..., Run], quick: bool, seeds: int, data: str) -> dict[str, Any]:
    """Read every family of models in the folder, and its slope, placebos and checks."""
    import numpy as np

    from causalft.analysis.class_evidence.checks import Check
    from causalft.analysis.class_evidence.words import headline
    from causalft.pipelines.workflows.class_evidence import describe, evidence_of
    from causalft.pipelines.workflows.public_tables import families_of
    from causalft.runs.progress import steps

    found = families_of(data)
    draws = (200 if quick else 1000) * seeds
    create(
        draws=draws,
        families={
            f"{family.set} {family.key}": {name: p.sha256 for name, p in family.tables.priors.items()}
            for family in found
        },
    )
    families: dict[str, Any] = {}
    for family in steps(found, "families", len(found)):
        zeros = np.stack([prior.counts > 0 for prior in family.tables.priors.values()]).all(axis=0)
        unknown = np.stack([np.isnan(prior.counts) for prior in family.tables.priors.values()]).any(axis=0)
        above = {"counted_above_zero": ("only classes that every set of counts names", zeros | unknown)}
        evidence = evidence_of(family.tables, n_boot=draws, n_permutations=draws, subsets=above)
        document = {
            "set": family.set,
            "architecture": family.architecture,
            "name": f"{family.set} {family.name}",
            "alike_left_out": list(family.alike),
            **describe(family.tables, evidence),
        }
        document["headline"] = headline(document)
        if family.with_alike is not None:
            whole = evidence_of(family.with_alike, n_boot=draws, n_permutations=0).comparison
            assert whole is not None  # a family has two models or more
            words = f"with {' and '.join(family.alike)} too, whose counts are alike"
            check = Check(
                "with_alike", words, whole.slope, document["n_classes"], len(family.with_alike.models)
            )
            document["checks"]["with_alike"] = check.to_json()
        place = families if family.set == "imagenet" else families.setdefault(family.set, {})
        place[family.key] = document
    best = families.get(HEADLINE) or every_family(families)[0]
    return {"data": data, "families": families, "placebo": best["placebo"], **summarise(families)}


def every_family(families: Mapping[str, Any]) -> list[Document]:
    """The families: those of ImageNet, then those of other sets."""
    return [
        document
        for key, value in families.items()
        for document in ([value] if "slope" in value else value.values())
    ]


def summarise(families: Mapping[str, Any]) -> dict[str, Any]:
    """Table and conclusion."""
    from causalft.analysis.class_evidence.words import in_points

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
    from causalft.analysis.class_evidence.words import excludes_zero, in_points

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
    alike = [found for found in untold if found["likeness"]["too_alike"] and _large(found)]
    if alike:
        yield (
            "Where priors hardly differ nothing can be told, and no slope is claimed: "
            + "; ".join(f"{found['name']} {in_points(found['slope'])}" for found in alike)
            + "."
        )
    if few := [found["name"] for found in untold if found not in alike]:
        yield f"Too few classes to see any slope: {'; '.join(few)}."


def _large(found: Document) -> bool:
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
    from causalft.analysis.class_evidence.words import excludes_zero, in_points

    rho = {name: s["rank_correlation"]["estimate"] for name, s in best["strata"].items()}
    weakest = min(rho, key=lambda name: abs(rho[name]))
    yield (
        f"The plain rank correlation of accuracy with own counts hides it: {rho[weakest]:.2f} in the {weakest} "
        "model of "
        f"{best['architecture']}."
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


def page(run: Run, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The slopes of all families, the headline family in full, checks and likeness of the others."""
    from causalft.analysis.class_evidence.figures import slopes_forest
    from causalft.pipelines.pages.class_evidence import (
        checks_table,
        evidence_sections,
        likeness_table,
        models_table,
    )
    from causalft.report.drawing import draw
    from causalft.report.html import Figure, Section, Table
    from causalft.report.style import figure_style

    every = every_family(metrics["families"])
    rows = [
        (
            f"{found['name']}\n({', '.join(found['strata'])})",
            found["slope"],
            "black" if found["slope"]["claimed"] else "grey",
        )
        for found in every
        if _large(found)
    ]
    with figure_style():
        axes = slopes_forest(rows)
        axes.figure.set_size_inches(8.4, 1.1 + 0.42 * len(rows))  # type: ignore[union-attr]
        drawing = draw(axes.figure, run.file("figures/families.png"))  # type: ignore[arg-type]
    caption = (
        "Slope of each family with its 95 % interval over classes; grey where the priors are too alike, or the "
        "classes too "
        "few, for a claim."
    )
    sections = [
        Section(
            "All families",
            list(metrics["conclusion"]),
            [Table(**metrics["table"])],
            [Figure(drawing, caption, caption)],
        )
    ]
    best = metrics["families"].get(HEADLINE)
    for found in every:
        if found is best:
            inner = evidence_sections(run, found)
            sections += [
                Section(
                    f"{found['name']}: {s.title[0].lower()}{s.title[1:]}", s.paragraphs, s.tables, s.figures
                )
                for s in inner
            ]
            continue
        tables = [models_table(found)]
        if found["slope"]["claimed"]:
            tables.append(checks_table(found))
        sections.append(Section(found["name"], [found["headline"]], [*tables, likeness_table(found)]))
    notes = list(dict.fromkeys(note for found in every for note in found["notes"]))
    sections.append(Section("What was read", notes))
    return {
        "title": "Real pre-training counts and the accuracy of real models",
        "verdict": "{name}: {headline}".format(**(best or every[0])),
        "facts": {
            "sets": ", ".join(dict.fromkeys(found["set"] for found in every)),
            "families": str(len(every)),
            "tables": "zero-shot class accuracies of Udandarao et al. (NeurIPS 2024), counts of theirs and of "
            "Wen et al. "
            "(NeurIPS 2024)",
        },
        "sections": sections,
    }


EXPERIMENT = Experiment(
    name="real_priors",
    reproduces="Objection: the prior of real models is only ever estimated",
    claim="a class that is rarer in a model's pre-training loses accuracy in that model; controls: two "
    "placebos, like priors",
    scale="public class accuracies and pre-training counts: every architecture with two or more known "
    "pre-training sets",
    minutes=1,
    compute=compute,
    page=page,
    seeds=1,
    needs=("data",),
    data="FOLDER",
    source="this project; tables of Wen et al. and Udandarao et al., NeurIPS 2024",
)
