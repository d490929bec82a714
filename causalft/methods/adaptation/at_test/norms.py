"""Norms of an image tower: where they are, and tensors of their own that can be changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from causalft.errors import CausalFTError
from causalft.models.tuning.towers import Tower

__all__ = ["batch_norms", "layer_norms", "mixed_statistics", "own_tensors", "take_tensors"]


def layer_norms(tower: Tower) -> list[str]:
    """Return the names of the LayerNorms with weights.

    Examples
    --------
    >>> from causalft.models.strata.mini import MiniConfig, build_mini
    >>> from causalft.models.tuning.towers import open_tower
    >>> names = layer_norms(open_tower(build_mini(MiniConfig()).visual))
    >>> len(names), names[0]
    (8, 'visual.ln_pre')
    """
    return [
        name
        for name, module in tower.named_modules()
        if isinstance(module, nn.LayerNorm) and module.weight is not None
    ]


def batch_norms(tower: Tower) -> list[str]:
    """Return the names of the BatchNorms with running statistics."""
    return [
        name
        for name, module in tower.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None
    ]


@contextmanager
def mixed_statistics(modules: Iterable[nn.Module], n: int, stored_images: float) -> Iterator[None]:
    """Let BatchNorms normalise a batch by a mixture of its statistics and the stored ones, which is then stored.

    Schneider et al., "Improving robustness against common corruptions by covariate shift adaptation", NeurIPS 2020:
    with stored statistics worth N images, mean and variance are N / (N + n) of the stored ones and n / (N + n) of those
    of the batch.

    Parameters
    ----------
    modules : iterable of BatchNorm
        In evaluation.
    n : int
        Images of the batch.
    stored_images : float
        N; 0 takes the statistics of the batch alone.

    Examples
    --------
    >>> norm = nn.BatchNorm1d(1).eval()
    >>> with mixed_statistics([norm], n=2, stored_images=6):
    ...     _ = norm(torch.tensor([[3.0], [5.0]]))  # mean 4 and variance 1, beside 0 and 1
    >>> norm.running_mean.tolist(), norm.running_var.tolist()
    ([1.0], [1.0])
    """
    share = n / (stored_images + n)

    def mix(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].detach().float().transpose(0, 1).flatten(1)
        module.get_buffer("running_mean").lerp_(values.mean(1), share)
        module.get_buffer("running_var").lerp_(values.var(1, unbiased=False), share)

    hooks = [module.register_forward_pre_hook(mix) for module in modules]
    try:
        with torch.no_grad():
            yield
    finally:
        for hook in hooks:
            hook.remove()


def own_tensors(tower: Tower, places: Iterable[str]) -> dict[str, Tensor]:
    """Replace the parameters and buffers of these modules by copies, and return the copies by name.

    A tower shares its tensors with the model that it was opened from; the copies can be changed without changing that.
    """
    found: dict[str, Tensor] = {}
    for place in places:
        module = tower.get_submodule(place)
        for name, parameter in list(module.named_parameters(recurse=False)):
            own = nn.Parameter(parameter.detach().clone(), requires_grad=False)
            setattr(module, name, own)
            found[f"{place}.{name}"] = own
        for name, buffer in list(module.named_buffers(recurse=False)):
            copied = buffer.detach().clone()
            setattr(module, name, copied)
            found[f"{place}.{name}"] = copied
    return found


def take_tensors(tower: Tower, values: Mapping[str, Tensor]) -> None:
    """Give modules of a tower these values, without changing the model that it was opened from.

    Raises
    ------
    CausalFTError
        If the tower has no tensor of a name, or one of another shape; then nothing is changed.
    """
    there = tower.state_dict()
    for name, value in values.items():
        if name not in there or there[name].shape != value.shape:
            raise CausalFTError(f"the adapted tensor {name} is none of this image tower; adapt the run again")
    places = dict.fromkeys(name.rpartition(".")[0] for name in values)
    own = own_tensors(tower, places)
    with torch.no_grad():
        for name, value in values.items():
            own[name].copy_(value)
