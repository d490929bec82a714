"""File formats: one file per format, which holds its record; the folder is the registry. Nothing heavy is imported.

A new format is a new file here. The choices of ``--format``, the order of recognition, the refusal of options that it
does not take, and its row in docs/data.md come from the record.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from causalft.errors import CausalFTError
from causalft.runs.records import Records

if TYPE_CHECKING:
    from causalft.data.reading import Reading, ReadOptions

__all__ = ["FORMATS", "Format", "Place"]


@dataclass(frozen=True)
class Place:
    """What the user named (``written``): a folder, a file, or several files of one set.

    ``forced``: the format was named. ``rooted``: a root was given.
    """

    written: str
    paths: tuple[Path, ...]
    forced: bool = False
    rooted: bool = False

    @property
    def path(self) -> Path:
        """The first path."""
        return self.paths[0]

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.path.is_dir()


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes
    ----------
    name : str
        The choice of ``--format``, and the name of its file.
    help : str
        What it is, as a phrase.
    sign : str
        How it is recognised, as a phrase.
    order : int
        Formats are asked in this order; the most specific come first.
    recognise : callable
        From a place to the files that hold the set, or None if it is in another format.
    read : callable
        From a place, those files and options to a `Reading`.
    options : tuple of str
        Options of `causalft.open_images` that other formats may lack.
    reads : {"folder", "file", "either"}
        What can be forced to it.
    several : str
        The format of several such files; empty if they cannot be opened together.
    looks_for : str
        Files that a folder must have, for a message.
    needs : str
        Extra to install.
    source : str
        Paper or address.
    unlabelled : callable, optional
        From a place and those files to a `Reading` of the unlabelled images that the set brings, of a single class.
    """

    name: str
    help: str
    sign: str
    order: int
    recognise: Callable[[Place], tuple[Path, ...] | None]
    read: Callable[[Place, tuple[Path, ...], ReadOptions], Reading]
    options: tuple[str, ...] = ()
    reads: str = "either"
    several: str = ""
    looks_for: str = ""
    needs: str = ""
    source: str = ""
    unlabelled: Callable[[Place, tuple[Path, ...]], Reading] | None = None

    def check(self, place: Place) -> None:
        """Refuse to force a folder to a file format, or a file to a folder format."""
        if self.reads == "file" and place.is_folder:
            raise CausalFTError(
                f"{place.path} is a folder, and --format {self.name} reads a file; name the file, or leave --format out"
            )
        if self.reads == "folder" and not place.is_folder:
            raise CausalFTError(f"{place.path} is not a folder; leave --format out")


FORMATS = Records("causalft.data.formats", Format, "format")
"""Every format by name, in the order in which they are asked."""
