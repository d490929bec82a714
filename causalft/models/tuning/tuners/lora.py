"""LoRA: low-rank updates of the linear layers of attention or MLP, by the ``peft`` library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from causalft.models.tuning.choices import Tuner
from causalft.models.tuning.towers import Tower
from causalft.models.tuning.tuners import is_vit, need_exact_weights, replace_module

__all__ = ["add_lora", "add_lora_to_attention", "add_lora_to_mlp", "merge_lora"]


def add_lora(tower: Tower, layers: Sequence[str], rank: int) -> list[nn.Parameter]:
    """Give the linear layers of these names an update ``up(down(x))`` of rank ``rank`` that starts at zero.

    Its factor is 1 (``lora_alpha = r``; Hu et al., "LoRA", ICLR 2022, Section 4.1). Draws from torch's default
    generator.

    Parameters
    ----------
    tower : Tower
        Changed in place; every other parameter is frozen.
    layers : sequence of str
        Names of ``torch.nn.Linear`` in the tower.
    rank : int
    """
    # Late: seconds of import that other tuners need not pay.
    from peft import LoraConfig, inject_adapter_in_model

    before = {id(parameter) for parameter in tower.parameters()}
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(layers))
    inject_adapter_in_model(config, tower)
    del tower.peft_config  # the book-keeping of peft; a second injection would take it for a second adapter
    return [parameter for parameter in tower.parameters() if id(parameter) not in before]


def add_lora_to_attention(tower: Tower, blocks: range, confined: bool, bottleneck: int) -> list[nn.Parameter]:
    """Update the linear layers of attention."""
    return add_lora(tower, _linear_layers(tower, blocks, "attention"), bottleneck)


def add_lora_to_mlp(tower: Tower, blocks: range, confined: bool, bottleneck: int) -> list[nn.Parameter]:
    """Update the linear layers of the MLP."""
    return add_lora(tower, _linear_layers(tower, blocks, "mlp"), bottleneck)


def _linear_layers(tower: Tower, blocks: range, part: str) -> list[str]:
    inside = {
        id(layer)
        for number in blocks
        for layer in getattr(tower.parts(tower.blocks[number]), part).modules()
        if type(layer) is nn.Linear
    }
    return [name for name, module in tower.named_modules() if id(module) in inside]


def merge_lora(tower: Tower) -> bool:
    """Add every update to new weights of the tower, and remove it.

    Raises
    ------
    CausalFTError
        If the layers are in bfloat16, without exact weights to add to.
    """
    from peft.tuners.lora import LoraLayer

    for name, module in list(tower.named_modules()):
        if isinstance(module, LoraLayer):
            layer: Any = module
            need_exact_weights(layer.get_base_layer(), "LoRA")
            # "safe" makes a new tensor: the old one is shared with the frozen model.
            layer.merge(safe_merge=True)
            replace_module(tower, name, layer.get_base_layer())
    return True


LORA = Tuner(
    name="lora",
    trains="low-rank updates of `qkv` and `proj` in attention",
    order=20,
    fits=is_vit,
    apply=add_lora_to_attention,
    merge=merge_lora,
    uses_bottleneck=True,
    towers="ViT",
    source="Hu et al., ICLR 2022",
)
LORA_MLP = Tuner(
    name="lora-mlp",
    trains="low-rank updates of the linear layers of the MLP",
    order=21,
    fits=is_vit,
    apply=add_lora_to_mlp,
    merge=merge_lora,
    uses_bottleneck=True,
    towers="ViT",
    source="Hu et al., ICLR 2022",
)
