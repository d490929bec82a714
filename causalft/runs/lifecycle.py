"""The life of a run: lock the folder, refuse or resume, compute, write the page, finish with time and version."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from causalft.runs.documents import Document
from causalft.runs.folder import CONFIG, Run, holds_results
from causalft.runs.locks import writing
from causalft.version import __version__

__all__ = ["NewRun", "made_record", "new_run"]


class NewRun:
    """A run in progress; see :func:`new_run`.

    Attributes
    ----------
    seconds_before : float
        Time spent by an interrupted call on results that this call reads back; whoever reads them adds it.
    """

    def __init__(self, path: Path | None, kind: str, writes: bool) -> None:
        self._path, self._kind, self._writes = path, kind, writes and path is not None
        self._started, self.seconds_before = time.perf_counter(), 0.0
        self.kept: Run | None = None
        """The created run; None without a folder."""

    def create(self, config: Document, *, defaults: Mapping[str, Any] | None = None) -> None:
        """Write ``config.json``, or resume the interrupted run of the same configuration; see `Run.create`."""
        if self._path is None:
            return
        if self._writes:
            self.kept = Run.create(self._path, kind=self._kind, config=config, defaults=defaults)
        else:
            self.kept = Run(self._path, self._kind, config)

    @property
    def run(self) -> Run:
        """The created run; requires a folder."""
        assert self.kept is not None
        return self.kept

    def stamp(self) -> Document:
        """Return ``{seconds, made}``: seconds so far, and :func:`made_record`."""
        seconds = time.perf_counter() - self._started + self.seconds_before
        return {"seconds": seconds, "made": made_record()}

    def finish(
        self,
        metrics: Mapping[str, Any],
        page: Callable[[Run, Document], object] | None = None,
        *,
        stamp: tuple[str, ...] = ("seconds", "made"),
    ) -> Document:
        """Write the page, then ``metrics.json``, which completes the run; return its content.

        Parameters
        ----------
        metrics : mapping
        page : callable, optional
            ``page(run, metrics)`` writes figures and ``report.html``.
        stamp : tuple of str
            Keys of :meth:`stamp` to add; those already in ``metrics`` keep their place.
        """
        document = {**metrics, **{key: value for key, value in self.stamp().items() if key in stamp}}
        if self._writes:
            if page is not None:
                page(self.run, document)
            self.run.finish(document)
        return document


@contextmanager
def new_run(out: str | os.PathLike[str] | None, kind: str, *, writes: bool = True) -> Iterator[NewRun]:
    """Hold the folder of a new run while the block computes it.

    The folder is locked, and refused at once if occupied. A block that fails before its first result leaves no folder.

    Parameters
    ----------
    out : path, optional
        Without a folder nothing is written.
    kind : str
        As in :class:`causalft.runs.folder.Run`.
    writes : bool
        False in the helper processes of a distributed run.

    Raises
    ------
    CausalFTError
        As :func:`causalft.runs.locks.writing` and :meth:`causalft.runs.folder.Run.check`.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "run"
    >>> with new_run(folder, "fit") as new:
    ...     new.create({"seed": 1})
    ...     _ = new.finish({"accuracy": 0.5})
    >>> sorted(Run.open(folder).metrics)
    ['accuracy', 'made', 'seconds']
    """
    if out is None or not writes:
        yield NewRun(None if out is None else Path(out), kind, writes)
        return
    with writing(out), _no_empty_run(Path(out)):
        Run.check(out, kind=kind)
        yield NewRun(Path(out), kind, writes)


@contextmanager
def _no_empty_run(folder: Path) -> Iterator[None]:
    there, described = folder.exists(), (folder / CONFIG).exists()
    try:
        yield
    except BaseException:
        if not described and (folder / CONFIG).exists() and not holds_results(folder):
            (folder / CONFIG).unlink(missing_ok=True)
            if not there:
                shutil.rmtree(folder, ignore_errors=True)
        raise


def made_record() -> dict[str, str]:
    """Return ``{date, version}``, the entry ``made`` of ``metrics.json``.

    The date is a UTC day such as ``2026-11-28``, or that of ``SOURCE_DATE_EPOCH`` (seconds since 1970) if set. Pages
    read it from the document, so that they can be reproduced.

    Examples
    --------
    >>> sorted(made_record())
    ['date', 'version']
    """
    fixed = os.environ.get("SOURCE_DATE_EPOCH", "")
    seconds = int(fixed) if fixed.isdecimal() else time.time()
    return {"date": time.strftime("%Y-%m-%d", time.gmtime(seconds)), "version": __version__}
