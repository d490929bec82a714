"""The variant of ULFine that ltssl_parts chose, on images, labels and seeds that took no part in the choice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments import Experiment

if TYPE_CHECKING:
    from experiments.frame.claims import Claim
    from experiments.frame.scales import Roles
    from experiments.frame.study import Study

LAWS = ("consistent", "reversed")
CHOSEN = "dual-logit"
CONTROLS = {"ulfine": "ULFine as reconstructed", "lft-fixmatch": "FixMatch with adapters"}
FIRST_SEED = 100
"""No experiment has as many seeds, so no image that was drawn for the choice is drawn again."""


def study(roles: Roles) -> Study:
    """The protocol of ltssl_parts, from another first seed."""
    from experiments.frame.arms import singles
    from experiments.frame.ltssl import EPOCHS
    from experiments.frame.measures import Contrast
    from experiments.frame.members import Draw
    from experiments.frame.study import Study

    arms = [
        singles(
            f"{method}, {law}",
            roles,
            of="first",
            method=method,
            epochs=EPOCHS,
            draw=Draw(law=law, first_seed=FIRST_SEED),
        )
        for law in LAWS
        for method in (CHOSEN, *CONTROLS)
    ]
    return Study(
        title="ULFine without fitting, on images that did not choose it",
        arms=arms,
        # No own gap: the difficulty of the classes is measured on the usual test images, and these are others.
        measures=("accuracy", "medium", "few"),
        contrasts=[
            Contrast(
                f"{CHOSEN} over {control}, {law}{words}",
                (f"{CHOSEN}, {law}",),
                (f"{control}, {law}",),
                measure,
            )
            for law in LAWS
            for control in CONTROLS
            for words, measure in (("", "accuracy"), (", D-few", "few"))
        ],
        conclude=lambda shown: [
            f"Laws {law}: {CHOSEN} over ulfine {shown(f'{CHOSEN} over ulfine, {law}')}, on D-few "
            f"{shown(f'{CHOSEN} over ulfine, {law}, D-few')}; over FixMatch with adapters "
            f"{shown(f'{CHOSEN} over lft-fixmatch, {law}')} and {shown(f'{CHOSEN} over lft-fixmatch, {law}, D-few')} "
            "points."
            for law in LAWS
        ],
    )


def claims() -> tuple[Claim, ...]:
    """What the choice promised: the variant gains over what it was chosen from, and over FixMatch."""
    from experiments.frame.claims import Claim

    return tuple(
        Claim(
            f"ULFine without fitting (dual-logit) beats {named} on fresh images, laws {law}{words}",
            f"paired/{CHOSEN} over {control}, {law}{of}",
            above=0.0,
            section="ULFine",
        )
        for law in LAWS
        for control, named in CONTROLS.items()
        for words, of in (("", ""), (", on D-few", ", D-few"))
    )


EXPERIMENT = Experiment(
    name="ltssl_dual",
    reproduces="the choice of dual-logit",
    claim="ULFine without fitting gains on fresh images; controls: ULFine as reconstructed, FixMatch with adapters",
    scale="creatures-ltssl drawn anew, test images included; the first mini, two laws",
    minutes=12,
    study=study,
    claims=claims,
    source="reconstruction of Zhang et al., arXiv 2505.05062",
)
