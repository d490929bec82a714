"""Which loss leaves the pre-training prior in the logits? GLA's estimate beside the known prior, for two losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from experiments import Experiment

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from experiments.frame.claims import Claim
    from experiments.frame.lab import Lab
    from experiments.frame.scales import Roles
    from experiments.frame.study import Study
    from experiments.frame.tested import Tested

CONTRASTIVE = "infonce"


def study(roles: Roles) -> Study:
    """Zero-shot logits of every shipped model; nothing is tuned."""
    from experiments.frame.study import Study

    return Study(title="Does the loss leave the prior in the logits?", measure=measure, draw=draw)


def measure(lab: Lab, _: Tested | None) -> dict[str, Any]:
    """Agreement of estimated and known prior, and what taking the known prior out does to zero-shot accuracy."""
    from experiments.frame.agreement import agreement_table, prior_in_logits

    names = [*lab.world.roles.strata, *(n for n in lab.world.zoo.names() if CONTRASTIVE in n)]
    if not lab.world.roles.knows_priors or len(names) == len(lab.world.roles.strata):
        why = f"this zoo has no model with known prior and in-batch loss (NAME-{CONTRASTIVE})"
        return {"left_out": {"losses": why}, "models": {}, "conclusion": [f"Left out: {why}."]}
    found = {name: prior_in_logits(lab, name) for name in names}
    by_loss: dict[str, Any] = {}
    for name in names:
        by_loss.setdefault("in-batch" if CONTRASTIVE in name else "caption bank", []).append(name)
    first = {loss: found[of[0]] for loss, of in by_loss.items()}
    conclusion = [
        f"{loss}: the estimate has rank correlation {of['agreement']['estimate']:.2f} with the known prior; taking the "
        f"known prior out changes zero-shot accuracy by {100 * of['gain']['estimate']:+.1f} points."
        for loss, of in first.items()
    ]
    table = agreement_table({name: of["agreement"] for name, of in found.items()})
    return {"models": found, "losses": first, "by_loss": by_loss, "table": table, "conclusion": conclusion}


def draw(metrics: Mapping[str, Any]) -> list[Axes]:
    """Rank correlation of the estimate with the known prior, one bar per model."""
    from causalft.report.style import PALETTE, new_axes

    models = metrics["models"]
    axes = new_axes(6.4, 0.8 + 0.35 * max(1, len(models)))
    for y, (name, of) in enumerate(models.items()):
        value, (low, high) = of["agreement"]["estimate"], of["agreement"]["ci95"]
        colour = PALETTE["orange" if CONTRASTIVE in name else "blue"]
        axes.errorbar([value], [y], xerr=[[value - low], [high - value]], marker="o", color=colour)
    axes.set_yticks(range(len(models)), list(models))
    axes.invert_yaxis()
    axes.set_xlim(-1, 1)
    axes.axvline(0, color="#AAAAAA", lw=1)
    axes.set_xlabel("rank correlation of the estimate with the known prior")
    return [axes]


def claims() -> tuple[Claim, ...]:
    """The answer to objection 12: both cases, side by side."""
    from experiments.frame.claims import Claim

    bank, batch = "With image-to-text loss over all captions", "With in-batch contrastive loss"
    prior = "the estimate is the pre-training prior: rank correlation above 0.8"
    no = "the estimate is not the pre-training prior: rank correlation below 0.5"
    gains, loses = "taking out the known prior raises accuracy", "taking out the known prior lowers accuracy"
    return (
        Claim(f"{bank}, {prior}", "losses/caption bank/agreement", above=0.8, objection=12, unit=""),
        Claim(f"{batch}, {no}", "losses/in-batch/agreement", below=0.5, objection=12, unit=""),
        Claim(f"{bank}, {gains}", "losses/caption bank/gain", above=0.0, objection=12),
        Claim(f"{batch}, {loses}", "losses/in-batch/gain", below=0.0, objection=12),
    )


EXPERIMENT = Experiment(
    name="loss_prior",
    reproduces="Objection 12",
    claim="an in-batch contrastive loss removes the prior from the logits; control: the same model, other loss",
    scale="creatures-lt, mini zoo, zero-shot; caption-bank models and one with in-batch InfoNCE",
    minutes=0.5,
    study=study,
    claims=claims,
    seeds=1,
    source="this project",
)
