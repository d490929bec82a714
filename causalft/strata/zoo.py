"""Zoos, or what a stratum's name loads: ``mini`` ships here, ``pretrained`` is open_clip's, a folder is yours."""

from __future__ import annotations

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import torch

from causalft.errors import CausalFTError, nearest
from causalft.runs import read_json
from causalft.strata.cards import ModelCard, sha256_file
from causalft.strata.stratum import Stratum, square_crop

__all__ = ["PRETRAINED", "MiniZoo", "PretrainedZoo", "Zoo", "mini_folder", "open_zoo"]

PRETRAINED = {
    "clip": ("ViT-B-16-quickgelu", "openai"),
    "openclip": ("ViT-B-16", "laion2b_s34b_b88k"),
    "metaclip": ("ViT-B-16-quickgelu", "metaclip_400m"),
}
"""Name to (architecture, weights tag) of open_clip; the activation belongs to the weights."""


class Zoo(ABC):
    """A set of named strata.

    Attributes
    ----------
    label : str
        What headers and ``metrics.json`` call it.
    """

    label: str

    @abstractmethod
    def names(self) -> list[str]:
        """Names that can be loaded without further options."""

    @abstractmethod
    def load(self, name: str, *, device: torch.device | str = "cpu") -> Stratum:
        """Load a stratum; an unknown name or wrong weights raise a :class:`CausalFTError`."""

    def check(self, name: str) -> None:
        """Raise a :class:`CausalFTError` with the nearest names if there is no stratum of that name."""
        if name not in self.names():
            raise CausalFTError(f"zoo {self.label!r} has no stratum {name!r}; {nearest(name, self.names())}")


def mini_folder() -> Path:
    """Return the folder of the minis that ship with the package."""
    return Path(str(resources.files("causalft.strata") / "mini_weights"))


class MiniZoo(Zoo):
    """Minis in a folder: ``NAME.safetensors`` beside ``NAME.json``."""

    def __init__(self, folder: Path, label: str) -> None:
        self.folder, self.label = Path(folder), label

    def names(self) -> list[str]:
        return sorted(
            path.stem for path in self.folder.glob("*.json") if path.with_suffix(".safetensors").exists()
        )

    def check(self, name: str) -> None:
        if name not in self.names() and (self.folder / f"{name}.json").exists() and name in self.expected():
            raise CausalFTError(
                f"the weights of {name!r} are lost: {self.folder / name}.safetensors is not there; install again, or "
                "make it again with `causalft zoo pretrain`"
            )
        super().check(name)

    def expected(self) -> list[str]:
        """Names of all members that have a card, their weights being there or not."""
        found = []
        for path in sorted(self.folder.glob("[!.]*.json")):
            if "sha256" in read_json(path):
                found.append(path.stem)
        return found

    def card(self, name: str) -> ModelCard:
        """Return the card of a member."""
        self.check(name)
        return ModelCard.read(self.folder / f"{name}.json")

    def load(self, name: str, *, device: torch.device | str = "cpu") -> Stratum:
        from safetensors.torch import load_file

        from causalft.strata.mini import MiniConfig, WordTokenizer, build_mini

        card = self.card(name)
        weights = self.folder / f"{name}.safetensors"
        found = sha256_file(weights)
        if found != card.sha256:
            raise CausalFTError(
                f"{weights} is not the file of its card (sha256 {found[:12]}..., card {card.sha256[:12]}...); "
                "it was changed or cut short: install again, or make it again with `causalft zoo pretrain`"
            )
        try:
            config = MiniConfig(**card.architecture)
            model = build_mini(config)
            model.load_state_dict(
                {key: value.to(_used_dtype(value)) for key, value in load_file(weights).items()}
            )
        except (TypeError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise CausalFTError(f"{weights} does not have the architecture of its card ({reason})") from error
        return Stratum(
            name=name,
            zoo=self.label,
            model=model.eval().requires_grad_(False).to(device),
            geometry=square_crop(config.image_size),
            image_size=config.image_size,
            mean=tuple(card.mean),
            std=tuple(card.std),
            tokenizer=WordTokenizer(card.vocabulary, config.context_length),
            sha256=card.sha256,
            source=f"{self.label} zoo ({card.world}, {card.loss})",
            card=card,
            device=torch.device(device),
        )


def _used_dtype(value: torch.Tensor) -> torch.dtype:
    """Weights are stored in fp16 and used in fp32; counters stay integers."""
    return torch.float32 if value.is_floating_point() else value.dtype


class PretrainedZoo(Zoo):
    """Real weights through open_clip: the three of the paper by name, any other as ``ARCH/TAG``.

    Parameters
    ----------
    weights : mapping of str to path, optional
        Local files for names (``--weights openclip=FILE.safetensors``).
    """

    label = "pretrained"

    def __init__(self, weights: Mapping[str, str | os.PathLike[str]] | None = None) -> None:
        self.weights = {name: Path(path) for name, path in (weights or {}).items()}

    def names(self) -> list[str]:
        return list(PRETRAINED)

    def check(self, name: str) -> None:
        self.resolve(name)
        if name in self.weights and not self.weights[name].is_file():
            raise CausalFTError(f"weights of {name!r}: {self.weights[name]} does not exist")

    def resolve(self, name: str) -> tuple[str, str]:
        """Return (architecture, tag) of a name or of an ``ARCH/TAG``.

        Raises
        ------
        CausalFTError
            With the nearest names, architectures or tags.

        Examples
        --------
        >>> PretrainedZoo().resolve("openclip")
        ('ViT-B-16', 'laion2b_s34b_b88k')
        """
        import open_clip

        if name in PRETRAINED:
            return PRETRAINED[name]
        architecture, _, tag = name.rpartition("/")
        if not architecture:
            super().check(name)
        if architecture not in open_clip.list_models():
            raise CausalFTError(
                f"open_clip has no architecture {architecture!r}; {nearest(architecture, open_clip.list_models())}"
            )
        if name not in self.weights:
            tags = open_clip.list_pretrained_tags_by_model(architecture)
            if tag not in tags:
                raise CausalFTError(f"{architecture} has no weights {tag!r}; {nearest(tag, tags)}")
        return architecture, tag

    def load(self, name: str, *, device: torch.device | str = "cpu") -> Stratum:
        import open_clip
        from open_clip.pretrained import get_pretrained_cfg

        self.check(name)
        architecture, tag = self.resolve(name)
        settings = get_pretrained_cfg(architecture, tag) or {}
        file = self.weights[name] if name in self.weights else _cached_or_fetched(name, settings)
        try:
            model = open_clip.create_model(
                architecture, load_weights=False, force_quick_gelu=bool(settings.get("quick_gelu"))
            )
            # strict, and no untrusted pickle: every weight of the model is in the file, and the file holds only tensors
            open_clip.load_checkpoint(model, str(file), strict=True, weights_only=True)
        except Exception as error:
            reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
            raise CausalFTError(
                f"weights of {name!r}: {file} do not fit {architecture} ({reason}); give its safetensors file"
            ) from error
        preprocess = open_clip.get_model_preprocess_cfg(model)
        size = preprocess["size"] if isinstance(preprocess["size"], int) else preprocess["size"][0]
        return Stratum(
            name=name,
            zoo=self.label,
            model=model.eval().requires_grad_(False).to(device),
            geometry=square_crop(size, settings.get("interpolation") or preprocess["interpolation"]),
            image_size=size,
            mean=tuple(settings.get("mean") or preprocess["mean"]),
            std=tuple(settings.get("std") or preprocess["std"]),
            tokenizer=open_clip.get_tokenizer(architecture),
            sha256=sha256_file(file),
            source=f"open_clip {architecture}/{tag}",
            device=torch.device(device),
        )


def _cached_or_fetched(name: str, settings: dict) -> Path:
    """Find the weights in the hub cache, and only when they are not there ask the hub for them."""
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    from huggingface_hub.utils import logging

    repository, _, filename = str(settings.get("hf_hub", "")).rpartition("/")
    if not repository:
        raise CausalFTError(
            f"the weights of {name!r} are not on the hub; give a file with --weights {name}=FILE"
        )
    # safetensors first; the .bin files are state dicts and are read with weights_only
    candidates = (
        [filename] if filename else ["open_clip_model.safetensors", "open_clip_pytorch_model.safetensors"]
    )
    candidates += [] if filename else ["open_clip_pytorch_model.bin"]
    for candidate in candidates:
        found = huggingface_hub.try_to_load_from_cache(repository, candidate)
        if isinstance(found, str):
            return Path(found)
    failure: Exception | None = None
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # retries are not news: one message follows
    try:
        for candidate in candidates:
            try:
                return Path(huggingface_hub.hf_hub_download(repository, candidate))
            except Exception as error:  # any network or hub failure ends in the one message below
                if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise
                failure = error
                # Only a file that the repository does not have leaves hope for the next name.
                if not isinstance(error, EntryNotFoundError) or isinstance(error, LocalEntryNotFoundError):
                    break
    finally:
        logging.set_verbosity(verbosity)
    raise CausalFTError(
        f"the weights of {name!r} ({repository}) are not in the hub cache and could not be fetched; fetch them on a "
        f"connected machine and pass --weights {name}=FILE.safetensors, or use --zoo mini with the built-in data"
    ) from failure


def open_zoo(zoo: str | os.PathLike[str], weights: Mapping[str, str | os.PathLike[str]] | None = None) -> Zoo:
    """Return a zoo: ``"mini"``, ``"pretrained"``, or the folder that ``causalft zoo pretrain`` wrote.

    Raises
    ------
    CausalFTError
        If there is no such zoo, or weights are given to a zoo that has its own.

    Examples
    --------
    >>> open_zoo("pretrained").names()
    ['clip', 'openclip', 'metaclip']
    """
    if zoo == "pretrained":
        return PretrainedZoo(weights)
    if weights:
        raise CausalFTError("--weights goes with --zoo pretrained; a mini zoo brings its own")
    if zoo == "mini":
        shipped = MiniZoo(mini_folder(), "mini")
        if not shipped.names():
            raise CausalFTError(
                "the minis of the package are not installed; install it again, or make them with `causalft zoo "
                "pretrain --out DIR` and use --zoo DIR"
            )
        return shipped
    folder = Path(zoo)
    if not folder.is_dir():
        raise CausalFTError(
            f"no zoo {os.fspath(zoo)!r}: use mini, pretrained, or a folder made by `causalft zoo pretrain`"
        )
    found = MiniZoo(folder, os.fspath(zoo))
    if not found.names():
        raise CausalFTError(f"{folder} holds no mini models (no NAME.json beside NAME.safetensors)")
    return found
