"""How far the predictions of a run in int8 agree with those in fp32, measured on images."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from causalft.data.image_set import ImageSet
from causalft.errors import CausalFTError
from causalft.methods.estimators.fitted import load_fitted, predict_stream

__all__ = ["Int8Agreement", "int8_agreement"]


@dataclass(frozen=True)
class Int8Agreement:
    """Predictions in int8 beside those in fp32.

    Attributes
    ----------
    n_images : int
    agreement : float
        Share of images with the same fused prediction, in [0, 1].
    largest_difference : float
        Of a fused probability.
    """

    n_images: int
    agreement: float
    largest_difference: float

    def sentence(self) -> str:
        """Describe the agreement in a sentence."""
        same = round(self.agreement * self.n_images)
        return (
            f"int8 predicts the class of fp32 for {same:,} of {self.n_images:,} images; a probability differs by at "
            f"most {self.largest_difference:.2g}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON document."""
        return asdict(self)


def int8_agreement(
    run: str | Path, images: ImageSet, *, n_images: int = 200, progress: bool | None = None
) -> Int8Agreement:
    """Predict images in fp32 and in int8, and compare.

    Parameters
    ----------
    run : path
        A complete ``fit`` run.
    images : ImageSet
        At most ``n_images`` evenly spaced ones are used; unreadable ones are left out.
    n_images : int
    progress : bool, optional

    Raises
    ------
    CausalFTError
        If the run cannot be loaded, no tower has a layer that can be rounded, or no image can be read.

    Examples
    --------
    >>> int8_agreement("runs/photos", images).sentence()  # doctest: +SKIP
    'int8 predicts the class of fp32 for 199 of 200 images; a probability differs by at most 0.013'
    """
    rows = np.unique(np.linspace(0, len(images) - 1, min(n_images, len(images))).round().astype(np.int64))
    fused = {}
    for precision in ("fp32", "int8"):  # one after the other: one copy of the weights in memory
        model = load_fitted(run, device="cpu", precision=precision)
        if precision == "int8" and not any(member.lowered for member in model.members_.values()):
            raise CausalFTError(
                f"{run}: int8 is for frozen layers of a ViT, and no stratum has one; use fp32"
            )
        stream = predict_stream(
            model,
            images,
            rows=rows.tolist(),
            on_error="skip",
            label=f"comparing int8 with fp32: {precision}",
            progress=progress,
        )
        fused[precision] = [batch for _, _, batch in stream]
    if not fused["fp32"]:
        raise CausalFTError(f"none of {len(rows)} images could be read to compare int8 with fp32")
    exact, rounded = (np.concatenate(fused[precision]) for precision in ("fp32", "int8"))
    return Int8Agreement(
        n_images=len(exact),
        agreement=float((exact.argmax(1) == rounded.argmax(1)).mean()),
        largest_difference=float(np.abs(exact - rounded).max()),
    )
