"""What a training is asked for, a recipe, and what it leaves behind beside its weights, a history."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from causalft.errors import CausalFTError, nearest
from causalft.runs import limits

__all__ = ["OPTIMIZERS", "PRECISIONS", "SCHEDULES", "History", "Recipe"]

OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("cosine", "onecycle", "constant", "step")
PRECISIONS = ("fp32", "bf16", "fp16")


@dataclass(frozen=True)
class Recipe:
    """How long, how fast and with which optimiser a model is trained.

    Attributes
    ----------
    epochs : int
    batch_size : int
        Samples of one step, over all processes and micro-batches together.
    lr : float
        Peak learning rate.
    optimizer : {"sgd", "adamw"}
    momentum, weight_decay : float
        ``momentum`` is SGD's; weight decay is left out for parameters with fewer than two dimensions under AdamW.
    schedule : {"cosine", "onecycle", "constant", "step"}
        Per step: half a cosine to zero; a linear rise over the first quarter and a cosine fall; constant; or times
        ``decay`` at each of the ``milestones``.
    nesterov : bool
    grad_clip : float, optional
        Largest norm of the gradient.
    seed : int
        Seeds the order of the samples and whatever the loss draws.
    warmup_steps, warmup_epochs : int, float
        The learning rate rises linearly for so many steps or epochs (give one of the two); the schedule takes the rest.
    milestones : tuple of int
        Epochs (the first is 0) at whose start ``schedule="step"`` lowers the learning rate.
    decay : float
        The factor of each milestone.
    accumulation : int
        Micro-batches into which a step is cut, for batches that do not fit into memory at once. The step is the same
        up to rounding wherever the loss is a mean over samples (batch norm and in-batch contrast see less at a time).
    precision : {"fp32", "bf16", "fp16"}
        Autocast on a GPU, with a gradient scaler for ``fp16``. On a CPU layers compute as they are.
    patience : int, optional
        Epochs without a better validation value after which training stops; the best weights are kept. None: train to
        the end and keep the last.
    """

    epochs: int
    batch_size: int
    lr: float
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Literal["cosine", "onecycle", "constant", "step"] = "cosine"
    nesterov: bool = False
    grad_clip: float | None = None
    seed: int = 0
    warmup_steps: int = 0
    warmup_epochs: float = 0.0
    milestones: tuple[int, ...] = ()
    decay: float = 0.1
    accumulation: int = 1
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    patience: int | None = None

    def check(self) -> None:
        """Refuse what is no training.

        Raises
        ------
        CausalFTError
            For an unknown name, a number out of its range, or settings that exclude each other.

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
        if self.schedule == "onecycle" and (self.warmup_steps or self.warmup_epochs):
            raise CausalFTError("schedule 'onecycle' has its own warm-up; leave warmup_* out or use 'cosine'")
        if (self.schedule == "step") != bool(self.milestones):
            raise CausalFTError(
                "schedule 'step' and milestones belong together: schedule='step', milestones=(60, 80)"
            )


@dataclass(frozen=True)
class History:
    """What a training run leaves beside its weights.

    Attributes
    ----------
    losses : list of float
        Mean loss of each epoch.
    seconds : float
        What this call took.
    validation : list of float
        What ``validate`` gave after each epoch, lower is better; empty without it.
    best_epoch : int, optional
        Index of the best value in ``validation``. With ``Recipe.patience`` the weights are those of this epoch.
    notes : list of str
        What happened on the way that the caller should know, such as a batch that did not fit into memory.
    """

    losses: list[float]
    seconds: float
    validation: list[float] = field(default_factory=list)
    best_epoch: int | None = None
    notes: list[str] = field(default_factory=list)
