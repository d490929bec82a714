"""The bytes that a fit leaves in its folder, and its refusal where the disk has no room for them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from causalft.data.splits import Splits
from causalft.methods.estimators.run_documents import PREDICTIONS, folder_name, stratum_folder
from causalft.methods.estimators.settings import FitSettings
from causalft.methods.estimators.stored_logits import MANY_CLASSES, stored_bytes
from causalft.models.strata.cards import MemberName
from causalft.runs.limits import BUILT_IN
from causalft.runs.resources import require_room

__all__ = ["fit_members", "member_bytes", "member_folder", "page_bytes", "require_room_for_fit"]

_SHA256 = 64  # hexadecimal digits of each image, in images.parquet


class _Settings(Protocol):
    """What is asked of :class:`FitSettings`."""

    @property
    def strata(self) -> tuple[str, ...]: ...
    @property
    def seed(self) -> int: ...


def fit_members(settings: _Settings, control: Iterable[MemberName]) -> list[MemberName]:
    """Return everything that a fit tunes for a seed: the strata, and the members of the control beside them."""
    strata = [MemberName.parse(name) for name in settings.strata]
    return [*strata, *(member for member in control if str(member) not in settings.strata)]


def member_folder(out: str | os.PathLike[str], settings: _Settings, member: MemberName, number: int) -> Path:
    """Return the folder of a member in that of a fit, for the seed of this number."""
    base = Path(out) if number == 0 else Path(out) / "seeds" / str(settings.seed + number)
    if str(member) in settings.strata:
        return stratum_folder(base, str(member))
    return base / "controls" / folder_name(str(member))


def member_bytes(
    splits: Splits, *, tuned_bytes: int = 0, feature_dim: int = 0, gla: bool = False, true_prior: bool = False
) -> int:
    """Return the bytes of one member for one seed: logits, labels and priors, what is tuned, and anchors of GLA-FT."""
    n_validation, n_classes = len(splits.validation), len(splits.class_names)
    logits = stored_bytes(n_validation, len(splits.test), n_classes)
    anchors = 4 * n_classes * (feature_dim + 1) if gla else 0
    return logits + 8 * n_validation + 8 * n_classes * (1 + true_prior) + tuned_bytes + anchors


def page_bytes(splits: Splits, settings: FitSettings) -> int:
    """Return the bytes of the tables of images: ``predictions.parquet`` and, of your own images, ``images.parquet``."""
    n_classes = len(splits.class_names)
    every = settings.all_probabilities or n_classes <= MANY_CLASSES
    # Float64 probabilities of the best class, float32 ones of the others; names of classes are coded.
    row = 8 * (1 + len(settings.strata)) + (
        4 * n_classes if every else 8 + (4 + 2) * min(settings.top, n_classes)
    )
    parts = (splits.train, splits.validation, splits.test)
    predictions = row * len(splits.test) + sum(map(len, splits.test.files))
    if settings.data in BUILT_IN:
        return predictions
    return predictions + sum(sum(map(len, part.files)) + _SHA256 * len(part) for part in parts)


def require_room_for_fit(
    settings: FitSettings, control: Iterable[MemberName], splits: Splits, out: str | os.PathLike[str]
) -> None:
    """Refuse a fit whose logits and tables alone do not fit on the disk; members that are finished do not count.

    Raises
    ------
    CausalFTError
        As :func:`causalft.runs.resources.require_room`.
    """
    left = sum(
        not (member_folder(out, settings, member, number) / PREDICTIONS).exists()
        for member in fit_members(settings, control)
        for number in range(settings.n_seeds)
    )
    needed = left * member_bytes(splits) + page_bytes(splits, settings)
    require_room(out, needed, "the run", "choose another folder (--out)")
