"""Where the strata of a fitted model look, and where their fusion looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from scipy.special import log_softmax
from torch import Tensor
from torch.nn import functional as F

from causalft.data.images import middle_of_strip
from causalft.methods.adaptation.tuned import TunedStratum
from causalft.methods.estimators.mixing import Mixing
from causalft.models.features.encoder import open_frozen
from causalft.models.maps import MAPS, MapTarget
from causalft.models.maps.density import density
from causalft.models.strata.prompts import text_weights
from causalft.models.strata.stratum import Stratum, square_crop

__all__ = [
    "FusedView",
    "Look",
    "StratumView",
    "evidence_shares",
    "fused_map",
    "fused_view",
    "tuned_view",
    "zero_shot_view",
]

Pixels = NDArray[np.uint8]
_PROBE = 240  # side of the image that shows what a geometry cuts


@dataclass(frozen=True)
class StratumView:
    """One stratum as it sees square frames, to be explained.

    Attributes
    ----------
    stratum : Stratum
    target : MapTarget
        Its tower and head.
    """

    stratum: Stratum
    target: MapTarget

    @cached_property
    def box(self) -> tuple[float, float]:
        """Where the stratum's crop begins and ends along each side of a square frame, from 0 to 1."""
        ramp = np.repeat(np.linspace(0, 255, _PROBE)[None, :], _PROBE, axis=0).round().astype(np.uint8)
        seen = self.stratum.crop(Image.fromarray(np.stack([ramp] * 3, axis=-1)))[..., 0].mean(axis=0)
        inner = slice(2, -2)  # edges are resampled
        slope, start = np.polyfit(np.arange(len(seen))[inner] + 0.5, seen[inner].astype(float) / 255, 1)
        ends = (start, start + slope * len(seen))
        return max(0.0, round(float(ends[0]), 2)), min(1.0, round(float(ends[1]), 2))

    def crops(self, frames: Pixels) -> Pixels:
        """What the stratum sees of square frames (n, S, S, 3): (n, s, s, 3)."""
        if frames.shape[1] == self.stratum.image_size and self.box == (0.0, 1.0):
            return frames
        return np.stack([self.stratum.crop(Image.fromarray(frame)) for frame in frames])

    def log_probabilities(self, frames: Pixels, batch_size: int = 256) -> NDArray[np.float64]:
        """log P(Y | b, c) of square frames (n, S, S, 3): (n, K)."""
        found = []
        for start in range(0, len(frames), batch_size):
            with torch.inference_mode():
                pixels = torch.from_numpy(self.crops(frames[start : start + batch_size]))
                found.append(self.target.logits(self.stratum.normalise(pixels)).double().cpu().numpy())
        return log_softmax(np.concatenate(found), axis=1)

    def probabilities(self, frames: Pixels) -> NDArray[np.float64]:
        """P(Y | b, c) of square frames (n, S, S, 3): (n, K); rows sum to 1."""
        return np.exp(self.log_probabilities(frames))

    def evidence(
        self, frames: Pixels, classes: ArrayLike, method: str, *, batch_size: int = 64
    ) -> NDArray[np.float64]:
        """Evidence for a class in each frame, as the method computes it, in the stratum's own crop.

        Parameters
        ----------
        frames : (n, S, S, 3) array of uint8
        classes : (n,) array of int in [0, K)
        method : str
            One of :data:`causalft.models.maps.MAPS`.
        batch_size : int

        Returns
        -------
        (n, h, w) array
            Of any sign and resolution.

        Raises
        ------
        CausalFTError
            If the tower has no such map.
        """
        compute, found = MAPS.get_or_refuse(method).compute, []
        wanted = torch.from_numpy(np.asarray(classes, dtype=np.int64)).to(self.stratum.device)
        for start in range(0, len(frames), batch_size):
            pixels = torch.from_numpy(np.ascontiguousarray(self.crops(frames[start : start + batch_size])))
            images = self.stratum.normalise(pixels)
            # the mean colour of each image, as `causalft.analysis.maps.filled` has it
            baseline = images.mean(dim=(2, 3), keepdim=True).expand_as(images).contiguous()
            chosen = wanted[start : start + batch_size]
            found.append(compute(self.target, images, chosen, baseline).detach().double().cpu().numpy())
        return np.concatenate(found)

    def map(self, frames: Pixels, classes: ArrayLike, method: str) -> NDArray[np.float64]:
        """Where the stratum looks in square frames (n, S, S, 3): (n, S, S), at least 0, each sums to 1.

        Arguments and errors as in :meth:`evidence`. What the stratum does not see of the frame gets 0.
        """
        side = frames.shape[1]
        first, last = (round(end * side) for end in self.box)
        found = np.zeros(frames.shape[:3])
        found[:, first:last, first:last] = density(self.evidence(frames, classes, method), last - first)
        return found


@dataclass(frozen=True)
class Look:
    """Where M strata and their fusion (last) look in n images.

    Attributes
    ----------
    classes : (n,) array of int in [0, K)
        The class whose evidence is shown.
    probabilities : (M + 1, n, K) array
        P(Y | b, c), and P(Y | do(x)) last.
    shares : (M, n) array
        As :func:`evidence_shares` gives them.
    maps : (M + 1, n, S, S) array
        Each sums to 1.
    """

    classes: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    shares: NDArray[np.float64]
    maps: NDArray[np.float64]


@dataclass(frozen=True)
class FusedView:
    """All strata of a fitted model as they see square frames, and their fusion.

    Attributes
    ----------
    strata : dict of str to StratumView
    mixing : Mixing
    classes : tuple of K str
    """

    strata: Mapping[str, StratumView]
    mixing: Mixing
    classes: tuple[str, ...]

    @property
    def side(self) -> int:
        """Pixels of a square frame of which no stratum sees less than its own crop has."""
        return max(
            round(view.stratum.image_size / (view.box[1] - view.box[0])) for view in self.strata.values()
        )

    def frame(self, image: Image.Image) -> Pixels:
        """The centre square of an image as a frame, (S, S, 3)."""
        return np.asarray(square_crop(self.side)(middle_of_strip(image.convert("RGB"))), dtype=np.uint8)

    def log_probabilities(self, frames: Pixels) -> NDArray[np.float64]:
        """log P(Y | b, c) of square frames (n, S, S, 3): (M, n, K)."""
        return np.stack([view.log_probabilities(frames) for view in self.strata.values()])

    def probabilities(self, frames: Pixels) -> NDArray[np.float64]:
        """P(Y | do(x)) of square frames (n, S, S, 3): (n, K); rows sum to 1."""
        return self.mixing.of_log_probabilities(self.log_probabilities(frames))

    def look(self, frames: Pixels, method: str, classes: ArrayLike | None = None) -> Look:
        """Where each stratum looks, and where the fusion looks.

        Parameters
        ----------
        frames : (n, S, S, 3) array of uint8
        method : str
            One of :data:`causalft.models.maps.MAPS`.
        classes : (n,) array of int in [0, K), optional
            The class whose evidence is shown; by default the class that the fusion predicts for each image.

        Raises
        ------
        CausalFTError
            If a tower has no such map.
        """
        log_p = self.log_probabilities(frames)
        fused = self.mixing.of_log_probabilities(log_p)
        chosen = fused.argmax(axis=1) if classes is None else np.asarray(classes, dtype=np.int64)
        of_strata = np.stack([view.map(frames, chosen, method) for view in self.strata.values()])
        shares = evidence_shares(self.mixing, log_p, chosen)
        maps = np.concatenate([of_strata, fused_map(of_strata, shares)[None]])
        return Look(chosen, np.concatenate([np.exp(log_p), fused[None]]), shares, maps)


def evidence_shares(mixing: Mixing, log_p: ArrayLike, classes: ArrayLike) -> NDArray[np.float64]:
    """Share of each stratum in the fused probability of a class: (M, n), columns sum to 1.

    The share is the derivative of log P(y | do(x)) by log P(y | b, c), before the temperature. For the mixture (Eq. 7)
    it is P(c) P(y | b, c) / P(y | do(x)): a stratum that does not believe in the class adds nothing to it. For the mean
    of logits and the product it is P(c), for the adjusted fusion its P(c | y).

    Parameters
    ----------
    mixing : Mixing
    log_p : (M, n, K) array
        log P(Y | b, c).
    classes : (n,) array of int in [0, K)

    Examples
    --------
    >>> mixing = Mixing("mixture", (0.5, 0.5), 1.0)
    >>> evidence_shares(mixing, np.log([[[0.9, 0.1]], [[0.3, 0.7]]]), [0]).round(2).tolist()
    [[0.75], [0.25]]
    """
    weights = np.asarray(mixing.stratum_prior)[:, None]
    if mixing.class_weights is not None:
        return np.array(mixing.class_weights)[:, np.asarray(classes)]
    scaled = mixing.scaled(np.asarray(log_p, dtype=float))
    n = scaled.shape[1]
    if mixing.fusion != "mixture":
        return np.repeat(weights, n, axis=1)
    of_class = scaled[:, np.arange(n), np.asarray(classes)]
    share = weights * np.exp(of_class - of_class.max(axis=0))
    return share / share.sum(axis=0)


def fused_map(maps: ArrayLike, shares: ArrayLike) -> NDArray[np.float64]:
    """Mix maps (M, n, h, w) of the strata by their shares (M, n): (n, h, w).

    The gradient of log P(y | do(x)) is the mean of the strata's gradients of log P(y | b, c) by the shares of
    :func:`evidence_shares`. The fused map is the same mean of maps that each sum to 1, so that a stratum counts by what
    it contributes and not by the scale of its map; it exists for maps without a gradient (rollout) too.

    Examples
    --------
    >>> fused_map([[[[1.0, 0.0]]], [[[0.0, 1.0]]]], [[0.75], [0.25]]).tolist()
    [[[0.75, 0.25]]]
    """
    return np.einsum("mn,mnhw->nhw", np.asarray(shares, dtype=float), np.asarray(maps, dtype=float))


def tuned_view(tuned: TunedStratum) -> StratumView:
    """A tuned stratum, to be explained; with GLA-FT its zero-shot half takes part. Several crops become the centre."""

    def head(features: Tensor) -> Tensor:
        return tuned.head(features.float())

    return StratumView(tuned.stratum, MapTarget(tuned.stratum.name, tuned.tower, head, tuned.untouched))


def zero_shot_view(
    stratum: Stratum, class_names: Sequence[str], template: str = "a photo of a {}."
) -> StratumView:
    """A stratum before tuning, as a zero-shot classifier of these classes.

    Raises
    ------
    CausalFTError
        As :func:`causalft.models.strata.prompts.text_weights`.
    """
    anchors = stratum.logit_scale * text_weights(stratum, class_names, template).clone()
    tower, _ = open_frozen(stratum, "fp32")

    def head(features: Tensor) -> Tensor:
        return F.normalize(features.float(), dim=-1) @ anchors.T

    return StratumView(stratum, MapTarget(stratum.name, tower, head))


def fused_view(members: Mapping[str, TunedStratum], mixing: Mixing, class_names: Sequence[str]) -> FusedView:
    """The strata of a fitted model and their fusion, to be explained.

    Parameters
    ----------
    members : mapping of str to TunedStratum
        As ``members_`` of a fitted classifier; best in precision ``fp32``.
    mixing : Mixing
    class_names : sequence of K str

    Examples
    --------
    >>> from causalft.methods.estimators.fitted import load_fitted
    >>> model = load_fitted("runs/fit", precision="fp32")  # doctest: +SKIP
    >>> view = fused_view(model.members_, model.mixing_, model.classes_)  # doctest: +SKIP
    """
    strata = {name: tuned_view(tuned) for name, tuned in members.items()}
    return FusedView(strata, mixing, tuple(map(str, class_names)))
