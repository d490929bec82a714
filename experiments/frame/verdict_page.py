"""The verdict as text: cells of numbers, a page in HTML, a page in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalft.errors import CausalFTError

if TYPE_CHECKING:
    from causalft.report.html import Section

__all__ = ["claims_by_title", "headline", "number_words", "verdict_html", "verdict_markdown", "write_verdict"]

PAPER, FURTHER = "Claims of the paper", "Further claims"


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
        missing = "left out" if number.get("left_out") else "no number"
        return interval_text(estimate, ci95, sign=True, missing=missing)
    limits = "" if ci95 is None or None in ci95 else f" [{ci95[0]:.3g}, {ci95[1]:.3g}]"
    return f"{estimate:.3g}{limits}"


def claims_by_title(found: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    """The paper's claims and the others, by heading; without the others if there are none.

    Examples
    --------
    >>> claims_by_title({"claims": [{"of": "paper"}, {"of": "further"}]})
    {'Claims of the paper': [{'of': 'paper'}], 'Further claims': [{'of': 'further'}]}
    """
    further = [row for row in found["claims"] if row["of"] == "further"]
    paper = [row for row in found["claims"] if row["of"] == "paper"]
    return {PAPER: paper, **({FURTHER: further} if further else {})}


def headline(found: Mapping[str, Any]) -> str:
    """How many claims and answers are supported, contradicted and open.

    Examples
    --------
    >>> rows = [{"of": "paper", "verdict": "supported"}, {"of": "paper", "verdict": "open"}]
    >>> headline({"claims": rows, "objections": rows[:1]})  # doctest: +NORMALIZE_WHITESPACE
    'Claims of the paper: 1 supported, 0 contradicted, 1 open.
    Answers to objections: 1 supported, 0 contradicted, 0 open.'
    """
    groups = {**claims_by_title(found), "Answers to objections": found["objections"]}
    return " ".join(f"{title}: {_counted(rows)}." for title, rows in groups.items())


def _counted(rows: Sequence[Mapping[str, Any]]) -> str:
    verdicts = [row["verdict"] for row in rows]
    return ", ".join(f"{verdicts.count(word)} {word}" for word in ("supported", "contradicted", "open"))


def _sections(found: Mapping[str, Any]) -> list[Section]:
    from causalft.report.html import Section, Table

    objections = [
        [str(row["number"]), _told(row), row["doubt"], row["answer"]] for row in found["objections"]
    ]
    answers = [
        [
            str(row["number"]),
            number["verdict"],
            number["claim"],
            number["scale"],
            number_words(number),
            number["command"],
        ]
        for row in found["objections"]
        for number in row["numbers"]
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
    further = (
        "Of this project and of other papers; judged in the same way. A gap is brought under a bound if its interval "
        "holds 0 and ends below it, or lies within it on both sides: one that is overshot is not closed."
    )
    about = (
        "The verdict is about the answer: supported if every claim that answers it is, contradicted if some are and "
        "none is supported, else open."
    )
    return [
        *(
            Section(
                title,
                [rule if title == PAPER else further],
                [Table(["of", "verdict", "claim", "number", "command"], list(map(_claim_cells, rows)))],
            )
            for title, rows in claims_by_title(found).items()
        ),
        Section(
            "Objections of its reviewers",
            [about],
            [
                Table(["", "verdict", "doubt", "what would answer it"], objections),
                Table(["", "verdict", "answer", "scale", "number", "command"], answers, "The numbers."),
            ],
        ),
        Section("Runs", [], [Table(["experiment", "scale", "seeds", "size", "made on"], runs)]),
    ]


def _claim_cells(row: Mapping[str, Any]) -> list[str]:
    return [row["section"], _told(row), row["text"], "\n".join(_by_scale(row)), row["command"]]


def _told(row: Mapping[str, Any]) -> str:
    return f"{row['verdict']}: {row['why']}" if row["why"] else str(row["verdict"])


def _by_scale(row: Mapping[str, Any]) -> list[str]:
    return [f"{number['scale']} {number_words(number)}" for number in row["numbers"]]


def verdict_html(found: Mapping[str, Any]) -> str:
    """One self-contained page."""
    from causalft.report.html import render_report

    return render_report(
        title="The paper, claim by claim",
        verdict=headline(found),
        details=[_caveat(found)],
        facts={"version": found["version"], "made on": _dates(found), "scales": ", ".join(_scales(found))},
        sections=_sections(found),
        command=_command(found, ".html"),
    )


def _command(found: Mapping[str, Any], ending: str) -> str:
    """The command that makes a page, with the names of files but not their folders."""
    earlier = f" --earlier {found['earlier']}" if found["earlier"] else ""
    return f"causalft experiment verdict runs{earlier} --page verdict{ending}"


def verdict_markdown(found: Mapping[str, Any]) -> str:
    """The page of the documentation."""
    lines = [
        "# The paper, claim by claim",
        "",
        f"Generated by `{_command(found, '.md')}` with CausalFT {found['version']} from runs of {_dates(found)}, "
        f"scales: {', '.join(_scales(found))}. How to read it: [tutorial](tutorials/the-paper-claim-by-claim.md).",
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
