"""The verdict as text: cells of numbers, a page in HTML, a page in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalft.errors import CausalFTError

if TYPE_CHECKING:
    from causalft.report.html import Section

__all__ = ["COMMAND", "headline", "number_words", "verdict_html", "verdict_markdown", "write_verdict"]

COMMAND = "causalft experiment verdict"


def number_words(number: Mapping[str, Any]) -> str:
    """A number with its interval.

    Examples
    --------
    >>> number_words({"estimate": 0.104, "ci95": [0.098, 0.11], "unit": "points"})
    '+10.4 [9.8, 11.0]'
    >>> number_words({"estimate": 0.93, "ci95": [0.9, 0.95], "unit": ""})
    '0.93 [0.9, 0.95]'
    """
    from causalft.runs.intervals import interval_text

    estimate, ci95 = number.get("estimate"), number.get("ci95")
    if number.get("unit") == "points" or estimate is None:
        return interval_text(estimate, ci95, sign=True, missing="no number")
    limits = "" if ci95 is None or None in ci95 else f" [{ci95[0]:.3g}, {ci95[1]:.3g}]"
    return f"{estimate:.3g}{limits}"


def headline(found: Mapping[str, Any]) -> str:
    """How many claims and answers are supported, contradicted and open.

    Examples
    --------
    >>> rows = [{"verdict": "supported"}, {"verdict": "open"}]
    >>> headline({"claims": rows, "objections": rows[:1]})
    'Claims: 1 supported, 0 contradicted, 1 open. Answers to objections: 1 supported, 0 contradicted, 0 open.'
    """
    words = {"claims": "Claims", "objections": "Answers to objections"}
    return " ".join(f"{shown}: {_counted(found[key])}." for key, shown in words.items())


def _counted(rows: Sequence[Mapping[str, Any]]) -> str:
    verdicts = [row["verdict"] for row in rows]
    return ", ".join(f"{verdicts.count(word)} {word}" for word in ("supported", "contradicted", "open"))


def _sections(found: Mapping[str, Any]) -> list[Section]:
    from causalft.report.html import Section, Table

    claims = [
        [row["section"], row["text"], _told(row), "\n".join(_by_scale(row)), row["command"]]
        for row in found["claims"]
    ]
    objections = [
        [str(row["number"]), row["doubt"], row["answer"], _told(row)] for row in found["objections"]
    ]
    answers = [
        [
            str(row["number"]),
            number["claim"],
            number["scale"],
            number["verdict"],
            number_words(number),
            command,
        ]
        for row in found["objections"]
        for number, command in _with_commands(row, found)
    ]
    runs = [
        [run["experiment"], run["scale"], str(run["seeds"]), "quick" if run["quick"] else "", run["date"]]
        for run in found["runs"]
    ]
    rule = (
        "A claim is supported if the 95 % interval lies on its side of the bound, contradicted if on the other, else "
        "open. Differences are paired over test images and seeds; those from 0 must also hold after Holm's correction. "
        "Scales that disagree leave a claim open. Points, unless a correlation or a count is claimed."
    )
    about = (
        "The verdict is about the answer: supported if every claim that answers it is, contradicted if some are and "
        "none is supported, else open."
    )
    return [
        Section(
            "Claims of the paper", [rule], [Table(["of", "claim", "verdict", "number", "command"], claims)]
        ),
        Section(
            "Objections of its reviewers",
            [about],
            [
                Table(["", "doubt", "what would answer it", "verdict"], objections),
                Table(["", "answer", "scale", "verdict", "number", "command"], answers, "The numbers."),
            ],
        ),
        Section("Runs", [], [Table(["experiment", "scale", "seeds", "size", "made on"], runs)]),
    ]


def _told(row: Mapping[str, Any]) -> str:
    return f"{row['verdict']}: {row['why']}" if row["why"] else str(row["verdict"])


def _by_scale(row: Mapping[str, Any]) -> list[str]:
    return [f"{number['scale']} {number_words(number)}" for number in row["numbers"]]


def _with_commands(
    row: Mapping[str, Any], found: Mapping[str, Any]
) -> Iterator[tuple[Mapping[str, Any], str]]:
    for number in row["numbers"]:
        yield number, found["commands"][f"{number['experiment']} {number['scale']}"]


def verdict_html(found: Mapping[str, Any]) -> str:
    """One self-contained page."""
    from causalft.report.html import render_report

    return render_report(
        title="The paper, claim by claim",
        verdict=headline(found),
        details=[_caveat(found)],
        facts={"version": found["version"], "made on": _dates(found), "scales": ", ".join(_scales(found))},
        sections=_sections(found),
        command=COMMAND,
    )


def verdict_markdown(found: Mapping[str, Any]) -> str:
    """The page of the documentation."""
    lines = [
        "# The paper, claim by claim",
        "",
        f"Generated by `{COMMAND}` with CausalFT {found['version']} from runs of {_dates(found)}, scales: "
        f"{', '.join(_scales(found))}. How to read it: [tutorial](tutorials/the-paper-claim-by-claim.md).",
        "",
        headline(found),
    ]
    lines += ["", _caveat(found)] if _caveat(found) else []
    for section in _sections(found):
        lines += ["", f"## {section.title}"]
        for paragraph in section.paragraphs:
            lines += ["", paragraph]
        for table in section.tables:
            if not table.rows:
                continue
            lines += ["", *([table.caption, ""] if table.caption else [])]
            lines += [_row(table.columns), _row(["---"] * len(table.columns))]
            commands = [column == "command" for column in table.columns]
            lines += [
                _row([f"`{cell}`" if code else _cell(cell) for cell, code in zip(row, commands, strict=True)])
                for row in table.rows
            ]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", "<br>")


def _scales(found: Mapping[str, Any]) -> list[str]:
    seeds: dict[str, set[int]] = {}
    for run in found["runs"]:
        seeds.setdefault(run["scale"], set()).add(run["seeds"])
    return [
        f"{scale} ({' or '.join(map(str, sorted(numbers)))} seed{'s' * (numbers != {1})})"
        for scale, numbers in seeds.items()
    ]


def _dates(found: Mapping[str, Any]) -> str:
    dates = sorted({run["date"] for run in found["runs"] if run["date"]})
    return dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}" if dates else "an unknown date"


def _caveat(found: Mapping[str, Any]) -> str:
    quick = sum(run["quick"] for run in found["runs"])
    if not quick:
        return ""
    which = "All runs are" if quick == len(found["runs"]) else f"{quick} of {len(found['runs'])} runs are"
    return f"{which} quick ones, with fewer epochs and seeds: they show that the commands work, and decide nothing."


def write_verdict(path: Path, found: Mapping[str, Any]) -> None:
    """Write the page, by its ending.

    Raises
    ------
    CausalFTError
        For another ending than ``.html`` and ``.md``, or a file that cannot be written.
    """
    from causalft.runs.folder import check_place, write_text

    makers = {".html": verdict_html, ".md": verdict_markdown}
    if path.suffix not in makers:
        raise CausalFTError(f"{path}: a page ends in .html or .md")
    check_place(path)
    write_text(path, makers[path.suffix](found))
