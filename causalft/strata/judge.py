"""Judges of generated pictures: does a picture show the class and the part that were asked for?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from causalft.errors import CausalFTError
from causalft.models.strata.stratum import Stratum
from causalft.models.strata.zoo import open_zoo
from synthetic.gallery import Judge
from synthetic.prompts import Prompts

__all__ = ["clip_judge", "open_judge"]


def clip_judge(stratum: Stratum, prompts: Prompts) -> Judge:
    """A judge that lets CLIP choose among the prompts of all classes and parts.

    A picture passes if the prompt of its own class and part is the most similar of all, which is zero-shot
    classification (Radford et al., Learning Transferable Visual Models From Natural Language Supervision, 2021).

    Parameters
    ----------
    stratum : a CLIP model.
    prompts : what the pictures were made from; the first template in use counts.

    Returns
    -------
    function of uint8 pictures (n, size, size, 3), class names and parts (0 or 1) that gives bool (n,).
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
    """Load a CLIP model of open_clip and make it a judge.

    Parameters
    ----------
    name : ``"clip"``, ``"openclip"``, ``"metaclip"``, or ``ARCH/TAG`` of open_clip.
    prompts : what the pictures are made from.
    weights : local file of the weights.

    Raises
    ------
    CausalFTError
        For an unknown model, or weights that are not here and cannot be fetched.
    """
    zoo = open_zoo("pretrained", None if weights is None else {name: weights})
    try:
        stratum = zoo.load(name, device=device)
    except CausalFTError as error:
        message = error.on_command_line.replace(f"--weights {name}=", "--check-weights ")
        message = message.replace(", or use --zoo mini with the built-in data", ", or leave --check out")
        raise CausalFTError(f"--check {name}: {message}") from error
    return clip_judge(stratum, prompts)
