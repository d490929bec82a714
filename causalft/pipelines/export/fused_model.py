"""The classifier of a run as one PyTorch module, and its inputs with their preprocessing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from causalft.errors import CausalFTError, nearest
from causalft.models.features.encoder import n_views, resized_side
from causalft.models.strata.stratum import SquareCrop, Stratum

if TYPE_CHECKING:
    from causalft.methods.estimators.mixing import Mixing
    from causalft.methods.estimators.strata import StrataClassifier

__all__ = ["FusedModel", "PictureInput", "geometry_steps", "picture_inputs", "squares"]


@dataclass(frozen=True)
class PictureInput:
    """One input of an exported model.

    Attributes
    ----------
    name : str
        ``pictures``, or with several ``pictures_224``, ``pictures_384``, ...
    size : int
        Side of the square seen by the strata, in pixels.
    steps : list of dict
        From an RGB image to the input (:func:`geometry_steps`).
    strata : list of str
        Strata that use it.
    view : {"centre", "five-crop", "ten-crop"}
        The whole input (``centre``), or crops whose logits the model averages.
    """

    name: str
    size: int
    steps: list[dict[str, Any]]
    strata: list[str]
    view: str = "centre"

    @property
    def side(self) -> int:
        """Shorter side of the input in pixels; a centre crop is square."""
        return self.size if self.view == "centre" else resized_side(self.size, self.view)

    def document(self, dtype: str) -> dict[str, Any]:
        """The entry of ``preprocessor.json``: how to prepare this input from an image file."""
        return {
            "name": self.name,
            "dtype": dtype,
            "layout": "batch, channel (RGB), row, column",
            "range": [0, 255] if dtype == "uint8" else [0, 1],
            "size": self.size,
            "view": self.view,
            "shorter_side": self.side,
            "colour": "upright by EXIF orientation, transparency on white, RGB, 8 bits a channel",
            "steps": self.steps,
            "strata": self.strata,
        }


def geometry_steps(stratum: Stratum, view: str = "centre") -> list[dict[str, Any]]:
    """Return the geometry of a stratum as data: resize and centre crop, as Pillow does them.

    For several crops an image is only resized. An unknown step becomes ``"step": "other"`` with its description.

    Examples
    --------
    >>> from causalft.models.strata.zoo import open_zoo
    >>> for step in geometry_steps(open_zoo("mini").load("clip")):
    ...     print(step)
    {'step': 'resize', 'shorter_side': 40, 'interpolation': 'bicubic'}
    {'step': 'center_crop', 'size': 40}
    """
    if view != "centre":
        side = resized_side(stratum.image_size, view)
        scaled = {"step": "resize", "shorter_side": side, "interpolation": stratum.interpolation}
        centre = {"step": "center_crop", "size": stratum.image_size}
        return [scaled, centre] if n_views(view) == 1 else [scaled]
    if isinstance(stratum.geometry, SquareCrop):
        crop = stratum.geometry
        resize = {"step": "resize", "shorter_side": crop.size, "interpolation": crop.interpolation}
        return [resize, {"step": "center_crop", "size": crop.size}]

    from torchvision import transforms

    found: list[dict[str, Any]] = []
    for step in getattr(stratum.geometry, "transforms", [stratum.geometry]):
        if isinstance(step, transforms.Resize) and step.max_size is None:
            size = [step.size] if isinstance(step.size, int) else list(step.size)
            # torchvision: one number is the shorter side, two are height and width
            target = {"shorter_side": size[0]} if len(size) == 1 else {"width": size[1], "height": size[0]}
            found.append({"step": "resize", **target, "interpolation": step.interpolation.value})
        elif isinstance(step, transforms.CenterCrop) and len(set(step.size)) == 1:
            found.append({"step": "center_crop", "size": int(step.size[0])})
        else:
            found.append({"step": "other", "description": repr(step)})
    return found


def picture_inputs(strata: Mapping[str, Stratum], view: str = "centre") -> list[PictureInput]:
    """Group strata by geometry: one input each.

    Examples
    --------
    >>> from causalft.models.strata.zoo import open_zoo
    >>> [(i.name, i.strata) for i in picture_inputs({n: open_zoo("mini").load(n) for n in ("clip", "openclip")})]
    [('pictures', ['clip', 'openclip'])]
    """
    groups: dict[str, tuple[Stratum, list[str]]] = {}
    for name, stratum in strata.items():
        key = json.dumps([stratum.image_size, geometry_steps(stratum, view)])
        groups.setdefault(key, (stratum, []))[1].append(name)
    names: list[str] = []
    for first, _ in groups.values():
        base = "pictures" if len(groups) == 1 else f"pictures_{first.image_size}"
        # the same size with another interpolation is another input
        names.append(base if base not in names else f"{base}_{len(names)}")
    cut = view if n_views(view) > 1 else "centre"
    return [
        PictureInput(name, first.image_size, geometry_steps(first, view), members, cut)
        for name, (first, members) in zip(names, groups.values(), strict=True)
    ]


def squares(pictures: Tensor, size: int, view: str) -> Tensor:
    """Cut resized images as :func:`causalft.models.features.encoder.view_cut` does.

    Parameters
    ----------
    pictures : Tensor
        Shape (n, 3, height, width), sides of at least ``size``, possibly symbolic.
    size : int
    view : {"five-crop", "ten-crop"}

    Returns
    -------
    Tensor
        Shape (n_views * n, 3, size, size): corners and centre, then those of the mirror images.

    Examples
    --------
    >>> squares(torch.zeros(2, 3, 20, 30), 16, "ten-crop").shape
    torch.Size([20, 3, 16, 16])
    """
    # indexed, not sliced: a trace cannot prove that the centre lies inside
    steps = torch.arange(size, device=pictures.device)
    rows, columns = (steps + _middle(pictures.shape[axis] - size) for axis in (2, 3))
    found = []
    for seen in (pictures, pictures.flip(-1)) if view == "ten-crop" else (pictures,):
        for strip in (seen[:, :, :size], seen[:, :, seen.shape[2] - size :]):
            found += [strip[..., :size], strip[..., strip.shape[3] - size :]]
        found.append(seen.index_select(2, rows).index_select(3, columns))
    return torch.cat(found)


def _middle(spare: int) -> int:
    """Half of the spare pixels, rounded half to even as torchvision does, in integers for the trace."""
    return spare // 2 + (spare % 2) * ((spare // 2) % 2)


class FusedModel(nn.Module):
    """P(Y | do(X)) of a fitted classifier: normalisation, image towers, heads, fusion (Eq. 7) and temperature.

    Shares its members with the classifier, on their device, and sets them to eval mode.

    Parameters
    ----------
    model : StrataClassifier
        Fitted or loaded.
    strata : sequence of str, optional
        Keep only these, with P(c) renormalised. The temperature was fitted to all strata, so a subset is fused at
        temperature 1, and ``calibrated`` is False.
    fused : bool
        Whether the fused probabilities are among the outputs.

    Attributes
    ----------
    names : list of str
        The strata, in order.
    strata : dict of str to Stratum
    inputs : list of PictureInput
        One for each geometry.
    view : str
        Test-time crops of the run (:data:`causalft.models.tuning.choices.TEST_VIEWS`).
    outputs : list of str
        ``probabilities`` (n, n_classes) if fused, and ``strata`` (n, n_strata, n_classes); rows sum to 1.
    fusion : str
    stratum_prior, stratum_temperatures : list of float
        P(c), sums to 1; temperatures before the fusion (the output ``strata`` precedes them), 1 if not fitted.
    temperature : float
    calibrated : bool

    Raises
    ------
    CausalFTError
        For an unknown stratum, an unsupported fusion, or strata of weight 0 only.

    References
    ----------
    Chen et al., "Rethinking the Bias of Foundation Model under Long-tailed Distribution", ICML 2025, Eq. 7.

    Examples
    --------
    ``FusedModel(StrataClassifier.load("runs/a"))(torch.rand(2, 3, 40, 40))`` is a tuple of tensors of shapes (2, 60)
    and (2, 3, 60).
    """

    prior: Tensor
    offset: Tensor
    stratum_temperature: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self, model: StrataClassifier, strata: Sequence[str] | None = None, *, fused: bool = True
    ) -> None:
        super().__init__()
        everyone = list(model.members_)
        self.names = everyone if strata is None else list(strata)
        for name in self.names:
            if name not in everyone:
                raise CausalFTError(f"the run has no stratum {name!r}; {nearest(name, everyone)}")
        if not self.names or len(set(self.names)) < len(self.names):
            raise CausalFTError("name each stratum to export once, as in --strata clip,openclip")
        mixing = model.mixing_
        if fused and mixing.fusion not in _FUSE:
            raise CausalFTError(
                f"the fusion {mixing.fusion!r} cannot be exported; {', '.join(_FUSE)} can, or use --no-fused"
            )
        members = [model.members_[name] for name in self.names]
        self.members = nn.ModuleList(members)
        self.fusion, self.fused = mixing.fusion, fused
        self.outputs = ["probabilities", "strata"] if fused else ["strata"]
        self.classes = [str(name) for name in model.classes_]

        self.strata: dict[str, Stratum] = {name: model.members_[name].stratum for name in self.names}
        # the same for all members of a run
        self.view: str = getattr(members[0], "view", "centre")
        self.inputs: list[PictureInput] = picture_inputs(self.strata, self.view)
        self.input_of = [
            next(number for number, entry in enumerate(self.inputs) if name in entry.strata)
            for name in self.names
        ]
        kept = [everyone.index(name) for name in self.names]
        weights = np.asarray(mixing.stratum_prior)[kept]
        if fused and weights.sum() <= 0:
            raise CausalFTError(f"P(c) of {', '.join(self.names)} is 0; keep a stratum with some weight")
        self.stratum_prior: list[float] = (weights / (weights.sum() or 1.0)).tolist()
        self.stratum_temperatures = [
            float((mixing.stratum_temperatures or [1.0] * len(everyone))[k]) for k in kept
        ]
        self.calibrated = fused and set(self.names) == set(everyone)
        self.temperature = float(mixing.temperature) if self.calibrated else 1.0
        self.register_buffer("prior", torch.from_numpy(self._weights(mixing, kept)).float())
        offsets = np.zeros((len(kept), 1)) if mixing.offsets is None else np.array(mixing.offsets)[kept]
        self.register_buffer("offset", torch.from_numpy(offsets).float()[None])
        self.register_buffer("stratum_temperature", torch.tensor(self.stratum_temperatures)[None, :, None])
        for what in ("mean", "std"):
            values = torch.tensor([getattr(stratum, what) for stratum in self.strata.values()])
            self.register_buffer(what, values.float()[:, :, None, None])
        self.eval().requires_grad_(False).to(members[0].stratum.device)

    def _weights(self, mixing: Mixing, kept: Sequence[int]) -> np.ndarray:
        """P(c), or P(c | y) of an adjusted fusion, of the kept strata: (1, M, 1 or K)."""
        if mixing.class_weights is None:
            return np.array(self.stratum_prior)[None, :, None]
        by_class = np.array(mixing.class_weights)[list(kept)]
        return (by_class / by_class.sum(axis=0))[None]

    def __repr__(self) -> str:
        return f"FusedModel({', '.join(self.names)}; {self.fusion}, {len(self.classes)} classes)"

    def forward(self, *pictures: Tensor) -> tuple[Tensor, ...]:
        """Probabilities from pictures of shape (n, 3, size, size): uint8, or float on [0, 1].

        With test-time crops, pictures are (n, 3, height, width) with the shorter side of their input; the crops are cut
        here, and their logits averaged.
        """
        scaled = [batch.float() / 255 if batch.dtype == torch.uint8 else batch.float() for batch in pictures]
        log_p = []
        for number, member in enumerate(self.members):
            batch = (scaled[self.input_of[number]] - self.mean[number]) / self.std[number]
            if n_views(self.view) == 1:
                logits = member.predict(batch).float()  # type: ignore[operator]
            else:
                seen = squares(batch, self.strata[self.names[number]].image_size, self.view)
                logits = member.predict(seen).float()  # type: ignore[operator]
                logits = logits.unflatten(0, (n_views(self.view), -1)).mean(0)
            log_p.append(logits.log_softmax(-1))
        by_stratum = torch.stack(log_p, 1)
        if not self.fused:
            return (by_stratum.exp(),)
        calibrated = (by_stratum / self.stratum_temperature).log_softmax(-1) + self.offset
        fused = _FUSE[self.fusion](calibrated, self.prior) / self.temperature
        return fused.softmax(-1), by_stratum.exp()

    def example(self, n: int = 2, *, dtype: torch.dtype = torch.float32, seed: int = 0) -> list[Tensor]:
        """Random images for every input; not square where they need not be."""
        generator = torch.Generator().manual_seed(seed)
        found = []
        for entry in self.inputs:
            longer = 0 if entry.view == "centre" else 3 + 2 * (seed % 4)
            sides = (entry.side, entry.side + longer) if seed % 2 == 0 else (entry.side + longer, entry.side)
            pixels = torch.randint(0, 256, (n, 3, *sides), generator=generator)
            found.append(pixels.to(dtype) if dtype == torch.uint8 else pixels.to(dtype) / 255)
        return found


def _mixture(log_p: Tensor, prior: Tensor) -> Tensor:
    """log sum_c P(c) P(Y|b,c); a weight of 0 is replaced by the smallest float."""
    return torch.logsumexp(log_p + prior.clamp_min(torch.finfo(torch.float32).tiny).log(), 1)


def _geometric(log_p: Tensor, prior: Tensor) -> Tensor:
    """sum_c P(c) log P(Y|b,c), up to a constant per image."""
    return (log_p * prior).sum(1)


def _product(log_p: Tensor, prior: Tensor) -> Tensor:
    """M sum_c P(c) log P(Y|b,c), up to a constant per image."""
    return log_p.shape[1] * _geometric(log_p, prior)


# causalft.methods.estimators.fusion on log probabilities in float32
_FUSE = {"mixture": _mixture, "logit": _geometric, "product": _product, "adjusted": _product}
