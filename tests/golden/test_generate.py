"""A generated set, file by file. Refresh: see `tests.golden.stored`.

Text is compared by its SHA-256, a picture by that of its pixels and text chunks, for the bytes of a PNG vary with the
build of zlib.
"""

from __future__ import annotations

import hashlib
import json

from PIL import Image

from tests.command_line import run
from tests.golden.stored import stored_json


def digest(path, versions):
    """SHA-256 without the versions of the libraries, and without rounding errors."""
    pixels = b""
    if path.suffix == ".png":
        with Image.open(path) as picture:
            text, pixels = (
                json.dumps([picture.mode, picture.size, sorted(picture.text.items())]),
                picture.tobytes(),
            )
    elif path.name == "metrics.json":
        text = json.dumps(
            json.loads(path.read_text(), parse_float=lambda number: round(float(number), 9) + 0.0)
        )
    else:
        text = path.read_bytes().decode()
    for library, version in versions.items():
        text = text.replace(version, library)
    return hashlib.sha256(text.encode() + pixels).hexdigest()


def test_generated_set_is_unchanged(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = run("generate", "--classes", "bird,truck", "--n-per-class", 4, "--size", 16, "--out", "set")
    assert made.exit_code == 0, made.output
    files = sorted(path for path in (tmp_path / "set").rglob("*") if path.is_file())
    versions = json.loads((tmp_path / "set" / "metrics.json").read_text())["provenance"]
    del versions["size"]
    found = {path.relative_to(tmp_path / "set").as_posix(): digest(path, versions) for path in files}
    assert len(found) == 39
    assert found == stored_json("generated.json", found)
