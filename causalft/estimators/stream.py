"""Predict any number of images in flat memory: each is read once, shown to every stratum, fused, and given back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor

from causalft.datasets.sources import ImageSet
from causalft.strata.crops import Crops
from causalft.strata.stratum import Stratum
from causalft.strata.stream import stream_crops
from causalft.strata.tuned import TunedStratum

__all__ = ["StrataModel", "predict_stream"]


class StrataModel(Protocol):
    """What is needed of a fitted :class:`causalft.estimators.strata.StrataClassifier`."""

    members_: dict[str, TunedStratum]

    def fuse_proba(self, stratum_probs: np.ndarray) -> np.ndarray: ...


class _Pixels(Crops):
    """One batch of crops that are in memory already."""

    def __init__(self, images: ImageSet, stratum: Stratum, pixels: Tensor) -> None:
        self.images, self.stratum, self.kept = images, stratum, pixels

    def __len__(self) -> int:
        assert self.kept is not None
        return len(self.kept)


def predict_stream(
    model: StrataModel,
    images: ImageSet,
    batch_size: int = 64,
    *,
    rows: Iterable[int] | None = None,
    on_error: str = "stop",
    bad: Callable[[int, str], None] | None = None,
    label: str = "predicting",
    progress: bool | None = None,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]]:
    """Yield predictions batch by batch, in order; the next batches are read while the models work.

    Parameters
    ----------
    model : StrataClassifier
        Fitted.
    images : ImageSet
    batch_size : int
    rows, on_error, bad, label, progress
        As in :func:`causalft.strata.stream.stream_crops`.

    Yields
    ------
    (rows, stratum_probs, fused)
        Shapes (b,), (n_strata, b, n_classes) and (b, n_classes): what ``stratum_proba`` and ``predict_proba`` give
        for these rows.

    Raises
    ------
    CausalFTError
        With ``on_error="stop"``, for the first image that cannot be read.
    """
    strata = [tuned.stratum for tuned in model.members_.values()]
    # Strata that look at the same square (three ViT-B/16, say) share one crop as well as the decoding.
    looks = {_look(stratum): stratum for stratum in strata}
    cuts = [stratum.crop for stratum in looks.values()]
    place: Mapping[tuple[int, str], int] = {look: number for number, look in enumerate(looks)}
    stream = stream_crops(
        images, cuts, batch_size, rows=rows, on_error=on_error, bad=bad, label=label, progress=progress
    )
    for found, pictures in stream:
        probabilities = np.stack(
            [
                softmax(tuned.logits(_Pixels(images, stratum, pictures[place[_look(stratum)]])), axis=1)
                for tuned, stratum in zip(model.members_.values(), strata)
            ]
        )
        yield found, probabilities, model.fuse_proba(probabilities)


def _look(stratum: Stratum) -> tuple[int, str]:
    """What decides the crop; a geometry that is no named transform is only equal to itself (its address is shown)."""
    return stratum.image_size, repr(stratum.geometry)
