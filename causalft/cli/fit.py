"""``causalft fit``: a long-tailed classifier, backdoor-adjusted over foundation models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from causalft.cli.launched import follows, is_launched
from causalft.cli.options import (
    PATH,
    GroupedCommand,
    console,
    given_options,
    options_of,
    print_json,
    refuse_given,
)
from causalft.data.settings import DataOptions
from causalft.data.tails import PRIOR_ORDERS
from causalft.errors import CausalFTError
from causalft.methods.adaptation.settings import FIRST
from causalft.methods.estimators import FUSIONS
from causalft.methods.estimators.settings import FitSettings, at_first_rate
from causalft.methods.semi.settings import SEMI
from causalft.runs.limits import BUILT_IN, CREATURES_LTSSL
from causalft.runs.progress import phase

__all__ = ["DATA_FIRST", "command", "refuse_idle_splits"]

DATA_FIRST = (*vars(DataOptions()), "n_validation", "n_test")
"""Data options that ``--help`` lists first."""

_GROUPS = {
    FIRST: (
        "data",
        "zoo",
        "strata",
        "out",
        "tuner",
        "loss",
        "learning_rates",
        "epochs",
        "control",
        "n_seeds",
        "device",
        "as_json",
    ),
    "Data": DATA_FIRST,
    SEMI: ("unlabeled", "method"),
    "Strata": ("weights", "offline", "allow_pickle", "template"),
    "Known priors": (),
    "Tuning": (
        "preset",
        "bottleneck",
        "sampler",
        "head",
        "head_scale",
        "head_start",
        "batch_size",
        "accumulation",
        "weight_decay",
        "patience",
    ),
    "Fusion": (),
    "Output": ("plan",),
}


@click.command("fit", cls=GroupedCommand, groups=_GROUPS)
@options_of(FitSettings)
@click.option(
    "--out",
    type=PATH,
    default=Path("runs/fit"),
    show_default=True,
    help="Folder of the run; the same command resumes an interrupted one.",
)
@click.option("--plan", is_flag=True, help="Print images, cost and what is missing; train and write nothing.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print only metrics.json (or the plan) on standard output."
)
def command(settings: FitSettings, out: Path, plan: bool, as_json: bool) -> None:
    """Tune each stratum, fuse them by backdoor adjustment, and report the effect on parameter imbalance.

    \b
    causalft fit --strata clip,openclip,metaclip --control seeds
    causalft fit --data photos/ --zoo pretrained --out runs/photos
    causalft fit --data photos/ --zoo pretrained --plan
    """
    from causalft.runs.folder import Run

    refuse_idle_splits(settings)
    settings = _as_begun(settings, out)
    if settings.control == "none":
        refuse_given(("control_of",), "goes with --control seeds")
    if settings.fusion != "adjusted":
        refuse_given(("tolerance", "target_law"), "goes with --fusion adjusted")
    if not settings.uses_unlabelled:
        method = settings.semi.method
        alone = "" if method is None else f"; {method} learns from labelled images alone"
        refuse_given(
            _OF_UNLABELLED,
            f"goes with --fusion adjusted, or a --method that learns from unlabelled images{alone}",
        )
    if settings.all_probabilities:
        refuse_given(("top",), "keeps some classes, --all-probabilities every class; leave one of them out")
    settings = at_first_rate(settings)
    if not follows():  # of several processes, the one that writes
        Run.check(out, kind="fit")
    settings.check()
    _refuse_decided(settings)
    if plan:
        if is_launched():
            raise CausalFTError("--plan measures one process; give it without the launcher")
        _show_plan(settings, out, as_json)
        return
    settings.check_names()  # before PyTorch is imported

    with phase("loading libraries"):
        from causalft.cli.evaluate import print_diagnosis
        from causalft.pipelines.workflows.fit import run_fit

    if follows():  # of several processes, the silent ones
        run_fit(settings, out, progress=False)
        return
    screen = console(as_json)
    unused = given_options(*_OF_TRAINING) if settings.tuning.trains_nothing else []
    if unused:
        verb = "has" if len(unused) == 1 else "have"
        screen.print(f"note     nothing is trained: {', '.join(unused)} {verb} no effect", style="dim")
    fitted = run_fit(settings, out, say=lambda line: screen.print(line, style="dim"))
    if as_json:
        print_json(fitted.metrics)
    else:
        print_diagnosis(screen, fitted.diagnosis, fitted.worst_classes)
    screen.print(f"report: {fitted.run.path / 'report.html'}", soft_wrap=True)


def _refuse_decided(settings: FitSettings) -> None:
    """Refuse options that a semi-supervised method decides, even if they name the usual value."""
    if settings.semi.method is None:
        return
    record, typed = settings.semi.record, click.get_current_context().params
    by = f"is decided by --method {record.name}"
    if record.tuner and typed["tuner"] != record.tuner:
        refuse_given(("tuner",), f"{by}, which stands for the tuner {record.tuner}; leave it out")
    if record.unlabelled and typed["head"] != "l2":
        refuse_given(("head",), f"{by}, which has heads of its own; leave it out")
    if record.adjusts:
        refuse_given(("loss",), f"{by}, which has its own remedy for the long tail; leave it out")


def _as_begun(settings: FitSettings, out: Path) -> FitSettings:
    """The fusion of the interrupted run in ``out``, if none is given: the usual one was the mixture once."""
    from causalft.runs.folder import Run

    if given_options("fusion") or follows():
        return settings
    fusion = str(Run.begun(out).get("fusion"))
    return replace(settings, fusion=fusion) if fusion in FUSIONS else settings


def _show_plan(settings: FitSettings, out: Path, as_json: bool) -> None:
    with phase("loading libraries"):
        from causalft.cli.plan import print_plan
        from causalft.pipelines.workflows.plan import plan_fit

    with phase("measuring two batches of each architecture"):
        found = plan_fit(settings, out)
    if as_json:
        print_json(found.to_json())
    else:
        print_plan(console(), found)


_OF_UNLABELLED = ("unlabeled", "unlabeled_per_class", "gamma_u", "unlabeled_order")

_OF_TRAINING = (
    "learning_rates",
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


def refuse_idle_splits(settings: FitSettings) -> None:
    """Refuse options of data and splits that would have no effect."""
    from causalft.models.strata.zoo import has_manifest

    against_a_prior = settings.order in PRIOR_ORDERS
    if settings.data in BUILT_IN:
        own = ("n_validation", "n_test", "order", "order_by", "drop_empty_classes", "profile", *DATA_FIRST)
        refuse_given(own, f"is for your own images; {settings.data} brings its splits and its order")
        if settings.data == CREATURES_LTSSL:
            refuse_given(
                ("imbalance_factor",), f"is not for {settings.data}, whose imbalance --gamma-l gives"
            )
    elif has_manifest(settings.zoo):
        refuse_given(
            ("n_validation", "n_test", *(() if against_a_prior else ("order",))),
            f"is decided by {settings.zoo}: its manifest names the images its minis never saw; leave it out",
        )
    if settings.imbalance_factor is None:
        refuse_given(("profile",), "goes with --imbalance-factor")
        if "labeled_per_class" not in settings.unlabelled_options:
            refuse_given(("order", "order_by"), "goes with --imbalance-factor or --labeled-per-class")
    if not against_a_prior:
        refuse_given(("order_by",), f"goes with --order {', '.join(PRIOR_ORDERS)}")
