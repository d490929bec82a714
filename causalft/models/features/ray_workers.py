"""The same work as a map of Ray Data, for machines without a common file system.

This machine reads the files; their bytes, the models and the results travel through Ray. A worker that dies is started
again and its shard is redone; what was yielded before stays.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from causalft.data.image_set import ImageSet
from causalft.data.images import read_image
from causalft.errors import CausalFTError
from causalft.models.features.parts import Part, Work
from causalft.runs.launch import is_launched
from causalft.runs.progress import phase

__all__ = ["RayWorkers", "check_ray"]

_SHARD = 512
"""Images a shard at most: what a dead worker loses."""
_SHARDS_A_WORKER = 4
"""At least, so that no worker waits long for the last one."""


@dataclass(frozen=True)
class RayWorkers:
    """Workers of the Ray cluster that RAY_ADDRESS names, else of a cluster on this machine.

    Attributes
    ----------
    workers : int
    gpus : float
        Of each worker.
    """

    workers: int
    gpus: float = 0.0

    @classmethod
    def open(cls, workers: int | None = None) -> RayWorkers:
        """Connect to Ray, or start it.

        Raises
        ------
        CausalFTError
            If Ray is not installed or cannot be reached, under a launcher, or with more workers than the cluster has
            processors.
        """
        check_ray()
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what fails is reported here
        import ray

        with phase("starting Ray"):
            try:
                if not ray.is_initialized():
                    ray.init(logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False)
                there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
            except (ConnectionError, RuntimeError, ValueError, OSError) as error:
                raise CausalFTError(
                    f"Ray cannot be started or reached ({' '.join(str(error).split())[:300]}); check RAY_ADDRESS, or "
                    "use --engine local"
                ) from error
        gpus, cpus = int(there.get("GPU", 0)), int(there.get("CPU", 0))
        most = gpus or cpus
        if workers is not None and workers > cpus:
            raise CausalFTError(
                f"--workers {workers}: the Ray cluster has {cpus} processors; give 1 to {cpus}"
            )
        chosen = workers or max(1, most)
        return cls(chosen, min(1.0, gpus / chosen))

    def parts(
        self, images: ImageSet, rows: Sequence[int], batch_size: int, work: Work, *, everywhere: bool = False
    ) -> Iterator[Part]:
        """Yield the parts of all rows, in order, as the workers return them."""
        if not len(rows):
            return
        import ray
        from ray.data import ActorPoolStrategy, DataContext

        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        context = DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        shards = _shards(rows, batch_size, self.workers)
        # Held until the end: a worker that starts again needs them.
        held_images, held_work = ray.put(images), ray.put(work)
        here = ray.get_runtime_context().get_node_id()
        read = (
            ray.data.from_items(shards, override_num_blocks=len(shards))
            .map_batches(
                _Reader,
                fn_constructor_args=([held_images],),
                batch_size=1,
                compute=ActorPoolStrategy(size=1),
                num_cpus=0,
                label_selector={"ray.io/node-id": here},
            )
            .map_batches(
                _Worker,
                fn_constructor_args=([held_work], batch_size),
                batch_size=None,
                compute=ActorPoolStrategy(size=self.workers),
                num_cpus=1,
                num_gpus=self.gpus,
            )
        )
        try:
            for table in read.iter_batches(batch_size=None, prefetch_batches=1, batch_format="numpy"):
                yield _part(cast(dict[str, NDArray[Any]], table))
        except ray.exceptions.RayError as error:
            raise _one_line(error) from error


def check_ray() -> None:
    """Refuse Ray where it is not installed, and under a launcher."""
    if is_launched():
        raise CausalFTError("--engine ray starts its own workers; run it without the launcher")
    if find_spec("ray") is None:
        raise CausalFTError(
            "--engine ray needs Ray, which is not installed; pip install 'causalft[ray]', or leave the option out and "
            "start several processes with torchrun"
        )


def _shards(rows: Sequence[int], batch_size: int, workers: int) -> list[dict[str, NDArray[np.int64]]]:
    """Consecutive rows, whole batches."""
    even = -(-len(rows) // (workers * _SHARDS_A_WORKER))
    size = max(1, min(_SHARD, even) // batch_size) * batch_size
    flat = np.asarray(rows, dtype=np.int64)
    return [{"rows": flat[start : start + size]} for start in range(0, len(flat), size)]


class _Reader:
    """Reads the files of a shard, on the machine that has them."""

    def __init__(self, held: list[Any]) -> None:
        self._images: ImageSet = _opened(held)

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        rows = np.concatenate([np.asarray(part, dtype=np.int64) for part in batch["rows"]])
        data, errors = [], []
        for row in rows.tolist():
            try:
                data.append(self._bytes(row))
                errors.append("")
            except CausalFTError as error:
                data.append(b"")
                errors.append(str(error))
        names = [self._images.files[row] for row in rows.tolist()]
        return {"row": rows, "data": _objects(data), "name": _objects(names), "error": _objects(errors)}

    def _bytes(self, row: int) -> bytes:
        return self._images.read_bytes(row)


class _Worker:
    """Holds the models and does the work."""

    def __init__(self, held: list[Any], batch_size: int) -> None:
        self._work: Work = _opened(held)
        with suppress(AttributeError):  # work with models on a device
            self._work.to_own_device()  # type: ignore[attr-defined]

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        rows = batch["row"].astype(np.int64)
        images = ImageSet(
            _Received(batch["data"], batch["name"], batch["error"]),
            np.arange(len(rows)),
            batch["name"].tolist(),
            np.zeros(len(rows), np.int64),
            ["unlabelled"],
            name="shard",
        )
        return _table(rows, list(self._work(images, range(len(rows)))))


class _Received:
    """Files of images that came as bytes."""

    location = ""

    def __init__(self, data: NDArray[Any], names: NDArray[Any], errors: NDArray[Any]) -> None:
        self._data, self._names, self._errors = data, names, errors

    def read(self, row: int) -> bytes:
        if self._errors[row]:
            raise CausalFTError(str(self._errors[row]))
        return self._data[row]

    def image(self, row: int) -> Image.Image:
        return read_image(self.read(row), self._names[row])

    def size(self, row: int) -> int:
        return len(self._data[row])

    def quick_key(self, row: int) -> tuple[int | bytes, ...]:
        return (self.size(row),)


def _table(rows: NDArray[np.int64], parts: Sequence[Part]) -> dict[str, NDArray[Any]]:
    """One table of all rows: those that were skipped have a message, and zeros for values."""
    found = np.concatenate([part.rows for part in parts])
    errors = np.full(len(rows), "", dtype=object)
    for part in parts:
        for place, message in part.skipped:
            errors[place] = message
    table: dict[str, NDArray[Any]] = {"row": rows, "error": errors}
    values = [part.values for part in parts if len(part.rows)]
    for name in values[0] if values else ():
        each = np.concatenate([value[name] for value in values])
        whole = np.zeros((len(rows), *each.shape[1:]), each.dtype)
        whole[found] = each
        table[f"value:{name}"] = whole
    return table


def _part(table: dict[str, NDArray[Any]]) -> Part:
    rows, errors = table["row"].astype(np.int64), table["error"]
    good = np.array([not error for error in errors], dtype=bool)
    values = {name[6:]: value[good] for name, value in table.items() if name.startswith("value:")}
    return Part(
        rows[good],
        values if good.any() else {},
        tuple((int(row), str(error)) for row, error in zip(rows[~good], errors[~good])),
    )


def _opened(held: list[Any]) -> Any:
    import ray

    return ray.get(held[0])


def _objects(items: Sequence[Any]) -> NDArray[Any]:
    found = np.empty(len(items), dtype=object)
    found[:] = items
    return found


def _one_line(error: BaseException) -> CausalFTError:
    """The error of a worker as this process would have raised it."""
    met: list[BaseException] = [error]
    for each in met:  # grows
        if isinstance(each, CausalFTError):
            return CausalFTError(str(each))
        met += [e for e in (getattr(each, "cause", None), each.__cause__) if isinstance(e, BaseException)]
    last = met[-1]
    said = " ".join(str(last).split())[-300:]
    return CausalFTError(
        f"a worker of Ray failed ({type(last).__name__}: {said}); repeat the command to resume"
    )
