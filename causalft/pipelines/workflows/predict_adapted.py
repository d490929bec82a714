"""Predictions by strata that adapt to the stream: who adapted to which images, what is said of it, what is saved."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalft.errors import CausalFTError
from causalft.methods.adaptation.at_test import LEAST_BATCH, adaptation
from causalft.methods.adaptation.at_test.adapting import AdaptingStratum
from causalft.methods.estimators.fitted import FittedStrata, save_classifier

__all__ = ["AdaptedStrata"]


class AdaptedStrata:
    """The strata of a run, each of which adapts by itself; their fusion stays as it was fitted.

    It stands where the fitted run does in :func:`causalft.methods.estimators.fitted.predict_stream`.

    Parameters
    ----------
    fitted : FittedStrata
        Its strata are changed.
    method : str
        In :data:`causalft.methods.adaptation.at_test.AT_TEST`.
    stored_images : float, optional
        What stored statistics are worth (:func:`causalft.methods.adaptation.at_test.adaptation`).

    Raises
    ------
    CausalFTError
        For an unknown method, or one that is not defined for a stratum
        (:func:`causalft.methods.adaptation.at_test.adapting.check_adapts`).
    """

    def __init__(self, fitted: FittedStrata, method: str, stored_images: float | None = None) -> None:
        self.fitted, self.method = fitted, adaptation(method, stored_images)
        names = [str(name) for name in fitted.classes_]
        self.members_: dict[str, AdaptingStratum] = {
            name: AdaptingStratum(tuned, self.method, names) for name, tuned in fitted.members_.items()
        }
        self._rows = array("q")
        self._said: set[str] = set()

    def fuse_proba(self, stratum_probs: np.ndarray) -> np.ndarray:
        """P(Y | do(X)), (n, n_classes), of P(Y | b, c), (n_strata, n, n_classes)."""
        return self.fitted.fuse_proba(stratum_probs)

    def follow(self, rows: NDArray[np.int64], files: list[str]) -> Iterator[str]:
        """Note the rows of the batch that was just predicted; yield a line per stratum that fell back in it."""
        before = len(self._rows)
        self._rows.extend(rows.tolist())
        for name, member in self.members_.items():
            stop, last = member.stopped, member.last
            if stop is None or last is None or name in self._said:
                continue
            self._said.add(name)
            where = f"from image {last + 1:,} on ({files[int(rows[last - before])]}) it predicts unadapted"
            if stop.k is None:
                yield f"{name}: the adapted model's logits are not finite; {where}"
            else:
                share, unadapted = 100 * stop.share, 100 * stop.before
                yield (
                    f"{name}: predictions collapse onto class {member.class_names[stop.k]!r}, {share:.0f} % of the "
                    f"last {stop.n} images ({unadapted:.0f} % unadapted); {where}"
                )

    def adapted_strata(self, row: int) -> list[str]:
        """Return the strata that had adapted when they predicted an image."""
        at = bisect_left(self._rows, row)
        return [
            name
            for name, member in self.members_.items()
            if member.first is not None and member.first <= at and (member.last is None or at < member.last)
        ]

    def notes(self) -> list[str]:
        """What each stratum did, in a line; after the stream."""
        return [f"{name}: {_summary(member)}" for name, member in self.members_.items()]

    def to_metrics(self) -> dict[str, Any]:
        """``{method, images, strata: {name: {batches, changed, collapsed}}}``; of ``bn`` also ``stored_images``."""
        strata = {
            name: {"batches": m.batches, "changed": m.changed, "collapsed": m.stopped is not None}
            for name, m in self.members_.items()
        }
        worth = {"stored_images": self.method.stored_images} if self.method.objective is None else {}
        return {"method": self.method.name, **worth, "images": len(self._rows), "strata": strata}

    def save(self, folder: Path) -> None:
        """Write a classifier whose strata are as they have adapted; one that fell back is as it was.

        Raises
        ------
        CausalFTError
            If no stratum has adapted, or the folder is taken.
        """
        if not any(m.batches and m.stopped is None for m in self.members_.values()):
            raise CausalFTError(f"no stratum has adapted, so {folder} is not written; see the lines above")
        for member in self.members_.values():
            member.finish()
        from causalft.methods.estimators.strata import classifier_of  # brings scikit-learn

        save_classifier(classifier_of(self.fitted), folder, {"adapted": self.to_metrics()})


def _summary(member: AdaptingStratum) -> str:
    method = member.method.name
    if member.stopped is not None:
        return f"{method} stopped after {_count(member.batches, 'batch', 'batches')}"
    if not member.batches:
        return f"not adapted: {method} needs batches of {LEAST_BATCH} images or more"
    changed = _count(member.changed, "prediction", "predictions")
    return f"adapted by {method} to {_count(member.batches, 'batch', 'batches')}; {changed} changed"


def _count(n: int, one: str, many: str) -> str:
    return f"{n:,} {one if n == 1 else many}"
