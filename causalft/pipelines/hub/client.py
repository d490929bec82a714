"""The hub's client: send the files of a run, and say in one line what the client raised."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from causalft.errors import CausalFTError
from causalft.pipelines.hub.layout import write_layout

__all__ = ["hub_error", "push"]


def push(
    files: Mapping[str, bytes | Path],
    repo: str,
    *,
    private: bool = False,
    update: bool = False,
    api: Any = None,
) -> str:
    """Make a repository and upload the files in one commit.

    Parameters
    ----------
    files : mapping
        What :func:`causalft.pipelines.hub.layout.layout` gave.
    repo : str
        OWNER/NAME.
    private : bool
        Of a new repository.
    update : bool
        Add a commit to a repository that exists.
    api : huggingface_hub.HfApi, optional

    Returns
    -------
    str
        The address of the commit.

    Raises
    ------
    CausalFTError
        For a bad name or token, no network, or a repository that exists (without ``update``).
    """
    import huggingface_hub

    if repo.count("/") != 1 or not all(repo.split("/")):
        raise CausalFTError(f"{repo!r} is no name on the hub; give OWNER/NAME")
    if private and update:
        raise CausalFTError("--private is for a new repository; change an existing one on its page")
    hub = huggingface_hub.HfApi() if api is None else api
    with tempfile.TemporaryDirectory() as temporary:
        folder = write_layout(files, Path(temporary) / "run")
        try:
            hub.create_repo(repo, private=private, exist_ok=update, repo_type="model")
            found = hub.upload_folder(
                repo_id=repo,
                folder_path=folder,
                repo_type="model",
                commit_message="causalft: a fitted run",
                # what an earlier run left and this one does not have
                delete_patterns=["strata/*", "zoo/*", "figures/*"] if update else None,
            )
        except Exception as error:  # whatever the client raises ends in one line
            raise hub_error(error, repo, "push") from error
    return str(getattr(found, "commit_url", found))


def hub_error(error: Exception, repo: str, doing: str) -> CausalFTError:
    """Return the one-line error for what huggingface_hub raised; a full disk is raised as it is.

    Parameters
    ----------
    error : Exception
    repo : str
    doing : {"push", "pull"}
    """
    from huggingface_hub import errors

    if isinstance(error, CausalFTError):
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise error
    status = getattr(getattr(error, "response", None), "status_code", None)
    local = (
        "use --to-folder DIR and carry the folder" if doing == "push" else "fetch it on a connected machine"
    )
    if isinstance(error, errors.HFValidationError):
        message = f"{repo!r} is no name on the hub; give OWNER/NAME"
    elif isinstance(error, errors.OfflineModeIsEnabled):
        message = f"the hub is switched off here (HF_HUB_OFFLINE); unset it, or {local}"
    elif isinstance(error, errors.LocalTokenNotFoundError) or status == 401 and doing == "push":
        message = f"no valid token for {repo}: run `hf auth login`, or set HF_TOKEN"
    elif isinstance(error, errors.GatedRepoError):
        message = f"{repo} is gated: ask for access on its page, and run `hf auth login`"
    elif isinstance(error, errors.RevisionNotFoundError):
        message = f"{repo} has no such revision; leave --revision out for the newest"
    elif isinstance(error, errors.RepositoryNotFoundError) or status in (401, 404):
        message = f"no repository {repo} on the hub, or it is private: check the name, or run `hf auth login`"
    elif status == 403:
        message = f"the token may not {'write to' if doing == 'push' else 'read'} {repo}; make one that may"
    elif status == 409:
        message = f"{repo} exists already; pass --update to add a commit to it, or choose another name"
    elif status is not None:
        message = f"the hub refused to {doing} {repo} ({_first_line(error)})"
    else:
        message = f"the hub cannot be reached ({_first_line(error)}); try again later, or {local}"
    return CausalFTError(message)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:120] if lines else type(error).__name__
