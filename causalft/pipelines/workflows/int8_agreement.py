"""How far the predictions of a run in int8 agree with those in fp32, measured on images."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from causalft.data.image_set import ImageSet
from causalft.errors import CausalFTError
from causalft.methods.estimators.fitted import FittedStrata, load_fitted
from causalft.pipelines.workflows.agreement import agreement, answers, spaced_rows

__all__ = ["ALIKE", "Int8Agreement", "int8_agreement", "int8_if_alike"]

ALIKE = 0.99
"""Share of the compared images that must keep their class before ``auto`` takes int8."""


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
    run: str | Path,
    images: ImageSet,
    *,
    n_images: int = 200,
    merge_tokens: int = 0,
    progress: bool | None = None,
) -> Int8Agreement:
    """Predict images in fp32 and in int8, and compare.

    Parameters
    ----------
    run : path
        A complete ``fit`` run.
    images : ImageSet
        At most ``n_images`` evenly spaced ones are used; unreadable ones are left out.
    n_images : int
    merge_tokens : int
        Patch tokens that each block of a ViT merges, in both.
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
    exact = load_fitted(run, device="cpu", precision="fp32", merge_tokens=merge_tokens)
    return _compared(exact, run, images, n_images, merge_tokens, progress)[1]


def int8_if_alike(
    model: FittedStrata,
    run: str | Path,
    images: ImageSet,
    *,
    n_images: int = 200,
    merge_tokens: int = 0,
    progress: bool | None = None,
) -> tuple[FittedStrata, Int8Agreement | str]:
    """Return the model of a run in int8 if at least :data:`ALIKE` of the images keep their class, else the given one.

    With it comes how far they agree, or why they could not be compared.

    Parameters
    ----------
    model : FittedStrata
        The run's, in fp32.
    run, images, n_images, progress
        As in :func:`int8_agreement`.
    merge_tokens : int
        Patch tokens that each block of a ViT merges in ``model``.
    """
    try:
        rounded, found = _compared(model, run, images, n_images, merge_tokens, progress)
    except CausalFTError as error:  # nobody asked for int8
        return model, str(error)
    return (rounded if found.agreement >= ALIKE else model), found


def _compared(
    exact: FittedStrata,
    run: str | Path,
    images: ImageSet,
    n_images: int,
    merge_tokens: int,
    progress: bool | None,
) -> tuple[FittedStrata, Int8Agreement]:
    """The model in int8, and how far it agrees with the exact one."""
    rows, fused = spaced_rows(images, n_images), []

    def ask(model: FittedStrata, precision: str) -> None:
        label = f"comparing int8 with fp32: {precision}"
        fused.append(answers(model, images, rows, label, "compare int8 with fp32", progress)[1])

    ask(exact, "fp32")
    rounded = load_fitted(run, device="cpu", precision="int8", merge_tokens=merge_tokens)
    if not any(member.lowered for member in rounded.members_.values()):
        raise CausalFTError(f"{run}: int8 is for the layers of a ViT, and no stratum is one; use fp32")
    ask(rounded, "int8")
    share, difference = agreement(*fused)
    return rounded, Int8Agreement(n_images=len(fused[0]), agreement=share, largest_difference=difference)
