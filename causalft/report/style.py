"""The style of every figure: one colour-blind-safe palette, one set of sizes, one way to save."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalft.runs.folder import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

__all__ = [
    "ON_DARK",
    "ON_LIGHT",
    "PALETTE",
    "SERIES",
    "figure_style",
    "new_axes",
    "new_figure",
    "plain_log_axis",
    "save_figure",
]

# Okabe and Ito, "Color universal design" (2008).
PALETTE: dict[str, str] = {
    "black": "#000000",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "green": "#009E73",
    "yellow": "#F0E442",
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "purple": "#CC79A7",
    "grey": "#777777",
}

# Colours of series, in order; the fused model is always black.
SERIES: tuple[str, ...] = tuple(
    PALETTE[name] for name in ("blue", "orange", "green", "purple", "vermillion", "sky", "yellow")
)

ON_LIGHT, ON_DARK = "#010101", "#fefefe"
"""Text on pale and on dark colour: unlike black and white, unchanged in dark mode."""

_RC: dict[Any, Any] = {
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#444444",
    "axes.labelcolor": "#222222",
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 9.0,
    "axes.labelsize": 9.5,
    "axes.grid": False,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.7,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "font.size": 9.5,
    "font.family": "sans-serif",
    "lines.linewidth": 1.8,
    "errorbar.capsize": 2.5,
    "svg.hashsalt": "causalft",
}


@contextmanager
def figure_style() -> Iterator[None]:
    """Apply the house style to figures drawn in the block.

    Examples
    --------
    >>> with figure_style():
    ...     axes = new_axes(4, 3)
    >>> axes.figure.get_size_inches().tolist()
    [4.0, 3.0]
    """
    import matplotlib

    with matplotlib.rc_context(_RC):
        yield


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of that size in inches, bound to no window or global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def new_axes(width: float, height: float) -> Axes:
    """Return the Axes of a new figure of that size in inches."""
    return new_figure(width, height).add_subplot()


def plain_log_axis(axis: Axis) -> None:
    """Make an axis logarithmic, with ticks such as 0.1, 1 and 10 and no minor ones: readable, and quick to draw."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    (axis.axes.set_xscale if axis is axis.axes.xaxis else axis.axes.set_yscale)("log")
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def save_figure(figure: Figure, path: Path, dpi: int = 150) -> Path:
    """Write a figure as PNG, atomically; return the path.

    Parameters
    ----------
    figure : matplotlib Figure
    path : Path
        Ends in ``.png``; parent folders are created.
    dpi : int
        Pixels per inch.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with atomic_path(path) as temporary:
        # No software version in the file: the same figure gives the same bytes.
        # savefig would draw everything twice, the first time for the layout alone.
        figure.set_dpi(dpi)
        FigureCanvasAgg(figure).print_png(temporary, metadata={"Software": None})
    return Path(path)
