"""Parameter imbalance in real models: public class accuracies beside the true counts of their pre-training sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from experiments import Experiment

if TYPE_CHECKING:
    from causalft.runs.folder import Run
    from experiments.frame.claims import Claim

__all__ = ["EXPERIMENT"]


def compute(create: Callable[..., Run], quick: bool, seeds: int, data: str) -> dict[str, Any]:
    """Read every family of models in the folder, and its slope, placebos and checks."""
    import numpy as np

    from causalft.analysis.class_evidence.checks import Check
    from causalft.analysis.class_evidence.families import HEADLINE, every_family, summarise
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
    measured = {"slope": best["slope"], **best["placebo"]}
    return {
        "data": data,
        "families": families,
        "placebo": best["placebo"],
        "shares": {words: _as_share(value) for words, value in measured.items()},
        **summarise(families),
    }


def _as_share(value: Mapping[str, Any]) -> dict[str, Any]:
    """Points as fractions, as claims are judged."""
    bounds = value["ci95"] and [bound / 100 for bound in value["ci95"]]
    return {"estimate": value["estimate"] / 100, "ci95": bounds}


def page(run: Run, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The slopes of all families, the headline family in full, checks and likeness of the others."""
    from causalft.analysis.class_evidence.families import HEADLINE, detects, every_family
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
        if detects(found)
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


def claims() -> tuple[Claim, ...]:
    """Parameter imbalance in models whose pre-training counts are public."""
    from experiments.frame.claims import Claim

    real = "In real models, a class that is rarer in a model's own pre-training loses accuracy in that model"
    placebo = "With counts {}, there is no slope (within 10 points per factor 100)"
    classes, models = placebo.format("of other classes"), placebo.format("of another model")
    return (
        Claim(real, "shares/slope", above=0.0, section="Sec. 3"),
        Claim(classes, "shares/shuffled_classes", within=0.1, section="Sec. 3"),
        Claim(models, "shares/swapped_models", within=0.1, section="Sec. 3"),
    )


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
    claims=claims,
    seeds=1,
    needs=("data",),
    data="FOLDER",
    source="this project; tables of Wen et al. and Udandarao et al., NeurIPS 2024",
)
