"""A look at the losses of a training: their sum, the log, and the stop at the first one that is not finite."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from causalft.errors import CausalFTError
from causalft.tuning.recipe import Recipe
from causalft.tuning.schedule import lr_factor
from causalft.tuning.training_log import TrainingLog

__all__ = ["LossWatch"]

_EVERY_ON_GPU = 50  # steps between two looks, each of which waits for the GPU


class LossWatch:
    """Takes the loss of every step, and reads it at once on a CPU and in blocks on a GPU.

    Parameters
    ----------
    recipe : Recipe
    label : str
        Stands before a message.
    steps_per_epoch : int
    device : torch.device

    Attributes
    ----------
    seen : int
        Steps whose loss has been read.
    log : TrainingLog, optional
        Told of every loss.
    kept : (path, int), optional
        The last checkpoint and its step, for the message.
    """

    def __init__(self, recipe: Recipe, label: str, steps_per_epoch: int, device: torch.device) -> None:
        self.recipe, self.label, self.steps_per_epoch = recipe, label, steps_per_epoch
        self.every = 1 if device.type == "cpu" else _EVERY_ON_GPU
        self.seen = 0
        self.log: TrainingLog | None = None
        self.kept: tuple[Path, int] | None = None
        self._pending: list[Tensor] = []
        self._images = 0

    def take(self, loss: Tensor, n_images: int) -> float:
        """Take the loss of one step; return the sum of those that are now read, 0 if it must wait.

        Raises
        ------
        CausalFTError
            If one of them is NaN or infinite; see :meth:`stopped`.
        """
        self._pending.append(loss)
        self._images += n_images
        return self.read() if len(self._pending) >= self.every else 0.0

    def read(self) -> float:
        """Read what is left; return the sum of the losses.

        Raises
        ------
        CausalFTError
            If one of them is NaN or infinite.
        """
        if not self._pending:
            return 0.0
        single = len(self._pending) == 1
        losses = [self._pending[0].item()] if single else torch.stack(self._pending).flatten().tolist()
        for number, loss in enumerate(losses):
            if not math.isfinite(loss):
                raise self.stopped(f"the loss is not finite ({loss})", self.seen + number)
        if self.log is not None:
            steps = range(self.seen, self.seen + len(losses))
            rates = [self.recipe.lr * lr_factor(self.recipe, step, self.steps_per_epoch) for step in steps]
            self.log.steps(self.seen, losses, rates, self._images)
        self.seen += len(losses)
        self._pending.clear()
        self._images = 0
        return sum(losses)

    def stopped(self, what: str, step: int) -> CausalFTError:
        """Return the error that says at which step (from 0) something went wrong, and what may help."""
        recipe = self.recipe
        ways = [f"lower the learning rate (now {recipe.lr:g})"]
        ways += ["train in fp32"] if recipe.precision != "fp32" else []
        kept = f"; {self.kept[0]} keeps the state after step {self.kept[1]}" if self.kept else ""
        return CausalFTError(
            f"{self.label}: {what} at step {step + 1} of {self.steps_per_epoch * recipe.epochs}, in epoch"
            f" {step // self.steps_per_epoch + 1}; {' or '.join(ways)}{kept}"
        )
