"""Images many times longer than wide: cut before they are scaled, so that the work is bounded by the output."""

from __future__ import annotations

from PIL import Image

__all__ = ["LONGEST", "end_pieces", "middle_of_strip"]

#: An image of more than this many squares in a row is a strip. All other images are left as they are, to the bit.
LONGEST = 64


def middle_of_strip(image: Image.Image) -> Image.Image:
    """Return the middle of a strip, `LONGEST` squares long; any other image as it is.

    To scale the shorter side of 1 x 65,000 pixels to 224 and then cut the middle takes 9.8 GB; after this cut 10 MB.
    The middle stays where it was, so the square that is cut is the same.

    Examples
    --------
    >>> middle_of_strip(Image.new("L", (1, 65_000))).size, middle_of_strip(Image.new("L", (64, 1))).size
    ((1, 64), (64, 1))
    """
    short, long = sorted(image.size)
    if long <= LONGEST * short:
        return image
    kept = LONGEST * short + (long - LONGEST * short) % 2  # as much on either side
    return _cut(image, (long - kept) // 2, kept)


def end_pieces(image: Image.Image) -> tuple[Image.Image, Image.Image] | None:
    """Return the first and the last `LONGEST` squares of a strip (top and bottom, or left and right), else None.

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
