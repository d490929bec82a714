"""The learning rate of every step: a warm-up, then cosine, one cycle, a constant, or a stair."""

from __future__ import annotations

import math

from causalft.errors import CausalFTError
from causalft.tuning.recipe import Recipe

__all__ = ["lr_factor", "warmup_length"]


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
