"""The processes of a training: device, precision, shares of a batch, and gradients summed over all.

accelerate sets them up, so that ``accelerate launch`` and ``torchrun`` can start a training. The model is not wrapped:
gradients are summed after the backward pass, weighted by each process's samples, which is exact for an uneven last
batch and lets a loss call any method of the model.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, distributed, nn

from causalft.errors import CausalFTError
from causalft.models.tuning.recipe import Recipe
from causalft.runs.limits import check_device, torch_seed

__all__ = ["Processes", "is_main_process", "join_processes", "local_device", "pick_device"]


_BUCKET = 2**25  # elements that are summed at once: 128 MB, large enough to be fast
_SETTING_UP = threading.Lock()


def is_main_process() -> bool:
    """Whether this process writes and prints; true if there is only one.

    Examples
    --------
    >>> is_main_process()
    True
    """
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank() == 0
    return int(os.environ.get("RANK", "0")) == 0


def local_device() -> torch.device:
    """Return the device of this process's model: its own GPU, or the CPU if there is none."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    return torch.device("cpu")


@dataclass
class Processes:
    """The processes that train together, seen from one of them.

    Attributes
    ----------
    device : torch.device
    rank, count : int
    autocast : context manager
        Around every forward pass.
    scaler : torch.amp.GradScaler, optional
        For fp16.
    """

    device: torch.device
    rank: int
    count: int
    autocast: AbstractContextManager[Any]
    scaler: Any = None
    _used: list[bool] | None = field(default=None, repr=False)

    @property
    def is_main(self) -> bool:
        """Whether this process writes, logs and shows progress."""
        return self.rank == 0

    def share(self, indices: Tensor) -> Tensor:
        """Return this process's part of a batch: contiguous, sizes differ by at most one, possibly empty."""
        return indices if self.count == 1 else indices.tensor_split(self.count)[self.rank]

    def generator(self, shared: torch.Generator, recipe: Recipe, step: int) -> torch.Generator:
        """Return the generator of the loss at a step.

        The first process uses the epoch's generator, as a single one does, so that its state is all that a checkpoint
        needs. The others are seeded at each step, so that augmentation differs between shares.
        """
        if self.rank == 0:
            return shared
        return torch.Generator().manual_seed(torch_seed((recipe.seed * 1_000_003 + step) * 8_191 + self.rank))

    def sum_gradients(self, parameters: list[nn.Parameter], loss: Tensor) -> Tensor:
        """Sum the gradients, in place, and the loss over all processes.

        Raises
        ------
        CausalFTError
            If a parameter gets its first gradient after the first step: the processes could not agree on it.
        """
        if self.count == 1:
            return loss
        present = [parameter.grad is not None for parameter in parameters]
        if self._used is None:
            # Agreed once, in the first step: a parameter that no process uses must stay without a gradient.
            flags = torch.tensor(present, dtype=torch.int32, device=self.device)
            distributed.all_reduce(flags)
            self._used = [flag > 0 for flag in flags.tolist()]
        if any(here and not known for here, known in zip(present, self._used)):
            raise CausalFTError(
                "a parameter got its first gradient after the first step, which several processes cannot share; use one"
                " process, or freeze what a batch may leave out"
            )
        total = loss.detach().float().reshape(1)
        used = [parameter for parameter, known in zip(parameters, self._used) if known]
        for number, bucket in enumerate(_buckets(used)):
            # The loss travels with the first bucket: no message of its own.
            pieces = [total] if number == 0 else []
            pieces += [
                torch.zeros(p.numel(), device=p.device) if p.grad is None else p.grad.float().reshape(-1)
                for p in bucket
            ]
            flat = torch.cat(pieces)
            distributed.all_reduce(flat)
            if number == 0:
                total, flat = flat[:1], flat[1:]
            for parameter, part in zip(bucket, flat.split([p.numel() for p in bucket])):
                parameter.grad = part.view(parameter.shape).to(parameter.dtype)
        return total[0]

    def total(self, tensor: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes, which have it in one shape."""
        if self.count == 1:
            return tensor
        moved = tensor.detach().to(self.device, copy=True)  # a GPU's processes exchange what is on a GPU
        distributed.all_reduce(moved)
        return moved.to(tensor.device)

    def copy_from_main(self, tensors: Iterable[Tensor]) -> None:
        """Copy the tensors of the first process to all, in place, wherever they are."""
        if self.count == 1:
            return
        for tensor in tensors:
            # As bytes: every type can be sent, and a channels-last tensor becomes one block.
            flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8).to(self.device)
            distributed.broadcast(flat, 0)
            with torch.no_grad():
                tensor.copy_(flat.view(tensor.dtype).view(tensor.shape))

    def from_main(self, value: float) -> float:
        """Return the first process's value, so that all decide alike."""
        if self.count == 1:
            return value
        held = torch.tensor(value, dtype=torch.float64, device=self.device)
        distributed.broadcast(held, 0)
        return held.item()

    def all_equal(self, value: int) -> bool:
        """Whether all processes have the same number; also a barrier."""
        if self.count == 1:
            return True
        ends = torch.tensor([value, -value], dtype=torch.int64, device=self.device)
        distributed.all_reduce(ends, distributed.ReduceOp.MAX)
        return bool(ends[0] == -ends[1])


def _buckets(parameters: list[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    bucket: list[nn.Parameter] = []
    size = 0
    for parameter in parameters:
        if bucket and size + parameter.numel() > _BUCKET:
            yield bucket
            bucket, size = [], 0
        bucket.append(parameter)
        size += parameter.numel()
    yield bucket


def join_processes(device: torch.device, precision: str = "fp32") -> Processes:
    """Join the processes that a launcher started, or run alone.

    accelerate keeps its state in classes that can be set once per process. It is saved and restored here, so that
    trainings with other settings, in other threads too, and a user's own ``Accelerator`` still work.

    Parameters
    ----------
    device : torch.device
        Of the model.
    precision : {"fp32", "bf16", "fp16"}
        On a GPU only.

    Raises
    ------
    CausalFTError
        If the processes cannot find each other, the device lacks the precision, the launch is not data-parallel, or
        the model is not on this process's GPU.

    Examples
    --------
    >>> alone = join_processes(torch.device("cpu"))
    >>> alone.rank, alone.count, alone.share(torch.arange(4)).tolist()
    (0, 1, [0, 1, 2, 3])
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState, PartialState
    from accelerate.utils import (
        DistributedType,
        GradientAccumulationPlugin,
        get_mixed_precision_context_manager,
    )

    on_cpu = device.type == "cpu"
    started = distributed.is_available() and distributed.is_initialized()
    with _SETTING_UP:
        held = [
            (state._shared_state, dict(state._shared_state)) for state in (AcceleratorState, PartialState)
        ]
        held.append((GradientState._shared_state, dict(GradientState._shared_state)))
        try:
            for state, _ in held:
                state.clear()
            accelerator = Accelerator(
                cpu=on_cpu,
                mixed_precision="no" if on_cpu or precision == "fp32" else precision,
                # Given here, so that the environment does not divide the loss a second time.
                gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
            )
            kind, own = accelerator.distributed_type, accelerator.device
            found = Processes(
                device=device,
                rank=accelerator.process_index,
                count=accelerator.num_processes,
                autocast=get_mixed_precision_context_manager(accelerator.native_amp),
                scaler=accelerator.scaler,
            )
        except (ImportError, OSError, RuntimeError, ValueError) as error:
            raise CausalFTError(
                f"the training could not be set up: {' '.join(str(error).split())}"
            ) from error
        finally:
            for state, before in held:
                state.clear()
                state.update(before)
    if kind in (DistributedType.DEEPSPEED, DistributedType.FSDP, DistributedType.MEGATRON_LM):
        raise CausalFTError(f"the training is data-parallel and cannot use {kind.value}; launch it without")
    if found.count > 1 and device.type == "cuda" and own.index != _index(device):
        raise CausalFTError(
            f"process {found.rank} has its model on {device}, but its own GPU is {own}; put it on"
            " causalft.models.tuning.processes.local_device()"
        )
    if found.count > 1 and not started:
        atexit.register(_leave)
    return found


def _index(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index


def _leave() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


def pick_device(device: str = "auto") -> torch.device:
    """Return the device of a name; ``auto`` is CUDA if available. Under a launcher ``cuda`` is this process's own GPU.

    Examples
    --------
    >>> pick_device("cpu")
    device(type='cpu')
    """
    if check_device(device) == "auto":
        return local_device()
    chosen = torch.device(device)
    if device == "cuda" and torch.cuda.is_available():
        return local_device()
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        there = torch.cuda.device_count()
        if not there:
            raise CausalFTError("no CUDA device is available here; use the device cpu")
        raise CausalFTError(f"there is no device {device} here; use cuda:0 to cuda:{there - 1}, or cpu")
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise CausalFTError("no MPS device is available here; use the device cpu")
    return chosen
