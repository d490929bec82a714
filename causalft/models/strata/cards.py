"""What is known of a model before it is loaded: the identity of a member, and the card of a mini."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalft.errors import CausalFTError
from causalft.runs.documents import check_shape
from causalft.runs.files import sha256_file
from causalft.runs.folder import read_json, write_json

__all__ = ["MemberName", "ModelCard", "ResizedName", "sha256_file"]


_FORM = re.compile(
    r"(?P<stratum>.+?)(?P<wide>-wide)?(?:@(?P<pretraining>[1-9]\d*))?(?:#(?P<tuning>[1-9]\d*))?"
)


@dataclass(frozen=True)
class MemberName:
    """The identity of one member: ``clip``, ``clip@1`` (pre-trained again), ``clip#1`` (tuned again), ``clip-wide``.

    Attributes
    ----------
    stratum : str
        Name in the zoo of the first pre-training.
    pretraining : int
        Number of the further pre-training; 0 is the first.
    tuning : int
        Number of the further tuning of the same weights; 0 is the first.
    wide : bool
        Whether it is the larger single model, pre-trained on the images of the stratum at the cost of three.

    Examples
    --------
    >>> MemberName.parse("clip@2")
    MemberName(stratum='clip', pretraining=2, tuning=0, wide=False)
    >>> str(MemberName("clip", tuning=1)), str(MemberName("clip", wide=True)), MemberName("clip", 2, 1).weights
    ('clip#1', 'clip-wide', 'clip@2')
    """

    stratum: str
    pretraining: int = 0
    tuning: int = 0
    wide: bool = False

    @classmethod
    def parse(cls, text: str) -> MemberName:
        """Read what `str` gives; any other name is a stratum."""
        found = _FORM.fullmatch(text)
        if found is None:
            return cls(text)
        numbers = int(found["pretraining"] or 0), int(found["tuning"] or 0)
        return cls(found["stratum"], *numbers, wide=found["wide"] is not None)

    def __str__(self) -> str:
        return self.weights + (f"#{self.tuning}" if self.tuning else "")

    @property
    def weights(self) -> str:
        """Name of the weights in the zoo, the same for every tuning."""
        size = "-wide" if self.wide else ""
        return self.stratum + size + (f"@{self.pretraining}" if self.pretraining else "")

    def tuning_seed(self, first: int) -> int:
        """Seed of this tuning, where the first one has the seed ``first``."""
        return first + 1000 * self.tuning


@dataclass(frozen=True)
class _Recipe:
    """What `causalft zoo show` says of a recipe."""

    n_images: int
    epochs: int
    batch_size: int
    seed: int


@dataclass(frozen=True)
class ModelCard:
    """Everything known about one mini.

    Attributes
    ----------
    name : str
    world : str
        Pre-training images: ``"creatures"`` or their name.
    loss : {"caption-bank", "in-batch"}
        Only the caption bank leaves the class prior in the logits.
    class_names : list of str
    prior : list of float
        Label prior P_P(Y) of the pre-training data, shape (n_classes,), sums to 1.
    view : dict
        The incomplete semantic factor: the factor law of the part world, or the view of photographs.
    vocabulary : list of str
    architecture : dict
        Fields of :class:`causalft.models.strata.mini.MiniConfig`.
    mean, std : list of float
        Of the pixels, per channel.
    recipe : dict
        Optimiser settings, images seen, seeds, threads.
    sha256 : str
        Of the weights file.
    measured : dict
        Measured at pre-training, such as zero-shot accuracy.
    """

    name: str
    world: str
    loss: str
    class_names: list[str]
    prior: list[float]
    view: dict[str, Any]
    vocabulary: list[str]
    architecture: dict[str, int]
    mean: list[float]
    std: list[float]
    recipe: dict[str, Any]
    sha256: str
    measured: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> ModelCard:
        """Read a card; an unreadable or incomplete one raises a :class:`CausalFTError` that names the file."""
        found = read_json(path)
        wanted = {item.name for item in fields(cls)}
        if not isinstance(found, dict) or not wanted - {"measured"} <= found.keys():
            missing = sorted(wanted - {"measured"} - (found.keys() if isinstance(found, dict) else set()))
            raise CausalFTError(f"{path} is not the card of a mini model (missing: {', '.join(missing)})")
        check_shape(found, cls, path)
        check_shape(found["recipe"], _Recipe, path, at="recipe")
        if len(found["prior"]) != len(found["class_names"]) or not all(p > 0 for p in found["prior"]):
            raise CausalFTError(f"{path}: prior does not hold a positive number for each of class_names")
        return cls(**{key: value for key, value in found.items() if key in wanted})

    def prior_of(self, class_names: Sequence[str]) -> NDArray[np.float64] | None:
        """Return the prior of these classes, (n_classes,), sums to 1; None if one is unknown."""
        known = dict(zip(self.class_names, self.prior, strict=True))
        if any(name not in known for name in class_names):
            return None
        prior = np.array([known[name] for name in class_names])
        return prior / prior.sum()

    def write(self, path: Path) -> Path:
        """Write the card as JSON, atomically."""
        return write_json(path, asdict(self))


_RESIZED = re.compile(r"(?P<name>.+):blocks=(?P<number>.*)")
_MOST_BLOCKS = 200


@dataclass(frozen=True)
class ResizedName:
    """A model of a zoo, or one with another number of blocks in its image tower: ``clip:blocks=6``.

    Attributes
    ----------
    whole : str
        Name of the model whose weights it starts from.
    blocks : int, optional
        None: as many as it has.

    Examples
    --------
    >>> ResizedName.parse("clip:blocks=6"), ResizedName.parse("timm:vit_base").blocks
    (ResizedName(whole='clip', blocks=6), None)
    """

    whole: str
    blocks: int | None = None

    @classmethod
    def parse(cls, text: str) -> ResizedName:
        """Read what `str` gives; any other name is a whole model.

        Raises
        ------
        CausalFTError
            For a number of blocks out of range.
        """
        found = _RESIZED.fullmatch(text)
        if found is None:
            return cls(text)
        number = found["number"]
        if not number.isdecimal() or not 1 <= int(number) <= _MOST_BLOCKS:
            raise CausalFTError(f"{text!r}: give 1 to {_MOST_BLOCKS} blocks")
        return cls(found["name"], int(number))

    def __str__(self) -> str:
        return self.whole if self.blocks is None else f"{self.whole}:blocks={self.blocks}"

    def sha256(self, whole: str) -> str:
        """Hash of its weights before tuning, by that of the whole model."""
        if self.blocks is None:
            return whole
        return hashlib.sha256(f"{whole}:blocks={self.blocks}".encode()).hexdigest()

    def card(self, whole: ModelCard) -> ModelCard:
        """Its card, by that of the whole mini."""
        if self.blocks is None:
            return whole
        architecture = {**whole.architecture, "layers": self.blocks}
        return replace(whole, name=str(self), architecture=architecture, sha256=self.sha256(whole.sha256))
