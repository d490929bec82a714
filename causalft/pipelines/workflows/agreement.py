"""Two versions of a run's model on the same images: what each answers, and how far the answers agree."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from causalft.data.image_set import ImageSet
from causalft.errors import CausalFTError
from causalft.methods.adaptation.tuned import TunedStratum
from causalft.methods.estimators.fitted import FittedStrata, predict_stream

__all__ = ["agreement", "answers", "precision_note", "spaced_rows"]


def precision_note(members: Mapping[str, TunedStratum], precision: str | None) -> str:
    """Which strata are computed in fp32, though bf16 or int8 was asked for; empty if none is."""
    others = [name for name, member in members.items() if member.precision != precision]
    if precision not in ("bf16", "int8") or not others:
        return ""
    return f"{precision} is for the layers of a ViT; {', '.join(others)}: computed in fp32"


def spaced_rows(images: ImageSet, n: int) -> NDArray[np.int64]:
    """At most ``n`` evenly spaced rows."""
    return np.unique(np.linspace(0, len(images) - 1, min(n, len(images))).round().astype(np.int64))


def answers(
    model: FittedStrata,
    images: ImageSet,
    rows: NDArray[np.int64],
    label: str,
    purpose: str,
    progress: bool | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows of the images that could be read, (n,), and fused probabilities (n, K).

    Raises
    ------
    CausalFTError
        If no image can be read; ``purpose`` says what for.
    """
    stream = predict_stream(
        model, images, rows=rows.tolist(), on_error="skip", label=label, progress=progress
    )
    found = [(place, batch) for place, _, batch in stream]
    if not found:
        raise CausalFTError(f"none of {len(rows)} images could be read to {purpose}")
    return np.concatenate([place for place, _ in found]), np.concatenate([batch for _, batch in found])


def agreement(one: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[float, float]:
    """Share of images with the same class, and the largest difference of a probability, of (n, K) each.

    Examples
    --------
    >>> share, difference = agreement(np.array([[0.9, 0.1], [0.6, 0.4]]), np.array([[0.8, 0.2], [0.4, 0.6]]))
    >>> share, round(difference, 3)
    (0.5, 0.2)
    """
    same = one.argmax(axis=1) == other.argmax(axis=1)
    return float(same.mean()), float(np.abs(one - other).max())
