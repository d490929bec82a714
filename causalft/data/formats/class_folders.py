"""One folder of images a class (ImageFolder), in a folder, a zip or a tar, perhaps below train/, val/ and test/."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from causalft.data.containers import Container, FolderContainer
from causalft.data.layout import Layout, arrange
from causalft.data.reading import Reading, ReadOptions, assemble, factors_from_csv
from causalft.runs.files import read_text

__all__ = ["read_class_folders"]


def read_class_folders(container: Container, options: ReadOptions) -> Reading:
    """Read classes and splits from the names of the files (`causalft.data.layout.arrange`).

    The factor of generated images is taken from the ``metadata.csv`` beside them.

    Raises
    ------
    CausalFTError
        As `arrange`; also for class names that do not match the folders.
    """
    files, folders = container.listing()
    layout = arrange(
        files,
        folders,
        container.location,
        drop_empty_classes=options.drop_empty_classes,
        min_classes=options.min_classes,
    )
    return assemble(
        format=container.kind,
        name=container.name,
        where=container.location,
        store=container.store(layout.files),
        files=layout.files,
        codes=layout.labels,
        ids=layout.class_names,
        options=options,
        splits=layout.splits,
        factors=_factors(container, layout),
        notes=(*container.notes, *layout.notes),
    )


def _factors(container: Container, layout: Layout) -> NDArray[Any] | None:
    """Look for metadata.csv on top, under the single top folder, and beside a folder (a set among several)."""
    for top in dict.fromkeys(("", layout.prefix)):
        table = f"{top}metadata.csv"
        text = container.text(table)
        if text is not None:
            names = [name.removeprefix(top) for name in layout.files]
            factors = factors_from_csv(text, names, f"{table} in {container.location}")
            if factors is not None:
                return factors
    if isinstance(container, FolderContainer):
        folder = Path(container.location).resolve()
        beside = folder.parent / "metadata.csv"
        if beside.is_file():
            text = read_text(beside)
            if f"{folder.name}/" in text:
                return factors_from_csv(text, [f"{folder.name}/{name}" for name in layout.files], str(beside))
    return None
