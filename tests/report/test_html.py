"""The report page: whole, escaped, self-contained."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from causalft.errors import CausalFTError
from causalft.report.drawing import draw
from causalft.report.html import Figure, Section, Table, made_line, render_report
from causalft.report.style import PALETTE, figure_style, new_axes, save_figure

VOID = {"meta", "img", "br", "link"}


class Balance(HTMLParser):
    """Collects tags and checks that each is closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.attributes.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    with figure_style():
        axes = new_axes(2, 1.5)
        axes.plot([0, 1], [0, 1], color=PALETTE["blue"])
        return save_figure(axes.figure, tmp_path / "figures" / "line.png")


def page_with(picture: Path) -> str:
    section = Section(
        "Groups <all>",
        ["One & two."],
        tables=[Table(["model", "many"], [["clip", "53.1 %"]], caption="By group.")],
        figures=[Figure(picture, "A line.", 'a "line"')],
    )
    return render_report(
        title="Fit", verdict="Gap halved.", facts={"zoo": "mini"}, sections=[section], command="causalft fit"
    )


def test_page_is_balanced_self_contained_and_readable_on_a_phone(picture: Path) -> None:
    page = page_with(picture)
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    addresses = [
        value for _, attrs in parser.attributes for name, value in attrs.items() if name in ("src", "href")
    ]
    assert len(addresses) == 1 and addresses[0].startswith("data:image/png;base64,")
    assert base64.b64decode(addresses[0].split(",")[1]) == picture.read_bytes()
    assert not re.search(r"https?://|@import|url\(", page)
    assert "width=device-width" in page and "prefers-color-scheme: dark" in page


def test_text_is_escaped_and_ordered(picture: Path) -> None:
    page = page_with(picture)
    assert "Groups &lt;all&gt;" in page and "One &amp; two." in page and "a &#34;line&#34;" in page
    positions = [
        page.index(text) for text in ("Gap halved.", "zoo", "By group.", "A line.", "causalft fit</code>")
    ]
    assert positions == sorted(positions)


def test_a_ragged_table_and_a_missing_figure_are_named(tmp_path: Path) -> None:
    with pytest.raises(CausalFTError, match="row 0 of table 'By group.' has 1 cells, its header 2"):
        Table(["model", "many"], [["clip"]], caption="By group.")
    section = Section("x", figures=[Figure(tmp_path / "none.png", "", "")])
    with pytest.raises(CausalFTError, match="none.png: no such figure"):
        render_report(title="", verdict="", facts={}, sections=[section], command="")
    with pytest.raises(CausalFTError, match="not '.tiff'"):
        Figure(tmp_path / "a.tiff", "", "").data_uri  # noqa: B018


def test_the_same_figure_gives_the_same_bytes_and_style_does_not_leak(tmp_path: Path) -> None:
    import matplotlib

    before = matplotlib.rcParams["axes.spines.top"]
    files = []
    for name in ("a.png", "b.png"):
        with figure_style():
            axes = new_axes(2, 1)
            axes.bar([0, 1], [1, 2])
            files.append(save_figure(axes.figure, tmp_path / name).read_bytes())
    assert files[0] == files[1] and files[0].startswith(b"\x89PNG")
    assert matplotlib.rcParams["axes.spines.top"] == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_drawings_come_for_phone_and_wide_screen(tmp_path: Path) -> None:
    with figure_style():
        axes = new_axes(7, 3)
        axes.plot([0, 1], [0, 1])
        drawing = draw(axes.figure, tmp_path / "line.png")
    section = Section("x", figures=[Figure(drawing, "A line.", "a line")])
    page = render_report(title="t", verdict="v", facts={}, sections=[section], command="c")
    assert page.count("data:image/svg+xml") == 2 and '<source media="(max-width: 36rem)"' in page
    assert "width: 672px" in page and "figure img { max-width: 100%" in page
    assert Figure(drawing, "", "").path == tmp_path / "line.png"


def test_nothing_empty_stands_on_a_page() -> None:
    sections = [Section("No text"), Section("No row", tables=[Table(["a"], [])]), Section("Some", ["Text."])]
    page = render_report(title="t", verdict="v", facts={"notes": ""}, sections=sections, command="c")
    assert "No text" not in page and "No row" not in page and "Some" in page
    assert "<dl>" not in page and "<footer>" not in page and "<figure>" not in page


def test_numbers_stand_right_and_words_left() -> None:
    table = Table(
        ["test", "p", "interval", "of", "verdict"],
        [
            ["a -> b", "< 1e-4", "12.3 [11.0, 13.6] %", "3 of 12", "2 seeds"],
            ["b", "", "not measurable", "7", "x"],
        ],
    )
    assert table.numeric == [False, True, True, True, False]
    page = render_report(title="", verdict="", facts={}, sections=[Section("s", tables=[table])], command="")
    assert "<td>&lt; 1e-4</td>" in page and '<td class="text">2 seeds</td>' in page


def test_a_wide_table_says_that_it_scrolls_where_it_does() -> None:
    small, large = Table(["a", "b"], [["x", "1"]]), Table([f"column {k}" for k in range(12)], [["1.0"] * 12])
    page = render_report(
        title="", verdict="", facts={}, sections=[Section("s", tables=[small, large])], command=""
    )
    assert small.width * 2 * 16 < 343 < large.width * 2 * 16  # pixels; what a phone has is in between
    assert f"@container (max-width: {2 * large.width}rem)" in page
    assert "Scroll sideways to see all 12 columns." in page and 'class="scroll" tabindex="0"' in page


def test_date_version_and_duration_end_the_page() -> None:
    metrics = {"made": {"date": "2026-11-28", "version": "0.1.0"}, "seconds": 61.4}
    line = made_line(metrics)
    assert line == "Made on 2026-11-28 with CausalFT 0.1.0 in 61 seconds."
    page = render_report(title="t", verdict="v", facts={}, sections=[], command="c", made=line)
    assert page.index("</code></pre>") < page.index(line)
    assert made_line({}) == "" and made_line({"seconds": 0.2}) == "Made in 1 second."


def test_a_column_without_an_entry_is_left_out() -> None:
    table = Table(["model", "gap", "change"], [["clip", "1.0", ""], ["fused", "0.5", ""]])
    page = render_report(title="", verdict="", facts={}, sections=[Section("s", tables=[table])], command="")
    assert "gap" in page and "change" not in page and "all 2 columns" in page
