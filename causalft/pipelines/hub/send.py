"""Send a run to a hub."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from causalft.errors import CausalFTError
from causalft.pipelines.hub.errors import hub_error
from causalft.pipelines.hub.layout import write_layout

__all__ = ["push"]


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
