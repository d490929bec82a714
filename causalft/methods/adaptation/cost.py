"""What an image costs in one stratum: operations counted, seconds measured on two batches, bytes kept for backward."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from causalft.methods.adaptation.settings import Tuning
from causalft.methods.adaptation.tuned import TunedStratum, Untouched
from causalft.models.features.encoder import frozen_encoder
from causalft.models.strata.stratum import Stratum
from causalft.models.tuning.towers import open_tower
from causalft.models.tuning.train import train

__all__ = ["PredictionCost", "StratumCost", "count_flops", "kept_bytes", "prediction_cost", "stratum_cost"]

_AT_LEAST, _FLOPS = 8, 40 * 10**9  # images and operations of a batch of the probe on a CPU


@dataclass(frozen=True)
class StratumCost:
    """Cost of a stratum per image; a multiplication with an addition counts as two operations (FLOPs).

    Attributes
    ----------
    feature_dim, image_size : int
    n_parameters : int
        Of the whole model.
    n_tuned : int
        Trained parameters, those of the head included; 0 if nothing is trained.
    tuned_bytes : int
        Of the files that hold what is tuned.
    encode_flops, tune_flops, prefix_flops : int
        Of the frozen model; of the trained part, forward and backward; of the frozen prefix of a training step.
    encode_seconds, tune_seconds, prefix_seconds, predict_seconds : float
        ``predict`` is the tuned model, forward only.
    token_bytes, kept_bytes : int
        Of what the frozen prefix gives, and of what a training step keeps for its backward pass.
    device_bytes : int
        Peak on a GPU in the probe; 0 on a CPU.
    batch : int
        Images of each of the two batches that were timed.
    precision : str
    """

    feature_dim: int
    image_size: int
    n_parameters: int
    n_tuned: int
    tuned_bytes: int
    encode_flops: int
    tune_flops: int
    prefix_flops: int
    encode_seconds: float
    tune_seconds: float
    prefix_seconds: float
    predict_seconds: float
    token_bytes: int
    kept_bytes: int
    device_bytes: int
    batch: int
    precision: str


def count_flops(run: Callable[[], Any]) -> int:
    """Return the floating-point operations of a call, by `torch.utils.flop_counter`: matrix products, no sums.

    Attention goes through plain products meanwhile: the counter knows no fused attention of a CPU.

    Examples
    --------
    >>> layer, x = nn.Linear(5, 7), torch.ones(3, 5)
    >>> count_flops(lambda: layer(x)) == 2 * 3 * 5 * 7
    True
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def kept_bytes(model: nn.Module, run: Callable[[], Any]) -> int:
    """Return the bytes that autograd keeps for the backward pass of a call, beside the tensors of the model.

    Examples
    --------
    >>> layer, x = nn.Linear(5, 7), torch.ones(3, 5)
    >>> kept_bytes(layer, lambda: layer(x).tanh()) == 4 * (3 * 5 + 3 * 7)
    True
    """
    own = {
        tensor.untyped_storage().data_ptr()
        for module in model.modules()
        for tensor in (*module._parameters.values(), *module._buffers.values(), *vars(module).values())
        if isinstance(tensor, Tensor) and not tensor.is_mkldnn
    }
    seen: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if not tensor.is_mkldnn:  # packed weights, which have no storage to ask
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        found = run()  # its graph holds the storages, so that no address is used twice
    total = sum(seen.values())
    del found
    return total


def stratum_cost(stratum: Stratum, tuning: Tuning, n_classes: int, pixels: Tensor) -> StratumCost:
    """Count and time what a stratum does with a batch of images; the stratum is not changed.

    Parameters
    ----------
    stratum : Stratum
    tuning : Tuning
    n_classes : int
    pixels : (n, size, size, 3) Tensor of uint8
        Crops, at least one; they are repeated to a batch of ``tuning.batch_size``, on a CPU fewer of a large model.

    Raises
    ------
    CausalFTError
        If the tuner does not fit the image tower.
    """
    device = stratum.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    one, label = stratum.normalise(pixels[:1]), torch.zeros(1, dtype=torch.int64, device=device)
    tower = open_tower(stratum.visual)
    with torch.no_grad():
        dim = tower(one).shape[1]
        encode_flops = count_flops(lambda: tower(one))
    weight = torch.randn(n_classes, dim, generator=torch.Generator().manual_seed(0))
    weight = F.normalize(weight, dim=1).to(device)
    # The counter does not know the kernels of lower precision.
    plain = TunedStratum(stratum, weight, replace(tuning, precision="fp32"))
    with torch.no_grad():
        of_one = plain.tokens(one)
        prefix_flops = count_flops(lambda: plain.tokens(one))
    trains = plain.tuned.trains_head
    tune_flops = count_flops(lambda: _train(plain, tuning, of_one, label, batches=1)) if trains else 0

    size = -(-tuning.batch_size // tuning.accumulation)
    if device.type != "cuda":  # where a large batch is no faster than a small one
        size = min(size, max(_AT_LEAST, _FLOPS // (encode_flops + tune_flops)))
    pixels = pixels.repeat(-(-size // len(pixels)), 1, 1, 1)[:size]
    encode_seconds, precision = _encoding(stratum, tuning, pixels)
    model = TunedStratum(stratum, weight, tuning)
    pictures, labels = stratum.normalise(pixels), torch.arange(size, device=device) % n_classes
    prefix_seconds = _second(lambda: model.tokens(pictures), device) / size
    tokens, tune_seconds, kept = model.tokens(pictures), 0.0, 0
    if trains:
        tune_seconds = _train(model, tuning, tokens, labels) / size
        kept = kept_bytes(model, lambda: _loss(model, tokens, labels)) // size
    predict_seconds = _second(lambda: model.logits_of(pixels), device) / size
    return StratumCost(
        feature_dim=dim,
        image_size=stratum.image_size,
        n_parameters=sum(parameter.numel() for parameter in stratum.model.parameters()),
        n_tuned=model.n_tuned if trains else 0,
        tuned_bytes=_file_bytes(model),
        encode_flops=encode_flops,
        tune_flops=tune_flops,
        prefix_flops=prefix_flops,
        encode_seconds=encode_seconds,
        tune_seconds=tune_seconds,
        prefix_seconds=prefix_seconds,
        predict_seconds=predict_seconds,
        token_bytes=tokens[:1].nbytes,
        kept_bytes=kept,
        device_bytes=torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0,
        batch=size,
        precision=precision,
    )


@dataclass(frozen=True)
class PredictionCost:
    """Cost of a prediction per image.

    Attributes
    ----------
    flops : int
        Operations, counted as in :class:`StratumCost`, of all views of the image.
    seconds : float
        In a batch, on this machine.
    """

    flops: int
    seconds: float


def prediction_cost(
    stratum: Stratum, tuning: Tuning, n_classes: int, pixels: Tensor, *, gla: bool = False
) -> PredictionCost:
    """Count and time the predictions of a stratum once it is tuned, with all that its tuner adds and all views.

    Parameters
    ----------
    stratum : Stratum
        Not changed.
    tuning : Tuning
    n_classes : int
    pixels : (n, size, size, 3) Tensor of uint8
        What :attr:`~causalft.methods.adaptation.tuned.TunedStratum.cut` gives of one or more images; with several views
        (n, n_views, size, size, 3).
    gla : bool
        With GLA-FT, which asks the model before tuning too.

    Raises
    ------
    CausalFTError
        If the tuner does not fit the image tower.
    """
    device = stratum.device
    one = stratum.normalise(pixels[0] if pixels.ndim == 5 else pixels[:1])
    tower = open_tower(stratum.visual)
    with torch.no_grad():
        dim = tower(one[:1]).shape[1]
        weight = F.normalize(torch.ones(n_classes, dim), dim=1).to(device)
        # The counter does not know the kernels of lower precision.
        plain = TunedStratum(stratum, weight, replace(tuning, precision="fp32"))
        flops = count_flops(lambda: plain(plain.tokens(one))) + (
            count_flops(lambda: tower(one)) if gla else 0
        )
        model = TunedStratum(stratum, weight, tuning)
        if gla:
            anchors = torch.zeros(n_classes, dim)
            model.untouched = Untouched(stratum, anchors, torch.zeros(n_classes), tuning.precision)
        seconds = _second(lambda: model.logits_of(pixels), device) / len(pixels)
    return PredictionCost(flops, seconds)


def _encoding(stratum: Stratum, tuning: Tuning, pixels: Tensor) -> tuple[float, str]:
    """Seconds an image in the frozen model, whose copy of the weights is released, and the precision."""
    encode, precision = frozen_encoder(stratum, tuning.precision)
    return _second(lambda: encode(pixels), stratum.device) / len(pixels), precision


def _loss(model: TunedStratum, tokens: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(model(tokens), labels)


def _train(model: TunedStratum, tuning: Tuning, tokens: Tensor, labels: Tensor, *, batches: int = 2) -> float:
    """Train on the same batch a few times, and return the seconds of the last step."""
    size, began = len(tokens), 0.0

    def batch_loss(_: nn.Module, indices: Tensor, generator: torch.Generator) -> Tensor:
        nonlocal began
        _wait(tokens.device)
        began = time.perf_counter()
        return _loss(model, tokens, labels)

    recipe = replace(
        tuning.recipe,
        epochs=1,
        batch_size=size,
        accumulation=1,
        patience=None,
        lr=1e-6,  # the weights stay finite, whatever they are
        precision=model.precision,  # type: ignore[arg-type]
    )
    train(model, batches * size, batch_loss, recipe, label="measuring", progress=False)
    _wait(tokens.device)
    return time.perf_counter() - began


def _file_bytes(model: TunedStratum) -> int:
    """Of adapter.safetensors and head.safetensors, without their headers."""
    return sum(value.nbytes for value in model.trained_state().values())


def _second(run: Callable[[], Any], device: torch.device) -> float:
    """Seconds of the second of two calls: the first fills caches and chooses kernels."""
    taken = 0.0
    for _ in range(2):
        _wait(device)
        started = time.perf_counter()
        run()
        _wait(device)
        taken = time.perf_counter() - started
    return taken


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
