"""Which precision a tower runs in: fp32, or bfloat16 in its frozen layers where this machine is faster with it."""

from __future__ import annotations

import time
from functools import cache

import torch
from torch import nn

from causalft.errors import CausalFTError, nearest
from causalft.models.tuning.bf16 import (
    FrozenLinear,
    FrozenMLP,
    FrozenPatches,
    TrainedLinear,
    attention_bf16,
    has_bf16_matrices,
    return_large_buffers,
)
from causalft.models.tuning.choices import PRECISIONS, Precision
from causalft.models.tuning.families import OPEN_CLIP_RESNET, OPEN_CLIP_TIMM, TIMM_RESNET, is_a
from causalft.models.tuning.towers import OpenedAttention, Tower

__all__ = [
    "PRECISIONS",
    "Precision",
    "choose_precision",
    "lay_out_convolutions",
    "lower_frozen_layers",
    "settle_precision",
]

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


def lay_out_convolutions(visual: nn.Module | None) -> None:
    """Put the weights of a ResNet in channels-last order, in place: its convolutions are faster so.

    What it computes is the same up to the order of sums. Call it before a tower is opened from it: all share one copy.
    """
    trunk = getattr(visual, "trunk", None) if is_a(visual, OPEN_CLIP_TIMM) else visual
    if visual is not None and is_a(trunk, OPEN_CLIP_RESNET, TIMM_RESNET):
        visual.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def settle_precision(tower: Tower, wanted: str, device: torch.device) -> tuple[str, int]:
    """Choose the precision of a tower and lower its frozen layers where that is bf16 on a CPU.

    Call it after a tuner.

    Returns
    -------
    (str, int)
        The precision in use (fp32 where nothing can be lowered: only a ViT can), and how many layers were.
    """
    chosen = choose_precision(wanted, tower.width, device)
    if chosen != "bf16" or device.type != "cpu":
        return chosen, 0
    n_lowered = lower_frozen_layers(tower)
    return "fp32" if tower.dtype is None else "bf16", n_lowered


def lower_frozen_layers(tower: Tower) -> int:
    """Put bfloat16 layers in the place of frozen linear layers, patch embedding and attention; return how many.

    Call it after a tuner. From the first block to the last activations are bfloat16. Trained weights stay as they are,
    in fp32; linear ones compute in bfloat16, as under autocast. A tower that is no ViT is left alone: 0.

    Parameters
    ----------
    tower : Tower
        Changed in place; the tower that it was opened from is not.
    """
    if not tower.kind.endswith("ViT"):
        return 0
    return_large_buffers()
    tower.dtype = torch.bfloat16
    n_lowered = _lower_patches(tower.visual)
    for block in tower.blocks:
        for module in list(block.modules()):
            if isinstance(module, OpenedAttention):
                module.core = attention_bf16
            for name, child in list(module.named_children()):
                mlp = _frozen_mlp(child)
                if mlp is not None:
                    setattr(module, name, mlp)
                    n_lowered += 2
        for module in list(block.modules()):
            n_lowered += _lower_children(module)
    return n_lowered


def _lower_patches(visual: nn.Module) -> int:
    """Lower the embedding of the patches, where it is a frozen convolution whose kernels lie side by side."""
    for place, name in (("", "conv1"), ("patch_embed", "proj"), ("trunk.patch_embed", "proj")):
        try:
            parent = visual.get_submodule(place)
        except AttributeError:
            continue
        layer = getattr(parent, name, None)
        if not isinstance(layer, nn.Conv2d) or not _is_frozen(layer):
            continue
        plain = layer.groups == 1 and layer.dilation == (1, 1) and layer.padding in ((0, 0), "valid")
        if plain and layer.kernel_size == layer.stride:
            setattr(parent, name, FrozenPatches(layer))
            return 1
    return 0


def _lower_children(module: nn.Module) -> int:
    lowered = 0
    for name, child in list(module.named_children()):
        if type(child) is not nn.Linear:
            continue
        if _is_frozen(child):
            setattr(module, name, FrozenLinear(child))
            lowered += 1
        else:
            child.__class__ = (
                TrainedLinear  # the same module, parameters and names; only its forward is another
            )
    return lowered


def _is_frozen(module: nn.Module) -> bool:
    return not any(parameter.requires_grad for parameter in module.parameters())


def _frozen_mlp(module: nn.Module) -> FrozenMLP | None:
    """The module in one piece, if it is a frozen MLP of two linear layers with GELU or quick-GELU and nothing else."""
    layers = [child for child in module.children() if not isinstance(child, nn.Identity | nn.Dropout)]
    if len(layers) != 3 or not _is_frozen(module) or [type(layers[0]), type(layers[2])] != [nn.Linear] * 2:
        return None
    activation = layers[1]
    if isinstance(activation, nn.GELU) and activation.approximate == "none":
        kind = "gelu"
    elif type(activation).__name__ == "QuickGELU":
        kind = "quick_gelu"
    else:
        return None
    first, last = layers[0], layers[2]
    assert isinstance(first, nn.Linear) and isinstance(last, nn.Linear)
    return FrozenMLP(FrozenLinear(first), FrozenLinear(last), kind)
