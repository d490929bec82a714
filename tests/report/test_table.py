"""Tables of results as CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from causalft.report.table import Table

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
