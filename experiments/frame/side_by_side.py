"""What an experiment trains, in processes side by side: members, and models that learn in their own way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from experiments.frame.lab import Lab

__all__ = ["Work", "train", "usual_jobs"]

Work: TypeAlias = "Callable[[Lab], object]"

_MEMORY = 2 * 2**30
"""Bytes that a process takes at the scales mini and photo."""


def usual_jobs(scale: str) -> int:
    """One process for each core and 2 GiB of free memory; one on a GPU, and for the real sets and weights."""
    import psutil

    from causalft.data.image_set import usable_cores
    from causalft.models.tuning.processes import pick_device

    if scale == "full" or pick_device("auto").type != "cpu":
        return 1
    return max(1, min(usable_cores(), psutil.virtual_memory().available // _MEMORY))


def train(lab: Lab, work: Sequence[Work], what: str) -> None:
    """Do work that keeps what it finds on disk, ``lab.jobs`` at a time.

    Parameters
    ----------
    lab : Lab
    work : sequence of callables
        Called with the lab of their process.
    what : str
        Their name in the progress bar, in the plural.
    """
    from causalft.runs.side_by_side import side_by_side

    tasks = [partial(_do, each) for each in work]
    side_by_side(tasks, lab.jobs, what, what.removesuffix("s"), partial(_enter, lab.alone))


_lab: Lab | None = None
"""That of this process; it keeps the images it has drawn between tasks."""


def _enter(lab: Lab) -> None:
    import torch

    from causalft.data.image_set import usable_cores

    global _lab
    _lab = lab
    torch.set_num_threads(max(1, usable_cores() // lab.jobs))


def _do(work: Work) -> None:
    assert _lab is not None
    work(_lab)
