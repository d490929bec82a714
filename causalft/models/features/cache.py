"""Frozen features and zero-shot logits, computed once per (weights, images, transform, precision) and cached."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from causalft.data.image_set import ImageSet
from causalft.errors import CausalFTError, as_bytes, several
from causalft.models.features.encoder import (
    Crops,
    Cut,
    batches,
    frozen_encoder,
    n_views,
    stream_crops,
    view_cut,
)
from causalft.models.features.engines import Engine
from causalft.models.features.parts import Part, as_parts
from causalft.models.features.store import CacheEntry, FeatureCache, default_cache_folder
from causalft.models.strata.stratum import Stratum
from causalft.models.tuning.processes import pick_device
from causalft.models.tuning.team import current_team
from causalft.runs.limits import BUILT_IN

__all__ = [
    "CacheEntry",
    "Encoding",
    "FeatureCache",
    "cache_of",
    "cached_features",
    "cached_text_features",
    "cached_zero_shot",
    "data_fingerprint",
    "default_cache_folder",
    "transform_fingerprint",
]

_FORMAT = 1
BATCHES_A_ROUND = 4
"""Batches that each of several processes encodes before they exchange the features."""

Fill = Callable[[int], Iterator[NDArray[Any]]]
_PROBE_SIZES = ((64, 64), (97, 61), (71, 160), (480, 300))


def data_fingerprint(images: ImageSet, *, content: bool = False) -> str:
    """Return a hash of the images and their order, without labels and class names.

    Parameters
    ----------
    images : ImageSet
    content : bool
        Hash the bytes of every file. Otherwise no file is read: names, sizes, checksums of a zip and modification times
        are hashed. Pixels in memory are hashed in any case.

    Examples
    --------
    >>> one = ImageSet.from_arrays(np.zeros((2, 4, 4, 3), np.uint8), [0, 1], ["a", "b"], files=["1", "2"])
    >>> data_fingerprint(one) == data_fingerprint(one.align_classes(["b", "a"]))
    True
    """
    digest = hashlib.sha256(b"content" if content else b"quick")
    # Of files in a folder the size is known, and when they were changed; of those in a tar, when the tar was.
    packed = _changed(images.location) if os.path.isfile(images.location) else None
    for row, name in enumerate(images.files):
        if content:
            known: tuple[Any, ...] = (images.bytes_hash(row),)
        else:
            known = images.quick_key(row)
            if len(known) == 1 and isinstance(known[0], int):  # a size alone: the container keeps no checksum
                known = (known[0], packed or _changed(os.path.join(images.location, name)))
        digest.update(as_bytes(f"\0{name}\0{known}"))
    return digest.hexdigest()


def _changed(path: str) -> int | None:
    """Modification time in nanoseconds; None if it is no file."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return None


def transform_fingerprint(cut: Cut) -> str:
    """Return a hash of what a cut does to fixed images of several shapes."""
    rng = np.random.default_rng(0)
    digest = hashlib.sha256()
    for height, width in _PROBE_SIZES:
        noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        pixels = np.ascontiguousarray(cut(Image.fromarray(noise)))
        digest.update(f"{pixels.shape}".encode())
        digest.update(pixels.data)
    return digest.hexdigest()


def cached_features(
    cache: FeatureCache | None,
    stratum: Stratum,
    images: ImageSet,
    *,
    view: str = "centre",
    batch_size: int = 64,
    encode: Callable[[Tensor], Tensor] | None = None,
    precision: str = "fp32",
    content: bool = False,
    crops: Crops | None = None,
    engine: Engine | None = None,
    progress: bool | None = None,
) -> NDArray[np.float32]:
    """Return the frozen image features of a set, from the cache if they are there.

    Parameters
    ----------
    cache : FeatureCache or None
        None computes them in memory. Of processes that work together, each gives one, and the first uses it.
    stratum : Stratum
    images : ImageSet
    view : {"centre", "five-crop", "ten-crop"}
    batch_size : int
    encode : callable, optional
        uint8 images (b, s, s, 3) to unit features (b, d), instead of ``stratum.image_features``; ``precision`` must
        name it.
    precision : str
        Part of the key.
    content : bool
        See :func:`data_fingerprint`.
    crops : Crops, optional
        Of the same images and stratum, so that nothing is read twice; the view is then the centre.
    engine : Engine, optional
        Workers that encode instead (:class:`causalft.models.features.ray_workers.RayWorkers`), in ``precision``.
    progress : bool, optional

    Returns
    -------
    numpy.ndarray
        Shape (n, d), or (n_views, n, d) for several crops; float32, unit rows, read-only and memory-mapped.

    Raises
    ------
    CausalFTError
        For an unknown view, an unreadable image, non-finite features, a folder that cannot be written, or crops of
        other images.
    """
    if crops is not None and (crops.images is not images or crops.stratum is not stratum or view != "centre"):
        raise CausalFTError(
            "these crops are of other images, of another stratum or not of the view asked for"
        )
    count, cut = n_views(view), view_cut(stratum, view)
    run = encode or stratum.image_features

    size = max(1, batch_size // count)
    team = current_team()

    def work(rows: Sequence[int]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        label = f"encoding {several(rows, 'image', 'images')} for {stratum.name}"
        shown = progress if team.is_main else False
        if crops is not None:
            pieces = batches(crops, size, rows=rows, label=label, progress=shown)
        else:
            streamed = stream_crops(images, [cut], size, rows=rows, label=label, progress=shown)
            pieces = ((torch.from_numpy(found), pixels) for found, (pixels,) in streamed)
        for found, pixels in pieces:
            with torch.inference_mode():
                features = run(pixels.flatten(0, 1) if count > 1 else pixels)
            flat = features.float().cpu().numpy()
            yield int(found[-1]), flat if count == 1 else flat.reshape(len(found), count, -1)

    def fill(start: int, everywhere: bool = False) -> Iterator[NDArray[np.float32]]:
        rows = range(start, len(images))
        if engine is None:
            return team.in_order(rows, size, work, batches=BATCHES_A_ROUND, everywhere=everywhere)
        return _features_of(engine.parts(images, rows, size, Encoding(stratum, view, size, precision)))

    if cache is None:
        found = np.concatenate(list(fill(0, everywhere=True)))
    else:
        about = {"kind": "features", "stratum": stratum.name, "source": stratum.source, "data": images.name}
        about |= {"view": view, "precision": precision, "transform": " ".join(str(stratum.geometry).split())}
        about["data known by"] = "bytes" if content else "names, sizes and times of change"

        def keep(fill: Fill) -> NDArray[np.float32]:
            what = _image_key(stratum, images, cut, precision, content)
            return cache.array(what, len(images), fill, about)

        found = team.kept_by_main(keep, fill)
    return found if count == 1 else found.transpose(1, 0, 2)


def _features_of(parts: Iterator[Part]) -> Iterator[NDArray[np.float32]]:
    for part in parts:
        if part.skipped:
            raise CausalFTError(part.skipped[0][1])
        yield part.values["features"]


@dataclass
class Encoding:
    """The work of encoding, for workers elsewhere (:mod:`causalft.models.features.parts`).

    The value of its parts is ``features``, (b, d) or, for several crops, (b, n_views, d).

    Parameters
    ----------
    stratum : Stratum
    view : {"centre", "five-crop", "ten-crop"}
    batch_size : int
    precision : {"fp32", "bf16", "fp16"}
    """

    stratum: Stratum
    view: str = "centre"
    batch_size: int = 64
    precision: str = "fp32"

    def __call__(self, images: ImageSet, rows: Sequence[int]) -> Iterator[Part]:
        encode, _ = frozen_encoder(self.stratum, self.precision)
        skipped: list[tuple[int, str]] = []
        stream = stream_crops(
            images,
            [view_cut(self.stratum, self.view)],
            self.batch_size,
            rows=rows,
            on_error="skip",
            bad=lambda row, message: skipped.append((row, message)),
            progress=False,
        )

        def encoded() -> Iterator[tuple[NDArray[np.int64], dict[str, NDArray[np.float32]]]]:
            for found, (pixels,) in stream:
                flat = encode(pixels.flatten(0, 1) if pixels.ndim == 5 else pixels).cpu().numpy()
                yield found, {"features": flat.reshape(*pixels.shape[:-3], -1)}

        return as_parts(encoded(), skipped)

    def to_own_device(self) -> None:
        """Move the model to the device of the process that it has been sent to."""
        self.stratum.move(pick_device("auto"))


def cached_text_features(
    cache: FeatureCache | None, stratum: Stratum, class_names: Sequence[str], template: str
) -> NDArray[np.float32]:
    """Return the unit text features of the classes, shape (n_classes, d), from the cache if they are there.

    Raises
    ------
    CausalFTError
        See :meth:`Stratum.text_features`.
    """

    def text() -> NDArray[np.float32]:
        return stratum.text_features(class_names, template).float().cpu().numpy()

    if cache is None or stratum.tokenizer is None:  # without a text tower this raises
        return text()
    stratum.prompt_tokens(
        class_names, template
    )  # warns and refuses also where the features are there already
    # A tokenizer has no file to hash: hash what it makes of some names.
    sample = stratum.tokenizer([template.replace("{}", name) for name in class_names[:64]])
    what = {
        "kind": "text features",
        **_model_key(stratum),
        "class names": list(class_names),
        "template": template,
        "tokens": hashlib.sha256(np.asarray(sample).tobytes()).hexdigest(),
    }
    about = {"kind": "text features", "stratum": stratum.name, "source": stratum.source, "template": template}

    def keep(fill: Fill) -> NDArray[np.float32]:
        return cache.array(what, len(class_names), fill, about)

    return current_team().kept_by_main(keep, lambda start: iter([text()[start:]]))


def cached_zero_shot(
    cache: FeatureCache | None,
    stratum: Stratum,
    images: ImageSet,
    class_names: Sequence[str],
    template: str = "a photo of a {}.",
    *,
    view: str = "centre",
    batch_size: int = 64,
    precision: str = "fp32",
    encode: Callable[[Tensor], Tensor] | None = None,
    content: bool = False,
    progress: bool | None = None,
) -> NDArray[np.float32]:
    """Return zero-shot logits: scale times the cosine of image and caption, the mean over the crops.

    Parameters
    ----------
    class_names : sequence of str
    template : str
        With ``{}`` for the class name.
    cache, stratum, images, view, batch_size, precision, encode, content, progress
        As in :func:`cached_features`.

    Returns
    -------
    numpy.ndarray
        Shape (n, n_classes), float32, memory-mapped.

    Raises
    ------
    CausalFTError
        As :func:`cached_features` and :meth:`Stratum.text_features`.
    """
    options: dict[str, Any] = {"batch_size": batch_size, "precision": precision, "encode": encode}
    options |= {"view": view, "content": content, "progress": progress}
    text = np.ascontiguousarray(cached_text_features(cache, stratum, class_names, template))
    scale = np.float32(stratum.logit_scale)
    features: NDArray[np.float32] | None = None

    def fill(start: int) -> Iterator[NDArray[np.float32]]:
        nonlocal features
        if features is None:
            features = cached_features(cache, stratum, images, **options)
        for first in range(start, len(images), 4096):
            block = features[..., first : first + 4096, :]
            mean = block if block.ndim == 2 else block.mean(axis=0)
            yield scale * (np.ascontiguousarray(mean) @ text.T)

    if cache is None:
        return np.concatenate(list(fill(0)))
    what = {
        "kind": "zero-shot logits",
        "features": _image_key(stratum, images, view_cut(stratum, view), precision, content),
        "text": hashlib.sha256(text.data).hexdigest(),
        "scale": float(scale),
    }
    about = {"kind": "zero-shot logits", "stratum": stratum.name, "source": stratum.source}
    about |= {"data": images.name, "view": view, "template": template, "precision": precision}
    return current_team().kept_by_main(lambda fill: cache.array(what, len(images), fill, about), fill)


def _image_key(stratum: Stratum, images: ImageSet, cut: Cut, precision: str, content: bool) -> dict[str, Any]:
    """Everything that image features depend on."""
    return {
        "kind": "image features",
        **_model_key(stratum),
        "data": data_fingerprint(images, content=content),
        "transform": transform_fingerprint(cut),
        "mean": list(stratum.mean),
        "std": list(stratum.std),
        "precision": precision,
    }


def _model_key(stratum: Stratum) -> dict[str, Any]:
    """Weights and structure: the same weights give other features in a GELU and a quick-GELU tower."""
    model = stratum.model
    types = sorted({str(parameter.dtype) for parameter in model.parameters()})
    structure = hashlib.sha256(f"{type(model).__qualname__}\n{model!r}\n{types}".encode()).hexdigest()
    weights = stratum.sha256 or _state_hash(model)
    return {"format": _FORMAT, "weights": weights, "structure": structure}


def _state_hash(model: torch.nn.Module) -> str:
    """Hash of the tensors, for a model without a file."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def cache_of(wanted: bool, data: str) -> FeatureCache | None:
    """The cache for frozen features of a data set; None if it is not wanted, and for a built-in set."""
    return FeatureCache() if wanted and data not in BUILT_IN else None
