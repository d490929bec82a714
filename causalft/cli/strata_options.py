"""Options that say which strata and how they are tuned, given anew or repeated from a run."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from causalft.cli.options import FILE, NAMES, TEXT, Number, name_value_pairs
from causalft.runs import limits

__all__ = ["TUNING_OPTIONS", "strata_options", "tuning_options"]


_OPTIONS = (
    click.option(
        "--strata",
        type=NAMES,
        default="clip,openclip,metaclip",
        show_default=True,
        help="Foundation models, by name.",
    ),
    click.option(
        "--zoo",
        type=FILE,
        help="mini, pretrained, or a folder made by `causalft zoo pretrain`. Default: mini for the built-in data, "
        "pretrained for any other.",
    ),
    click.option(
        "--weights",
        type=TEXT,
        multiple=True,
        metavar="NAME=FILE",
        help="Local weights for --zoo pretrained. Repeatable.",
    ),
    click.option("--offline", is_flag=True, help="Never ask the network for weights."),
    click.option("--allow-pickle", is_flag=True, help="Read weights that are a pickle, as tensors only."),
)


def strata_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command receives them as the fields of `FitSettings`."""

    @wraps(command)
    def read(*args: Any, strata: tuple[str, ...], weights: tuple[str, ...], **options: Any) -> Any:
        return command(*args, strata=strata, weights=name_value_pairs(weights, "--weights"), **options)

    decorated: Callable[..., Any] = read
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


# The names are checked where they are used (with the nearest one offered): to list them here, PyTorch would be loaded.
_TUNING_OPTIONS: dict[str, dict[str, Any]] = {
    "tuner": {
        "type": TEXT,
        "metavar": "NAME[+NAME...]",
        "help": "What is trained of each image tower: adaptformer, lora, lora-mlp, bias, layernorm, vpt-shallow, "
        "vpt-deep, adapter, ssf, last-K, full, linear-probe, zero-shot, ... NAME@last-K confines one to the last K "
        "blocks.  [default: adaptformer]",
    },
    "bottleneck": {
        "type": Number(limits.BOTTLENECK),
        "help": "Width of adapters, rank of LoRA.  [default: 2^floor(log2(K / 2L)), in a mini at least 16]",
    },
    "loss": {
        "type": TEXT,
        "metavar": "NAME",
        "help": "LA (adjusts the logits by the class counts), CE, Focal, LDAM, CB, GRW, BS, LADE or GLA-Train.  "
        "[default: LA]",
    },
    "sampler": {
        "type": TEXT,
        "metavar": "NAME",
        "help": "uniform, class-balanced or square-root.  [default: uniform]",
    },
    "head": {"type": TEXT, "metavar": "NAME", "help": "cosine, linear, l2 or layernorm.  [default: cosine]"},
    "head_scale": {
        "type": Number(limits.HEAD_SCALE),
        "help": "Inverse temperature of the head.  [default: 25]",
    },
    "head_start": {
        "type": TEXT,
        "metavar": "NAME",
        "help": "Where the head starts: text, class-mean, K-shot or linear-probe.  [default: text]",
    },
    "template": {
        "type": TEXT,
        "metavar": "TEXT|NAME|FILE",
        "help": "Prompt of a class: a text with {}, classname, default or ensemble, or a file of descriptors.  "
        "[default: a photo of a {}.]",
    },
    "epochs": {"type": Number(limits.EPOCHS), "help": "[default: 10]"},
    "batch_size": {"type": Number(limits.BATCH_SIZE), "help": "Images of a step.  [default: 128]"},
    "accumulation": {
        "type": Number(limits.ACCUMULATION),
        "help": "Micro-batches into which a step is cut.  [default: 1]",
    },
    "weight_decay": {"type": Number(limits.WEIGHT_DECAY), "help": "[default: 0.0005]"},
    "patience": {
        "type": Number(limits.PATIENCE),
        "help": "Stop after so many epochs without a lower validation risk, and keep the best.  "
        "[default: train to the end]",
    },
    "augmentation": {
        "type": TEXT,
        "metavar": "NAME",
        "help": "none, flip or crop-flip.  [default: none for mini, flip for your own minis, crop-flip for pretrained]",
    },
    "precision": {
        "type": TEXT,
        "metavar": "auto|fp32|bf16|fp16",
        "help": "auto: bf16 in frozen layers where this machine is faster with it, half precision on CUDA.  "
        "[default: auto]",
    },
    "wise_ft": {
        "type": Number(limits.WISE_FT),
        "help": "How far to go from the start to the tuned weights, above 0 to 1 (WiSE-FT).  [default: 1]",
    },
    "test_view": {
        "type": TEXT,
        "metavar": "NAME",
        "help": "centre, five-crop or ten-crop: test-time ensembling.  [default: centre]",
    },
}

TUNING_OPTIONS = {name: f"--{name.replace('_', '-')}" for name in _TUNING_OPTIONS}
"""Field of :class:`causalft.methods.adaptation.settings.Tuning` -> option."""


def tuning_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command receives those that were given as one dict ``tuning``."""

    @wraps(command)
    def collected(*args: Any, **options: Any) -> Any:
        given = {name: value for name in _TUNING_OPTIONS if (value := options.pop(name)) is not None}
        return command(*args, tuning=given, **options)

    decorated: Callable[..., Any] = collected
    for name, settings in reversed(_TUNING_OPTIONS.items()):
        decorated = click.option(TUNING_OPTIONS[name], name, **settings)(decorated)
    return decorated
