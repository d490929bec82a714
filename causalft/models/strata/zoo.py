"""Zoos give strata by name: ``mini`` ships with the package, ``pretrained`` is real weights, a folder is your own."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalft.errors import CausalFTError, nearest
from causalft.models.strata.cards import ModelCard, ResizedName, sha256_file
from causalft.models.weights import LIBRARIES, PRETRAINED, WeightName, resolve_name
from causalft.models.weights.store import WeightSource, WeightStore, check_sha256
from causalft.runs.folder import read_json

if TYPE_CHECKING:
    import torch

    from causalft.models.strata.stratum import Stratum

__all__ = [
    "MANIFEST",
    "MiniZoo",
    "PRETRAINED",
    "PretrainedZoo",
    "Zoo",
    "check_choice",
    "check_strata",
    "has_manifest",
    "mini_folder",
    "open_zoo",
    "pretraining_losses",
]


MANIFEST = "manifest.parquet"
"""File of a zoo pre-trained on images: which image went where."""


def has_manifest(folder: str | os.PathLike[str] | None) -> bool:
    """Whether a folder holds a zoo pre-trained on images, which keeps its splits for what is fitted later."""
    return folder is not None and (Path(folder) / MANIFEST).exists()


class Zoo(ABC):
    """A set of named strata.

    Attributes
    ----------
    label : str
        Its name in headers and ``metrics.json``.
    """

    label: str

    @abstractmethod
    def names(self) -> list[str]:
        """Names that load without further options."""

    def load(self, name: str, *, device: torch.device | str = "cpu") -> Stratum:
        """Load a stratum, ``NAME:blocks=N`` with another number of blocks.

        Raises
        ------
        CausalFTError
            For an unknown name, wrong or missing weights, or blocks that its architecture does not have.
        """
        resized = ResizedName.parse(name)
        return _resized(self._load(resized.whole, device), resized)

    @abstractmethod
    def _load(self, name: str, device: torch.device | str) -> Stratum:
        """Load a whole model."""

    def check(self, name: str) -> None:
        """Raise a :class:`CausalFTError` with the nearest names if there is no stratum of that name."""
        name = ResizedName.parse(name).whole
        if name not in self.names():
            raise CausalFTError(f"zoo {self.label!r} has no stratum {name!r}; {nearest(name, self.names())}")


def _resized(stratum: Stratum, name: ResizedName) -> Stratum:
    if name.blocks is None:
        return stratum
    from causalft.models.strata.depth import with_blocks

    return with_blocks(stratum, name.blocks)


def mini_folder() -> Path:
    """Return the folder of the minis that ship with the package."""
    return Path(str(resources.files("causalft.models.strata") / "mini_weights"))


class MiniZoo(Zoo):
    """Minis in a folder: ``NAME.safetensors`` beside ``NAME.json``."""

    def __init__(self, folder: Path, label: str) -> None:
        self.folder, self.label = Path(folder), label

    def names(self) -> list[str]:
        return sorted(
            path.stem for path in self.folder.glob("*.json") if path.with_suffix(".safetensors").exists()
        )

    def check(self, name: str) -> None:
        _check_finished(self.folder)
        name = ResizedName.parse(name).whole
        if name not in self.names() and (self.folder / f"{name}.json").exists() and name in self.expected():
            raise CausalFTError(
                f"the weights of {name!r} are lost: {self.folder / name}.safetensors is not there; install again, or "
                "make it again with `causalft zoo pretrain`"
            )
        super().check(name)

    def expected(self) -> list[str]:
        """Names of all members that have a card, with or without weights."""
        found = []
        for path in sorted(self.folder.glob("[!.]*.json")):
            if "sha256" in read_json(path):
                found.append(path.stem)
        return found

    def card(self, name: str) -> ModelCard:
        """Return the card of a member."""
        self.check(name)
        resized = ResizedName.parse(name)
        return resized.card(ModelCard.read(self.folder / f"{resized.whole}.json"))

    def check_words(self, name: str, texts: Sequence[str]) -> None:
        """Refuse texts with a word that the member never saw; its weights are not read."""
        from causalft.models.strata.mini import MiniConfig, WordTokenizer

        card = self.card(name)
        length = card.architecture.get("context_length", MiniConfig.context_length)
        WordTokenizer(card.vocabulary, length)(texts)

    def _load(self, name: str, device: torch.device | str) -> Stratum:
        import torch
        from safetensors.torch import load_file

        from causalft.models.strata.mini import MiniConfig, WordTokenizer, empty_mini
        from causalft.models.strata.stratum import Stratum, square_crop

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
            model = empty_mini(config)
            # Weights are stored in fp16 and used in fp32; counters stay integers.
            stored = load_file(weights)
            model.load_state_dict(
                {key: value.float() if value.is_floating_point() else value for key, value in stored.items()}
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


def _check_finished(folder: Path) -> None:
    """Refuse an interrupted `causalft zoo pretrain`: some of its members are missing."""
    if not (folder / "config.json").is_file() or (folder / "metrics.json").exists():
        return
    found = read_json(folder / "config.json")
    if isinstance(found, dict) and found.get("kind") == "zoo":
        raise CausalFTError(
            f"{folder} is an unfinished zoo; repeat its `causalft zoo pretrain` command, which resumes where it stopped"
        )


class PretrainedZoo(Zoo):
    """Real weights: the three of the paper by name, any other of open_clip as ``ARCH/TAG``, of timm as ``timm:NAME``.

    Weights are looked for in ``weights``, the local folder (``causalft weights import``), the hub's cache, and last on
    the network.

    Parameters
    ----------
    weights : mapping of str to path, optional
        Local files for names (``--weights openclip=FILE.safetensors``).
    offline : bool
        Never use the network.
    allow_pickle : bool
        Read a pickle, tensors only.
    folder : path, optional
        By default :func:`causalft.models.weights.store.weights_folder`.
    """

    label = "pretrained"

    def __init__(
        self,
        weights: Mapping[str, str | os.PathLike[str]] | None = None,
        *,
        offline: bool = False,
        allow_pickle: bool = False,
        folder: str | os.PathLike[str] | None = None,
    ) -> None:
        self.weights = {name: Path(path).expanduser() for name, path in (weights or {}).items()}
        self.offline, self.allow_pickle = offline, allow_pickle
        self.source = WeightSource(WeightStore(folder), offline=offline, allow_pickle=allow_pickle)

    def names(self) -> list[str]:
        return list(PRETRAINED)

    def check(self, name: str) -> None:
        name = ResizedName.parse(name).whole
        what = self.describe(name)
        if name in self.weights:
            _existing_file(name, self.weights[name])
        elif self.offline:
            self.source.weights(what)  # said before the first stratum is trained, not after the second

    def describe(self, name: str) -> WeightName:
        """Return what a name stands for; an unknown one raises a :class:`CausalFTError` with the nearest.

        Examples
        --------
        >>> PretrainedZoo().describe("clip").full_name
        'ViT-B-16-quickgelu/openai'
        """
        name = ResizedName.parse(name).whole
        return resolve_name(name, has_file=name in self.weights or self.source.store.knows(name))

    def resolve(self, name: str) -> tuple[str, str]:
        """Return (architecture, tag) of a name.

        Examples
        --------
        >>> PretrainedZoo().resolve("openclip")
        ('ViT-B-16', 'laion2b_s34b_b88k')
        """
        what = self.describe(name)
        return what.architecture, what.tag

    def find(self, name: str) -> Path | None:
        """Return the file that a name loads, if it is on this machine."""
        what, whole = self.describe(name), ResizedName.parse(name).whole
        return self.weights[whole] if whole in self.weights else self.source.find(what)

    def _load(self, name: str, device: torch.device | str) -> Stratum:
        """Load a model.

        Raises
        ------
        CausalFTError
            For an unknown name, missing weights that cannot or may not be fetched, a wrong hash, a pickle that is not
            allowed, or tensors of another architecture.
        """
        from causalft.models.weights.file import read_state_dict

        what = self.describe(name)
        file = self.weights[name] if name in self.weights else self.source.weights(what)
        _existing_file(name, file)
        with _about(f"weights of {name!r}: {file} has"):
            sha256 = check_sha256(file, what.url)
        with _about(f"weights of {name!r}: {file} is"):
            tensors = read_state_dict(file, allow_pickle=self.allow_pickle, instead=_safetensors_of(what))
        with _about(f"weights of {name!r}: {file} do not fit {what.architecture}:"):
            return self._build(what, tensors, sha256, device)

    def untrained(self, name: str, *, device: torch.device | str = "cpu") -> Stratum:
        """Return a stratum with random weights, to measure what it costs where its weights are missing.

        Raises
        ------
        CausalFTError
            If its library gives none, or the configuration of its text tower is missing too.
        """
        what = self.describe(name)
        library = LIBRARIES[what.library]
        if library.blank is None:
            raise CausalFTError(f"{library.name} gives no random weights of {name!r}")
        if what.text_repository:
            self.source.text_files(what.text_repository, what.name, configuration_only=True)
        return _resized(self._build(what, library.blank(what), "", device), ResizedName.parse(name))

    def _build(
        self, what: WeightName, tensors: Mapping[str, torch.Tensor], sha256: str, device: torch.device | str
    ) -> Stratum:
        import torch

        from causalft.models.strata.stratum import Stratum

        library = LIBRARIES[what.library]
        built = library.build(what, tensors, self.source.text_files)
        return Stratum(
            name=what.name,
            zoo=self.label,
            model=built.model.eval().requires_grad_(False).to(device),
            geometry=built.geometry,
            image_size=built.image_size,
            mean=built.mean,
            std=built.std,
            tokenizer=built.tokenizer,
            sha256=sha256,
            source=f"{library.name} {what.full_name.removeprefix(library.prefix)}",
            device=torch.device(device),
            resize_mode=built.resize_mode,
            interpolation=built.interpolation,
        )


@contextmanager
def _about(subject: str) -> Iterator[None]:
    """Prefix an error with its subject."""
    try:
        yield
    except CausalFTError as error:
        raise CausalFTError(f"{subject} {error}") from error


def _existing_file(name: str, file: Path) -> None:
    if file.is_dir():
        raise CausalFTError(f"weights of {name!r}: {file} is a folder; name the file in it")
    if not file.is_file():
        raise CausalFTError(f"weights of {name!r}: {file} does not exist")


def _safetensors_of(what: WeightName) -> str:
    """Where the weights of a name are as safetensors."""
    if not what.safe_filenames:
        return ""
    return f"{what.repository}, {what.safe_filenames[0]} (`causalft weights fetch {what.name}`)"


def open_zoo(
    zoo: str | os.PathLike[str],
    weights: Mapping[str, str | os.PathLike[str]] | None = None,
    *,
    offline: bool = False,
    allow_pickle: bool = False,
) -> Zoo:
    """Return a zoo: ``"mini"``, ``"pretrained"``, or a folder of ``causalft zoo pretrain``.

    Parameters
    ----------
    zoo : str or path
    weights : mapping of str to path, optional
        With ``pretrained``: local files for names.
    offline, allow_pickle : bool
        With ``pretrained``: never use the network; read a pickle, tensors only.

    Raises
    ------
    CausalFTError
        If there is no such zoo, or weights are given to a mini zoo.

    Examples
    --------
    >>> open_zoo("pretrained").names()
    ['clip', 'openclip', 'metaclip']
    """
    if zoo == "pretrained":
        return PretrainedZoo(weights, offline=offline, allow_pickle=allow_pickle)
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
        _check_finished(folder)
        raise CausalFTError(f"{folder} holds no mini models (no NAME.json beside NAME.safetensors)")
    return found


def pretraining_losses(metrics: Mapping[str, Any], zoo: str | None = None) -> dict[str, str]:
    """Return stratum to pre-training loss, for :func:`causalft.methods.priors.prior_caveats`.

    Where the document lacks it, the card of the mini with the same weights is asked.

    Parameters
    ----------
    metrics : mapping
        ``metrics.json`` of a ``fit`` run.
    zoo : str, optional
        Where the minis are now; by default as in the document.

    Examples
    --------
    >>> pretraining_losses({"strata": {"a": {"pretraining_loss": "in-batch"}, "b": {}}})
    {'a': 'in-batch', 'b': 'unknown'}
    """
    place = zoo or metrics.get("zoo")
    return {
        name: stratum.get("pretraining_loss") or _of_card(place, name, metrics.get("weights", {}).get(name))
        for name, stratum in metrics["strata"].items()
    }


def _of_card(zoo: str | None, name: str, sha256: str | None) -> str:
    if zoo in (None, "pretrained") or sha256 is None:
        return "unknown"

    assert zoo is not None
    try:
        opened = open_zoo(zoo)
        card = opened.card(name) if isinstance(opened, MiniZoo) else None
    except CausalFTError:  # the zoo or its member is gone
        return "unknown"
    return card.loss if card is not None and card.sha256 == sha256 else "unknown"


def check_strata(strata: Sequence[str], zoo: Zoo) -> None:
    """Refuse no strata, a stratum named twice or missing from the zoo, and weights of no stratum."""
    check_choice(strata, zoo)
    for name in strata:
        zoo.check(name)


def check_choice(strata: Sequence[str], zoo: Zoo) -> None:
    """The part of `check_strata` that looks for no weights: unknown names, repeats, and weights of no stratum."""
    if not strata:
        raise CausalFTError("no stratum given; name at least one, as in --strata clip,openclip,metaclip")
    if len(set(strata)) != len(strata):
        raise CausalFTError(f"a stratum is named twice in {', '.join(strata)}")
    for name in strata:
        if isinstance(zoo, PretrainedZoo):
            zoo.describe(name)
        else:
            zoo.check(name)
    whole = {ResizedName.parse(name).whole for name in strata}
    unused = [name for name in getattr(zoo, "weights", ()) if name not in whole]
    if unused:
        raise CausalFTError(
            f"weights are given for {unused[0]!r}, which is no stratum here; {nearest(unused[0], strata)}"
        )
