"""What TensorBoard shows of a training: loss, learning rate, images per second, validation."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from causalft.errors import CausalFTError

__all__ = ["TrainingLog"]

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
