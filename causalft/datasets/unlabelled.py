"""Images without labels, for prediction: single files and whole folders, in the order they were named."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from causalft.datasets.images import is_image_name
from causalft.datasets.sources import ImageSet
from causalft.datasets.stores import FolderStore, list_folder
from causalft.errors import CausalFTError

__all__ = ["unlabelled_images"]


def unlabelled_images(paths: Sequence[str | os.PathLike[str]]) -> ImageSet:
    """Return the images of files and folders (searched to any depth, sorted) as one set.

    Parameters
    ----------
    paths : sequence of path

    Returns
    -------
    ImageSet
        All under the one class ``unlabelled``; ``files`` are the paths as a person would type them.

    Raises
    ------
    CausalFTError
        If a path does not exist, or no image is found.
    """
    files: list[str] = []
    for path in map(Path, paths):
        if path.is_dir():
            found = sorted(name for name in list_folder(path)[0] if is_image_name(name))
            if not found:
                raise CausalFTError(f"{path} holds no image; give image files, or a folder with some")
            files += [os.fspath(path / name) for name in found]
        elif path.exists():
            files.append(os.fspath(path))
        else:
            raise CausalFTError(f"{path}: no such image or folder")
    if not files:
        raise CausalFTError("no image given; name image files or folders")
    store = FolderStore("", tuple(files))
    return ImageSet(
        store, np.arange(len(files)), files, np.zeros(len(files), int), ["unlabelled"], name="unlabelled"
    )
