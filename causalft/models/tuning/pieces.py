"""A batch on a CPU in pieces, each with a thread of its own.

An operation that two threads share ends when the slower one does. On two cores a ViT has some thousand of them, and
waits at each; pieces wait once, at the end. What a piece gives is what it gives alone.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial

import torch
from torch import Tensor

__all__ = ["in_pieces"]

_AT_ONCE = 4
"""At most: Python's lock is shared. With more threads to spend, each piece gets several."""


def in_pieces(run: Callable[[Tensor], Tensor], tokens: Tensor, together: int) -> Tensor:
    """Return ``run(tokens)``, a few images at a time, without gradients.

    Parameters
    ----------
    run : callable
        (n, n_tokens, d) to a tensor of n rows; no row depends on another. It is called by several threads at once.
    tokens : Tensor
        Shape (n, n_tokens, d), on a CPU.
    together : int
        At most this many tokens are in one piece (or those of one image).

    Examples
    --------
    >>> in_pieces(lambda x: x.sum((1, 2)), torch.ones(5, 2, 3), together=4).tolist()
    [6.0, 6.0, 6.0, 6.0, 6.0]
    """
    most = max(1, together // max(1, tokens.shape[1]))
    n_images, at_once = len(tokens), 1
    if not _must_stay_in_its_thread():
        threads = torch.get_num_threads()
        at_once = _at_once(threads, n_images)
    if at_once == 1:
        return torch.cat([run(piece) for piece in tokens.split(most)])
    n_pieces = at_once * -(-n_images // (most * at_once))  # so that no thread is idle at the end
    work = partial(_alone, run, threads // at_once, torch.is_inference_mode_enabled())
    try:
        with ThreadPoolExecutor(at_once, "piece") as pool:
            return torch.cat(list(pool.map(work, tokens.tensor_split(min(n_pieces, n_images)))))
    finally:
        torch.set_num_threads(threads)  # what threads that start later begin with


def _must_stay_in_its_thread() -> bool:
    """Whether something watches or changes the operations of this thread, and would not see those of others."""
    return (
        torch.compiler.is_compiling()
        or torch._C._is_tracing()
        or torch.is_autocast_enabled("cpu")
        or torch._C._len_torch_function_stack() > 0
        or torch._C._len_torch_dispatch_stack() > 0
        or not _threads_count_for_themselves()
    )


def _at_once(threads: int, n_images: int) -> int:
    """Pieces that run at once: as many as leave the fewest threads without work."""
    choices = range(1, max(1, min(_AT_ONCE, threads, n_images)) + 1)
    return max(choices, key=lambda n: (n * (threads // n), n))


def _alone(run: Callable[[Tensor], Tensor], share: int, inference: bool, piece: Tensor) -> Tensor:
    """In a thread of ``share`` threads, in the modes of the caller, which do not hold there by themselves."""
    torch.get_num_threads()  # a thread takes the number of all when it is first asked
    torch.set_num_threads(share)
    with torch.inference_mode(inference), torch.no_grad():
        return run(piece)


@cache
def _threads_count_for_themselves() -> bool:
    """Whether `torch.set_num_threads` in a thread concerns this thread: with OpenMP it does."""
    return "ATen parallel backend: OpenMP" in torch.__config__.parallel_info()
