"""The figure of a bias curve: bias against the number of rows beside the truth, and how often intervals cover it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from causalft.confounding.curve import Curve
from causalft.report.style import PALETTE, figure_style, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_curve"]

_LOOK = {
    "naive": ("naive P(y | x)", PALETTE["vermillion"], "o", "-"),
    "backdoor": ("backdoor over C", PALETTE["blue"], "s", "-"),
    "ipw": ("IPW (the same estimate)", PALETTE["sky"], "D", "--"),
    "frontdoor": ("front-door over B", PALETTE["green"], "^", "-"),
}
"""Name of each estimator -> legend, colour, marker, line. IPW lies on backdoor, so it is dashed, and light."""


def draw_curve(curve: Curve) -> Figure:
    """Draw bias (left) and coverage (right) against the number of rows, on a logarithmic axis.

    The truth is the line at 0, the exact difference between seeing and doing the dotted line. Bars are Monte-Carlo
    (bias) and binomial (coverage) 95 % intervals. A hollow marker says that some codes had no estimate, for lack of
    overlap; a point is absent where hardly any run had one.

    Parameters
    ----------
    curve : Curve

    Examples
    --------
    >>> from causalft.confounding.curve import curve
    >>> from causalft.scm import DiscreteSCM
    >>> scm = DiscreteSCM(
    ...     [("C", "X"), ("X", "B"), ("B", "Y")],
    ...     {name: "01" for name in "CXBY"},
    ...     {"C": [0.5, 0.5], **{name: [[0.8, 0.2], [0.2, 0.8]] for name in "XBY"}},
    ... )
    >>> len(draw_curve(curve(scm, ns=[100, 200], repetitions=20, progress=False)).axes)
    2
    """
    from matplotlib.lines import Line2D

    with figure_style():
        figure = new_figure(9.2, 3.9)
        left, right = figure.subplots(1, 2, gridspec_kw={"width_ratios": [1.25, 1]})
        left.axhline(0, color="black", lw=1.0)
        right.axhspan(93, 97, color="#EEEEEE", lw=0)
        right.axhline(95, color="#999999", lw=0.8)
        for position, name in enumerate(curve.estimators):
            _draw_estimator(curve, name, 1.09 ** (position - (len(curve.estimators) - 1) / 2), left, right)
        exact = 100 * curve.difference
        left.axhline(exact, color=PALETTE["vermillion"], lw=1.0, ls=":")
        left.annotate(
            f"exact P(look | x) - P(look | do(x)) = {exact:.1f}",
            (1, exact),
            xycoords=("axes fraction", "data"),
            xytext=(0, 5 if exact >= 0 else -5),
            textcoords="offset points",
            ha="right",
            va="bottom" if exact >= 0 else "top",
            fontsize=8.5,
            color=PALETTE["vermillion"],
        )
        left.annotate(
            "truth",
            (1, 0),
            xycoords=("axes fraction", "data"),
            xytext=(0, -4),
            textcoords="offset points",
            ha="right",
            va="top",
            fontsize=8.5,
        )
        low, high = left.get_ylim()
        left.set_ylim(min(low, -1.0), max(high, exact + 2.5, 1.5))
        left.set_title("Bias of P(Y = class drawn | do(X))")
        left.set_ylabel("bias (percentage points)")
        right.set_ylim(-3, 103)
        right.set_title("Coverage of nominal 95 % intervals")
        right.set_ylabel("intervals that hold the truth (%)")
        right.text(curve.ns[0], 91.5, "93 to 97 %", fontsize=8, color="#777777", va="top", ha="left")
        for axes in (left, right):
            axes.set_xscale("log")
            axes.set_xticks(curve.ns, [f"{n:,}" for n in curve.ns], rotation=35, ha="right")
            axes.minorticks_off()
            axes.set_xlabel(f"rows ({curve.repetitions} repetitions each)")
            axes.margins(x=0.08)
        handles, labels = left.get_legend_handles_labels()
        if any(0.005 < point.undefined and not np.isnan(point.bias) for point in curve.points):
            handles.append(
                Line2D([], [], color=PALETTE["grey"], ls="", marker="o", ms=5, markerfacecolor="white")
            )
            labels.append("hollow: some x lack overlap")
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), columnspacing=1.4)
    return figure


def _draw_estimator(curve: Curve, name: str, nudge: float, left: Axes, right: Axes) -> None:
    """Draw one estimator into both panels; ``nudge`` keeps markers of one n apart."""
    label, colour, marker, line = _LOOK.get(name, (name, PALETTE["grey"], "o", "-"))
    points = [curve.point(name, n) for n in curve.ns]
    drawn = [point for point in points if not np.isnan(point.bias)]
    x = np.array([point.n for point in drawn]) * nudge
    for axes, values, limits in (
        (left, [p.bias for p in drawn], [p.bias_ci95 for p in drawn]),
        (right, [p.coverage for p in drawn], [p.coverage_ci95 for p in drawn]),
    ):
        y = 100 * np.array(values, dtype=float)
        bars = (
            100 * np.abs(np.array(limits, dtype=float).reshape(-1, 2).T - np.array(values)) if drawn else None
        )
        axes.errorbar(
            x,
            y,
            yerr=bars,
            color=colour,
            ls=line,
            lw=1.3,
            elinewidth=1.1,
            label=label if axes is left else None,
        )
        for position, height, point in zip(x, y, drawn):
            hollow = point.undefined > 0.005
            axes.plot(
                position,
                height,
                marker,
                ms=5,
                color=colour,
                markerfacecolor="white" if hollow else colour,
                zorder=4,
            )
