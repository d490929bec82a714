"""What ``diagnose --data`` prints: tables of the zero-shot strata, the verdict, and what each method can mend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from causalft.analysis.before_training.expectation import METHODS
from causalft.analysis.diagnosis import points
from causalft.cli.evaluate import WORDS, accuracy_table, cross_table
from causalft.pipelines.pages.before_training import diagnosis_verdict

if TYPE_CHECKING:
    from rich.console import Console

    from causalft.analysis.before_training import StrataDiagnosis

__all__ = ["print_strata"]

_MOST_NAMES = 10


def print_strata(console: Console, found: StrataDiagnosis) -> None:
    """Print a diagnosis before training.

    Parameters
    ----------
    console : rich Console
    found : StrataDiagnosis
    """
    console.print(Text(WORDS, style="dim"))
    console.print()
    for table in (
        accuracy_table(found.zero_shot, with_data=found.class_counts is not None),
        cross_table(found.zero_shot),
    ):
        console.print(table)
        console.print()
    gla = found.gla.mean
    console.print(
        Text(
            f"GLA-ZS, mean of the strata: {points(gla.after)} % (change {points(gla.difference, sign=True)} points)"
        )
    )
    console.print()
    console.print(Text(diagnosis_verdict(found.zero_shot), style="bold"))
    for each in found.expectations:
        console.print()
        console.print(Text.assemble((f"{METHODS[each.method]}: ", "bold"), " ".join(each.sentences)))
    console.print()
    if line := _tail_line(found):
        console.print(Text(line))


def _tail_line(found: StrataDiagnosis) -> str:
    """The classes that are few by data and by prior, with the accuracy of the fusion."""
    if not found.tail:
        return ""
    what = "few by data and by prior" if found.has_few else "few by prior"
    named = [f"{each.name} {100 * each.fused.estimate:.1f} %" for each in found.tail[:_MOST_NAMES]]
    more = len(found.tail) - _MOST_NAMES
    return f"{what} (fused): {', '.join(named)}{f', and {more} more' if more > 0 else ''}"
