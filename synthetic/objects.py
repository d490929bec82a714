"""Draws the twelve close-ups of the A/B experiment (six classes, two parts each) in batches.

An image is a function of its class, of the part that dominates it (the semantic factor C), and of a vector of nuisance
numbers in [0, 1] (U: pose, scale, colour, background, light, clutter, occlusion, grain).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from causalft.errors import CausalFTError
from synthetic.pen import Pen

__all__ = ["CLASSES", "PARTS", "NUISANCE", "N_NUISANCE", "Paint", "render"]

NUISANCE = (
    "angle",
    "scale",
    "shift_x",
    "shift_y",
    "flip",
    "main",
    "second",
    "shade",
    "warm",
    "cool",
    "aspect",
    "sky_1",
    "sky_2",
    "sky_3",
    "ground_1",
    "ground_2",
    "ground_3",
    "slope",
    "blob_x",
    "blob_y",
    "blob_size",
    "blob_hue",
    "light",
    "light_turn",
    "gain",
    "contrast",
    "occluder",
    "occluder_side",
    "occluder_hue",
    "grain",
    "grain_x",
    "grain_y",
)
"""Names of the nuisance numbers, in the order of their columns."""
N_NUISANCE = len(NUISANCE)

# One list of colours for all classes: colour does not predict the class.
_COATS = torch.tensor(
    [
        [0.93, 0.92, 0.90],
        [0.66, 0.67, 0.69],
        [0.30, 0.30, 0.33],
        [0.44, 0.29, 0.19],
        [0.78, 0.45, 0.18],
        [0.80, 0.66, 0.46],
        [0.93, 0.84, 0.62],
        [0.38, 0.48, 0.62],
        [0.66, 0.22, 0.19],
        [0.45, 0.50, 0.33],
    ]
)
_GRAIN = torch.from_numpy(np.random.default_rng(7).standard_normal((251, 251)).astype(np.float32))
_INK = (0.07, 0.07, 0.09)
_GLASS = (0.30, 0.45, 0.60)
_RUBBER = (0.10, 0.10, 0.11)
_STEEL = (0.74, 0.75, 0.77)
_LAMP = (1.0, 0.96, 0.70)
_RED = (0.88, 0.08, 0.07)
_PINK = (0.92, 0.58, 0.58)
_BEAK = (0.95, 0.66, 0.12)


@dataclass(frozen=True)
class Paint:
    """Colours of a batch of objects, each of shape (n, 3, 1, 1)."""

    main: Tensor
    dark: Tensor
    light: Tensor
    second: Tensor


def _airplane_cockpit(p: Pen, c: Paint) -> None:
    p.box(-0.75, 0.05, 0.95, 0.42, c.main)
    p.ellipse(0.18, 0.05, 0.68, 0.42, c.main)
    p.polygon([(-1.7, 0.24), (0.66, 0.24), (0.45, 0.37), (0.15, 0.47), (-1.7, 0.47)], c.dark)
    p.box(-0.75, 0.12, 0.98, 0.035, c.second)
    p.polygon([(0.22, -0.32), (0.44, -0.25), (0.48, -0.07), (0.22, -0.07)], _INK)
    p.polygon([(0.50, -0.23), (0.66, -0.10), (0.64, -0.05), (0.53, -0.07)], _INK)
    p.polygon([(0.02, -0.31), (0.17, -0.32), (0.17, -0.07), (0.02, -0.07)], _INK)
    for x in (-0.95, -0.73, -0.51):
        p.ellipse(x, -0.06, 0.06, 0.085, _GLASS)
    p.box(-0.22, 0.0, 0.11, 0.25, c.dark, corner=0.05)
    p.box(-0.22, 0.0, 0.08, 0.22, c.light, corner=0.04)
    p.stroke(0.0, 0.45, 0.0, 0.72, 0.06, _STEEL)
    p.ellipse(0.0, 0.76, 0.13, 0.13, _RUBBER)


def _airplane_tail(p: Pen, c: Paint) -> None:
    p.polygon([(-1.7, -0.02), (0.2, 0.0), (0.85, 0.14), (0.85, 0.2), (0.1, 0.5), (-1.7, 0.62)], c.main)
    p.polygon([(-1.7, 0.42), (0.35, 0.35), (0.1, 0.5), (-1.7, 0.62)], c.dark)
    p.polygon([(-0.52, 0.04), (0.26, -0.92), (0.70, -0.92), (0.60, 0.08)], c.second)
    p.polygon([(-0.86, 0.02), (-0.2, -0.16), (0.0, 0.03)], c.second)
    p.stroke(0.40, -0.80, 0.36, 0.0, 0.03, c.dark)
    p.ellipse(0.22, -0.38, 0.13, 0.13, c.light)
    p.polygon([(-0.12, 0.22), (0.22, 0.2), (0.92, 0.42), (0.92, 0.52), (0.62, 0.5)], c.light)
    p.polygon([(0.92, 0.52), (0.84, 0.18), (0.94, 0.18), (0.98, 0.50)], c.second)
    for x in (-0.98, -0.78, -0.58):
        p.ellipse(x, 0.17, 0.05, 0.07, _GLASS)


def _car_shell(p: Pen, c: Paint, roof: float) -> None:
    for x in (-0.62, 0.62):
        p.box(x, 0.62, 0.15, 0.26, _RUBBER, corner=0.06)
    p.polygon([(-0.50, roof), (0.50, roof), (0.72, 0.02), (-0.72, 0.02)], c.main, grow=0.06)


def _automobile_front(p: Pen, c: Paint) -> None:
    _car_shell(p, c, -0.55)
    p.polygon([(-0.45, -0.50), (0.45, -0.50), (0.62, -0.05), (-0.62, -0.05)], _GLASS)
    p.polygon([(-0.1, -0.50), (0.12, -0.50), (-0.18, -0.05), (-0.46, -0.05)], (0.62, 0.74, 0.84))
    for x in (-0.86, 0.86):
        p.ellipse(x, -0.06, 0.12, 0.08, c.dark)
    p.box(0.0, 0.32, 0.86, 0.36, c.main, corner=0.2)
    p.polygon([(-0.62, 0.0), (0.62, 0.0), (0.46, 0.14), (-0.46, 0.14)], c.light)
    p.box(0.0, 0.30, 0.36, 0.12, _INK, corner=0.05)
    for y in (0.25, 0.35):
        p.box(0.0, y, 0.34, 0.018, _STEEL)
    for x in (-0.61, 0.61):
        p.ellipse(x, 0.24, 0.19, 0.15, _STEEL)
        p.ellipse(x, 0.24, 0.15, 0.11, _LAMP)
    p.box(0.0, 0.56, 0.84, 0.08, c.dark, corner=0.06)
    p.box(0.0, 0.56, 0.20, 0.06, (0.95, 0.95, 0.92))


def _automobile_rear(p: Pen, c: Paint) -> None:
    _car_shell(p, c, -0.58)
    p.polygon([(-0.40, -0.50), (0.40, -0.50), (0.52, -0.16), (-0.52, -0.16)], (0.14, 0.17, 0.22))
    p.stroke(-0.02, -0.18, 0.24, -0.36, 0.03, _STEEL)
    p.box(0.0, 0.24, 0.88, 0.40, c.main, corner=0.14)
    p.box(0.0, -0.08, 0.72, 0.045, c.dark)
    for x in (-0.70, 0.70):
        p.box(x, 0.10, 0.17, 0.15, _RED, corner=0.05)
        p.box(x, 0.17, 0.15, 0.035, (1.0, 0.72, 0.35))
    p.box(0.0, 0.12, 0.25, 0.10, (0.95, 0.95, 0.92))
    p.box(0.0, 0.12, 0.17, 0.04, c.dark)
    p.box(0.0, 0.34, 0.80, 0.02, c.dark)
    p.box(0.0, 0.53, 0.86, 0.10, c.dark, corner=0.06)
    for x in (-0.42, 0.42):
        p.ellipse(x, 0.66, 0.11, 0.07, _STEEL)
        p.ellipse(x, 0.66, 0.07, 0.04, _INK)


def _bird_head(p: Pen, c: Paint) -> None:
    p.polygon([(-0.62, -0.1), (0.22, 0.1), (0.42, 1.7), (-0.98, 1.7)], c.main, grow=0.06)
    p.polygon([(0.36, -0.22), (1.0, 0.06), (0.36, 0.12)], _BEAK)
    p.polygon([(0.36, 0.07), (0.86, 0.10), (0.36, 0.24)], (0.78, 0.46, 0.08))
    p.ellipse(-0.08, -0.1, 0.56, 0.50, c.main)
    p.polygon([(-0.42, -0.42), (-0.80, -0.86), (-0.05, -0.56)], c.second)
    p.ellipse(-0.16, -0.34, 0.40, 0.23, c.second)
    p.ellipse(0.06, 0.20, 0.34, 0.17, c.light)
    p.ellipse(0.12, -0.14, 0.15, 0.15, (0.97, 0.95, 0.86))
    p.ellipse(0.14, -0.14, 0.095, 0.095, _INK)
    p.ellipse(0.17, -0.18, 0.03, 0.03, (1.0, 1.0, 1.0))


def _bird_body(p: Pen, c: Paint) -> None:
    for x in (-0.02, 0.24):
        p.stroke(x, 0.40, x + 0.04, 0.84, 0.06, _BEAK)
        p.stroke(x - 0.10, 0.86, x + 0.18, 0.86, 0.06, _BEAK)
    p.polygon([(-0.40, -0.02), (-1.06, 0.26), (-1.12, 0.42), (-0.98, 0.50), (-0.30, 0.32)], c.second)
    p.stroke(-0.52, 0.18, -1.04, 0.36, 0.03, c.dark)
    p.ellipse(0.08, 0.06, 0.66, 0.46, c.main, turn=-0.35)
    p.polygon([(0.22, -0.30), (0.50, -1.5), (1.02, -1.5), (0.74, 0.0)], c.main)
    p.ellipse(0.36, 0.12, 0.34, 0.30, c.light, turn=-0.5)
    p.polygon([(0.30, -0.20), (0.16, 0.22), (-0.86, 0.30), (-0.30, -0.12)], c.second, grow=0.05)
    for k in range(3):
        p.stroke(0.14 - 0.14 * k, 0.02 + 0.03 * k, -0.28 - 0.14 * k, 0.24 + 0.02 * k, 0.035, c.dark)


def _cat_head(p: Pen, c: Paint) -> None:
    for s in (-1.0, 1.0):
        p.polygon([(s * 0.68, -0.92), (s * 0.70, 0.0), (s * 0.05, -0.42)], c.main, grow=0.03)
        p.polygon([(s * 0.60, -0.72), (s * 0.60, -0.30), (s * 0.28, -0.44)], _PINK)
    p.ellipse(0.0, 0.12, 0.78, 0.64, c.main)
    for x in (-0.17, 0.0, 0.17):
        p.stroke(x, -0.46, x * 0.8, -0.24, 0.06, c.dark)
    for s in (-1.0, 1.0):
        p.ellipse(s * 0.34, 0.02, 0.18, 0.15, (0.72, 0.82, 0.25), turn=s * 0.25)
        p.ellipse(s * 0.34, 0.02, 0.05, 0.14, _INK)
        p.ellipse(s * 0.14, 0.42, 0.19, 0.15, c.light)
    p.polygon([(-0.10, 0.24), (0.10, 0.24), (0.0, 0.36)], (0.85, 0.40, 0.42), grow=0.015)
    for s in (-1.0, 1.0):
        p.stroke(0.0, 0.38, s * 0.12, 0.50, 0.035, _INK)
        for y, end in ((0.34, 0.22), (0.42, 0.44), (0.50, 0.66)):
            p.stroke(s * 0.30, y, s * 0.98, end, 0.025, (0.97, 0.97, 0.97))


def _cat_body(p: Pen, c: Paint) -> None:
    # sitting, in profile: haunch, straight front legs, tail curled up behind, the neck leaving the frame
    p.stroke(-0.45, 0.80, -0.86, 0.76, 0.17, c.main)
    p.stroke(-0.86, 0.76, -1.0, 0.44, 0.16, c.main)
    p.stroke(-1.0, 0.44, -0.84, 0.16, 0.15, c.dark)
    p.stroke(0.24, 0.10, 0.28, 0.84, 0.17, c.dark)
    p.polygon(
        [
            (-0.58, 0.36),
            (-0.40, -0.08),
            (0.10, -0.62),
            (0.20, -1.5),
            (0.76, -1.5),
            (0.60, -0.3),
            (0.46, 0.40),
        ],
        c.main,
        grow=0.03,
    )
    p.ellipse(-0.20, 0.46, 0.44, 0.41, c.main)
    p.ellipse(0.44, -0.14, 0.15, 0.34, c.light, turn=0.15)
    p.stroke(0.42, 0.10, 0.46, 0.82, 0.18, c.main)
    p.ellipse(0.52, 0.86, 0.15, 0.08, c.light)
    p.ellipse(0.02, 0.86, 0.24, 0.09, c.light)
    for x, y in ((0.06, -0.50), (-0.12, -0.31), (-0.30, -0.12), (-0.46, 0.12)):
        p.stroke(x, y, x + 0.24, y + 0.14, 0.085, c.dark)
    p.stroke(-0.46, 0.42, -0.14, 0.36, 0.08, c.dark)
    p.stroke(-0.44, 0.62, -0.12, 0.56, 0.08, c.dark)


def _dog_head(p: Pen, c: Paint) -> None:
    p.ellipse(0.0, -0.10, 0.60, 0.58, c.main)
    p.ellipse(0.0, 0.34, 0.46, 0.44, c.light)
    p.box(0.0, -0.34, 0.10, 0.36, c.light, corner=0.09)
    p.ellipse(0.0, 0.76, 0.15, 0.20, _PINK)
    for s in (-1.0, 1.0):
        p.ellipse(s * 0.66, -0.02, 0.21, 0.54, c.second, turn=s * -0.22)
        p.ellipse(s * 0.27, -0.16, 0.13, 0.13, (0.97, 0.96, 0.92))
        p.ellipse(s * 0.26, -0.15, 0.095, 0.095, (0.20, 0.10, 0.05))
        p.stroke(0.0, 0.50, s * 0.26, 0.60, 0.05, _INK)
    p.stroke(0.0, 0.34, 0.0, 0.52, 0.05, _INK)
    p.ellipse(0.0, 0.22, 0.21, 0.15, _INK)
    p.ellipse(-0.06, 0.17, 0.06, 0.03, (0.6, 0.6, 0.6))


def _dog_body(p: Pen, c: Paint) -> None:
    # standing, in profile: tail up, stout legs, deep chest, a collar on the neck that leaves the frame upwards
    p.stroke(-0.70, -0.12, -0.92, -0.66, 0.15, c.main)
    for x in (-0.44, 0.34):
        p.box(x, 0.55, 0.11, 0.34, c.dark, corner=0.06)
    p.polygon([(0.10, -0.06), (0.22, -1.6), (0.78, -1.6), (0.72, 0.10)], c.main)
    p.box(-0.06, 0.02, 0.74, 0.28, c.main, corner=0.20)
    p.ellipse(0.40, 0.10, 0.36, 0.38, c.main)
    p.ellipse(0.56, 0.04, 0.15, 0.26, c.light)
    p.ellipse(-0.28, -0.06, 0.34, 0.19, c.second)
    for x in (-0.66, 0.56):
        p.box(x, 0.55, 0.13, 0.36, c.main, corner=0.06)
        p.ellipse(x + 0.06, 0.87, 0.18, 0.09, c.light)
    p.stroke(0.16, -0.44, 0.76, -0.36, 0.20, _RED)
    p.ellipse(0.66, -0.22, 0.10, 0.10, (0.98, 0.82, 0.25))


def _truck_cab(p: Pen, c: Paint) -> None:
    p.box(-0.80, -0.9, 0.05, 0.9, _STEEL)
    p.box(-1.2, 0.50, 0.7, 0.10, _INK)
    p.polygon([(-0.66, -0.80), (0.44, -0.80), (0.62, -0.06), (0.70, 0.55), (-0.66, 0.55)], c.main, grow=0.04)
    p.box(-0.10, -0.84, 0.56, 0.07, c.dark)
    p.polygon([(-0.18, -0.62), (0.36, -0.62), (0.50, -0.10), (-0.18, -0.10)], _GLASS)
    p.polygon([(0.02, -0.62), (0.18, -0.62), (0.06, -0.10), (-0.12, -0.10)], (0.62, 0.74, 0.84))
    p.box(0.66, -0.34, 0.07, 0.18, _INK, corner=0.03)
    p.box(-0.36, 0.0, 0.03, 0.48, c.dark)
    p.box(0.02, 0.04, 0.10, 0.03, _INK)
    for y in (0.12, 0.22, 0.32):
        p.box(0.62, y, 0.10, 0.025, _STEEL)
    p.box(0.64, 0.48, 0.13, 0.07, _LAMP, corner=0.03)
    p.box(0.20, 0.64, 0.60, 0.09, _STEEL)
    p.ellipse(-0.02, 0.66, 0.30, 0.30, _RUBBER)
    p.ellipse(-0.02, 0.66, 0.14, 0.14, _STEEL)


def _truck_tail(p: Pen, c: Paint) -> None:
    for x in (-0.58, 0.58):
        p.box(x, 0.74, 0.17, 0.20, _RUBBER, corner=0.05)
    p.box(0.0, -0.10, 0.80, 0.76, c.dark)
    p.box(0.0, -0.10, 0.72, 0.68, c.main)
    p.box(0.0, -0.10, 0.025, 0.68, _INK)
    for x in (-0.56, -0.20, 0.20, 0.56):
        p.box(x, -0.10, 0.022, 0.66, c.dark)
    for s in (-1.0, 1.0):
        p.box(s * 0.09, 0.06, 0.035, 0.22, _STEEL)
        for y in (-0.58, 0.38):
            p.box(s * 0.70, y, 0.10, 0.04, _STEEL)
        p.box(s * 0.70, 0.66, 0.11, 0.055, _RED)
    p.box(0.0, 0.66, 0.56, 0.05, _INK)
    for x in (-0.3, 0.0, 0.3):
        p.box(x, 0.66, 0.09, 0.05, (0.95, 0.85, 0.2))


_DRAWINGS: dict[
    str, tuple[tuple[str, Callable[[Pen, Paint], None]], tuple[str, Callable[[Pen, Paint], None]]]
] = {
    "airplane": (("head (cockpit)", _airplane_cockpit), ("tail (winglets)", _airplane_tail)),
    "automobile": (("head", _automobile_front), ("tail", _automobile_rear)),
    "bird": (("head", _bird_head), ("body", _bird_body)),
    "cat": (("head", _cat_head), ("body", _cat_body)),
    "dog": (("head", _dog_head), ("body", _dog_body)),
    "truck": (("head", _truck_cab), ("tail", _truck_tail)),
}

CLASSES: tuple[str, ...] = tuple(_DRAWINGS)
"""The six class names, in the order of the paper's table."""
PARTS: dict[str, tuple[str, str]] = {name: (parts[0][0], parts[1][0]) for name, parts in _DRAWINGS.items()}
"""Class name to its parts under C=0 and C=1."""


def render(class_name: str, part: int, nuisance: np.ndarray, size: int = 48, batch: int = 64) -> np.ndarray:
    """Draw close-ups of one part of one class, uint8 (n, size, size, 3).

    Parameters
    ----------
    class_name : one of `CLASSES`.
    part : 0 or 1, the factor C: which of the class's `PARTS` dominates.
    nuisance : array of shape (n, N_NUISANCE), in [0, 1].
    size : side in pixels, at least 8.
    batch : images drawn at once; does not change them.

    Raises
    ------
    CausalFTError
        For an unknown class or part, or a size below 8.

    Examples
    --------
    >>> u = np.random.default_rng(0).random((2, N_NUISANCE))
    >>> render("cat", 0, u, size=16).shape
    (2, 16, 16, 3)
    """
    if class_name not in _DRAWINGS:
        raise CausalFTError(f"cannot draw class {class_name!r}; the renderer draws {', '.join(CLASSES)}")
    if part not in (0, 1):
        raise CausalFTError(f"part must be 0 or 1, got {part!r}")
    if size < 8:
        raise CausalFTError(f"images of {size} pixels are too small to show a part; use a size of at least 8")
    draw = _DRAWINGS[class_name][part][1]
    pictures = np.empty((len(nuisance), size, size, 3), np.uint8)
    with torch.no_grad():
        for start in range(0, len(nuisance), batch):
            u = torch.as_tensor(np.ascontiguousarray(nuisance[start : start + batch]), dtype=torch.float32)
            pictures[start : start + len(u)] = _scene(draw, u, size).permute(0, 2, 3, 1).numpy()
    return pictures


def _scene(draw: Callable[[Pen, Paint], None], u: Tensor, size: int) -> Tensor:
    """Background, clutter, the object in its pose, an occluder, then light and grain: uint8 (n, 3, size, size)."""
    of = {name: u[:, k].view(-1, 1, 1) for k, name in enumerate(NUISANCE)}
    grid = (torch.arange(size, dtype=torch.float32) + 0.5) * (2.0 / size) - 1.0
    gx, gy = grid.view(1, 1, size), grid.view(1, size, 1)
    pixel = torch.full((1, 1, 1), 2.0 / size)

    sky = torch.stack([of[f"sky_{k}"] for k in (1, 2, 3)], 1) * 0.6 + 0.3
    ground = torch.stack([of[f"ground_{k}"] for k in (1, 2, 3)], 1) * 0.6 + 0.15
    ramp = ((gx * (of["slope"] - 0.5) + gy) * 0.6 + 0.5).clamp_(0.0, 1.0)
    canvas = torch.lerp(sky, ground, ramp.unsqueeze(1)).contiguous()
    n = len(u)
    still = Pen(gx.expand(n, size, size), gy.expand(n, size, size), pixel, canvas)
    side = torch.where(of["blob_x"] < 0.5, of["blob_x"] * 2.0 - 1.2, of["blob_x"] * 2.0 - 0.8)
    still.ellipse(
        side,
        of["blob_y"] * 2 - 1,
        0.1 + 0.3 * of["blob_size"],
        0.1 + 0.2 * of["blob_hue"],
        _hue(of["blob_hue"]),
    )
    still.box(
        -side,
        of["blob_size"] * 2 - 1,
        0.08 + 0.2 * of["blob_y"],
        0.08 + 0.2 * of["blob_x"],
        _hue(of["blob_size"]),
    )

    angle = (of["angle"] - 0.5) * 0.6
    zoom = 0.72 + 0.42 * of["scale"]
    mirror = torch.where(of["flip"] < 0.5, -1.0, 1.0)
    dx, dy = gx - (of["shift_x"] - 0.5) * 0.36, gy - (of["shift_y"] - 0.5) * 0.36
    c, s = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    stretch = mirror * (0.9 + 0.2 * of["aspect"])
    draw(Pen((c * dx + s * dy) * stretch, c * dy - s * dx, pixel / zoom, canvas), _paint(of))

    depth = 0.72 + 0.5 * of["occluder"]
    edge = (of["occluder_side"] * 4.0).floor()
    reach = torch.where(edge < 1, gx, torch.where(edge < 2, -gx, torch.where(edge < 3, gy, -gy)))
    still.fill(reach - depth, _hue(of["occluder_hue"]))

    turn = of["light_turn"] * 6.2831853
    shade = 0.86 + 0.28 * of["gain"] + (gx * torch.cos(turn) + gy * torch.sin(turn)) * (of["light"] * 0.22)
    grain = _grain_at(of["grain_x"], of["grain_y"], size) * (0.01 + 0.05 * of["grain"])
    contrast = (0.8 + 0.35 * of["contrast"]).unsqueeze(1)
    canvas.mul_(shade.unsqueeze(1)).sub_(0.5).mul_(contrast).add_(0.5).add_(grain.unsqueeze(1))
    return canvas.clamp_(0.0, 1.0).mul_(255.0).round_().to(torch.uint8)


def _paint(of: dict[str, Tensor]) -> Paint:
    def coat(name: str) -> Tensor:
        base = _COATS[(of[name].flatten() * len(_COATS)).long().clamp_(0, len(_COATS) - 1)].view(-1, 3, 1, 1)
        tint = torch.stack([of["warm"] - 0.5, of["shade"] - 0.5, of["cool"] - 0.5], 1)
        return (base * (0.85 + 0.3 * of["shade"].unsqueeze(1)) + 0.10 * tint).clamp_(0.04, 1.0)

    main, second = coat("main"), coat("second")
    white = torch.ones(1, 3, 1, 1)
    return Paint(
        main=main,
        dark=main * 0.58,
        light=torch.lerp(main, white, 0.55),
        second=torch.lerp(second, main * 0.7, 0.35),
    )


def _hue(u: Tensor) -> Tensor:
    """A muted colour of shape (n, 3, 1, 1) for a number in [0, 1]."""
    turn = u.unsqueeze(1) * 6.2831853 + torch.tensor([0.0, 2.0944, 4.1888]).view(1, 3, 1, 1)
    return torch.cos(turn) * 0.22 + 0.48


def _grain_at(gx: Tensor, gy: Tensor, size: int) -> Tensor:
    """Film grain: each image gets another window of one tile of white noise, (n, size, size)."""
    rows = ((gy.view(-1, 1) * len(_GRAIN)).long() + torch.arange(size)) % len(_GRAIN)
    columns = ((gx.view(-1, 1) * len(_GRAIN)).long() + torch.arange(size)) % len(_GRAIN)
    return _GRAIN[rows.unsqueeze(2), columns.unsqueeze(1)]
