"""A training in the middle, as one safetensors file: weights, optimiser, random state, and how far it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from causalft.errors import CausalFTError
from causalft.runs.files import sort_metadata
from causalft.runs.folder import atomic_path

__all__ = ["Progress", "all_finite", "load_checkpoint", "save_checkpoint", "trained_state"]


@dataclass
class Progress:
    """How far a training is.

    Attributes
    ----------
    epoch, batch : int
        Whole epochs done, and steps done in the next one.
    summed : float
        The losses of these steps.
    parts : int
        Micro-batches of a step; grows where memory runs out.
    losses, validation, best_epoch, notes
        As in :class:`causalft.models.tuning.recipe.History`.
    best : dict of Tensor
        The weights of the best epoch; empty without early stop.
    generator : Tensor, optional
        State of the epoch's generator in the middle of an epoch, uint8.
    """

    epoch: int = 0
    batch: int = 0
    summed: float = 0.0
    parts: int = 1
    losses: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    best_epoch: int | None = None
    notes: list[str] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    generator: Tensor | None = None


_TENSORS = ("best", "generator")


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """Return trained parameters and all buffers, by name: what training can change."""
    state: dict[str, Tensor] = {name: p for name, p in model.named_parameters() if p.requires_grad}
    state.update(model.named_buffers())
    return state


def all_finite(parameters: list[nn.Parameter]) -> bool:
    """Whether no weight is NaN or infinite."""
    with torch.no_grad():
        return all(bool(torch.isfinite(parameter).all()) for parameter in parameters)


def save_checkpoint(
    path: Path,
    identity: Mapping[str, Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    scaler: Any = None,
) -> None:
    """Write a checkpoint; a crash in the middle leaves the one before.

    Parameters
    ----------
    path : pathlib.Path
    identity : mapping
        What tells this training from another; a JSON document.
    model, optimizer, progress, scaler
        What is saved.
    """
    tensors = {f"model/{name}": value for name, value in trained_state(model).items()}
    tensors |= {f"best/{name}": value for name, value in progress.best.items()}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if value is not None:
                tensors[f"optimizer/{index}/{name}"] = torch.as_tensor(value)
    if progress.generator is not None:
        tensors["generator"] = progress.generator
    # The tensors that stay out of the JSON are not copied into it first, as asdict would.
    numbers = {name: value for name, value in vars(progress).items() if name not in _TENSORS}
    metadata = {"identity": json.dumps(identity), "progress": json.dumps(numbers)}
    if scaler is not None:
        metadata["scaler"] = json.dumps(scaler.state_dict())
    whole = {
        name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()
    }
    with atomic_path(path) as temporary:
        save_file(whole, temporary, metadata=metadata)
        sort_metadata(temporary)


def load_checkpoint(
    path: Path,
    identity: Mapping[str, Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: Any = None,
) -> Progress:
    """Read a checkpoint into model, optimiser and scaler, and return how far it was.

    Raises
    ------
    CausalFTError
        If the file is damaged or belongs to another training.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except SafetensorError as error:
        raise CausalFTError(f"{path} is damaged ({error}); remove it to train from the start") from error
    kinds: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "optimizer": {}, "generator": {}}
    for key, value in tensors.items():
        kind, _, name = key.partition("/")
        kinds.setdefault(kind, {})[name] = value
    trained = trained_state(model)
    shapes = {name: value.shape for name, value in trained.items()}
    if (
        metadata.get("identity") != json.dumps(identity)
        or {name: value.shape for name, value in kinds["model"].items()} != shapes
    ):
        raise CausalFTError(
            f"{path} is the checkpoint of another training; remove it or choose another --out"
        )
    with torch.no_grad():
        for name, value in kinds["model"].items():
            trained[name].copy_(value)
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in kinds["optimizer"].items():
        index, _, name = key.partition("/")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    if scaler is not None and "scaler" in metadata:
        scaler.load_state_dict(json.loads(metadata["scaler"]))
    return Progress(
        **json.loads(metadata["progress"]), best=kinds["best"], generator=kinds["generator"].get("")
    )
