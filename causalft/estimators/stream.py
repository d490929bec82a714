"""Predict any number of images in flat memory: each is read once, shown to every stratum, fused, and given back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from causalft.data.sources import ImageSet
from causalft.models.features.encoder import stream_crops
from causalft.strata.tuned import TunedStratum

__all__ = ["StrataModel", "predict_stream"]


class StrataModel(Protocol):
    """What is needed of a fitted :class:`causalft.estimators.strata.StrataClassifier`."""

    @property
    def members_(self) -> dict[str, TunedStratum]: ...

    def fuse_proba(self, stratum_probs: np.ndarray) -> np.ndarray: ...


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
        As in :func:`causalft.models.features.encoder.stream_crops`.

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
    members = list(model.members_.values())
    # Strata that look at the same square (three ViT-B/16, say) share one crop as well as the decoding.
    cuts = {_look(tuned): tuned.cut for tuned in members}
    place = {look: number for number, look in enumerate(cuts)}
    stream = stream_crops(
        images,
        list(cuts.values()),
        batch_size,
        rows=rows,
        on_error=on_error,
        bad=bad,
        label=label,
        progress=progress,
    )
    for found, pictures in stream:
        logits = [tuned.logits_of(pictures[place[_look(tuned)]]).numpy() for tuned in members]
        probabilities = softmax(np.stack(logits), axis=2)
        yield found, probabilities, model.fuse_proba(probabilities)


def _look(tuned: TunedStratum) -> tuple[str, int, str]:
    """What decides the crop; a geometry that is no named transform is only equal to itself (its address is shown)."""
    return tuned.view, tuned.stratum.image_size, repr(tuned.stratum.geometry)
