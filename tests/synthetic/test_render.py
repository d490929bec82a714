"""The renderer: the same picture in any batch, the factor decides the dominant part, every set of parts can be seen."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from causalft.errors import CausalFTError
from synthetic import creatures as render
from synthetic.creatures import FACTORS, PARTS, creature_masks, part_table, render_creatures


def draw(n, factor="whole", seed=0, **options):
    labels = np.arange(n) % 60
    return render_creatures(part_table()[labels], np.full(n, FACTORS.index(factor)), seed=seed, **options)


@given(batch_size=st.integers(1, 40), size=st.sampled_from([16, 33, 40]), seed=st.integers(0, 5))
@settings(max_examples=12, deadline=None)
def test_the_batch_does_not_change_a_byte(batch_size, size, seed):
    factors = np.arange(23) % len(FACTORS)
    parts = part_table()[np.arange(23)]
    whole = render_creatures(parts, factors, size=size, seed=seed)
    batched = render_creatures(parts, factors, size=size, seed=seed, batch_size=batch_size)
    assert np.array_equal(whole, batched)


def test_the_number_of_threads_does_not_change_a_byte():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = draw(64)
        torch.set_num_threads(2)
        assert np.array_equal(one, draw(64))
    finally:
        torch.set_num_threads(before)


def test_seeds_draw_other_pictures_and_leave_the_global_generator_alone():
    state = torch.random.get_rng_state()
    one, other = draw(4, seed=1), draw(4, seed=2)
    assert torch.equal(state, torch.random.get_rng_state())
    assert (one != other).mean() > 0.5
    assert one.shape == (4, 40, 40, 3) and one.dtype == np.uint8
    assert one.std() > 20


def scene_of(factor, n=4000, seed=0):
    factors = torch.full((n,), FACTORS.index(factor))
    return render._draw_scene(torch.from_numpy(part_table()[np.arange(n) % 60]), factors, seed)


def painted_area(factor, n=240):
    """Pixels that each part changes, (n, 3): the picture with the part against the picture without it."""
    scene = scene_of(factor, n)
    scene |= {"visible": torch.ones(n, 3), "noise": torch.zeros(n), "bar_width": torch.zeros(n)}
    # slots are in drawing order, the dominant part last; the part of a slot is found from that order
    kind = torch.arange(3).expand(n, 3)
    dominant = (kind == FACTORS.index(factor)) if factor in PARTS else torch.zeros(n, 3, dtype=torch.bool)
    order = torch.argsort((2 - kind) + 10 * dominant.long(), dim=1, stable=True)
    full = render._paint(dict(scene), 40, 0, 0).astype(int)
    area = np.zeros((n, 3))
    for slot in range(3):
        visible = torch.ones(n, 3)
        visible[:, slot] = 0
        without = render._paint({**scene, "visible": visible}, 40, 0, 0).astype(int)
        changed = (np.abs(full - without).max(-1) > 3).sum((1, 2))
        area[np.arange(n), order[:, slot].numpy()] = changed
    return area


@pytest.mark.parametrize("factor", PARTS)
def test_the_factor_decides_which_part_covers_most_of_the_picture(factor):
    area = painted_area(factor)
    k = FACTORS.index(factor)
    assert (area.argmax(1) == k).mean() > 0.95
    assert area[:, k].mean() > 2 * np.delete(area, k, axis=1).mean()


def test_without_a_factor_no_part_dominates():
    area = painted_area("whole")
    shares = area / area.sum(1, keepdims=True)
    assert np.abs(shares.mean(0) - 1 / 3).max() < 0.25
    assert shares.max(1).mean() < 0.7


@pytest.mark.parametrize("factor", FACTORS)
def test_every_visible_set_of_parts_has_a_positive_probability(factor):
    """Positivity: the factor shifts which parts are seen and never decides it; something is always seen."""
    visible = scene_of(factor, 12_000)["visible"].bool().numpy()
    assert visible.any(1).all()
    seen = {tuple(row) for row in np.unique(visible, axis=0).tolist()}
    assert seen == set(itertools.product([False, True], repeat=3)) - {(False, False, False)}


def test_the_dominant_part_is_seen_more_often_than_the_others():
    visible = scene_of("body", 12_000)["visible"].numpy().mean(0)  # drawing order: the dominant part is last
    assert visible[2] == pytest.approx(0.97, abs=0.01)
    assert visible[:2] == pytest.approx([0.7, 0.7], abs=0.02)


def test_parts_can_come_in_any_whole_numbers_and_any_memory_layout():
    parts, factors = part_table()[:6], np.array([0, 1, 2, 3, 0, 1])
    expected = render_creatures(parts, factors, size=16)
    assert np.array_equal(
        render_creatures(parts.astype(np.uint8), factors.astype(np.int8), size=16), expected
    )
    assert np.array_equal(render_creatures(parts.tolist(), factors.tolist(), size=16), expected)
    assert np.array_equal(render_creatures(parts[::-1][::-1], factors[::-1][::-1], size=16), expected)
    backwards = render_creatures(parts[::-1], factors[::-1], size=16)
    assert np.array_equal(backwards, render_creatures(parts[::-1].copy(), factors[::-1].copy(), size=16))


def test_no_picture_is_an_empty_array():
    assert render_creatures(np.empty((0, 3), int), np.empty(0, int)).shape == (0, 40, 40, 3)


@pytest.mark.parametrize(
    ("parts", "factors", "options", "message"),
    [
        ([[0, 0]], [0], {}, r"parts must be \(n, 3\)"),
        ([[0, 0, 0]], [0, 1], {}, r"parts must be \(n, 3\)"),
        ([[0, 0, 15]], [0], {}, r"part types lie in 0\.\.14"),
        ([[0, -1, 0]], [0], {}, r"part types lie in 0\.\.14"),
        ([[0, 0, 0]], [4], {}, r"factors lie in 0\.\.3: head, body, tail, whole"),
        ([[0, 0, 0]], [-1], {}, r"factors lie in 0\.\.3"),
        ([[0.5, 0, 0]], [0], {}, "whole numbers"),
        ([[0, 0, 0]], [0.5], {}, "whole numbers"),
        ([[0, 0, 0]], [0], {"size": 15}, "size 15 is too small"),
        ([[0, 0, 0]], [0], {"batch_size": 0}, "batch size 0"),
    ],
)
def test_bad_input_is_refused(parts, factors, options, message):
    with pytest.raises(CausalFTError, match=message):
        render_creatures(parts, factors, **options)


def test_masks_say_where_each_part_is_seen():
    factors = np.arange(40) % len(FACTORS)
    parts = part_table()[np.arange(40)]
    masks = creature_masks(parts, factors, seed=3)
    assert masks.shape == (40, 3, 40, 40)
    assert masks.min() >= 0 and masks.sum(axis=1).max() <= 1 + 1e-6
    scene = render._scenes(parts, factors, 40, 3, 256)
    hidden = {**scene, "noise": torch.zeros(40), "bar_width": torch.zeros(40)}
    full = render._paint(dict(hidden), 40, 0, 0).astype(int)
    empty = render._paint({**hidden, "visible": torch.zeros(40, 3)}, 40, 0, 0).astype(int)
    changed = np.abs(full - empty).max(axis=-1) > 8
    whole = creature_masks(parts, factors, seed=3).sum(axis=1)
    without_bar = scene["bar_width"].numpy() == 0
    assert (changed[without_bar] <= (whole[without_bar] > 0)).mean() > 0.999


def test_masks_of_some_rows_are_those_of_all():
    factors = np.arange(30) % len(FACTORS)
    parts = part_table()[np.arange(30)]
    every = creature_masks(parts, factors, size=24, batch_size=7)
    assert np.array_equal(creature_masks(parts, factors, size=24, rows=[4, 20]), every[[4, 20]])


def test_a_part_that_is_not_visible_has_an_empty_mask():
    factors = np.full(200, FACTORS.index("head"))
    parts = part_table()[np.arange(200) % 60]
    scene = render._scenes(parts, factors, 16, 0, 256)
    visible = torch.zeros(200, 3).scatter(1, scene["kind"], scene["visible"]).bool().numpy()
    area = creature_masks(parts, factors, size=16).sum(axis=(2, 3))
    assert (area[~visible] == 0).all()
    assert (area[visible] > 0).mean() > 0.8
