"""What the models of a scale cost per image, as :mod:`causalft.methods.adaptation.cost` counts and times it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from causalft.errors import several

if TYPE_CHECKING:
    from causalft.report.html import Section
    from experiments.frame.lab import Lab

__all__ = ["cost_section", "costs", "summed_costs"]

_FIELDS = ("encode_flops", "tune_flops", "n_parameters", "n_tuned", "predict_seconds")


def costs(lab: Lab) -> dict[str, Any]:
    """``costs`` of the metrics: M strata for each M, and the larger model if there is one.

    FLOPs and seconds are per image; ``encode_flops`` and ``predict_seconds`` are of a prediction.
    """
    import torch

    from causalft.methods.adaptation.cost import stratum_cost
    from causalft.methods.estimators.member import pick_device
    from causalft.models.features.encoder import Crops

    world, roles = lab.world, lab.world.roles
    train = world.splits(0).train
    each = {}
    for name in (*roles.strata, *([roles.larger] if roles.larger else [])):
        stratum = world.zoo.load(name, device=pick_device(world.settings.device))
        pixels = Crops(train, stratum)[torch.arange(min(64, len(train)))]
        cost = stratum_cost(stratum, world.settings.tuning, train.n_classes, pixels)
        each[name] = {field: float(getattr(cost, field)) for field in _FIELDS}
    return {"costs": summed_costs(each, roles.strata, roles.larger)}


def summed_costs(
    each: Mapping[str, Mapping[str, float]], strata: Sequence[str], larger: str | None
) -> dict[str, dict[str, float]]:
    """Costs of ``1 stratum`` to ``M strata``, M times their mean, and of ``larger model``.

    Examples
    --------
    >>> summed_costs({"a": {"flops": 2.0}, "b": {"flops": 4.0}}, ["a", "b"], None)
    {'1 stratum': {'flops': 3.0}, '2 strata': {'flops': 6.0}}
    """
    mean = {field: float(np.mean([each[name][field] for name in strata])) for field in each[strata[0]]}
    found = {
        several(range(m), "stratum", "strata"): {k: m * v for k, v in mean.items()}
        for m in range(1, len(strata) + 1)
    }
    return found | ({"larger model": dict(each[larger])} if larger else {})


def cost_section(metrics: Mapping[str, Any]) -> list[Section]:
    """The costs, beside the accuracy of the arms of the same names."""
    from causalft.analysis.diagnosis.conclusion import interval_text
    from causalft.report.html import Section, Table

    rows = []
    for name, cost in metrics["costs"].items():
        accuracy = metrics["methods"].get(name, {}).get("accuracy")
        mega = [f"{cost[field] / 1e6:.2f}" for field in _FIELDS[:3]]
        tuned, milliseconds = f"{cost['n_tuned']:,.0f}", f"{1000 * cost['predict_seconds']:.2f}"
        rows.append([name, interval_text(accuracy) if accuracy else "", *mega, tuned, milliseconds])
    columns = ["models", "accuracy", "MFLOPs", "MFLOPs, training", "M parameters", "tuned", "ms"]
    caption = (
        "Per image: operations of a prediction and of a training step, and the time of a prediction here."
    )
    return [Section("Cost", [], [Table(columns, rows, caption)])]
