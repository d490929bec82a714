"""The size of a mini CLIP."""

from __future__ import annotations

from dataclasses import dataclass

from causalft.errors import CausalFTError

__all__ = ["MiniConfig"]


@dataclass(frozen=True)
class MiniConfig:
    """Size of a mini CLIP; the defaults give about half a million parameters.

    Attributes
    ----------
    image_size, patch_size : int
        Pixels; the stem halves the picture ``log2(patch_size)`` times.
    width, layers, heads : int
        Image tower. The text tower has width 64, 2 layers, 2 heads.
    embed_dim : int
    context_length, vocab_size : int
        Tokens of a caption, and words known.

    Raises
    ------
    CausalFTError
        If the patch size is no power of two, or the image size not a multiple of it.
    """

    image_size: int = 40
    patch_size: int = 8
    width: int = 96
    layers: int = 3
    heads: int = 3
    embed_dim: int = 64
    context_length: int = 8
    vocab_size: int = 66

    def __post_init__(self) -> None:
        if self.patch_size < 2 or self.patch_size & (self.patch_size - 1):
            raise CausalFTError(f"patch size {self.patch_size} is not a power of two above 1")
        if self.image_size < self.patch_size or self.image_size % self.patch_size:
            raise CausalFTError(
                f"image size {self.image_size} is not a multiple of the patch size {self.patch_size}"
            )
