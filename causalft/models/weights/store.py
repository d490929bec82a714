"""Where weights are looked for: a given file, the local store and its manifest, the hub's cache, then the network."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from causalft.errors import CausalFTError
from causalft.models.weights import WeightName
from causalft.runs.documents import check_shape
from causalft.runs.files import cache_folder, sha256_file
from causalft.runs.folder import atomic_path, read_json, write_json
from causalft.runs.progress import named

__all__ = [
    "HubFile",
    "StoredFile",
    "WeightSource",
    "WeightStore",
    "check_sha256",
    "expected_sha256",
    "quiet_hub",
    "weights_folder",
]


_FORMAT = "causalft weights 1"
_SHA256 = re.compile(r"[0-9a-f]{64}")


def weights_folder() -> Path:
    """Return the folder of local weights: ``$CAUSALFT_WEIGHTS``, or ``causalft/weights`` in the user's cache."""
    return cache_folder("weights", "CAUSALFT_WEIGHTS")


@dataclass(frozen=True)
class StoredFile:
    """An entry of the manifest.

    Attributes
    ----------
    repository, filename, revision : str
        On the hub; empty for a file given by hand.
    sha256 : str
    bytes : int
    names : list of str
        Full names that load the weights; empty for a tokenizer's file.
    licence : str, optional
    converted_from : str, optional
        SHA-256 of the pickle that these tensors come from.
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
    """A folder of weights: ``REPOSITORY/FILE``, with ``--`` for the slash of the repository, and ``manifest.json``.

    ``causalft weights fetch --to`` and ``causalft weights import`` write the same layout, so a carried folder can be
    used directly through ``$CAUSALFT_WEIGHTS``.

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
        """Return the manifest: path in the folder to its entry; empty if there is none.

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
        """Return where a file of the hub is, or would be."""
        return self.folder / repository.replace("/", "--") / filename

    def find(self, what: WeightName) -> Path | None:
        """Return the weights of a name: a file of its repository (safetensors first), or an imported one."""
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
        """Copy a file into the folder, verify its hash, and write its entry; return False if it was there.

        Raises
        ------
        CausalFTError
            If the copy has another hash; it is removed.
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
    """Copy a file so that the target appears only complete and with the right hash."""
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
    """Return the expected SHA-256 of a file, or its beginning, and its source; None if unknown.

    Sources: a manifest of the file's folder, the hub cache (large files are named by their hash), or the address of the
    first publication if the file still has its name.

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
        If another one is expected. The message does not name the file.
    """
    found = sha256_file(path)
    expected = expected_sha256(path, url)
    if expected is not None and not found.startswith(expected[0]):
        raise CausalFTError(
            f"sha256 {found[:12]}..., but {expected[1]} says {expected[0][:12]}...; it was changed or cut short: "
            "fetch it again"
        )
    return found


class _Unreachable(Exception):
    """The hub cannot be reached, or does not give the file."""


_TOKENIZER = ("tokenizer.json", "spiece.model", "sentencepiece.bpe.model", "vocab.txt", "vocab.json")
_BESIDE_TOKENIZER = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "config.json",
)


@dataclass(frozen=True)
class HubFile:
    """A file of a hub repository on this machine."""

    repository: str
    filename: str
    path: Path

    @property
    def revision(self) -> str:
        """The commit of the repository, if the hub's cache has it."""
        for folder in self.path.parents:
            if folder.parent.name == "snapshots":
                return folder.name
        return ""


@dataclass
class WeightSource:
    """Finds the files of names, the network last or never.

    Attributes
    ----------
    store : WeightStore
    offline : bool
        The network is forbidden, as it is with ``HF_HUB_OFFLINE``.
    allow_pickle : bool
        A pickle may be fetched where a repository has no safetensors.
    """

    store: WeightStore
    offline: bool = False
    allow_pickle: bool = False

    def find(self, what: WeightName) -> Path | None:
        """Return the weights of a name if they are on this machine."""
        found = self.store.find(what)
        if found is not None:
            return found
        for filename in what.filenames:
            path = _cached(what.repository, filename)
            if path is not None:
                return path
        return None

    def weights(self, what: WeightName) -> Path:
        """Return the weights of a name, fetched if needed.

        Raises
        ------
        CausalFTError
            If they are not here and cannot or may not be fetched: which file, and where to put it.
        """
        found = self.find(what)
        return found if found is not None else self.fetch_weights(what).path

    def fetch_weights(self, what: WeightName) -> HubFile:
        """Return the weights of a name from the hub's cache, or from the network into it."""
        if not what.repository:
            raise CausalFTError(
                f"the weights of {what.name!r} are not on the hub; give a file with --weights {what.name}=FILE"
            )
        wanted = what.filenames if self.allow_pickle else what.safe_filenames
        for filename in wanted:
            path = _cached(what.repository, filename)
            if path is not None:
                return HubFile(what.repository, filename, path)
        if self.forbidden():
            raise self._missing(what, f"the network may not be used ({self.forbidden()})")
        try:
            found = _download_first(what.repository, wanted)
        except _Unreachable as error:
            raise self._missing(what, f"could not be fetched ({error})") from error
        if found is None:
            raise CausalFTError(
                f"the weights of {what.name!r} are on the hub only as a pickle ({what.repository}, "
                f"{what.filenames[-1]}); pass --allow-pickle to take it and to read its tensors and nothing else"
            )
        return found

    def text_files(self, repository: str, name: str, *, configuration_only: bool = False) -> Path:
        """Return the folder with a tokenizer's files, or a text tower's configuration, fetched if needed.

        Raises
        ------
        CausalFTError
            If they are not here and cannot or may not be fetched.
        """
        wanted = ("config.json",) if configuration_only else _TOKENIZER
        for filename in wanted:
            path = self.store.path(repository, filename)
            if path.is_file():
                return path.parent
            cached = _cached(repository, filename)
            if cached is not None:
                return cached.parent
        return self.fetch_text_files(repository, name, configuration_only=configuration_only)[0].path.parent

    def fetch_text_files(
        self, repository: str, name: str, *, configuration_only: bool = False
    ) -> list[HubFile]:
        """Return all files of a tokenizer, or the configuration of a text tower, from the cache or the network."""
        main = ("config.json",) if configuration_only else _TOKENIZER
        found = []
        for filename in main if configuration_only else (*main, *_BESIDE_TOKENIZER):
            path = _cached(repository, filename)
            if path is not None:
                found.append(HubFile(repository, filename, path))
            elif not self.forbidden():
                try:
                    fetched = _download_first(repository, (filename,))
                except _Unreachable:
                    break
                found += [] if fetched is None else [fetched]
        if not any(file.filename in main for file in found):
            what = "the configuration of the text tower" if configuration_only else "the tokenizer"
            folder = self.store.path(repository, "x").parent
            raise CausalFTError(
                f"{what} of {name!r} is not here: {repository}, {main[0]}; run `causalft weights fetch {name} --to "
                f"FOLDER` on a connected machine and `causalft weights import FOLDER` here, or put it into {folder}"
            )
        return found

    def forbidden(self) -> str:
        """Return why the network may not be used; empty if it may."""
        from huggingface_hub import constants

        if self.offline:
            return "offline"
        return "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else ""

    def _missing(self, what: WeightName, why: str) -> CausalFTError:
        filename = what.filenames[0]
        return CausalFTError(
            f"the weights of {what.name!r} ({what.repository}, {filename}) are not on this machine and {why}; run "
            f"`causalft weights fetch {what.name} --to FOLDER` on a connected machine and `causalft weights import "
            f"FOLDER` here, or put the file at {self.store.path(what.repository, filename)}, or, where a zoo is "
            f"chosen, pass --weights {what.name}=FILE.safetensors, or use --zoo mini with the built-in data"
        )


def _cached(repository: str, filename: str) -> Path | None:
    """The file in the hub's cache; no connection is made."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, filename)
    return Path(found) if isinstance(found, str) else None


@named("fetching weights")
def _download_first(repository: str, filenames: tuple[str, ...]) -> HubFile | None:
    """Fetch the first of some files that a repository has; None if it has none of them."""
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, LocalEntryNotFoundError

    with quiet_hub():
        for filename in filenames:
            try:
                return HubFile(
                    repository, filename, Path(huggingface_hub.hf_hub_download(repository, filename))
                )
            except Exception as error:  # any network or hub failure ends in one message
                if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise
                # Only a file that the repository does not have leaves hope for the next name.
                if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
                    continue
                if isinstance(error, GatedRepoError):
                    raise _Unreachable(
                        "the repository asks for a login: accept its terms and run `hf auth login`"
                    ) from error
                cause: BaseException = error
                while isinstance(cause, LocalEntryNotFoundError) and cause.__cause__ is not None:
                    cause = cause.__cause__  # it says that the file is not in the cache either, at length
                text = str(cause).strip()
                raise _Unreachable(text.splitlines()[0][:120] if text else type(cause).__name__) from error
    return None


@contextmanager
def quiet_hub() -> Iterator[None]:
    """Silence the retries of the hub's client; one message follows."""
    from huggingface_hub.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
