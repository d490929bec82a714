"""A fitted run as a teacher: what it answers to any images, computed once and kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from causalft.data.image_set import ImageSet
from causalft.methods.adaptation.same_view import SameView, same_view
from causalft.methods.estimators.fitted import FittedStrata, load_fitted, predict_stream
from causalft.methods.estimators.run_documents import tuned_files
from causalft.models.features.cache import FeatureCache, data_fingerprint
from causalft.runs.documents import Document
from causalft.runs.files import sha256_file
from causalft.runs.folder import Run

__all__ = ["Teacher", "TeacherAnswers"]


@dataclass(frozen=True, eq=False, repr=False)
class TeacherAnswers:
    """Answers to n images.

    Attributes
    ----------
    probabilities : (n, K) array of float32
        P(Y | do(X)) of the fusion, calibrated; rows sum to 1. Mapped from the cache, if there is one.
    strata : dict of str to (n,) array of int
        The most probable class of each stratum by itself.
    """

    probabilities: NDArray[np.float32]
    strata: dict[str, NDArray[np.int64]]

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The most probable class of each image, (n,)."""
        return np.argmax(self.probabilities, axis=1)


class Teacher:
    """The classifier of a complete ``fit`` run, whatever its fusion is.

    Parameters
    ----------
    run : Run
    device : str
    cache : causalft.models.features.cache.FeatureCache, optional
        Keeps the answers beyond this call, for other students too.
    progress : bool, optional

    Attributes
    ----------
    model : FittedStrata

    Raises
    ------
    CausalFTError
        As :func:`causalft.methods.estimators.fitted.load_fitted`.
    """

    def __init__(
        self,
        run: Run,
        *,
        device: str = "auto",
        cache: FeatureCache | None = None,
        progress: bool | None = None,
    ) -> None:
        self.run, self.cache, self.progress = run, cache, progress
        self.model: FittedStrata = load_fitted(run.path, device=device)

    @property
    def identity(self) -> Document:
        """Everything that the answers depend on but the images: hashes of its documents and tuned tensors."""
        files = [self.run.path / "config.json", self.run.path / "metrics.json", *tuned_files(self.run)]
        return {path.relative_to(self.run.path).as_posix(): sha256_file(Path(path)) for path in files}

    @property
    def same_view(self) -> SameView:
        """The teacher as it answers to augmented images, without a cache."""

        def fuse(logits: NDArray[np.float64]) -> NDArray[np.float64]:
            return self.model.fuse_proba(softmax(logits, axis=2))

        return same_view(list(self.model.members_.values()), fuse)

    def __call__(self, images: ImageSet, what: str = "images", batch_size: int = 64) -> TeacherAnswers:
        """Answer, as ``causalft predict`` does.

        Parameters
        ----------
        images : ImageSet
            One or more.
        what : str
            What they are, for the progress bar.
        batch_size : int

        Raises
        ------
        CausalFTError
            For an image that cannot be read; names it.
        """
        names, n_classes = list(self.model.members_), len(self.model.classes_)

        def fill(start: int) -> Iterator[NDArray[np.float32]]:
            stream = predict_stream(
                self.model,
                images,
                batch_size,
                rows=range(start, len(images)),
                label=f"teacher: {len(images)} {what}",
                progress=self.progress,
            )
            for _, strata, fused in stream:
                best = strata.argmax(axis=2).T
                yield np.concatenate([fused, best], axis=1).astype(np.float32)

        found: NDArray[Any]
        if self.cache is None:
            found = np.concatenate(list(fill(0)))
        else:
            key = {
                "kind": "answers of a run",
                "run": self.identity,
                "data": data_fingerprint(images),
                "precision": {name: tuned.precision for name, tuned in self.model.members_.items()},
            }
            about = {"kind": "answers of a run", "run": str(self.run.path), "data": images.name}
            found = self.cache.array(key, len(images), fill, about)
        predicted = found[:, n_classes:].astype(np.int64)
        return TeacherAnswers(found[:, :n_classes], dict(zip(names, predicted.T, strict=True)))
