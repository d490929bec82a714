"""What merging tokens costs: predictions of a run with and without it, on images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from causalft.data.image_set import ImageSet
from causalft.errors import CausalFTError
from causalft.methods.estimators.fitted import load_fitted
from causalft.methods.estimators.settings import FitSettings
from causalft.pipelines.workflows.agreement import agreement, answers, spaced_rows
from causalft.runs.folder import Run

__all__ = ["MergedAgreement", "merged_agreement", "merged_on_validation"]

_CHECKED = 1000


@dataclass(frozen=True)
class MergedAgreement:
    """Predictions with merged tokens beside those without.

    Attributes
    ----------
    merge_tokens : int
        In each block.
    n_images : int
    agreement : float
        Share of images with the same fused prediction, in [0, 1].
    largest_difference : float
        Of a fused probability.
    accuracy, accuracy_merged : float, optional
        Fused accuracy on these images, in [0, 1]; None where they have no labels.
    """

    merge_tokens: int
    n_images: int
    agreement: float
    largest_difference: float
    accuracy: float | None = None
    accuracy_merged: float | None = None

    def sentence(self) -> str:
        """Describe the cost in a sentence."""
        same = round(self.agreement * self.n_images)
        text = (
            f"merging {self.merge_tokens} tokens per block keeps the class for {same:,} of {self.n_images:,} images; a "
            f"probability differs by at most {self.largest_difference:.2g}"
        )
        if self.accuracy is None or self.accuracy_merged is None:
            return text
        return f"{text}; accuracy {100 * self.accuracy:.1f} % without, {100 * self.accuracy_merged:.1f} % with it"

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON document."""
        return dict(vars(self))


def merged_agreement(
    run: str | Path,
    images: ImageSet,
    merge_tokens: int,
    *,
    n_images: int = 200,
    labelled: bool = False,
    device: str | None = None,
    precision: str | None = None,
) -> MergedAgreement:
    """Predict images with and without merged tokens, and compare.

    Parameters
    ----------
    run : path
        A complete ``fit`` run.
    images : ImageSet
        At most ``n_images`` evenly spaced ones are used; unreadable ones are left out.
    merge_tokens : int
    n_images : int
    labelled : bool
        Whether the images have labels of the run's classes, for the accuracy.
    device, precision : str, optional
        As in :func:`causalft.methods.estimators.fitted.load_fitted`.

    Raises
    ------
    CausalFTError
        If the run cannot be loaded, a stratum cannot merge tokens, or no image can be read.

    Examples
    --------
    >>> merged_agreement("runs/photos", images, 8).sentence()  # doctest: +SKIP
    'merging 8 tokens per block keeps the class for 198 of 200 images; a probability differs by at most 0.04'
    """
    rows = spaced_rows(images, n_images)
    read, fused = rows, []
    for r in (0, merge_tokens):
        model = load_fitted(run, device=device, precision=precision, merge_tokens=r)
        label = f"measuring the cost of merging: {r} tokens"
        read, found = answers(model, images, rows, label, "measure the cost of merging tokens")
        fused.append(found)
    share, difference = agreement(*fused)
    right = [float((f.argmax(1) == images.labels[read]).mean()) if labelled else None for f in fused]
    return MergedAgreement(
        merge_tokens=merge_tokens,
        n_images=len(read),
        agreement=share,
        largest_difference=difference,
        accuracy=right[0],
        accuracy_merged=right[1],
    )


def merged_on_validation(
    run: Run, merge_tokens: int, *, device: str | None = None, precision: str | None = None
) -> MergedAgreement | str:
    """:func:`merged_agreement` on up to 1,000 validation images of the run; why not, in words, where they are gone."""
    from causalft.pipelines.workflows.fit_data import (
        load_splits,
    )  # opens and cuts, which prediction does without

    settings = FitSettings.from_config(run.config)
    try:
        images = load_splits(settings, settings.seed).validation
    except CausalFTError as error:
        return f"the validation images of the run cannot be read ({error})"
    if images.fingerprint != run.config["data_fingerprint"][1]:
        return "the validation images of the run have changed since it was fitted"
    if not len(images):
        return "the run has no validation images"
    return merged_agreement(
        run.path,
        images,
        merge_tokens,
        n_images=_CHECKED,
        labelled=True,
        device=device,
        precision=precision,
    )
