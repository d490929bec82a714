"""A batch on a CPU in pieces, each with a thread of its own.

An operation that two threads share ends when the slower one does. On two cores a ViT has some thousand of them, and
waits at each; pieces wait once, at the end. What a piece gives is what it gives alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from causalft.models.tuning.heap import KEPT_OF_MIB, PASSING_OF_MIB, return_buffers

__all__ = ["in_pieces"]

Run = Callable[[Tensor], Tensor]

_AT_ONCE = 4
"""At most: Python's lock is shared. With more threads to spend, each piece gets several."""


def in_pieces(run: Run, tokens: Tensor, together: int, trained: Sequence[Tensor] = ()) -> Tensor:
    """Return ``run(tokens)``, a few images at a time.

    Parameters
    ----------
    run : callable
        (n, n_tokens, d) to a tensor of n rows; no row depends on another. It is called by several threads at once.
    tokens : Tensor
        Shape (n, n_tokens, d), on a CPU.
    together : int
        At most this many tokens are in one piece (or those of one image). A batch with gradients stays whole where
        there is one thread for it.
    trained : sequence of Tensor
        All leaves beside the tokens that ``run`` depends on and a gradient is wanted for; others get none. Gradients
        are sums over the pieces, in their order. One backward pass is possible, and no second derivative.

    Examples
    --------
    >>> in_pieces(lambda x: x.sum((1, 2)), torch.ones(5, 2, 3), together=4).tolist()
    [6.0, 6.0, 6.0, 6.0, 6.0]
    >>> factor = torch.tensor(2.0, requires_grad=True)
    >>> in_pieces(lambda x: factor * x.sum((1, 2)), torch.ones(5, 2, 3), 4, [factor]).sum().backward()
    >>> factor.grad
    tensor(30.)
    """
    n_images, at_once = len(tokens), 1
    if not _must_stay_in_its_thread():
        at_once = _at_once(torch.get_num_threads(), n_images)
    most = max(1, together // max(1, tokens.shape[1]))
    if torch.is_grad_enabled() and (tokens.requires_grad or trained):
        if at_once == 1 or _saved_tensors_are_watched():
            return run(tokens)
        return_buffers(KEPT_OF_MIB)
        return _WithGradients.apply(tokens, run, most, at_once, *trained)
    if at_once == 1:
        return torch.cat([run(piece) for piece in tokens.split(most)])
    return_buffers(PASSING_OF_MIB)
    return torch.cat(list(_at_the_same_time(run, _cut(tokens, most, at_once), at_once=at_once)))


def _cut(tokens: Tensor, most: int, at_once: int) -> tuple[Tensor, ...]:
    """Pieces of ``most`` images at most, so many that no thread is idle at the end."""
    n_pieces = at_once * -(-len(tokens) // (most * at_once))
    return tokens.tensor_split(min(n_pieces, len(tokens)))


def _at_the_same_time(work: Callable[..., Any], *columns: Iterable[Any], at_once: int) -> Iterator[Any]:
    """``map(work, *columns)`` by threads that share the cores, in the modes of the caller."""
    threads = torch.get_num_threads()
    inference, gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def alone(*given: Any) -> Any:
        torch.get_num_threads()  # a thread takes the number of all when it is first asked
        torch.set_num_threads(max(1, threads // at_once))
        with torch.inference_mode(inference), torch.set_grad_enabled(gradients):
            return work(*given)

    try:
        with ThreadPoolExecutor(at_once, "piece") as pool:
            yield from pool.map(alone, *columns)
    finally:
        torch.set_num_threads(threads)  # what threads that start later begin with


class _WithGradients(torch.autograd.Function):
    """Keeps the graph of each piece, and goes back through it in a thread."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, run: Run, most: int, at_once: int, *trained: Tensor) -> Tensor:
        wanted = ctx.needs_input_grad[0]
        pieces = [part.detach().requires_grad_(wanted) for part in _cut(tokens, most, at_once)]
        with torch.enable_grad():
            outputs = list(_at_the_same_time(run, pieces, at_once=at_once))
        found = torch.cat([output.detach() for output in outputs])
        if outputs[0].requires_grad:
            ctx.pieces, ctx.outputs, ctx.trained, ctx.at_once = pieces, outputs, trained, at_once
        else:  # nothing that is trained was used
            ctx.mark_non_differentiable(found)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        pieces, outputs, ctx.pieces, ctx.outputs = ctx.pieces, ctx.outputs, None, None
        if outputs is None:
            raise RuntimeError(
                "the gradients of a batch in pieces can be computed once; call the model again"
            )

        return_buffers(PASSING_OF_MIB)

        def back(piece: Tensor, output: Tensor, of_output: Tensor) -> tuple[Tensor | None, ...]:
            found = torch.autograd.grad(
                output,
                [piece, *ctx.trained] if piece.requires_grad else ctx.trained,
                of_output,
                allow_unused=True,
            )
            return found if piece.requires_grad else (None, *found)

        parts = gradient.tensor_split(len(pieces))
        of_pieces: list[Any] = []
        sums: list[Tensor | None] = [None] * len(ctx.trained)
        together = map if _must_stay_in_its_thread() else partial(_at_the_same_time, at_once=ctx.at_once)
        for of_piece, *of_trained in together(back, pieces, outputs, parts):
            of_pieces.append(of_piece)
            sums = [
                b if a is None else a if b is None else a + b for a, b in zip(sums, of_trained, strict=True)
            ]
        return (None if of_pieces[0] is None else torch.cat(of_pieces), None, None, None, *sums)


def _must_stay_in_its_thread() -> bool:
    """Whether something watches or changes the operations of this thread, and would not see those of others."""
    return (
        torch.compiler.is_compiling()
        or torch._C._is_tracing()
        or torch.is_autocast_enabled("cpu")
        or torch._C._len_torch_function_stack() > 0
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._autograd._profiler_enabled()
        or not _threads_count_for_themselves()
    )


def _saved_tensors_are_watched() -> bool:
    """Whether hooks of this thread take what is kept for a backward; before PyTorch 2.8 nobody can tell."""
    top = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
    return top is None or top(False) is not None


def _at_once(threads: int, n_images: int) -> int:
    """Pieces that run at once: as many as leave the fewest threads without work."""
    choices = range(1, max(1, min(_AT_ONCE, threads, n_images)) + 1)
    return max(choices, key=lambda n: (n * (threads // n), n))


@cache
def _threads_count_for_themselves() -> bool:
    """Whether `torch.set_num_threads` in a thread concerns this thread: with OpenMP it does."""
    return "ATen parallel backend: OpenMP" in torch.__config__.parallel_info()
