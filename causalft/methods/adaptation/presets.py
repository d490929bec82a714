"""Presets: published recipes of tuning, by name; one record each. Imports no PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from causalft.methods.adaptation.settings import Tuning
from causalft.runs.records import Records

__all__ = ["PRESETS", "Preset", "advice", "preset"]


@dataclass(frozen=True)
class Preset:
    """A named recipe.

    Attributes
    ----------
    name, help : str
    values : mapping of str to Any
        Settings of :class:`~causalft.methods.adaptation.settings.Tuning`; the others keep their defaults.
    many_classes : int, optional
        On sets of at least so many classes the recipe asks for other values.
    then : mapping of str to Any
        Those values.
    source : str
    """

    name: str
    help: str
    values: Mapping[str, Any]
    many_classes: int | None = None
    then: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""


PRESETS = Records("causalft.methods.adaptation.presets", Preset, "preset")

LIFT = Preset(
    name="lift",
    help="the recipe that the paper builds on",
    values={
        "loss": "LA",
        "lr": 0.01,
        "epochs": 10,
        "batch_size": 128,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "tuner": "adaptformer-scaled",
        "bottleneck": None,
        "head": "cosine",
        "head_scale": 25.0,
        "head_start": "text",
        "template": "a photo of a {}.",
        "augmentation": "wide-crop-flip",
        "test_view": "zoomed-centre",
    },
    many_classes=8142,
    then={"epochs": 20},
    source="Shi et al., ICML 2024",
)
LIFT_PLUS = Preset(
    name="lift+",
    help="half as many epochs at twice the learning rate, and one square crop that grows",
    values={
        "loss": "LA",
        "lr": 0.02,
        "epochs": 5,
        "batch_size": 128,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "tuner": "adaptformer-scaled",
        "bottleneck": None,
        "head": "cosine",
        "head_scale": 25.0,
        "head_start": "text",
        "template": "a photo of a {}.",
        "augmentation": "growing-crop",
        "test_view": "zoomed-centre",
    },
    many_classes=8142,
    then={"epochs": 15},
    source="Shi et al., 2025",
)


def preset(name: str, n_classes: int | None = None) -> Tuning:
    """Return the tuning of a preset.

    Parameters
    ----------
    name : str
        A name of :data:`PRESETS`.
    n_classes : int, optional
        Classes of the data; with 8,142 or more (iNaturalist 2018) both presets train longer.

    Raises
    ------
    CausalFTError
        For an unknown name; the nearest is offered.

    Examples
    --------
    >>> preset("lift+").lr, preset("lift+").epochs, preset("lift+", n_classes=8142).epochs
    (0.02, 5, 15)
    """
    record = PRESETS.get_or_refuse(name)
    many = n_classes is not None and record.many_classes is not None and n_classes >= record.many_classes
    return Tuning(**{**record.values, **(record.then if many else {})})


def advice(name: str | None, tuning: Tuning, n_classes: int) -> str | None:
    """Return what a preset asks for on so many classes where ``tuning`` has the usual value, else None.

    Examples
    --------
    >>> advice("lift+", preset("lift+"), 8142)
    'lift+ asks for --epochs 15 on 8,142 classes or more; this run has 5'
    """
    if name is None:
        return None
    record, wanted = PRESETS.get_or_refuse(name), preset(name, n_classes)
    for each in record.then:
        value, usual = getattr(wanted, each), getattr(tuning, each)
        if value != usual and usual == record.values[each]:
            option = f"--{each.replace('_', '-')}"
            return f"{name} asks for {option} {value} on {record.many_classes:,} classes or more; this run has {usual}"
    return None
