"""Duplicates: equal or nearly equal images of a set, which must not fall on both sides of a split."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from causalft.data.hashing import equal_files, file_hashes
from causalft.data.image_set import ImageSet, decode
from causalft.errors import CausalFTError, nearest
from causalft.runs.notebook import ShownAsTable

__all__ = [
    "DUPLICATE_KINDS",
    "DuplicateReport",
    "duplicate_groups",
    "in_memory",
    "pixels_digest",
    "pixels_hash",
    "shared_images",
    "with_hash",
]


def in_memory(images: ImageSet) -> bool:
    """Whether a set has pixels but no files, so that only pixels can be compared."""
    return len(images) > 0 and images.format == "arrays"


def pixels_digest(image: Image.Image) -> NDArray[np.uint8]:
    """SHA-256 of size and pixels, (32,) uint8; equal for a file and its decoded, upright RGB image."""
    return np.frombuffer(hashlib.sha256(str(image.size).encode() + image.tobytes()).digest(), dtype=np.uint8)


def pixels_hash(images: ImageSet, i: int) -> str:
    """SHA-256 (hex) of size and pixels of image ``i``."""
    return pixels_digest(images.image(i)).tobytes().hex()


def with_hash(images: ImageSet, files: Collection[str], pixels: Collection[str] = ()) -> NDArray[np.bool_]:
    """(n,) whether each image has one of these SHA-256: of its file, or of its pixels if the set is in memory."""
    if in_memory(images):
        return np.array(
            [bool(pixels) and pixels_hash(images, i) in pixels for i in range(len(images))], dtype=bool
        )
    if not files:
        return np.zeros(len(images), dtype=bool)
    return np.array([found in files for found in file_hashes(images)], dtype=bool)


def shared_images(images: ImageSet, others: ImageSet) -> NDArray[np.bool_]:
    """(n,) whether each image is also in another set: equal files, or equal pixels if a set is in memory.

    Only files of a size that occurs in both sets are read.

    Examples
    --------
    >>> pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)
    >>> images = ImageSet.from_arrays(pixels, [0, 0, 1], ["ant", "bee"])
    >>> shared_images(images, images.subset([2])).tolist()
    [False, False, True]
    """
    if in_memory(images) or in_memory(others):
        known = {pixels_hash(others, i) for i in range(len(others))}
        return np.array([pixels_hash(images, i) in known for i in range(len(images))], dtype=bool)
    size, other_size = (
        np.array([s.quick_key(i)[0] for i in range(len(s))], dtype=np.int64) for s in (images, others)
    )
    known = set(file_hashes(others, np.flatnonzero(np.isin(other_size, size))))
    alike = np.flatnonzero(np.isin(size, other_size))
    shared = np.zeros(len(images), dtype=bool)
    shared[alike] = [found in known for found in file_hashes(images, alike)]
    return shared


#: Equal files; equal pixels and sizes; or also alike (perceptual hash, confirmed on a thumbnail).
DUPLICATE_KINDS = ("bytes", "pixels", "near")

_THUMBNAIL = 16
_BLOCK, _ROWS = 512, 8192


@dataclass(frozen=True, repr=False)
class DuplicateReport(ShownAsTable):
    """Groups of duplicates in a set.

    Attributes
    ----------
    kind : {"bytes", "pixels", "near"}
    group : (n,) array of int64
        Group number of each image; an image without a duplicate has a group of its own.
    groups : tuple of tuple of int
        Images of each group of two or more, in order.
    conflicts : tuple of tuple of int
        Groups with more than one label.
    examples : tuple of tuple of str
        File names of the first groups.
    """

    kind: str
    group: NDArray[np.int64]
    groups: tuple[tuple[int, ...], ...]
    conflicts: tuple[tuple[int, ...], ...]
    examples: tuple[tuple[str, ...], ...]

    @property
    def n_copies(self) -> int:
        """Number of images beyond one per group."""
        return sum(len(members) - 1 for members in self.groups)

    @property
    def alone(self) -> NDArray[np.bool_]:
        """(n,) whether an image has no duplicate."""
        mask = np.ones(len(self.group), dtype=bool)
        for members in self.groups:
            mask[list(members)] = False
        return mask

    def __repr__(self) -> str:
        return f"DuplicateReport({self.summary()})"

    def summary(self) -> str:
        """One sentence for a report."""
        what = {
            "bytes": "identical files",
            "pixels": "identical images",
            "near": "near-identical images",
        }[self.kind]
        if not self.groups:
            return f"no {what} among {len(self.group)} images"
        clash = f"; {len(self.conflicts)} with more than one label" if self.conflicts else ""
        some = f" (such as {' = '.join(self.examples[0][:3])})" if self.examples else ""
        groups = "1 group" if len(self.groups) == 1 else f"{len(self.groups)} groups"
        copies = "1 surplus copy" if self.n_copies == 1 else f"{self.n_copies} surplus copies"
        return f"{groups} of {what} among {len(self.group)} images, {copies}{clash}{some}"


def duplicate_groups(
    images: ImageSet,
    kind: str = "near",
    *,
    max_distance: int = 8,
    min_correlation: float = 0.9,
    threads: int | None = None,
    progress: bool | None = None,
) -> DuplicateReport:
    """Find groups of duplicates.

    ``bytes`` compares files, and reads only those that share their size (in a zip: and checksum) and a piece from the
    middle. ``pixels`` compares decoded images. ``near`` adds pairs whose 64-bit DCT hashes (``imagehash.phash``) differ
    in at most ``max_distance`` bits and whose grey 16 x 16 thumbnails correlate by at least ``min_correlation``: one
    photograph in another size, quality, brightness or crop. Mirrored copies are not found, plain-coloured images only
    if equal.

    Parameters
    ----------
    images : ImageSet
    kind : {"bytes", "pixels", "near"}
    max_distance : int in [0, 16]
        Bits of 64; unrelated images differ in about 32.
    min_correlation : float in [-1, 1]
    threads : int, optional
    progress : bool, optional
        As in `causalft.data.decode`.

    Returns
    -------
    DuplicateReport
        Groups are joined transitively.

    Raises
    ------
    CausalFTError
        For an unknown kind, or an image that cannot be read.

    Examples
    --------
    >>> pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)
    >>> images = ImageSet.from_arrays(pixels[[0, 1, 0, 2]], [0, 0, 1, 1], ["a", "b"])
    >>> report = duplicate_groups(images, "pixels")
    >>> report.groups, len(report.conflicts)
    (((0, 2),), 1)
    """
    if kind not in DUPLICATE_KINDS:
        raise CausalFTError(f"no kind of duplicate named '{kind}': {nearest(kind, DUPLICATE_KINDS)}")
    if not 0 <= max_distance <= 16:
        raise CausalFTError(f"max_distance {max_distance} is outside 0 to 16 of 64 bits")
    if kind == "bytes":
        pairs = _chain(equal_files(images, threads=threads, progress=progress))
    else:
        near = kind == "near"
        signatures = decode(
            images,
            None,
            _near_signature if near else pixels_digest,
            "comparing images",
            threads,
            progress=progress,
        )
        pairs = _equal_rows(signatures[:, :32])
        if near:
            pairs = np.concatenate([pairs, _alike(signatures, max_distance, min_correlation)])
    return _report(images, kind, pairs)


def _report(images: ImageSet, kind: str, pairs: NDArray[np.int64]) -> DuplicateReport:
    group = _components(len(images), pairs)
    members: dict[int, list[int]] = defaultdict(list)
    for i in np.unique(pairs).tolist():
        members[int(group[i])].append(i)
    groups = tuple(tuple(rows) for _, rows in sorted(members.items()))
    conflicts = tuple(rows for rows in groups if len(set(images.labels[list(rows)].tolist())) > 1)
    examples = tuple(tuple(images.files[i] for i in rows) for rows in groups[:5])
    return DuplicateReport(kind, group, groups, conflicts, examples)


def _near_signature(image: Image.Image) -> NDArray[np.uint8]:
    """(32 + 8 + 256,) pixel digest, perceptual hash, grey thumbnail."""
    import imagehash  # imports SciPy

    grey = image.convert("L")
    bits = np.packbits(imagehash.phash(grey).hash.ravel())
    thumbnail = np.asarray(grey.resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX)).ravel()
    return np.concatenate([pixels_digest(image), bits, thumbnail])


def _equal_rows(rows: NDArray[np.uint8]) -> NDArray[np.int64]:
    by_row: dict[bytes, list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        by_row[row.tobytes()].append(i)
    return _chain(by_row.values())


def _chain(groups: object) -> NDArray[np.int64]:
    """(p, 2) pairs that join the members of each group."""
    pairs = [pair for rows in groups for pair in zip(rows, rows[1:])]  # type: ignore[attr-defined]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _alike(signatures: NDArray[np.uint8], max_distance: int, min_correlation: float) -> NDArray[np.int64]:
    """(p, 2) pairs with close hashes and correlated thumbnails."""
    hashes = np.ascontiguousarray(signatures[:, 32:40]).view(np.uint64).ravel()
    thumbnails = signatures[:, 40:]
    spread = np.concatenate(
        [
            np.linalg.norm(_centred(thumbnails[start : start + _ROWS]), axis=1)
            for start in range(0, len(thumbnails), _ROWS)
        ]
    )
    textured = np.flatnonzero(spread > _THUMBNAIL)  # more than 1 grey level of standard deviation
    found = [np.empty((0, 2), dtype=np.int64)]
    # Hashes that differ in d bits agree on at least one of d + 1 bands.
    edges = np.linspace(0, 64, max_distance + 2).round().astype(int)
    for low, high in zip(edges, edges[1:]):
        band = (hashes[textured] >> np.uint64(low)) & np.uint64(2 ** int(high - low) - 1)
        order = np.argsort(band, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(band[order].astype(np.int64)) != 0])
        for start, end in zip(starts, np.r_[starts[1:], len(order)]):
            found.extend(
                _near_pairs(textured[order[start:end]], hashes, thumbnails, max_distance, min_correlation)
            )
    return np.unique(np.concatenate(found), axis=0)


def _centred(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(m, 256) float32, mean 0."""
    found = thumbnails.astype(np.float32)
    found -= found.mean(axis=1, keepdims=True)
    return found


def _correlation(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(m,) correlation of pairs of thumbnails."""
    a, b = _centred(first), _centred(second)
    a /= np.linalg.norm(a, axis=1)[:, None]
    b /= np.linalg.norm(b, axis=1)[:, None]
    return np.einsum("ij,ij->i", a, b)


def _near_pairs(
    rows: NDArray[np.int64],
    hashes: NDArray[np.uint64],
    thumbnails: NDArray[np.uint8],
    max_distance: int,
    min_correlation: float,
) -> list[NDArray[np.int64]]:
    found = []
    for start in range(0, len(rows), _BLOCK):
        block, rest = rows[start : start + _BLOCK], rows[start:]
        bits = np.bitwise_count(hashes[block, None] ^ hashes[None, rest])
        first, second = np.nonzero(bits <= max_distance)
        first, second = block[first], rest[second]
        distinct = first < second
        first, second = first[distinct], second[distinct]
        alike = _correlation(thumbnails[first], thumbnails[second]) >= min_correlation
        found.append(np.stack([first[alike], second[alike]], axis=1))
    return found


def _components(n: int, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) smallest member of the group of each image."""
    parent = list(range(n))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for a, b in pairs.tolist():
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    return np.array([root(i) for i in range(n)], dtype=np.int64)
