"""From an image file to an upright 8-bit RGB image, whatever its samples and shape, or an error that names it."""

from __future__ import annotations

import io
import logging
import os
import struct
import warnings
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from causalft.errors import CausalFTError, short
from causalft.runs.files import read_bytes

__all__ = [
    "IMAGE_SUFFIXES",
    "LONGEST",
    "MAX_PIXELS",
    "end_pieces",
    "fit_square",
    "is_image_name",
    "middle_of_strip",
    "read_image",
    "to_rgb",
    "upright_rgb",
]


_EIGHT_BIT_MODES = frozenset({"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV"})
_CLEAR_MODES = frozenset({"RGBA", "RGBa", "LA", "PA"})
_SAMPLE_FORMAT, _PHOTOMETRIC = 339, 262


def to_rgb(image: Image.Image, name: str) -> Image.Image:
    """Convert a loaded image to 8-bit RGB; ``name`` is for errors.

    - Grey, palette, CMYK, YCbCr and HSV become RGB; CIE L*a*b* becomes sRGB.
    - Transparency is blended with white.
    - 16-bit samples keep their upper 8 bits.
    - 32-bit integers have no agreed white: up to 255 they are kept; up to 65535 the upper 8 of the bits in use.
    - Floating-point samples in [0, 1] are scaled to [0, 255].
    - A TIFF in which white is zero is inverted.

    Other 32-bit integers and floats, and unknown modes, are refused.

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
    """Grey samples of 16 or 32 bits, which Pillow's own conversion clips or blackens."""
    tags = getattr(image, "tag_v2", {})
    samples = np.asarray(image)
    if image.mode == "F":
        if not (np.isfinite(samples).all() and samples.min() >= 0 and samples.max() <= 1):
            raise CausalFTError(
                f"cannot read {name}: its samples are not in [0, 1]; save it with 8 or 16 bits"
            )
        grey: NDArray[np.uint8] = np.rint(samples * 255).astype(np.uint8)
    elif image.mode == "I" and image.format != "PPM":  # Pillow scales those of PPM to 16 bits
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


#: An image more than this many times as long as wide is a strip.
LONGEST = 64


def middle_of_strip(image: Image.Image) -> Image.Image:
    """Return the middle of a strip, `LONGEST` squares long; other images unchanged.

    Scaling the shorter side of 1 x 65,000 pixels to 224 would take 9.8 GB, after this cut 10 MB. The central square
    stays the same.

    Examples
    --------
    >>> middle_of_strip(Image.new("L", (1, 65_000))).size, middle_of_strip(Image.new("L", (64, 1))).size
    ((1, 64), (64, 1))
    """
    short, long = sorted(image.size)
    if long <= LONGEST * short:
        return image
    kept = LONGEST * short + (long - LONGEST * short) % 2  # equal on both sides
    return _cut(image, (long - kept) // 2, kept)


def end_pieces(image: Image.Image) -> tuple[Image.Image, Image.Image] | None:
    """Return the first and last `LONGEST` squares of a strip; None for other images.

    Examples
    --------
    >>> [piece.size for piece in end_pieces(Image.new("L", (65_000, 2)))]
    [(128, 2), (128, 2)]
    """
    short, long = sorted(image.size)
    if long <= LONGEST * short:
        return None
    return _cut(image, 0, LONGEST * short), _cut(image, long - LONGEST * short, LONGEST * short)


def _cut(image: Image.Image, start: int, length: int) -> Image.Image:
    if image.width > image.height:
        return image.crop((start, 0, start + length, image.height))
    return image.crop((0, start, image.width, start + length))


#: Endings of image files; other files are left out and reported.
IMAGE_SUFFIXES = frozenset(
    ".apng .avif .bmp .dib .gif .jfif .jp2 .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tif .tiff .tga .webp".split()
)

#: Largest image that is decoded, in pixels: a small file can claim an image that fills the memory.
MAX_PIXELS = 89_478_485

_ORIENTATION_TAG = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PNG = b"\x89PNG\r\n\x1a\n"
# Text and colour profile change no pixel, but above a megabyte Pillow refuses the file.
_WORDY_CHUNKS = frozenset({b"tEXt", b"zTXt", b"iTXt", b"iCCP"})

# Without a handler Pillow logs to standard error.
logging.getLogger("PIL").addHandler(logging.NullHandler())


def is_image_name(name: str) -> bool:
    """Whether a file name ends like an image.

    Examples
    --------
    >>> is_image_name("lynx/0001.JPG"), is_image_name("labels.csv")
    (True, False)
    """
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def read_image(source: str | os.PathLike[str] | bytes | IO[bytes], name: str | None = None) -> Image.Image:
    """Read an image as upright 8-bit RGB.

    The EXIF orientation is applied and samples are converted by `to_rgb`; colour profiles are not applied. Of an
    animation or multi-page file the first frame is read.

    Parameters
    ----------
    source : path, bytes or binary file object
    name : str, optional
        For errors; the path by default.

    Returns
    -------
    PIL.Image.Image
        Mode ``RGB``, pixels loaded.

    Raises
    ------
    CausalFTError
        If the file is missing, empty, damaged, not an image, larger than `MAX_PIXELS`, or of unknown sample range.

    Examples
    --------
    >>> file = io.BytesIO()
    >>> Image.new("RGBA", (2, 1), (255, 0, 0, 0)).save(file, "PNG")
    >>> read_image(file.getvalue(), "clear.png").getpixel((0, 0))
    (255, 255, 255)
    """
    if isinstance(source, (str, os.PathLike)):
        data = read_bytes(source)
        name = os.fspath(source) if name is None else name
    else:
        try:
            data = source if isinstance(source, bytes) else source.read()
        except OSError as error:
            raise CausalFTError(f"cannot read {name or 'image'}: {error.strerror or error}") from None
    name = short(name or "image", 300)
    if not data:
        raise CausalFTError(f"cannot read {name}: the file is empty; copy it again or remove it")
    _silence_library()
    try:
        try:
            return _decoded(data, name)
        except (ValueError, UnidentifiedImageError):
            slim = _without_words(data) if data.startswith(_PNG) else data
            if len(slim) == len(data):
                raise
        return _decoded(slim, name)
    except (CausalFTError, MemoryError):
        raise
    except UnidentifiedImageError:
        if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            raise CausalFTError(
                f"cannot read {name}: it is a damaged TIFF, or one with samples of an unusual kind; save it with 8 "
                "bits in RGB or grey, or as PNG"
            ) from None
        raise CausalFTError(
            f"cannot read {name}: it is not an image, or damaged at its start; leave it out or copy it again"
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise CausalFTError(
            f"cannot read {name}: more than {MAX_PIXELS} pixels; scale it down or remove it"
        ) from None
    except Exception as error:  # decoders raise anything on damaged files
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
    image = middle_of_strip(image)
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    scaled = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return scaled.crop((left, top, left + size, top + size))


def _decoded(data: bytes, name: str) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        if image.width * image.height > MAX_PIXELS:
            raise CausalFTError(
                f"cannot read {name}: {image.width} x {image.height} pixels is over the limit of {MAX_PIXELS}; "
                "scale it down or remove it"
            )
        image.load()
        return upright_rgb(image, name)


def upright_rgb(image: Image.Image, name: str = "image") -> Image.Image:
    """Convert an image loaded by PIL to upright 8-bit RGB, with the refusals of `to_rgb`."""
    deep = image.mode.startswith("I") or image.mode == "F"
    # A turned image loses the tags that explain its deep samples.
    return _upright(image, to_rgb(image, name)) if deep else to_rgb(_upright(image, image), name)


def _silence_library() -> None:
    """Ignore Pillow's warnings about metadata; wrong pixels raise errors.

    Set for every image, because callers change filters; `warnings.catch_warnings` is not safe in threads.
    """
    filters = warnings.filters
    if not filters or filters[0][3] is None or getattr(filters[0][3], "pattern", "") != r"PIL\.":
        warnings.filterwarnings("ignore", module=r"PIL\.")


def _without_words(data: bytes) -> bytes:
    """A PNG without text and colour profile; damaged bytes are kept."""
    kept, place = [data[:8]], 8
    while place + 12 <= len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        end = place + 12 + length
        if data[place + 4 : place + 8] not in _WORDY_CHUNKS:
            kept.append(data[place:end])
        place = end
    return b"".join(kept)


def _upright(image: Image.Image, pixels: Image.Image) -> Image.Image:
    """Turn the pixels by the EXIF orientation; a damaged EXIF block is ignored."""
    try:
        method = _TURNS.get(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # the parser raises anything; the pixels are whole
        return pixels
    return pixels if method is None else pixels.transpose(method)
