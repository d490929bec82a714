"""Tables of a page sort on a click: markup without a browser, behaviour in one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from causalft.report.html import Section, Table, render_report

ROWS = [
    ["fused", "63.5 [60.0, 66.1]", "< 1e-4", "many"],
    ["clip", "9.15 %", "0.0001", "few"],
    ["openclip", "not measurable", "", "few"],
    ["clip 10", "+53.1", "0.5", "few"],
    ["clip 9", "-2.0", "0.031", "many"],
]
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


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


def test_a_page_without_a_long_table_has_no_script() -> None:
    assert "<script>" not in page_of(Table(["model", "p"], [["a", "1"], ["b", "2"]]))
    page = page_of(Table(["model", "p"], [["a", "1"], ["b", "2"], ["c", "3"]]), Table(["x"], [["y"]]))
    assert page.count("<script>") == 1 and page.count(' class="sortable"') == 1
    assert (
        "button" not in page.split("</style>")[1].split("<script>")[0]
    )  # without scripts nothing looks clickable


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium")
def test_clicks_sort_by_estimate_and_a_third_click_restores_the_order(tmp_path: Path) -> None:
    clicks = """<script>
    const order = () => [...document.querySelectorAll("tbody tr")].map((row) => row.cells[0].textContent);
    const seen = [];
    for (const place of [1, 1, 1, 2, 0, 3, 3]) {
      const head = document.querySelectorAll("th")[place], button = head.querySelector("button");
      button.focus();
      button.click();
      const sorted = [...document.querySelectorAll("th[aria-sort]")].map((th) => th.textContent + " " + th.ariaSort);
      seen.push([sorted, order(), document.activeElement === button]);
    }
    document.body.innerHTML = "<pre>" + JSON.stringify(seen) + "</pre>";
    </script></body>"""
    file = tmp_path / "page.html"
    page = page_of(Table(["model", "accuracy", "p", "D"], ROWS))
    file.write_text(page.replace("</body>", clicks), encoding="utf-8")
    words = [
        BROWSER,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    run = subprocess.run(
        [*words, "--dump-dom", file.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    found = re.search(r"<pre>(.*?)</pre>", run.stdout)
    assert found, run.stdout[-500:]
    fused, clip, openclip, ten, nine = (row[0] for row in ROWS)
    assert json.loads(found[1]) == [
        [["accuracy ascending"], [nine, clip, ten, fused, openclip], True],
        [["accuracy descending"], [fused, ten, clip, nine, openclip], True],
        [[], [fused, clip, openclip, ten, nine], True],
        [["p ascending"], [fused, clip, nine, ten, openclip], True],
        [["model ascending"], [clip, nine, ten, fused, openclip], True],
        [["D ascending"], [clip, openclip, ten, fused, nine], True],
        [["D descending"], [fused, nine, clip, openclip, ten], True],
    ]
