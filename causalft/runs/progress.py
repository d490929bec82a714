"""Progress on standard error: a bar on a terminal, plain lines elsewhere.

Inside :func:`spoken`, which every command opens, each phase without a bar is printed once the command has run for
:data:`PATIENCE` seconds, and again every :data:`OFTEN` seconds; after :data:`LONG` seconds of the command, every
:data:`AGAIN` seconds. In Python and notebooks only bars are shown.
"""

from __future__ import annotations

import functools
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

__all__ = ["AGAIN", "LONG", "OFTEN", "PATIENCE", "Phase", "named", "phase", "silence", "spoken", "steps"]

PATIENCE = 4.5
"""Seconds before a command prints its first line."""

TICK = 0.25
"""Seconds between checks of the clock."""

OFTEN = 4.5
"""Seconds between lines of one phase, at first."""

LONG = 180.0
"""Seconds after which a command speaks less often."""

AGAIN = 30.0
"""Seconds between lines of one phase of a long command."""

T = TypeVar("T")
P = ParamSpec("P")


class Phase:
    """A running phase; see :func:`phase`.

    Attributes
    ----------
    label : str
    total : int, optional
        Total steps.
    n : int
        Steps done.
    """

    def __init__(
        self,
        label: str,
        total: int | None,
        initial: int,
        bar: Any,
        speaker: _Speaker | None,
        counted: str = "",
    ) -> None:
        self.label, self.total, self.n, self._counted = label, total, initial, counted
        self._bar, self._speaker = bar, speaker
        self.started, self.said = time.monotonic(), 0.0
        if speaker is not None:
            speaker.begin(self)

    def update(self, n: int = 1) -> None:
        """Count ``n`` more steps."""
        self.n += n
        if self._bar is not None:
            self._bar.update(n)

    def set_postfix(self, **values: object) -> None:
        """Show values after the bar, if there is one."""
        if self._bar is not None:
            self._bar.set_postfix(**values)

    def close(self) -> None:
        """End the phase; may be called again."""
        if self._bar is not None:
            self._bar.close()
        if self._speaker is not None:
            self._speaker.end(self)

    def __enter__(self) -> Phase:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def line(self) -> str:
        """The label; from the second line on with what is done, in percent or counted, and seconds."""
        if not self.said:
            return self.label
        seconds = f"{time.monotonic() - self.started:.0f} s"
        if not self.total:
            return f"{self.label}: {seconds}"
        if self._counted:
            return f"{self.label}: {self.n} of {self.total} {self._counted}, {seconds}"
        return f"{self.label}: {100 * min(self.n, self.total) // self.total} %, {seconds}"


class _Speaker:
    """Prints phases as plain lines from a thread."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._phases: list[Phase] = []
        self._last, self._when = "", 0.0  # the label said last, and when
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="phases", daemon=True)
        self._thread.start()

    def begin(self, phase: Phase) -> None:
        with self._lock:
            self._phases.append(phase)
            if self._last == phase.label and phase.started - self._when < OFTEN:
                phase.said = self._when  # again at once, as for each of many files
            elif time.monotonic() - self._started >= PATIENCE:
                self._say(phase)

    def end(self, phase: Phase) -> None:
        with self._lock:
            if phase in self._phases:
                self._phases.remove(phase)

    def stop(self) -> None:
        self._over.set()
        self._thread.join(timeout=5)

    def _watch(self) -> None:
        while not self._over.wait(TICK):
            with self._lock:
                now = time.monotonic()
                if not self._phases or now - self._started < PATIENCE:
                    continue
                current = self._phases[-1]
                pause = OFTEN if now - self._started < LONG else AGAIN
                if not current.said or now - current.said >= pause:
                    self._say(current)

    def _say(self, phase: Phase) -> None:
        if self._over.is_set():
            return
        line, phase.said = phase.line(), time.monotonic()
        self._last, self._when = phase.label, phase.said
        try:
            sys.stderr.write(f"causalft: {line}\n")
            sys.stderr.flush()
        except (OSError, ValueError):  # standard error was closed
            self._over.set()


_speaker: _Speaker | None = None
_silent = False


def silence() -> None:
    """Show no progress in this process: another one shows it."""
    global _silent
    _silent = True


@contextmanager
def spoken(label: str) -> Iterator[None]:
    """Print the phases inside if the block runs longer than :data:`PATIENCE` seconds; ``label`` between phases.

    Examples
    --------
    >>> with spoken("fit"), phase("reading images", total=20) as reading:
    ...     reading.update(20)
    """
    global _speaker
    outer, _speaker = _speaker, _Speaker()
    try:
        with phase(label):
            yield
    finally:
        _speaker.stop()
        _speaker = outer


def phase(
    label: str,
    total: int | None = None,
    *,
    initial: int = 0,
    unit: str = "it",
    leave: bool = True,
    progress: bool | None = None,
    counted: str = "",
) -> Phase:
    """Begin a phase; use it in a ``with`` block, or close it.

    Parameters
    ----------
    label : str
        For instance ``reading 600 images``.
    total : int, optional
        Total steps; without it there is no bar.
    initial : int
        Steps already done.
    unit : str
        Name of a step.
    leave : bool
        Keep the finished bar on the screen.
    progress : bool, optional
        Whether to show progress; by default a bar where standard error is a terminal.
    counted : str
        Name of several steps, for few and long ones: lines then say ``0 of 5 minis``, not a percentage.

    Examples
    --------
    >>> with phase("training", total=3, progress=False) as training:
    ...     training.update()
    ...     training.n
    1
    """
    if progress is False or _silent:
        return Phase(label, total, initial, None, None, counted)
    if total is not None and (progress or _is_terminal()):
        from tqdm import tqdm

        form = f"{{desc}}: {{n_fmt}} of {{total_fmt}} {counted} |{{bar}}| {{elapsed}}" if counted else None
        bar = tqdm(
            total=total,
            initial=initial,
            desc=label,
            unit=unit,
            leave=leave,
            file=sys.stderr,
            bar_format=form,
        )
        return Phase(label, total, initial, bar, None)
    return Phase(label, total, initial, None, _speaker, counted)


def steps(items: Iterable[T], label: str, total: int, **options: Any) -> Iterator[T]:
    """Yield ``items`` as the steps of a phase; ``options`` are those of :func:`phase`.

    Examples
    --------
    >>> list(steps("abc", "spelling", 3, progress=False))
    ['a', 'b', 'c']
    """
    with phase(label, total, **options) as running:
        for item in items:
            yield item
            running.update()


def named(label: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorate a slow function: each call is a phase.

    Examples
    --------
    >>> @named("adding up")
    ... def total(numbers):
    ...     return sum(numbers)
    >>> total([1, 2])
    3
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def spoken_function(*args: P.args, **kwargs: P.kwargs) -> T:
            with phase(label):
                return function(*args, **kwargs)

        return spoken_function

    return decorate


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()
