"""What semi-supervised learning costs: accuracy against training time, with and without a foundation model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from experiments import Experiment

if TYPE_CHECKING:
    from experiments.frame.claims import Claim
    from experiments.frame.lab import Lab
    from experiments.frame.scales import Roles
    from experiments.frame.study import Study

METHODS, LAW, SCRATCH = ("lp-fixmatch", "lft-fixmatch", "ulfine"), "consistent", "from scratch"


def study(roles: Roles) -> Study:
    """Methods on the first stratum, beside FixMatch with WRN-28-2 from scratch for ten times the training time."""
    from experiments.frame.arms import singles
    from experiments.frame.ltssl import EPOCHS
    from experiments.frame.members import Draw
    from experiments.frame.study import Study

    return Study(
        title="Accuracy against training time",
        arms=[
            singles(name, roles, of="first", method=name, epochs=EPOCHS, draw=Draw(law=LAW))
            for name in METHODS
        ],
        measures=("accuracy", "medium", "few"),
        measure=measure,
        draw=_draw,
        caption="Training time is that of the processor; WRN-28-2 by FixMatch from scratch on the same images.",
    )


def measure(lab: Lab, tested: Any) -> dict[str, Any]:
    """Training time of each method, and the accuracy from scratch at ten times that of the slowest."""
    from dataclasses import replace

    import numpy as np

    from causalft.runs.intervals import interval_text
    from experiments.frame.arms import members_of
    from experiments.frame.measures import Answered, Contrast, compare_arms
    from experiments.frame.scratch_semi import TIMES, from_scratch_semi, seconds_of_member

    members = members_of(study(lab.world.roles).arms)
    seconds = {member.method: seconds_of_member(lab, member, 0) for member in members}
    budget = TIMES * max(seconds.values())
    scratch = [from_scratch_semi(lab, seed, LAW, budget) for seed in range(lab.seeds)]
    right = np.stack([each["predicted"] == tested.labels for each in scratch])[None]
    found = replace(tested, arms={**tested.arms, SCRATCH: Answered(right, [[]])})
    contrasts = [Contrast(f"{name} over from scratch", (name,), (SCRATCH,)) for name in METHODS]
    methods, paired = compare_arms(
        found.labels,
        found.counts,
        found.estimated,
        found.baseline,
        found.arms,
        ("accuracy", "few"),
        contrasts,
    )
    seconds[SCRATCH] = float(np.mean([each["seconds"] for each in scratch]))
    shown = {name: {m: value.to_json_or_null() for m, value in of.items()} for name, of in methods.items()}
    rows = [
        [
            name,
            f"{seconds[name]:.1f}",
            f"{seconds[SCRATCH] / seconds[name]:.1f}",
            *(interval_text(of[m]["estimate"], of[m]["ci95"]) for m in ("accuracy", "few")),
        ]
        for name, of in shown.items()
        if of["accuracy"] is not None and of["few"] is not None
    ]
    gains = {c.plus[0]: paired[c.words].to_json_or_null() for c in contrasts}
    times = {
        name: {"estimate": seconds[SCRATCH] / seconds[name], "ci95": [seconds[SCRATCH] / seconds[name]] * 2}
        for name in METHODS
    }
    columns = ["method", "training (s)", "from scratch takes (x)", "accuracy (%)", "D-few (%)"]
    caption = (
        "Processor seconds of one training of each on this machine; from scratch the mean over the seeds."
    )
    return {
        "methods": shown,
        "over_scratch": gains,
        "training_seconds": seconds,
        "times": times,
        "epochs_from_scratch": [each["epochs"] for each in scratch],
        "table": {"columns": columns, "rows": rows, "caption": caption},
        "conclusion": [
            f"From scratch, {seconds[SCRATCH]:.0f} s of training give "
            f"{100 * float(right.mean()):.1f} %; "
            + ", ".join(f"{name} needs {seconds[name]:.0f} s" for name in METHODS)
            + ".",
            *(
                f"{name} is {interval_text(value['estimate'], value['ci95'])} points more accurate."
                for name, value in gains.items()
                if value is not None
            ),
        ],
    }


def _draw(metrics: Any) -> Any:
    from causalft.report.style import SERIES, new_axes

    axes = new_axes(5.6, 3.6)
    for (name, of), colour in zip(metrics["methods"].items(), SERIES, strict=False):
        value = of["accuracy"]
        low, high = (abs(100 * (end - value["estimate"])) for end in value["ci95"])
        axes.errorbar(
            metrics["training_seconds"][name],
            100 * value["estimate"],
            yerr=[[low], [high]],
            marker="o",
            ls="",
            color=colour,
            label=name,
        )
    axes.set_xscale("log")
    axes.set_xlabel("training time (processor seconds)")
    axes.set_ylabel("accuracy (%)")
    axes.legend()
    axes.grid(axis="y")
    return [axes]


def claims() -> tuple[Claim, ...]:
    """ULFine's claim on cost, and the same of its rungs."""
    from experiments.frame.claims import Claim

    found = []
    for name in METHODS:
        more = f"{name}: FixMatch from scratch is less accurate after ten times the training time"
        found.append(Claim(more, f"over_scratch/{name}", above=0.0, section="ULFine"))
        ten = f"{name}: FixMatch from scratch trained at least nine times as long"
        found.append(Claim(ten, f"times/{name}", above=9.0, section="ULFine", unit=""))
    return tuple(found)


EXPERIMENT = Experiment(
    name="ltssl_cost",
    reproduces="ULFine's cost",
    claim="a tuned foundation model needs a tenth of the training time; control: FixMatch from scratch (WRN-28-2)",
    scale="creatures-ltssl, the first mini; WRN-28-2 at 32 px, LA on the labelled images",
    minutes=12,
    study=study,
    claims=claims,
    source="Sohn et al., NeurIPS 2020; ULFine, 2025",
)
