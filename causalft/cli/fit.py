"""``causalft fit``: a long-tailed classifier, backdoor-adjusted over foundation models."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from causalft.cli.data_options import DATA_HELP, data_options, refuse_idle_splits, split_options
from causalft.cli.options import (
    DATA_GROUP,
    DEVICE,
    FILE,
    PATH,
    SEED,
    SPLIT_GROUP,
    TEXT,
    GroupedCommand,
    Number,
    Numbers,
    console,
    print_json,
    refuse_given,
)
from causalft.cli.strata_options import TUNING_OPTIONS, strata_options, tuning_options
from causalft.runs import limits
from causalft.runs.progress import phase

__all__ = ["command"]


_GROUPS = {
    "Options that matter first": (
        "data",
        "zoo",
        "strata",
        "out",
        "tuner",
        "loss",
        "lr",
        "epochs",
        "control",
        "n_seeds",
        "device",
        "as_json",
    ),
    "Data": (*DATA_GROUP, *SPLIT_GROUP),
    "Strata": ("weights", "offline", "allow_pickle", "template", "test_view", "gla"),
    "Tuning": (
        "bottleneck",
        "sampler",
        "head",
        "head_scale",
        "head_start",
        "batch_size",
        "accumulation",
        "weight_decay",
        "patience",
        "augmentation",
        "precision",
        "wise_ft",
        "seed",
    ),
    "Fusion": ("fusion", "stratum_prior", "calibrate_strata", "control_of"),
    "Output": ("cache", "tensorboard"),
}


@click.command("fit", cls=GroupedCommand, groups=_GROUPS)
@strata_options
@click.option("--data", type=FILE, default="creatures-lt", show_default=True, help=DATA_HELP)
@data_options
@click.option(
    "--out",
    type=PATH,
    default=Path("runs/fit"),
    show_default=True,
    help="Folder of the run; an interrupted one is resumed by the same command.",
)
@click.option(
    "--fusion",
    type=click.Choice(["mixture", "logit", "product"]),
    default="mixture",
    show_default=True,
    help="mixture is Eq. 7; product adds logits, as the authors' released code does; logit is their mean.",
)
@click.option(
    "--stratum-prior",
    type=Numbers(limits.SHARE, "uniform", "em"),
    metavar="uniform|em|P,P,...",
    help="P(c): uniform, estimated on the validation images by EM, or numbers that sum to 1.  [default: uniform]",
)
@click.option(
    "--calibrate-strata", is_flag=True, help="Fit a temperature for each stratum before the fusion."
)
@click.option(
    "--control",
    type=click.Choice(["none", "seeds"]),
    default="none",
    show_default=True,
    help="seeds: also fuse seeds of ONE model, to see what an ordinary ensemble gives.",
)
@click.option(
    "--control-of", type=TEXT, help="Stratum whose seeds form the control.  [default: the first stratum]"
)
@split_options
@click.option(
    "--lr",
    type=Numbers(limits.LEARNING_RATE),
    help="Learning rate; with several (0.01,0.02,0.05) each stratum's is chosen on validation. "
    "Default: 0.05 for minis, 0.01 for pretrained.",
)
@tuning_options
@click.option(
    "--gla",
    is_flag=True,
    help="GLA-FT: each stratum adds the logits of its untouched model, less their prior, to its tuned ones.",
)
@click.option(
    "--seed", type=SEED, default=0, show_default=True, help="Draws the long tail and seeds the training."
)
@click.option(
    "--seeds",
    "n_seeds",
    type=Number(limits.SEEDS),
    default=1,
    show_default=True,
    help="Repetitions with seeds SEED, SEED+1, ...",
)
@click.option(
    "--cache/--no-cache",
    default=True,
    show_default=True,
    help="Keep frozen features of validation and test images for later runs.",
)
@click.option("--tensorboard", is_flag=True, help="Log the training to the run's tensorboard/.")
@click.option("--device", type=DEVICE, default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print metrics.json and nothing else on standard output."
)
def command(out: Path, as_json: bool, **options: Any) -> None:
    """Tune each stratum, fuse them by backdoor adjustment, and say what that did to parameter imbalance.

    \b
    causalft fit --strata clip,openclip,metaclip --control seeds
    causalft fit --data photos/ --zoo pretrained --out runs/photos
    """
    from causalft.runs.folder import Run

    refuse_idle_splits(options)
    if options["control"] == "none":
        refuse_given(("control_of",), "goes with --control seeds")
    settings = _settings(options)
    if os.environ.get("RANK", "0") == "0":  # under a launcher, the process that writes
        Run.check(out, kind="fit")
    settings.check()
    settings.check_names()  # mistakes are said before PyTorch is imported

    with phase("loading libraries"):
        from causalft.cli.evaluate import print_diagnosis
        from causalft.models.tuning.processes import is_main_process
        from causalft.pipelines.workflows.fit import run_fit

    if not is_main_process():  # a launcher started several: the others train along in silence
        run_fit(settings, out, progress=False)
        return
    screen = console(as_json)
    unused = _without_training(settings, options)
    if unused:
        verb = "has" if len(unused) == 1 else "have"
        screen.print(f"note     nothing is trained: {', '.join(unused)} {verb} no effect", style="dim")
    fitted = run_fit(settings, out, say=lambda line: screen.print(line, style="dim"))
    if as_json:
        print_json(fitted.metrics)
    else:
        print_diagnosis(screen, fitted.diagnosis, fitted.worst_classes)
    screen.print(f"report: {fitted.run.path / 'report.html'}", soft_wrap=True)


_OF_TRAINING = (
    "loss",
    "sampler",
    "epochs",
    "batch_size",
    "accumulation",
    "weight_decay",
    "patience",
    "augmentation",
    "wise_ft",
)


def _without_training(settings: Any, options: dict[str, Any]) -> list[str]:
    """The options of training that were given to a tuner that trains nothing."""
    if not settings.tuning.trains_nothing:
        return []
    lr = ["--lr"] if options["lr"] is not None else []
    return lr + [TUNING_OPTIONS[name] for name in _OF_TRAINING if name in options["tuning"]]


def _settings(options: dict[str, Any]) -> Any:
    """Turn the options into :class:`causalft.pipelines.workflows.settings.FitSettings`."""
    from causalft.models.tuning.choices import own_spelling
    from causalft.pipelines.workflows.settings import FitSettings

    given = dict(options)
    learning_rates = given.pop("lr") or ()
    tuning = {**given.pop("tuning"), **({"lr": learning_rates[0]} if learning_rates else {})}
    if "loss" in tuning:
        tuning["loss"] = own_spelling(str(tuning["loss"]))
    settings = FitSettings(
        learning_rates=learning_rates if len(learning_rates) > 1 else (),
        **given,
    )
    return replace(settings, tuning=replace(settings.tuning, **tuning))
