"""What bad command lines are told, word for word. Refresh: see `tests.golden.stored`."""

from __future__ import annotations

import re

import pytest

from tests.command_line import run, said
from tests.golden.old_folders import copy_old_folders
from tests.golden.refused import LINES
from tests.golden.stored import REFRESH, stored_json

TOLD = {}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """The places that the lines name in capitals."""
    old = copy_old_folders(tmp_path_factory.mktemp("refusals") / "place")
    (old / "empty").mkdir()
    (old / "note.txt").write_text("a note\n")
    names = ("RUN", "INTERRUPTED", "ZOO", "PHOTOS", "EMPTY", "MISSING", "OUT")
    return {**{name: str(old / name.lower()) for name in names}, "NOTE": str(old / "note.txt")}


@pytest.mark.parametrize("line", LINES)
def test_refusal_is_unchanged(line, places, monkeypatch):
    folder = places["RUN"].removesuffix("/run")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("CAUSALFT_WEIGHTS", f"{folder}/weights")
    words = [re.sub("|".join(places), lambda found: places[found[0]], word) for word in line.split()]
    TOLD[line] = said(run(*words)).removeprefix("causalft: error: ").replace(folder, "PLACE")
    if not REFRESH:
        assert TOLD[line] == stored_json("refusals.json", None)[line]


def test_every_refusal_is_stored():
    if len(TOLD) == len(LINES):  # not where some were chosen
        assert stored_json("refusals.json", TOLD).keys() == TOLD.keys()
