"""What a fit keeps of its validation and test images: logits of every stratum, labels, fusion; no image is read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from causalft.analysis.uncertainty.conformal import PredictionSets, pooled_prior, sets_of_labels
from causalft.data.groups import data_groups, prior_groups
from causalft.errors import CausalFTError
from causalft.methods.estimators.member_prediction import MemberPrediction, open_prediction
from causalft.methods.estimators.mixing import Mixing
from causalft.methods.estimators.probabilities import member_blocks, members_rows
from causalft.methods.estimators.run_documents import PREDICTIONS, open_classifier, stratum_folder
from causalft.methods.estimators.stored_logits import map_tensors
from causalft.runs.folder import Run
from causalft.runs.tables import read_columns

__all__ = ["StoredRun", "sets_of_run"]


@dataclass(frozen=True, eq=False)
class StoredRun:
    """A fitted run and, where it kept them, the predictions of its first seed.

    Attributes
    ----------
    run : Run
        Of ``causalft fit``, or a saved classifier, which has no predictions.
    """

    run: Run

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> StoredRun:
        """Open a complete run.

        Raises
        ------
        CausalFTError
            As :func:`causalft.methods.estimators.run_documents.open_classifier`.
        """
        return cls(open_classifier(path))

    @property
    def names(self) -> list[str]:
        """The strata."""
        return list(self.run.config["strata"])

    @property
    def classes(self) -> list[str]:
        """The classes, in the order of all arrays."""
        return list(self.run.metrics["classes"])

    @property
    def mixing(self) -> Mixing:
        """How the strata are fused."""
        return Mixing.from_metrics(self.run.metrics["mixing"])

    @property
    def why_no_logits(self) -> str:
        """Why the run has no logits of validation images; empty if it has them."""
        if self.run.kind != "fit":
            return f"{self.run.path} is a saved classifier, which keeps no validation images; use a run of causalft fit"
        lost = [name for name in self.names if not self._file(name).is_file()]
        if lost:
            return (
                f"{self.run.path} holds no logits of {lost[0]}, like every pulled run; use the folder that "
                "causalft fit wrote"
            )
        return ""

    def _file(self, name: str) -> Path:
        return stratum_folder(self.run.path, name) / PREDICTIONS

    @cached_property
    def members(self) -> dict[str, MemberPrediction]:
        """Predictions of the strata; the logits stay on disk.

        Raises
        ------
        CausalFTError
            If the run has none, or a file is damaged.
        """
        if self.why_no_logits:
            raise CausalFTError(self.why_no_logits)
        found = {name: open_prediction(self._file(name))[0] for name in self.names}
        first = found[self.names[0]]
        for name, member in found.items():
            file = self._file(name)
            for split in ("validation", "test"):
                logits = getattr(member, f"{split}_logits")
                if logits.shape[1:] != (len(self.classes),):
                    raise CausalFTError(
                        f"{file} holds {logits.shape[1]} classes, and the run has {len(self.classes)}; {_CHANGED}"
                    )
                if len(logits) != (n := len(getattr(first, f"{split}_logits"))):
                    raise CausalFTError(
                        f"{file} holds {len(logits)} {split} images, and that of {self.names[0]} {n}; {_CHANGED}"
                    )
                if not all(np.isfinite(logits[i : i + _ROWS]).all() for i in range(0, len(logits), _ROWS)):
                    raise CausalFTError(f"{file} holds {split} logits that are not finite; {_CHANGED}")
        return found

    @cached_property
    def validation_labels(self) -> NDArray[np.int64]:
        """(n,) array of int."""
        file = self._file(self.names[0])
        labels = map_tensors(file)[0].get("validation_labels")
        if labels is None or len(labels) != len(next(iter(self.members.values())).validation_logits):
            raise CausalFTError(f"{file} lacks the labels of its validation images; fit again")
        return np.array(labels)

    @cached_property
    def test_images(self) -> tuple[list[str], NDArray[np.int64]]:
        """Names and labels of the test images.

        Raises
        ------
        CausalFTError
            If ``predictions.parquet`` is missing, or is not of this run.
        """
        path = self.run.path / "predictions.parquet"
        if not path.is_file():
            raise CausalFTError(
                f"{path} is missing; it holds the labels of the test images; restore it, or fit again"
            )
        table = read_columns(path, ["file", "label"])
        number = {name: k for k, name in enumerate(self.classes)}
        labels = [number.get(label, -1) for label in table.values("label")]
        n = len(next(iter(self.members.values())).test_logits)
        if len(labels) != n or -1 in labels:
            raise CausalFTError(f"{path} does not hold the {n} test images of this run; restore it")
        return table.values("file"), np.array(labels, dtype=np.int64)

    @cached_property
    def prior(self) -> NDArray[np.float64]:
        """The pooled label prior of the strata, (K,), weighted by P(c)."""
        rows = [self.run.metrics["strata"][name]["label_prior"] for name in self.names]
        return pooled_prior([np.array(row, dtype=float) for row in rows], self.mixing.stratum_prior)

    @property
    def class_counts(self) -> NDArray[np.int64]:
        """Training images of each class, (K,)."""
        counts = self.run.metrics["class_counts"]
        return np.array([counts[name] for name in self.classes])

    @property
    def groups(self) -> dict[str, NDArray[np.str_]]:
        """``D``, ``P`` by the pooled prior, and ``P by NAME`` by that of each stratum, (K,) each.

        A saved classifier has none.
        """
        if self.run.kind != "fit":
            return {}
        found = {"D": data_groups(self.class_counts), "P": prior_groups(self.prior)}
        if len(self.names) > 1:
            for name in self.names:
                own = np.array(self.run.metrics["strata"][name]["label_prior"], dtype=float)
                found[f"P by {name}"] = prior_groups(own)
        return found

    def validation_label_probs(self) -> NDArray[np.float64]:
        """P(Y | do(X)) of the labels of the validation images, calibrated, (n,)."""
        mixing, labels = self.mixing, self.validation_labels
        found = np.empty(len(labels))
        for rows, log_p in member_blocks(
            members_rows([m.validation_logits for m in self.members.values()], "logits")
        ):
            fused = mixing.of_log_probabilities(log_p)
            found[rows] = fused[np.arange(len(fused)), labels[rows]]
        return found


_CHANGED = "the file is damaged, or was changed by hand; fit again"
_ROWS = 4096


def sets_of_run(stored: StoredRun, coverage: float) -> PredictionSets:
    """Fit prediction sets to the validation images of a run.

    Raises
    ------
    CausalFTError
        If the run kept none.
    """
    if stored.why_no_logits:
        raise CausalFTError(f"prediction sets need the validation images of the fit: {stored.why_no_logits}")
    return sets_of_labels(
        stored.validation_label_probs(), stored.validation_labels, stored.class_counts, stored.prior, coverage
    )
