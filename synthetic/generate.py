"""Makes the image sets of a design: as arrays in memory, or as ImageFolders with metadata.csv on disk."""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from causalft.errors import CausalFTError, nearest
from causalft.runs import Run, write_text
from synthetic.designs import SETS, Design
from synthetic.objects import CLASSES, N_NUISANCE, render

__all__ = ["GENERATORS", "PictureSet", "generate", "make_set"]

PictureMaker = Callable[[str, int, np.ndarray, int], np.ndarray]

GENERATORS: dict[str, PictureMaker] = {"renderer": render}
"""Name -> function of (class name, part, nuisance (n, N_NUISANCE), size) that gives uint8 pictures "
"(n, size, size, 3)."""

COLUMNS = ("file_name", "label", "factor", "design", "split", "seed", "part")


@dataclass(frozen=True)
class PictureSet:
    """One image set in memory, ordered by class and then by factor.

    Attributes
    ----------
    pixels : uint8 (n, size, size, 3)
    labels : int (n,), class numbers 0 .. K-1
    factors : int (n,), the label of the factor C
    parts : int (n,), the part that dominates the picture; equal to ``factors`` unless the design is ``null``
    """

    pixels: np.ndarray
    labels: np.ndarray
    factors: np.ndarray
    parts: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def make_set(
    design: Design, which: str, n_per_class: int, seed: int, *, generator: str = "renderer", size: int = 32
) -> PictureSet:
    """Make one image set of a design.

    Every picture depends only on (seed, set, class, part, its number), so the same arguments give the same bytes, and a
    larger set begins with the pictures of a smaller one. No picture is in two sets.

    Parameters
    ----------
    design : Design
    which : ``"A_train"``, ``"A_test"``, ``"B_train"`` or ``"B_test"``.
    n_per_class : pictures of each class, at least 4.
    seed : 0 or larger.
    generator : name in `GENERATORS`.
    size : side of the pictures in pixels.

    Raises
    ------
    CausalFTError
        For an unknown set or generator, a negative seed, or too few pictures.

    Examples
    --------
    >>> from synthetic.designs import make_design
    >>> pictures = make_set(make_design("paper", ["cat", "dog"]), "B_train", 10, seed=0, size=16)
    >>> pictures.pixels.shape, pictures.factors.tolist()[:10]
    ((20, 16, 16, 3), [0, 0, 0, 0, 0, 0, 0, 0, 0, 1])
    """
    make = _maker(generator)
    if seed < 0:
        raise CausalFTError(f"seed {seed} is negative; use 0 or larger")
    table = design.counts(which, n_per_class)
    labels = np.repeat(np.arange(len(table)), n_per_class)
    factors = np.concatenate([np.repeat([0, 1], row) for row in table])
    if design.drawn:
        parts = factors.copy()
    else:
        # null: half of each class shows each part, in an order that knows nothing of the factor's label
        rng = np.random.default_rng([seed, SETS.index(which), 99])
        parts = np.concatenate([rng.permutation(np.arange(n_per_class) + k) % 2 for k in range(len(table))])
    pixels = np.empty((len(labels), size, size, 3), np.uint8)
    for k, name in enumerate(design.classes):
        for part in (0, 1):
            mine = np.flatnonzero((labels == k) & (parts == part))
            rng = np.random.default_rng([seed, SETS.index(which), CLASSES.index(name), part])
            pixels[mine] = make(name, part, rng.random((len(mine), N_NUISANCE)), size)
    return PictureSet(pixels=pixels, labels=labels, factors=factors, parts=parts)


def generate(
    design: Design,
    out: str | os.PathLike[str],
    n_per_class: int = 100,
    seed: int = 0,
    *,
    generator: str = "renderer",
    size: int = 48,
) -> Path:
    """Write the four image sets of a design as ImageFolders.

    The folder gets ``A_train/<class>/00000.png`` and so on for each of the sets, a ``metadata.csv`` in each set (paths
    relative to the set) and one above them (paths relative to ``out``) with the columns file_name, label, factor,
    design, split, seed and part. A set appears whole or not at all; an interrupted run goes on where it stopped.

    Parameters
    ----------
    design : Design
    out : folder that is new, empty, or holds the same run interrupted.
    n_per_class, seed, generator, size : as in `make_set`.

    Returns
    -------
    The folder.

    Raises
    ------
    CausalFTError
        As `make_set`, and if ``out`` holds anything else.
    """
    _maker(generator)
    design.counts("A_train", n_per_class)
    if seed < 0:
        raise CausalFTError(f"seed {seed} is negative; use 0 or larger")
    if size < 8:
        raise CausalFTError(f"size {size} is too small to show a part; use at least 8 pixels")
    run = Run.create(
        out,
        kind="generate",
        config={
            "design": design.name,
            "classes": list(design.classes),
            "ratio": design.ratio,
            "n_per_class": n_per_class,
            "seed": seed,
            "generator": generator,
            "size": size,
        },
    )
    everything: list[tuple[object, ...]] = []
    for which in SETS:
        pictures = make_set(design, which, n_per_class, seed, generator=generator, size=size)
        rows = _rows(design, which, seed, pictures)
        if not run.has(which):
            _write_set(run.path, which, pictures, rows)
        everything += [(f"{which}/{row[0]}", *row[1:]) for row in rows]
    write_text(run.file("metadata.csv"), _csv(everything))
    run.finish(
        {
            "design": design.name,
            "generator": generator,
            "seed": seed,
            "n_per_class": n_per_class,
            "size": size,
            "counts": {which: design.counts(which, n_per_class).tolist() for which in SETS},
            "mutual_information_nats": {which: design.dependence(which) for which in SETS},
            "images": len(everything),
        }
    )
    return run.path


def _maker(generator: str) -> PictureMaker:
    if generator not in GENERATORS:
        raise CausalFTError(f"no generator {generator!r}; {nearest(generator, GENERATORS)}")
    return GENERATORS[generator]


def _rows(design: Design, which: str, seed: int, pictures: PictureSet) -> list[tuple[object, ...]]:
    n_per_class = len(pictures) // len(design.classes)
    return [
        (
            f"{design.classes[label]}/{number % n_per_class:05d}.png",
            design.classes[label],
            int(factor),
            design.name,
            which,
            seed,
            design.factor_name(label, part),
        )
        for number, (label, factor, part) in enumerate(zip(pictures.labels, pictures.factors, pictures.parts))
    ]


def _write_set(folder: Path, which: str, pictures: PictureSet, rows: list[tuple[object, ...]]) -> None:
    """Write a set into a hidden folder and rename it: it is there whole or not at all."""
    partial = folder / f".{which}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    for row, picture in zip(rows, pictures.pixels):
        path = partial / str(row[0])
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    write_text(partial / "metadata.csv", _csv(rows))
    os.replace(partial, folder / which)


def _csv(rows: list[tuple[object, ...]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    return text.getvalue()
