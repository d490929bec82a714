"""The life of a run: lock the folder, refuse or resume, compute, write the page, finish with time and version."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from causalft.runs.folder import CONFIG, Run, holds_results
from causalft.runs.locks import writing
from causalft.version import __version__

__all__ = ["NewRun", "made_record", "new_run"]


class NewRun:
    """A run that is being made; :func:`new_run` gives one.

    Attributes
    ----------
    seconds_before : float
        What an interrupted call spent on the results that this call reads back; added by whoever reads them.
    """

    def __init__(self, path: Path | None, kind: str, writes: bool) -> None:
        self._path, self._kind, self._writes = path, kind, writes and path is not None
        self._started, self.seconds_before = time.perf_counter(), 0.0
        self.kept: Run | None = None
        """The run once it is created; None without a folder."""

    def create(self, config: dict[str, Any], *, defaults: Mapping[str, Any] | None = None) -> None:
        """Write ``config.json``, or resume the interrupted run of the same configuration; see `Run.create`."""
        if self._path is None:
            return
        if self._writes:
            self.kept = Run.create(self._path, kind=self._kind, config=config, defaults=defaults)
        else:
            self.kept = Run(self._path, self._kind, config)

    @property
    def run(self) -> Run:
        """The run; only with a folder, and after :meth:`create`."""
        assert self.kept is not None
        return self.kept

    def stamp(self) -> dict[str, Any]:
        """``{seconds, made}``: the time taken until now, and day and version."""
        seconds = time.perf_counter() - self._started + self.seconds_before
        return {"seconds": seconds, "made": made_record()}

    def finish(
        self,
        metrics: Mapping[str, Any],
        page: Callable[[Run, dict[str, Any]], object] | None = None,
        *,
        stamp: tuple[str, ...] = ("seconds", "made"),
    ) -> dict[str, Any]:
        """Have the page written, then ``metrics.json``, after which the run is complete; return its content.

        Parameters
        ----------
        metrics : mapping
        page : callable, optional
            ``page(run, metrics)`` writes figures and ``report.html``; not called without a folder.
        stamp : tuple of str
            What to add of :meth:`stamp`; a key that ``metrics`` has already keeps its place.
        """
        document = {**metrics, **{key: value for key, value in self.stamp().items() if key in stamp}}
        if self._writes:
            if page is not None:
                page(self.run, document)
            self.run.finish(document)
        return document


@contextmanager
def new_run(out: str | os.PathLike[str] | None, kind: str, *, writes: bool = True) -> Iterator[NewRun]:
    """Hold the folder of a new run of this kind while the block makes it.

    The folder is locked, and an occupied one is refused before anything is read for it. A block that fails before its
    first result leaves no folder behind; what was there before stays.

    Parameters
    ----------
    out : path, optional
        None computes the same and writes nothing.
    kind : str
        As in :class:`causalft.runs.folder.Run`.
    writes : bool
        False in a process that only computes along with the one that writes.

    Raises
    ------
    CausalFTError
        If another process writes there, or as :meth:`causalft.runs.folder.Run.check`.

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
    """When and by which version a run is made: ``{date, version}``, the entry ``made`` of its ``metrics.json``.

    The date is a day of UTC, ``2026-11-28``. Pages take it from there and ask no clock, so that drawing one again gives
    the same page. Where ``SOURCE_DATE_EPOCH`` is set (seconds since 1970), it is that day: equal runs of different days
    then give equal documents, but for their ``seconds``.

    Examples
    --------
    >>> sorted(made_record())
    ['date', 'version']
    """
    fixed = os.environ.get("SOURCE_DATE_EPOCH", "")
    seconds = int(fixed) if fixed.isdecimal() else time.time()
    return {"date": time.strftime("%Y-%m-%d", time.gmtime(seconds)), "version": __version__}
