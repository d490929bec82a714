"""Do generated images show the class and part of their prompts, and are they as diverse as renders?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from causalft.errors import CausalFTError
from causalft.models.resnet import as_input, resnet
from causalft.models.strata.stratum import Stratum
from causalft.models.strata.zoo import open_zoo
from causalft.models.tuning.train import Recipe, train
from causalft.runs.progress import steps
from synthetic.gallery import Judge, PictureSource, Request
from synthetic.objects import CLASSES, N_NUISANCE, PARTS, render
from synthetic.prompts import Prompts, default_prompts

__all__ = [
    "Cell",
    "JUDGE",
    "PromptCheck",
    "check_prompts",
    "clip_judge",
    "diversity",
    "judge_for",
    "name_cells",
    "open_judge",
    "train_judge",
]


JUDGE = Recipe(epochs=12, batch_size=64, lr=0.1, schedule="onecycle")
"""Recipe of the judge, a classifier of class and part trained on renders."""


@dataclass(frozen=True)
class Cell:
    """Scores of the images of one class and part; fractions.

    Attributes
    ----------
    class_name, part : str
    n : int
    right : float
        Class and part both correct.
    confused_with : str
        The most frequent wrong cell; empty if there is none.
    diversity : float
        Pixel standard deviation over that of renders.
    """

    class_name: str
    part: str
    n: int
    right: float
    confused_with: str
    diversity: float


@dataclass(frozen=True)
class PromptCheck:
    """Result of `check_prompts`; fractions.

    Attributes
    ----------
    n : int
    right, class_right, part_right : float
        Images with correct class and part, class, part.
    judge_right : float
        The same for held-out renders: an upper bound.
    pixel_std, pixel_std_renders, diversity : float
        Within-cell pixel standard deviation (pixels in [0, 1]), and the first over the second.
    seconds, images_per_second : float
        Of drawing.
    cells : list of Cell
    """

    n: int
    right: float
    class_right: float
    part_right: float
    judge_right: float
    pixel_std: float
    pixel_std_renders: float
    diversity: float
    seconds: float
    images_per_second: float
    cells: list[Cell]


def train_judge(
    size: int,
    *,
    n_per_cell: int = 300,
    seed: int = 0,
    backbone: str = "resnet8",
    recipe: Recipe = JUDGE,
    progress: bool | None = None,
) -> nn.Module:
    """Train a residual network to name the cell (2 * class + part) of renders; return it in eval mode.

    Renders are blurred by random amounts, so that the judge relies on shape and colour (98 % correct on generated
    images, against 70 % when trained on sharp renders only).

    Parameters
    ----------
    size : int
        Pixels.
    n_per_cell : int
        Renders per class and part.
    seed : int
    backbone : str
        A name of :func:`causalft.models.resnet.resnet`.
    recipe : Recipe
    progress : bool, optional
    """
    pixels, labels = _renders(size, n_per_cell, [seed, 21])
    x, y = as_input(pixels), torch.from_numpy(labels)
    model = resnet(backbone, 2 * len(CLASSES), seed).train()

    def batch_loss(model: nn.Module, indices: Tensor, generator: torch.Generator) -> Tensor:
        return F.cross_entropy(model(_soften(x[indices], generator)), y[indices])

    train(model, len(y), batch_loss, replace(recipe, seed=seed), label="judge", progress=progress)
    return model.eval()


def _soften(x: Tensor, generator: torch.Generator) -> Tensor:
    """Blend each image with its 3 x 3 mean, with a weight drawn from [0, 1]."""
    smooth = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return torch.lerp(x, smooth, torch.rand(len(x), 1, 1, 1, generator=generator))


@torch.inference_mode()
def name_cells(judge: nn.Module, pixels: np.ndarray) -> np.ndarray:
    """Return the cell (2 * class + part) predicted for each image, int64 (n,)."""
    return torch.cat([judge(part).argmax(1) for part in as_input(pixels).split(256)]).numpy()


def diversity(pixels: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Within-cell pixel standard deviation, averaged over pixels and channels.

    Parameters
    ----------
    pixels : numpy.ndarray
        uint8 (n, size, size, 3).
    cells : numpy.ndarray
        int (n,), 0 .. C-1, each at least twice.

    Returns
    -------
    numpy.ndarray
        float (C,), pixels in [0, 1].

    Examples
    --------
    >>> pixels = np.zeros((4, 2, 2, 3), np.uint8)
    >>> pixels[1] = 255
    >>> diversity(pixels, np.array([0, 0, 1, 1])).tolist()
    [0.5, 0.0]
    """
    return np.array([(pixels[cells == cell] / 255.0).std(0).mean() for cell in range(int(cells.max()) + 1)])


def check_prompts(
    source: PictureSource,
    *,
    n_per_cell: int = 100,
    seed: int = 0,
    judge: nn.Module | None = None,
    progress: bool | None = None,
) -> PromptCheck:
    """Draw images of every class and part and classify them by a network trained on renders.

    Parameters
    ----------
    source : PictureSource
        Source of the renderer's six classes.
    n_per_cell : int
        Images per class and part, at least 2; 100 make 1,200.
    seed : int
        Seed of the judge; image ``i`` of a cell has the seed ``1,000,000 seed + 10,000 cell + i``.
    judge : torch.nn.Module, optional
        From `train_judge`; trained by default.
    progress : bool, optional

    Raises
    ------
    CausalFTError
        If there are too few or too many images per cell, or the source draws other classes.
    """
    if not 2 <= n_per_cell <= 10_000:
        raise CausalFTError(f"{n_per_cell} images per cell cannot be checked; give 2 to 10,000")
    if missing := sorted(set(CLASSES) - set(source.parts)):
        raise CausalFTError(f"the check needs the renderer's six classes; {missing[0]!r} is not drawn")
    size = source.size
    wanted = np.repeat(np.arange(2 * len(CLASSES)), n_per_cell)
    requests = [
        Request(CLASSES[cell // 2], int(cell) % 2, 1_000_000 * seed + 10_000 * int(cell) + i % n_per_cell)
        for i, cell in enumerate(wanted)
    ]
    pixels = np.empty((len(requests), size, size, 3), np.uint8)
    started = time.perf_counter()
    starts = range(0, len(requests), source.batch_size)
    for start in steps(starts, "drawing", len(starts), unit="batch", progress=progress, leave=False):
        some = slice(start, start + source.batch_size)
        pixels[some] = source.draw(requests[some])
    seconds = time.perf_counter() - started
    judge = judge or train_judge(size, seed=seed, progress=progress)
    seen = name_cells(judge, pixels)
    renders, labels = _renders(size, max(100, n_per_cell), [seed, 22])
    generated_std, render_std = diversity(pixels, wanted), diversity(renders, labels)
    cells = []
    for cell in range(2 * len(CLASSES)):
        names = seen[wanted == cell]
        wrong = np.bincount(names[names != cell], minlength=2 * len(CLASSES))
        cells.append(
            Cell(
                *_title(cell),
                n=len(names),
                right=float((names == cell).mean()),
                confused_with=" ".join(_title(int(wrong.argmax()))) if wrong.any() else "",
                diversity=float(generated_std[cell] / render_std[cell]),
            )
        )
    return PromptCheck(
        n=len(pixels),
        right=float((seen == wanted).mean()),
        class_right=float((seen // 2 == wanted // 2).mean()),
        part_right=float((seen % 2 == wanted % 2).mean()),
        judge_right=float((name_cells(judge, renders) == labels).mean()),
        pixel_std=float(generated_std.mean()),
        pixel_std_renders=float(render_std.mean()),
        diversity=float(generated_std.mean() / render_std.mean()),
        seconds=seconds,
        images_per_second=len(pixels) / max(seconds, 1e-9),
        cells=cells,
    )


def _title(cell: int) -> tuple[str, str]:
    name = CLASSES[cell // 2]
    return name, PARTS[name][cell % 2]


def _renders(size: int, n_per_cell: int, seed: list[int]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    pixels = [
        render(name, part, rng.random((n_per_cell, N_NUISANCE)), size) for name in CLASSES for part in (0, 1)
    ]
    return np.concatenate(pixels), np.repeat(np.arange(2 * len(CLASSES)), n_per_cell)


def clip_judge(stratum: Stratum, prompts: Prompts) -> Judge:
    """Return a judge that accepts an image if CLIP ranks the prompt of its class and part first.

    This is zero-shot classification (Radford et al., Learning Transferable Visual Models From Natural Language
    Supervision, 2021).

    Parameters
    ----------
    stratum : a CLIP model.
    prompts : prompts of the images; the first template in use counts.

    Returns
    -------
    function of uint8 images (n, size, size, 3), class names and parts (0 or 1); returns bool (n,).
    """
    cells = [(look, part) for look in prompts.classes for part in (0, 1)]
    number = {cell: index for index, cell in enumerate(cells)}
    texts = stratum.text_features([prompts.text(look, part) for look, part in cells], template="{}").cpu()

    def judge(pictures: np.ndarray, looks: Sequence[str], parts: Sequence[int]) -> np.ndarray:
        asked = np.array([number[look, part] for look, part in zip(looks, parts, strict=True)])
        crops = torch.from_numpy(np.stack([stratum.crop(Image.fromarray(picture)) for picture in pictures]))
        named = (stratum.image_features(crops, batch_size=32) @ texts.T).argmax(1).numpy()
        return named == asked

    return judge


def open_judge(
    name: str, prompts: Prompts, *, weights: Path | None = None, device: torch.device | str = "cpu"
) -> Judge:
    """Load a CLIP model of open_clip as a judge (:func:`clip_judge`).

    Parameters
    ----------
    name : ``"clip"``, ``"openclip"``, ``"metaclip"``, or ``ARCH/TAG`` of open_clip.
    prompts : prompts of the images.
    weights : local file of the weights.

    Raises
    ------
    CausalFTError
        For an unknown model, or weights that cannot be loaded or fetched.
    """
    zoo = open_zoo("pretrained", None if weights is None else {name: weights})
    try:
        stratum = zoo.load(name, device=device)
    except CausalFTError as error:
        message = error.on_command_line.replace(f"--weights {name}=", "--check-weights ")
        message = message.replace(", or use --zoo mini with the built-in data", ", or leave --check out")
        message = message.replace("or, where a zoo is chosen, pass", "or pass")
        raise CausalFTError(f"--check {name}: {message}") from error
    return clip_judge(stratum, prompts)


def judge_for(check: str, source: PictureSource, *, weights: Path | None = None) -> Judge:
    """Return the judge of the images of a source.

    Parameters
    ----------
    check : ``"renders"`` (a classifier trained on renders), or a CLIP model as in :func:`open_judge`.
    source : source of the images.
    weights : local file of the CLIP model's weights.

    Raises
    ------
    CausalFTError
        If ``renders`` does not know a class of the source, or as :func:`open_judge`.
    """
    if check != "renders":
        prompts = getattr(source, "prompts", None) or default_prompts()
        return open_judge(check, prompts, weights=weights, device=source.provenance().get("device", "cpu"))
    if weights is not None:
        raise CausalFTError("--check renders trains its own classifier; drop --check-weights")
    foreign = sorted(set(source.parts) - set(CLASSES))
    if foreign:
        raise CausalFTError(
            f"--check renders knows the renderer's six classes, not {foreign[0]!r}; use --check clip"
        )
    networks: list[nn.Module] = []

    def judge(pictures: np.ndarray, looks: Sequence[str], parts: Sequence[int]) -> np.ndarray:
        if not networks:  # trained on first use, not for a run that is refused
            networks.append(train_judge(source.size))
        asked = [2 * CLASSES.index(look) + part for look, part in zip(looks, parts, strict=True)]
        return name_cells(networks[0], pictures) == asked

    return judge


def _device(source: PictureSource) -> str:
    return source.provenance().get("device", "cpu")
