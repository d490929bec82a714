"""What data say against a graph, on the terminal: a line for each implied independence, the conclusion last."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from causalft.cli.output import console

if TYPE_CHECKING:
    from causalft.scm.falsification import Falsification, Line

__all__ = ["print_falsification"]

_UNITS = {
    "CMI": "conditional mutual information in nats, less what chance gives",
    "partial correlation": "partial correlation; the interval holds for all components of the test at once",
}


def print_falsification(found: Falsification, title: str, latent: Sequence[str]) -> None:
    """Print the table of a falsification and its conclusion.

    Parameters
    ----------
    found : Falsification
    title : str
    latent : sequence of str
        The latent nodes of the graph; those with a column are named.
    """
    from rich.table import Table

    from causalft.scm.independence import POWER
    from causalft.scm.intervals import p_words

    out = console()
    out.print(title, style="bold")
    out.print(f"{found.n} rows; {', '.join(map(str, found.variables))}")
    if measured := [each.name for each in found.variables if each.name in latent]:
        out.print(
            f"latent in the graph, but the table has a column, so taken as observed: {', '.join(measured)}"
        )
    if found.lines:
        table = Table("independence", box=None, pad_edge=False, collapse_padding=True, header_style="bold")
        for name in ("n", "estimate", "95 %", "p", "Holm p", "detects"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("verdict")
        for line in found.lines:
            test, (low, high) = line.test, line.test.ci95
            empty = math.isinf(test.detectable)
            numbers = (
                ("-",) * 5
                if empty
                else (
                    f"{test.estimate:.3f}",
                    f"[{low:.3f}, {high:.3f}]",
                    p_words(test.p),
                    p_words(line.p_holm),
                    f"{test.detectable:.3f}",
                )
            )
            table.add_row(str(line.claim), str(test.n), *numbers, line.verdict)
        out.print()
        out.print(table)
        out.print()
        for (method, quantity), lines in _by_method(found.lines).items():
            out.print(
                f"{method}: {'; '.join(map(_claim, lines))}. Estimate = {_UNITS[quantity]}.", style="dim"
            )
        out.print(
            f"n = rows where both vary; detects = the smallest estimate found with probability {POWER:g}. "
            + _assumes(found),
            style="dim",
        )
    out.print()
    first, *rest = found.words()
    out.print(first, style="bold")
    for sentence in rest:
        out.print(sentence)


def _by_method(lines: Sequence[Line]) -> dict[tuple[str, str], list[Line]]:
    groups: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        groups.setdefault((line.test.method, line.test.quantity), []).append(line)
    return groups


def _claim(line: Line) -> str:
    """Return a claim, and which columns of a correlation it is about: X _||_ Y (X=1 with spread of Y)."""
    return f"{line.claim} ({line.test.component})" if line.test.component else str(line.claim)


def _assumes(found: Falsification) -> str:
    """Name what the tests take for granted."""
    if any(line.test.method == "residual correlation" for line in found.lines):
        return "Assumed: independent rows, and means given continuous variables that polynomials can follow."
    return "Assumed: independent rows."
