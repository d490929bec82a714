"""Weights of pretrained models. Here their names: library, architecture, weights and settings of a stratum.

A library is a record in a file of this folder, as those of ``libraries.py``; names with its prefix are then its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from causalft.errors import CausalFTError, nearest
from causalft.runs.records import Records

__all__ = [
    "LIBRARIES",
    "Library",
    "PRETRAINED",
    "WeightName",
    "candidate_files",
    "names_like",
    "resolve_name",
]

PRETRAINED = {
    "clip": ("ViT-B-16-quickgelu", "openai"),
    "openclip": ("ViT-B-16", "laion2b_s34b_b88k"),
    "metaclip": ("ViT-B-16-quickgelu", "metaclip_400m"),
}
"""Name to (architecture, weights tag) of open_clip; the activation belongs to the weights."""

_CLIP = {
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}


@dataclass(frozen=True)
class Library:
    """A library of architectures whose weights can be strata.

    Attributes
    ----------
    name, help : str
    prefix : str
        Names that start with it are those of this library; one library has none.
    separator : str
        Between architecture and weights tag.
    resolve : callable
        ``resolve(name, has_file) -> WeightName``; an unknown name raises a :class:`CausalFTError` with the nearest.
    names : callable
        ``names() -> list of str``: full names of all weights that it knows.
    hint : callable
        ``hint(name) -> str``: what a name that lacks its prefix or tag might be; empty if nothing.
    build : callable
        ``build(what, tensors, find) -> BuiltModel``; ``find`` gives the folder of a tokenizer's files.
    blank : callable, optional
        ``blank(what) -> tensors``: random ones, to measure what a model costs whose weights are not here.
    source : str
    """

    name: str
    help: str
    resolve: Callable[[str, bool], WeightName]
    names: Callable[[], list[str]]
    hint: Callable[[str], str]
    build: Callable[..., Any]
    blank: Callable[[WeightName], Mapping[str, Any]] | None = None
    prefix: str = ""
    separator: str = "/"
    source: str = ""


LIBRARIES = Records("causalft.models.weights", Library, "library")


@dataclass(frozen=True)
class WeightName:
    """What a name loads.

    Attributes
    ----------
    name : str
        As written: ``clip``, ``ViT-L-14/datacomp_xl_s13b_b90k``, ``timm:resnet50``.
    library : str
        A name in :data:`LIBRARIES`.
    architecture, tag : str
    repository : str
        On the hub; empty if the weights are not there.
    filenames : tuple of str
        Candidates in the repository, safetensors before pickles.
    settings : mapping
        Of open_clip: mean, std, interpolation, resize mode and activation of the training.
    url : str
        Of the first publication; its name may contain a hash.
    licence : str, optional
    tokenizer_repository, text_repository : str
        Of the tokenizer's files and of the configuration of a ``transformers`` text tower; empty if open_clip has them.
    """

    name: str
    library: str
    architecture: str
    tag: str
    repository: str = ""
    filenames: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    url: str = ""
    licence: str | None = None
    tokenizer_repository: str = ""
    text_repository: str = ""

    @property
    def full_name(self) -> str:
        """The full name, ``ARCH/TAG`` or ``timm:ARCH.TAG``."""
        library = LIBRARIES[self.library]
        return f"{library.prefix}{self.architecture}{library.separator if self.tag else ''}{self.tag}"

    @property
    def safe_filenames(self) -> tuple[str, ...]:
        """The file names that are safetensors."""
        return tuple(name for name in self.filenames if name.endswith(".safetensors"))


_SHORT: dict[str, dict[str, Any]] = {
    "clip": {
        "repository": "timm/vit_base_patch16_clip_224.openai",
        "settings": {**_CLIP, "quick_gelu": True},
        "url": "https://openaipublic.azureedge.net/clip/models/"
        "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f/ViT-B-16.pt",
    },
    "openclip": {"repository": "laion/CLIP-ViT-B-16-laion2B-s34B-b88K", "settings": _CLIP},
    "metaclip": {
        "repository": "timm/vit_base_patch16_clip_224.metaclip_400m",
        "settings": {**_CLIP, "quick_gelu": True},
        "url": "https://dl.fbaipublicfiles.com/MMPT/metaclip/b16_400m.pt",
    },
}
"""What open_clip knows of the short names, so that they are listed without importing it; a test compares them."""


def resolve_name(name: str, *, has_file: bool = False) -> WeightName:
    """Return what a name stands for.

    Parameters
    ----------
    name : str
        ``clip``, ``openclip``, ``metaclip``; ``ARCH/TAG`` of open_clip; or ``timm:NAME``, an image-only backbone.
    has_file : bool
        The weights are given as a file; then the tag may be any word.

    Raises
    ------
    CausalFTError
        For an unknown name, with the nearest.

    Examples
    --------
    >>> found = resolve_name("openclip")
    >>> found.full_name, found.repository
    ('ViT-B-16/laion2b_s34b_b88k', 'laion/CLIP-ViT-B-16-laion2B-s34B-b88K')
    >>> resolve_name("ViT-B-16-SigLIP/webli").settings["resize_mode"]
    'squash'
    """
    library = _library_of(name)
    if library.prefix:
        return library.resolve(name, has_file)
    if name in PRETRAINED:
        return WeightName(
            name, library.name, *PRETRAINED[name], filenames=candidate_files(""), **_SHORT[name]
        )
    if name.rpartition("/")[0]:
        return library.resolve(name, has_file)
    close = nearest(name, PRETRAINED)
    if not close.startswith("did you mean"):  # the libraries, whose import takes seconds, may know more
        for each in LIBRARIES.values():
            hint = each.hint(name)
            if hint:
                raise CausalFTError(hint)
    raise CausalFTError(f"zoo 'pretrained' has no stratum {name!r}; {close}")


def names_like(pattern: str) -> list[str]:
    """Return the full names of all known weights that match a shell pattern.

    Examples
    --------
    >>> names_like("ViT-L-14/datacomp*")
    ['ViT-L-14/datacomp_xl_s13b_b90k']
    """
    from fnmatch import fnmatchcase

    return [name for name in _library_of(pattern).names() if fnmatchcase(name, pattern)]


def _library_of(name: str) -> Library:
    """The library whose prefix a name has."""
    first = sorted(LIBRARIES.values(), key=lambda library: -len(library.prefix))
    return next(library for library in first if name.startswith(library.prefix))


def candidate_files(filename: str) -> tuple[str, ...]:
    """Return the files of a repository that may hold the weights, safetensors first."""
    if not filename:
        return (
            "open_clip_model.safetensors",
            "open_clip_pytorch_model.safetensors",
            "open_clip_pytorch_model.bin",
        )
    stem, dot, _ = filename.rpartition(".")
    safe = f"{stem}{dot}safetensors"
    return (filename,) if filename == safe else (safe, filename)
