"""(IA)^3: trained factors on keys, values and the inner activations of each MLP; they fold into the weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from causalft.errors import CausalFTError
from causalft.models.tuning.choices import Tuner
from causalft.models.tuning.towers import Tower
from causalft.models.tuning.tuners import is_vit, replace_module

__all__ = ["ScaledLinear", "add_factors", "merge_factors"]


class ScaledLinear(nn.Module):
    """A linear layer with one trained factor per input, or per output of the last ``n``; all factors start at 1.

    Liu et al., "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning", NeurIPS 2022,
    section 3.3. The ``peft`` library scales all outputs of a layer, queries too where they share it with the keys.

    Parameters
    ----------
    inner : torch.nn.Linear
    n : int
        Number of factors.
    on_input : bool
        Scale the inputs instead of the outputs.

    Examples
    --------
    >>> layer, x = ScaledLinear(nn.Linear(3, 6), 4), torch.ones(2, 3)
    >>> torch.equal(layer(x), layer.inner(x)), layer.scale.shape
    (True, torch.Size([4]))
    """

    def __init__(self, inner: Any, n: int, on_input: bool = False) -> None:
        super().__init__()
        self.inner, self.on_input = inner, on_input
        self.scale = nn.Parameter(torch.ones(n, device=inner.weight.device))

    def forward(self, x: Tensor) -> Tensor:
        if self.on_input:
            return self.inner(x * self.scale.to(x.dtype))
        y = self.inner(x)
        n = len(self.scale)
        return torch.cat([y[..., :-n], y[..., -n:] * self.scale.to(y.dtype)], dim=-1)

    def folded(self) -> nn.Linear:
        """The layer with the factors in its weights, which are new tensors."""
        inner = self.inner
        scale = self.scale.detach()
        if self.on_input:
            inner.weight = nn.Parameter(inner.weight.detach() * scale, requires_grad=False)
            return inner
        whole = torch.cat([scale.new_ones(inner.out_features - len(scale)), scale])
        inner.weight = nn.Parameter(inner.weight.detach() * whole[:, None], requires_grad=False)
        if inner.bias is not None:
            inner.bias = nn.Parameter(inner.bias.detach() * whole, requires_grad=False)
        return inner


def add_factors(tower: Tower, blocks: range, confined: bool, bottleneck: int) -> list[nn.Parameter]:
    """Wrap the layers of keys and values, and the last one of each MLP, in a :class:`ScaledLinear`."""
    names = {id(module): name for name, module in tower.named_modules()}
    trained: list[nn.Parameter] = []
    for number in blocks:
        parts = tower.parts(tower.blocks[number])
        attention, last = parts.attention, parts.fc2
        joined = parts.qkv is not None
        keys_and_values: list[Any] = [parts.qkv] if joined else [attention.k_proj, attention.v_proj]
        layers = [
            (layer, ScaledLinear(layer, layer.out_features * 2 // 3 if joined else layer.out_features))
            for layer in keys_and_values
        ]
        layers.append((last, ScaledLinear(last, last.in_features, on_input=True)))  # type: ignore[arg-type]
        for layer, scaled in layers:
            replace_module(tower, names[id(layer)], scaled)
            trained.append(scaled.scale)
    return trained


def merge_factors(tower: Tower) -> bool:
    """Fold every factor into its layer.

    Raises
    ------
    CausalFTError
        If the layers are in bfloat16, without exact weights to multiply.
    """
    for name, module in list(tower.named_modules()):
        if isinstance(module, ScaledLinear):
            if not isinstance(module.inner, nn.Linear):
                raise CausalFTError(
                    "ia3 cannot be merged into layers that were rounded to bf16; load it into a tower in fp32"
                )
            replace_module(tower, name, module.folded())
    return True


IA3 = Tuner(
    name="ia3",
    trains="a factor on each key, value and inner activation of the MLP",
    order=5,
    fits=is_vit,
    apply=add_factors,
    merge=merge_factors,
    towers="ViT",
    source="Liu et al., NeurIPS 2022",
)
