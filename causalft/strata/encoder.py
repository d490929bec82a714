"""The frozen image tower of a stratum in the precision that this machine is fastest in."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from causalft.strata.crops import Crops
from causalft.strata.stratum import Stratum
from causalft.strata.stream import batches
from causalft.tuning.precision import settle_precision
from causalft.tuning.towers import Tower, open_tower

__all__ = ["autocast", "encode_all", "frozen_encoder", "open_frozen"]


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """Half precision on a GPU; a CPU's layers carry their own."""
    if device.type == "cpu" or precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision == "bf16" else torch.float16)


def open_frozen(stratum: Stratum, precision: str = "auto") -> tuple[Tower, str]:
    """Return the image tower, opened and not tuned, and the precision to run it in.

    In bf16 on a CPU its linear layers are copies; else every weight is shared with the stratum.
    """
    tower = open_tower(stratum.visual)
    chosen, _ = settle_precision(tower, precision, stratum.device)
    return tower, chosen


def frozen_encoder(stratum: Stratum, precision: str = "auto") -> tuple[Callable[[Tensor], Tensor], str]:
    """Return uint8 pictures (n, s, s, 3) -> unit features (n, d), and the precision it runs in.

    In fp32 the numbers are those of ``stratum.image_features``, up to the order of sums.
    """
    tower, chosen = open_frozen(stratum, precision)

    def encode(pixels: Tensor) -> Tensor:
        with torch.inference_mode(), autocast(stratum.device, chosen):
            return F.normalize(tower(stratum.normalise(pixels)).float(), dim=-1)

    return encode, chosen


def encode_all(encode: Callable[[Tensor], Tensor], crops: Crops) -> np.ndarray:
    """Unit features of all pictures, shape (n, d), float32."""
    return torch.cat([encode(pixels).cpu() for _, pixels in batches(crops, 256)]).numpy()
