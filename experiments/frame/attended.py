"""Views of an image guided by a model's own attention, as strata from one tuned model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from causalft.data.image_set import ImageSet
    from causalft.methods.estimators.member import MemberPrediction
    from experiments.frame.lab import Lab
    from experiments.frame.members import Member

__all__ = ["LOOKS", "looked", "squares"]

LOOKS = ("attended half", "other half", "whole and both halves")
"""Views of a member: the half of the pixels that attention rollout points at most, the other half, each with the mean
colour of the image in place of what is hidden; and the mixture of the whole image with both, at the cost of three."""


_FOUND: dict[Any, dict[str, NDArray[np.float64]]] = {}
"""Logits of both halves by folder of the member: three arms ask for them, each for all seeds."""


def looked(lab: Lab, member: Member, seed: int, view: str) -> MemberPrediction:
    """The member with its test logits replaced by those of a view (:data:`LOOKS`).

    Raises
    ------
    CausalFTError
        If the tower has no attention.
    """
    from causalft.methods.estimators.fusion import fuse

    prediction, key = lab.prediction(member, seed), lab.folder(member, seed)
    whole = np.asarray(prediction.test_logits, dtype=float)
    if key not in _FOUND:
        _FOUND[key] = _of_halves(lab, member, seed, whole)
    halves = _FOUND[key]
    if view in halves:
        return replace(prediction, test_logits=halves[view])
    fused = fuse([whole, *halves.values()], kind="logits")
    return replace(prediction, test_logits=np.log(np.maximum(fused, 1e-300)))


def _of_halves(
    lab: Lab, member: Member, seed: int, whole: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Log-probabilities (n, K) of the two halves of each test image."""
    from causalft.methods.estimators.maps import tuned_view

    _, tuned = lab.tuned(member, seed)
    model, test = tuned_view(tuned), lab.world.splits(seed, member.draw).test
    halves: dict[str, NDArray[np.float64]] = {name: np.empty_like(whole) for name in LOOKS[:2]}
    for start in range(0, len(test), 512):
        rows = np.arange(start, min(start + 512, len(test)))
        pixels = squares(test, rows, tuned.stratum.image_size)
        hidden = _halves(model.map(pixels, whole[rows].argmax(axis=1), "rollout"))
        for name, images in zip(halves, (hidden, ~hidden), strict=True):
            halves[name][rows] = _logits(model, pixels, images)
    return halves


def _halves(maps: NDArray[np.float64]) -> NDArray[np.bool_]:
    """What is hidden to leave the half with the larger values of each map: (n, S, S)."""
    return maps < np.median(maps, axis=(1, 2), keepdims=True)


def _logits(model: Any, pixels: NDArray[np.uint8], hidden: NDArray[np.bool_]) -> NDArray[np.float64]:
    from causalft.analysis.maps import hide

    found: NDArray[np.float64] = model.log_probabilities(hide(pixels, hidden.astype(np.float32)))
    return found


def squares(images: ImageSet, rows: NDArray[np.int64], side: int) -> NDArray[np.uint8]:
    """The centre squares of images: (n, S, S, 3), of one size if they are held in memory, else of S = ``side``."""
    from causalft.models.strata.stratum import square_crop

    if images.pixels is not None:
        return images.pixels[rows]
    cut = square_crop(side)
    return np.stack([np.asarray(cut(images.image(int(row)).convert("RGB"))) for row in rows])
