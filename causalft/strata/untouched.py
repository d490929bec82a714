"""The model before tuning, without its label prior: what GLA-FT adds to the logits of a tuned stratum."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from causalft.errors import CausalFTError
from causalft.models.features.encoder import autocast, open_frozen
from causalft.models.strata.stratum import Stratum
from causalft.models.tuning.losses import optimum_of
from causalft.models.tuning.samplers import expected_counts
from causalft.runs.folder import atomic_path
from causalft.strata.tuning_settings import Tuning, check_gla

__all__ = ["Untouched", "check_gla", "prior_left_in_logits"]

_FILE = "gla.safetensors"


class Untouched(nn.Module):
    """Zero-shot logits of a stratum plus a constant a class.

    Parameters
    ----------
    stratum : Stratum
        Not changed; the frozen weights are shared where the precision allows it.
    anchors : (n_classes, d) Tensor
        What a unit feature is compared with, times the inverse temperature.
    shift : (n_classes,) Tensor
        What is added: ``- log q``, and ``- log P_S`` where that stands in the tuned logits (GLA-FT).
    precision : {"auto", "fp32", "bf16", "fp16"}
    """

    anchors: Tensor
    shift: Tensor

    def __init__(self, stratum: Stratum, anchors: Tensor, shift: Tensor, precision: str = "auto") -> None:
        super().__init__()
        self._device = stratum.device
        self.tower, self._precision = open_frozen(stratum, precision)
        self.register_buffer("anchors", anchors.float())
        self.register_buffer("shift", shift.float())
        self.eval().requires_grad_(False).to(stratum.device)

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits (n, n_classes) of normalised pictures."""
        with autocast(self._device, self._precision):
            features = self.tower(pictures)
        return F.normalize(features.float(), dim=-1) @ self.anchors.T + self.shift

    def save(self, folder: Path) -> None:
        """Write ``gla.safetensors``; the backbone is not saved."""
        with atomic_path(folder / _FILE) as temporary:
            save_file({"anchors": self.anchors.cpu(), "shift": self.shift.cpu()}, temporary)

    @classmethod
    def load(cls, stratum: Stratum, folder: Path, n_classes: int, precision: str = "auto") -> Untouched:
        """Read what :meth:`save` wrote.

        Raises
        ------
        CausalFTError
            If the file is missing, damaged, or of other classes.
        """
        try:
            found = load_file(folder / _FILE)
            anchors, shift = found["anchors"], found["shift"]
        except (OSError, SafetensorError, KeyError) as error:
            raise CausalFTError(
                f"{folder / _FILE} cannot be read ({error}); fit the stratum again"
            ) from error
        if anchors.ndim != 2 or len(anchors) != n_classes or shift.shape != (n_classes,):
            raise CausalFTError(f"{folder / _FILE} is not of {n_classes} classes; fit the stratum again")
        return cls(stratum, anchors, shift, precision)


def prior_left_in_logits(tuning: Tuning, class_counts: ArrayLike) -> NDArray[np.float64] | None:
    """Return the class prior that stands in tuned logits, (K,): what the sampler showed. None where the loss undid it.

    Raises
    ------
    CausalFTError
        As :func:`check_gla`.

    Examples
    --------
    >>> prior_left_in_logits(Tuning(loss="CE"), [90, 10]).tolist(), prior_left_in_logits(Tuning(loss="LA"), [90, 10])
    ([0.9, 0.1], None)
    """
    check_gla(tuning)
    if optimum_of(tuning.loss) == "balanced posterior":
        return None
    shown = expected_counts(tuning.sampler, class_counts)
    return shown / shown.sum()
