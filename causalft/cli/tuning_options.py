"""How a stratum is tuned, as options of a command: the same words as the fields of the tuning settings."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from causalft.errors import CausalFTError

__all__ = ["TUNING_OPTIONS", "tuning_options"]

# The names are checked where they are used (with the nearest one offered): to list them here, PyTorch would be loaded.
_OPTIONS: dict[str, dict[str, Any]] = {
    "tuner": {
        "metavar": "NAME[+NAME...]",
        "help": "What is trained of each image tower: adaptformer, lora, lora-mlp, bias, layernorm, vpt-shallow, "
        "vpt-deep, adapter, ssf, last-K, full, linear-probe, zero-shot, ... NAME@last-K confines one to the last K "
        "blocks.  [default: adaptformer]",
    },
    "bottleneck": {
        "type": int,
        "help": "Width of adapters, rank of LoRA.  [default: 2^floor(log2(K / 2L)), at least 16]",
    },
    "loss": {
        "metavar": "NAME",
        "help": "LA (adjusts the logits by the class counts), CE, Focal, LDAM, CB, GRW, BS, LADE or GLA-Train.  "
        "[default: LA]",
    },
    "sampler": {"metavar": "NAME", "help": "uniform, class-balanced or square-root.  [default: uniform]"},
    "head": {"metavar": "NAME", "help": "cosine, linear, l2 or layernorm.  [default: cosine]"},
    "head_scale": {"type": float, "help": "Inverse temperature of the head.  [default: 25]"},
    "head_start": {
        "metavar": "NAME",
        "help": "Where the head starts: text, class-mean, K-shot or linear-probe.  [default: text]",
    },
    "template": {
        "metavar": "TEXT|NAME|FILE",
        "help": "Prompt of a class: a text with {}, classname, default or ensemble, or a file of descriptors.  "
        "[default: a photo of a {}.]",
    },
    "epochs": {"type": int, "help": "[default: 10]"},
    "batch_size": {"type": int, "help": "Images of a step.  [default: 128]"},
    "accumulation": {"type": int, "help": "Micro-batches into which a step is cut.  [default: 1]"},
    "weight_decay": {"type": float, "help": "[default: 0.0005]"},
    "patience": {
        "type": int,
        "help": "Stop after so many epochs without a lower validation risk, and keep the best.  "
        "[default: train to the end]",
    },
    "augmentation": {
        "metavar": "NAME",
        "help": "none, flip or crop-flip.  [default: none for mini, flip for your own minis, crop-flip for pretrained]",
    },
    "precision": {
        "metavar": "auto|fp32|bf16|fp16",
        "help": "auto: bf16 in frozen layers where this machine is faster with it, half precision on CUDA.  "
        "[default: auto]",
    },
    "wise_ft": {
        "type": float,
        "help": "How far to go from the start to the tuned weights, above 0 to 1 (WiSE-FT).  [default: 1]",
    },
    "test_view": {
        "metavar": "NAME",
        "help": "centre, five-crop or ten-crop: test-time ensembling.  [default: centre]",
    },
}

TUNING_OPTIONS = {name: f"--{name.replace('_', '-')}" for name in _OPTIONS}
"""Field of :class:`causalft.strata.tuning_settings.Tuning` -> option."""

_POSITIVE = ("bottleneck", "head_scale", "epochs", "batch_size", "accumulation", "patience")


def tuning_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command receives those that were given as one dict ``tuning``."""

    @wraps(command)
    def collected(*args: Any, **options: Any) -> Any:
        given = {name: value for name in _OPTIONS if (value := options.pop(name)) is not None}
        for name in _POSITIVE:
            if name in given and not 0 < given[name] < float("inf"):
                raise CausalFTError(f"{TUNING_OPTIONS[name]} {given[name]} is not above 0")
        return command(*args, tuning=given, **options)

    decorated: Callable[..., Any] = collected
    for name, settings in reversed(_OPTIONS.items()):
        decorated = click.option(TUNING_OPTIONS[name], name, **settings)(decorated)
    return decorated
