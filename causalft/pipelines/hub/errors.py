"""What the hub's client raises, in one line that says what to do."""

from __future__ import annotations

import errno

from causalft.errors import CausalFTError

__all__ = ["hub_error"]


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
