"""One reversible escape for names that no encoding can print, and streams that print any name."""

from __future__ import annotations

import io
import json
import os
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from causalft.cli import main
from causalft.errors import (
    CausalFTError,
    as_bytes,
    escape_name,
    make_streams_printable,
    nearest,
    short,
    unescape_name,
)
from causalft.runs.folder import plain, to_json
from tests.command_line import run

ODD = st.sampled_from(
    ["\\", "x", "u", "U", "0", "4", "1", "f", "\udcff", "\udc80", "\ud800", "\n", "\x1b", "\x85"]
)
NAMES = st.lists(st.one_of(ODD, st.characters(), st.characters(categories=["Cs"])), max_size=12).map("".join)


@given(NAMES)
@settings(max_examples=400, deadline=None)
def test_the_escape_is_printable_and_reversible(name: str) -> None:
    escaped = escape_name(name)
    assert unescape_name(escaped) == name
    assert len(escaped.encode("utf-8").decode("utf-8").splitlines()) == bool(name)


@given(st.tuples(NAMES, NAMES))
@settings(max_examples=100, deadline=None)
def test_two_names_never_get_one_escape_or_one_hash(names: tuple[str, str]) -> None:
    first, second = names
    assert (escape_name(first) == escape_name(second)) == (first == second)
    assert (as_bytes(first) == as_bytes(second)) == (first == second)


@pytest.mark.parametrize(
    "name", ["lynx/1.png", "caf\u00e9 \U0001f98a", "C:\\photos\\new", "\u0645\u06cc\u200c\u062e"]
)
def test_ordinary_names_are_unchanged(name: str) -> None:
    assert escape_name(name) == name == unescape_name(name)


@given(NAMES)
@settings(max_examples=200, deadline=None)
def test_names_on_an_ascii_stream_are_escaped_reversibly(name: str) -> None:
    buffer = io.BytesIO()
    stream = io.TextIOWrapper(buffer, "ascii", newline="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        make_streams_printable()
        stream.write(escape_name(name))
        stream.flush()
    assert unescape_name(buffer.getvalue().decode("ascii")) == name


def test_messages_are_short_and_printable() -> None:
    assert str(CausalFTError("no caf\udce9\x1b:\n not there\n")) == r"no caf\xe9\x1b: not there"
    assert short("a" * 300_000) == "a" * 38 + "..." + "a" * 38
    assert len(nearest("x" * 300_000, ["y" * 300_000, "x" * 300_001])) < 400


def test_json_of_a_run_takes_any_path() -> None:
    document = {"path": "caf\udce9", "\ud800": ["caf\u00e9"]}
    assert json.loads(to_json(document).encode("utf-8")) == {"path": r"caf\xe9", r"\ud800": ["caf\u00e9"]}
    assert plain("C:\\x41") == "C:\\x41"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_data_show_prints_classes_outside_the_encoding(write_odd, encoding: str, monkeypatch) -> None:
    for as_json in (False, True):
        buffer = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding))
        options = ["--json"] if as_json else []
        main(["data", "show", str(write_odd), *options], standalone_mode=False)
        sys.stdout.flush()
        text = buffer.getvalue().decode(encoding)
        if as_json:
            counts = json.loads(text)["class_counts"]
            assert list(counts) == [r"byte\xff", "caf\u00e9", r"two\x0alines", "\u72d0\U0001f98a"]
        else:
            fox = "\u72d0\U0001f98a" if encoding == "utf-8" else r"\u72d0\U0001f98a"
            cafe = r"caf\u00e9" if encoding == "ascii" else "caf\u00e9"
            assert rf"byte\xff 1, {cafe} 1, two\x0alines 1, {fox} 1" in text


@pytest.fixture
def write_odd(tmp_path):
    for name in (b"byte\xff", "caf\u00e9".encode(), b"two\nlines", "\u72d0\U0001f98a".encode()):
        folder = bytes(tmp_path) + b"/set/" + name
        try:
            os.makedirs(folder)
        except OSError:
            pytest.skip("this file system takes Unicode names only")
        with open(folder + b"/1\xe9.png", "wb") as file:
            Image.new("RGB", (4, 4)).save(file, "PNG")
    return tmp_path / "set"


def test_a_damaged_image_of_an_odd_name_is_listed(write_odd) -> None:
    (write_odd / "caf\u00e9" / "b\udce9d.png").write_bytes(b"no image")
    result = run("data", "show", write_odd, "--check")
    assert (
        result.exit_code == 1
        and r"caf" in result.stdout
        and r"b\xe9d.png: it is not an image" in result.stdout
    )
    found = json.loads(run("data", "show", write_odd, "--check", "--json").stdout)
    assert list(found["damaged"]) == ["caf\u00e9/b\\xe9d.png"] and len(found["fingerprint"]) == 64
