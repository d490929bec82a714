"""A stratum in memory: a frozen model with its geometry, normalisation and tokenizer."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from causalft.data.images import middle_of_strip
from causalft.errors import CausalFTError, CausalFTWarning
from causalft.models.strata.cards import ModelCard
from causalft.models.tuning.devices import to_device
from causalft.models.tuning.families import Family, is_a
from causalft.models.tuning.precision import lay_out_convolutions
from causalft.models.tuning.team import current_team

__all__ = ["SquareCrop", "Stratum", "check_different", "class_tokens", "square_crop"]


_LONGER = 8  # times the context, to see what was cut
_BATCH = 1024
_TEXTS = 16_384  # whose features are held at a time
_SAME = 1e-6  # of unit features


def class_tokens(
    tokenizer: Callable[..., Tensor],
    texts: Sequence[str],
    owner: Sequence[int],
    class_names: Sequence[str],
    *,
    template: str,
    model: str,
) -> Tensor:
    """Tokenize the prompts of classes, shape (n_texts, context length).

    Parameters
    ----------
    tokenizer : callable
        Texts to padded token ids; one that cuts takes ``context_length``, as those of open_clip.
    texts : sequence of str
    owner : sequence of int
        Index in ``class_names`` of each text.
    class_names : sequence of str
    template, model : str
        Source of the texts and owner of the tokenizer, for messages.

    Warns
    -----
    CausalFTWarning
        If texts are cut: the first class, and how many.

    Raises
    ------
    CausalFTError
        If two classes have the same tokens in all their texts; both are named.

    Examples
    --------
    >>> from open_clip import SimpleTokenizer
    >>> names = ["lynx", "otter"]
    >>> class_tokens(SimpleTokenizer(), names, [0, 1], names, template="{}", model="clip").shape
    torch.Size([2, 77])
    """
    found = [_tokens(tokenizer, texts[start : start + _BATCH]) for start in range(0, len(texts), _BATCH)]
    tokens = torch.cat([part for part, _ in found])
    cut = np.concatenate([part for _, part in found])
    classes = sorted({owner[row] for row in np.flatnonzero(cut).tolist()})
    if classes:
        whose = (
            f"that of {_short(class_names[classes[0]])}"
            if len(classes) == 1
            else f"those of {len(classes)} of {len(class_names)} classes, {_short(class_names[classes[0]])} first,"
        )
        warnings.warn(
            f"{model} reads {tokens.shape[1]} tokens of a prompt, and the template {_short(template)} makes longer "
            f"ones: {whose} {'is' if len(classes) == 1 else 'are'} cut; use a shorter template or shorter class names",
            CausalFTWarning,
            stacklevel=3,
        )
    _refuse_equal(tokens, owner, class_names, template, model, bool(classes))
    return tokens


def check_different(features: Tensor, class_names: Sequence[str], *, template: str, model: str) -> Tensor:
    """Return text features (n_classes, d) unchanged; two equal rows raise a :class:`CausalFTError`."""
    values = features.detach().cpu().double().numpy()
    # Equal rows have equal projections, so only neighbours in that order need a look.
    direction = np.random.default_rng(0).normal(size=values.shape[1])
    order = np.argsort(values @ direction, kind="stable")
    same = np.flatnonzero(np.abs(np.diff(values[order], axis=0)).max(axis=1, initial=0) <= _SAME)
    if len(same):
        first, second = sorted((int(order[same[0]]), int(order[same[0] + 1])))
        raise CausalFTError(
            f"classes {_short(class_names[first])} and {_short(class_names[second])} have the same text features in "
            f"{model} with the template {_short(template)}, so it cannot tell them apart; use another template or "
            "other class names"
        )
    return features


def _short(text: str) -> str:
    """A text in quotes, cut in the middle if it is long."""
    return repr(text if len(text) <= 80 else f"{text[:50]}...{text[-25:]}")


def _tokens(tokenizer: Callable[..., Tensor], texts: Sequence[str]) -> tuple[Tensor, NDArray[np.bool_]]:
    """Token ids, and which of the texts were cut."""
    tokens = tokenizer(list(texts))
    context = tokens.shape[1]
    cut = np.zeros(len(texts), dtype=bool)
    if not _takes_context_length(tokenizer):
        return tokens, cut  # it refuses what it would have to cut
    longer: Any = {"context_length": _LONGER * context}
    padding = tokenizer([""], **longer)[0].mode().values
    full = np.flatnonzero(((tokens != padding).sum(dim=1) >= context - 1).numpy())
    if len(full):
        whole = tokenizer([texts[row] for row in full.tolist()], **longer)
        cut[full] = ((whole != padding).sum(dim=1) > (tokens[full] != padding).sum(dim=1)).numpy()
    return tokens, cut


def _takes_context_length(tokenizer: Callable[..., Tensor]) -> bool:
    try:
        return "context_length" in inspect.signature(tokenizer).parameters
    except (TypeError, ValueError):
        return False


def _refuse_equal(
    tokens: Tensor, owner: Sequence[int], class_names: Sequence[str], template: str, model: str, cut: bool
) -> None:
    said: dict[int, list[bytes]] = {}
    for k, row in zip(owner, tokens.cpu().numpy(), strict=True):
        said.setdefault(k, []).append(row.tobytes())
    first: dict[tuple[bytes, ...], int] = {}
    for k, rows in said.items():
        other = first.setdefault(tuple(sorted(set(rows))), k)
        if other != k:
            why = f" once they are cut to {tokens.shape[1]} tokens" if cut else ""
            way_out = "use a shorter template" if cut else "rename one of them"
            raise CausalFTError(
                f"classes {_short(class_names[other])} and {_short(class_names[k])} become the same text for {model} "
                f"with the template {_short(template)}{why}, so it cannot tell them apart; {way_out}"
            )


_ACTIVATIONS = {
    "GELU": "gelu",
    "GELUTanh": "gelu_tanh",
    "QuickGELU": "quick_gelu",
    "ReLU": "relu",
    "SiLU": "silu",
    "Swish": "silu",
    "Hardswish": "hardswish",
    "HardSwish": "hardswish",
}


def square_crop(size: int, interpolation: str = "bicubic") -> Callable[[Image.Image], Image.Image]:
    """Return the geometry of CLIP: the shorter side resized to ``size``, then the centre square."""
    return SquareCrop(size, interpolation)


@dataclass(frozen=True)
class SquareCrop:
    """torchvision's ``Resize`` and ``CenterCrop`` on Pillow images, pixel for pixel.

    Examples
    --------
    >>> SquareCrop(40)(Image.new("RGB", (80, 60))).size
    (40, 40)
    """

    size: int
    interpolation: str = "bicubic"

    def __call__(self, image: Image.Image) -> Image.Image:
        shorter, longer = min(image.size), max(image.size)
        if shorter != self.size:
            long_side = int(self.size * longer / shorter)
            wide = image.width > image.height
            to = (long_side, self.size) if wide else (self.size, long_side)
            image = image.resize(to, Image.Resampling[self.interpolation.upper()])
        left, top = (round((side - self.size) / 2) for side in image.size)
        return image.crop((left, top, left + self.size, top + self.size))


def _scales_shorter_side(step: object) -> bool:
    """Whether a step of torchvision, open_clip or timm keeps the aspect ratio of a strip."""
    if isinstance(step, SquareCrop):
        return True
    if is_a(step, Family.TORCHVISION_RESIZE):
        size = step.size  # type: ignore[attr-defined]
        return isinstance(size, int) or len(size) == 1
    return type(step).__name__ == "ResizeKeepRatio" and not getattr(step, "longest", 1)


@dataclass
class Stratum:
    """One value c of the semantic factor C: one foundation model, frozen.

    Attributes
    ----------
    name : str
        ``clip``, ``openclip``, ``metaclip``, ...
    zoo : str
        ``mini``, ``pretrained``, or a zoo folder.
    model : torch.nn.Module
        An ``open_clip`` CLIP, or an image-only backbone with ``visual`` and ``encode_image``, frozen and in eval mode.
    geometry : callable
        PIL image to a square RGB PIL image of the model's size.
    image_size : int
    mean, std : tuple of float
    tokenizer : callable, optional
        Texts to token ids; None for an image-only backbone.
    sha256 : str
        Of the weights file.
    source : str
        The weights in words.
    card : ModelCard, optional
        Of a mini: its true prior and its favourite view.
    resize_mode, interpolation : str
        What the geometry does: ``shortest`` (then the centre) or ``squash``; ``bicubic``, ``bilinear``.
    """

    name: str
    zoo: str
    model: Any
    geometry: Callable[[Image.Image], Image.Image]
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    tokenizer: Callable[[Sequence[str]], Tensor] | None
    sha256: str
    source: str
    card: ModelCard | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    resize_mode: str = "shortest"
    interpolation: str = "bicubic"

    def __post_init__(self) -> None:
        # Once, for every tower that is opened from it.
        lay_out_convolutions(getattr(self.model, "visual", None))

    def __repr__(self) -> str:
        return f"Stratum({self.name!r} from {self.source}, {self.image_size} px, sha256 {self.sha256[:12]})"

    @property
    def visual(self) -> nn.Module:
        """The image tower."""
        if self.model is None:
            raise RuntimeError(f"the model of stratum {self.name!r} was released; load the stratum again")
        return self.model.visual

    def release(self) -> None:
        """Drop the model, where a tuned tower in lower precision has weights of its own."""
        self.model = None

    def move(self, device: torch.device) -> None:
        """Move the model to another device."""
        self.device = device
        self.__dict__.pop("_scaling", None)
        if self.model is not None:
            self.model.to(device)

    @property
    def has_text(self) -> bool:
        """Whether class names can be encoded; an image-only backbone has no text tower."""
        return self.tokenizer is not None

    @property
    def pretraining_loss(self) -> str:
        """From a mini's card, else ``unknown`` or ``no captions``; see :func:`causalft.methods.priors.prior_caveat`."""
        if self.card is not None:
            return self.card.loss
        return "unknown" if self.has_text else "no captions"

    @property
    def activation(self) -> str:
        """The activation of the image tower: ``gelu``, ``quick_gelu``, ``relu``, ``silu``, ..."""
        for module in self.visual.modules():
            kind = type(module).__name__
            if kind in _ACTIVATIONS:
                return _ACTIVATIONS[kind]
        return "none"

    @property
    def logit_scale(self) -> float:
        """Inverse temperature of the zero-shot logits; an image-only backbone raises as `text_features`."""
        self.needs_text()
        scale = self.model.logit_scale.exp()
        # CLIP clamps its temperature in training; a sigmoid loss (its model has a bias) does not.
        return float(scale if getattr(self.model, "logit_bias", None) is not None else scale.clamp(max=100.0))

    def needs_text(self) -> None:
        """Refuse an image-only backbone."""
        if not self.has_text:
            raise CausalFTError(
                f"stratum {self.name!r} has no text tower, so class names mean nothing to it; start its head with "
                "--head-start class-mean or --head-start linear-probe"
            )

    def crop(self, image: Image.Image) -> np.ndarray:
        """Return what the model sees of an image before normalisation: (size, size, 3), uint8."""
        if any(map(_scales_shorter_side, getattr(self.geometry, "transforms", [self.geometry]))):
            image = middle_of_strip(image)
        return np.asarray(self.geometry(image.convert("RGB")), dtype=np.uint8)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Convert uint8 images (n, size, size, 3) to the model's input (n, 3, size, size) on its device."""
        mean, std = self._scaling
        planes = to_device(pixels, self.device).permute(0, 3, 1, 2).contiguous().float()
        return planes.div_(255).sub_(mean).div_(std)

    @cached_property
    def _scaling(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation on the device, each (3, 1, 1)."""
        with torch.inference_mode(False):  # for training too, wherever it is asked for first
            mean, std = torch.tensor([self.mean, self.std], device=self.device)[:, :, None, None]
        return mean, std

    def text_features(self, class_names: Sequence[str], template: str = "a photo of a {}.") -> Tensor:
        """Return unit text features of the classes, shape (n_classes, d).

        Raises
        ------
        CausalFTError
            If the template has no ``{}``, a mini does not know a class name, two classes have the same texts, or the
            stratum has no text tower.
        """
        tokens = self.prompt_tokens(class_names, template)
        return check_different(
            self.encode_tokens(tokens), class_names, template=template, model=repr(self.name)
        )

    def prompt_tokens(self, class_names: Sequence[str], template: str = "a photo of a {}.") -> Tensor:
        """Return the tokens of one prompt per class; warns and raises as `class_tokens`."""
        self.needs_text()
        assert self.tokenizer is not None
        if "{}" not in template:
            raise CausalFTError(f"the prompt template {template!r} has no {{}} for the class name")
        # `replace` and not `format`: a template may hold other braces
        texts = [template.replace("{}", name.replace("_", " ")) for name in class_names]
        owner = range(len(texts))
        return class_tokens(
            self.tokenizer, texts, owner, class_names, template=template, model=repr(self.name)
        )

    def described_features(self, prompts: Mapping[str, Sequence[str]], source: str) -> Tensor:
        """Return the direction of the mean of each class's unit text features, shape (n_classes, d), float32.

        Parameters
        ----------
        prompts : mapping of class name to texts
        source : str
            Of the prompts, for messages.

        Raises
        ------
        CausalFTError
            As :meth:`text_features`.
        """
        self.needs_text()
        assert self.tokenizer is not None
        names, model = list(prompts), repr(self.name)
        owner = [k for k, name in enumerate(names) for _ in prompts[name]]
        texts = [text for name in names for text in prompts[name]]
        tokens = class_tokens(self.tokenizer, texts, owner, names, template=source, model=model)
        sums: Tensor | None = None
        for part, whose in zip(tokens.split(_TEXTS), torch.tensor(owner).split(_TEXTS)):
            unit = self.encode_tokens(part).cpu().double()  # not every device has float64
            if sums is None:
                sums = unit.new_zeros(len(names), unit.shape[1])
            sums.index_add_(0, whose, unit)
        assert sums is not None
        means = F.normalize(sums, dim=1).float()
        return check_different(means, names, template=source, model=model).to(self.device)

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """Return unit text features (n, d) of token ids (n, context length).

        Processes that work together (:func:`causalft.models.tuning.team.work_together`) share the rows.
        """

        def encode(rows: slice) -> Tensor:
            features = []
            with torch.inference_mode():
                for part in tokens[rows].split(256):
                    features.append(F.normalize(self.model.encode_text(part.to(self.device)), dim=-1))
            return torch.cat(features).clone()

        team = current_team()
        if team.count == 1:
            return encode(slice(0, len(tokens)))
        return torch.from_numpy(team.rows(len(tokens), lambda rows: encode(rows).cpu().numpy())).to(
            self.device
        )

    def image_features(self, pixels: Tensor, batch_size: int = 256) -> Tensor:
        """Return unit image features (n, d) of cropped uint8 images (n, size, size, 3)."""
        features = []
        with torch.inference_mode():
            for start in range(0, len(pixels), batch_size):
                batch = self.normalise(pixels[start : start + batch_size])
                features.append(F.normalize(self.model.encode_image(batch), dim=-1).cpu())
        return torch.cat(features).clone()
