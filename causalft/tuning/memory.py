"""Whether an error means that a batch is too large for memory, and how a batch is cut into parts that fit."""

from __future__ import annotations

import gc

import torch
from torch import Tensor

__all__ = ["cut", "free_memory", "out_of_memory"]


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python, of a GPU or of PyTorch's CPU allocator says that memory ran out.

    Examples
    --------
    >>> out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"))
    True
    >>> out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    False
    """
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    from accelerate.utils.memory import should_reduce_batch_size

    # The allocator's message on Windows is another one.
    return isinstance(error, RuntimeError) and (
        should_reduce_batch_size(error) or "DefaultCPUAllocator: not enough memory" in str(error)
    )


def free_memory() -> None:
    """Give back what the failed try held; call it when its exception is gone, for that holds its tensors."""
    from accelerate.utils.memory import clear_device_cache

    gc.collect()
    clear_device_cache()


def cut(indices: Tensor, parts: int) -> tuple[Tensor, ...]:
    """Cut a batch into at most so many micro-batches, none empty, whose sizes differ by one at most.

    Examples
    --------
    >>> [part.tolist() for part in cut(torch.arange(5), 2)]
    [[0, 1, 2], [3, 4]]
    >>> len(cut(torch.arange(3), 8)), len(cut(torch.arange(0), 2))
    (3, 0)
    """
    if len(indices) == 0:
        return ()
    return (indices,) if parts == 1 else indices.tensor_split(min(parts, len(indices)))
