"""The table of tuners: what each trains, on which towers it is defined, and how it is put into one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from causalft.errors import CausalFTError
from causalft.models.tuning.towers import Tower, stage_channels
from causalft.models.tuning.tuners.adapters import ResidualBottleneck, add_behind, add_beside
from causalft.models.tuning.tuners.lora import add_lora
from causalft.models.tuning.tuners.release import (
    is_batch_norm,
    is_layer_norm,
    names_of_biases,
    names_of_norms,
    release,
)
from causalft.models.tuning.tuners.scale_shift import add_scale_shift
from causalft.models.tuning.tuners.visual_prompts import N_PROMPTS, Prompts

__all__ = ["TUNERS", "Tuner"]

Parameters = list[nn.Parameter]
Apply = Callable[[Tower, range, bool, int], Parameters]


@dataclass(frozen=True)
class Tuner:
    """One way to tune a tower.

    Attributes
    ----------
    trains : str
        In words.
    fits : callable
        Whether it is defined for a tower.
    apply : callable
        ``apply(tower, blocks, confined, bottleneck) -> parameters``: changes the tower and returns what is trained.
        ``blocks`` is the range of blocks to tune; ``confined`` whether nothing else may be touched.
    mergeable : bool
        Whether nothing is left to compute beside the backbone after
        :meth:`~causalft.models.tuning.tuners.insert.Tuned.merge`.
    width : bool
        Whether it uses the bottleneck: the width of an adapter, the rank of LoRA.
    """

    trains: str
    fits: Callable[[Tower], bool]
    apply: Apply
    mergeable: bool = True
    width: bool = False


def _any(tower: Tower) -> bool:
    return True


def _is_vit(tower: Tower) -> bool:
    try:
        return all(tower.parts(block) is not None for block in tower.blocks)
    except CausalFTError:
        return False


def _is_resnet(tower: Tower) -> bool:
    return tower.kind == "ResNet"


def _has_blocks(tower: Tower) -> bool:
    return _is_vit(tower) or _is_resnet(tower)


def _in(names: list[str], blocks: range, confined: bool) -> list[str]:
    """Of these names in the tower, those in the blocks (all, where not confined to them)."""
    places = tuple(f"blocks.{number}." for number in blocks)
    return [name for name in names if not confined or name.startswith(places)]


def _nothing(tower: Tower, blocks: range, confined: bool, bottleneck: int) -> Parameters:
    return []


def _full(tower: Tower, blocks: range, confined: bool, bottleneck: int) -> Parameters:
    return release(tower, _in([name for name, _ in tower.named_parameters()], blocks, confined))


def _bias(tower: Tower, blocks: range, confined: bool, bottleneck: int) -> Parameters:
    return release(tower, _in(names_of_biases(tower), blocks, confined))


def _norms(kind: str) -> Apply:
    return lambda tower, blocks, confined, bottleneck: release(
        tower, _in(names_of_norms(tower, kind), blocks, confined)
    )


def _adaptformer(tower: Tower, blocks: range, confined: bool, bottleneck: int) -> Parameters:
    adapters = add_beside([tower.blocks[number] for number in blocks], tower.width, bottleneck)
    return [p for adapter in adapters for part in (adapter.down, adapter.up) for p in part.parameters()]


def _adapter(tower: Tower, blocks: range, confined: bool, bottleneck: int) -> Parameters:
    found = [tower.blocks[number] for number in blocks]
    if not _is_resnet(tower):
        adapters = add_behind(found, tower.width, bottleneck)
    else:
        adapters = [
            ResidualBottleneck(stage_channels(stage), bottleneck, convolution=True) for stage in found
        ]
        for stage, adapter in zip(found, adapters, strict=True):
            stage.add_module("adapter", adapter)
    return [parameter for adapter in adapters for parameter in adapter.parameters()]


def _lora(part: str) -> Apply:
    def apply(tower: Tower, blocks: range, confined: bool, bottleneck: int) -> Parameters:
        inside = {
            id(layer)
            for number in blocks
            for layer in getattr(tower.parts(tower.blocks[number]), part).modules()
            if type(layer) is nn.Linear
        }
        return add_lora(tower, [name for name, m in tower.named_modules() if id(m) in inside], bottleneck)

    return apply


def _ssf(tower: Tower, blocks: range, confined: bool, bottleneck: int) -> Parameters:
    names = [
        name
        for name, module in tower.named_modules()
        if isinstance(module, nn.Conv2d)
        or is_layer_norm(module)
        or is_batch_norm(module)
        or (isinstance(module, nn.Linear) and name.startswith("blocks."))
    ]
    # An attention pool reads the weights of its layers past them, and is no linear layer, norm or convolution.
    return add_scale_shift(tower, _in([name for name in names if "pool" not in name], blocks, confined))


def _prompts(deep: bool) -> Apply:
    def apply(tower: Tower, blocks: range, confined: bool, bottleneck: int) -> Parameters:
        for (
            number
        ) in blocks:  # rotary positions leave the prefix out; the prompts have no place in the picture either
            attention: Any = tower.parts(tower.blocks[number]).attention
            if hasattr(attention, "num_prefix_tokens"):
                attention.num_prefix_tokens += N_PROMPTS
        tower.prompts = Prompts(
            blocks, tower.width, deep=deep, n_prefix=tower.n_prefix, patch_size=tower.patch_size
        )
        return [tower.prompts.tokens]

    return apply


def _has(is_norm: Callable[[nn.Module], bool]) -> Callable[[Tower], bool]:
    return lambda tower: any(is_norm(module) for module in tower.modules())


TUNERS: dict[str, Tuner] = {
    "zero-shot": Tuner("nothing, not even the head", _any, _nothing),
    "linear-probe": Tuner("the head only", _any, _nothing),
    # In the order in which they are put into a tower: later ones stand around, or leave out, what earlier ones brought.
    "ssf": Tuner("a scale and a shift behind every linear layer and norm", _has_blocks, _ssf),
    "lora": Tuner("low-rank updates of qkv and proj in attention", _is_vit, _lora("attention"), width=True),
    "lora-mlp": Tuner("low-rank updates of the linear layers of the MLP", _is_vit, _lora("mlp"), width=True),
    "adaptformer": Tuner("a bottleneck beside every MLP", _is_vit, _adaptformer, mergeable=False, width=True),
    "adapter": Tuner(
        "a bottleneck behind every MLP or ResNet stage", _has_blocks, _adapter, mergeable=False, width=True
    ),
    "vpt-shallow": Tuner("prompts before the first block", _is_vit, _prompts(deep=False), mergeable=False),
    "vpt-deep": Tuner("prompts before every block", _is_vit, _prompts(deep=True), mergeable=False),
    "bias": Tuner("every bias term", lambda tower: bool(names_of_biases(tower)), _bias),
    "layernorm": Tuner("scale and bias of every layer norm", _has(is_layer_norm), _norms("layernorm")),
    "batchnorm": Tuner("scale and bias of every batch norm", _has(is_batch_norm), _norms("batchnorm")),
    "last-K": Tuner("the last K blocks, or stages of a ResNet", _has_blocks, _full),
    "full": Tuner("the whole tower", _any, _full),
}
