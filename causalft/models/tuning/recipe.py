"""A recipe of a training: length, learning rate at every step, optimiser; and its result, a history."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from causalft.errors import CausalFTError, nearest
from causalft.runs import limits

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = [
    "OPTIMIZERS",
    "PRECISIONS",
    "SCHEDULES",
    "History",
    "ParameterGroups",
    "Recipe",
    "Schedule",
    "lr_factor",
    "make_optimizer",
    "set_lr",
    "shape_of_groups",
    "warmup_length",
]

OPTIMIZERS = ("sgd", "adamw")
PRECISIONS = ("fp32", "bf16", "fp16", "int8")


@dataclass(frozen=True)
class Recipe:
    """How long, how fast and with which optimiser a model is trained.

    Attributes
    ----------
    epochs : int
    batch_size : int
        Samples per step, over all processes and micro-batches.
    lr : float
        Peak learning rate.
    optimizer : {"sgd", "adamw"}
    momentum, weight_decay : float
        ``momentum`` is SGD's; under AdamW parameters with fewer than two dimensions are not decayed.
    schedule : str
        A name of :data:`SCHEDULES`.
    nesterov : bool
    grad_clip : float, optional
        Largest norm of the gradient.
    seed : int
        Of the sample order and of the loss.
    warmup_steps, warmup_epochs : int, float
        Linear rise of the learning rate (give one of the two); the schedule takes the rest.
    milestones : tuple of int
        Epochs (from 0) at whose start ``schedule="step"`` lowers the learning rate.
    decay : float
        Factor of each milestone.
    accumulation : int
        Micro-batches per step. The result is the same up to rounding if the loss is a mean over samples (batch norm and
        in-batch contrast see less at a time).
    precision : {"fp32", "bf16", "fp16", "int8"}
        Autocast on a GPU, with a gradient scaler for ``fp16``; no effect on a CPU.
    patience : int, optional
        Stop after this many epochs without a better validation value, and keep the best weights.
    """

    epochs: int
    batch_size: int
    lr: float
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "cosine"
    nesterov: bool = False
    grad_clip: float | None = None
    seed: int = 0
    warmup_steps: int = 0
    warmup_epochs: float = 0.0
    milestones: tuple[int, ...] = ()
    decay: float = 0.1
    accumulation: int = 1
    precision: Literal["fp32", "bf16", "fp16", "int8"] = "fp32"
    patience: int | None = None

    def check(self) -> None:
        """Refuse an invalid recipe.

        Raises
        ------
        CausalFTError
            For an unknown name, a number out of range, or settings that exclude each other.

        Examples
        --------
        >>> Recipe(epochs=1, batch_size=8, lr=0.1, schedule="cosin").check()
        Traceback (most recent call last):
        causalft.errors.CausalFTError: unknown schedule 'cosin': did you mean 'cosine'?
        """
        for setting, number, within in (
            ("epochs", self.epochs, limits.EPOCHS),
            ("batch size", self.batch_size, limits.BATCH_SIZE),
            ("learning rate", self.lr, limits.LEARNING_RATE),
            ("weight decay", self.weight_decay, limits.WEIGHT_DECAY),
            ("momentum", self.momentum, limits.MOMENTUM),
            ("seed", self.seed, limits.SEED),
            ("accumulation", self.accumulation, limits.ACCUMULATION),
            ("patience", self.patience, limits.PATIENCE),
            ("largest gradient", self.grad_clip, limits.GRADIENT),
        ):
            if number is not None or setting not in ("patience", "largest gradient"):
                within.check(number, setting)
        for kind, known in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES), ("precision", PRECISIONS)):
            name = getattr(self, kind)
            if name not in known:
                raise CausalFTError(f"unknown {kind} {name!r}: {nearest(str(name), known)}")
        if self.warmup_steps and self.warmup_epochs:
            raise CausalFTError("the warm-up is given twice; give warmup_steps or warmup_epochs")
        if self.warmup_steps < 0 or self.warmup_epochs < 0:
            raise CausalFTError("a warm-up cannot be negative; give 0 for none")
        schedule = SCHEDULES[self.schedule]
        if schedule.warms_up and (self.warmup_steps or self.warmup_epochs):
            raise CausalFTError(
                f"schedule {self.schedule!r} has its own warm-up; leave warmup_* out or use 'cosine'"
            )
        if schedule.has_milestones != bool(self.milestones):
            stair = next(name for name, known in SCHEDULES.items() if known.has_milestones)
            raise CausalFTError(
                f"schedule {stair!r} and milestones belong together: schedule={stair!r}, milestones=(60, 80)"
            )


@dataclass(frozen=True)
class History:
    """The result of a training, beside its weights.

    Attributes
    ----------
    losses : list of float
        Mean loss of each epoch.
    seconds : float
        Of this call.
    validation : list of float
        Result of ``validate`` after each epoch, lower is better; empty without it.
    best_epoch : int, optional
        Index of the best value in ``validation``; with ``Recipe.patience`` the weights are those of this epoch.
    notes : list of str
        What the caller should know, such as a batch that did not fit into memory.
    """

    losses: list[float]
    seconds: float
    validation: list[float] = field(default_factory=list)
    best_epoch: int | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Schedule:
    """How the learning rate changes.

    Attributes
    ----------
    name, help : str
    factor : callable
        ``factor(recipe, progress, epoch) -> float`` on the peak learning rate; ``progress`` is the share of steps
        after the warm-up, in [0, 1).
    warms_up : bool
        It has its own warm-up, so no other can be given.
    has_milestones : bool
        It needs ``Recipe.milestones``, which the others refuse.
    source : str
    """

    name: str
    help: str
    factor: Callable[[Recipe, float, int], float]
    warms_up: bool = False
    has_milestones: bool = False
    source: str = ""


def _cosine(recipe: Recipe, progress: float, epoch: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * progress))


def _one_cycle(recipe: Recipe, progress: float, epoch: int) -> float:
    rise = 0.25
    if progress < rise:
        return 0.04 + 0.96 * progress / rise
    return 0.5 * (1 + math.cos(math.pi * (progress - rise) / (1 - rise)))


def _constant(recipe: Recipe, progress: float, epoch: int) -> float:
    return 1.0


def _step(recipe: Recipe, progress: float, epoch: int) -> float:
    return recipe.decay ** sum(epoch >= milestone for milestone in recipe.milestones)


SCHEDULES = {
    schedule.name: schedule
    for schedule in (
        Schedule("cosine", "half a cosine to zero", _cosine, source="Loshchilov and Hutter, SGDR, ICLR 2017"),
        Schedule(
            "onecycle",
            "a linear rise over the first quarter, then a cosine to zero",
            _one_cycle,
            warms_up=True,
            source="Smith and Topin, Super-Convergence, 2018",
        ),
        Schedule("constant", "constant", _constant),
        Schedule("step", "times ``decay`` at each milestone", _step, has_milestones=True),
    )
}


def warmup_length(recipe: Recipe, steps_per_epoch: int) -> int:
    """Return the steps of the warm-up.

    Raises
    ------
    CausalFTError
        If nothing is left after it.
    """
    length = recipe.warmup_steps or round(recipe.warmup_epochs * steps_per_epoch)
    total = steps_per_epoch * recipe.epochs
    if length and length >= total:
        raise CausalFTError(f"nothing is left after a warm-up of {length} of {total:,} steps; shorten it")
    return length


def lr_factor(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Return the factor on the peak learning rate at a step, in [0, 1].

    The warm-up is linear (Goyal et al., Accurate, Large Minibatch SGD, 2017).

    Parameters
    ----------
    recipe : Recipe
    step : int
        From 0, over all epochs.
    steps_per_epoch : int

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
    progress = (step - warmup) / max(steps_per_epoch * recipe.epochs - warmup, 1)
    return SCHEDULES[recipe.schedule].factor(recipe, progress, step // steps_per_epoch)


ParameterGroups = Sequence[tuple[Iterable["nn.Parameter"], float]]
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
        Factors on the learning rate, such as 10 for a new head; 1 for the others. Frozen parameters are ignored.

    Raises
    ------
    CausalFTError
        If a parameter is in two groups or of another model, or a factor is not positive.

    Examples
    --------
    >>> from torch import nn
    >>> model = nn.Linear(2, 2)
    >>> recipe = Recipe(epochs=1, batch_size=1, lr=0.1)
    >>> optimizer = make_optimizer(list(model.parameters()), recipe, [([model.bias], 10.0)])
    >>> set_lr(optimizer, 0.1)
    >>> [(len(group["params"]), group["lr"]) for group in optimizer.param_groups]
    [(1, 1.0), (1, 0.1)]
    """
    import torch

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
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_factor"]


def shape_of_groups(optimizer: torch.optim.Optimizer) -> list[list[float]]:
    """Return size and factor of each group, which the state of a checkpoint must match."""
    return [[len(group["params"]), float(group["lr_factor"])] for group in optimizer.param_groups]


def _partition(
    parameters: list[nn.Parameter], groups: ParameterGroups
) -> list[tuple[list[nn.Parameter], float]]:
    """Cut the trained parameters into groups; ungrouped ones come last, in the model's order."""
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
                    f"parameter group {number}: a parameter is in two groups; give it one factor"
                )
            if left.pop(id(parameter), None) is None:
                raise CausalFTError(f"parameter group {number}: a parameter is not one of the model")
            seen.add(id(parameter))
        if chosen:
            found.append((chosen, float(factor)))
    if left:
        found.append((list(left.values()), 1.0))
    return found
