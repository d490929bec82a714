"""Records read from the source equal those that the files declare."""

from __future__ import annotations

from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest

from causalft.errors import CausalFTError
from causalft.methods.adaptation.presets import PRESETS
from causalft.models.tuning.choices import AUGMENTATIONS, HEADS, LOSSES, SAMPLERS, TUNERS
from causalft.models.weights import LIBRARIES
from causalft.runs.records import LateFunction, Records

KINDS = {
    records.what: records for records in (LOSSES, TUNERS, HEADS, SAMPLERS, LIBRARIES, AUGMENTATIONS, PRESETS)
}


@pytest.mark.parametrize("kind", KINDS)
def test_records_read_from_the_source_equal_those_of_the_modules(kind):
    records = KINDS[kind]
    package = import_module(records.place)
    files = getattr(package, "__path__", None)
    modules = [import_module(f"{records.place}.{path.stem}") for path in package_files(files)] + [package]
    declared = [value for module in modules for value in vars(module).values() if type(value) is records.kind]
    assert {record.name for record in declared} == set(records)
    for record in declared:
        for field in fields(record):
            read, own = getattr(records[record.name], field.name), getattr(record, field.name)
            assert (read.__wrapped__ if isinstance(read, LateFunction) else read) == own


def package_files(folders):
    return [path for folder in folders or () for path in Path(folder).glob("*.py") if path.stem != "__init__"]


def test_every_record_says_what_it_is_for():
    for records in KINDS.values():
        assert len(records) > 1
        for record in records.values():
            assert getattr(record, "help", None) or record.trains


def test_tuners_are_in_the_order_in_which_they_are_put_into_a_tower():
    order = [tuner.order for tuner in TUNERS.values()]
    assert order == sorted(order)
    assert list(TUNERS)[:2] == ["zero-shot", "linear-probe"]
    assert list(TUNERS)[-2:] == ["last-K", "full"]


def test_a_folder_is_searched_and_a_new_file_is_a_new_record(tmp_path, monkeypatch):
    (tmp_path / "kinds").mkdir()
    (tmp_path / "kinds" / "__init__.py").write_text("")
    (tmp_path / "kinds" / "late.py").write_text(
        "from causalft.models.tuning.choices import Sampler\n"
        "import nothing_of_this_name\n"
        'RARE = Sampler(name="rare-first", help="a " "word", power=-1.0)\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = Records("kinds", SAMPLERS.kind, "sampler")
    assert list(found) == ["rare-first"]
    assert found["rare-first"].power == -1.0 and found["rare-first"].help == "a word"
    with pytest.raises(CausalFTError, match="no sampler is named 'rare'; did you mean 'rare-first'"):
        found.get_or_refuse("rare")


def test_tables_of_the_documentation_have_a_row_per_record(tables):
    rows = tables.losses().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == list(LOSSES)
    assert "| `max_margin` ($m$) 0.5, `scale` ($s$) 25 | Cao et al., NeurIPS 2019 |" in tables.losses()
    assert [row.split("`")[1] for row in tables.heads().splitlines()[2:]] == list(HEADS)
    assert tables.samplers().splitlines()[2:] == [
        r"| `uniform` | $\propto n_y$ | each image once |",
        "| `class-balanced` | the same for all | every class alike, images with replacement |",
        r"| `square-root` | $\propto \sqrt{n_y}$ | between the two, images with replacement |",
    ]
