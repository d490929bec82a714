"""Test-time adaptation: a tuned stratum adapts to the images that it predicts, batch by batch. Imports no PyTorch.

A method is a record in the file that implements it, read from its source (:mod:`causalft.runs.records`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from causalft.errors import CausalFTError
from causalft.runs.records import Records

__all__ = ["AT_TEST", "AtTest", "BATCH_SIZE", "LEAST_BATCH", "adaptation", "check_adapt"]

BATCH_SIZE = 128
"""Images per batch, as in CLIPTTA."""

LEAST_BATCH = 8
"""Smaller batches are predicted with the model as adapted so far: their class distribution says too little."""


@dataclass(frozen=True)
class AtTest:
    """A method of test-time adaptation.

    Attributes
    ----------
    name, help : str
        ``help`` says what it does, in one line.
    changes : str
        What it changes in an image tower, in words that follow "changes".
    places : callable
        ``places(tower) -> list of str``: names of the tower's modules that it changes; empty where it is not defined.
    objective : callable, optional
        ``objective(n_classes) -> Objective`` (:class:`causalft.methods.adaptation.at_test.objectives.Objective`): the
        loss that is minimised, and what it remembers of the stream. None: the modules only take statistics of the
        batch (BatchNorm).
    stored_images : float, optional
        Without an objective: images that the stored statistics are worth beside those of a batch; 0 takes those of the
        batch alone.
    formula : str
        The loss: Markdown with TeX.
    lr : float
        Learning rate of Adam.
    steps : int
        Steps per batch.
    reach : float
        How far a value may get from where it started: without such a bound a long stream drifts without end.
    order : int
        In lists.
    source : str
    """

    name: str
    help: str
    changes: str
    places: Callable[[Any], list[str]]
    objective: Callable[[int], Any] | None = None
    formula: str = ""
    lr: float = 1e-4
    steps: int = 10
    reach: float = 0.02
    stored_images: float = 0.0
    order: int = 0
    source: str = ""


AT_TEST = Records("causalft.methods.adaptation.at_test", AtTest, "method of test-time adaptation")
"""Every method by name."""


def adaptation(method: str, stored_images: float | None = None) -> AtTest:
    """Return a method by name, its stored statistics worth another number of images if one is given.

    Raises
    ------
    CausalFTError
        For an unknown method, or a number for a method that takes no statistics.

    Examples
    --------
    >>> adaptation("bn", 0).stored_images
    0
    """
    found = AT_TEST.get_or_refuse(method)
    if stored_images is None:
        return found
    if found.objective is not None:
        takes = " or ".join(name for name, other in AT_TEST.items() if other.objective is None)
        raise CausalFTError(
            f"--stored-images goes with --adapt {takes}; {method} takes no statistics, so leave it out"
        )
    return replace(found, stored_images=stored_images)


def check_adapt(
    method: str,
    engine: str,
    batch_size: int,
    coverage: float | None,
    processes: int = 1,
    stored_images: float | None = None,
) -> None:
    """Refuse what test-time adaptation does not go with.

    Raises
    ------
    CausalFTError
        As :func:`adaptation`, and for several processes, batches that are too small, or prediction sets.
    """
    adaptation(method, stored_images)
    if engine != "local" or processes > 1:
        raise CausalFTError(
            "--adapt follows the images in their order, so one process predicts; leave --engine ray and torchrun out"
        )
    if batch_size < LEAST_BATCH:
        raise CausalFTError(
            f"--adapt needs batches of {LEAST_BATCH} images or more, and --batch-size is {batch_size}; "
            f"give {BATCH_SIZE}, or leave it out"
        )
    if coverage is not None:
        raise CausalFTError(
            "--sets does not go with --adapt: the thresholds are those of the unadapted model; leave one out"
        )
