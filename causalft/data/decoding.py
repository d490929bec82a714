"""Many images to one array: read and transformed in threads, in order, until the first error."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from causalft.data.image_set import ImageSet
from causalft.errors import CausalFTError
from causalft.runs.progress import phase

__all__ = ["damaged_images", "decode", "decode_threads", "to_pixels", "usable_cores"]


def usable_cores() -> int:
    """Return the number of processors that this process may use, at least 1.

    Examples
    --------
    >>> 1 <= usable_cores() <= os.cpu_count()
    True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def decode_threads(threads: int | None = None) -> int:
    """Return how many threads read pictures: as many as asked for, or one a usable processor, at most 8.

    Pillow gives up the interpreter's lock while it decodes and resizes, so threads are enough.

    Examples
    --------
    >>> decode_threads(3), decode_threads(0), decode_threads() <= 8
    (3, 1, True)
    """
    return min(8, usable_cores()) if threads is None else max(1, threads)


_CHUNK = 64
_Result = TypeVar("_Result")


def to_pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Return the pixels, (H, W, 3) uint8.

    Examples
    --------
    >>> to_pixels(Image.new("RGB", (3, 2))).shape
    (2, 3, 3)
    """
    return np.asarray(image, dtype=np.uint8)


def decode(
    images: ImageSet,
    indices: ArrayLike | None = None,
    transform: Callable[[Image.Image], NDArray[Any]] = to_pixels,
    progress_label: str = "reading images",
    threads: int | None = None,
    *,
    progress: bool | None = None,
) -> NDArray[Any]:
    """Read images and stack what ``transform`` makes of each.

    Parameters
    ----------
    images : ImageSet
    indices : (m,) array of int, optional
        Which images, in this order; all by default.
    transform : callable, PIL image to array
        Must give the same shape for every image. It runs in several threads at once.
    progress_label : str
    threads : int, optional
        One a usable processor by default, at most 8 (:func:`causalft.data.decoding.decode_threads`).
    progress : bool, optional
        Show the bar on standard error; by default if that is a terminal.

    Returns
    -------
    (m, ...) array
        Row j is ``transform(images.image(indices[j]))``.

    Raises
    ------
    CausalFTError
        For the first image (in order) that cannot be read or that comes out in another shape; nothing is returned.

    Examples
    --------
    >>> images = ImageSet.from_arrays(np.arange(2 * 12, dtype=np.uint8).reshape(2, 2, 2, 3), [0, 1], ["a", "b"])
    >>> decode(images, [1, 0])[:, 0, 0].tolist()
    [[12, 13, 14], [0, 1, 2]]
    """
    chosen = np.arange(len(images)) if indices is None else np.asarray(indices, dtype=np.int64)
    if chosen.ndim != 1 or len(chosen) == 0:
        raise CausalFTError(f"no image of {images.location} was chosen; give at least one index")
    first = np.asarray(transform(images.image(int(chosen[0]))))
    out = np.empty((len(chosen), *first.shape), dtype=first.dtype)
    out[0] = first
    stop = threading.Event()

    def work(start: int, end: int) -> int:
        for j in range(start, end):
            if stop.is_set():
                break
            value = np.asarray(transform(images.image(int(chosen[j]))))
            if value.shape != first.shape:
                name = images.files[int(chosen[j])]
                raise CausalFTError(
                    f"image {name} in {images.location} has shape {value.shape}, the first one {first.shape}; "
                    "use a transform that brings all images to one size"
                )
            out[j] = value
        return end - start

    n_threads = decode_threads(threads)
    bar = phase(progress_label, len(chosen), initial=1, unit="img", progress=progress)
    with bar, ThreadPoolExecutor(n_threads, thread_name_prefix="decode") as pool:
        try:
            for done in _in_order(pool, work, range(1, len(chosen)), 4 * n_threads):
                bar.update(done)
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return out


def damaged_images(
    images: ImageSet, *, threads: int | None = None, progress: bool | None = None
) -> dict[str, str]:
    """Read every image once and name those that cannot be read; nothing is kept.

    Parameters
    ----------
    images : ImageSet
    threads, progress : optional
        As in `decode`.

    Returns
    -------
    dict of str to str
        File to what is wrong with it, in order.

    Examples
    --------
    >>> damaged_images(ImageSet.from_arrays(np.zeros((2, 2, 2, 3), np.uint8), [0, 1], ["a", "b"]))
    {}
    """

    def work(start: int, end: int) -> list[tuple[str, str]]:
        found = []
        for i in range(start, end):
            try:
                images.image(i)
            except CausalFTError as error:
                found.append((images.files[i], str(error)))
        return found

    n_threads = decode_threads(threads)
    bar = phase("checking images", len(images), unit="img", progress=progress)
    damaged: dict[str, str] = {}
    with bar, ThreadPoolExecutor(n_threads, thread_name_prefix="check") as pool:
        for chunk in _in_order(pool, work, range(len(images)), 4 * n_threads):
            damaged.update(chunk)
            bar.update(min(_CHUNK, len(images) - bar.n))
    return damaged


def _in_order(
    pool: ThreadPoolExecutor, work: Callable[[int, int], _Result], rows: range, ahead: int
) -> Iterator[_Result]:
    """Run ``work`` on chunks of ``rows`` and yield its results in order, few of them waiting at any time."""
    waiting: list[Future[_Result]] = []
    for start in rows[::_CHUNK]:
        waiting.append(pool.submit(work, start, min(start + _CHUNK, rows.stop)))
        if len(waiting) >= ahead:
            yield waiting.pop(0).result()
    for future in waiting:
        yield future.result()
