"""Images to features: crops, kept in memory or read in threads, encoded in the fastest precision."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from causalft.data.image_set import ImageSet, decode, decode_threads
from causalft.data.images import end_pieces, middle_of_strip
from causalft.errors import CausalFTError, several
from causalft.models.strata.stratum import Stratum
from causalft.models.tuning.choices import TEST_VIEWS, n_views
from causalft.models.tuning.devices import autocast
from causalft.models.tuning.precision import settle_precision
from causalft.models.tuning.team import current_team
from causalft.models.tuning.towers import Tower, open_tower
from causalft.runs.progress import phase

__all__ = [
    "TEST_VIEWS",
    "Crops",
    "Cut",
    "batches",
    "encode_all",
    "frozen_encoder",
    "n_views",
    "open_frozen",
    "resized_side",
    "stream_crops",
    "view_cut",
]


IN_MEMORY_BYTES = 2 * 2**30


class Crops:
    """Square uint8 crops of an image set, as one stratum takes them.

    ``crops[torch.tensor([4, 2])]`` has shape (2, size, size, 3). Processes that work together
    (:func:`causalft.models.tuning.team.work_together`) each read only the images they use.

    Parameters
    ----------
    images : ImageSet
    stratum : Stratum
    progress : bool, optional
    in_memory_bytes : int
        Sets up to this size are read once and kept; larger ones are read for every batch.
    """

    def __init__(
        self,
        images: ImageSet,
        stratum: Stratum,
        *,
        progress: bool | None = None,
        in_memory_bytes: int = IN_MEMORY_BYTES,
    ) -> None:
        self.images, self.stratum = images, stratum
        self.kept: Tensor | None = None
        self._part: _PartInMemory | None = None
        if len(images) * stratum.image_size**2 * 3 > in_memory_bytes:
            return
        if current_team().count > 1:
            self._part = _PartInMemory(len(images), stratum.image_size)
        else:
            label = f"reading {several(images, 'image', 'images')} for {stratum.name}"
            self.kept = torch.from_numpy(decode(images, None, stratum.crop, label, progress=progress))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, indices: Tensor) -> Tensor:
        if self.kept is not None:
            return self.kept[indices]
        if self._part is not None:
            return self._part.take(indices, self._read)
        return self._read(indices)

    def _read(self, indices: Tensor) -> Tensor:
        return torch.from_numpy(decode(self.images, np.asarray(indices), self.stratum.crop, progress=False))

    def stream(self, rows: Sequence[int], batch_size: int, **options: Any) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (rows, pixels) of these rows, in order; what is not in memory is read ahead."""
        held = self.kept if self._part is None else self._part.all_of(rows)
        if held is not None:
            with phase(options["label"], len(rows), unit="img", progress=options["progress"]) as bar:
                for first in range(0, len(rows), batch_size):
                    chosen = torch.tensor(rows[first : first + batch_size])
                    yield chosen, held[chosen]
                    bar.update(len(chosen))
            return
        streamed = stream_crops(self.images, [self.stratum.crop], batch_size, rows=rows, **options)
        for found, (pixels,) in streamed:
            chosen = torch.from_numpy(found)
            if self._part is not None:
                self._part.put(chosen, pixels)
            yield chosen, pixels


class _PartInMemory:
    """Crops of which only those in use are read, and then kept."""

    def __init__(self, n: int, size: int) -> None:
        self._pixels = torch.empty((n, size, size, 3), dtype=torch.uint8)  # pages appear when written
        self._there = torch.zeros(n, dtype=torch.bool)

    def put(self, rows: Tensor, pixels: Tensor) -> None:
        self._pixels[rows] = pixels
        self._there[rows] = True

    def all_of(self, rows: Sequence[int]) -> Tensor | None:
        """All crops, if those of ``rows`` are there."""
        return self._pixels if bool(self._there[torch.tensor(rows, dtype=torch.int64)].all()) else None

    def take(self, rows: Tensor, read: Callable[[Tensor], Tensor]) -> Tensor:
        missing = rows[~self._there[rows]].unique()
        if len(missing):
            self.put(missing, read(missing))
        return self._pixels[rows]


def resized_side(size: int, view: str = "five-crop") -> int:
    """Return the shorter side, in pixels, of the image that the squares of side ``size`` of a view are cut from.

    Examples
    --------
    >>> resized_side(224), resized_side(224, "zoomed-centre"), resized_side(16)
    (248, 256, 18)
    """
    return size + round(TEST_VIEWS[view].margin / 224 * size)


def view_cut(stratum: Stratum, view: str = "centre") -> Callable[[Image.Image], NDArray[np.uint8]]:
    """Return the function from a PIL image to what the stratum sees of it.

    ``five-crop`` is the test-time ensembling of LIFT (Shi et al., ICML 2024): the shorter side is resized to
    s + 24 s / 224, then the corners and the centre of size s are cut. ``ten-crop`` adds their mirror images.
    ``zoomed-centre`` is LIFT's single crop: the centre of an image resized to s + 32 s / 224 (256 for 224).

    Parameters
    ----------
    stratum : Stratum
    view : {"centre", "zoomed-centre", "five-crop", "ten-crop"}

    Returns
    -------
    callable
        Gives uint8 of shape (s, s, 3) for one crop, else (n_views, s, s, 3).

    Raises
    ------
    CausalFTError
        For an unknown view.
    """
    n_squares = n_views(view)
    if view == "centre":
        return stratum.crop
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as F

    size, side = stratum.image_size, resized_side(stratum.image_size, view)
    interpolation = InterpolationMode(stratum.interpolation)
    cut = F.five_crop if n_squares == 5 else F.ten_crop

    def centre(image: Image.Image) -> NDArray[np.uint8]:
        wide = F.resize(middle_of_strip(image).convert("RGB"), side, interpolation=interpolation)
        return np.asarray(F.center_crop(wide, [size, size]), dtype=np.uint8)

    def five(image: Image.Image) -> list[NDArray[np.uint8]]:
        wide = F.resize(image.convert("RGB"), side, interpolation=interpolation)
        return [np.asarray(square, dtype=np.uint8) for square in F.five_crop(wide, [size, size])]

    def crops(image: Image.Image) -> NDArray[np.uint8]:
        ends = end_pieces(image)
        if ends is not None:
            return np.stack(_of_strip(image, five(ends[0]), five(ends[1]), five, n_squares))
        wide = F.resize(image.convert("RGB"), side, interpolation=interpolation)
        return np.stack([np.asarray(square, dtype=np.uint8) for square in cut(wide, [size, size])])

    return centre if n_squares == 1 else crops


Squares = list[NDArray[np.uint8]]


def _of_strip(
    image: Image.Image, first: Squares, last: Squares, five: Callable[[Image.Image], Squares], n_squares: int
) -> Squares:
    """Corners from the ends of a strip, the centre from its middle; the rest is never scaled."""
    upright = image.height > image.width
    corners = [first[0], first[1] if upright else last[1], last[2] if upright else first[2], last[3]]
    squares = [*corners, five(middle_of_strip(image))[4]]
    if n_squares == 10:  # a mirrored image has its right corners on the left
        squares += [squares[k][:, ::-1] for k in (1, 0, 3, 2, 4)]
    return squares


Cut = Callable[[Image.Image], NDArray[np.uint8]]
"""From an image of any size to an array of one fixed shape, such as :meth:`Stratum.crop`."""


@dataclass
class _Batch:
    """A batch in progress: the arrays that the threads fill, and what they could not read."""

    rows: NDArray[np.int64]
    arrays: list[NDArray[np.uint8]]
    parts: list[Future[list[tuple[int, str]]]]


def stream_crops(
    images: ImageSet,
    cuts: Sequence[Cut],
    batch_size: int,
    *,
    rows: Iterable[int] | None = None,
    threads: int | None = None,
    ahead: int = 2,
    on_error: str = "stop",
    bad: Callable[[int, str], None] | None = None,
    label: str = "reading images",
    progress: bool | None = None,
) -> Iterator[tuple[NDArray[np.int64], list[Tensor]]]:
    """Read every image once, cut it in one or more ways, and yield batches in order.

    Threads fill the next ``ahead`` batches while the caller works on one, then wait: memory does not grow with the
    number of images.

    Parameters
    ----------
    images : ImageSet
    cuts : sequence of callable
        Each brings an image of any size to an array of one shape; strata share one decoding.
    batch_size : int
    rows : iterable of int, optional
        Which images, in this order; all by default.
    threads : int, optional
        :func:`causalft.data.image_set.decode_threads` by default.
    ahead : int
    on_error : {"stop", "skip"}
        Raise the error of an unreadable image, or leave the image out.
    bad : callable, optional
        ``bad(row, message)`` per image left out, before its batch is yielded.
    label, progress
        Of the progress bar.

    Yields
    ------
    (rows, images)
        ``rows`` of shape (b,), b <= batch_size; one uint8 tensor (b, ...) per cut. Empty batches are not yielded.

    Raises
    ------
    CausalFTError
        With ``on_error="stop"``, for the first unreadable image.

    Examples
    --------
    >>> images = ImageSet.from_arrays(np.zeros((5, 8, 8, 3), np.uint8), [0, 1, 0, 1, 0], ["a", "b"])
    >>> for rows, (pixels,) in stream_crops(images, [np.asarray], 2, progress=False):
    ...     print(rows, tuple(pixels.shape))
    [0 1] (2, 8, 8, 3)
    [2 3] (2, 8, 8, 3)
    [4] (1, 8, 8, 3)
    """
    if on_error not in ("stop", "skip"):
        raise CausalFTError(f"unknown on_error {on_error!r}; use stop or skip")
    if batch_size < 1 or ahead < 1:
        raise CausalFTError("batches need at least one image, and at least one batch ahead")
    n_threads = decode_threads(threads)
    chosen = iter(range(len(images)) if rows is None else rows)
    total = len(images) if rows is None else len(rows) if isinstance(rows, Sequence) else None
    first = next(chosen, None)
    if first is None:
        return
    chosen = chain([first], chosen)
    shapes = _shapes(images, cuts, first)
    stop = threading.Event()

    def work(batch: _Batch, start: int, end: int) -> list[tuple[int, str]]:
        failed = []
        for place in range(start, end):
            if stop.is_set():
                break
            row = int(batch.rows[place])
            try:
                image = images.image(row)
                for array, cut in zip(batch.arrays, cuts):
                    array[place] = _fitting(cut(image), array.shape[1:], images, row)
            except CausalFTError as error:
                if on_error == "stop":
                    raise
                failed.append((place, str(error)))
        return failed

    def submit(pool: ThreadPoolExecutor) -> _Batch | None:
        taken = np.fromiter(islice(chosen, batch_size), dtype=np.int64)
        if not len(taken):
            return None
        batch = _Batch(taken, [np.empty((len(taken), *shape), np.uint8) for shape in shapes], [])
        size = -(-len(taken) // n_threads)
        for start in range(0, len(taken), size):
            batch.parts.append(pool.submit(work, batch, start, min(start + size, len(taken))))
        return batch

    pool = ThreadPoolExecutor(n_threads, thread_name_prefix="decode")
    bar = phase(label, total, unit="img", progress=progress)
    waiting: deque[_Batch] = deque()
    try:
        while True:
            while len(waiting) <= ahead and (new := submit(pool)) is not None:
                waiting.append(new)
            if not waiting:
                break
            batch = waiting.popleft()
            failed = [failure for part in batch.parts for failure in part.result()]
            found, arrays = batch.rows, batch.arrays
            if failed:
                for place, message in failed:
                    if bad is not None:
                        bad(int(batch.rows[place]), message)
                good = np.setdiff1d(np.arange(len(batch.rows)), [place for place, _ in failed])
                found, arrays = found[good], [array[good] for array in arrays]
            if len(found):
                yield found, [torch.from_numpy(array) for array in arrays]
            bar.update(len(batch.rows))
    finally:
        # Also when the caller stops early, so that no thread goes on reading.
        stop.set()
        bar.close()
        pool.shutdown(wait=True, cancel_futures=True)


def batches(
    crops: Crops,
    batch_size: int,
    *,
    rows: Sequence[int] | None = None,
    threads: int | None = None,
    label: str | None = None,
    progress: bool | None = False,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (rows, pixels) of crops in order; what is not in memory is read while the model works.

    Parameters
    ----------
    crops : Crops
    batch_size : int
    rows : sequence of int, optional
        Which, in this order; all by default.
    threads, label, progress
        As in :func:`stream_crops`.

    Yields
    ------
    (rows, pixels)
        Shapes (b,) and (b, size, size, 3), int64 and uint8.
    """
    chosen = range(len(crops)) if rows is None else rows
    label = label or f"reading {several(chosen, 'image', 'images')} for {crops.stratum.name}"
    yield from crops.stream(chosen, batch_size, threads=threads, label=label, progress=progress)


def _shapes(images: ImageSet, cuts: Sequence[Cut], first: int) -> list[tuple[int, ...]]:
    """Shapes that the cuts make of the first image, or of a blank one if it is unreadable."""
    try:
        image = images.image(first)
    except CausalFTError:  # it is met again, and reported, when its batch is read
        image = Image.new("RGB", (64, 64))
    return [np.asarray(cut(image)).shape for cut in cuts]


def _fitting(
    pixels: NDArray[np.uint8], shape: tuple[int, ...], images: ImageSet, row: int
) -> NDArray[np.uint8]:
    if pixels.shape != shape:
        raise CausalFTError(
            f"image {images.files[row]} comes out in shape {pixels.shape}, the first one in {shape}; use a cut that "
            "brings all images to one size"
        )
    return pixels


def open_frozen(stratum: Stratum, precision: str = "auto") -> tuple[Tower, str]:
    """Return the frozen image tower and the precision to run it in.

    In bf16 or int8 on a CPU its linear layers are copies; otherwise every weight is shared with the stratum.
    """
    tower = open_tower(stratum.visual)
    chosen, _ = settle_precision(tower, precision, stratum.device)
    return tower, chosen


def frozen_encoder(stratum: Stratum, precision: str = "auto") -> tuple[Callable[[Tensor], Tensor], str]:
    """Return uint8 images (n, s, s, 3) -> unit features (n, d), and its precision.

    In fp32 the numbers are those of ``stratum.image_features``, up to the order of sums.
    """
    tower, chosen = open_frozen(stratum, precision)

    def encode(pixels: Tensor) -> Tensor:
        with torch.inference_mode(), autocast(stratum.device, chosen):
            return F.normalize(tower(stratum.normalise(pixels)).float(), dim=-1)

    return encode, chosen


def encode_all(encode: Callable[[Tensor], Tensor], crops: Crops) -> np.ndarray:
    """Unit features of all images, shape (n, d), float32; processes that work together share the images."""

    def work(rows: Sequence[int]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        for found, pixels in batches(crops, 256, rows=rows):
            yield int(found[-1]), encode(pixels).cpu().numpy()

    return np.concatenate(list(current_team().in_order(range(len(crops)), 256, work)))
