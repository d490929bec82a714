"""Tables of results as CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalft.report.table import Table, sort_number

CELLS = st.text("ab1 &%$#_{}\\~^<>|[]-\",;'\u00e9\u00b1\u2212", max_size=12)


@settings(max_examples=30)
@given(
    st.integers(1, 4).flatmap(
        lambda width: st.lists(st.lists(CELLS, min_size=width, max_size=width), min_size=1, max_size=5)
    )
)
def test_csv_gives_back_every_cell(lines: list[list[str]]) -> None:
    header, *rows = lines
    assert list(csv.reader(io.StringIO(Table(header, rows).to_csv()))) == lines


def test_csv_keeps_empty_columns_and_line_breaks() -> None:
    text = Table(["test", "p", "note"], [["A->B\n(main)", "< 1e-4", ""]]).to_csv()
    assert text == 'test,p,note\n"A->B\n(main)",< 1e-4,\n'


def test_latex_escapes_every_special_character() -> None:
    table = Table(["a & b", "100 %"], [["x_1 {\\} ~^#$", "12.3 [11.0, 13.6]"]], "Gap <all>")
    assert table.to_latex("tab:gap") == (
        "\\begin{table}\n\\centering\n\\caption{Gap $<$all$>$}\n\\label{tab:gap}\n\\begin{tabular}{lr}\n\\toprule\n"
        "a \\& b & 100 \\% \\\\\n\\midrule\n"
        "x\\_1 \\{\\textbackslash{}\\} \\textasciitilde{}\\textasciicircum{}\\#\\$ & 12.3 {[}11.0, 13.6] \\\\\n"
        "\\bottomrule\n\\end{tabular}\n\\end{table}\n"
    )


@settings(max_examples=60)
@given(CELLS)
def test_latex_of_any_text_has_balanced_braces_and_one_row_per_line(cell: str) -> None:
    row = Table(["name", "cell"], [["x", cell]]).to_latex().splitlines()[4]
    bare = re.sub(r"\\[&%$#_{}]", "", row.removesuffix(r" \\"))
    assert bare.count("{") == bare.count("}") and bare.count("&") <= 1 and bare.count("$") % 2 == 0


def test_latex_leaves_out_empty_columns_and_draws_arrows() -> None:
    table = Table(["test", "p", "change"], [["A->B", "0.5", ""]])
    assert table.to_latex().startswith("\\begin{tabular}{lr}\n")
    assert "A$\\rightarrow$B & 0.5 \\\\" in table.to_latex()
    assert Table(["test", "p"], []).to_latex().count("\\\\") == 1


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ("12.3 [11.0, 13.6]", 12.3),
        ("+12.3 % [11.0, 13.6]", 12.3),
        ("-0.5", -0.5),
        ("\N{MINUS SIGN}0.5 points", -0.5),
        ("1e-4", 1e-4),
        ("1,234,567", 1234567.0),
        ("12.5, no interval (one seed)", 12.5),
        ("[50.0, 56.2]", 50.0),
        ("50.0-56.2", 50.0),
        ("53.1 *", 53.1),
        ("inf", math.inf),
        ("", None),
        ("-", None),
        ("none (5 seeds)", None),
        ("v2", None),
        ("2026-11-28", None),
        ("0.10.2", None),
        ("3/5", None),
    ],
)
def test_a_cell_is_sorted_by_its_first_number(cell: str, number: float | None) -> None:
    assert sort_number(cell) == number


def test_bounds_come_just_before_and_after_their_number() -> None:
    cells = ["> 5", "5", "< 5", "< 1e-4", "0.0001", "\N{LESS-THAN OR EQUAL TO} 5"]
    numbers = [sort_number(cell) for cell in cells]
    assert numbers[3] < numbers[4] < numbers[2] < numbers[1] == numbers[5] < numbers[0]


@pytest.mark.parametrize(
    ("cells", "by_number"),
    [
        (["12.5", "not measurable (no class)", ""], True),
        (["3 of 12", "7"], True),
        (["3 kB", "2 MB"], False),
        (["1.5 MB", "2 MB"], True),
        (["10 downing street", "airplane"], False),
        (["a", "none"], False),
        (["", "none"], False),
        (["12ab", "3cd"], False),
    ],
)
def test_columns_of_one_unit_are_sorted_by_number(cells: list[str], by_number: bool) -> None:
    assert Table(["x"], [[cell] for cell in cells]).sorted_by_number == [by_number]


def test_sort_keys_are_written_only_where_the_text_is_not_the_key() -> None:
    rows = [["9", "a"], ["12.3 % [11.0, 13.6]", "b"], ["not measurable", "c"], ["inf", "d"], ["", "e"]]
    keys = [row[0] for row in Table(["x", "name"], rows).sort_keys]
    assert keys == [None, "12.3", "", "Infinity", None]
    assert all(row[1] is None for row in Table(["x", "name"], rows).sort_keys)
