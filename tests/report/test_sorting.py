"""Tables of a page are marked up for sorting; `test_browser.py` clicks on them."""

from __future__ import annotations

import re

from causalft.report.html import Section, Table, render_report

ROWS = [
    ["fused", "63.5 [60.0, 66.1]", "< 1e-4", "many"],
    ["clip", "9.15 %", "0.0001", "few"],
    ["openclip", "not measurable", "", "few"],
    ["clip 10", "+53.1", "0.5", "few"],
    ["clip 9", "-2.0", "0.031", "many"],
]


def page_of(*tables: Table) -> str:
    return render_report(
        title="t", verdict="v", facts={}, sections=[Section("s", tables=tables)], command="c"
    )


def test_markup_names_kind_and_key_of_each_column() -> None:
    page = page_of(Table(["model", "accuracy", "p", "D"], ROWS))
    assert re.findall(r"<th .*?>", page) == [
        '<th scope="col" class="text">',
        '<th scope="col" data-sort="number">',
        '<th scope="col" data-sort="number">',
        '<th scope="col" class="text">',
    ]
    assert '<td data-sort="63.5">63.5 [60.0, 66.1]</td>' in page
    assert '<td data-sort="9.999999999999999e-05">&lt; 1e-4</td>' in page and "<td>0.031</td>" in page


def test_a_page_without_a_long_table_has_no_script_that_sorts() -> None:
    assert "aria-sort" not in page_of(Table(["model", "p"], [["a", "1"], ["b", "2"]])).split("</style>")[1]
    page = page_of(Table(["model", "p"], [["a", "1"], ["b", "2"], ["c", "3"]]), Table(["x"], [["y"]]))
    assert page.count("<script>") == 1 and page.count(' class="sortable"') == 1
    assert (
        "button" not in page.split("</style>")[1].split("<script>")[0]
    )  # without scripts nothing looks clickable
