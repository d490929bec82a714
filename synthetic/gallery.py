"""Requested images drawn into a folder, file by file: resumable, checked, rejects replaced."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from causalft.errors import CausalFTError
from causalft.runs.progress import named, phase

__all__ = [
    "Judge",
    "PictureSource",
    "Request",
    "Wanted",
    "draw_accepted",
    "fill",
    "picture_seed",
    "read_picture",
    "reject_limit",
]


@dataclass(frozen=True)
class Request:
    """One image of the A/B world.

    Attributes
    ----------
    look : class that is drawn.
    part : 0 or 1, which of the class's two parts dominates.
    seed : 63-bit, from `picture_seed`: the same request gives the same image, alone or among others.
    """

    look: str
    part: int
    seed: int


@runtime_checkable
class PictureSource(Protocol):
    """What draws the images; opened by `synthetic.generate.open_source`.

    Attributes
    ----------
    name : ``"renderer"`` or ``"stable-diffusion"``.
    size : side of the images in pixels.
    parts : class name -> names of its parts under C=0 and C=1.
    batch_size : preferred number of images per call.
    """

    name: str
    size: int
    parts: Mapping[str, tuple[str, str]]
    batch_size: int

    def draw(self, requests: Sequence[Request]) -> np.ndarray:
        """Return uint8 images (n, size, size, 3) in the order of the requests."""
        ...

    def provenance(self) -> dict[str, str]:
        """Model, settings and versions of all images; ``batch_size`` is that of the last draw."""
        ...

    def prompt(self, request: Request) -> str | None:
        """The prompt of an image; None if there is none."""
        ...


def picture_seed(
    seed: int, design: str, split: str, label: str, factor: int, index: int, attempt: int = 0
) -> int:
    """The seed of one image, 0 to 2^63 - 1: a stable hash, so that any image can be drawn again alone.

    Parameters
    ----------
    seed : of the whole set.
    design, split, label : names of the design, image set and class.
    factor : 0 or 1.
    index : number of the image within its class and factor, from 0.
    attempt : how many images were rejected in its place before.

    Examples
    --------
    >>> picture_seed(0, "paper", "A_train", "cat", 1, 0) == picture_seed(0, "paper", "A_train", "cat", 1, 0)
    True
    >>> picture_seed(0, "paper", "A_train", "cat", 1, 0) == picture_seed(0, "paper", "A_train", "cat", 1, 1)
    False
    """
    words = [str(int(seed)), design, split, label, str(int(factor)), str(int(index))]
    if attempt:
        words.append(str(int(attempt)))
    digest = hashlib.blake2b("\0".join(words).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


Judge = Callable[[np.ndarray, Sequence[str], Sequence[int]], np.ndarray]
"""``judge(images (n, size, size, 3), classes, parts) -> bool (n,)``: which show what was requested."""

REJECTED = "rejected"
"""Folder of rejected images."""


@dataclass(frozen=True)
class Wanted:
    """One image to be drawn.

    Attributes
    ----------
    path : of the file, relative to the folder.
    look, part : what it shows.
    seed : attempt (0, 1, ...) -> seed.
    facts : further text of the file: design, split, label, ...
    """

    path: str
    look: str
    part: int
    seed: Callable[[int], int]
    facts: dict[str, str] = field(default_factory=dict)

    def request(self, attempt: int = 0) -> Request:
        """The request of an attempt."""
        return Request(self.look, self.part, self.seed(attempt))

    def rejected(self, attempt: int) -> str:
        """Path of the image if the attempt is rejected."""
        stem = self.path.removesuffix(".png")
        return f"{REJECTED}/{stem}-{attempt}.png"


def reject_limit(limit: float, images: int) -> int:
    """Return the most rejects allowed: a fraction of the images below 1, a count from 1 on.

    Examples
    --------
    >>> reject_limit(0.25, 200), reject_limit(30, 200), reject_limit(0, 200)
    (50, 30, 0)
    """
    if not limit >= 0:
        raise CausalFTError(f"--max-rejects {limit:g} is out of range; use a share such as 0.25, or a number")
    return int(limit * images) if limit < 1 else int(limit)


@named("drawing images")
def draw_accepted(
    source: PictureSource, wanted: Sequence[Wanted], *, judge: Judge | None = None, max_rejects: float = 0.25
) -> np.ndarray:
    """Draw images into memory, uint8 (n, size, size, 3); rejected ones are replaced by the next seed's.

    Raises
    ------
    CausalFTError
        For more rejects than the limit.
    """
    pictures = np.empty((len(wanted), source.size, source.size, 3), np.uint8)
    places, attempt, rejects = np.arange(len(wanted)), 0, 0
    limit = reject_limit(max_rejects, len(wanted))
    while len(places):
        asked = [wanted[place] for place in places.tolist()]
        drawn = source.draw([each.request(attempt) for each in asked])
        good = _good(drawn, asked, judge)
        pictures[places[good]] = drawn[good]
        places, attempt = places[~good], attempt + 1
        rejects += int((~good).sum())
        if rejects > limit:
            raise CausalFTError(_too_many(rejects, limit, len(wanted)))
    return pictures


def fill(
    source: PictureSource,
    wanted: Sequence[Wanted],
    folder: Path,
    *,
    judge: Judge | None = None,
    max_rejects: float = 0.25,
    progress: bool | None = None,
    label: str = "pictures",
) -> dict[str, dict[str, str]]:
    """Draw into a folder the images that are missing.

    A file appears whole or not at all. Images are drawn in rounds: first all, then the rejected ones with the next
    seed, and so on. Batches have fixed places in a round, and an incomplete one is drawn again as a whole, so an
    interrupted run ends with the same bytes.

    Parameters
    ----------
    source : PictureSource
    wanted : the images; no path twice.
    folder : files go to ``folder/path``, rejected ones to ``folder/rejected/``.
    judge : which images show what was requested; one of a single colour is always rejected.
    max_rejects : a fraction of the images below 1, a count from 1 on.
    progress : show a bar; by default on a terminal.
    label : text of the bar.

    Returns
    -------
    path -> text of the file, in the order of ``wanted``.

    Raises
    ------
    CausalFTError
        For more rejects than the limit (drawn images stay), or an image of another generator in the folder.
    """
    limit = reject_limit(max_rejects, len(wanted))
    attempt, rejects, round_ = 0, 0, list(wanted)
    there = _known(source, wanted, folder)
    with phase(label, len(wanted), initial=len(there), unit=" images", progress=progress) as bar:
        while round_:
            refused = {each.path for each in round_ if (folder / each.rejected(attempt)).exists()}
            rejects += len(refused)
            start = 0
            while start < len(round_):
                batch = round_[start : start + source.batch_size]
                start += len(batch)
                if all(each.path in there or each.path in refused for each in batch):
                    continue
                if rejects > limit:
                    raise CausalFTError(_too_many(rejects, limit, len(wanted), folder))
                drawn = source.draw([each.request(attempt) for each in batch])
                good = _good(drawn, batch, judge)
                constant = source.provenance()
                for each, picture, accepted in zip(batch, drawn, good, strict=True):
                    if each.path in there or each.path in refused:
                        continue
                    text = {**_text(source, each, attempt), **constant}
                    _write(folder / (each.path if accepted else each.rejected(attempt)), picture, text)
                    if accepted:
                        there[each.path] = text
                        bar.update()
                    else:
                        refused.add(each.path)
                        rejects += 1
            if rejects > limit:
                raise CausalFTError(_too_many(rejects, limit, len(wanted), folder))
            round_ = [each for each in round_ if each.path in refused]
            attempt += 1
    return {each.path: there[each.path] for each in wanted}


def read_picture(path: Path) -> tuple[np.ndarray, dict[str, str]] | None:
    """An image, uint8 (size, size, 3), and its text; None if the file is missing or damaged."""
    try:
        with Image.open(path) as image:
            image.load()
            text = {str(key): str(value) for key, value in getattr(image, "text", {}).items()}
            return np.asarray(image.convert("RGB")), text
    except (OSError, SyntaxError, UnidentifiedImageError):
        return None


def _known(source: PictureSource, wanted: Sequence[Wanted], folder: Path) -> dict[str, dict[str, str]]:
    """Return what is there, path -> text, and continue with the smallest batch size found."""
    there: dict[str, dict[str, str]] = {}
    sizes: set[int] = set()
    constant = source.provenance()
    for each in wanted:
        found = read_picture(folder / each.path)
        if found is None:
            continue
        text = found[1]
        if "batch_size" in text:
            sizes.add(int(text["batch_size"]))
        differing = [
            name
            for name, value in {**each.facts, **constant}.items()
            if name != "batch_size" and text.get(name, "") != value
        ]
        if differing:
            raise CausalFTError(
                f"{folder / each.path} was drawn otherwise (it differs in {', '.join(sorted(differing)[:3])}); choose "
                "another folder"
            )
        there[each.path] = text
    if sizes:
        source.batch_size = min(sizes)
    return there


def _good(pictures: np.ndarray, wanted: Sequence[Wanted], judge: Judge | None) -> np.ndarray:
    # one colour: a safety checker, or an overflow in half precision
    flat = pictures.reshape(len(pictures), -1, 3)
    good = (flat.max(1) > flat.min(1)).any(1)
    if judge is not None:
        good &= np.asarray(
            judge(pictures, [each.look for each in wanted], [each.part for each in wanted]), bool
        )
    return good


def _text(source: PictureSource, wanted: Wanted, attempt: int) -> dict[str, str]:
    """Text of a file beside the provenance."""
    request = wanted.request(attempt)
    prompt = source.prompt(request)
    return {
        "generator": source.name,
        **wanted.facts,
        "look": wanted.look,
        "part": f"{wanted.look} {source.parts[wanted.look][wanted.part]}",
        "image_seed": str(request.seed),
        **({} if prompt is None else {"prompt": prompt}),
    }


def _write(path: Path, picture: np.ndarray, text: dict[str, str]) -> None:
    """Write a PNG in one step. Not synced, which costs more than drawing: a torn file is drawn again."""
    info = PngImagePlugin.PngInfo()
    for name, value in text.items():
        info.add_text(name, value)
    content = io.BytesIO()
    Image.fromarray(picture).save(content, format="PNG", pnginfo=info)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(content.getvalue())
    os.replace(temporary, path)


def _too_many(rejects: int, limit: int, images: int, folder: Path | None = None) -> str:
    kept = f"look at {folder / REJECTED}, then " if folder else ""
    return (
        f"{rejects} rejected images, and {limit} of {images} are allowed: {kept}raise --max-rejects or change model, "
        f"prompts or --check{'; with a higher --max-rejects the run goes on where it stopped' if folder else ''}"
    )
