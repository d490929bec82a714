"""The one training loop of the project: everything that trains calls :func:`train`."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from causalft.errors import CausalFTError
from causalft.runs import atomic_path

__all__ = ["History", "Recipe", "train"]

BatchLoss = Callable[[nn.Module, Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class Recipe:
    """How long, how fast and with which optimiser a model is trained.

    Attributes
    ----------
    epochs, batch_size : int
    lr : float
        Peak learning rate.
    optimizer : {"sgd", "adamw"}
    momentum, weight_decay : float
        ``momentum`` is SGD's; weight decay is left out for parameters with fewer than two dimensions under AdamW.
    schedule : {"cosine", "onecycle", "constant"}
        Per step: half a cosine to zero; a linear rise over the first quarter and a cosine fall; or constant.
    nesterov : bool
    grad_clip : float, optional
        Largest norm of the gradient.
    seed : int
        Seeds the order of the samples and whatever the loss draws.
    """

    epochs: int
    batch_size: int
    lr: float
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Literal["cosine", "onecycle", "constant"] = "cosine"
    nesterov: bool = False
    grad_clip: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class History:
    """What a training run leaves beside its weights: the mean loss of each epoch and the seconds it took."""

    losses: list[float]
    seconds: float


def train(
    model: nn.Module,
    n_samples: int,
    batch_loss: BatchLoss,
    recipe: Recipe,
    *,
    label: str = "training",
    progress: bool | None = None,
    checkpoint: Path | None = None,
) -> History:
    """Train the parameters of ``model`` that require a gradient.

    Parameters
    ----------
    model : torch.nn.Module
        Put it into train or eval mode before: the loop does not touch the mode (a frozen backbone stays in eval).
    n_samples : int
        Samples are the indices ``0 .. n_samples - 1``; every epoch visits each once, in an order drawn from
        ``(recipe.seed, epoch)``.
    batch_loss : callable
        ``batch_loss(model, indices, generator) -> scalar loss``; ``indices`` has shape (batch,); ``generator`` is
        seeded by the epoch, for augmentation.
    recipe : Recipe
    label : str
        Stands before the progress bar.
    progress : bool, optional
        Show the bar; by default where standard error is a terminal.
    checkpoint : pathlib.Path, optional
        A safetensors file written after every epoch and removed at the end. If it is there at the start, training
        goes on from it and ends with the weights of an uninterrupted run.

    Returns
    -------
    History

    Raises
    ------
    CausalFTError
        If there are no samples, epochs or parameters to train, the loss is not finite, or the checkpoint is damaged
        or of another training.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Linear(1, 1)
    >>> x = torch.linspace(-1, 1, 64)[:, None]
    >>> def squared_error(model, indices, generator):
    ...     return (model(x[indices]) - 3 * x[indices]).square().mean()
    >>> history = train(model, 64, squared_error, Recipe(epochs=30, batch_size=16, lr=0.1), progress=False)
    >>> round(model.weight.item(), 1)
    3.0
    """
    if n_samples < 1:
        raise CausalFTError("there is nothing to train on: 0 samples")
    if recipe.epochs < 1 or recipe.batch_size < 1:
        raise CausalFTError(
            f"{recipe.epochs} epochs in batches of {recipe.batch_size} are no training; give 1 or more of each"
        )
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise CausalFTError("there is nothing to train: no parameter of the model requires a gradient")
    optimizer = _optimizer(parameters, recipe)
    steps_per_epoch = _n_batches(n_samples, recipe.batch_size)
    total = steps_per_epoch * recipe.epochs
    losses: list[float] = []
    if checkpoint is not None and checkpoint.exists():
        try:
            losses = _load(checkpoint, model, optimizer, recipe)
        except SafetensorError as error:
            raise CausalFTError(
                f"{checkpoint} is damaged ({error}); remove it to train from the start"
            ) from error

    started = time.perf_counter()
    bar = tqdm(
        total=total,
        initial=steps_per_epoch * len(losses),
        desc=label,
        unit="step",
        disable=None if progress is None else not progress,
        leave=False,
    )
    with bar:
        for epoch in range(len(losses), recipe.epochs):
            generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + epoch)
            order = torch.randperm(n_samples, generator=generator)
            summed = 0.0
            for number in range(steps_per_epoch):
                step = epoch * steps_per_epoch + number
                for group in optimizer.param_groups:
                    group["lr"] = recipe.lr * _schedule(recipe.schedule, step / max(total, 1))
                indices = order[number * recipe.batch_size : (number + 1) * recipe.batch_size]
                loss = batch_loss(model, indices, generator)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                if recipe.grad_clip is not None:
                    nn.utils.clip_grad_norm_(parameters, recipe.grad_clip)
                optimizer.step()
                summed += loss.item()
                bar.update()
            losses.append(summed / steps_per_epoch)
            if not math.isfinite(losses[-1]):
                raise CausalFTError(
                    f"{label}: the loss is not finite in epoch {epoch + 1}; lower the learning rate"
                )
            bar.set_postfix(loss=f"{losses[-1]:.3f}")
            if checkpoint is not None and epoch + 1 < recipe.epochs:
                _save(checkpoint, model, optimizer, recipe, losses)
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    return History(losses=losses, seconds=time.perf_counter() - started)


def _n_batches(n_samples: int, batch_size: int) -> int:
    """Batches of an epoch; a last batch of one sample is dropped unless it is the only one (batch norm needs two)."""
    full, rest = divmod(n_samples, batch_size)
    return max(1, full + (rest > 1))


def _optimizer(parameters: list[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=recipe.lr,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=recipe.nesterov,
        )
    if recipe.optimizer == "adamw":
        matrices = [parameter for parameter in parameters if parameter.ndim >= 2]
        vectors = [parameter for parameter in parameters if parameter.ndim < 2]
        groups = [
            {"params": matrices, "weight_decay": recipe.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(
            [group for group in groups if group["params"]], lr=recipe.lr, betas=(0.9, 0.98)
        )
    raise CausalFTError(f"unknown optimizer {recipe.optimizer!r}; use 'sgd' or 'adamw'")


def _schedule(name: str, progress: float) -> float:
    """The factor on the peak learning rate at ``progress`` in [0, 1)."""
    if name == "constant":
        return 1.0
    if name == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    if name == "onecycle":
        rise = 0.25
        if progress < rise:
            return 0.04 + 0.96 * progress / rise
        return 0.5 * (1 + math.cos(math.pi * (progress - rise) / (1 - rise)))
    raise CausalFTError(f"unknown schedule {name!r}; use 'cosine', 'onecycle' or 'constant'")


def _save(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe, losses: list[float]
) -> None:
    tensors = {
        f"model/{name}": value.detach().clone(memory_format=torch.contiguous_format)
        for name, value in _trained_state(model).items()
    }
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if value is not None:
                tensors[f"optimizer/{index}/{name}"] = (
                    torch.as_tensor(value).detach().clone(memory_format=torch.contiguous_format)
                )
    metadata = {"recipe": json.dumps(asdict(recipe)), "losses": json.dumps(losses)}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)


def _load(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe) -> list[float]:
    state: dict[int, dict[str, Tensor]] = {}
    trained = _trained_state(model)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        names = {key.removeprefix("model/") for key in file.keys() if key.startswith("model/")}
        if metadata.get("recipe") != json.dumps(asdict(recipe)) or names != trained.keys():
            raise CausalFTError(
                f"{path} is the checkpoint of another training; remove it or choose another --out"
            )
        with torch.no_grad():
            for key in file.keys():
                kind, _, name = key.partition("/")
                if kind == "model":
                    trained[name].copy_(file.get_tensor(key))
                else:
                    index, _, field = name.partition("/")
                    state.setdefault(int(index), {})[field] = file.get_tensor(key)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return json.loads(metadata["losses"])


def _trained_state(model: nn.Module) -> dict[str, Tensor]:
    """Trained parameters and all buffers, by name: what training can change."""
    state: dict[str, Tensor] = {name: p for name, p in model.named_parameters() if p.requires_grad}
    state.update(model.named_buffers())
    return state
