"""Tasks side by side, each in a process of its own; Ctrl-C, or the end of this process, stops them all."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait

from causalft.errors import CausalFTError
from causalft.runs.progress import phase, silence

__all__ = ["Task", "side_by_side"]

Task = Callable[[], object]


def side_by_side(
    tasks: Sequence[Task],
    jobs: int,
    label: str,
    unit: str,
    start: Callable[[], object] | None = None,
    *,
    progress: bool | None = None,
    lighter: str = "with a smaller --jobs",
) -> None:
    """Run tasks in spawned processes, which show no progress; a single job or task runs in this one.

    Parameters
    ----------
    tasks : sequence of callables
        They can be pickled, and keep what they find on disk.
    jobs : int
        Processes.
    label, unit : str
        Of the progress; the unit in the singular.
    start : callable, optional
        Run once in every process, before its first task.
    progress : bool, optional
        As of :func:`causalft.runs.progress.phase`.
    lighter : str
        How to repeat a command that ran out of memory.

    Raises
    ------
    CausalFTError
        If a process is killed; and what a task raises. The others are stopped.

    Examples
    --------
    >>> side_by_side([lambda: print("one"), lambda: print("two")], 1, "numbers", "number")
    one
    two
    """
    if not tasks:
        return
    if jobs == 1 or len(tasks) == 1:
        if start is not None:
            start()
        for task in tasks:
            task()
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(tasks)), context, _begin, (start,)) as pool:
        with _deaf_to_interrupts():
            running = [pool.submit(task) for task in tasks]
        try:
            with phase(label, len(running), unit=unit, counted=f"{unit}s", progress=progress) as bar:
                for done in as_completed(running):
                    done.result()
                    bar.update()
        except BrokenProcessPool:
            raise CausalFTError(
                f"{label}: a process was killed, perhaps for want of memory; repeat the command {lighter}: "
                "what is finished is kept"
            ) from None
        except BaseException:
            # stop at once, also after Ctrl-C: what is finished is on disk, the rest resumes from a checkpoint
            for process in list(pool._processes.values()):
                process.terminate()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _begin(start: Callable[[], object] | None) -> None:
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    silence()
    if start is not None:
        start()


def _end_with_the_parent() -> None:
    """A parent that is killed can stop nobody: its processes would train on, and then wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Start worker processes that ignore Ctrl-C; this process stops them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
