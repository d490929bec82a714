"""How a picture becomes the input of an exported model: geometry outside the graph, as data; normalisation inside."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from causalft.models.features.encoder import resized_side
from causalft.models.strata.stratum import SquareCrop, Stratum

__all__ = ["PictureInput", "geometry_steps", "picture_inputs"]


@dataclass(frozen=True)
class PictureInput:
    """One input of an exported model.

    Attributes
    ----------
    name : str
        ``pictures``, or with several ``pictures_224``, ``pictures_384``, ...
    size : int
        Side in pixels of the square that the strata see; of several squares, the graph cuts them.
    steps : list of dict
        From an RGB picture to the input, in order (:func:`geometry_steps`).
    strata : list of str
        Which strata see it.
    view : {"centre", "five-crop", "ten-crop"}
        What the graph takes of the input: all of it, or squares whose logits it averages.
    """

    name: str
    size: int
    steps: list[dict[str, Any]]
    strata: list[str]
    view: str = "centre"

    @property
    def side(self) -> int:
        """Shorter side of the input in pixels; that of the centre is a square."""
        return self.size if self.view == "centre" else resized_side(self.size)

    def document(self, dtype: str) -> dict[str, Any]:
        """The entry of ``preprocessor.json``: everything needed to make this input from a picture file."""
        return {
            "name": self.name,
            "dtype": dtype,
            "layout": "batch, channel (RGB), row, column",
            "range": [0, 255] if dtype == "uint8" else [0, 1],
            "size": self.size,
            "view": self.view,
            "shorter_side": self.side,
            "colour": "upright by EXIF orientation, transparency on white, RGB, 8 bits a channel",
            "steps": self.steps,
            "strata": self.strata,
        }


def geometry_steps(stratum: Stratum, view: str = "centre") -> list[dict[str, Any]]:
    """Return the geometry of a stratum as data: resize and centre crop, as Pillow does them.

    For several squares a picture is only resized: it may be wider or taller than a square.

    A step that is neither is written with its description under ``"step": "other"``: no loader can guess it.

    Examples
    --------
    >>> from causalft.models.strata.zoo import open_zoo
    >>> for step in geometry_steps(open_zoo("mini").load("clip")):
    ...     print(step)
    {'step': 'resize', 'shorter_side': 40, 'interpolation': 'bicubic'}
    {'step': 'center_crop', 'size': 40}
    """
    if view != "centre":
        side = resized_side(stratum.image_size)
        return [{"step": "resize", "shorter_side": side, "interpolation": stratum.interpolation}]
    if isinstance(stratum.geometry, SquareCrop):
        crop = stratum.geometry
        resize = {"step": "resize", "shorter_side": crop.size, "interpolation": crop.interpolation}
        return [resize, {"step": "center_crop", "size": crop.size}]

    from torchvision import transforms

    found: list[dict[str, Any]] = []
    for step in getattr(stratum.geometry, "transforms", [stratum.geometry]):
        if isinstance(step, transforms.Resize) and step.max_size is None:
            size = [step.size] if isinstance(step.size, int) else list(step.size)
            # torchvision: one number is the shorter side, two are height and width
            target = {"shorter_side": size[0]} if len(size) == 1 else {"width": size[1], "height": size[0]}
            found.append({"step": "resize", **target, "interpolation": step.interpolation.value})
        elif isinstance(step, transforms.CenterCrop) and len(set(step.size)) == 1:
            found.append({"step": "center_crop", "size": int(step.size[0])})
        else:
            found.append({"step": "other", "description": repr(step)})
    return found


def picture_inputs(strata: Mapping[str, Stratum], view: str = "centre") -> list[PictureInput]:
    """Group strata that see the same square or squares: one input for each geometry.

    Examples
    --------
    >>> from causalft.models.strata.zoo import open_zoo
    >>> [(i.name, i.strata) for i in picture_inputs({n: open_zoo("mini").load(n) for n in ("clip", "openclip")})]
    [('pictures', ['clip', 'openclip'])]
    """
    groups: dict[str, tuple[Stratum, list[str]]] = {}
    for name, stratum in strata.items():
        key = json.dumps([stratum.image_size, geometry_steps(stratum, view)])
        groups.setdefault(key, (stratum, []))[1].append(name)
    names: list[str] = []
    for first, _ in groups.values():
        base = "pictures" if len(groups) == 1 else f"pictures_{first.image_size}"
        # the same size cut in another way (bilinear, say) is another input
        names.append(base if base not in names else f"{base}_{len(names)}")
    return [
        PictureInput(name, first.image_size, geometry_steps(first, view), members, view)
        for name, (first, members) in zip(names, groups.values(), strict=True)
    ]
