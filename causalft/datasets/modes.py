"""Samples of every kind that an image file holds, to 8-bit RGB."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from causalft.errors import CausalFTError

__all__ = ["to_rgb"]

_EIGHT_BIT_MODES = frozenset({"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV"})
_CLEAR_MODES = frozenset({"RGBA", "RGBa", "LA", "PA"})
_SAMPLE_FORMAT, _PHOTOMETRIC = 339, 262


def to_rgb(image: Image.Image, name: str) -> Image.Image:
    """Return an image with 8 bits and three channels.

    - Grey, palette, CMYK, YCbCr and HSV become RGB; CIE L*a*b* becomes sRGB.
    - What is transparent is laid on white.
    - 16-bit samples keep their upper 8 bits: a file says that 65535 is white.
    - 32-bit integers have no agreed white. Their largest value tells how many bits are in use: up to 255 they are taken
      as they are, and up to 65535 the upper 8 of these bits are kept, so that no image becomes black.
    - Floating-point samples in [0, 1] are scaled to [0, 255].
    - A TIFF in which white is zero is inverted.

    Parameters
    ----------
    image : PIL.Image.Image
        Loaded.
    name : str
        For an error.

    Raises
    ------
    CausalFTError
        For 32-bit integers outside [0, 65535], floats outside [0, 1] or NaN, and modes without a known meaning.

    Examples
    --------
    >>> to_rgb(Image.new("I", (1, 1), 200), "a.tif").getpixel((0, 0))
    (200, 200, 200)
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return _from_deep_samples(image, name)
    if image.mode in _CLEAR_MODES or "transparency" in image.info:
        coloured = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, coloured).convert("RGB")
    if image.mode == "LAB":
        return _from_lab(image, name)
    if image.mode not in _EIGHT_BIT_MODES:
        raise CausalFTError(f"cannot read {name}: its colours are in mode {image.mode}; save it as RGB")
    return image.convert("RGB")


def _from_deep_samples(image: Image.Image, name: str) -> Image.Image:
    """Grey samples of 16 or 32 bits; Pillow's own conversion would clip or blacken them."""
    tags = getattr(image, "tag_v2", {})
    samples = np.asarray(image)
    if image.mode == "F":
        if not (np.isfinite(samples).all() and samples.min() >= 0 and samples.max() <= 1):
            raise CausalFTError(
                f"cannot read {name}: its samples are not in [0, 1]; save it with 8 or 16 bits"
            )
        grey: NDArray[np.uint8] = np.rint(samples * 255).astype(np.uint8)
    elif image.mode == "I" and image.format != "PPM":  # in PPM Pillow scales all deep samples to 16 bits
        if tags.get(_SAMPLE_FORMAT, (1,))[0] == 1:
            samples = samples.view(np.uint32)  # Pillow takes the highest bit for a sign
        if samples.min() < 0 or samples.max() > 65535:
            raise CausalFTError(
                f"cannot read {name}: 32-bit samples have no agreed range; save it with 8 or 16 bits"
            )
        bits = max(8, int(samples.max()).bit_length())
        grey = (samples >> (bits - 8)).astype(np.uint8)
    else:
        grey = (samples.astype(np.uint16) >> 8).astype(np.uint8)
    if tags.get(_PHOTOMETRIC) == 0:
        grey = 255 - grey
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey = np.where(samples == clear, np.uint8(255), grey)
    return Image.fromarray(grey).convert("RGB")


def _from_lab(image: Image.Image, name: str) -> Image.Image:
    try:
        from PIL import ImageCms

        transform = ImageCms.buildTransform(
            ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB"
        )
        found = ImageCms.applyTransform(image, transform)
    except ImportError:
        found = None
    if found is None:
        raise CausalFTError(f"cannot read {name}: its colours are in mode LAB; save it as RGB")
    return found
