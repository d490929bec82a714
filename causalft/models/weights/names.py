"""What the name of a pretrained stratum stands for: an architecture, its weights on the hub, and their settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from causalft.errors import CausalFTError, nearest

__all__ = ["PRETRAINED", "WeightName", "names_like", "resolve_name"]

PRETRAINED = {
    "clip": ("ViT-B-16-quickgelu", "openai"),
    "openclip": ("ViT-B-16", "laion2b_s34b_b88k"),
    "metaclip": ("ViT-B-16-quickgelu", "metaclip_400m"),
}
"""Name to (architecture, weights tag) of open_clip; the activation belongs to the weights."""

_TIMM = "timm:"
_CLIP = {
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}
_BELONG_TO_WEIGHTS = ("mean", "std", "interpolation", "resize_mode", "quick_gelu")


@dataclass(frozen=True)
class WeightName:
    """What a name loads.

    Attributes
    ----------
    name : str
        As the user wrote it: ``clip``, ``ViT-L-14/datacomp_xl_s13b_b90k``, ``timm:resnet50``.
    library : {"open_clip", "timm"}
    architecture, tag : str
    repository : str
        On the hub; empty where the weights are not there.
    filenames : tuple of str
        Of the weights in the repository, best first: safetensors before pickles.
    settings : mapping
        Of open_clip: mean, std, interpolation, resize mode and activation that the weights were trained with.
    url : str
        Of the first publication; its name may carry a hash.
    licence : str, optional
    tokenizer_repository, text_repository : str
        Where the tokenizer's files, and the configuration of a text tower of ``transformers``, are; empty where
        open_clip brings its own.
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
        """The name without short cuts: ``ARCH/TAG`` or ``timm:ARCH.TAG``."""
        if self.library == "timm":
            return f"{_TIMM}{self.architecture}{'.' if self.tag else ''}{self.tag}"
        return f"{self.architecture}/{self.tag}"

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
"""What open_clip knows of the short names. It stands here so that they are listed without it; a test compares them."""


def resolve_name(name: str, *, has_file: bool = False) -> WeightName:
    """Return what a name stands for.

    Parameters
    ----------
    name : str
        ``clip``, ``openclip``, ``metaclip``; ``ARCH/TAG`` of open_clip; or ``timm:NAME``, an image-only backbone.
    has_file : bool
        Whether the weights are given as a file; then the tag may be any word.

    Raises
    ------
    CausalFTError
        With the nearest names, architectures or tags.

    Examples
    --------
    >>> found = resolve_name("openclip")
    >>> found.full_name, found.repository
    ('ViT-B-16/laion2b_s34b_b88k', 'laion/CLIP-ViT-B-16-laion2B-s34B-b88K')
    >>> resolve_name("ViT-B-16-SigLIP/webli").settings["resize_mode"]
    'squash'
    """
    if name.startswith(_TIMM):
        return _timm_name(name, has_file)
    if name in PRETRAINED:
        return WeightName(name, "open_clip", *PRETRAINED[name], filenames=_filenames(""), **_SHORT[name])
    architecture, _, tag = name.rpartition("/")
    if not architecture:
        raise _unknown(name)
    import open_clip

    config = open_clip.get_model_config(architecture) if ":" not in architecture else None
    if config is None:
        known = open_clip.list_models()
        raise CausalFTError(f"open_clip has no architecture {architecture!r}; {nearest(architecture, known)}")
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    cleaned = tag.lower().replace("-", "_")
    if cleaned in tags:
        tag = cleaned
    elif not has_file:
        raise CausalFTError(f"{architecture} has no weights {tag!r}; {nearest(tag, tags)}")
    settings = _settings(architecture, tag)
    repository, _, filename = str(settings.get("hf_hub", "")).rpartition("/")
    text = config.get("text_cfg", {})
    return WeightName(
        name=name,
        library="open_clip",
        architecture=architecture,
        tag=tag,
        repository=repository,
        filenames=_filenames(filename) if repository else (),
        settings={key: settings[key] for key in _BELONG_TO_WEIGHTS if settings.get(key) is not None},
        url=str(settings.get("url", "")),
        tokenizer_repository=text.get("hf_tokenizer_name") or "",
        text_repository=text.get("hf_model_name") or "",
    )


def names_like(pattern: str) -> list[str]:
    """Return the full names of all weights that open_clip and timm know and that match a shell pattern.

    Examples
    --------
    >>> names_like("ViT-L-14/datacomp*")
    ['ViT-L-14/datacomp_xl_s13b_b90k']
    """
    import fnmatch

    if pattern.startswith(_TIMM):
        import timm

        names = [_TIMM + name for name in timm.list_pretrained()]
    else:
        import open_clip

        names = [f"{architecture}/{tag}" for architecture, tag in open_clip.list_pretrained()]
    return [name for name in names if fnmatch.fnmatchcase(name, pattern)]


def _unknown(name: str) -> CausalFTError:
    """A word that is no short name: perhaps it is misspelt, or lacks its tag, or its ``timm:``."""
    close = nearest(name, PRETRAINED)
    if close.startswith("did you mean"):  # said without the libraries, whose import takes seconds
        return CausalFTError(f"zoo 'pretrained' has no stratum {name!r}; {close}")
    import open_clip
    import timm

    tags = open_clip.list_pretrained_tags_by_model(name)
    if tags:
        return CausalFTError(
            f"{name!r} is an architecture; say which weights, as in {name}/{tags[0]} ({', '.join(tags)})"
        )
    if timm.is_model(name.split(".")[0]):
        return CausalFTError(f"zoo 'pretrained' has no stratum {name!r}; did you mean 'timm:{name}'?")
    return CausalFTError(f"zoo 'pretrained' has no stratum {name!r}; {nearest(name, PRETRAINED)}")


def _settings(architecture: str, tag: str) -> Mapping[str, Any]:
    """Settings of a tag; of one's own weights, those on which all tags of the architecture agree."""
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg

    found = get_pretrained_cfg(architecture, tag)
    if found:
        return found
    known = [
        get_pretrained_cfg(architecture, other)
        for other in open_clip.list_pretrained_tags_by_model(architecture)
    ]
    return {
        key: known[0].get(key)
        for key in _BELONG_TO_WEIGHTS
        if known and all(other.get(key) == known[0].get(key) for other in known)
    }


def _filenames(filename: str) -> tuple[str, ...]:
    """The files that may hold the weights; a repository may have several, and safetensors come first."""
    if not filename:
        return (
            "open_clip_model.safetensors",
            "open_clip_pytorch_model.safetensors",
            "open_clip_pytorch_model.bin",
        )
    stem, dot, _ = filename.rpartition(".")
    safe = f"{stem}{dot}safetensors"
    return (filename,) if filename == safe else (safe, filename)


def _timm_name(name: str, has_file: bool) -> WeightName:
    import timm

    wanted = name.removeprefix(_TIMM)
    architecture, _, tag = wanted.partition(".")
    if not timm.is_model(architecture):
        models = timm.list_models()
        raise CausalFTError(f"timm has no model {architecture!r}; {nearest(architecture, models)}")
    try:
        config = timm.get_pretrained_cfg(wanted)
    except RuntimeError:  # the tag is not one of timm's
        if not has_file:
            tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
            raise CausalFTError(
                f"timm's {architecture} has no weights {tag!r}; {nearest(tag, tags)}"
            ) from None
        return WeightName(name, "timm", architecture, tag)
    if config is None or not config.hf_hub_id:
        if not has_file:
            raise CausalFTError(
                f"timm has no weights for {wanted!r} on the hub; give a file with --weights {name}=FILE.safetensors"
            )
        return WeightName(name, "timm", architecture, tag)
    files = _filenames(config.hf_hub_filename) if config.hf_hub_filename else ()
    return WeightName(
        name,
        "timm",
        architecture,
        config.tag or tag,
        repository=config.hf_hub_id,
        filenames=files or ("model.safetensors", "pytorch_model.bin"),
        url=config.url if isinstance(config.url, str) else "",
        licence=config.license,
    )
