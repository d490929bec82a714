"""How large must a student be? Share of the fusion's gain against operations, and what the missing share is due to."""

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

TEACHER, BEST = "teacher", "best single stratum"
SMALL, ONE, TWO, THREE = "2/3 of the blocks", "as many blocks", "twice the blocks", "three times the blocks"
STEPS, IMAGES = "as many blocks, twice the steps", "as many blocks, twice the images"
CONTROL, LABELS = "three times the blocks, one-prior control", "three times the blocks, no teacher"

RULES = {
    SMALL: "student, 2/3 of the blocks",
    ONE: "student, unlabelled, longer",
    TWO: "student, 2 x the blocks",
    THREE: "student, 3 x the blocks",
    STEPS: "student, twice the steps",
    IMAGES: "student, twice the images",
}


def study(roles: Roles) -> Study:
    """Students of four sizes with one teacher, the same images and as many steps; then more steps, and more images."""
    from experiments.frame.arms import Arm, Model, best_single, fused
    from experiments.frame.measures import Contrast
    from experiments.frame.members import Member
    from experiments.frame.study import Study

    alone = Model((Member(roles.strata[0]),), rule="labels alone, 3 x the blocks")
    return Study(
        title="How large must a student be?",
        arms=[
            fused(TEACHER, roles, "adjusted"),
            *(fused(name, roles, rule) for name, rule in RULES.items()),
            fused(CONTROL, roles, RULES[THREE], of="seeds"),
            Arm(LABELS, (alone,)),
            best_single(BEST, roles),
        ],
        contrasts=[
            Contrast("2/3 of the blocks", (SMALL,), (ONE,)),
            Contrast("twice the blocks", (TWO,), (ONE,)),
            Contrast("three times the blocks", (THREE,), (ONE,)),
            Contrast("twice the steps", (STEPS,), (ONE,)),
            Contrast("twice the images", (IMAGES,), (ONE,)),
            Contrast("largest student over teacher", (THREE,), (TEACHER,)),
            Contrast("largest student over that of the control", (THREE,), (CONTROL,)),
            Contrast("largest student over no teacher", (THREE,), (LABELS,)),
        ],
        measure=_measure,
        draw=_draw,
        sections=_sections,
        caption="Students with as many steps; bars: 95 % intervals.",
        conclude=lambda shown: [
            f"Beside a student with as many blocks as a stratum, one of 2/3 of them is {shown('2/3 of the blocks')} "
            f"points, one of twice {shown('twice the blocks')}, one of three times {shown('three times the blocks')}.",
            f"At that size twice the steps add {shown('twice the steps')} points, twice the images in as many steps "
            f"{shown('twice the images')}.",
            f"The largest student is {shown('largest student over teacher')} points from its teacher, and "
            f"{shown('largest student over that of the control')} from the student of one prior at the same size.",
        ],
    )


def _measure(lab: Lab, tested: Any) -> dict[str, Any]:
    """Shares of the gain, and operations over those of one stratum."""
    from experiments.frame.students import STUDENTS, gain_shares, student_costs

    correct = {name: arm.correct[0] for name, arm in tested.arms.items()}
    shown = {name: correct[name] for name in (*RULES, CONTROL, LABELS)}
    shares = gain_shares(tested.labels, tested.n_classes, correct[TEACHER], correct[BEST], shown)
    costs = student_costs(lab, {name: STUDENTS[RULES[name]] for name in (SMALL, ONE, TWO, THREE)})
    of_teacher = float(len(lab.world.roles.strata))
    costs[TEACHER] = {"over one stratum": {"estimate": of_teacher, "ci95": [of_teacher, of_teacher]}}
    return {"gain_share": shares, "cost": costs}


def _draw(metrics: Mapping[str, Any]) -> list[Axes]:
    """Share of the gain against operations."""
    import numpy as np

    from causalft.report.style import SERIES, new_axes

    axes = new_axes(4.6, 3.0)
    costs, shares = metrics["cost"], metrics["gain_share"]
    for name in (SMALL, ONE, TWO, THREE):
        estimate, (low, high) = shares[name]["estimate"], shares[name]["ci95"] or (None, None)
        if estimate is not None and low is not None:
            x, error = costs[name]["over one stratum"]["estimate"], [[estimate - low], [high - estimate]]
            axes.errorbar([x], [100 * estimate], yerr=100 * np.array(error), marker="o", color=SERIES[0])
    teacher = costs[TEACHER]["over one stratum"]["estimate"]
    axes.plot([teacher], [100], marker="s", ls="", color=SERIES[1], label="teacher")
    axes.plot([1], [0], marker="^", ls="", color=SERIES[2], label="best single stratum")
    axes.plot([], [], marker="o", color=SERIES[0], label="students")
    axes.set(xlabel="operations over one stratum", ylabel="share of the gain (%)")
    axes.legend()
    return [axes]


def _sections(metrics: Mapping[str, Any]) -> list[Section]:
    from causalft.report.html import Section, Table
    from causalft.runs.intervals import interval_text

    rows = []
    for name, share in metrics["gain_share"].items():
        cost = metrics["cost"].get(name)
        operations = "" if cost is None else f"{cost['over one stratum']['estimate']:.2f}"
        text = interval_text(share["estimate"], share["ci95"], share.get("reason", ""))
        rows.append([name, operations, text])
    columns = ["student", "operations over one stratum", "share of the gain (%)"]
    return [Section("Gain against cost", [], [Table(columns, rows, "95 % intervals.")])]


def claims() -> tuple[Claim, ...]:
    """What the share of the gain is limited by."""
    from experiments.frame.claims import Claim

    most = "A student of three times the blocks keeps 95 % of the gain of the strata"
    blocks = "Three times the blocks keep more of the gain than one stratum's"
    steps = "Twice the steps keep more of the gain at the size of one stratum"
    images = "Twice the unlabelled images keep more of it in as many steps"
    ensemble = "The student of three times the blocks beats that of as many seeds of one model"
    return (
        Claim(most, f"gain_share/{THREE}", above=0.95, objection=8),
        Claim(blocks, "paired/three times the blocks", above=0.0, objection=8),
        Claim(steps, "paired/twice the steps", above=0.0, objection=8),
        Claim(images, "paired/twice the images", above=0.0, objection=8),
        Claim(ensemble, "paired/largest student over that of the control", above=0.0, objection=4),
    )


EXPERIMENT = Experiment(
    name="student_size",
    reproduces="Objection 8: gain against size",
    claim="larger students keep more of the gain; controls: the one-prior teacher and no teacher at the largest size",
    scale="creatures-lt, mini zoo, adjusted teacher, students of 2/3 to 3 times the blocks, 10,000 unlabelled images",
    minutes=45,
    study=study,
    claims=claims,
    source="Wu et al., ACL 2024",
)
