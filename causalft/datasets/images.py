"""One image file to one upright 8-bit RGB picture, or one clear error that names the file."""

from __future__ import annotations

import io
import os
from typing import IO

import numpy as np
from PIL import Image, ImageOps

from causalft.errors import CausalFTError

__all__ = ["IMAGE_SUFFIXES", "MAX_PIXELS", "fit_square", "is_image_name", "read_image"]

#: File endings that are taken for images; every other file is named and left out.
IMAGE_SUFFIXES = frozenset(
    ".apng .avif .bmp .dib .gif .jfif .jp2 .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tif .tiff .tga .webp".split()
)

#: Largest picture that is decoded, in pixels: a small file can claim a picture that fills the memory.
MAX_PIXELS = 89_478_485

_ORIENTATION_TAG = 0x0112
_EIGHT_BIT_MODES = frozenset({"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV"})


def is_image_name(name: str) -> bool:
    """Whether a file name ends like an image.

    Examples
    --------
    >>> is_image_name("lynx/0001.JPG"), is_image_name("labels.csv")
    (True, False)
    """
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def read_image(source: str | os.PathLike[str] | bytes | IO[bytes], name: str | None = None) -> Image.Image:
    """Read an image as it is meant to be seen: upright, 8 bits, three channels.

    The EXIF orientation is applied; grey, palette and CMYK pictures become RGB; transparent ones are laid on white;
    16-bit samples keep their upper 8 bits; floating-point samples in [0, 1] are scaled to [0, 255]. Of an animation
    or a multi-page file the first frame is read. Colour profiles are not applied.

    Parameters
    ----------
    source : path, bytes or binary file object
    name : str, optional
        What to call the image in an error; the path itself by default.

    Returns
    -------
    PIL.Image.Image
        Mode ``RGB``, pixels loaded.

    Raises
    ------
    CausalFTError
        If the file is missing, empty, truncated, not an image, larger than `MAX_PIXELS`, or holds 32-bit samples
        of unknown range. The message names the file.

    Examples
    --------
    >>> file = io.BytesIO()
    >>> Image.new("RGBA", (2, 1), (255, 0, 0, 0)).save(file, "PNG")
    >>> read_image(file.getvalue(), "clear.png").getpixel((0, 0))
    (255, 255, 255)
    """
    if name is None:
        name = os.fspath(source) if isinstance(source, (str, os.PathLike)) else "image"
    try:
        if isinstance(source, (str, os.PathLike)):
            with open(source, "rb") as file:
                data = file.read()
        else:
            data = source if isinstance(source, bytes) else source.read()
    except OSError as error:
        raise CausalFTError(f"cannot read {name}: {error.strerror or error}") from None
    if not data:
        raise CausalFTError(f"cannot read {name}: the file is empty; copy it again or remove it")
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise CausalFTError(
                    f"cannot read {name}: {image.width} x {image.height} pixels is over the limit of {MAX_PIXELS}; "
                    "scale it down or remove it"
                )
            image.load()
            return _to_rgb(_upright(image), name)
    except (CausalFTError, MemoryError):
        raise
    except Image.UnidentifiedImageError:
        raise CausalFTError(
            f"cannot read {name}: it is not an image, or damaged at its start; leave it out or copy it again"
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise CausalFTError(
            f"cannot read {name}: more than {MAX_PIXELS} pixels; scale it down or remove it"
        ) from None
    except Exception as error:  # decoders raise every kind of exception on damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CausalFTError(
            f"cannot read {name}: it is damaged ({reason}); copy it again or remove it"
        ) from None


def fit_square(image: Image.Image, size: int) -> Image.Image:
    """Scale the shorter side to ``size`` (antialiased bicubic) and cut the central square.

    Parameters
    ----------
    image : PIL.Image.Image
    size : int
        Side of the square in pixels.

    Examples
    --------
    >>> fit_square(Image.new("RGB", (90, 60)), 32).size
    (32, 32)
    """
    if image.size == (size, size):
        return image
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    scaled = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return scaled.crop((left, top, left + size, top + size))


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; a damaged EXIF block says nothing about it and is passed over."""
    try:
        turned = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # the parser raises whatever the damage causes; the pixels are whole
        return image
    return ImageOps.exif_transpose(image) if turned in range(2, 9) else image


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return _from_deep_samples(image, name)
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        coloured = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, coloured).convert("RGB")
    if image.mode not in _EIGHT_BIT_MODES:
        raise CausalFTError(f"cannot read {name}: its colours are in mode {image.mode}; save it as RGB")
    return image.convert("RGB")


def _from_deep_samples(image: Image.Image, name: str) -> Image.Image:
    """Scale 16-bit integers or floats in [0, 1] to 8 bits; PIL's own conversion would clip them to white."""
    samples = np.asarray(image)
    if image.mode == "F":
        if not (np.isfinite(samples).all() and samples.min() >= 0 and samples.max() <= 1):
            raise CausalFTError(
                f"cannot read {name}: its samples are not in [0, 1]; save it with 8 or 16 bits"
            )
        grey = np.rint(samples * 255).astype(np.uint8)
    else:
        if samples.min() < 0 or samples.max() > 65535:
            raise CausalFTError(
                f"cannot read {name}: 32-bit samples have no agreed range; save it with 8 or 16 bits"
            )
        grey = (samples.astype(np.uint16) >> 8).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")
