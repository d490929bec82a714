"""A folder of weights with a manifest of their hashes: to carry between machines, and to load from."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from causalft.errors import CausalFTError
from causalft.runs.documents import check_shape
from causalft.runs.files import cache_folder, sha256_file
from causalft.runs.folder import atomic_path, read_json, write_json
from causalft.strata.weight_names import WeightName

__all__ = ["StoredFile", "WeightStore", "check_sha256", "expected_sha256", "weights_folder"]

_FORMAT = "causalft weights 1"
_SHA256 = re.compile(r"[0-9a-f]{64}")


def weights_folder() -> Path:
    """Return the folder of local weights: ``$CAUSALFT_WEIGHTS``, or ``causalft/weights`` in the user's cache."""
    return cache_folder("weights", "CAUSALFT_WEIGHTS")


@dataclass(frozen=True)
class StoredFile:
    """A line of the manifest.

    Attributes
    ----------
    repository, filename, revision : str
        Where the file is on the hub; empty for one that was given by hand.
    sha256 : str
    bytes : int
    names : list of str
        Full names of what the weights are for; empty for a tokenizer's file.
    licence : str, optional
    converted_from : str, optional
        SHA-256 of the pickle whose tensors these are.
    """

    repository: str
    filename: str
    revision: str
    sha256: str
    bytes: int
    names: list[str]
    licence: str | None = None
    converted_from: str | None = None


class WeightStore:
    """A folder of weights: ``REPOSITORY/FILE`` with ``--`` for the slash of the repository, and ``manifest.json``.

    The folder that ``causalft weights fetch --to`` writes and the one that ``causalft weights import`` fills are the
    same, so a carried folder can also be used where it lies, through ``$CAUSALFT_WEIGHTS``.

    Parameters
    ----------
    folder : path, optional
        By default :func:`weights_folder`. It need not exist.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self.folder = weights_folder() if folder is None else Path(folder)

    @property
    def manifest(self) -> Path:
        """The file of hashes."""
        return self.folder / "manifest.json"

    def files(self) -> dict[str, StoredFile]:
        """Return the manifest: path in the folder to its line; empty where there is none.

        Raises
        ------
        CausalFTError
            If the manifest is damaged, or names a place outside its folder.
        """
        if not self.manifest.exists():
            return {}
        found = read_json(self.manifest)
        try:
            if found["format"] != _FORMAT:
                raise KeyError("format")
            check_shape(found, dict[str, Any], self.manifest)
            check_shape(found["files"], dict[str, StoredFile], self.manifest, strict=True, at="files")
            lines = {path: StoredFile(**line) for path, line in found["files"].items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise CausalFTError(
                f"{self.manifest} is not a manifest of weights ({error}); make the folder again with `causalft "
                "weights fetch`"
            ) from None
        for path, line in lines.items():
            parts = PurePosixPath(path).parts
            if len(parts) < 2 or ".." in parts or parts[0] == "/" or "\\" in path:
                raise CausalFTError(
                    f"{self.manifest}: {path!r} is not a place in this folder; do not trust it"
                )
            if not _SHA256.fullmatch(str(line.sha256)):
                raise CausalFTError(f"{self.manifest}: {path!r} has no sha256; fetch it again")
        return lines

    def path(self, repository: str, filename: str) -> Path:
        """Return where a file of the hub lies, or would lie."""
        return self.folder / repository.replace("/", "--") / filename

    def find(self, what: WeightName) -> Path | None:
        """Return the weights of a name: a file of its repository (safetensors first), or one imported for it."""
        for filename in what.filenames:
            path = self.path(what.repository, filename)
            if path.is_file():
                return path
        for relative, line in self.files().items():
            if what.full_name in line.names and (self.folder / relative).is_file():
                return self.folder / relative
        return None

    def knows(self, full_name: str) -> bool:
        """Whether weights were imported for a full name."""
        return any(full_name in line.names for line in self.files().values())

    def add(self, source: Path, relative: str, line: StoredFile) -> bool:
        """Copy a file into the folder, checked by its hash, and write its line; return False if it was there already.

        Raises
        ------
        CausalFTError
            If the copy has another hash than the line; then nothing is left of it.
        """
        target = self.folder / relative
        already = target.is_file() and sha256_file(target) == line.sha256
        if not already:
            copy_checked(source, target, line.sha256)
        lines = self.files()
        if relative in lines:
            names = [*lines[relative].names, *line.names]
            line = StoredFile(**{**asdict(line), "names": list(dict.fromkeys(names))})
        lines[relative] = line
        self.write(lines)
        return not already

    def write(self, lines: dict[str, StoredFile]) -> None:
        """Write the manifest."""
        files: dict[str, Any] = {path: asdict(lines[path]) for path in sorted(lines)}
        write_json(self.manifest, {"format": _FORMAT, "files": files})


def copy_checked(source: Path, target: Path, sha256: str) -> None:
    """Copy a file so that the target appears only whole and with the right hash."""
    digest = hashlib.sha256()
    with atomic_path(target) as temporary:
        with open(source, "rb") as read, open(temporary, "wb") as written:
            while block := read.read(1 << 22):
                digest.update(block)
                written.write(block)
        if digest.hexdigest() != sha256:
            raise CausalFTError(
                f"{source} is not the file of its manifest (sha256 {digest.hexdigest()[:12]}..., manifest "
                f"{sha256[:12]}...); it was changed or cut short on its way: fetch or carry it again"
            )


def expected_sha256(path: Path, url: str = "") -> tuple[str, str] | None:
    """Return the SHA-256 that a file should have, or its beginning, and who says so; None if nobody knows.

    Who may know: a manifest in whose folder the file lies, the hub cache (large files are named by their hash), or
    the address of the first publication if the file still has its name.

    Examples
    --------
    >>> openai = "https://openaipublic.azureedge.net/clip/models/" + "ab" * 32 + "/RN50.pt"
    >>> expected_sha256(Path("RN50.pt"), openai)[0][:4]
    'abab'
    >>> expected_sha256(Path("net-455df137.pt"), "https://example.org/net-455df137.pt")
    ('455df137', 'the name of its publication')
    """
    absolute = Path(os.path.abspath(path))
    for folder in list(absolute.parents)[1:4]:
        if (folder / "manifest.json").is_file():
            try:
                line = WeightStore(folder).files().get(absolute.relative_to(folder).as_posix())
            except CausalFTError:
                line = None  # some other manifest.json
            if line is not None:
                return line.sha256, "its manifest"
    blob = absolute.resolve()
    if blob.parent.name == "blobs" and _SHA256.fullmatch(blob.name):
        return blob.name, "the hub cache"
    if url and url.rpartition("/")[2] == path.name:
        folder_name = url.split("/")[-2]
        if _SHA256.fullmatch(folder_name):
            return folder_name, "the address of its publication"
        ending = re.search(r"-([0-9a-f]{8})$", path.name.rpartition(".")[0])
        if ending:
            return ending[1], "the name of its publication"
    return None


def check_sha256(path: Path, url: str = "") -> str:
    """Return the SHA-256 of a file.

    Raises
    ------
    CausalFTError
        If someone knows another one. The message does not name the file.
    """
    found = sha256_file(path)
    expected = expected_sha256(path, url)
    if expected is not None and not found.startswith(expected[0]):
        raise CausalFTError(
            f"sha256 {found[:12]}..., but {expected[1]} says {expected[0][:12]}...; it was changed or cut short: "
            "fetch it again"
        )
    return found
