"""The examples of docs/extend: each file goes where its caption says, and the tests of the page pass."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from pathlib import Path

import pytest

from causalft.data.formats import FORMATS
from causalft.methods.adaptation.at_test import AT_TEST
from causalft.methods.semi.choices import METHODS
from causalft.models.tuning.choices import LOSSES, TUNERS
from causalft.models.weights import LIBRARIES
from experiments import EXPERIMENTS

REGISTRIES = (LOSSES, TUNERS, METHODS, AT_TEST, FORMATS, LIBRARIES, EXPERIMENTS)
PAGES = sorted((Path(__file__).parents[1] / "docs" / "extend").glob("[!i]*.md"))
BLOCK = re.compile(r"^```\{code-block\} python\n:caption: (\S+)\n\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Add a file to a package, without touching the package's folder, and take it out again."""
    added = []

    def add(path: Path, code: str) -> None:
        file = tmp_path / "added" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(code, encoding="utf-8")
        package = ".".join(path.parent.parts)
        if package:
            folders = importlib.import_module(package).__path__
            folders.append(str(file.parent))
            added.append((folders, str(file.parent)))
        else:
            monkeypatch.syspath_prepend(str(file.parent))
        importlib.invalidate_caches()

    known = set(sys.modules)
    for records in REGISTRIES:
        vars(records).pop("_found", None)
    yield add
    for folders, folder in added:
        folders.remove(folder)
    for name, module in list(sys.modules.items()):
        if name not in known and str(tmp_path) in (getattr(module, "__file__", None) or ""):
            del sys.modules[name]
    for records in REGISTRIES:
        vars(records).pop("_found", None)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_example_of_a_page_passes_its_own_test(page, place, tmp_path):
    ran = 0
    for caption, code in BLOCK.findall(page.read_text(encoding="utf-8")):
        if not caption.startswith("tests/"):
            place(Path(caption), code)
            continue
        names: dict = {}
        exec(compile(code, caption, "exec"), names)
        for test in [value for name, value in names.items() if name.startswith("test_")]:
            wanted = inspect.signature(test).parameters
            test(**({"tmp_path": tmp_path} if "tmp_path" in wanted else {}))
            ran += 1
    assert ran, f"{page.name} has no test"
