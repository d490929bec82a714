"""The test-time views by name, and how many squares each shows: the centre, five crops, or ten."""

from __future__ import annotations

from causalft.errors import CausalFTError, nearest

__all__ = ["TEST_VIEWS", "n_views"]

TEST_VIEWS = {"centre": 1, "five-crop": 5, "ten-crop": 10}
"""Name to number of squares."""


def n_views(view: str) -> int:
    """Return how many squares a view has.

    Raises
    ------
    CausalFTError
        With the nearest names.

    Examples
    --------
    >>> n_views("five-crop")
    5
    """
    if view not in TEST_VIEWS:
        raise CausalFTError(f"no test-time view {view!r}; {nearest(view, TEST_VIEWS)}")
    return TEST_VIEWS[view]
