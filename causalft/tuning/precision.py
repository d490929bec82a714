"""Which precision a tower runs in: fp32, or bfloat16 in its frozen layers where this machine is faster with it."""

from __future__ import annotations

import time
from functools import cache
from typing import Any, Literal

import torch
from torch import nn

from causalft.errors import CausalFTError, nearest
from causalft.tuning.attention import OpenedAttention
from causalft.tuning.bf16 import FrozenLinear, attention_bf16, has_bf16_matrices
from causalft.tuning.towers import Tower

__all__ = ["PRECISIONS", "Precision", "choose_precision", "lower_frozen_layers"]

Precision = Literal["auto", "fp32", "bf16", "fp16"]
PRECISIONS: tuple[str, ...] = ("auto", "fp32", "bf16", "fp16")

WORTH = 1.5
"""``auto`` takes bf16 on a CPU if a layer of the tower's size is this many times faster in it."""

LEAST_WIDTH = 256
"""Narrower towers are not measured: their layers gain little, and a clock on them is too noisy to decide by."""


def choose_precision(wanted: str, width: int, device: torch.device | str = "cpu") -> str:
    """Return the precision to run a tower in.

    Parameters
    ----------
    wanted : {"auto", "fp32", "bf16", "fp16"}
        ``auto`` on a CPU: bf16 if the processor has matrix units for it and one linear layer of this width, timed once
        in a process, is `WORTH` times faster with them. On CUDA: bf16 where the device has it, else fp16.
    width : int
        Of the tower's tokens.
    device : torch.device or str

    Returns
    -------
    {"fp32", "bf16", "fp16"}

    Raises
    ------
    CausalFTError
        For an unknown precision, or fp16 on a CPU.

    Examples
    --------
    >>> choose_precision("auto", width=96)
    'fp32'
    """
    if wanted not in PRECISIONS:
        raise CausalFTError(f"no precision {wanted!r}; {nearest(wanted, PRECISIONS)}")
    kind = torch.device(device).type
    if wanted == "fp16" and kind == "cpu":
        raise CausalFTError("fp16 is for CUDA; on a CPU use --precision bf16, fp32 or auto")
    if wanted != "auto":
        return wanted
    if kind == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    if kind != "cpu" or width < LEAST_WIDTH or not has_bf16_matrices():
        return "fp32"
    return "bf16" if speedup(width) >= WORTH else "fp32"


@cache
def speedup(width: int, rows: int = 512) -> float:
    """How many times faster one frozen layer (width to 4 width) is in bf16 than in fp32 on this CPU, measured."""
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        linear = nn.Linear(width, 4 * width)
        x = torch.randn(rows, width)
        fast = FrozenLinear(linear)
        return _seconds(linear, x) / _seconds(fast, x)


def _seconds(layer: nn.Module, x: torch.Tensor, repeats: int = 3) -> float:
    layer(x)
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        layer(x)
        taken.append(time.perf_counter() - started)
    return min(taken)


def lower_frozen_layers(tower: Tower) -> int:
    """Put bfloat16 layers in the place of the frozen linear layers and of the attention between them; return how many.

    Call it after a tuner: whatever is trained stays as it is, in fp32. A tower without transformer blocks has few
    linear layers, and those stay too.

    Parameters
    ----------
    tower : Tower
        Changed in place; the tower that it was opened from is not.
    """
    n_lowered = 0
    for block in tower.blocks:
        for module in list(block.modules()):
            if isinstance(module, OpenedAttention):
                module.core = attention_bf16
            n_lowered += _lower_children(module)
    return n_lowered


def _lower_children(module: nn.Module) -> int:
    children: dict[str, Any] = dict(module.named_children())
    lowered = 0
    for name, child in children.items():
        if type(child) is not nn.Linear:
            continue
        if any(p.requires_grad for p in child.parameters()):
            child.register_forward_pre_hook(_as_weight)  # it may stand behind a lowered layer
            continue
        after = _activation_after(children, name)
        setattr(module, name, FrozenLinear(child, after[1] if after else "none"))
        if after:
            setattr(module, after[0], nn.Identity())
        lowered += 1
    return lowered


def _as_weight(layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (inputs[0].to(layer.weight.dtype), *inputs[1:])  # type: ignore[arg-type]


def _activation_after(children: dict[str, Any], name: str) -> tuple[str, str] | None:
    """The activation that follows the first layer of an MLP: (its name, its kind); None if there is none to take in."""
    if name not in ("c_fc", "fc1"):
        return None
    for other in ("gelu", "act"):
        child = children.get(other)
        if isinstance(child, nn.GELU) and child.approximate == "none":
            return other, "gelu"
        if type(child).__name__ == "QuickGELU":
            return other, "quick_gelu"
    return None
