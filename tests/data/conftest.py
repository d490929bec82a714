"""Small sets of images on disk, made for a test."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.kit import PETS

REPOSITORY = Path(__file__).resolve().parents[2]


def png(seed: int, size: tuple[int, int] = (8, 8)) -> bytes:
    """A PNG of noise, different for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def write_folder(tmp_path: Path) -> Callable[..., Path]:
    """Write ``{name: bytes or None}`` below a new folder (None: a noise image of its own; ``x/``: a folder)."""

    def write(files: dict[str, bytes | None] | Iterable[str], name: str = "photos") -> Path:
        root = tmp_path / name
        items = files if isinstance(files, dict) else dict.fromkeys(files)
        for seed, (file, data) in enumerate(items.items()):
            path = root / file
            if file.endswith("/"):
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(seed) if data is None else data)
        return root

    return write


@pytest.fixture
def write_zip(tmp_path: Path) -> Callable[..., Path]:
    """The same as a zip."""

    def write(
        files: dict[str, bytes | None] | Iterable[str],
        name: str = "photos.zip",
        compression: int = zipfile.ZIP_DEFLATED,
    ) -> Path:
        path = tmp_path / name
        items = files if isinstance(files, dict) else dict.fromkeys(files)
        with zipfile.ZipFile(path, "w", compression) as archive:
            for seed, (file, data) in enumerate(items.items()):
                content = b"" if file.endswith("/") else png(seed) if data is None else data
                archive.writestr(file, content)
        return path

    return write


@pytest.fixture(scope="session")
def photographs() -> Path:
    """The zip of real photographs."""
    folder = Path(os.environ.get("CAUSALFT_TEST_DATA") or REPOSITORY.parent / "shared" / "data")
    path = folder / "cifar10-train.zip"
    if not path.is_file():
        pytest.skip(
            f"no real photographs: {path.name} is not in {folder} (set CAUSALFT_TEST_DATA to its folder to run this)"
        )
    return path


@pytest.fixture
def members_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the members read from zips, in order, while the test runs."""
    names: list[str] = []
    whole = zipfile.ZipFile.open

    def counted(archive: zipfile.ZipFile, name: Any, mode: Any = "r", *rest: Any, **options: Any) -> Any:
        if mode == "r":
            names.append(name if isinstance(name, str) else name.filename)
        return whole(archive, name, mode, *rest, **options)

    monkeypatch.setattr(zipfile.ZipFile, "open", counted)
    return names


@pytest.fixture
def picture() -> Callable[..., bytes]:
    """The function that makes a PNG of noise from a seed."""
    return png


@pytest.fixture
def pets(write_folder: Callable[..., Path]) -> Path:
    """A folder of the five images of `tests.data.kit`."""
    return write_folder(PETS)
