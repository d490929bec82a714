"""A file of weights: its kind by content, its tensors read without running it, and put into a model."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from causalft.errors import CausalFTError

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["file_kind", "first_mismatch", "is_pickle", "load_all", "read_state_dict"]


_LARGEST_HEADER = 1 << 27  # bytes; safetensors itself refuses larger ones


def file_kind(path: str | os.PathLike[str]) -> str:
    """Return what a file is by its content.

    Returns
    -------
    str
        ``safetensors``, ``pickle`` (of ``torch.save``), ``torchscript`` (a program with its weights), ``git lfs
        pointer``, ``web page``, ``empty`` or ``unknown``.
    """
    with open(path, "rb") as file:
        head = file.read(64)
    if not head:
        return "empty"
    if head.startswith(b"version https://git-lfs"):
        return "git lfs pointer"
    if head.lstrip()[:1] == b"<":
        return "web page"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _LARGEST_HEADER:
        return "safetensors"
    if head.startswith(b"PK"):
        try:
            with zipfile.ZipFile(path) as archive:
                inside = archive.namelist()
        except zipfile.BadZipFile:
            return "unknown"
        if any(name.endswith("/constants.pkl") or "/code/" in name for name in inside):
            return "torchscript"
        return "pickle" if any(name.endswith("/data.pkl") for name in inside) else "unknown"
    return "pickle" if head.startswith(b"\x80") else "unknown"


def is_pickle(path: Path) -> bool:
    """Whether a file needs ``--allow-pickle``, or cannot be read at all."""
    return file_kind(path) in ("pickle", "torchscript")


def read_state_dict(
    path: str | os.PathLike[str], *, allow_pickle: bool = False, instead: str = ""
) -> dict[str, Tensor]:
    """Return the tensors of a file by name.

    Parameters
    ----------
    path : path
        safetensors, or a state dict written by ``torch.save``, alone or in a checkpoint.
    allow_pickle : bool
        Read a pickle, with ``weights_only=True``, which makes tensors only.
    instead : str
        Where the same weights are as safetensors, for messages.

    Raises
    ------
    CausalFTError
        For a pickle that is not allowed or holds more than tensors, a TorchScript archive (reading runs it), or no
        file of weights. The message does not name the file.
    """
    kind = file_kind(path)
    way_out = f"; take the same weights as safetensors: {instead}" if instead else "; take a safetensors file"
    if kind == "safetensors":
        try:
            from safetensors.torch import load_file  # a listing does without PyTorch

            return _unwrapped(load_file(path))
        except (SafetensorError, OSError) as error:
            raise CausalFTError(f"damaged or cut short ({_first_line(error)}); fetch it again") from error
    if kind == "torchscript":
        raise CausalFTError(
            "a TorchScript archive, a program that must be run to be read, so it is refused, with --allow-pickle too"
            + way_out
        )
    if kind != "pickle":
        what = {
            "empty": "an empty file",
            "git lfs pointer": "a Git LFS pointer, which names the weights and does not hold them",
            "web page": "a web page",
            "unknown": "neither safetensors nor a state dict of torch",
        }[kind]
        raise CausalFTError(f"not a file of weights ({what}){way_out}")
    if not allow_pickle:
        raise CausalFTError(
            f"a pickle, which can run code when it is read, so it is refused{way_out}, or pass --allow-pickle to "
            "read its tensors and nothing else"
        )
    import torch

    try:
        with open(path, "rb") as file:  # a name would let torch take it for what it is called
            found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler's, the archive's, or whatever a crafted file provokes
        guilty = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = (
            f"it holds {guilty[1]}, which is no tensor" if guilty else f"it is damaged: {_first_line(error)}"
        )
        raise CausalFTError(f"a pickle that cannot be read safely ({reason}){way_out}") from error
    return _tensors(found, way_out)


def _tensors(found: object, way_out: str) -> dict[str, Tensor]:
    """The state dict inside a checkpoint, without the prefixes of wrappers."""
    import torch

    while isinstance(found, dict):
        inner = next((found[key] for key in _WRAPPERS if isinstance(found.get(key), dict)), None)
        if inner is None:
            break
        found = inner
    tensors = found if isinstance(found, dict) else {}
    tensors = {str(name): value for name, value in tensors.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise CausalFTError(f"a pickle without a state dict{way_out}")
    return _unwrapped(tensors)


# What trainers put around a model: the key of a checkpoint, or a prefix of every name.
_WRAPPERS = ("state_dict", "model", "module", "model_state_dict")
_PREFIXES = ("module.", "_orig_mod.", "model.", "state_dict.", "model_state_dict.")


def _unwrapped(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without the wrapper prefixes that all have in common."""
    found = dict(tensors)
    while prefix := next((p for p in _PREFIXES if found and all(name.startswith(p) for name in found)), None):
        found = {name.removeprefix(prefix): value for name, value in found.items()}
    return found


def first_mismatch(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str | None:
    """Say how tensors differ from a model's: the first of another shape, the first missing, the first unknown.

    Returns
    -------
    str or None
        None if names and shapes agree.

    Examples
    --------
    >>> import torch
    >>> first_mismatch({"a": torch.zeros(2), "b": torch.zeros(3)}, {"a": torch.zeros(4), "c": torch.zeros(3)})
    'a is (4,) in the file and (2,) in the model; it lacks b; it has c, which the model lacks'
    >>> first_mismatch({"a": torch.zeros(2)}, {"a": torch.ones(2)}) is None
    True
    """
    said = []
    for name, value in wanted.items():
        if name in found and found[name].shape != value.shape:
            said.append(f"{name} is {_shape(found[name])} in the file and {_shape(value)} in the model")
            break
    missing = [name for name in wanted if name not in found]
    if missing:
        said.append(f"it lacks {missing[0]}{_and_more(missing)}")
    unexpected = [name for name in found if name not in wanted]
    if unexpected:
        said.append(f"it has {unexpected[0]}{_and_more(unexpected)}, which the model lacks")
    return "; ".join(said) or None


def load_all(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put tensors into a model, in place, and check that nothing of its random start is left.

    Every floating-point tensor of the model is made NaN first, so that one that is not overwritten is found.

    Raises
    ------
    CausalFTError
        If names or shapes differ, or a tensor of the file is not finite. The message does not name the file.
    """
    import torch

    wanted = model.state_dict()
    # Counters of batch normalisation are used in training with a cumulative average only; older files lack them.
    counters = {name: value for name, value in wanted.items() if name.endswith("num_batches_tracked")}
    tensors = {**counters, **tensors}
    difference = first_mismatch(wanted, tensors)
    if difference:
        raise CausalFTError(
            f"{difference}; give weights of this architecture, or the name that the file goes with"
        )
    for name, value in wanted.items():
        if value.is_floating_point() and not tensors[name].is_floating_point():
            kind = str(tensors[name].dtype).removeprefix("torch.")
            raise CausalFTError(
                f"{name} is {kind} in the file and {str(value.dtype).removeprefix('torch.')} in the model: whole "
                "numbers are no weights (quantised ones must be turned back); take the file with floating-point weights"
            )
    for value in wanted.values():
        if value.is_floating_point():
            value.fill_(torch.nan)
    model.load_state_dict(dict(tensors), strict=True)
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            given = tensors[name]
            if bool(torch.isnan(given).any()):
                whose = "is not a number in the file"
            elif bool(torch.isinf(given).any()):
                whose = "is infinite in the file"
            elif bool(torch.isinf(value).any()):
                whose = f"is too large for {str(value.dtype).removeprefix('torch.')}"
            else:
                whose = "was not loaded"
            raise CausalFTError(f"{name} {whose}")


def _shape(value: Tensor) -> str:
    return str(tuple(value.shape))


def _and_more(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:120] if text else type(error).__name__
