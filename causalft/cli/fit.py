"""``causalft fit``: a long-tailed classifier, backdoor-adjusted over foundation models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from causalft.cli.options import name_value_pairs, numbers, refuse_given
from causalft.cli.output import console, print_json
from causalft.errors import CausalFTError

__all__ = ["command"]


@click.command("fit")
@click.option(
    "--strata", default="clip,openclip,metaclip", show_default=True, help="Foundation models, by name."
)
@click.option(
    "--data",
    default="creatures-lt",
    show_default=True,
    help="creatures-lt, a folder with one folder a class, or a zip of one.",
)
@click.option(
    "--zoo",
    help="mini, pretrained, or a folder made by `causalft zoo pretrain`. Default: mini for the built-in data, "
    "pretrained for any other.",
)
@click.option(
    "--weights", multiple=True, metavar="NAME=FILE", help="Local weights for --zoo pretrained. Repeatable."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("runs/fit"),
    show_default=True,
    help="Folder of the run; an interrupted one is resumed by the same command.",
)
@click.option(
    "--loss",
    type=click.Choice(["LA", "CE"], case_sensitive=False),
    default="LA",
    show_default=True,
    help="LA adjusts the logits by the class counts; CE is plain cross-entropy.",
)
@click.option(
    "--fusion",
    type=click.Choice(["mixture", "logit"]),
    default="mixture",
    show_default=True,
    help="mixture is Eq. 7; logit is the variant of the authors' released code.",
)
@click.option("--stratum-prior", help="P(c) as numbers that sum to 1, as in 0.5,0.3,0.2. Default: uniform.")
@click.option(
    "--control",
    type=click.Choice(["none", "seeds"]),
    default="none",
    show_default=True,
    help="seeds: also fuse seeds of ONE model, to see what an ordinary ensemble gives.",
)
@click.option("--control-of", help="That model. Default: the first stratum.")
@click.option(
    "--imbalance-factor",
    type=float,
    help="Resample the training images to a long tail. creatures-lt has 100.",
)
@click.option(
    "--profile",
    type=click.Choice(["exponential", "zipf"]),
    default="exponential",
    show_default=True,
    help="Shape of the resampled tail.",
)
@click.option(
    "--order",
    type=click.Choice(["random", "class", "size"]),
    default="random",
    show_default=True,
    help="Which classes come first in the resampled tail.",
)
@click.option(
    "--n-validation",
    type=int,
    default=10,
    show_default=True,
    help="Validation images a class (folder or zip).",
)
@click.option(
    "--n-test", type=int, default=50, show_default=True, help="Test images a class (folder or zip)."
)
@click.option("--drop-empty-classes", is_flag=True, help="Leave classes without an image out.")
@click.option("--epochs", type=int, help="Default: 10.")
@click.option("--batch-size", type=int, help="Default: 128.")
@click.option(
    "--lr",
    help="Learning rate; with several (0.01,0.02,0.05) each stratum's is chosen on validation. "
    "Default: 0.05 for minis, 0.01 for pretrained.",
)
@click.option(
    "--augmentation",
    type=click.Choice(["none", "flip", "crop-flip"]),
    help="Default: none for mini, flip for your own minis, crop-flip for pretrained.",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Draws the long tail and seeds the training."
)
@click.option(
    "--seeds",
    "n_seeds",
    type=int,
    default=1,
    show_default=True,
    help="Repetitions with seeds SEED, SEED+1, ...",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print metrics.json and nothing else on standard output."
)
def command(out: Path, as_json: bool, **options: Any) -> None:
    """Tune each stratum, fuse them by backdoor adjustment, and say what that did to parameter imbalance.

    \b
    causalft fit --strata clip,openclip,metaclip --control seeds
    causalft fit --data photos/ --zoo pretrained --out runs/photos
    """
    from causalft.cli.diagnosis_tables import print_diagnosis
    from causalft.fitting import run_fit

    _refuse_what_would_do_nothing(options)
    settings = _settings(options)
    screen = console(as_json)
    fitted = run_fit(settings, out, say=lambda line: screen.print(line, style="dim"))
    if as_json:
        print_json(fitted.metrics)
    else:
        print_diagnosis(screen, fitted.diagnosis)
    screen.print(f"report: {fitted.run.path / 'report.html'}", soft_wrap=True)


def _refuse_what_would_do_nothing(options: dict[str, Any]) -> None:
    names = ["n_validation", "n_test", "order", "drop_empty_classes"]
    if options["data"] == "creatures-lt":
        refuse_given(
            [*names, "profile"], "is for your own images; creatures-lt brings its splits and its order"
        )
    elif options["zoo"] and (Path(options["zoo"]) / "manifest.parquet").exists():
        names = ["n_validation", "n_test", "order"]
        refuse_given(
            names, f"is decided by {options['zoo']}: its manifest names the images its minis never saw"
        )
    if options["imbalance_factor"] is None:
        refuse_given(("profile", "order"), "goes with --imbalance-factor")
    if options["control"] == "none":
        refuse_given(("control_of",), "goes with --control seeds")


def _settings(options: dict[str, Any]) -> Any:
    """Turn the options into :class:`causalft.fitting.FitSettings`."""
    from causalft.fitting import FitSettings

    given = dict(options)
    learning_rates = numbers(given.pop("lr"), "--lr") or ()
    given_epochs, given_batch_size = given.pop("epochs"), given.pop("batch_size")
    tuning_options = {
        "loss": given.pop("loss"),
        "epochs": given_epochs,
        "batch_size": given_batch_size,
        "augmentation": given.pop("augmentation"),
        "lr": learning_rates[0] if learning_rates else None,
    }
    for name, values in (
        ("epochs", (given_epochs,)),
        ("batch-size", (given_batch_size,)),
        ("lr", learning_rates),
    ):
        for value in values:
            if value is not None and not 0 < value < float("inf"):
                raise CausalFTError(f"--{name} {value} is not above 0")
    settings = FitSettings(
        strata=tuple(name.strip() for name in given.pop("strata").split(",") if name.strip()),
        weights=name_value_pairs(given.pop("weights"), "--weights"),
        stratum_prior=numbers(given.pop("stratum_prior"), "--stratum-prior"),
        learning_rates=learning_rates if len(learning_rates) > 1 else (),
        **given,
    )
    chosen = {key: value for key, value in tuning_options.items() if value is not None}
    return replace(settings, tuning=replace(settings.tuning, **chosen))
