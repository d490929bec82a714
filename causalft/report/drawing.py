"""Figures for a page: SVGs whose colours follow light and dark mode, for wide screens and phones."""

from __future__ import annotations

import base64
import io
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalft.report.style import ON_DARK, ON_LIGHT, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image

__all__ = ["Drawing", "SIDE", "dark_colour", "draw", "svg_uri", "thumbnail_uri", "to_narrow"]


NARROW_INCHES = 4.3
"""Width of a figure for a phone: 9-point text becomes about 11 pixels on a screen of 375."""

_WIDE_ENOUGH = 4.6  # a figure no wider than this is shown unchanged on a phone

# Text and background of dark mode, as in report.html.j2; greys lie between them.
_DARK_TEXT, _DARK_PAGE = (0xE6, 0xE9, 0xEC), (0x15, 0x18, 0x1B)

# Colours too dark for a dark page, and the pale fills of graphs.
_DARK: dict[str, str] = {
    "#0072b2": "#2f8fd0",
    "#b07a00": "#e0a526",
    "#00795a": "#2bb892",
    "#cfe6f5": "#12384f",
    "#fbe3b5": "#4d3a0c",
    "#c9ebdf": "#0f4234",
}


@dataclass(frozen=True)
class Drawing:
    """A figure in the forms that a page needs.

    Attributes
    ----------
    path : Path
        The PNG, for other documents.
    wide, narrow : str
        SVG for a wide screen and for a phone; equal if the figure fits both.
    """

    path: Path
    wide: str
    narrow: str


def draw(figure: Figure, path: Path, *, narrow: Figure | None = None) -> Drawing:
    """Write the PNG of a figure and return it with its SVGs. Use the figure last: it is laid out anew for the phone.

    Parameters
    ----------
    figure : matplotlib Figure
    path : Path
        Of the PNG.
    narrow : matplotlib Figure, optional
        Shown on a phone instead.

    Examples
    --------
    >>> import tempfile
    >>> from causalft.report.style import figure_style, new_axes
    >>> with figure_style():
    ...     drawing = draw(new_axes(6, 3).figure, Path(tempfile.mkdtemp()) / "empty.png")
    >>> "prefers-color-scheme: dark" in drawing.wide, drawing.wide == drawing.narrow
    (True, False)
    """
    saved = save_figure(figure, path)
    figure.set_layout_engine("none")  # the PNG has just been laid out: the SVG takes the same places
    wide = svg_text(figure)
    if narrow is not None:
        return Drawing(saved, wide, svg_text(narrow))
    if figure.get_figwidth() <= _WIDE_ENOUGH:
        return Drawing(saved, wide, wide)
    to_narrow(figure)
    return Drawing(saved, wide, svg_text(figure))


def svg_text(figure: Figure) -> str:
    """The figure as SVG with text as text, light and dark in one; the same figure gives the same bytes."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer, canvas = io.StringIO(), figure.canvas
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "causalft"}):
        # savefig would draw everything twice, the first time for the layout alone.
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    figure.set_canvas(canvas)
    return _recolour(buffer.getvalue())


def svg_uri(svg: str) -> str:
    """An SVG as a ``data:`` address."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode('utf-8')).decode('ascii')}"


def dark_colour(colour: str) -> str:
    """Return a colour for a dark page: greys are inverted, other colours stay readable.

    Examples
    --------
    >>> dark_colour("#ffffff"), dark_colour("#000000"), dark_colour("#0072b2"), dark_colour("#e69f00")
    ('#15181b', '#e6e9ec', '#2f8fd0', '#e69f00')
    """
    known = _DARK.get(colour)
    if known is not None:
        return known
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    if not red == green == blue or colour in (ON_LIGHT, ON_DARK):
        return colour
    mixed = (round(text + (page - text) * red / 255) for text, page in zip(_DARK_TEXT, _DARK_PAGE))
    return "#" + "".join(f"{value:02x}" for value in mixed)


_COLOUR = re.compile(r"\b(fill|stroke): (#[0-9a-f]{6})\b")
_TAG = re.compile(r"<[a-z][^>]*>")
_LONG_NUMBER = re.compile(r"(?<![\w.#])(-?\d+\.\d{2})\d+(?![\w.])")


_POINTS = re.compile(r"(?:\s*<use [^>]*/>){20,}")
_POINT = re.compile(r'<use xlink:href="#(\w+)" x="([^"]*)" y="([^"]*)" style="([^"]*)"/>')


def _together(points: re.Match[str]) -> str:
    """Group markers of one look, which saves two thirds of the bytes of a scatter plot."""
    found = _POINT.findall(points[0])
    looks = {(name, style) for name, _, _, style in found}
    if len(looks) != 1 or len(found) != points[0].count("<use "):
        return points[0]
    ((name, style),) = looks
    uses = "".join(f'<use href="#{name}" x="{float(x):.1f}" y="{float(y):.1f}"/>' for _, x, y, _ in found)
    return f'<g style="{style}">{uses}</g>'


def _recolour(svg: str) -> str:
    """Replace colours that change in dark mode by variables, and round coordinates to hundredths of a point."""
    head, rest = svg.split("<defs>", 1)
    rest = _POINTS.sub(_together, rest)
    rest = _TAG.sub(lambda tag: _LONG_NUMBER.sub(r"\1", tag[0]), rest)
    changing = sorted({c for _, c in _COLOUR.findall(rest) if dark_colour(c) != c} | {"#000000"})

    def named(match: re.Match[str]) -> str:
        what, colour = match.groups()
        return f"{what}: var(--{colour[1:]})" if colour in changing else match[0]

    light = ";".join(f"--{c[1:]}:{c}" for c in changing)
    dark = ";".join(f"--{c[1:]}:{dark_colour(c)}" for c in changing)
    # Black is SVG's own fill, which matplotlib leaves out.
    style = (
        f"<style>svg{{fill:var(--000000);{light}}}"
        f"@media (prefers-color-scheme: dark){{svg{{{dark}}}}}</style>"
    )
    return f"{head}{style}<defs>{_COLOUR.sub(named, rest)}"


def to_narrow(figure: Figure) -> None:
    """Lay a figure out for a phone: a grid of R x C panels becomes C x R, long labels wrap.

    Panels keep their height. The title of a single panel goes, since the caption repeats it.
    """
    from matplotlib.gridspec import GridSpec

    panels = [axes for axes in figure.axes if axes.get_subplotspec() is not None]
    if not panels:
        return
    grid = panels[0].get_subplotspec().get_gridspec()  # type: ignore[union-attr]
    n_rows, n_columns = grid.nrows, grid.ncols
    height = figure.get_figheight() / n_rows
    legends = [_legend_of(legend) for legend in figure.legends]
    for legend in list(figure.legends):
        legend.remove()
    places = {}
    for axes in panels:
        span = axes.get_subplotspec()
        assert span is not None
        places[axes] = (span.rowspan.start, span.colspan.start)
    if n_columns > 1:
        turned = GridSpec(n_columns, n_rows, figure=figure)
        labelled = [axes for axes in panels if axes.get_ylabel()]
        label_of = {axes: _shared_label(axes, labelled) for axes in panels}
        for axes, (row, column) in places.items():
            axes.set_subplotspec(turned[column, row])
            axes.set_ylabel("" if row else label_of[axes])
            axes.tick_params(labelleft=row == 0 and _has_labels(axes), labelbottom=True)
    width = NARROW_INCHES / n_rows if n_columns > 1 else NARROW_INCHES
    lines, heights = 0, []
    for axes in panels:
        names = max(
            (len(line) for tick in axes.get_yticklabels() for line in tick.get_text().split("\n")), default=0
        )
        inside = max(1.2, width - 0.08 * names - 0.3)  # inches left for the panel itself
        label = textwrap.fill(axes.get_xlabel(), int(inside * 14))
        axes.set_xlabel(label)
        axes.set_ylabel(textwrap.fill(axes.get_ylabel(), int(height * 12)))
        lines = max(lines, label.count("\n") + _turn_crowded_names(axes, inside))
        heights.append(_image_height(axes, inside) or min(height, 3.4 if n_columns > 1 else height))
        if n_rows * n_columns == 1:
            axes.set_title("", loc="left")
        else:
            axes.set_title(textwrap.fill(axes.get_title(loc="left"), int(width * 9)), loc="left")
    if figure.get_suptitle():
        figure.suptitle("")
    for handles, labels in legends:
        longest = max((len(label) for label in labels), default=1)
        columns = max(1, min(len(labels), int(NARROW_INCHES * 13 / (longest + 5))))
        lines += -(-len(labels) // columns)
        figure.legend(handles, labels, loc="outside lower center", ncols=columns)
    below = n_columns if n_columns > 1 else n_rows
    figure.set_size_inches(NARROW_INCHES, max(heights) * below + 0.14 * lines)
    figure.set_layout_engine("constrained")


def _shared_label(axes: Any, labelled: list[Any]) -> str:
    """The y label of a panel, or of the panel that shares its axis."""
    if axes.get_ylabel():
        return str(axes.get_ylabel())
    return next(
        (other.get_ylabel() for other in labelled if axes.get_shared_y_axes().joined(axes, other)), ""
    )


def _turn_crowded_names(axes: Any, width: float) -> int:
    """Turn tick names that would touch; return the lines of text that this takes."""
    from matplotlib.ticker import FixedLocator

    if not isinstance(axes.xaxis.get_major_locator(), FixedLocator):  # numbers find their own places
        return 0
    names = [tick.get_text() for tick in axes.get_xticklabels()]
    longest = max((len(line) for name in names for line in name.split("\n")), default=0)
    if longest * 0.085 <= width / max(1, len(names)):
        return 0
    for tick in axes.get_xticklabels():
        tick.set(rotation=35, ha="right", rotation_mode="anchor")
    return longest // 3


def _image_height(axes: Any, width: float) -> float | None:
    """Height in inches of a panel that shows an image; None for other panels."""
    if not axes.images or axes.get_aspect() == "auto":
        return None
    rows, columns = axes.images[0].get_array().shape[:2]
    return width * rows / columns + 0.35


def _has_labels(axes: Any) -> bool:
    return len(axes.get_yticks()) > 0


def _legend_of(legend: Any) -> tuple[list[Any], list[str]]:
    return list(legend.legend_handles), [text.get_text() for text in legend.get_texts()]


SIDE = 96
"""Longest side of a thumbnail in pixels."""


def thumbnail_uri(image: Image.Image, side: int = SIDE) -> str:
    """Shrink an RGB image to sides of at most ``side`` pixels; return a JPEG as a ``data:`` address.

    It is never enlarged, and no metadata (EXIF, colour profile) is kept.

    Parameters
    ----------
    image : PIL.Image.Image
        Mode RGB; not changed.
    side : int
        In pixels.

    Examples
    --------
    >>> from PIL import Image
    >>> uri = thumbnail_uri(Image.new("RGB", (4000, 3000), "red"))
    >>> uri[:23], len(uri) < 2000
    ('data:image/jpeg;base64,', True)
    """
    small = image.copy()
    small.thumbnail((side, side))
    small.info.clear()
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=82, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
