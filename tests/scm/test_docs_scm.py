"""Every example on the SCM page gives the output that the page shows."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "scm.md"


def test_the_examples_of_the_page_run_as_printed():
    blocks = re.findall(
        r"^```pycon\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    assert len(blocks) >= 7
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    test = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, "docs/scm.md", str(PAGE), 0)
    assert len(test.examples) >= 25
    report: list[str] = []
    failures = doctest.DocTestRunner(optionflags=flags, verbose=False).run(test, out=report.append).failed
    assert not failures, "".join(report)
