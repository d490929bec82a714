"""What runs where: tensors on their way to a device, half precision on a GPU."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

__all__ = ["autocast", "has_bf16", "to_device"]


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device; the processor does not wait for what a GPU still has to do.

    A plain ``tensor.to(device)`` waits for all work in the queue, so that the next batch could not be read meanwhile.

    Examples
    --------
    >>> to_device(torch.arange(3), torch.device("cpu")).tolist()
    [0, 1, 2]
    """
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    # The copy leaves from page-locked memory, which PyTorch keeps and uses again.
    pinned = tensor.pin_memory() if torch.cuda.is_available() else tensor
    return pinned.to(device, non_blocking=True)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Half precision on a GPU, or full precision inside of it; on a CPU the layers have their own.

    Parameters
    ----------
    device : torch.device
    precision : {"fp32", "bf16", "fp16", "int8"}
        ``int8`` is for a CPU alone.

    Examples
    --------
    >>> with autocast(torch.device("cpu"), "bf16"):
    ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
    torch.float32
    """
    if device.type == "cpu":
        return nullcontext()
    if precision == "fp32":
        return torch.autocast(device.type, enabled=False)
    return torch.autocast(device.type, torch.bfloat16 if precision == "bf16" else torch.float16)


def has_bf16(device: torch.device) -> bool:
    """Whether a GPU multiplies matrices in bfloat16; older ones emulate it, many times slower."""
    with torch.cuda.device(device):
        return torch.cuda.is_bf16_supported(including_emulation=False)
