"""A self-contained HTML page for a run: verdict, facts, tables and figures, and how to repeat it."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from causalft.errors import CausalFTError
from causalft.report.drawing import Drawing, svg_uri
from causalft.report.table import Table

__all__ = [
    "Card",
    "Figure",
    "Section",
    "Table",
    "Thumbnail",
    "made_line",
    "place_name",
    "render_report",
    "without_images",
]

_MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class Figure:
    """A figure inside the page.

    Attributes
    ----------
    source : Drawing or Path
        From :func:`causalft.report.drawing.draw`, which fits dark mode and phones; or a PNG, JPEG or SVG file.
    caption : str
        What to see in it.
    alt : str
        The same for readers who cannot see it.
    """

    source: Drawing | Path
    caption: str
    alt: str

    @property
    def path(self) -> Path:
        """The file on disk."""
        return self.source.path if isinstance(self.source, Drawing) else Path(self.source)

    @property
    def data_uri(self) -> str:
        """The figure for a wide screen as a ``data:`` address."""
        if isinstance(self.source, Drawing):
            return svg_uri(self.source.wide)
        path = Path(self.source)
        if path.suffix.lower() not in _MEDIA_TYPES:
            raise CausalFTError(f"{path}: a report shows .png, .jpg or .svg, not '{path.suffix}'")
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise CausalFTError(f"{path}: no such figure; draw it before the report") from None
        return f"data:{_MEDIA_TYPES[path.suffix.lower()]};base64,{base64.b64encode(content).decode('ascii')}"

    @property
    def narrow_uri(self) -> str:
        """The figure for a phone, if it differs; else empty."""
        if isinstance(self.source, Drawing) and self.source.narrow != self.source.wide:
            return svg_uri(self.source.narrow)
        return ""

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height in pixels of a drawing; None for a file."""
        if not isinstance(self.source, Drawing):
            return None
        found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', self.source.wide)
        assert found is not None  # matplotlib writes one
        return round(float(found[1]) * 4 / 3), round(float(found[2]) * 4 / 3)


@dataclass(frozen=True)
class Thumbnail:
    """A small image in a card: its ``data:`` address (empty if unreadable), caption and alternative text."""

    uri: str
    caption: str
    alt: str


@dataclass(frozen=True)
class Card:
    """One of several alike things, with facts and rows of small images.

    Attributes
    ----------
    title : str
    lines : sequence of str
        Plain text.
    rows : sequence of (str, sequence of Thumbnail)
        A heading and its images.
    """

    title: str
    lines: Sequence[str] = ()
    rows: Sequence[tuple[str, Sequence[Thumbnail]]] = ()


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs (plain text), tables, cards and figures; left out if empty."""

    title: str
    paragraphs: list[str] = field(default_factory=list)
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    cards: Sequence[Card] = ()

    @property
    def shown(self) -> bool:
        """Whether there is anything under the heading."""
        return bool(self.paragraphs or self.figures or self.cards or any(table.rows for table in self.tables))


def place_name(place: str) -> str:
    """Short name of a set, file or folder for a title.

    Examples
    --------
    >>> place_name("/home/me/my photos/"), place_name("creatures-lt"), place_name("a/train.txt,a/test.txt")
    ('my photos', 'creatures-lt', 'train.txt and others')
    """
    first, *others = place.split(",")
    return (Path(first).name or first) + (" and others" if others else "")


def made_line(metrics: Mapping[str, Any]) -> str:
    """When, with which version and in what time a run was made, from its ``metrics.json``.

    Examples
    --------
    >>> made_line({"made": {"date": "2026-11-28", "version": "0.1.0"}, "seconds": 75.2})
    'Made on 2026-11-28 with CausalFT 0.1.0 in 75 seconds.'
    >>> made_line({"seconds": 4000.0})
    'Made in 67 minutes.'
    """
    words = ["Made"]
    made = metrics.get("made")
    if made:
        words.append(f"on {made['date']} with CausalFT {made['version']}")
    seconds = metrics.get("seconds")
    if seconds is not None:
        number, unit = (
            (round(seconds / 60), "minute") if seconds > 120 else (max(1, round(seconds)), "second")
        )
        words.append(f"in {number} {unit}{'s' * (number != 1)}")
    return f"{' '.join(words)}." if len(words) > 1 else ""


def render_report(
    *,
    title: str,
    verdict: str,
    facts: dict[str, str],
    sections: Sequence[Section],
    command: str,
    details: Sequence[str] = (),
    made: str = "",
) -> str:
    """Return the page: one HTML text with style, images and the script that sorts tables inside, no address to fetch.

    Parameters
    ----------
    title : str
        A name, never a path.
    verdict : str
        The answer in one short sentence; it comes first.
    facts : dict of str to str
        Data, zoo, seeds; empty ones are left out.
    sections : sequence of Section
    command : str
        Repeats the run.
    details : sequence of str
        Paragraphs under the verdict.
    made : str
        From :func:`made_line`; the last line of the page.

    Examples
    --------
    >>> page = render_report(title="A & B", verdict="Verified.", facts={"seeds": "3"}, sections=[], command="x")
    >>> "A &amp; B" in page, "http" in page
    (True, False)
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("causalft.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = [section for section in sections if section.shown]
    template = environment.get_template("report.html.j2")
    return template.render(
        title=title,
        verdict=verdict,
        details=[paragraph for paragraph in details if paragraph],
        facts={name: value for name, value in facts.items() if value},
        sections=shown,
        widths=sorted({table.filled.width for section in shown for table in section.tables if table.rows}),
        sortable=any(table.sortable for section in shown for table in section.tables),
        command=command,
        made=made,
    )


def without_images(page: str) -> str:
    """Return a page without thumbnails of the user's images, for a page that leaves the machine.

    Examples
    --------
    >>> without_images('<p>a</p><!--images--><img src="data:x"><!--/images--><p>b</p>')
    '<p>a</p><p>b</p>'
    """
    return re.sub(r"<!--images-->.*?<!--/images-->", "", page, flags=re.DOTALL)
