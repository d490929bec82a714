"""Training tensors that the backbone has already: they become the tower's own, so that the frozen model keeps its."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from causalft.models.tuning.towers import Tower

__all__ = ["is_batch_norm", "is_layer_norm", "names_of_biases", "names_of_norms", "release"]


def release(tower: Tower, names: Iterable[str]) -> list[nn.Parameter]:
    """Replace these parameters by trainable copies; what is trained already is left alone.

    Parameters
    ----------
    tower : Tower
        Changed in place.
    names : iterable of str
        Of its parameters.

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


def names_of_biases(tower: Tower) -> list[str]:
    """All bias terms, those of norms included."""
    return [name for name, _ in tower.named_parameters() if name.endswith("bias")]


def names_of_norms(tower: Tower, kind: str) -> list[str]:
    """Scale and bias of every norm of ``kind`` (``layernorm`` or ``batchnorm``)."""
    is_norm = is_layer_norm if kind == "layernorm" else is_batch_norm
    return [
        f"{place}.{name}"
        for place, module in tower.named_modules()
        if is_norm(module)
        for name, _ in module.named_parameters(recurse=False)
    ]


def is_layer_norm(module: nn.Module) -> bool:
    """Whether a module is a layer norm or an RMS norm."""
    return isinstance(module, (nn.LayerNorm, nn.RMSNorm)) or "RmsNorm" in type(module).__name__


def is_batch_norm(module: nn.Module) -> bool:
    """Whether a module is a batch norm."""
    return isinstance(module, nn.modules.batchnorm._BatchNorm)
