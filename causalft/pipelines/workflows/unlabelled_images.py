"""The unlabelled images of a run: opened or drawn with its data, less those that are also in its splits."""

from __future__ import annotations

from collections.abc import Callable

from causalft.data.hidden import Unlabelled
from causalft.data.splits import Splits
from causalft.data.unlabelled import leave_out, open_unlabelled

__all__ = ["unlabelled_beside"]


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
