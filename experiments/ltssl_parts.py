"""What each part of ULFine does: the reconstruction without its fitting, its fusion or its constraint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments import Experiment

if TYPE_CHECKING:
    from experiments.frame.claims import Claim
    from experiments.frame.scales import Roles
    from experiments.frame.study import Study

LAWS = ("consistent", "reversed")
WHOLE, CONTROL = "ulfine", "lft-fixmatch"
PARTS = {
    "fitting": ("ulfine without fitting", (("mu", 0.0),)),
    "constraint": ("ulfine without constraint", (("constraint", 0.0),)),
    "fusion (over the probe)": ("ulfine, the probe alone", (("fusion", 1.0),)),
    "fusion (over prototypes)": ("ulfine, prototypes alone", (("fusion", 0.0),)),
}
"""Part -> what is left without it, and the settings of that."""


def study(roles: Roles) -> Study:
    """One setting of the method is off in each arm; images, seeds and steps are the same."""
    from experiments.frame.arms import singles
    from experiments.frame.ltssl import EPOCHS
    from experiments.frame.measures import Contrast
    from experiments.frame.members import Draw
    from experiments.frame.study import Study

    chosen = {
        WHOLE: (WHOLE, ()),
        CONTROL: (CONTROL, ()),
        **{arm: (WHOLE, off) for arm, off in PARTS.values()},
    }
    arms = [
        singles(
            f"{arm}, {law}",
            roles,
            of="first",
            method=method,
            method_settings=off,
            epochs=EPOCHS,
            draw=Draw(law=law),
        )
        for law in LAWS
        for arm, (method, off) in chosen.items()
    ]
    return Study(
        title="Which part of ULFine does the work?",
        arms=arms,
        measures=("accuracy", "medium", "few", "own_gap"),
        contrasts=[
            Contrast(f"{part}, {law}{words}", (f"{WHOLE}, {law}",), (f"{arm}, {law}",), measure)
            for law in LAWS
            for part, (arm, _) in (PARTS | {"all parts": (CONTROL, ())}).items()
            for words, measure in (("", "accuracy"), (", D-few", "few"))
        ],
        conclude=lambda shown: [
            f"Laws {law}: " + "; ".join(f"{part} {shown(f'{part}, {law}')}" for part in PARTS) + "."
            for law in LAWS
        ],
    )


def claims() -> tuple[Claim, ...]:
    """Each part is to gain over its control, the method without it."""
    from experiments.frame.claims import Claim

    return tuple(
        Claim(
            f"ULFine (reconstructed): the {part} gains over the control without it, laws {law}",
            f"paired/{part}, {law}",
            above=0.0,
            section="ULFine",
        )
        for law in LAWS
        for part in PARTS
    )


EXPERIMENT = Experiment(
    name="ltssl_parts",
    reproduces="ULFine's parts",
    claim="fitting, constraint and fusion each gain; controls: the method without each, FixMatch with adapters",
    scale="creatures-ltssl, the first mini, two laws",
    minutes=20,
    study=study,
    claims=claims,
    source="reconstruction of Zhang et al., arXiv 2505.05062",
)
