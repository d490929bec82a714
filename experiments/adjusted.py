"""The gap-closing adjustment: equal recall of P groups at no loss of accuracy, its rivals, its null and its control."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from experiments import Experiment

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from causalft.report.html import Section
    from experiments.frame.claims import Claim
    from experiments.frame.lab import Lab
    from experiments.frame.scales import Roles
    from experiments.frame.study import Study

OURS, NULL, UNLABELLED = "adjusted", "adjusted, priors shuffled", "adjusted, strength without labels"
SEEDS, SEEDS_OURS = "seeds of one, product", "seeds of one, adjusted"


def study(roles: Roles) -> Study:
    """Every family at the strength that validation images choose; the frontier at fixed strengths."""
    from experiments.frame.adjusting import AT, CLASS_WEIGHTS, RIVALS, STRENGTHS
    from experiments.frame.arms import fused, seeds_of_one, singles
    from experiments.frame.measures import Contrast
    from experiments.frame.study import Study

    frontier = [AT.format(strength) for strength in STRENGTHS]
    return Study(
        title="The gap-closing adjustment",
        arms=[
            singles("single strata", roles),
            *(
                fused(rule, roles, rule)
                for rule in ("mixture", "product", *RIVALS, CLASS_WEIGHTS, OURS, UNLABELLED, NULL)
            ),
            *(fused(name, roles, name) for name in frontier),
            seeds_of_one(SEEDS, roles, "product"),
            seeds_of_one(SEEDS_OURS, roles, OURS),
        ],
        contrasts=[
            Contrast("gap fall", ("product",), (OURS,), "own_gap"),
            *(
                Contrast(f"adjusted over {other}{words}", (OURS,), (other,), measure)
                for other in ("product", "mixture")
                for words, measure in (("", "accuracy"), (", D-few", "few"))
            ),
            *(
                Contrast(f"adjusted over {rival}, {words}", (OURS,), (rival,), measure)
                for rival in RIVALS
                for words, measure in (("accuracy", "accuracy"), ("gap", "own_gap"), ("D-few", "few"))
            ),
            Contrast("null over product", (NULL,), ("product",)),
            Contrast("null over product, gap", (NULL,), ("product",), "own_gap"),
            Contrast("class weights over product", (CLASS_WEIGHTS,), ("product",)),
            Contrast("strength without labels, gap", (UNLABELLED,), (OURS,), "own_gap"),
            Contrast("adjusted over seeds adjusted", (OURS,), (SEEDS_OURS,)),
            Contrast("gap fall, seeds", (SEEDS,), (SEEDS_OURS,), "own_gap"),
            Contrast("cost of the rule, seeds", (SEEDS_OURS,), (SEEDS,)),
        ],
        measure=measure,
        draw=draw,
        sections=_sections,
        caption="Accuracy and D-few against the own P gap on test images: the frontier of strengths (line), the "
        "strength that validation images choose (diamond), and every other rule. Bars: 95 % intervals.",
        conclude=lambda shown: [
            f"The adjustment lowers the own P gap of the product by {shown('gap fall')} points; accuracy changes by "
            f"{shown('adjusted over product')} (mixture: {shown('adjusted over mixture')}), D-few by "
            f"{shown('adjusted over product, D-few')} (mixture: {shown('adjusted over mixture, D-few')}).",
            f"With priors shuffled among the classes the same rule changes accuracy by {shown('null over product')} "
            f"and the gap by {shown('null over product, gap')}.",
            f"Over seeds of one model the rule lowers the gap by {shown('gap fall, seeds')} and costs "
            f"{shown('cost of the rule, seeds')} points of accuracy; the adjusted strata are "
            f"{shown('adjusted over seeds adjusted')} points ahead of the adjusted seeds.",
        ],
    )


def measure(lab: Lab, tested: Any) -> dict[str, Any]:
    """What validation images chose, for each seed."""
    from experiments.frame.adjusting import Fused, chosen
    from experiments.frame.members import Member
    from experiments.frame.unlabelled import images_without_labels

    found = []
    for seed in range(lab.seeds):
        members = [lab.prediction(Member(name), seed) for name in lab.world.roles.strata]
        found.append(chosen(Fused(members, (), lab.world.splits(seed), seed))[1].to_json())
    images, which = images_without_labels(lab, 0)
    return {"adjustment": found, "without_labels": {"n": len(images), "images": which}}


def draw(metrics: Mapping[str, Any]) -> list[Axes]:
    """Accuracy (left) and D-few (right) against the own P gap."""
    from causalft.pipelines.pages.diagnosis import error_bars
    from causalft.report.style import PALETTE, SERIES, new_figure
    from experiments.frame.adjusting import AT, STRENGTHS

    methods = metrics["methods"]
    figure = new_figure(9.0, 4.4)
    panels = figure.subplots(1, 2, sharex=True)
    line = [AT.format(strength) for strength in STRENGTHS]
    alone = [
        n
        for n in methods
        if n not in line and methods[n]["own_gap"] and n not in ("single strata", SEEDS, SEEDS_OURS)
    ]
    for axes, measured, title in zip(panels, ("accuracy", "few"), ("accuracy (%)", "D-few accuracy (%)")):
        x = [100 * methods[name]["own_gap"]["estimate"] for name in line]
        y = [100 * methods[name][measured]["estimate"] for name in line]
        axes.plot(x, y, "-o", ms=3, color=PALETTE["black"], label="strengths 0 to 0.5")
        for index, name in enumerate(alone):
            (gap, across), (value, up) = (error_bars([methods[name][key]]) for key in ("own_gap", measured))
            ours = name == OURS
            axes.errorbar(
                gap,
                value,
                up if ours else None,
                across if ours else None,
                marker="D" if ours else "os^vP*X<>hp8d"[index % 13],
                ls="",
                color=PALETTE["black"] if ours else SERIES[index % len(SERIES)],
                label=name,
            )
        axes.axvline(0, color="#AAAAAA", lw=1)
        axes.set_xlabel("own P gap beyond difficulty (points)")
        axes.set_ylabel(title)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return list(panels)


def _sections(metrics: Mapping[str, Any]) -> list[Section]:
    from causalft.report.html import Section, Table

    rows = []
    for seed, found in enumerate(metrics["adjustment"]):
        low, high = found["ci95"]
        cost = found["guard"]["difference"]
        labels = "none" if found["by_labels"] is None else f"{found['by_labels']:.2f}"
        rows.append(
            [
                str(seed),
                f"{found['strength']:.2f} [{low:.2f}, {high:.2f}]",
                labels,
                f"{found['pool']['expertise']:.2f}",
                f"{found['pool']['train_share']:.2f}",
                f"{100 * cost['estimate']:.1f} [{100 * cost['ci95'][0]:.1f}, {100 * cost['ci95'][1]:.1f}]",
                found["guard"]["decision"],
            ]
        )
    columns = [
        "seed",
        "strength a",
        "a by labels alone",
        "w",
        "d",
        "accuracy by the strength (points)",
        "guard",
    ]
    caption = (
        "95 % intervals; accuracy on validation images, cross-fitted: at the strength less at strength 0."
    )
    asked = metrics["without_labels"]
    words = f"The arm “{UNLABELLED}” chooses it on {asked['n']:,} images {asked['images']}."
    return [Section("What validation images chose", [words], [Table(columns, rows, caption)])]


def claims() -> tuple[Claim, ...]:
    """The figures that the adjustment is to reach, its null and its control."""
    from experiments.frame.claims import Claim

    section = "The cure"
    return (
        Claim(
            "After the adjustment the own P gap is under 2.5 points",
            f"methods/{OURS}/own_gap",
            closed=0.025,
            section=section,
        ),
        Claim(
            "With a strength chosen without labels too",
            f"methods/{UNLABELLED}/own_gap",
            closed=0.025,
            section=section,
        ),
        Claim("The adjustment lowers the own P gap", "paired/gap fall", above=0.0, section=section),
        Claim(
            "It loses no accuracy to the product",
            "paired/adjusted over product",
            above=-0.005,
            section=section,
        ),
        Claim(
            "It loses no accuracy to the mixture",
            "paired/adjusted over mixture",
            above=-0.005,
            section=section,
        ),
        Claim(
            "It loses no D-few accuracy to the product",
            "paired/adjusted over product, D-few",
            above=-0.005,
            section=section,
        ),
        Claim(
            "It loses no D-few accuracy to the mixture",
            "paired/adjusted over mixture, D-few",
            above=-0.005,
            section=section,
        ),
        Claim(
            "With shuffled priors accuracy stays", "paired/null over product", within=0.003, section=section
        ),
        Claim(
            "With shuffled priors the gap stays",
            "paired/null over product, gap",
            within=0.01,
            section=section,
        ),
        Claim(
            "Strata that are adjusted beat as many seeds of one model that are",
            "paired/adjusted over seeds adjusted",
            above=0.0,
            objection=4,
        ),
        Claim(
            "Weights of the strata by class gain over the uniform P(c)",
            "paired/class weights over product",
            above=0.0,
            objection=5,
        ),
        Claim(
            "The rule closes the gap of seeds of one model too",
            f"methods/{SEEDS_OURS}/own_gap",
            closed=0.025,
            objection=9,
        ),
    )


EXPERIMENT = Experiment(
    name="adjusted",
    reproduces="The gap-closing adjustment",
    claim="equal recall of P groups at no loss of accuracy; controls: seeds of one model, priors shuffled",
    scale="creatures-lt, mini zoo, the members of the other tables",
    minutes=6,
    study=study,
    claims=claims,
    seeds=5,
    source="this project",
)
