"""What is watched while training: losses, the stop at the first one that is not finite, the TensorBoard log."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from causalft.errors import CausalFTError
from causalft.models.tuning.optimizer import lr_factor
from causalft.models.tuning.recipe import Recipe

__all__ = ["LossWatch", "TrainingLog"]


_SPEED_EVERY = 10  # steps over which a speed is taken


class TrainingLog:
    """Writes the curves of one training.

    Parameters
    ----------
    folder : pathlib.Path
        For ``tensorboard --logdir``; a resumed training goes on in it.
    first_step : int
        Where this call begins: what an earlier, interrupted call wrote from there on is hidden.

    Raises
    ------
    CausalFTError
        If TensorBoard is not installed.
    """

    def __init__(self, folder: Path, first_step: int = 0) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise CausalFTError(
                "the training log needs TensorBoard: pip install 'causalft[tensorboard]'"
            ) from error
        self._writer: Any = SummaryWriter(str(folder), purge_step=first_step)
        self._images, self._steps, self._since = 0, 0, time.perf_counter()

    def steps(self, first: int, losses: list[float], rates: list[float], n_images: int) -> None:
        """Note some steps in a row: loss and learning rate of each, and the images of all.

        They are noted when their losses are known, which on a GPU is many at a time; so the speed is that of the whole.
        """
        for step, (loss, rate) in enumerate(zip(losses, rates), first):
            self._writer.add_scalar("loss", loss, step)
            self._writer.add_scalar("learning rate", rate, step)
        self._images += n_images
        self._steps += len(losses)
        now = time.perf_counter()
        if self._steps >= _SPEED_EVERY and now > self._since:
            self._writer.add_scalar(
                "images per second", self._images / (now - self._since), first + len(losses) - 1
            )
            self._images, self._steps, self._since = 0, 0, now

    def validation(self, step: int, value: float, seconds: float) -> None:
        """Note a validation value after a step; the seconds it took do not count into the speed."""
        self._writer.add_scalar("validation", value, step)
        self._since += seconds

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


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
