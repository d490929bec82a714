"""The part world: 60 creatures with head, body and tail, who is seen how often and how, and their renderer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from causalft.errors import CausalFTError

__all__ = [
    "CLASS_NAMES",
    "FACTORS",
    "N_CLASSES",
    "N_TYPES",
    "PARTS",
    "creature_masks",
    "exponential_prior",
    "factor_law",
    "part_table",
    "render_creatures",
]


N_TYPES = 15
"""Types of each part: 15 heads, 15 bodies, 15 tails."""

N_CLASSES = 60

PARTS = ("head", "body", "tail")

FACTORS = ("head", "body", "tail", "whole")
"""Values of the semantic factor C: the part that dominates the image, or ``whole``."""

_ROOTS = "ara bel cor dru eri fen gal hor ika jun kol lum mir nol ori".split()
_ENDINGS = "dax mon pix vor".split()

CLASS_NAMES = tuple(_ROOTS[k % N_TYPES] + _ENDINGS[k // N_TYPES] for k in range(N_CLASSES))


def part_table() -> np.ndarray:
    """Return the part types of every class, shape (60, 3): head, body, tail in 0..14.

    With ``j = k // 15``: head ``k mod 15``, body ``(head + j) mod 15``, tail ``(head + 3 j + 5) mod 15``. One part
    leaves four candidate classes; any two parts identify the class.

    Examples
    --------
    >>> part_table()[16]
    array([1, 2, 9])
    """
    k = np.arange(N_CLASSES)
    j, head = k // N_TYPES, k % N_TYPES
    return np.stack([head, (head + j) % N_TYPES, (head + 3 * j + 5) % N_TYPES], axis=1)


def exponential_prior(n_classes: int, imbalance_factor: float, order: np.ndarray) -> np.ndarray:
    """Return a label prior that falls exponentially along ``order``, shape (n_classes,), sum 1.

    Parameters
    ----------
    n_classes : int
    imbalance_factor : float
        Largest over smallest probability, at least 1.
    order : numpy.ndarray
        Shape (n_classes,): the classes from head to tail.

    Examples
    --------
    >>> exponential_prior(3, 100, np.array([2, 0, 1])).round(3)
    array([0.09 , 0.009, 0.901])
    """
    if imbalance_factor < 1:
        raise CausalFTError(f"imbalance factor {imbalance_factor} is below 1; 1 means balanced")
    position = np.empty(n_classes)
    position[np.asarray(order)] = np.arange(n_classes)
    weight = imbalance_factor ** (-position / max(n_classes - 1, 1))
    return weight / weight.sum()


def factor_law(favourite: str, share: float = 0.8) -> np.ndarray:
    """Return P(C | D) over :data:`FACTORS` for a stratum that favours one part, shape (4,), sum 1.

    Parameters
    ----------
    favourite : {"head", "body", "tail", "uniform"}
        ``"uniform"`` is the downstream law: head, body, tail and whole alike.
    share : float
        Probability of the favourite part; the other two share the rest, ``whole`` gets none.

    Examples
    --------
    >>> factor_law("body").round(2)
    array([0.1, 0.8, 0.1, 0. ])
    """
    if favourite == "uniform":
        return np.full(len(FACTORS), 1 / len(FACTORS))
    if favourite not in PARTS:
        raise CausalFTError(f"unknown part {favourite!r}; use head, body, tail or uniform")
    law = np.full(len(FACTORS), (1 - share) / 2)
    law[FACTORS.index("whole")] = 0.0
    law[FACTORS.index(favourite)] = share
    return law


# Five hues that stay distinct under light and noise: red, amber, green, blue, violet.
_HUES = torch.tensor(
    [[0.86, 0.24, 0.22], [0.93, 0.74, 0.20], [0.25, 0.66, 0.33], [0.22, 0.46, 0.88], [0.65, 0.32, 0.75]]
)


@dataclass(frozen=True)
class _PartTypes:
    """Looks of the 3 x 15 part types; tensors of shape (3, 15) or (3, 15, k)."""

    aspect: Tensor  # (3, 15, 2) half axes
    power: Tensor  # p of the p-norm: 1 a diamond, 2 an ellipse, 6 nearly a box
    lobes: Tensor  # how many lobes the outline has
    lobe_height: Tensor
    texture: Tensor  # (3, 15, 3) waves per unit along u, v and the radius
    colour: Tensor  # (3, 15, 3)


def _part_types() -> _PartTypes:
    """Type t has hue t mod 5, silhouette t // 5 and a texture that pairs both; bodies are long, tails slender."""
    t = torch.arange(N_TYPES)
    hue, silhouette = t % 5, t // 5
    power = torch.tensor([[2.0, 4.0, 1.2], [2.2, 6.0, 1.5], [2.0, 3.0, 1.1]])
    lobes = torch.tensor([[0.0, 3.0, 5.0], [0.0, 2.0, 7.0], [3.0, 0.0, 4.0]])
    height = torch.tensor([[0.0, 0.18, 0.26], [0.0, 0.2, 0.16], [0.3, 0.0, 0.34]])
    aspect = torch.tensor(
        [
            [[0.30, 0.30], [0.34, 0.28], [0.32, 0.36]],
            [[0.46, 0.27], [0.40, 0.30], [0.44, 0.34]],
            [[0.36, 0.17], [0.40, 0.13], [0.34, 0.22]],
        ]
    )
    waves = torch.tensor(
        [[0.0, 0.0, 0.0], [9.0, 0.0, 0.0], [0.0, 9.0, 0.0], [7.0, 7.0, 0.0], [0.0, 0.0, 11.0]]
    )
    texture = torch.stack([waves[(2 * silhouette + hue + part) % 5] for part in range(3)])
    colour = torch.stack([_HUES[(hue + part) % 5] for part in range(3)])
    return _PartTypes(
        aspect=aspect[:, silhouette],
        power=power[:, silhouette],
        lobes=lobes[:, silhouette],
        lobe_height=height[:, silhouette],
        texture=texture,
        colour=colour,
    )


_TYPES = _part_types()
# Centres of head, body and tail of a whole creature, in units of half the image.
_LAYOUT = torch.tensor([[-0.44, -0.22], [0.0, 0.08], [0.50, -0.12]])


def render_creatures(
    parts: np.ndarray, factors: np.ndarray, *, size: int = 40, seed: int = 0, batch_size: int = 256
) -> np.ndarray:
    """Draw one image for each row of ``parts``.

    The part that the factor names is zoomed 1.45 to 1.9 times and visible with probability 0.97; the others have 0.7 of
    their size and probability 0.7. Under ``whole`` all three have their own size and probability 0.9. At least one
    part is always visible, and every non-empty set of parts has positive probability under every factor. Nuisance:
    pose, mirror, place, background, clutter, an occluder, light, contrast, sensor noise.

    Parameters
    ----------
    parts : numpy.ndarray
        Shape (n, 3): types of head, body and tail, 0..14.
    factors : numpy.ndarray
        Shape (n,): indices into :data:`FACTORS`.
    size : int
        Side in pixels, at least 16.
    seed : int
        The same seed gives the same bytes at any batch size on the same machine.
    batch_size : int

    Returns
    -------
    numpy.ndarray
        Shape (n, size, size, 3), uint8.

    Raises
    ------
    CausalFTError
        If a type, factor, shape or size is invalid.

    Examples
    --------
    >>> from synthetic.creatures import part_table
    >>> render_creatures(part_table()[:2], np.array([0, 3]), size=32).shape
    (2, 32, 32, 3)
    """
    scene = _scenes(parts, factors, size, seed, batch_size)
    pictures = np.empty((len(parts), size, size, 3), dtype=np.uint8)
    for start in range(0, len(parts), batch_size):
        chosen = slice(start, start + batch_size)
        pictures[chosen] = _paint({name: value[chosen] for name, value in scene.items()}, size, seed, start)
    return pictures


def creature_masks(
    parts: np.ndarray,
    factors: np.ndarray,
    *,
    size: int = 40,
    seed: int = 0,
    batch_size: int = 256,
    rows: Sequence[int] | np.ndarray | None = None,
) -> np.ndarray:
    """Say which pixels of :func:`render_creatures` show the head, the body and the tail.

    A part that is not visible has an empty mask. Where one part hides another, or the occluder hides both, only what is
    seen counts; at soft edges a pixel is shared.

    Parameters
    ----------
    parts, factors, size, seed, batch_size
        As in :func:`render_creatures`; the same values describe the same images.
    rows : sequence of int, optional
        Images wanted; all by default.

    Returns
    -------
    numpy.ndarray
        Shape (n_rows, 3, size, size), float32 in [0, 1], in the order of :data:`PARTS`. The sum over parts is at most
        1; the rest is background.

    Examples
    --------
    >>> masks = creature_masks(part_table()[:2], np.array([0, 3]), size=32)
    >>> masks.shape, bool(masks.sum(axis=1).max() <= 1 + 1e-6)
    ((2, 3, 32, 32), True)
    """
    scene = _scenes(parts, factors, size, seed, batch_size)
    wanted = np.arange(len(parts)) if rows is None else np.asarray(rows)
    masks = np.empty((len(wanted), len(PARTS), size, size), dtype=np.float32)
    for start in range(0, len(wanted), batch_size):
        chosen = slice(start, start + batch_size)
        of = torch.from_numpy(wanted[chosen])
        masks[chosen] = _cover({name: value[of] for name, value in scene.items()}, size)
    return masks


def _scenes(
    parts: np.ndarray, factors: np.ndarray, size: int, seed: int, batch_size: int
) -> dict[str, Tensor]:
    """Check what is to be drawn, and draw its random numbers."""
    parts, factors = np.asarray(parts), np.asarray(factors)
    if parts.ndim != 2 or parts.shape[1] != 3 or factors.shape != parts.shape[:1]:
        raise CausalFTError(f"parts must be (n, 3) and factors (n,), got {parts.shape} and {factors.shape}")
    if not all(np.issubdtype(a.dtype, np.integer) for a in (parts, factors)):
        raise CausalFTError(f"parts and factors must be whole numbers, got {parts.dtype} and {factors.dtype}")
    if len(parts) and (parts.min() < 0 or parts.max() >= N_TYPES):
        raise CausalFTError(f"part types lie in 0..{N_TYPES - 1}")
    if len(factors) and (factors.min() < 0 or factors.max() >= len(FACTORS)):
        raise CausalFTError(f"factors lie in 0..{len(FACTORS) - 1}: {', '.join(FACTORS)}")
    if size < 16:
        raise CausalFTError(f"size {size} is too small to show a creature; use 16 pixels or more")
    if batch_size < 1:
        raise CausalFTError(f"batch size {batch_size} is below 1")
    kinds, dominant = (torch.from_numpy(np.array(a, dtype=np.int64)) for a in (parts, factors))
    return _draw_scene(kinds, dominant, seed)


def _draw_scene(parts: Tensor, factors: Tensor, seed: int) -> dict[str, Tensor]:
    """Draw all random numbers of each image, before a pixel is painted. First dimension: images."""
    n = len(parts)
    generator = torch.Generator().manual_seed(seed % 2**63)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand((n, *shape), generator=generator)

    dominant = torch.nn.functional.one_hot(factors.clamp(max=3), 4)[:, :3].bool()
    whole = (factors == FACTORS.index("whole"))[:, None]
    zoom = uniform(1.45, 1.9, 1)
    scale = torch.where(whole, uniform(0.85, 1.1, 1), torch.where(dominant, zoom, torch.tensor(0.7)))
    chance = torch.where(whole, 0.9, torch.where(dominant, 0.97, 0.7))
    visible = uniform(0, 1, 3) < chance
    fallback = torch.where(
        whole.squeeze(1), torch.randint(0, 3, (n,), generator=generator), factors.clamp(max=2)
    )
    nothing = ~visible.any(1)
    visible[nothing, fallback[nothing]] = True

    # The dominant part comes near the centre; the others keep their direction from it.
    origin = (_LAYOUT * dominant[:, :, None]).sum(1, keepdim=True)
    centre = (_LAYOUT - origin) * torch.where(whole, 1.0, 1.15)[:, :, None]
    mirror = torch.where(uniform(0, 1, 1) < 0.5, -1.0, 1.0)
    centre = torch.stack([centre[..., 0] * mirror, centre[..., 1]], -1)
    centre = centre + uniform(-0.14, 0.14, 1, 2) + uniform(-0.05, 0.05, 3, 2)

    kind = torch.arange(3).expand(n, 3)
    # Draw tail, body, head, and the dominant part last, so that nothing hides it.
    order = torch.argsort((2 - kind) + 10 * dominant.long(), dim=1, stable=True)

    def in_order(value: Tensor) -> Tensor:
        index = order.reshape(order.shape + (1,) * (value.ndim - 2)).expand(n, 3, *value.shape[2:])
        return value.gather(1, index)

    light = uniform(0.75, 1.2, 1)
    return {
        "scale": in_order(scale * uniform(0.9, 1.1, 3)),
        "visible": in_order(visible.float()),
        "centre": in_order(centre),
        "angle": in_order(uniform(-0.45, 0.45, 1) + uniform(-0.25, 0.25, 3)),
        "mirror": mirror,
        "kind": in_order(kind),
        "is_head": in_order((kind == PARTS.index("head")).float()),
        "phase": uniform(0, 2 * math.pi, 3),
        "aspect": in_order(_TYPES.aspect[kind, parts] * uniform(0.92, 1.08, 3, 2)),
        "power": in_order(_TYPES.power[kind, parts]),
        "lobes": in_order(_TYPES.lobes[kind, parts]),
        "lobe_height": in_order(_TYPES.lobe_height[kind, parts]),
        "texture": in_order(_TYPES.texture[kind, parts]),
        "colour": in_order((_TYPES.colour[kind, parts] + uniform(-0.07, 0.07, 3, 3)).clamp(0, 1)),
        "background": uniform(0.15, 0.85, 2, 3) * 0.6 + uniform(0.1, 0.35, 1, 1),
        "gradient": uniform(0, 2 * math.pi),
        "blob_centre": uniform(-1, 1, 4, 2),
        "blob_radius": uniform(0.06, 0.2, 4) * (uniform(0, 1, 4) < 0.75),
        "blob_colour": uniform(0.1, 0.9, 4, 3),
        "bar_angle": uniform(0, math.pi),
        "bar_offset": uniform(-0.7, 0.7),
        "bar_width": uniform(0.05, 0.16) * (uniform(0, 1) < 0.25),
        "bar_colour": uniform(0.1, 0.9, 3),
        "light": light,
        "light_angle": uniform(0, 2 * math.pi),
        "light_slope": uniform(0, 0.3),
        "noise": uniform(0.01, 0.04),
    }


def _grid(size: int) -> tuple[Tensor, Tensor, float]:
    """Coordinates x and y of the pixels, from -1 to 1, and how sharp edges are: one to two pixels soft."""
    axis = (torch.arange(size) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return x, y, size / 2.5


def _along(angle: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return x * angle.cos()[:, None, None] + y * angle.sin()[:, None, None]


def _occluder(scene: dict[str, Tensor], x: Tensor, y: Tensor, sharp: float) -> Tensor:
    """How much of each pixel the bar in front covers, (n, size, size)."""
    distance = (_along(scene["bar_angle"], x, y) - scene["bar_offset"][:, None, None]).abs()
    return ((scene["bar_width"][:, None, None] - distance) * sharp).clamp(0, 1)


def _paint(scene: dict[str, Tensor], size: int, seed: int, start: int) -> np.ndarray:
    """Paint a batch of scenes: background, clutter, parts, occluder, light, noise."""
    n = len(scene["scale"])
    x, y, sharp = _grid(size)

    def along(angle: Tensor) -> Tensor:
        return _along(angle, x, y)

    def cover(image: Tensor, inside: Tensor, colour: Tensor) -> Tensor:
        return image + inside[:, None] * (colour - image)

    ramp = (0.5 + 0.4 * along(scene["gradient"]))[:, None]
    first, second = scene["background"][:, 0, :, None, None], scene["background"][:, 1, :, None, None]
    image = first + ramp * (second - first)
    for blob in range(scene["blob_radius"].shape[1]):
        bx, by = scene["blob_centre"][:, blob, 0, None, None], scene["blob_centre"][:, blob, 1, None, None]
        distance = ((x - bx).square() + (y - by).square()).sqrt()
        inside = ((scene["blob_radius"][:, blob, None, None] - distance) * sharp).clamp(0, 1)
        image = cover(image, inside, scene["blob_colour"][:, blob, :, None, None])

    for slot in range(3):
        image = _paint_part(image, scene, slot, x, y, sharp)

    image = cover(image, _occluder(scene, x, y, sharp), scene["bar_colour"][:, :, None, None])

    lit = scene["light"][:, :, None] * (1 + scene["light_slope"][:, None, None] * along(scene["light_angle"]))
    image = image * lit[:, None]
    # One generator per image, so that its noise does not depend on the batch.
    for row in range(n):
        generator = torch.Generator().manual_seed((seed * 2_147_483_659 + start + row) % (2**63))
        image[row] += scene["noise"][row] * torch.randn(image.shape[1:], generator=generator)
    return (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


@dataclass(frozen=True)
class _Outline:
    """Where one part of each creature lies; arrays (n, size, size)."""

    inside: Tensor  # how much of the pixel it covers, 0 to 1
    u: Tensor  # coordinates along its axes
    v: Tensor
    radius: Tensor  # of the p-norm: about 1 on the outline


def _outline(scene: dict[str, Tensor], slot: int, x: Tensor, y: Tensor, sharp: float) -> _Outline:
    def of(name: str, *index: int) -> Tensor:
        value = scene[name][:, slot]
        return (value[:, index[0]] if index else value)[:, None, None]

    scale, angle = of("scale"), of("angle")
    dx, dy = (x - of("centre", 0)) / scale, (y - of("centre", 1)) / scale
    u = (dx * angle.cos() + dy * angle.sin()) * scene["mirror"][:, :, None]
    v = dy * angle.cos() - dx * angle.sin()
    power = of("power")
    su, sv = (u / of("aspect", 0)).abs() + 1e-4, (v / of("aspect", 1)).abs() + 1e-4
    radius = (su.pow(power) + sv.pow(power)).pow(1 / power)
    outline = 1 + of("lobe_height") * torch.cos(of("lobes") * torch.atan2(v, u))
    inside = ((outline - radius) * scale * 0.3 * sharp).clamp(0, 1) * of("visible")
    return _Outline(inside, u, v, radius)


def _paint_part(
    image: Tensor, scene: dict[str, Tensor], slot: int, x: Tensor, y: Tensor, sharp: float
) -> Tensor:
    """Paint one part of each creature over the images (n, 3, size, size)."""

    def of(name: str, *index: int) -> Tensor:
        value = scene[name][:, slot]
        return (value[:, index[0]] if index else value)[:, None, None]

    part = _outline(scene, slot, x, y, sharp)
    u, v = part.u, part.v
    wave = torch.cos(
        of("texture", 0) * u + of("texture", 1) * v + of("texture", 2) * part.radius * 0.5 + of("phase")
    )
    plain = (scene["texture"][:, slot].abs().sum(1) == 0)[:, None, None]
    shade = torch.where(plain, torch.tensor(1.0), 0.72 + 0.28 * wave)
    colour = scene["colour"][:, slot, :, None, None] * shade[:, None]
    image = image + part.inside[:, None] * (colour - image)

    # An eye: white with a dark pupil, on heads only.
    scale, head = of("scale"), of("is_head") * of("visible")
    distance = ((u + 0.10).square() + (v + 0.08).square()).sqrt()
    white = ((0.085 - distance) * scale * sharp).clamp(0, 1) * head
    pupil = ((0.045 - distance) * scale * sharp).clamp(0, 1) * head
    image = image + white[:, None] * (0.95 - image)
    return image + pupil[:, None] * (0.05 - image)


def _cover(scene: dict[str, Tensor], size: int) -> np.ndarray:
    """Share of each pixel that each part covers, in the order of :data:`PARTS`, as it is seen at last."""
    x, y, sharp = _grid(size)
    masks = torch.zeros(len(scene["scale"]), len(PARTS), size, size)
    for slot in range(len(PARTS)):
        inside = _outline(scene, slot, x, y, sharp).inside
        masks *= 1 - inside[:, None]  # what is painted later hides what was there
        masks[torch.arange(len(masks)), scene["kind"][:, slot]] += inside
    return (masks * (1 - _occluder(scene, x, y, sharp))[:, None]).numpy()
