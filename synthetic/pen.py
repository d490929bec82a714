"""A batched pen: fills signed-distance shapes on many small canvases at once, each in its own pose."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Pen", "Number", "Colour"]

Number = float | Tensor
"""A length or coordinate: one number, or a tensor of shape (n, 1, 1)."""

Colour = tuple[float, float, float] | Tensor
"""RGB in [0, 1]: one triple, or a tensor of shape (n, 3, 1, 1)."""


def as_colour(colour: Colour) -> Tensor:
    """Return a colour with shape (1 or n, 3, 1, 1)."""
    if isinstance(colour, Tensor):
        return colour
    return torch.tensor(colour, dtype=torch.float32).view(1, 3, 1, 1)


class Pen:
    """Paints anti-aliased shapes in local coordinates (x right, y down, the frame is about [-1, 1]).

    All operations are element-wise, so an image does not depend on the others in the batch.

    Parameters
    ----------
    x, y : tensors of shape (n, size, size)
        Local coordinates of every pixel.
    pixel : tensor of shape (n, 1, 1)
        Side of a pixel in local units: the width of the soft edge.
    canvas : tensor of shape (n, 3, size, size)
        RGB in [0, 1]; painted in place.

    Examples
    --------
    >>> grid = torch.linspace(-1, 1, 9)
    >>> x, y = grid.expand(1, 9, 9), grid.view(1, 9, 1).expand(1, 9, 9)
    >>> pen = Pen(x, y, torch.full((1, 1, 1), 0.25), torch.zeros(1, 3, 9, 9))
    >>> pen.ellipse(0, 0, 0.5, 0.5, (1.0, 0.0, 0.0))
    >>> pen.canvas[0, :, 4, 4].tolist(), pen.canvas[0, :, 0, 0].tolist()
    ([1.0, 0.0, 0.0], [0.0, 0.0, 0.0])
    """

    def __init__(self, x: Tensor, y: Tensor, pixel: Tensor, canvas: Tensor) -> None:
        self.x, self.y, self.canvas = x, y, canvas
        self._sharpness = 1.0 / pixel

    def fill(self, inside: Tensor, colour: Colour, opacity: Number = 1.0) -> None:
        """Paint where ``inside`` (minus the signed distance, (n, size, size)) is positive; overwrites ``inside``."""
        alpha = inside.mul_(self._sharpness).add_(0.5).clamp_(0.0, 1.0)
        if isinstance(opacity, Tensor) or opacity != 1.0:
            alpha = alpha.mul_(opacity)
        self.canvas.lerp_(as_colour(colour), alpha.unsqueeze(1))

    def ellipse(
        self,
        cx: Number,
        cy: Number,
        rx: Number,
        ry: Number,
        colour: Colour,
        turn: float = 0.0,
        opacity: Number = 1.0,
    ) -> None:
        """Fill an ellipse with centre (cx, cy) and half axes (rx, ry), turned by ``turn`` radians."""
        u, v = self._local(cx, cy, turn)
        radius = u.div_(rx).square_().add_(v.div_(ry).square_()).sqrt_()
        self.fill(radius.neg_().add_(1.0).mul_(_smaller(rx, ry)), colour, opacity)

    def box(
        self,
        cx: Number,
        cy: Number,
        hx: Number,
        hy: Number,
        colour: Colour,
        turn: float = 0.0,
        corner: float = 0.0,
        opacity: Number = 1.0,
    ) -> None:
        """Fill a box of half sides (hx, hy) with corners rounded by radius ``corner``."""
        u, v = self._local(cx, cy, turn)
        u, v = u.abs_().sub_(hx), v.abs_().sub_(hy)
        if corner:
            u, v = u.add_(corner).clamp_(min=0.0), v.add_(corner).clamp_(min=0.0)
            inside = u.square_().add_(v.square_()).sqrt_().neg_().add_(corner)
        else:
            inside = torch.maximum(u, v).neg_()
        self.fill(inside, colour, opacity)

    def polygon(
        self, points: list[tuple[float, float]], colour: Colour, grow: float = 0.0, opacity: Number = 1.0
    ) -> None:
        """Fill a convex polygon (corners in order, either way round), its sides moved outwards by ``grow``."""
        area = sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(points, points[1:] + points[:1]))
        sign = 1.0 if area > 0 else -1.0
        inside: Tensor | None = None
        for (ax, ay), (bx, by) in zip(points, points[1:] + points[:1]):
            length = ((bx - ax) ** 2 + (by - ay) ** 2) ** 0.5
            nx, ny = -sign * (by - ay) / length, sign * (bx - ax) / length
            side = torch.add(self.x * nx, self.y, alpha=ny).add_(grow - nx * ax - ny * ay)
            inside = side if inside is None else torch.minimum(inside, side, out=inside)
        assert inside is not None
        self.fill(inside, colour, opacity)

    def stroke(
        self, ax: float, ay: float, bx: float, by: float, width: float, colour: Colour, opacity: Number = 1.0
    ) -> None:
        """Draw a straight line with round ends from (ax, ay) to (bx, by), ``width`` thick."""
        dx, dy = bx - ax, by - ay
        u, v = self.x - ax, self.y - ay
        along = torch.add(u * dx, v, alpha=dy).div_(dx * dx + dy * dy).clamp_(0.0, 1.0)
        u.sub_(along, alpha=dx).square_()
        v.sub_(along, alpha=dy).square_()
        self.fill(u.add_(v).sqrt_().neg_().add_(width / 2), colour, opacity)

    def _local(self, cx: Number, cy: Number, turn: float) -> tuple[Tensor, Tensor]:
        """Coordinates about (cx, cy), turned: fresh tensors that the caller may overwrite."""
        u, v = self.x - cx, self.y - cy
        if turn:
            c, s = float(torch.cos(torch.tensor(turn))), float(torch.sin(torch.tensor(turn)))
            return torch.add(u * c, v, alpha=s), torch.add(v * c, u, alpha=-s)
        return u, v


def _smaller(a: Number, b: Number) -> Number:
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return torch.minimum(torch.as_tensor(a), torch.as_tensor(b))
    return min(a, b)
