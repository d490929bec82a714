"""The optimiser of a recipe, and its learning rate at every step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from causalft.errors import CausalFTError
from causalft.models.tuning.recipe import Recipe

__all__ = ["ParameterGroups", "lr_factor", "make_optimizer", "set_lr", "shape_of_groups", "warmup_length"]


def warmup_length(recipe: Recipe, steps_per_epoch: int) -> int:
    """Return the steps of the warm-up.

    Raises
    ------
    CausalFTError
        If nothing is left of the training after it.
    """
    length = recipe.warmup_steps or round(recipe.warmup_epochs * steps_per_epoch)
    total = steps_per_epoch * recipe.epochs
    if length and length >= total:
        raise CausalFTError(f"a warm-up of {length} steps leaves nothing of {total} steps; shorten it")
    return length


def lr_factor(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Return the factor on the peak learning rate at a step.

    Parameters
    ----------
    recipe : Recipe
    step : int
        From 0, over all epochs.
    steps_per_epoch : int

    Returns
    -------
    float
        In [0, 1].

    References
    ----------
    Cosine: Loshchilov and Hutter, SGDR, 2017. One cycle: Smith and Topin, Super-Convergence, 2018. Warm-up: Goyal et
    al., Accurate, Large Minibatch SGD, 2017.

    Examples
    --------
    >>> recipe = Recipe(epochs=10, batch_size=8, lr=1.0, warmup_steps=4)
    >>> [round(lr_factor(recipe, step, 2), 2) for step in (0, 3, 4, 12, 19)]
    [0.2, 0.8, 1.0, 0.5, 0.01]
    >>> stair = Recipe(epochs=10, batch_size=8, lr=1.0, schedule="step", milestones=(6, 8))
    >>> [round(lr_factor(stair, step, 1), 2) for step in (5, 6, 7, 8)]
    [1.0, 0.1, 0.1, 0.01]
    """
    warmup = warmup_length(recipe, steps_per_epoch)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if recipe.schedule == "step":
        return recipe.decay ** sum(step // steps_per_epoch >= epoch for epoch in recipe.milestones)
    if recipe.schedule == "constant":
        return 1.0
    progress = (step - warmup) / max(steps_per_epoch * recipe.epochs - warmup, 1)
    if recipe.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    rise = 0.25
    if progress < rise:
        return 0.04 + 0.96 * progress / rise
    return 0.5 * (1 + math.cos(math.pi * (progress - rise) / (1 - rise)))


ParameterGroups = Sequence[tuple[Iterable[nn.Parameter], float]]
"""Pairs of parameters and the factor on their learning rate."""


def make_optimizer(
    parameters: list[nn.Parameter], recipe: Recipe, groups: ParameterGroups | None = None
) -> torch.optim.Optimizer:
    """Return the optimiser of a recipe.

    Parameters
    ----------
    parameters : list of torch.nn.Parameter
        All that are trained.
    recipe : Recipe
    groups : sequence of (parameters, factor), optional
        Factors on the learning rate, such as 10 for a new head; trained parameters in no group have factor 1, frozen
        ones are passed over.

    Raises
    ------
    CausalFTError
        If a parameter stands in two groups or belongs to another model, or a factor is not positive.

    Examples
    --------
    >>> model = nn.Linear(2, 2)
    >>> recipe = Recipe(epochs=1, batch_size=1, lr=0.1)
    >>> optimizer = make_optimizer(list(model.parameters()), recipe, [([model.bias], 10.0)])
    >>> set_lr(optimizer, 0.1)
    >>> [(len(group["params"]), group["lr"]) for group in optimizer.param_groups]
    [(1, 1.0), (1, 0.1)]
    """
    made: list[dict[str, Any]] = []
    for members, factor in _partition(parameters, groups or ()):
        if recipe.optimizer == "sgd":
            made.append({"params": members, "lr_factor": factor})
            continue
        for chosen, decay in (
            ([p for p in members if p.ndim >= 2], recipe.weight_decay),
            ([p for p in members if p.ndim < 2], 0.0),
        ):
            if chosen:
                made.append({"params": chosen, "weight_decay": decay, "lr_factor": factor})
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            made,
            lr=recipe.lr,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=recipe.nesterov,
        )
    # One kernel for all parameters; on a CPU the default stays, so that results stay what they were.
    on_gpu = all(p.device.type == "cuda" and p.is_floating_point() for p in parameters)
    return torch.optim.AdamW(made, lr=recipe.lr, betas=(0.9, 0.98), fused=True if on_gpu else None)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group its share of a learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_factor"]


def shape_of_groups(optimizer: torch.optim.Optimizer) -> list[list[float]]:
    """Return size and factor of each group: what a checkpoint's state must fit."""
    return [[len(group["params"]), float(group["lr_factor"])] for group in optimizer.param_groups]


def _partition(
    parameters: list[nn.Parameter], groups: ParameterGroups
) -> list[tuple[list[nn.Parameter], float]]:
    """Cut the trained parameters into groups; what no group names comes last, in the model's order."""
    left = {id(parameter): parameter for parameter in parameters}
    found: list[tuple[list[nn.Parameter], float]] = []
    seen: set[int] = set()
    for number, (members, factor) in enumerate(groups):
        if not factor > 0:
            raise CausalFTError(
                f"parameter group {number}: the factor {factor} is not positive; freeze instead"
            )
        chosen = [parameter for parameter in members if parameter.requires_grad]
        for parameter in chosen:
            if id(parameter) in seen:
                raise CausalFTError(
                    f"parameter group {number}: a parameter stands in two groups; give it one factor"
                )
            if left.pop(id(parameter), None) is None:
                raise CausalFTError(f"parameter group {number}: a parameter is not one of the model")
            seen.add(id(parameter))
        if chosen:
            found.append((chosen, float(factor)))
    if left:
        found.append((list(left.values()), 1.0))
    return found
