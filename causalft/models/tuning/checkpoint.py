"""A training in progress: its losses and log, the stop at a non-finite loss, checkpoints."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from causalft.errors import CausalFTError
from causalft.models.tuning.recipe import Recipe, lr_factor
from causalft.runs.files import sort_metadata
from causalft.runs.folder import atomic_path

__all__ = [
    "LossWatch",
    "Progress",
    "TrainingLog",
    "all_finite",
    "load_checkpoint",
    "save_checkpoint",
    "trained_state",
]


_SPEED_EVERY = 10  # steps over which a speed is taken


class TrainingLog:
    """Writes the curves of one training for TensorBoard.

    Parameters
    ----------
    folder : pathlib.Path
    first_step : int
        Where this call begins: later events of an interrupted call are hidden.

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
        """Log consecutive steps: loss and learning rate of each, and the speed over all of them."""
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
        """Log a validation value after a step; its seconds do not count into the speed."""
        self._writer.add_scalar("validation", value, step)
        self._since += seconds

    def close(self) -> None:
        """Flush and close."""
        self._writer.close()


_EVERY_ON_GPU = 50  # steps between two looks, each of which waits for the GPU


class LossWatch:
    """Reads the loss of every step, at once on a CPU and in blocks on a GPU.

    Parameters
    ----------
    recipe : Recipe
    label : str
        Prefix of messages.
    steps_per_epoch : int
    device : torch.device

    Attributes
    ----------
    seen : int
        Steps whose loss has been read.
    log : TrainingLog, optional
    kept : (path, int), optional
        The last checkpoint and its step, for messages.
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
            If one is not finite.
        """
        self._pending.append(loss)
        self._images += n_images
        return self.read() if len(self._pending) >= self.every else 0.0

    def read(self) -> float:
        """Read what is left; return the sum of the losses.

        Raises
        ------
        CausalFTError
            If one is not finite.
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


@dataclass
class Progress:
    """How far a training is.

    Attributes
    ----------
    epoch, batch : int
        Complete epochs, and steps of the next one.
    summed : float
        Sum of the losses of these steps.
    parts : int
        Micro-batches per step; grows when memory runs out.
    losses, validation, best_epoch, notes
        As in :class:`causalft.models.tuning.recipe.History`.
    best : dict of Tensor
        Weights of the best epoch; empty without early stopping.
    generator : Tensor, optional
        State of the epoch's generator within an epoch, uint8.
    """

    epoch: int = 0
    batch: int = 0
    summed: float = 0.0
    parts: int = 1
    losses: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    best_epoch: int | None = None
    notes: list[str] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    generator: Tensor | None = None


_TENSORS = ("best", "generator")


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """Return trained parameters and all buffers by name: everything that training can change."""
    state: dict[str, Tensor] = {name: p for name, p in model.named_parameters() if p.requires_grad}
    state.update(model.named_buffers())
    return state


def all_finite(parameters: list[nn.Parameter]) -> bool:
    """Whether all weights are finite."""
    with torch.no_grad():
        return all(bool(torch.isfinite(parameter).all()) for parameter in parameters)


def save_checkpoint(
    path: Path,
    identity: Mapping[str, Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    scaler: Any = None,
) -> None:
    """Write a checkpoint; a crash in between leaves the previous one.

    Parameters
    ----------
    path : pathlib.Path
    identity : mapping
        Tells this training from another; a JSON document.
    model, optimizer, progress, scaler
    """
    tensors = {f"model/{name}": value for name, value in trained_state(model).items()}
    tensors |= {f"best/{name}": value for name, value in progress.best.items()}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if value is not None:
                tensors[f"optimizer/{index}/{name}"] = torch.as_tensor(value)
    if progress.generator is not None:
        tensors["generator"] = progress.generator
    # The tensors that stay out of the JSON are not copied into it first, as asdict would.
    numbers = {name: value for name, value in vars(progress).items() if name not in _TENSORS}
    metadata = {"identity": json.dumps(identity), "progress": json.dumps(numbers)}
    if scaler is not None:
        metadata["scaler"] = json.dumps(scaler.state_dict())
    whole = {
        name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()
    }
    with atomic_path(path) as temporary:
        save_file(whole, temporary, metadata=metadata)
        sort_metadata(temporary)


def load_checkpoint(
    path: Path,
    identity: Mapping[str, Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: Any = None,
) -> Progress:
    """Read a checkpoint into model, optimiser and scaler, and return its progress.

    Raises
    ------
    CausalFTError
        If the file is damaged or of another training.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except SafetensorError as error:
        raise CausalFTError(f"{path} is damaged ({error}); remove it to train from the start") from error
    kinds: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "optimizer": {}, "generator": {}}
    for key, value in tensors.items():
        kind, _, name = key.partition("/")
        kinds.setdefault(kind, {})[name] = value
    trained = trained_state(model)
    shapes = {name: value.shape for name, value in trained.items()}
    if (
        metadata.get("identity") != json.dumps(identity)
        or {name: value.shape for name, value in kinds["model"].items()} != shapes
    ):
        raise CausalFTError(
            f"{path} is the checkpoint of another training; remove it or choose another --out"
        )
    with torch.no_grad():
        for name, value in kinds["model"].items():
            trained[name].copy_(value)
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in kinds["optimizer"].items():
        index, _, name = key.partition("/")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    if scaler is not None and "scaler" in metadata:
        scaler.load_state_dict(json.loads(metadata["scaler"]))
    return Progress(
        **json.loads(metadata["progress"]), best=kinds["best"], generator=kinds["generator"].get("")
    )
