"""WiSE-FT: interpolation between the zero-shot and the tuned weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from causalft.errors import CausalFTError

__all__ = ["evaluate_interpolations", "interpolate"]

T = TypeVar("T")


def interpolate(
    zero_shot: Mapping[str, Tensor], tuned: Mapping[str, Tensor], alpha: float
) -> dict[str, Tensor]:
    """Return the state ``(1 - alpha) * zero_shot + alpha * tuned``, the head included.

    Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022. Exact at both ends. It is meant for
    weights that are used directly (full, bias, LayerNorm, last blocks, heads). Of a product such as LoRA's, both
    factors are interpolated and not their product: interpolate the merged weights for that.

    Parameters
    ----------
    zero_shot, tuned : mapping of str to Tensor
        Two states with the same names and shapes: before training and after.
    alpha : float
        In [0, 1]: 0 is the zero-shot model, 1 the tuned one.

    Returns
    -------
    dict
        New tensors, of the type and on the device of the tuned ones. Integers (counters) are those of the nearer end.

    Raises
    ------
    CausalFTError
        If alpha lies outside [0, 1], or the names or shapes of the states differ.

    Examples
    --------
    >>> interpolate({"w": torch.zeros(2)}, {"w": torch.ones(2)}, 0.25)["w"].tolist()
    [0.25, 0.25]
    """
    if not (isinstance(alpha, int | float) and math.isfinite(alpha) and 0 <= alpha <= 1):
        raise CausalFTError(f"alpha is {alpha}; give a number from 0 (zero-shot) to 1 (tuned)")
    _check_match(zero_shot, tuned)
    mixed: dict[str, Tensor] = {}
    for name, end in tuned.items():
        start = zero_shot[name].to(end.device)
        if end.is_floating_point():
            # in single precision at least: half precision would round the way
            wide = torch.promote_types(torch.promote_types(start.dtype, end.dtype), torch.float32)
            mixed[name] = torch.lerp(start.detach().to(wide), end.detach().to(wide), alpha).to(end.dtype)
        else:
            mixed[name] = (end if alpha >= 0.5 else start).detach().clone()
    return mixed


def evaluate_interpolations(
    zero_shot: Mapping[str, Tensor],
    tuned: Mapping[str, Tensor],
    evaluate: Callable[[dict[str, Tensor]], T],
    alphas: Sequence[float] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
) -> list[tuple[float, T]]:
    """Evaluate the models on the line from the zero-shot state to the tuned one.

    Choose alpha on validation data, never on the test set.

    Parameters
    ----------
    zero_shot, tuned : mapping of str to Tensor
    evaluate : callable
        Gets the state of one alpha and returns what you want to know: an accuracy, a table, ...
    alphas : sequence of float
        Each in [0, 1].

    Returns
    -------
    list of (alpha, result)
        In the order of ``alphas``.

    Raises
    ------
    CausalFTError
        As :func:`interpolate`, and if there is no alpha.

    Examples
    --------
    >>> line = evaluate_interpolations(
    ...     {"w": torch.tensor(0.0)}, {"w": torch.tensor(4.0)}, lambda state: state["w"].item(), [0.0, 0.5, 1.0]
    ... )
    >>> line
    [(0.0, 0.0), (0.5, 2.0), (1.0, 4.0)]
    """
    if len(alphas) == 0:
        raise CausalFTError("there is no alpha to evaluate; give one or more from 0 to 1")
    return [(float(alpha), evaluate(interpolate(zero_shot, tuned, alpha))) for alpha in alphas]


def _check_match(zero_shot: Mapping[str, Tensor], tuned: Mapping[str, Tensor]) -> None:
    for here, there, owner in ((zero_shot, tuned, "tuned"), (tuned, zero_shot, "zero-shot")):
        missing = [name for name in here if name not in there]
        if missing:
            raise CausalFTError(
                f"the {owner} state has no tensor {missing[0]!r} ({len(missing)} missing); "
                "only two states of one model can be interpolated"
            )
    for name, end in tuned.items():
        start = zero_shot[name]
        if start.shape != end.shape:
            raise CausalFTError(
                f"{name!r} has the shape {tuple(start.shape)} in the zero-shot state and {tuple(end.shape)} in the "
                "tuned one; only two states of one model can be interpolated"
            )
        if start.is_floating_point() != end.is_floating_point():
            raise CausalFTError(
                f"{name!r} is {start.dtype} in the zero-shot state and {end.dtype} in the tuned one"
            )
