"""A copy of the folders that version 0.1.0 made, as if it had made them where the copy is."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

__all__ = ["FIT", "FIXTURES", "copy_old_folders"]

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "v0.1.0"
CHANGED = 1795824000
"""When the images were last changed, in seconds since 1970."""

FIT = "fit --strata clip,openclip --zoo zoo --data photos --epochs 10 --lr 0.02 --batch-size 4".split()
"""The command that made ``run``, in the folder of the copy, but for its ``--out``."""


def copy_old_folders(folder: Path) -> Path:
    """Copy the fixtures to ``folder``, which must not exist."""
    shutil.copytree(FIXTURES, folder)
    for document in folder.rglob("*.json"):
        text = document.read_text(encoding="utf-8")
        document.write_text(text.replace('"/v0.1.0/', f'"{folder}/'), encoding="utf-8")
    for image in folder.glob("photos/*/*.png"):
        os.utime(image, (CHANGED, CHANGED))
    return folder
