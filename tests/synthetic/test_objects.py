"""The renderer of the twelve close-ups: deterministic, distinct by class and part."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from causalft.errors import CausalFTError
from synthetic.objects import CLASSES, N_NUISANCE, NUISANCE, PARTS, render
from synthetic.pen import Pen


def nuisance(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n, N_NUISANCE))


def test_every_class_of_the_table_has_its_two_parts():
    assert CLASSES == ("airplane", "automobile", "bird", "cat", "dog", "truck")
    assert {name: [part.split()[0] for part in parts] for name, parts in PARTS.items()} == {
        "airplane": ["head", "tail"],
        "automobile": ["head", "tail"],
        "bird": ["head", "body"],
        "cat": ["head", "body"],
        "dog": ["head", "body"],
        "truck": ["head", "tail"],
    }
    assert len(set(NUISANCE)) == N_NUISANCE


@pytest.mark.parametrize("class_name", CLASSES)
@pytest.mark.parametrize("part", [0, 1])
def test_same_numbers_give_the_same_bytes_in_any_company(class_name, part):
    u = nuisance(7)
    together = render(class_name, part, u, size=24)
    assert together.shape == (7, 24, 24, 3) and together.dtype == np.uint8
    assert np.array_equal(together, render(class_name, part, u, size=24, batch=2))
    assert np.array_equal(together[[5]], render(class_name, part, u[[5]], size=24))


def test_the_twelve_drawings_differ_on_the_same_nuisance():
    u = nuisance(20)
    pictures = [render(name, part, u, size=24).astype(float) for name in CLASSES for part in (0, 1)]
    for i, first in enumerate(pictures):
        for second in pictures[:i]:
            assert np.abs(first - second).mean() > 8, "two drawings are almost the same picture"


def test_nuisance_changes_the_picture():
    base = nuisance(12)
    still = render("dog", 1, base, size=32).astype(float)
    for k, name in enumerate(NUISANCE):
        other = base.copy()
        other[:, k] = (other[:, k] + 0.5) % 1.0
        assert np.abs(render("dog", 1, other, size=32) - still).max() >= 1, f"{name} changes nothing"


def test_bad_requests_are_named():
    with pytest.raises(CausalFTError, match="'horse'.*airplane"):
        render("horse", 0, nuisance(1))
    with pytest.raises(CausalFTError, match="part must be 0 or 1"):
        render("cat", 2, nuisance(1))
    with pytest.raises(CausalFTError, match="too small"):
        render("cat", 0, nuisance(1), size=4)


def test_areas_of_shapes_are_those_of_geometry():
    size = 200
    grid = (torch.arange(size) + 0.5) * (2 / size) - 1

    def area(draw) -> float:
        canvas = torch.zeros(1, 3, size, size)
        pen = Pen(
            grid.view(1, 1, size).expand(1, size, size),
            grid.view(1, size, 1).expand(1, size, size),
            torch.full((1, 1, 1), 2 / size),
            canvas,
        )
        draw(pen)
        return float(canvas[0, 0].mean() * 4)

    white = (1.0, 1.0, 1.0)
    assert area(lambda p: p.ellipse(0.1, 0, 0.5, 0.3, white, turn=0.7)) == pytest.approx(
        np.pi * 0.15, rel=0.02
    )
    assert area(lambda p: p.box(0, 0.1, 0.5, 0.3, white, turn=0.4)) == pytest.approx(0.6, rel=0.02)
    assert area(lambda p: p.box(0, 0, 0.5, 0.3, white, corner=0.2)) == pytest.approx(
        0.6 - (4 - np.pi) * 0.04, rel=0.02
    )
    assert area(lambda p: p.polygon([(-0.5, -0.5), (0.5, -0.5), (0.0, 0.5)], white)) == pytest.approx(
        0.5, rel=0.02
    )
    assert area(lambda p: p.polygon([(0.0, 0.5), (0.5, -0.5), (-0.5, -0.5)], white)) == pytest.approx(
        0.5, rel=0.02
    )
    assert area(lambda p: p.stroke(-0.4, 0, 0.4, 0, 0.2, white)) == pytest.approx(
        0.16 + np.pi * 0.01, rel=0.02
    )
