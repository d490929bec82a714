"""Tuned tensors in half precision, and the resulting change of predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from causalft.data.image_set import ImageSet
from causalft.errors import CausalFTError
from causalft.methods.estimators.run_documents import STORED, joined, tuned_files
from causalft.methods.estimators.settings import FitSettings
from causalft.methods.estimators.strata import StrataClassifier
from causalft.pipelines.workflows.fit_data import load_splits
from causalft.runs.files import sorted_metadata
from causalft.runs.folder import Run

__all__ = [
    "HalfChange",
    "Halved",
    "half_change",
    "half_file",
    "half_files",
    "half_tensor",
    "halve",
]


@dataclass(frozen=True, repr=False)
class HalfChange:
    """Change of the predictions of a run by half precision.

    Attributes
    ----------
    n : int
        Number of images.
    fused : float
        Largest change of a fused probability.
    strata : dict of str to float
        The same per stratum.
    labels : int
        Images whose fused prediction changes.
    """

    n: int
    fused: float
    strata: dict[str, float]
    labels: int

    def __repr__(self) -> str:
        return f"HalfChange({self.sentence()})"

    def sentence(self) -> str:
        """Describe the change in a sentence."""
        images = "image" if self.n == 1 else "images"
        return (
            f"a fused probability changes by at most {self.fused:.2g} and the predicted class of {self.labels} of "
            f"{self.n} test {images}"
        )


@dataclass(frozen=True)
class Halved:
    """A run in half precision, for :func:`causalft.pipelines.hub.layout.layout`.

    Attributes
    ----------
    files : dict of path to bytes
        From :func:`half_files`.
    kinds : str
        Precision of the tensors.
    change : HalfChange, optional
        Change of test predictions; None if it cannot be measured here.
    why_not : str
        The reason.
    """

    files: dict[Path, bytes]
    kinds: str
    change: HalfChange | None
    why_not: str = ""

    def sentence(self) -> str:
        """Describe the precision and the change in a sentence."""
        measured = "what that changes was not measured" if self.change is None else self.change.sentence()
        return f"{self.kinds}, and used in float32: {measured}"

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON document."""
        measured = {"not_measured": self.why_not} if self.change is None else {"change": asdict(self.change)}
        return {"stored": self.kinds, **measured}


def halve(run: Run) -> Halved:
    """Return the tuned files of a ``fit`` run in half precision, and the change if its images are here.

    Raises
    ------
    CausalFTError
        As :func:`half_file`.
    """
    files, kinds = half_files(run)
    try:
        settings = FitSettings.from_config(run.config)
        test = load_splits(settings, settings.seed).test
        if test.fingerprint != run.config["data_fingerprint"][2]:
            return Halved(files, kinds, None, f"{settings.data} has changed since the fit")
        return Halved(files, kinds, half_change(run, test))
    except CausalFTError as error:  # without images or backbone, the run can be sent all the same
        return Halved(files, kinds, None, str(error))


def half_tensor(value: Tensor) -> Tensor:
    """Return a tensor in float16, or bfloat16 if a value is too large; integers are unchanged.

    Examples
    --------
    >>> half_tensor(torch.tensor([1.0])).dtype, half_tensor(torch.tensor([1e6])).dtype
    (torch.float16, torch.bfloat16)
    """
    if not value.is_floating_point():
        return value
    fits = value.abs().max() <= torch.finfo(torch.float16).max if value.numel() else True
    return value.to(torch.float16 if fits else torch.bfloat16)


def half_file(path: Path) -> bytes:
    """Return a safetensors file with floating-point tensors in half precision, as its metadata says.

    Raises
    ------
    CausalFTError
        If the file is unreadable or holds a non-finite number.
    """
    return _half_file(path)[0]


def half_files(run: Run) -> tuple[dict[Path, bytes], str]:
    """Return every tuned file of a run in half precision, and the precision used.

    Returns
    -------
    (dict of path in the run to content, str)
        The precision: ``"float16"``, ``"bfloat16"`` or ``"float16 and bfloat16"``.

    Raises
    ------
    CausalFTError
        As :func:`half_file`.
    """
    found = {path: _half_file(path) for path in tuned_files(run)}
    return {path: content for path, (content, _) in found.items()}, joined(k for _, k in found.values())


def half_change(
    run: Run, images: ImageSet, *, n_images: int = 1000, device: str = "auto", progress: bool | None = None
) -> HalfChange:
    """Compare predictions of a run with and without half precision.

    Parameters
    ----------
    run : Run
        A complete ``fit`` run whose backbones are here.
    images : ImageSet
        Its test images; at most ``n_images`` evenly spaced ones are used.
    n_images : int
    device : str
    progress : bool, optional

    Raises
    ------
    CausalFTError
        If the run cannot be loaded or an image cannot be read.
    """
    rows = np.unique(np.linspace(0, len(images) - 1, min(n_images, len(images))).round().astype(np.int64))
    shown = images.subset(rows)
    model = StrataClassifier.load(run.path, device=device, progress=progress)
    strata = model.stratum_proba(shown)
    fused = model.fuse_proba(strata)
    with torch.no_grad():
        for member in model.members_.values():
            of_head = [*member.head.parameters(), *member.head.buffers()]
            stored: list[Tensor] = [*member.tuned.parameters(), *of_head]
            if member.untouched is not None:  # its tower is the backbone, not stored
                stored += [member.untouched.anchors, member.untouched.shift]
            for tensor in stored:
                tensor.copy_(half_tensor(tensor))
    strata_then = model.stratum_proba(shown)
    fused_then = model.fuse_proba(strata_then)
    change = np.abs(strata_then - strata).max(axis=(1, 2))
    return HalfChange(
        n=len(shown),
        fused=float(np.abs(fused_then - fused).max()),
        strata={name: float(value) for name, value in zip(model.members_, change, strict=True)},
        labels=int((fused_then.argmax(1) != fused.argmax(1)).sum()),
    )


def _half_file(path: Path) -> tuple[bytes, str]:
    """Return the file in half precision, and the precision used."""
    try:
        with safe_open(path, framework="pt") as file:
            about = dict(file.metadata() or {})
            names = list(file.keys())
            tensors = {name: half_tensor(file.get_tensor(name)).contiguous() for name in names}
    except (OSError, SafetensorError) as error:
        raise CausalFTError(f"{path} cannot be read ({error}); fit the stratum again") from error
    for name, value in tensors.items():
        if not torch.isfinite(value).all():
            raise CausalFTError(f"{path}: {name} holds a number that is not finite; fit the stratum again")
    stored = _kinds(tensors)
    return sorted_metadata(save(tensors, {**about, STORED: stored})), stored


def _kinds(tensors: Mapping[str, Tensor]) -> str:
    """``float16``, ``bfloat16``, both, or empty without tensors."""
    found = {str(v.dtype).removeprefix("torch.") for v in tensors.values() if v.is_floating_point()}
    return " and ".join(sorted(found, reverse=True))
