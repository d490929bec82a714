"""Long-tailed semi-supervised learning: the ladder of methods under three laws of the unlabelled images."""

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

OURS, RUNGS = "ulfine", ("lp-fixmatch", "lft-fixmatch", "fft-fixmatch")


def study(roles: Roles) -> Study:
    """Every method on the first stratum, with the same labelled images; supervised ones once for all laws."""
    from causalft.methods.semi.choices import METHODS
    from experiments.frame.arms import singles
    from experiments.frame.ltssl import EPOCHS, LAWS
    from experiments.frame.measures import Contrast
    from experiments.frame.members import Draw
    from experiments.frame.study import Study

    arms = []
    for record in METHODS.values():
        if record.name == "fixmatch":  # lft-fixmatch has its tuner
            continue
        if not record.unlabelled:
            draw = Draw(law="none")
            arms.append(singles(record.name, roles, of="first", method=record.name, draw=draw))
            continue
        for law in LAWS:
            name, draw = f"{record.name}, {law}", Draw(law=law)
            arms.append(singles(name, roles, of="first", method=record.name, epochs=EPOCHS, draw=draw))
    contrasts = [
        Contrast(f"{OURS} over {rung}, {law}{words}", (f"{OURS}, {law}",), (f"{rung}, {law}",), measure)
        for law in LAWS
        for rung in RUNGS
        for words, measure in (("", "accuracy"), (", D-few", "few"))
    ]
    contrasts += [
        *(Contrast(f"{OURS} over lft, {law}", (f"{OURS}, {law}",), ("lft",)) for law in LAWS),
        Contrast("lft over fft", ("lft",), ("fft",)),
        *(Contrast(f"{r} over {r[:-9]}, {law}", (f"{r}, {law}",), (r[:-9],)) for r in RUNGS for law in LAWS),
        *(
            Contrast(f"lft-fixmatch over lft, {law}, D-few", (f"lft-fixmatch, {law}",), ("lft",), "few")
            for law in LAWS
        ),
    ]
    return Study(
        title="Long-tailed semi-supervised learning on one foundation model",
        arms=arms,
        measures=("accuracy", "medium", "few", "own_gap"),
        contrasts=contrasts,
        measure=_pseudo_labels,
        sections=_section,
        conclude=lambda shown: [
            f"{OURS} over FixMatch with adapters: {shown(f'{OURS} over lft-fixmatch, consistent')} points where the "
            f"laws agree, {shown(f'{OURS} over lft-fixmatch, reversed')} where they are reversed; D-few "
            f"{shown(f'{OURS} over lft-fixmatch, consistent, D-few')} and "
            f"{shown(f'{OURS} over lft-fixmatch, reversed, D-few')}.",
            f"Over adapters on the labelled images alone, without any unlabelled one: "
            f"{shown(f'{OURS} over lft, consistent')} and {shown(f'{OURS} over lft, reversed')} points.",
            f"Unlabelled images change adapters by {shown('lft-fixmatch over lft, consistent')} points where the laws "
            f"agree and {shown('lft-fixmatch over lft, reversed')} where they are reversed.",
        ],
    )


def _pseudo_labels(lab: Lab, tested: Any) -> dict[str, Any]:
    """Number and precision of the pseudo-labels in the last epoch, by method and law: means over seeds."""
    import numpy as np

    from experiments.frame.arms import members_of

    found = {}
    for arm in study(lab.world.roles).arms:
        (member,) = members_of([arm])
        rows = [lab.prediction(member, seed).pseudo_labels for seed in range(lab.seeds)]
        if any(each is None for each in rows):
            continue
        last = [{row["group"]: row for row in each.rows()[-4:]} for each in rows if each is not None]
        shown = {}
        for group in ("all", "few"):
            precise = [row[group]["precision"] for row in last if row[group]["precision"] is not None]
            shown[group] = {
                "n": float(np.mean([row[group]["n"] for row in last])),
                "precision": float(np.mean(precise)) if precise else None,
            }
        found[arm.name] = shown
    return {"pseudo_labels": found}


def _section(metrics: Mapping[str, Any]) -> list[Section]:
    from causalft.report.html import Section, Table

    def right(value: float | None) -> str:
        return "none" if value is None else f"{100 * value:.1f} %"

    rows = [
        [
            name,
            f"{of['all']['n']:,.0f}",
            right(of["all"]["precision"]),
            f"{of['few']['n']:,.0f}",
            right(of["few"]["precision"]),
        ]
        for name, of in metrics["pseudo_labels"].items()
    ]
    columns = ["arm", "pseudo-labels", "right", "of D-few classes", "right"]
    words = "In the last epoch, means over seeds. Only this report knows the hidden labels."
    return [Section("Pseudo-labels", [words], [Table(columns, rows, words)])]


def claims() -> tuple[Claim, ...]:
    """What ULFine claims, of this project's reconstruction; its four observations."""
    from experiments.frame.claims import Claim

    found = []
    for law in ("consistent", "reversed"):
        for rung, name in zip(RUNGS, ("a linear probe", "adapters", "full fine-tuning"), strict=True):
            text = f"ULFine (reconstructed) beats FixMatch with {name}, laws {law}"
            at = f"paired/{OURS} over {rung}, {law}"
            found += [
                Claim(text, at, above=0.0, section="ULFine"),
                Claim(f"{text}, on D-few", f"{at}, D-few", above=0.0, section="ULFine"),
            ]
    alone = "ULFine (reconstructed) beats adapters on the labelled images alone, laws consistent"
    lighter = "Lightweight fine-tuning beats full fine-tuning on the labelled images"
    tail = "Unlabelled images raise D-few accuracy with adapters, laws consistent"
    return (
        *found,
        Claim(alone, f"paired/{OURS} over lft, consistent", above=0.0, section="ULFine"),
        Claim(lighter, "paired/lft over fft", above=0.0, section="ULFine"),
        Claim(tail, "paired/lft-fixmatch over lft, consistent, D-few", above=0.0, section="ULFine"),
    )


EXPERIMENT = Experiment(
    name="ltssl",
    reproduces="ULFine and its ladder",
    claim="every semi-supervised method under three laws; controls: labelled images alone, FixMatch with each tuner",
    scale="creatures-ltssl (50 labelled, 60 unlabelled images of the largest class, imbalance 20), the first mini",
    minutes=25,
    study=study,
    claims=claims,
    source="ULFine, 2025, arXiv 2505.05062; the methods' own papers",
)
