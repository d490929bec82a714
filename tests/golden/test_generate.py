"""A generated set, file by file. Refresh: see `tests.golden.stored`.

Text, that of the PNG files included, is compared by its SHA-256. The pixels stand side by side in ``generated.png``:
another processor rounds some of them to the next level, and the bytes of a PNG vary with the build of zlib.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
from PIL import Image

from tests.command_line import run
from tests.golden.stored import HERE, REFRESH, stored_json

COLUMNS, SIDE = 8, 16


def text_of(path):
    """What a file says, rounding errors aside."""
    if path.suffix == ".png":
        with Image.open(path) as picture:
            return json.dumps([picture.mode, picture.size, sorted(picture.text.items())])
    text = path.read_bytes().decode()
    if path.name == "metrics.json":
        return json.dumps(json.loads(text, parse_float=lambda number: round(float(number), 9) + 0.0))
    return text


def digest(path, versions):
    """SHA-256 of the text of a file without the versions of libraries."""
    text = text_of(path)
    for library, version in versions.items():
        text = text.replace(version, library)
    return hashlib.sha256(text.encode()).hexdigest()


def sheet_of(paths):
    """Pictures side by side, in rows of `COLUMNS`."""
    pixels = np.stack([np.asarray(Image.open(path)) for path in paths])
    rows = pixels.reshape(-1, COLUMNS, SIDE, SIDE, 3).swapaxes(1, 2)
    return rows.reshape(-1, COLUMNS * SIDE, 3)


def test_generated_set_is_unchanged(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = run("generate", "--classes", "bird,truck", "--n-per-class", 4, "--size", SIDE, "--out", "set")
    assert made.exit_code == 0, made.output
    files = sorted(path for path in (tmp_path / "set").rglob("*") if path.is_file())
    versions = json.loads((tmp_path / "set" / "metrics.json").read_text())["provenance"]
    del versions["size"]
    found = {path.relative_to(tmp_path / "set").as_posix(): digest(path, versions) for path in files}
    assert len(found) == 39
    assert found == stored_json("generated.json", found)

    sheet = sheet_of([path for path in files if path.suffix == ".png"])
    if REFRESH:
        Image.fromarray(sheet).save(HERE / "generated.png", optimize=True)
    difference = np.abs(sheet.astype(int) - np.asarray(Image.open(HERE / "generated.png")))
    assert difference.max() <= 1 and (difference > 0).mean() < 0.02
