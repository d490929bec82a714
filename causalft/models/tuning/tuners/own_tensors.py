"""Tuners that add nothing: they train none, some or all of the tensors that the backbone has."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import nn

from causalft.models.tuning.choices import Tuner
from causalft.models.tuning.towers import Tower
from causalft.models.tuning.tuners import any_tower, has_blocks, names_in

__all__ = ["is_batch_norm", "is_layer_norm", "release"]


def release(tower: Tower, names: Iterable[str]) -> list[nn.Parameter]:
    """Replace these parameters by trainable copies; skip those that are trained already.

    Parameters
    ----------
    tower : Tower
        Changed in place; the frozen model keeps its tensors.
    names : iterable of str

    Returns
    -------
    list of torch.nn.Parameter
        The new ones.
    """
    released = []
    for name in names:
        old = tower.get_parameter(name)
        if old.requires_grad:
            continue
        parent, _, leaf = name.rpartition(".")
        new = nn.Parameter(old.detach().clone())
        setattr(tower.get_submodule(parent), leaf, new)
        released.append(new)
    return released


def is_layer_norm(module: nn.Module) -> bool:
    """Whether a module is a layer norm or an RMS norm."""
    return isinstance(module, (nn.LayerNorm, nn.RMSNorm)) or "RmsNorm" in type(module).__name__


def is_batch_norm(module: nn.Module) -> bool:
    """Whether a module is a batch norm."""
    return isinstance(module, nn.modules.batchnorm._BatchNorm)


Parameters = list[nn.Parameter]


def train_nothing(tower: Tower, blocks: range, confined: bool, bottleneck: int) -> Parameters:
    """Leave the tower frozen."""
    return []


def train_all(tower: Tower, blocks: range, confined: bool, bottleneck: int) -> Parameters:
    """Train every parameter."""
    return release(tower, names_in([name for name, _ in tower.named_parameters()], blocks, confined))


def train_biases(tower: Tower, blocks: range, confined: bool, bottleneck: int) -> Parameters:
    """Train every bias, those of norms included."""
    return release(tower, names_in(_biases(tower), blocks, confined))


def train_layer_norms(tower: Tower, blocks: range, confined: bool, bottleneck: int) -> Parameters:
    """Train scale and bias of every layer norm."""
    return release(tower, names_in(_norms(tower, is_layer_norm), blocks, confined))


def train_batch_norms(tower: Tower, blocks: range, confined: bool, bottleneck: int) -> Parameters:
    """Train scale and bias of every batch norm."""
    return release(tower, names_in(_norms(tower, is_batch_norm), blocks, confined))


def has_biases(tower: Tower) -> bool:
    """Whether there is a bias."""
    return bool(_biases(tower))


def has_layer_norms(tower: Tower) -> bool:
    """Whether there is a layer norm."""
    return any(map(is_layer_norm, tower.modules()))


def has_batch_norms(tower: Tower) -> bool:
    """Whether there is a batch norm."""
    return any(map(is_batch_norm, tower.modules()))


def _biases(tower: Tower) -> list[str]:
    return [name for name, _ in tower.named_parameters() if name.endswith("bias")]


def _norms(tower: Tower, is_norm: Callable[[nn.Module], bool]) -> list[str]:
    return [
        f"{place}.{name}"
        for place, module in tower.named_modules()
        if is_norm(module)
        for name, _ in module.named_parameters(recurse=False)
    ]


ZERO_SHOT = Tuner(
    name="zero-shot",
    trains="nothing, not even the head",
    order=0,
    fits=any_tower,
    apply=train_nothing,
    alone="leaves the tower frozen",
    source="Radford et al., ICML 2021",
)
LINEAR_PROBE = Tuner(
    name="linear-probe",
    trains="the head only",
    order=0,
    fits=any_tower,
    apply=train_nothing,
    alone="leaves the tower frozen",
    source="Radford et al., ICML 2021",
)
BIAS = Tuner(
    name="bias",
    trains="every bias term",
    order=50,
    fits=has_biases,
    apply=train_biases,
    towers="every tower with one",
    source="Ben Zaken et al., ACL 2022",
)
LAYER_NORM = Tuner(
    name="layernorm",
    trains="scale and bias of every layer norm",
    order=51,
    fits=has_layer_norms,
    apply=train_layer_norms,
    towers="every tower with one",
    source="Kim et al., 2021 (arXiv 2106.14144)",
)
BATCH_NORM = Tuner(
    name="batchnorm",
    trains="scale and bias of every batch norm, not its statistics",
    order=52,
    fits=has_batch_norms,
    apply=train_batch_norms,
    towers="every tower with one (a ViT has none)",
    source="Frankle et al., ICLR 2021",
)
LAST = Tuner(
    name="last-K",
    trains="the last K blocks whole, or stages of a ResNet",
    order=60,
    fits=has_blocks,
    apply=train_all,
    towers="ViT, ResNet",
    source="Yosinski et al., NeurIPS 2014",
)
FULL = Tuner(
    name="full",
    trains="the whole image tower",
    order=61,
    fits=any_tower,
    apply=train_all,
    alone="trains the whole tower already",
)
