"""Records are read from the source without being run; what cannot be read is refused with its file and line."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass

import pytest

from causalft.errors import CausalFTError
from causalft.runs.records import Records


@dataclass(frozen=True)
class Shelf:
    name: str
    help: str
    make: object = None
    order: int = 0
    also: tuple[str, ...] = ()


@pytest.fixture
def shelves(tmp_path, monkeypatch):
    """Write the files of a package and return the records in it."""

    def write(**files: str) -> Records[Shelf]:
        package = tmp_path / "own_shelves"
        package.mkdir()
        (package / "__init__.py").write_text("")
        for name, code in files.items():
            (package / f"{name}.py").write_text(code)
        monkeypatch.syspath_prepend(str(tmp_path))
        importlib.invalidate_caches()
        for name in [name for name in sys.modules if name.partition(".")[0] == "own_shelves"]:
            monkeypatch.delitem(sys.modules, name)
        return Records("own_shelves", Shelf, "shelf")

    return write


def test_records_of_all_files_are_found_in_their_order(shelves):
    code = (
        "def Shelf(**fields):\n    return fields\n\n\ndef build():\n    return 7\n\n\n"
        'A = Shelf(name="a", help="x", make=build, order=2)\n'
    )
    found = shelves(
        a=code,
        b='B = Shelf(\n    name="b",\n    help="y" "z",\n)\n',
    )
    assert list(found) == ["b", "a"] and found["b"] == Shelf("b", "yz") and found["a"].make() == 7


@pytest.mark.parametrize(
    "code, reason",
    [
        (
            'A = Shelf("a", help="x")\n',
            'a.py:1: a shelf is declared with every argument named, as in Shelf(name="...")',
        ),
        ("\n\nA = Shelf(**SETTINGS)\n", "a.py:3: a shelf is declared with every argument named"),
        (
            'A = Shelf(name="a", help=text("x"))\n',
            "a.py:1: help is text('x'), and records are read without being run",
        ),
        (
            'A = Shelf(\n    name="a",\n    help="x",\n    make=lambda: 1,\n)\n',
            "a.py:1: make is lambda: 1, and records",
        ),
        (
            'A = Shelf(name="a", help="x", make=tools.build)\n',
            "a.py:1: make is tools.build, and records are read",
        ),
        ('A = Shelf(name="a", helps="x")\n', "a.py:1: a shelf has no field 'helps'; did you mean 'help'?"),
        ('A = Shelf(name="a")\n', "a.py:1: this shelf has no help; give help=..."),
    ],
)
def test_a_record_that_cannot_be_read_is_refused_with_its_place(shelves, code, reason):
    with pytest.raises(CausalFTError) as caught:
        list(shelves(a=code))
    assert reason in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("same_file", [True, False])
def test_two_records_of_one_name_are_refused(shelves, same_file):
    one, other = 'A = Shelf(name="a", help="x")\n', 'B = Shelf(name="a", help="y")\n'
    found = shelves(a=one + other) if same_file else shelves(a=one, b=other)
    with pytest.raises(
        CausalFTError, match=r"the shelf 'a' is in .*a\.py:1 and in .*[ab]\.py:[12]; rename one"
    ):
        found.get_or_refuse("a")


def test_a_further_name_finds_the_record_and_cannot_be_taken_twice(shelves):
    found = shelves(a='A = Shelf(name="a", help="x", also=("c",))\n', b='B = Shelf(name="b", help="y")\n')
    assert found["c"] is found["a"] and "c" in found and list(found) == ["a", "b"]
    with pytest.raises(CausalFTError, match=r"no shelf is named 'cc'; did you mean 'c'\?"):
        found.get_or_refuse("cc")
    with pytest.raises(KeyError):
        found["d"]


def test_a_further_name_that_is_taken_is_refused(shelves):
    found = shelves(a='A = Shelf(name="a", help="x", also=("b",))\n', b='B = Shelf(name="b", help="y")\n')
    with pytest.raises(CausalFTError, match="the shelf 'b' is in"):
        list(found)
