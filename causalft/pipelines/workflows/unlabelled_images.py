"""The unlabelled images of a run: opened or drawn with its data, less those that are also in its splits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from causalft.data.hidden import Unlabelled
from causalft.data.splits import Splits
from causalft.data.unlabelled import leave_out, open_unlabelled
from causalft.errors import CausalFTError
from causalft.methods.adaptation.tune import encode_zero_shot
from causalft.methods.estimators.settings import FitSettings
from causalft.methods.semi.law import estimate_law
from causalft.methods.semi.outliers import energy, find_outliers
from causalft.models.features.cache import cache_of
from causalft.models.strata.cards import MemberName
from causalft.models.strata.zoo import Zoo
from causalft.models.tuning.processes import pick_device
from causalft.pipelines.workflows.fit_data import unlabelled_options
from causalft.runs.limits import CREATURES

__all__ = ["unlabelled_beside", "unlabelled_of", "without_outliers"]

_MOST_UNLABELLED = 20_000
"""Images without labels that are read where one number is chosen on them."""


def unlabelled_of(
    settings: FitSettings, splits: Splits, say: Callable[[str], None] = lambda line: None
) -> Unlabelled | None:
    """Return the unlabelled images that a fit uses; None where nothing asks for any.

    A method learns from all of them; an adjusted fusion chooses its strength on 20,000 at most.

    Raises
    ------
    CausalFTError
        As :func:`unlabelled_beside`.
    """
    strict = unlabelled_options(settings).strict
    if settings.semi.method is not None and settings.semi.record.unlabelled:
        return unlabelled_beside(settings.unlabeled, splits, strict=strict, say=say)
    if not settings.uses_unlabelled:
        return None
    at_most = None if settings.unlabeled == CREATURES else _MOST_UNLABELLED
    found = unlabelled_beside(settings.unlabeled, splits, at_most=at_most, strict=strict, say=say)
    return found if found is None else found.at_most(_MOST_UNLABELLED)


def unlabelled_beside(
    path: str | None,
    splits: Splits,
    *,
    at_most: int | None = None,
    strict: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Unlabelled | None:
    """Return the unlabelled images of a run; those that are also labelled, validation or test images are left out.

    Parameters
    ----------
    path : str, optional
        As for :func:`causalft.data.unlabelled.open_unlabelled`; by default those that were drawn with the splits.
    splits : Splits
    at_most : int, optional
        Draw this many at random, if there are more.
    strict : bool
        Refuse images that are also in a split instead of leaving them out.
    say : callable
        Called with a line per note, and with the numbers.

    Returns
    -------
    Unlabelled or None
        None if no path is given and none were drawn.

    Raises
    ------
    CausalFTError
        If there is no image, or none that is in no split; with ``strict`` for any that is in one.
    """
    found = splits.unlabelled if path is None else open_unlabelled(path, at_most)
    if found is None:
        return None
    for note in found.notes if path is not None else ():  # those of drawn images are the data's own
        say(f"note     {note}")
    parts = {"test": splits.test, "validation": splits.validation, "training": splits.train}
    kept = leave_out(found, parts, strict=strict)
    gone = [f"{count} {part}" for part, count in kept.left_out.items() if count]
    if gone:
        say(f"note     left out unlabelled images that are in the run: {', '.join(gone)}")
    say(f"images   {len(splits.train)} labelled, {len(kept)} unlabelled ({found.where})")
    return kept


def without_outliers(
    settings: FitSettings, zoo: Zoo, splits: Splits, unlabelled: Unlabelled
) -> tuple[Unlabelled, str]:
    """Leave out unlabelled images that look like no labelled class, and say how many.

    The strata are asked zero-shot, since a method would learn from such images while they are tuned
    (:func:`causalft.methods.semi.outliers.find_outliers`), and by the energy of their mean logits: images of noise are
    told from known ones more often than by the largest probability, or by one stratum (AUC 0.98; single strata 0.73 to
    0.97 on the built-in images).

    Raises
    ------
    CausalFTError
        If all images would be left out.
    """
    logits = [_zero_shot(settings, zoo, name, splits, unlabelled) for name in settings.strata]
    validation, found = ([pair[part] for pair in logits] for part in (0, 1))
    labels, counts = splits.validation.labels, splits.train.class_counts
    law = estimate_law(np.mean(validation, axis=0), labels, np.mean(found, axis=0), counts).law
    outliers = find_outliers(energy(*validation), labels, energy(*found), law)
    low, high = (100 * end for end in outliers.ci95)
    share = f"at least {100 * outliers.share:.0f} % [{low:.0f}, {high:.0f}] look like no labelled class"
    if not outliers.drop.any():
        return (
            unlabelled,
            f"no unlabelled image left out: no evidence of other classes (p = {outliers.p:.2f})",
        )
    if outliers.drop.all():
        raise CausalFTError("every unlabelled image looks like no labelled class; give others")
    kept = unlabelled.subset(~outliers.drop)
    return kept, f"left out {int(outliers.drop.sum())} unlabelled images: {share}"


def _zero_shot(
    settings: FitSettings, zoo: Zoo, name: str, splits: Splits, unlabelled: Unlabelled
) -> list[NDArray[np.float64]]:
    """Logits of the validation and of the unlabelled images by a stratum that is not tuned."""
    stratum = zoo.load(MemberName.parse(name).weights, device=pick_device(settings.device))
    found = encode_zero_shot(
        stratum,
        splits.class_names,
        settings.tuning,
        [splits.validation, unlabelled.images],
        train=None if stratum.has_text else splits.train,
        cache=cache_of(settings.cache, settings.data),
    )
    return [np.asarray(each, dtype=float) for each in found.logits]
