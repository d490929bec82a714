"""The precision of a tower: fp32, bfloat16 in its frozen layers where this machine is faster with it, or int8.

Trained weights and their gradients stay in fp32.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

from causalft.errors import CausalFTError, nearest
from causalft.models.tuning.attention import OpenedAttention
from causalft.models.tuning.choices import PRECISIONS
from causalft.models.tuning.devices import has_bf16
from causalft.models.tuning.families import Family, is_a, trunk_of
from causalft.models.tuning.frozen_layers import (
    FrozenLinear,
    FrozenMLP,
    FrozenPatches,
    Product,
    TrainedLinear,
    attention_bf16,
    attention_fp32,
    has_bf16_matrices,
)
from causalft.models.tuning.heap import PASSING_OF_MIB, return_buffers
from causalft.models.tuning.int8 import Int8Linear, has_int8, require_int8
from causalft.models.tuning.towers import Tower

__all__ = [
    "choose_precision",
    "int8_pays",
    "lay_out_convolutions",
    "lower_frozen_layers",
    "round_frozen_layers",
    "settle_precision",
]

WORTH = 1.5
"""``auto`` takes bf16 on a CPU if a layer of the tower's size is this many times faster in it."""

_A_KIND = {"cpu": "a CPU", "mps": "an Apple GPU"}

LEAST_WIDTH = 256
"""Narrower towers are not measured: their layers gain little, and a clock on them is too noisy to decide by."""


def choose_precision(wanted: str, width: int, device: torch.device | str = "cpu") -> str:
    """Return the precision to run a tower in.

    Parameters
    ----------
    wanted : {"auto", "fp32", "bf16", "fp16", "int8"}
        ``int8`` is for a CPU. ``auto`` does not take it here: whether its results agree is known only on images
        (:func:`causalft.pipelines.workflows.int8_agreement.int8_if_alike`).
        ``auto`` on a CPU: bf16 if the processor has matrix units for it and one linear layer of this width, timed once
        per process, is `WORTH` times faster. On CUDA: bf16 if supported, else fp16.
    width : int
        Of the tower's tokens.
    device : torch.device or str

    Returns
    -------
    {"fp32", "bf16", "fp16", "int8"}

    Raises
    ------
    CausalFTError
        For an unknown precision, fp16 without CUDA, bf16 on a GPU without it, int8 on a GPU or without the layers.

    Examples
    --------
    >>> choose_precision("auto", width=96)
    'fp32'
    """
    if wanted not in PRECISIONS:
        raise CausalFTError(f"no precision {wanted!r}; {nearest(wanted, PRECISIONS)}")
    kind = torch.device(device).type
    if wanted == "fp16" and kind != "cuda":
        raise CausalFTError(
            f"fp16 is for CUDA; on {_A_KIND.get(kind, kind)} use --precision bf16, fp32 or auto"
        )
    if wanted == "int8":
        if kind != "cpu":
            raise CausalFTError("int8 is for a CPU; on a GPU use --precision auto, or add --device cpu")
        require_int8()
    if kind == "cuda" and wanted in ("auto", "bf16"):
        fast = has_bf16(torch.device(device))
        if wanted == "bf16" and not fast:
            raise CausalFTError(f"the GPU {device} has no bf16; use --precision fp16, fp32 or auto")
        return "bf16" if fast else "fp16"
    if wanted != "auto":
        return wanted
    if kind != "cpu" or width < LEAST_WIDTH or not has_bf16_matrices():
        return "fp32"
    return "bf16" if speedup(width) >= WORTH else "fp32"


def int8_pays(width: int, device: torch.device | str = "cpu") -> bool:
    """Whether a frozen layer of this width, timed once per process, is `WORTH` times faster in int8 than in fp32.

    Never on a GPU, for narrow towers, or where PyTorch has no int8 layers.

    Examples
    --------
    >>> int8_pays(width=96)
    False
    """
    if torch.device(device).type != "cpu" or width < LEAST_WIDTH or not has_int8():
        return False
    return int8_speedup(width) >= WORTH


@cache
def speedup(width: int) -> float:
    """Measured speed-up of one frozen layer (width to 4 width) in bf16 over fp32 on this CPU."""
    return _speedup(FrozenLinear, width)


@cache
def int8_speedup(width: int) -> float:
    """The same in int8, with the rounding of what enters the layer."""
    return _speedup(Int8Linear, width)


def _speedup(lowered: Callable[[nn.Linear], nn.Module], width: int, rows: int = 512) -> float:
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        linear = nn.Linear(width, 4 * width)
        x = torch.randn(rows, width)
        fast = lowered(linear)
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
    """Store the weights of a ResNet channels-last, in place, which is faster.

    Results agree up to the order of sums. Call it before a tower is opened from it.
    """
    if visual is not None and is_a(trunk_of(visual), Family.OPEN_CLIP_RESNET, Family.TIMM_RESNET):
        visual.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def settle_precision(tower: Tower, wanted: str, device: torch.device) -> tuple[str, int]:
    """Choose the precision of a tuned tower, and lower its frozen layers if that is bf16 or int8 on a CPU.

    Returns
    -------
    (str, int)
        The precision in use (fp32 if nothing can be lowered: only a ViT can), and the number of lowered layers.
    """
    chosen = choose_precision(wanted, tower.width, device)
    if chosen not in ("bf16", "int8") or device.type != "cpu":
        return chosen, 0
    if chosen == "int8":
        n_lowered = round_frozen_layers(tower)
        return "int8" if n_lowered else "fp32", n_lowered
    n_lowered = lower_frozen_layers(tower)
    return "fp32" if tower.dtype is None else "bf16", n_lowered


def lower_frozen_layers(tower: Tower) -> int:
    """Replace frozen linear layers, patch embedding and attention by bfloat16 ones; return how many.

    Call it after a tuner. Activations become bfloat16; trained weights stay in fp32 and compute in bfloat16, as under
    autocast. A tower that is no ViT is left alone.

    Parameters
    ----------
    tower : Tower
        Changed in place, without changing the original model.
    """
    if not tower.kind.endswith("ViT"):
        return 0
    return_buffers(PASSING_OF_MIB)
    tower.dtype, tower.in_pieces = torch.bfloat16, True
    n_lowered = _lower_patches(tower.visual)
    for module in list(tower.blocks.modules()):
        if isinstance(module, OpenedAttention):
            module.core = attention_bf16
    n_lowered += _replace_mlps(tower, lambda first, last: (FrozenLinear(first), FrozenLinear(last)))
    n_lowered += _replace_linear(tower, FrozenLinear)
    for module in tower.blocks.modules():
        if type(module) is nn.Linear:
            module.__class__ = TrainedLinear  # same parameters and names, another forward
    return n_lowered


def round_frozen_layers(tower: Tower, *, fp32_attention: bool = False) -> int:
    """Replace the frozen linear layers of the blocks by int8 ones; return how many.

    Call it after a tuner. Activations between the layers, patch embedding and everything that is trained stay in fp32.
    So does attention, which keeps bfloat16 for its backward, but where ``auto`` would take bfloat16: there it takes
    that. A tower that is no ViT is left alone.

    Parameters
    ----------
    tower : Tower
        On a CPU; changed in place, without changing the original model.
    fp32_attention : bool
        Attention stays in fp32 everywhere, as in an exported file.
    """
    if not tower.kind.endswith("ViT"):
        return 0
    return_buffers(PASSING_OF_MIB)
    tower.in_pieces = True
    lower = not fp32_attention and choose_precision("auto", tower.width) == "bf16"
    core = _attention_in_bf16 if lower else attention_fp32
    for module in tower.blocks.modules():
        if isinstance(module, OpenedAttention):
            module.core = core
    n_rounded = _replace_mlps(tower, lambda first, last: (Int8Linear(first), Int8Linear(last)))
    return n_rounded + _replace_linear(tower, Int8Linear)


def _attention_in_bf16(qkv: Tensor, n_heads: int, n_queries: int | None = None) -> Tensor:
    return attention_bf16(qkv, n_heads, n_queries).float()


def _replace_mlps(tower: Tower, replaced: Callable[[nn.Linear, nn.Linear], tuple[Product, Product]]) -> int:
    """Put a FrozenMLP in the place of every frozen MLP of two layers; return the number of layers."""
    n_layers = 0
    for module in list(tower.blocks.modules()):
        for name, child in list(module.named_children()):
            found = _frozen_mlp(child)
            if found is not None:
                first, last, activation = found
                setattr(module, name, FrozenMLP(*replaced(first, last), activation))
                n_layers += 2
    return n_layers


def _replace_linear(tower: Tower, replaced: Callable[[nn.Linear], nn.Module]) -> int:
    """Replace the other frozen linear layers; return how many."""
    n_layers = 0
    for module in list(tower.blocks.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear and _is_frozen(child):
                setattr(module, name, replaced(child))
                n_layers += 1
    return n_layers


def _lower_patches(visual: nn.Module) -> int:
    """Lower the patch embedding, if it is a frozen convolution with adjacent kernels."""
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


def _is_frozen(module: nn.Module) -> bool:
    return not any(parameter.requires_grad for parameter in module.parameters())


def _frozen_mlp(module: nn.Module) -> tuple[nn.Linear, nn.Linear, str] | None:
    """The layers and the activation, if the module is a frozen MLP of two linear layers with GELU or quick-GELU."""
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
    return first, last, kind
