"""Incomplete views of photographs: what a mini foundation model is shown of each picture, and so learns to see."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from causalft.errors import CausalFTError, nearest

__all__ = ["VIEWS", "apply_view", "find_view"]

View = Callable[[Image.Image], Image.Image]

_GREY = (128, 128, 128)


def _masked(image: Image.Image, box: tuple[float, float, float, float]) -> Image.Image:
    """Keep the part of a picture inside ``box`` (fractions left, top, right, bottom), mid-grey elsewhere."""
    width, height = image.size
    left, top, right, bottom = box
    corner = (round(left * width), round(top * height))
    kept = image.crop((*corner, round(right * width), round(bottom * height)))
    shown = Image.new("RGB", image.size, _GREY)
    shown.paste(kept, corner)
    return shown


def _grey_low_pass(image: Image.Image) -> Image.Image:
    """Brightness only, blurred with a radius of a sixteenth of the shorter side."""
    radius = min(image.size) / 16
    return image.convert("L").filter(ImageFilter.GaussianBlur(radius)).convert("RGB")


VIEWS: dict[str, View] = {
    "upper": lambda image: _masked(image, (0, 0, 1, 0.5)),
    "lower": lambda image: _masked(image, (0, 0.5, 1, 1)),
    "left": lambda image: _masked(image, (0, 0, 0.5, 1)),
    "right": lambda image: _masked(image, (0.5, 0, 1, 1)),
    "grey": _grey_low_pass,
    "full": lambda image: image,
}
"""Views by name: halves, grey low-pass, and the full picture."""


def find_view(name: str) -> View:
    """Return a view by name, or the user's own as ``package.module:function`` (PIL image in, PIL image out).

    Raises
    ------
    CausalFTError
        If there is no such view, module or function.

    Examples
    --------
    >>> find_view("upper")(Image.new("RGB", (4, 4), (9, 9, 9))).getpixel((0, 3))
    (128, 128, 128)
    """
    if name in VIEWS:
        return VIEWS[name]
    module, _, function = name.partition(":")
    if not function:
        raise CausalFTError(f"no view {name!r}; {nearest(name, VIEWS)}; your own as package.module:function")
    try:
        view = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise CausalFTError(
            f"view {name!r} cannot be imported ({error}); is {module} on PYTHONPATH?"
        ) from error
    if not callable(view):
        raise CausalFTError(f"view {name!r} is not a function")
    return view


def apply_view(pixels: np.ndarray, view: str, share: float, rng: np.random.Generator) -> np.ndarray:
    """Show a share of the pictures through a view and the others whole.

    Parameters
    ----------
    pixels : numpy.ndarray
        Shape (n, size, size, 3), uint8.
    view : str
    share : float
        Between 0 and 1.
    rng : numpy.random.Generator

    Returns
    -------
    numpy.ndarray
        A new array of the same shape.

    Raises
    ------
    CausalFTError
        If a view of the user's returns something else than a picture, or one of another size.
    """
    shown, function = pixels.copy(), find_view(view)
    for row in np.flatnonzero(rng.random(len(pixels)) < share):
        found = function(Image.fromarray(pixels[row]))
        if not isinstance(found, Image.Image):
            raise CausalFTError(f"view {view!r} returned a {type(found).__name__}, not a PIL image")
        picture = np.asarray(found.convert("RGB"))
        if picture.shape != pixels.shape[1:]:
            raise CausalFTError(
                f"view {view!r} changed the size of a picture from {pixels.shape[1:]} to {picture.shape}"
            )
        shown[row] = picture
    return shown
