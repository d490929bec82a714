"""A tuned stratum that adapts to each batch before it predicts it, and falls back if its predictions collapse."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from causalft.errors import CausalFTError
from causalft.methods.adaptation.at_test import AT_TEST, LEAST_BATCH, AtTest
from causalft.methods.adaptation.at_test.guard import Collapse, CollapseGuard
from causalft.methods.adaptation.at_test.norms import mixed_statistics, own_tensors
from causalft.methods.adaptation.at_test.objectives import Objective
from causalft.methods.adaptation.tuned import TunedStratum
from causalft.models.strata.stratum import Stratum
from causalft.models.tuning.devices import autocast

__all__ = ["AdaptingStratum", "adapt_batch", "check_adapts"]


def check_adapts(tuned: TunedStratum, method: AtTest) -> list[str]:
    """Return the modules of a stratum's tower that a method changes.

    Raises
    ------
    CausalFTError
        If the stratum has no text tower, or its tower no such module.
    """
    stratum, places = tuned.stratum, method.places(tuned.tower)
    if not stratum.has_text:
        raise CausalFTError(
            f"stratum {stratum.name!r} has no text tower, and test-time adaptation is for CLIP models; predict without "
            "--adapt, or fit strata with a text tower"
        )
    if not places:
        others = [name for name, other in AT_TEST.items() if other.places(tuned.tower)]
        way_out = f"use --adapt {' or '.join(others)}" if others else "predict without --adapt"
        raise CausalFTError(
            f"--adapt {method.name} changes {method.changes}, and the tower of stratum {stratum.name!r} "
            f"({tuned.tower.kind}) has none; {way_out}"
        )
    return places


def adapt_batch(
    forward: Callable[[Tensor], Tensor],
    pixels: Tensor,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    steps: int,
    start: Mapping[Tensor, Tensor] | None = None,
    reach: float = float("inf"),
) -> bool:
    """Take steps on the loss of a batch, plus that of as many remembered images.

    Parameters
    ----------
    forward : callable
        Pixels (n, ...) to logits (n, K), with a gradient for what the optimizer holds.
    pixels : (n, ...) Tensor
    objective : Objective
        Asked for remembered images before each step.
    optimizer : torch.optim.Optimizer
    steps : int
    start : mapping of Tensor to Tensor, optional
        What is trained, and the values that it started from.
    reach : float
        No value gets further away from its start; it is put back onto the bound after each step.

    Returns
    -------
    bool
        False if a loss was not finite; its step is not taken.
    """
    for _ in range(steps):
        recalled = objective.recall(len(pixels))
        loss = objective.loss(forward(pixels))
        if recalled is not None:
            loss = loss + objective.loss(forward(recalled))
        if not bool(loss.isfinite()):
            return False
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for parameter, value in (start or {}).items():
                parameter.clamp_(value - reach, value + reach)
    return True


class AdaptingStratum:
    """A tuned stratum that adapts to a stream.

    It takes the place of the :class:`~causalft.methods.adaptation.tuned.TunedStratum` in
    :func:`causalft.methods.estimators.fitted.predict_stream`. The batches must come in the order of the stream.

    Parameters
    ----------
    tuned : TunedStratum
        Its norms get tensors of their own, which adapt; :meth:`reset` gives them back their values. The model that it
        was opened from is not changed.
    method : AtTest
    class_names : sequence of K str

    Attributes
    ----------
    seen : int
        Images so far.
    batches : int
        Batches adapted to.
    changed : int
        Images whose predicted class differs from that of the unadapted model.
    stopped : Collapse, optional
        Why it fell back to the unadapted model.
    first, last : int, optional
        Images ``first <= i < last`` of the stream were predicted by the adapted model; ``last`` is None while it goes
        on, ``first`` until it has adapted.

    Raises
    ------
    CausalFTError
        As :func:`check_adapts`.
    """

    def __init__(self, tuned: TunedStratum, method: AtTest, class_names: Sequence[str]) -> None:
        self.tuned, self.method, self.class_names = tuned, method, list(class_names)
        self._places = check_adapts(tuned, method)
        if tuned.precision == "fp16":  # small gradients would vanish
            tuned.precision = "fp32"
        tuned.requires_grad_(False)
        self._own = own_tensors(tuned.tower, self._places)
        self._start = {name: tensor.detach().clone() for name, tensor in self._own.items()}
        self._modules = [tuned.tower.get_submodule(place) for place in self._places]
        self._begin()

    def _begin(self) -> None:
        self.seen = self.batches = self.changed = 0
        self.stopped: Collapse | None = None
        self.first: int | None = None
        self.last: int | None = None
        self._guard = CollapseGuard(len(self.class_names))
        self._objective: Objective | None = None
        if self.method.objective is not None:
            self._objective = self.method.objective(len(self.class_names))
            trained = [each for each in self._own.values() if isinstance(each, torch.nn.Parameter)]
            for parameter in trained:
                parameter.requires_grad_().grad = None
            self._optimizer = torch.optim.Adam(trained, lr=self.method.lr)
        else:
            self._mean = {name: torch.zeros_like(tensor) for name, tensor in self._start.items()}

    @property
    def stratum(self) -> Stratum:
        """The stratum."""
        return self.tuned.stratum

    @property
    def view(self) -> str:
        """The test-time view."""
        return self.tuned.view

    @property
    def cut(self) -> Callable[[Image.Image], np.ndarray]:
        """From an image to its crops."""
        return self.tuned.cut

    @property
    def ratio(self) -> float:
        """Effective number of predicted classes by that of the unadapted model, in the last images."""
        return self._guard.ratio

    def move(self, device: torch.device, precision: str = "auto") -> None:
        """Refused: what adapts stays in one process."""
        raise CausalFTError("a stratum that adapts stays in one process; leave --engine ray out")

    def reset(self) -> None:
        """Forget the stream: the stratum is as it was before it adapted."""
        self._put(self._start)
        self._begin()

    def logits_of(self, pixels: Tensor) -> Tensor:
        """Adapt to a batch, and return its logits (n, K), float64.

        Parameters
        ----------
        pixels : (n, s, s, 3) or (n, n_views, s, s, 3) Tensor of uint8
            The next images of the stream.
        """
        at = self.seen
        self.seen += len(pixels)
        if self.stopped is not None or len(pixels) < LEAST_BATCH:
            return self.tuned.logits_of(pixels)
        with self._unadapted():
            before = self.tuned.logits_of(pixels)
        after = self._adapted_logits(pixels)
        if after is None or not bool(after.isfinite().all()):
            return self._fall_back(at, Collapse(None), before)
        now, then = after.argmax(dim=1), before.argmax(dim=1)
        collapse = self._guard.update(now.numpy(), then.numpy())
        if collapse is not None:
            return self._fall_back(at, collapse, before)
        if self._objective is not None:
            self._objective.remember(pixels, after)
        self.batches += 1
        self.changed += int((now != then).sum())
        self.first = at if self.first is None else self.first
        return after

    def finish(self) -> TunedStratum:
        """Return the tuned stratum as it has adapted; it is saved with what changed.

        One that has not adapted, or has fallen back, is as it was.
        """
        self.tuned.requires_grad_(False)
        if self.batches and self.stopped is None:
            self.tuned.adapted = tuple(self._own)
        return self.tuned

    def _adapted_logits(self, pixels: Tensor) -> Tensor | None:
        """Logits after the steps on this batch; None if a loss was not finite."""
        if self._objective is None:
            return self._by_statistics(pixels)
        method = self.method
        bounds = {self._own[name]: value for name, value in self._start.items()}
        if not adapt_batch(
            self._forward, pixels, self._objective, self._optimizer, method.steps, bounds, method.reach
        ):
            return None
        return self.tuned.logits_of(pixels)

    def _by_statistics(self, pixels: Tensor) -> Tensor:
        """Logits by BatchNorms that mix the statistics of the batch with the stored ones; their mean stays behind."""
        self._put(self._start)
        with mixed_statistics(self._modules, len(pixels), self.method.stored_images):
            logits = self.tuned.logits_of(pixels)
        with torch.no_grad():
            for name, tensor in self._own.items():
                if tensor.is_floating_point():
                    self._mean[name] += (tensor - self._mean[name]) / (self.batches + 1)
                    tensor.copy_(self._mean[name])
        return logits

    def _forward(self, pixels: Tensor) -> Tensor:
        """Logits (n, K) with a gradient for the norms."""
        tuned = self.tuned
        images = tuned.stratum.normalise(pixels.flatten(0, 1) if pixels.ndim == 5 else pixels)
        with autocast(tuned.stratum.device, tuned.precision):
            features = tuned.tower(images).float()
        with autocast(tuned.stratum.device, "fp32"):
            logits = tuned.head(features)
        if tuned.untouched is not None:
            with torch.no_grad():
                shift = tuned.untouched(images)
            logits = logits + shift
        return logits.unflatten(0, pixels.shape[:2]).mean(1) if pixels.ndim == 5 else logits

    def _fall_back(self, at: int, collapse: Collapse, logits: Tensor) -> Tensor:
        self.stopped, self.last = collapse, at
        self._put(self._start)
        return logits

    def _put(self, values: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, tensor in self._own.items():
                tensor.copy_(values[name])

    @contextmanager
    def _unadapted(self) -> Iterator[None]:
        now = {name: tensor.detach().clone() for name, tensor in self._own.items()}
        self._put(self._start)
        try:
            yield
        finally:
            self._put(now)
