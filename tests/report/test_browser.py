"""A page in a browser: tables sort, phones do not scroll sideways, figures follow dark mode. Needs Chromium."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from causalft.report.drawing import draw, thumbnail_uri
from causalft.report.html import Card, Figure, Section, Table, Thumbnail, render_report
from causalft.report.style import figure_style, new_axes

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="no Chromium")]

ROWS = [
    ["fused", "63.5 [60.0, 66.1]", "< 1e-4", "many"],
    ["clip", "9.15 %", "0.0001", "few"],
    ["openclip", "not measurable", "", "few"],
    ["clip 10", "+53.1", "0.5", "few"],
    ["clip 9", "-2.0", "0.031", "many"],
]


def browse(folder: Path, page: str, *options: str) -> str:
    """The page after its scripts, or with ``--screenshot=FILE`` nothing."""
    file = folder / "page.html"
    file.write_text(page, encoding="utf-8")
    words = [
        str(BROWSER),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={folder / 'profile'}",
    ]
    run = subprocess.run(
        [*words, *options, file.as_uri()], capture_output=True, text=True, timeout=600, check=True
    )
    return run.stdout


def answer(folder: Path, page: str, script: str) -> Any:
    """What a function body in JavaScript returns when the page has loaded."""
    asking = (
        "<script>addEventListener('load', async () => { const found = await (async () => {"
        + script
        + "})(); document.body.innerHTML = '<pre>' + JSON.stringify(found) + '</pre>'; });</script></body>"
    )
    dom = browse(folder, page.replace("</body>", asking), "--dump-dom", "--virtual-time-budget=5000")
    found = re.search("<pre>(.*?)</pre>", dom)
    assert found, dom[-500:]
    return json.loads(html.unescape(found[1]))


def full_page(folder: Path) -> str:
    """A page with one of everything, as wide as it gets."""
    with figure_style():
        axes = new_axes(9, 3)
        axes.axhspan(0, 1, color="black")
        drawing = draw(axes.figure, folder / "wide.png")  # type: ignore[arg-type]
    long = "a_name_of_one_hundred_characters_without_any_space_" * 2
    small = Thumbnail(thumbnail_uri(Image.new("RGB", (96, 96), "red")), long, "red")
    section = Section(
        long,
        [long],
        [Table([f"column {k}" for k in range(12)], [[long, *["12.3 [11.0, 13.6]"] * 11]] * 3, long)],
        [Figure(drawing, long, "black")],
        [Card(long, [long], [(long, [small] * 5)])],
    )
    return render_report(
        title=long, verdict=long, facts={"weights": long}, sections=[section], command=f"causalft fit {long}"
    )


def test_clicks_sort_by_estimate_and_a_third_click_restores_the_order(tmp_path: Path) -> None:
    table = Table(["model", "accuracy", "p", "D"], ROWS)
    page = render_report(
        title="t", verdict="v", facts={}, sections=[Section("s", tables=[table])], command="c"
    )
    clicks = """
    const order = () => [...document.querySelectorAll("tbody tr")].map((row) => row.cells[0].textContent);
    return [1, 1, 1, 2, 0, 3, 3].map((place) => {
      const button = document.querySelectorAll("th")[place].querySelector("button");
      button.focus();
      button.click();
      const sorted = [...document.querySelectorAll("th[aria-sort]")].map((th) => th.textContent + " " + th.ariaSort);
      return [sorted, order(), document.activeElement === button];
    });"""
    fused, clip, openclip, ten, nine = (row[0] for row in ROWS)
    assert answer(tmp_path, page, clicks) == [
        [["accuracy ascending"], [nine, clip, ten, fused, openclip], True],
        [["accuracy descending"], [fused, ten, clip, nine, openclip], True],
        [[], [fused, clip, openclip, ten, nine], True],
        [["p ascending"], [fused, clip, nine, ten, openclip], True],
        [["model ascending"], [clip, nine, ten, fused, openclip], True],
        [["D ascending"], [clip, openclip, ten, fused, nine], True],
        [["D descending"], [fused, nine, clip, openclip, ten], True],
    ]


def test_a_phone_scrolls_the_table_and_not_the_page(tmp_path: Path) -> None:
    phone = f'<body><iframe srcdoc="{html.escape(full_page(tmp_path))}" style="width: 360px"></iframe></body>'
    measure = """
    const page = document.querySelector("iframe").contentDocument, scroll = page.querySelector(".scroll");
    return [page.documentElement.scrollWidth, scroll.clientWidth, scroll.scrollWidth > 400];"""
    width, of_frame, scrolls = answer(tmp_path, phone, measure)
    assert width <= 360 and of_frame <= 330 and scrolls


@pytest.mark.parametrize(("scheme", "page_is_dark"), [("0", True), ("1", False)])
def test_a_figure_follows_the_colour_scheme(tmp_path: Path, scheme: str, page_is_dark: bool) -> None:
    shot = tmp_path / "page.png"
    with figure_style():
        axes = new_axes(4, 3)
        axes.axhspan(0, 1, color="black")
        axes.set_axis_off()
        figure = Figure(draw(axes.figure, tmp_path / "black.png"), "", "")  # type: ignore[arg-type]
    page = render_report(
        title="", verdict="", facts={}, sections=[Section("s", figures=[figure])], command=""
    )
    options = [f"--blink-settings=preferredColorScheme={scheme}", "--window-size=600,700"]
    browse(tmp_path, page, *options, f"--screenshot={shot}")
    grey = Image.open(shot).convert("L")
    assert (grey.getpixel((590, 690)) < 60) == page_is_dark  # the ground
    drawn = sum(grey.crop((100, 250, 300, 350)).histogram()[128:])
    assert (drawn > 0.9 * 200 * 100) == page_is_dark  # black of the light mode is light in the dark one


def test_the_note_on_scrolling_is_shown_only_where_a_table_overflows(tmp_path: Path) -> None:
    row = ["a comparison of the one arm with the other"] + ["12.3 [11.0, 13.6]"] * 4
    narrow, wide = (
        Table(list("abcde"), [row]),
        Table([str(k) for k in range(30)], [["12.3 [11.0, 13.6]"] * 30]),
    )
    page = render_report(
        title="", verdict="", facts={}, sections=[Section("s", tables=[narrow, wide])], command=""
    )
    shown = """
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done, 100)));
    return [...document.querySelectorAll(".hint")].map((hint) => getComputedStyle(hint).display);"""
    assert answer(tmp_path, page, shown) == ["none", "block"]
