"""The image sets of a design: as arrays, or as ImageFolders with metadata.csv."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from causalft.errors import CausalFTError, nearest
from causalft.runs import limits
from causalft.runs.folder import Run, write_text
from causalft.runs.lifecycle import new_run
from causalft.runs.resources import require_room
from synthetic.design import Design
from synthetic.designs import SETS, Rows
from synthetic.gallery import REJECTED, Judge, Wanted, draw_accepted, fill, read_picture, reject_limit
from synthetic.gallery import PictureSource as PictureSource
from synthetic.gallery import Request as Request
from synthetic.gallery import picture_seed as picture_seed
from synthetic.objects import N_NUISANCE, PARTS, render

__all__ = ["GENERATORS", "PictureSet", "Renderer", "generate", "make_set", "open_source", "time_drawing"]


GENERATORS = {
    "renderer": "signed-distance drawings of the twelve close-ups, thousands a second",
    "stable-diffusion": "a text-to-image pipeline of diffusers, prompted with class and part",
}
"""Name of each generator and what it is."""


@cache
def _versions() -> dict[str, str]:
    try:
        own = version("causalft")
    except PackageNotFoundError:  # used from a source folder that is not installed
        own = "unknown"
    return {"causalft": own, "torch": torch.__version__, "numpy": version("numpy")}


class Renderer:
    """Draws with `synthetic.objects.render`; an image's nuisance numbers come from its seed.

    Parameters
    ----------
    size : side in pixels, at least 8.

    Examples
    --------
    >>> Renderer(size=16).draw([Request("cat", 0, seed=5)]).shape
    (1, 16, 16, 3)
    """

    name = "renderer"
    parts: Mapping[str, tuple[str, str]] = PARTS
    batch_size = 256

    def __init__(self, size: int = 48) -> None:
        limits.PICTURE_SIZE.check(size, "size")
        self.size = int(size)

    def draw(self, requests: Sequence[Request]) -> np.ndarray:
        """Return uint8 images (n, size, size, 3) in the order of the requests."""
        pictures = np.empty((len(requests), self.size, self.size, 3), np.uint8)
        nuisance = np.empty((len(requests), N_NUISANCE))
        for row, request in zip(nuisance, requests, strict=True):
            row[:] = np.random.default_rng(request.seed).random(N_NUISANCE)
        kinds = [(request.look, request.part) for request in requests]
        for look, part in sorted(set(kinds)):
            mine = [number for number, kind in enumerate(kinds) if kind == (look, part)]
            pictures[mine] = render(look, part, nuisance[mine], self.size)
        return pictures

    def provenance(self) -> dict[str, str]:
        """Size and versions."""
        return {"size": str(self.size), **_versions()}

    def prompt(self, request: Request) -> str | None:
        """None: the renderer reads no text."""
        return None


def open_source(name: str, **options: Any) -> PictureSource:
    """Open a generator.

    Parameters
    ----------
    name : ``"renderer"`` or ``"stable-diffusion"``.
    options : of `Renderer` or of `synthetic.diffusion.open_diffusion`.

    Raises
    ------
    CausalFTError
        For an unknown name, an option of the wrong kind, or a model that is not there.

    Examples
    --------
    >>> open_source("renderer", size=24).size
    24
    """
    if name not in GENERATORS:
        raise CausalFTError(f"no generator {name!r}; {nearest(name, GENERATORS)}")
    if name == "renderer":
        unknown = sorted(set(options) - {"size"})
        if unknown:
            raise CausalFTError(
                f"{unknown[0]!r} is an option of stable-diffusion; the renderer has size only"
            )
        return Renderer(**options)
    from synthetic.diffusion import open_diffusion

    return open_diffusion(**options)


COLUMNS = (
    "file_name",
    "label",
    "factor",
    "design",
    "split",
    "seed",
    "part",
    "look",
    "image_seed",
    "generator",
)
"""First columns of every metadata.csv; the generator's own follow."""


@dataclass(frozen=True)
class PictureSet:
    """One image set in memory, ordered by class and factor.

    Attributes
    ----------
    pixels : uint8 (n, size, size, 3)
    labels : int (n,), classes 0 .. K-1
    factors : int (n,), the factor C
    parts : int (n,), the part that dominates
    looks : int (n,), the class that is drawn
    contents : int (n,), the class that a reader takes it for
    """

    pixels: np.ndarray
    labels: np.ndarray
    factors: np.ndarray
    parts: np.ndarray
    looks: np.ndarray
    contents: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def make_set(
    design: Design,
    which: str,
    n_per_class: int,
    seed: int,
    *,
    generator: str | PictureSource = "renderer",
    size: int = 32,
    cache: Path | None = None,
    judge: Judge | None = None,
    max_rejects: float = 0.25,
    progress: bool | None = None,
) -> PictureSet:
    """Draw one image set of a design.

    An image depends only on what it shows and on (seed, design, set, class, factor, its number): the same arguments
    give the same bytes. No image is in two sets.

    Parameters
    ----------
    design : Design
    which : ``"A_train"``, ``"A_test"``, ``"B_train"`` or ``"B_test"``.
    n_per_class : images per class, at least 4.
    seed : 0 or larger.
    generator : ``"renderer"``, or an open `PictureSource`.
    size : side in pixels; images of a source are scaled to it.
    cache : folder that keeps the source's images, so that an interrupted call resumes.
    judge, max_rejects : as in `synthetic.gallery.fill`.
    progress : show a bar while drawing into ``cache``.

    Raises
    ------
    CausalFTError
        For an unknown set or generator, a negative seed, too few images, or too many rejects.

    Examples
    --------
    >>> from synthetic.designs import make_design
    >>> pictures = make_set(make_design("paper", ["cat", "dog"]), "B_train", 10, seed=0, size=16)
    >>> pictures.pixels.shape, pictures.factors.tolist()[:10]
    ((20, 16, 16, 3), [0, 0, 0, 0, 0, 0, 0, 0, 0, 1])
    """
    source = _source(generator, size)
    _check(design, n_per_class, seed, source)
    rows = design.rows(which, n_per_class, seed)
    wanted = _wanted(design, which, seed, rows, by_seed=True)
    if cache is None:
        pixels = draw_accepted(source, wanted, judge=judge, max_rejects=max_rejects)
    else:
        # named by the number in the cell, so that larger sets share the files of smaller ones
        fill(
            source,
            wanted,
            cache,
            judge=judge,
            max_rejects=max_rejects,
            progress=progress,
            label=f"{which}, seed {seed}",
        )
        pixels = np.stack([_read(cache / each.path)[0] for each in wanted])
    return PictureSet(
        pixels=_scaled(pixels, size),
        labels=rows.labels,
        factors=rows.factors,
        parts=rows.parts,
        looks=rows.looks,
        contents=rows.contents,
    )


_BYTES_PER_PIXEL = 1  # of a PNG at least; those of the renderer have 1.9 at 224 pixels and 2.5 at 48


def generate(
    design: Design,
    out: str | os.PathLike[str],
    n_per_class: int = 100,
    seed: int = 0,
    *,
    generator: str | PictureSource = "renderer",
    size: int = 48,
    judge: Judge | None = None,
    check: str | None = None,
    max_rejects: float = 0.25,
    progress: bool | None = None,
) -> Path:
    """Write the four image sets of a design as ImageFolders; return the folder.

    Each set gets ``A_train/<class>/00000.png`` and so on and a ``metadata.csv`` (paths relative to the set); one more
    stands above them. The PNG files carry the same facts as text. ``metrics.json`` is written last: an interrupted run
    resumes and ends with the same bytes.

    Parameters
    ----------
    design : Design
    out : folder that is new, empty, or holds the same run interrupted.
    n_per_class, seed : as in `make_set`.
    generator : ``"renderer"``, or an open `PictureSource`, whose size counts.
    size : of the renderer's images.
    judge : which images show what was requested; the others go to ``rejected/`` and are replaced.
    check : name of the judge, for the record.
    max_rejects : a fraction of all images below 1, a count from 1 on.
    progress : show a bar; by default on a terminal.

    Raises
    ------
    CausalFTError
        As `make_set`, and if ``out`` holds anything else.
    """
    source = _source(generator, size)
    _check(design, n_per_class, seed, source)
    reject_limit(max_rejects, 1)
    facts = source.provenance()
    batch_size = facts.pop("batch_size", None)
    prompts = getattr(source, "prompts", None)
    config = {
        "design": design.name,
        "classes": list(design.classes),
        "strength": design.strength,
        "rows": _fingerprint(design, n_per_class, seed),
        "n_per_class": n_per_class,
        "seed": seed,
        "generator": source.name,
        **facts,
        "size": source.size,
        "check": check,
        **({} if prompts is None else {"prompts": prompts.config()}),
        # As chosen; each image records the batch size that memory allowed.
        **({} if batch_size is None else {"batch_size": int(batch_size)}),
    }
    wanted = {which: _wanted(design, which, seed, design.rows(which, n_per_class, seed)) for which in SETS}
    everything = [each for which in SETS for each in wanted[which]]
    with new_run(out, "generate") as new:
        missing = sum(not Path(out, each.path).exists() for each in everything)
        needed = missing * _BYTES_PER_PIXEL * source.size**2
        require_room(out, needed, "the image set", "choose another folder (--out)")
        new.create(config)
        texts = fill(
            source,
            everything,
            new.run.path,
            judge=judge,
            max_rejects=max_rejects,
            progress=progress,
            label=source.name,
        )
        _write_tables(new.run, wanted, texts)
        _sweep(new.run.path)
        rejects = {which: len(list((new.run.path / REJECTED / which).rglob("*.png"))) for which in SETS}
        batch_sizes = Counter(text["batch_size"] for text in texts.values() if "batch_size" in text)
        metrics = {
            "design": design.name,
            "generator": source.name,
            "seed": seed,
            "n_per_class": n_per_class,
            "size": source.size,
            "counts": {which: design.counts(which, n_per_class).tolist() for which in SETS},
            "mutual_information_nats": {which: design.dependence(which) for which in SETS},
            "images": len(everything),
            "check": check,
            "rejects": {"total": sum(rejects.values()), **rejects},
            "provenance": facts,
            **({"batch_sizes": dict(sorted(batch_sizes.items()))} if batch_sizes else {}),
        }
        new.finish(metrics, stamp=())  # the same command gives the same bytes
    return new.run.path


def _write_tables(run: Run, wanted: Mapping[str, list[Wanted]], texts: Mapping[str, dict[str, str]]) -> None:
    """Write ``metadata.csv`` of each set and of all."""
    names = (name for text in texts.values() for name in text if name not in COLUMNS)
    columns = [*COLUMNS, *dict.fromkeys(names)]
    for which in SETS:
        lines = [
            {"file_name": each.path.removeprefix(f"{which}/"), **texts[each.path]} for each in wanted[which]
        ]
        write_text(run.file(f"{which}/metadata.csv"), _csv(columns, lines))
    everything = [{"file_name": path, **text} for path, text in texts.items()]
    write_text(run.file("metadata.csv"), _csv(columns, everything))


def _fingerprint(design: Design, n_per_class: int, seed: int) -> str:
    """Hash all rows of all sets, which identifies a design even if its tables were edited."""
    digest = hashlib.sha256()
    for which in SETS:
        rows = design.rows(which, n_per_class, seed)
        for column in (rows.labels, rows.factors, rows.looks, rows.parts, rows.contents):
            digest.update(np.ascontiguousarray(column, np.int64).tobytes())
    return digest.hexdigest()[:16]


def _source(generator: str | PictureSource, size: int) -> PictureSource:
    if not isinstance(generator, str):
        return generator
    return open_source(generator, **({"size": size} if generator == "renderer" else {}))


def _check(design: Design, n_per_class: int, seed: int, source: PictureSource) -> None:
    design.counts("A_train", n_per_class)
    limits.SEED.check(seed, "seed")
    for name in design.classes:
        if name not in source.parts:
            raise CausalFTError(
                f"the generator {source.name} has no class {name!r}; it draws {', '.join(source.parts)}"
            )


def _wanted(design: Design, which: str, seed: int, rows: Rows, by_seed: bool = False) -> list[Wanted]:
    """List the images of a set, named by their number in the class, or in the cell of class and factor."""
    wanted = []
    of_class: Counter[int] = Counter()
    of_cell: Counter[tuple[int, int]] = Counter()
    columns = (rows.labels, rows.factors, rows.looks, rows.parts, rows.contents)
    for label, factor, look, part, content in zip(*(column.tolist() for column in columns), strict=True):
        name, shown, index = design.classes[label], design.classes[look], of_cell[label, factor]
        if by_seed:
            path = f"{design.name}/{which}/seed{seed}/{name}/C{factor}-{index:05d}-{shown}-{part}.png"
        else:
            path = f"{which}/{name}/{of_class[label]:05d}.png"
        wanted.append(
            Wanted(
                path=path,
                look=shown,
                part=part,
                seed=partial(picture_seed, seed, design.name, which, name, factor, index),
                facts={
                    "label": name,
                    "factor": str(factor),
                    # not a property of the image: a larger set may read it differently
                    **({} if by_seed else {"content": design.classes[content]}),
                    "design": design.name,
                    "split": which,
                    "seed": str(seed),
                },
            )
        )
        of_class[label] += 1
        of_cell[label, factor] += 1
    return wanted


def _scaled(pixels: np.ndarray, size: int) -> np.ndarray:
    """Scale images (n, s, s, 3) to another size."""
    if pixels.shape[1] == size:
        return pixels
    return np.stack(
        [np.asarray(Image.fromarray(each).resize((size, size), Image.Resampling.LANCZOS)) for each in pixels]
    )


def _read(path: Path) -> tuple[np.ndarray, dict[str, str]]:
    found = read_picture(path)
    if found is None:
        raise CausalFTError(f"{path} has vanished while the set was made; repeat the command")
    return found


def _sweep(folder: Path) -> None:
    """Remove half-written images of a killed process."""
    for path in [path for path in folder.rglob(".*.png.part") if path.is_file()]:
        path.unlink(missing_ok=True)


def _csv(columns: Sequence[str], lines: Iterable[Mapping[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def time_drawing(source: PictureSource, design: Design, images: int) -> tuple[float, int]:
    """Return seconds and bytes of so many images, from one batch after one that warms up."""
    batch = min(source.batch_size, images)
    requests = [Request(design.classes[k % len(design.classes)], k % 2, seed=k) for k in range(batch)]
    if source.name == "renderer" or source.provenance().get("device", "cpu") != "cpu":
        source.draw(requests)
    started = time.perf_counter()
    pictures = source.draw(requests)
    seconds = time.perf_counter() - started
    size = 0
    for picture in pictures[:8]:
        content = io.BytesIO()
        Image.fromarray(picture).save(content, format="PNG")
        size += len(content.getvalue()) + 500  # and its text
    batches = -(-images // batch)
    return seconds * batches, size * images // len(pictures[:8])
