"""Another number of blocks for an image tower: a smaller or a larger student from the weights of one stratum."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from causalft.errors import CausalFTError
from causalft.models.strata.cards import ResizedName
from causalft.models.strata.stratum import Stratum
from causalft.models.tuning.families import Family, is_a, is_plain, trunk_of

__all__ = ["with_blocks"]

_OUTPUTS = ("attn.out_proj", "attn.proj", "mlp.c_proj", "mlp.fc2")
"""Last layers of the two branches of a block, in open_clip, timm and the minis."""


def with_blocks(stratum: Stratum, n_blocks: int) -> Stratum:
    """Return a stratum whose image tower has ``n_blocks`` transformer blocks.

    Fewer blocks: evenly spaced ones of the stratum, first and last among them (Sanh et al., "DistilBERT", 2019).
    More: copies are inserted at even distances, and the last layers of their branches are set to zero, so that each
    starts as the identity and the tower answers as before (Chen et al., "Net2Net", ICLR 2016; Wu et al., "LLaMA Pro",
    ACL 2024). Both are starts for a training of the whole tower: a shortened tower answers badly before it.

    Parameters
    ----------
    stratum : Stratum
        Changed: its image tower gets the blocks.
    n_blocks : int
        1 or more.

    Returns
    -------
    Stratum
        Named ``NAME:blocks=N``, with a hash of its own.

    Raises
    ------
    CausalFTError
        If its image tower is no vision transformer of open_clip or timm.

    Examples
    --------
    >>> from causalft.models.strata.zoo import open_zoo
    >>> deeper = with_blocks(open_zoo("mini").load("clip"), 6)
    >>> deeper.name, len(deeper.visual.transformer.resblocks)
    ('clip:blocks=6', 6)
    """
    name = ResizedName(stratum.name, n_blocks)
    owner, at = _place_of_blocks(stratum)
    blocks = list(getattr(owner, at))
    if n_blocks <= len(blocks):
        kept = [blocks[place] for place in _spread(n_blocks, len(blocks))]
    else:
        own = dict(zip(_spread(len(blocks), n_blocks), blocks, strict=True))
        kept = []
        for place in range(n_blocks):
            kept.append(own[place] if place in own else _identity(kept[-1], stratum))
    setattr(owner, at, type(getattr(owner, at))(*_as_arguments(getattr(owner, at), kept)))
    card = None if stratum.card is None else name.card(stratum.card)
    return replace(stratum, name=str(name), sha256=name.sha256(stratum.sha256), card=card)


def _spread(n: int, places: int) -> list[int]:
    """Evenly spaced places, the first and the last among them.

    Examples
    --------
    >>> _spread(2, 3), _spread(3, 6), _spread(1, 3)
    ([0, 2], [0, 2, 5], [2])
    """
    if n == 1:
        return [places - 1]
    return [int(place) for place in np.floor(np.linspace(0, places - 1, n) + 1e-9)]


def _as_arguments(container: nn.Module, blocks: list[Any]) -> tuple[Any, ...]:
    return tuple(blocks) if isinstance(container, nn.Sequential) else (blocks,)


def _place_of_blocks(stratum: Stratum) -> tuple[Any, str]:
    """The module that holds the blocks, and its attribute."""
    visual: Any = stratum.visual
    if is_a(visual, Family.OPEN_CLIP_VIT, Family.MINI_VIT):
        return visual.transformer, "resblocks"
    trunk = trunk_of(visual)
    if is_plain(trunk, Family.TIMM_VIT):
        return trunk, "blocks"
    raise CausalFTError(
        f"stratum {stratum.name!r} cannot have another number of blocks: its image tower is a {type(trunk).__name__}, "
        "no plain vision transformer; name another stratum, or leave :blocks=N out"
    )


def _identity(block: nn.Module, stratum: Stratum) -> nn.Module:
    """A copy of a block that returns its input until it is trained."""
    made = copy.deepcopy(block)
    outputs = [module for name, module in made.named_modules() if name in _OUTPUTS]
    if len(outputs) != 2:
        raise CausalFTError(
            f"stratum {stratum.name!r} cannot have more blocks: a block of its is a {type(block).__name__}, not one "
            "attention and one MLP; name another stratum, or fewer blocks"
        )
    with torch.no_grad():
        for module in outputs:
            for parameter in module.parameters():
                parameter.zero_()
    return made
