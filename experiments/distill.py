"""One model in place of the strata: students of the fusion, of the one-prior control and of no teacher."""

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

TEACHER, MORE, FEWER = "teacher", "student, unlabelled images", "student, labelled images only"
FEWER_LONG = "student, labelled images only, as long as 8 epochs"
MORE_LONG, LONGEST = "student, unlabelled images, 8 epochs", "student, unlabelled images, 16 epochs"
CONTROL, LABELS = "student of the one-prior control", "no teacher, as many steps"
BEST, LONGER, SOUP = "best single stratum", "single stratum, longer training", "soup of tunings"


def study(roles: Roles) -> Study:
    """Students with the architecture and the steps of one stratum; what differs is the teacher and the images."""
    from experiments.frame.arms import Arm, Model, best_single, fused, longer
    from experiments.frame.measures import Contrast
    from experiments.frame.members import Member
    from experiments.frame.students import SOUP as MEAN
    from experiments.frame.study import Study

    again = tuple(Member(f"{roles.strata[0]}#{number}") for number in (1, 2))
    return Study(
        title="Is one student as good as the fused strata?",
        arms=[
            fused(TEACHER, roles, "adjusted"),
            fused(MORE, roles, "student, unlabelled"),
            fused(MORE_LONG, roles, "student, unlabelled, longer"),
            fused(LONGEST, roles, "student, twice the steps"),
            fused(FEWER, roles, "student"),
            fused(FEWER_LONG, roles, "student, longer"),
            fused(CONTROL, roles, "student, unlabelled", of="seeds"),
            Arm(LABELS, (Model((Member(roles.strata[0]),), rule="labels alone"),)),
            best_single(BEST, roles),
            longer(LONGER, roles),
            Arm(SOUP, (Model((Member(roles.strata[0]), *again), rule=MEAN),)),
        ],
        contrasts=[
            Contrast("student over best single", (MORE,), (BEST,)),
            Contrast("student over longer training", (MORE,), (LONGER,)),
            Contrast("student over no teacher", (MORE,), (LABELS,)),
            Contrast("student over soup", (MORE,), (SOUP,)),
            Contrast("student over that of the control", (MORE,), (CONTROL,)),
            Contrast("student over that of the control, D-few", (MORE,), (CONTROL,), "few"),
            Contrast("unlabelled images over labelled ones only", (MORE,), (FEWER,)),
            Contrast("8 epochs over 3", (MORE_LONG,), (MORE,)),
            Contrast("16 epochs over 8", (LONGEST,), (MORE_LONG,)),
            Contrast("longer, labelled images only", (FEWER_LONG,), (FEWER,)),
            Contrast("student over teacher", (LONGEST,), (TEACHER,)),
            Contrast("student over teacher, gap", (LONGEST,), (TEACHER,), "own_gap"),
        ],
        measure=_measure,
        sections=_section,
        conclude=lambda shown: [
            f"With unlabelled images a student of 16 epochs is {shown('student over teacher')} points from its teacher "
            f"and {shown('16 epochs over 8')} from one of 8.",
            f"One of 3 epochs is {shown('student over best single')} points from the best single stratum and "
            f"{shown('student over no teacher')} from the same training without a teacher; 8 epochs add "
            f"{shown('8 epochs over 3')}.",
            f"It is {shown('student over that of the control')} points from the student of as many seeds of one model, "
            f"and {shown('unlabelled images over labelled ones only')} from one with labelled images only, to which "
            f"as many steps as 8 epochs take add {shown('longer, labelled images only')}.",
        ],
    )


def _measure(lab: Lab, tested: Any) -> dict[str, Any]:
    """Shares of the gain, and the cost of one student."""
    from experiments.frame.students import gain_shares, student_cost

    correct = {name: arm.correct[0] for name, arm in tested.arms.items()}
    shares = gain_shares(
        tested.labels,
        tested.n_classes,
        correct[TEACHER],
        correct[BEST],
        {
            name: correct[name]
            for name in (LONGEST, MORE_LONG, MORE, FEWER_LONG, FEWER, CONTROL, LABELS, SOUP)
        },
    )
    return {"gain_share": shares, "cost": student_cost(lab)}


def _section(metrics: Mapping[str, Any]) -> list[Section]:
    from causalft.report.html import Section, Table
    from causalft.runs.intervals import interval_text

    rows = [
        [name, interval_text(value["estimate"], value["ci95"], value.get("reason", ""))]
        for name, value in metrics["gain_share"].items()
    ]
    cost = metrics["cost"]["student over one stratum"]["estimate"]
    words = f"A student takes {cost:.3f} times the operations of one tuned stratum for an image."
    return [
        Section(
            "Share of the teacher's gain", [words], [Table(["arm", "share (%)"], rows, "95 % intervals.")]
        )
    ]


def claims() -> tuple[Claim, ...]:
    """What would make one model enough."""
    from experiments.frame.claims import Claim

    most = "A student with 10,000 unlabelled images keeps 95 % of the gain of the strata"
    some = "A student with the labelled images alone keeps 60 % of it"
    cost = "It costs at most 1.05 times one stratum"
    gap = "Its own gap is under 3 points"
    labels = "It beats the same model trained as long without a teacher"
    ensemble = "It beats the student of as many seeds of one model"
    return (
        Claim(most, f"gain_share/{LONGEST}", above=0.95, objection=8),
        Claim(some, f"gain_share/{FEWER_LONG}", above=0.60, objection=8),
        Claim(cost, "cost/student over one stratum", below=1.05, objection=8, unit=""),
        Claim(gap, f"methods/{LONGEST}/own_gap", closed=0.03, objection=8),
        Claim(labels, "paired/student over no teacher", above=0.0, objection=8),
        Claim(ensemble, "paired/student over that of the control", above=0.0, objection=4),
    )


EXPERIMENT = Experiment(
    name="distill",
    reproduces="Objection 8: one model's cost",
    claim="one student keeps the gain of the fused strata; controls: no teacher, a teacher of one prior, a soup",
    scale="creatures-lt, mini zoo, adjusted teacher, students of 3, 8 and 16 epochs with 10,000 unlabelled images",
    minutes=25,
    study=study,
    claims=claims,
    source="Hinton et al., 2015; Wortsman et al., ICML 2022",
)
