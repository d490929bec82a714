"""Where weights are looked for: a given file, the local folder, the hub's cache, and only then the network."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from causalft.errors import CausalFTError
from causalft.runs.progress import named
from causalft.strata.weight_names import WeightName
from causalft.strata.weight_store import WeightStore

__all__ = ["HubFile", "WeightSource", "quiet_hub"]


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
    """A file of a hub repository that is on this machine."""

    repository: str
    filename: str
    path: Path

    @property
    def revision(self) -> str:
        """The commit of the repository, if the hub's cache says it."""
        for folder in self.path.parents:
            if folder.parent.name == "snapshots":
                return folder.name
        return ""


@dataclass
class WeightSource:
    """Finds the files of names, asking the network last or never.

    Attributes
    ----------
    store : WeightStore
        The local folder.
    offline : bool
        Whether the network is forbidden; it also is where ``HF_HUB_OFFLINE`` is set.
    allow_pickle : bool
        Whether a pickle may be fetched where a repository has no safetensors.
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
        """Return the weights of a name, fetched if need be.

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
        """Return the folder with a tokenizer's files, or a text tower's configuration, fetched if need be.

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
            f"FOLDER` here, or put the file at {self.store.path(what.repository, filename)}, or pass "
            f"--weights {what.name}=FILE.safetensors, or use --zoo mini with the built-in data"
        )


def _cached(repository: str, filename: str) -> Path | None:
    """The file in the hub's cache; no connection is made."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, filename)
    return Path(found) if isinstance(found, str) else None


@named("fetching weights")
def _download_first(repository: str, filenames: tuple[str, ...]) -> HubFile | None:
    """Fetch the first of some files that a repository has; None if it has none of them.

    Raises
    ------
    _Unreachable
    """
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
    """Keep the retries of the hub's client to itself: they are not news, and one message follows."""
    from huggingface_hub.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
