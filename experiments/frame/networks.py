"""What an experiment that trains networks on A/B sets will train and cost, before it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from causalft.pipelines.workflows.verify_confounder import Plan
    from synthetic.design import Design

__all__ = ["NetworkPlan", "NetworkRow", "plan_networks"]


@dataclass(frozen=True)
class NetworkRow:
    """Networks of one design.

    Attributes
    ----------
    name : str
        Of the case, for the table.
    backbone : str
    networks, finished : int
        How many there are, and how many of them lie in the run folder already.
    images : int
        That each is trained on.
    tested : int
        On which each is tested.
    side : int
        Of the images, in pixels.
    steps : int
        Of SGD, of one network.
    flops : float
        Operations of all networks that are left: forward and backward, by matrix products and convolutions.
    """

    name: str
    backbone: str
    networks: int
    finished: int
    images: int
    tested: int
    side: int
    steps: int
    flops: float


@dataclass(frozen=True)
class NetworkPlan:
    """All networks of an experiment."""

    rows: tuple[NetworkRow, ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON document."""
        return {"networks": [vars(row) for row in self.rows], "flops": sum(row.flops for row in self.rows)}


def plan_networks(
    cases: Mapping[str, tuple[Design, Plan, Path]], seeds: int, roles: Mapping[str, Sequence[str]]
) -> NetworkPlan:
    """Plan the networks of some designs; nothing is drawn or trained.

    Parameters
    ----------
    cases : mapping of str to (Design, Plan, path)
        By name: the design, the size of its experiment, and the folder of its run.
    seeds : int
        Replications of each.
    roles : mapping of str to sequence of str
        The networks of each replication, by the name of the case: of
        :func:`causalft.pipelines.workflows.trial.roles_of`.
    """
    from causalft.models.tuning.train import n_batches

    rows = []
    for name, (design, plan, folder) in cases.items():
        each = [
            folder / "models" / f"seed{seed}-{role}.json" for seed in range(seeds) for role in roles[name]
        ]
        finished = sum(file.is_file() for file in each)
        images = int(design.counts("B_train", plan.n_per_class).sum())
        recipe = plan.recipe(images)
        steps = recipe.epochs * n_batches(images, recipe.batch_size)
        flops = recipe.epochs * images * _flops_of_an_image(plan.backbone, len(design.classes), plan.size)
        rows.append(
            NetworkRow(
                name,
                plan.backbone,
                len(each),
                finished,
                images,
                2 * images,
                plan.size,
                steps,
                float(flops * (len(each) - finished)),
            )
        )
    return NetworkPlan(tuple(rows))


def _flops_of_an_image(backbone: str, n_classes: int, side: int) -> int:
    """Forward and backward of one training image."""
    import torch
    from torch.nn import functional as F

    from causalft.methods.adaptation.cost import count_flops
    from causalft.models.resnet import resnet

    model, n = resnet(backbone, n_classes, 0).train(), 2  # batch norm needs two
    images, labels = torch.zeros(n, 3, side, side), torch.zeros(n, dtype=torch.int64)

    def step() -> None:
        torch.autograd.grad(F.cross_entropy(model(images), labels), list(model.parameters()))

    return count_flops(step) // n
