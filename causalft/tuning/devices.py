"""The device of a name."""

from __future__ import annotations

import torch

from causalft.errors import CausalFTError
from causalft.runs.limits import check_device
from causalft.tuning.processes import local_device

__all__ = ["pick_device"]


def pick_device(device: str = "auto") -> torch.device:
    """Return the device of a name; ``auto`` is CUDA where there is one (under a launcher, this process's own).

    Examples
    --------
    >>> pick_device("cpu")
    device(type='cpu')
    """
    if check_device(device) == "auto":
        return local_device()
    chosen = torch.device(device)
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        there = torch.cuda.device_count()
        if not there:
            raise CausalFTError("no CUDA device is available here; use the device cpu")
        raise CausalFTError(f"there is no device {device} here; use cuda:0 to cuda:{there - 1}, or cpu")
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise CausalFTError("no MPS device is available here; use the device cpu")
    return chosen
