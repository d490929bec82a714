"""Figures of a page: the same in light and dark mode, legible on a phone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from causalft.report.drawing import NARROW_INCHES, dark_colour, draw, svg_text, to_narrow
from causalft.report.style import ON_DARK, ON_LIGHT, PALETTE, figure_style, new_axes, new_figure


def panels(n: int = 3) -> Figure:
    with figure_style():
        figure = new_figure(9, 3)
        grid = figure.subplots(1, n, sharey=True)
        for k, axes in enumerate(grid):
            axes.plot([0, 0.125], [0, 1], color=PALETTE["black"])
            axes.set_title(f"panel {k}")
            axes.set_xlabel("a label so long that it does not fit below a panel of a phone without a break")
            axes.set_xticks([0.125], ["0.12345"])
        grid[0].set_ylabel("accuracy (%)")
        figure.legend(grid[0].lines, ["fused"], loc="outside lower center", ncols=1)
        return figure


def luminance(colour: str) -> float:
    linear = [
        c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4
        for c in (int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5))
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("name", sorted(PALETTE))
def test_every_colour_stands_out_from_a_dark_page(name: str) -> None:
    assert contrast(dark_colour(PALETTE[name].lower()), "#15181b") >= 3  # WCAG 1.4.11, graphics


@pytest.mark.parametrize("colour", ["#222222", "#444444", "#777777"])
def test_greys_of_text_stay_readable_in_dark_mode(colour: str) -> None:
    assert contrast(dark_colour(colour), "#15181b") >= 4.5  # WCAG 1.4.3, text


def test_text_on_a_patch_of_colour_stays_as_it_is() -> None:
    assert dark_colour(ON_LIGHT) == ON_LIGHT and dark_colour(ON_DARK) == ON_DARK


def test_a_figure_has_both_modes_in_one_file_and_the_same_bytes(tmp_path: Path) -> None:
    with figure_style():
        first, second = (draw(panels(), tmp_path / name) for name in ("a.png", "b.png"))
    assert first.wide == second.wide and first.narrow == second.narrow
    for svg in (first.wide, first.narrow):
        assert "@media (prefers-color-scheme: dark)" in svg
        greys = re.findall(r"(?:fill|stroke): #(..)\1\1\b", svg)
        assert not set(greys) - {"01", "fe"}, "a grey that does not change in dark mode"
        assert not re.search(r"(href|src)=\"https?:|@import|url\(http", svg)


def test_labels_keep_their_digits() -> None:
    with figure_style():
        assert ">0.12345<" in svg_text(panels())


def test_panels_come_one_below_the_other_on_a_phone(tmp_path: Path) -> None:
    figure = panels()
    with figure_style():
        to_narrow(figure)
        figure.canvas.draw()
    assert figure.get_figwidth() == NARROW_INCHES
    boxes = [axes.get_position() for axes in figure.axes]
    assert all(upper.y0 >= lower.y1 for upper, lower in zip(boxes, boxes[1:]))
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    page = figure.bbox
    for axes in figure.axes:
        box = axes.get_tightbbox(renderer)
        assert page.x0 <= box.x0 and box.x1 <= page.x1 + 1, "a label is cut off"
        assert axes.get_ylabel() == "accuracy (%)"
    sizes = [
        text.get_fontsize()
        for axes in figure.axes
        for text in (axes.title, axes.xaxis.label, axes.yaxis.label)
    ]
    # 343 pixels of a screen of 375 are left for the figure: points to pixels.
    assert min(sizes) * 343 / (NARROW_INCHES * 72) >= 9


def test_a_narrow_figure_is_shown_as_it_is(tmp_path: Path) -> None:
    with figure_style():
        drawing = draw(new_axes(4, 3).figure, tmp_path / "a.png")  # type: ignore[arg-type]
    assert drawing.wide == drawing.narrow and drawing.path.read_bytes().startswith(b"\x89PNG")


def test_names_below_a_panel_do_not_touch_on_a_phone() -> None:
    with figure_style():
        axes = new_axes(8, 3)
        axes.set_xticks(range(5), ["paper", "confounded", "selection", "not detected", "label-noise"])
        figure = axes.figure
        to_narrow(figure)  # type: ignore[arg-type]
        figure.canvas.draw()
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    # Turned by 35 degrees, two names touch if their distance along the axis is less than a line over its sine.
    names = axes.get_xticklabels()
    places = [axes.transData.transform((k, 0))[0] for k in range(5)]
    assert {name.get_rotation() for name in names} == {35.0}
    assert min(b - a for a, b in zip(places, places[1:])) > names[0].get_fontsize() * figure.dpi / 72 / 0.57
    assert all(name.get_window_extent(renderer).x0 >= 0 for name in names)


def test_a_panel_takes_the_label_of_the_axis_that_it_shares_and_no_other() -> None:
    with figure_style():
        figure = new_figure(9, 3)
        left, right = figure.subplots(1, 2)
        right.set_ylabel("gap (points)")
        to_narrow(figure)
    assert (left.get_ylabel(), right.get_ylabel()) == ("", "gap (points)")


def test_thousands_of_points_stay_small_and_keep_their_look() -> None:
    with figure_style():
        axes = new_axes(7, 3)
        axes.plot(range(3000), range(3000), "o", color=PALETTE["black"], ms=3, alpha=0.5)
        axes.plot(range(30), range(30), ".", color=PALETTE["blue"])
        svg = svg_text(axes.figure)  # type: ignore[arg-type]
    assert svg.count("<use ") >= 3030 and len(svg) < 3030 * 60
    assert svg.count("fill-opacity: 0.5") == 1
    assert svg.count("<g") == svg.count("</g>")
