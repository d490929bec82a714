"""One stratum tuned to the downstream task: P(Y | b, c) from a frozen backbone, a tuner and a head."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from causalft.errors import CausalFTError, several
from causalft.methods.adaptation.at_test.norms import take_tensors
from causalft.methods.adaptation.settings import ADAPTED, ADAPTER, GLA, HEAD, Tuning, check_gla
from causalft.models.features.encoder import (
    Crops,
    batches,
    n_views,
    open_frozen,
    stream_crops,
    view_cut,
)
from causalft.models.strata.stratum import Stratum
from causalft.models.tuning.choices import optimum_of
from causalft.models.tuning.devices import autocast
from causalft.models.tuning.heads import make_head
from causalft.models.tuning.precision import settle_precision
from causalft.models.tuning.samplers import expected_counts
from causalft.models.tuning.team import current_team
from causalft.models.tuning.towers import open_tower
from causalft.models.tuning.tuners import apply_tuner
from causalft.models.tuning.tuners.adapters import bottleneck_width
from causalft.runs.files import sort_metadata
from causalft.runs.folder import atomic_path

__all__ = [
    "LEAST_OF_MINIS",
    "TunedStratum",
    "Untouched",
    "load_tuned",
    "prior_left_in_logits",
    "tuning_as_saved",
]

LEAST_OF_MINIS = 16
"""Least bottleneck of a mini by default. LIFT's rule is for large models: for 3 blocks and 60 classes it gives 8, which
loses 0.6 points on the built-in data (two seeds), and for ten classes 1."""

_DOWN = (".down.weight", ".lora_A.default.weight")  # rows: the bottleneck


class TunedStratum(nn.Module):
    """A stratum with a tuner in its image tower and a head on top.

    Parameters
    ----------
    stratum : Stratum
        Not changed: its parameters are shared, frozen, with the tuned tower.
    weight : Tensor
        Where the head starts, shape (n_classes, d).
    tuning : Tuning

    Attributes
    ----------
    tower : causalft.models.tuning.towers.Tower
    tuned : causalft.models.tuning.tuners.Tuned
        What is trained of the tower.
    head : torch.nn.Module
    precision : {"fp32", "bf16", "fp16", "int8"}
        In use.
    lowered : int
        Frozen layers that hold bf16 or int8 weights of their own.
    untouched : causalft.methods.estimators.gla.Untouched, optional
        GLA-FT: the model before tuning, whose debiased logits are added to every prediction (not in training).
    adapted : tuple of str
        Tensors of the tower that differ from the backbone after test-time adaptation
        (:mod:`causalft.methods.adaptation.at_test`); saved with what was tuned.
    """

    def __init__(self, stratum: Stratum, weight: Tensor, tuning: Tuning) -> None:
        super().__init__()
        self.stratum, self.view, self.lr = stratum, tuning.test_view, tuning.lr
        self.untouched: Untouched | None = None
        self.adapted: tuple[str, ...] = ()
        self.tower = open_tower(stratum.visual)
        least = 1 if stratum.zoo == "pretrained" else LEAST_OF_MINIS
        width = tuning.bottleneck or bottleneck_width(len(weight), len(self.tower.blocks), least)
        self.tuned = apply_tuner(self.tower, tuning.tuner, bottleneck=width, seed=tuning.seed)
        # The model as it is has its own temperature; what is trained takes the recipe's.
        as_it_is = not self.tuned.trains_head and stratum.has_text
        scale = stratum.logit_scale if as_it_is else tuning.head_scale
        self.head = make_head(tuning.head, weight, scale=scale, **tuning.head_settings)
        self.head.requires_grad_(self.tuned.trains_head)
        self.precision, self.lowered = settle_precision(self.tower, tuning.precision, stratum.device)
        self._embedding_is_frozen = not any(
            parameter.requires_grad and self.tower.reaches(name) == 0 and name.startswith("visual.")
            for name, parameter in self.tower.named_parameters()
        )
        self.eval().to(stratum.device)

    @property
    def n_tuned(self) -> int:
        """Trained numbers, those of the head included."""
        of_head = sum(p.numel() for p in self.head.parameters()) if self.tuned.trains_head else 0
        return self.tuned.n_parameters + of_head

    @property
    def cut(self) -> Callable[[Image.Image], np.ndarray]:
        """From an image to its crop: (s, s, 3), or (n_views, s, s, 3) with several."""
        return view_cut(self.stratum, self.view)

    def tokens(self, pictures: Tensor) -> Tensor:
        """The frozen prefix: what enters the first tuned block, shape (n, n_tokens, width) of a ViT.

        The images themselves where there is none: the embedding is tuned, or the tower runs as a whole (merged tokens).
        """
        if not self._embedding_is_frozen or self.tower.merged:
            return pictures
        with torch.no_grad(), autocast(self.stratum.device, self.precision):
            return self.tower.run(self.tower.embed(pictures), stop=self.tuned.first_tuned_block)

    def features(self, tokens: Tensor) -> Tensor:
        """B, the balanced representation: shape (n, d)."""
        with autocast(self.stratum.device, self.precision):
            start = self.tuned.first_tuned_block
            if not self._embedding_is_frozen or self.tower.merged:
                tokens, start = self.tower.embed(tokens), 0
            return self.tower.pool(self.tower.run(tokens, start=start)).float()

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits, shape (n, n_classes), from the tokens of the frozen prefix; the head computes in fp32."""
        features = self.features(tokens)
        with autocast(self.stratum.device, "fp32"):  # a training runs under autocast, a prediction does not
            return self.head(features)

    def predict(self, pictures: Tensor) -> Tensor:
        """Logits (n, n_classes) of normalised images, with GLA-FT the zero-shot ones added."""
        tuned = self(self.tokens(pictures))
        return tuned if self.untouched is None else tuned + self.untouched(pictures)

    def merge_tokens(self, r: int) -> None:
        """Merge tokens in every prediction from now on.

        Raises
        ------
        CausalFTError
            As :meth:`causalft.models.tuning.towers.Tower.merge_tokens`; the stratum is named.
        """
        try:
            for tower in [self.tower, *([] if self.untouched is None else [self.untouched.tower])]:
                tower.merge_tokens(r)
        except CausalFTError as error:
            raise CausalFTError(
                f"stratum {self.stratum.name!r}: {error}; leave --merge-tokens out"
            ) from error

    def logits_of(self, pixels: Tensor) -> Tensor:
        """Logits of uint8 images as :attr:`cut` gives them, mean over the views: (n, n_classes), float64."""
        with torch.inference_mode():
            flat = pixels.flatten(0, 1) if pixels.ndim == 5 else pixels
            found = self.predict(self.stratum.normalise(flat)).cpu().double()
            return found.unflatten(0, pixels.shape[:2]).mean(1) if pixels.ndim == 5 else found

    def logits(self, crops: Crops, batch_size: int = 256) -> np.ndarray:
        """Logits of a set of images, shape (n, n_classes), float32; large sets are streamed.

        Processes that work together (:func:`causalft.models.tuning.team.work_together`) share the images.

        Raises
        ------
        CausalFTError
            If one is not finite: the loss may be finite at the last step and the weights useless.
        """
        size = max(1, batch_size // n_views(self.view))

        def work(rows: Sequence[int]) -> Iterator[tuple[int, NDArray[np.float32]]]:
            for last, pixels in self._pictures(crops, rows, size):
                batch = self.logits_of(pixels)
                if not bool(batch.isfinite().all()):
                    raise CausalFTError(
                        f"stratum {self.stratum.name!r}: the logits are not finite, the training diverged; lower the "
                        f"learning rate (now {self.lr:g})"
                        + ("" if self.precision == "fp32" else " or train in fp32")
                    )
                yield last, batch.float().numpy()

        found = np.empty((len(crops), len(self.head.weight)), np.float32)  # type: ignore[arg-type]
        done = 0
        for batch in current_team().in_order(range(len(crops)), size, work):
            found[done : done + len(batch)] = batch
            done += len(batch)
        return found[:done]

    def _pictures(self, crops: Crops, rows: Sequence[int], size: int) -> Iterator[tuple[int, Tensor]]:
        """The last row, and the pixels, of each batch."""
        if self.view == "centre":
            for found, pixels in batches(crops, size, rows=rows):
                yield int(found[-1]), pixels
            return
        label = f"reading {several(rows, 'image', 'images')} for {self.stratum.name}"
        for places, (pixels,) in stream_crops(crops.images, [self.cut], size, rows=rows, label=label):
            yield int(places[-1]), pixels

    def save(self, folder: Path) -> None:
        """Write ``gla.safetensors`` (with GLA-FT), ``adapted.safetensors`` (after test-time adaptation),
        ``adapter.safetensors`` and, last, ``head.safetensors``; no backbone.
        """
        folder.mkdir(parents=True, exist_ok=True)
        if self.untouched is not None:
            self.untouched.save(folder)
        if self.adapted:
            whole = self.tower.state_dict()
            with atomic_path(folder / ADAPTED) as temporary:
                save_file({name: whole[name].cpu().contiguous() for name in self.adapted}, temporary)
        about = {
            "backbone": self.stratum.sha256,
            "tuner": self.tuned.spec,
            "bottleneck": str(self.tuned.bottleneck),
        }
        if self.adapted:
            about["adapted"] = ADAPTED
        with atomic_path(folder / ADAPTER) as temporary:
            save_file(self.tuned.state(), temporary, metadata=about)
            sort_metadata(temporary)
        head = {name: value.detach().cpu().contiguous() for name, value in self.head.state_dict().items()}
        with atomic_path(folder / HEAD) as temporary:
            save_file(head, temporary)

    def load(self, folder: Path) -> TunedStratum:
        """Read what :meth:`save` wrote; raises :class:`CausalFTError` for a missing, damaged or foreign file."""
        return self._take(folder, *_read(folder))

    def _take(
        self, folder: Path, adapters: dict[str, Tensor], head: dict[str, Tensor], about: dict[str, str]
    ) -> TunedStratum:
        """Take in what was read from ``folder``."""
        # Shapes alone do not tell one mini from another; the hash of the backbone does.
        if about.get("backbone") != self.stratum.sha256:
            raise CausalFTError(f"{folder}: these adapters belong to another model than {self.stratum!r}")
        try:
            self.tuned.load(adapters)
        except CausalFTError as error:
            raise CausalFTError(f"{folder}: {error}") from error
        expected = {name: value.shape for name, value in self.head.state_dict().items()}
        if {name: value.shape for name, value in head.items()} != expected:
            raise CausalFTError(
                f"{folder}: the head is not a {type(self.head).__name__} of {len(self.head.weight)} classes; "  # type: ignore[arg-type]
                "fit it again"
            )
        self.head.load_state_dict(head)
        if about.get("adapted"):
            self._take_adapted(folder)
        return self

    def _take_adapted(self, folder: Path) -> None:
        """Take in the tensors that a test-time adaptation changed."""
        try:
            values = load_file(folder / ADAPTED)
            take_tensors(self.tower, values)
        except (OSError, SafetensorError, CausalFTError) as error:
            raise CausalFTError(
                f"{folder / ADAPTED} cannot be read ({error}); adapt the run again"
            ) from error
        self.adapted = tuple(values)

    def move(self, device: torch.device, precision: str = "auto") -> None:
        """Move the stratum, and all that was tuned of it, to another device, and choose the precision anew.

        Raises
        ------
        CausalFTError
            If its layers hold bf16 or int8 weights laid out for this processor, or the device lacks the precision.
        """
        if self.lowered:
            raise CausalFTError(
                f"stratum {self.stratum.name!r} is rounded to {self.precision} for this processor; load it in fp32 to "
                "move it"
            )
        self.stratum.move(device)
        self.to(device)
        self.freeze(precision)
        if self.untouched is not None:
            self.untouched.move(device, precision)

    def freeze(self, precision: str) -> None:
        """End the training, and choose the precision anew.

        In int8 layers of the backbone that were trained are rounded too, and can no longer be saved; what a tuner
        added, such as adapters, stays in fp32.
        """
        if precision == "int8":
            for name, parameter in self.tower.named_parameters():
                parameter.requires_grad_(name in self.tuned.added)
        self.precision, self.lowered = settle_precision(self.tower, precision, self.stratum.device)
        self.requires_grad_(False)

    def trained_state(self) -> dict[str, Tensor]:
        """A copy of all that training changes, on the CPU: ``tower.NAME`` and ``head.NAME`` to tensor."""
        head = {
            f"head.{name}": value.detach().cpu().clone() for name, value in self.head.state_dict().items()
        }
        return {**{f"tower.{name}": value for name, value in self.tuned.state().items()}, **head}

    def load_trained_state(self, state: Mapping[str, Tensor]) -> None:
        """Take what :meth:`trained_state` gave, or a point between two of them."""
        parts: dict[str, dict[str, Tensor]] = {"tower": {}, "head": {}}
        for name, value in state.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = value
        self.tuned.load(parts["tower"])
        self.head.load_state_dict(parts["head"])


def load_tuned(
    stratum: Stratum,
    folder: Path,
    class_names: Sequence[str],
    tuning: Tuning,
    *,
    gla: bool = False,
    release: bool = False,
) -> TunedStratum:
    """Load a tuned stratum; no text and no image is encoded.

    ``release`` as in :func:`causalft.methods.adaptation.tune.tune`; ``gla`` for one saved with GLA-FT.
    """
    adapters, head, about = _read(folder)
    weight = head.get("weight")
    if weight is None or len(weight) != len(class_names):
        raise CausalFTError(f"{folder}: the head is not one of {len(class_names)} classes; fit it again")
    start = torch.ones_like(weight)  # of the right shape; the file's follows
    tuning = _with_width(tuning, adapters, about)
    tuned = TunedStratum(stratum, start, replace(tuning, precision="fp32"))
    tuned._take(folder, adapters, head, about).freeze(tuning.precision)
    if gla:
        tuned.untouched = Untouched.load(stratum, folder, len(class_names), tuning.precision)
    if release and tuned.lowered:
        stratum.release()
    return tuned


def tuning_as_saved(folder: Path, tuning: Tuning) -> Tuning:
    """Return the tuning with the bottleneck of the saved files, which stays if the default rule changes."""
    adapters, _, about = _read(folder)
    return _with_width(tuning, adapters, about)


def _with_width(tuning: Tuning, adapters: Mapping[str, Tensor], about: Mapping[str, str]) -> Tuning:
    if tuning.bottleneck is not None:
        return tuning
    if about.get("bottleneck", "").isdigit():
        return replace(tuning, bottleneck=int(about["bottleneck"]))
    width = next((len(value) for name, value in adapters.items() if name.endswith(_DOWN)), None)
    return replace(tuning, bottleneck=width)


def _read(folder: Path) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, str]]:
    try:
        adapters = load_file(folder / ADAPTER)
        with safe_open(folder / ADAPTER, framework="pt") as file:
            about = file.metadata() or {}
        head = load_file(folder / HEAD)
    except (OSError, SafetensorError) as error:
        raise CausalFTError(f"{folder}: the tuned stratum cannot be read ({error}); fit it again") from error
    # They may have been stored in half precision, to be shared.
    adapters, head = _widened(adapters), _widened(head)
    for file, tensors in ((ADAPTER, adapters), (HEAD, head)):
        _refuse_not_finite(folder / file, tensors)
    return adapters, head, about


def _refuse_not_finite(file: Path, tensors: Mapping[str, Tensor]) -> None:
    for name, value in tensors.items():
        if not value.isfinite().all():
            raise CausalFTError(f"{file}: {name} holds values that are not finite; fit it again")


def _widened(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}


class Untouched(nn.Module):
    """Zero-shot logits of a stratum plus a constant per class.

    Parameters
    ----------
    stratum : Stratum
        Not changed; its frozen weights are shared if the precision allows it.
    anchors : (n_classes, d) Tensor
        Class prototypes, times the inverse temperature.
    shift : (n_classes,) Tensor
        ``- log q``, and for GLA-FT ``- log P_S`` if that is in the tuned logits.
    precision : {"auto", "fp32", "bf16", "fp16", "int8"}
    """

    anchors: Tensor
    shift: Tensor

    def __init__(self, stratum: Stratum, anchors: Tensor, shift: Tensor, precision: str = "auto") -> None:
        super().__init__()
        self._device = stratum.device
        self.tower, self._precision = open_frozen(stratum, precision)
        self.register_buffer("anchors", anchors.float())
        self.register_buffer("shift", shift.float())
        self.eval().requires_grad_(False).to(stratum.device)

    def move(self, device: torch.device, precision: str = "auto") -> None:
        """Move to another device; as :meth:`TunedStratum.move`."""
        self._device = device
        self.to(device)
        self._precision, _ = settle_precision(self.tower, precision, device)

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits (n, n_classes) of normalised images."""
        with autocast(self._device, self._precision):
            features = self.tower(pictures)
        return F.normalize(features.float(), dim=-1) @ self.anchors.T + self.shift

    def save(self, folder: Path) -> None:
        """Write ``gla.safetensors``; the backbone is not saved."""
        with atomic_path(folder / GLA) as temporary:
            save_file({"anchors": self.anchors.cpu(), "shift": self.shift.cpu()}, temporary)

    @classmethod
    def load(cls, stratum: Stratum, folder: Path, n_classes: int, precision: str = "auto") -> Untouched:
        """Read what :meth:`save` wrote.

        Raises
        ------
        CausalFTError
            If the file is missing, damaged, or of other classes.
        """
        try:
            found = load_file(folder / GLA)
            anchors, shift = found["anchors"], found["shift"]
        except (OSError, SafetensorError, KeyError) as error:
            raise CausalFTError(f"{folder / GLA} cannot be read ({error}); fit the stratum again") from error
        if anchors.ndim != 2 or len(anchors) != n_classes or shift.shape != (n_classes,):
            raise CausalFTError(f"{folder / GLA} is not of {n_classes} classes; fit the stratum again")
        return cls(stratum, anchors, shift, precision)


def prior_left_in_logits(tuning: Tuning, class_counts: ArrayLike) -> NDArray[np.float64] | None:
    """Return the class prior still present in tuned logits, (K,): that of the sampler. None if the loss removes it.

    Raises
    ------
    CausalFTError
        As :func:`check_gla`.

    Examples
    --------
    >>> prior_left_in_logits(Tuning(loss="CE"), [90, 10]).tolist(), prior_left_in_logits(Tuning(loss="LA"), [90, 10])
    ([0.9, 0.1], None)
    """
    check_gla(tuning)
    if optimum_of(tuning.loss) == "balanced posterior":
        return None
    shown = expected_counts(tuning.sampler, class_counts)
    return shown / shown.sum()
