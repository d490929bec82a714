"""``causalft evaluate``: score a fitted run on labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from causalft.cli.data_options import DATA_HELP, data_options
from causalft.cli.option_groups import DATA_GROUP, GroupedCommand
from causalft.cli.output import console, print_json
from causalft.cli.types import DEVICE, FILE, PATH
from causalft.runs.progress import phase

__all__ = ["command"]


@click.command(
    "evaluate",
    cls=GroupedCommand,
    groups={"Options that matter first": ("data", "device", "as_json"), "Data": DATA_GROUP},
)
@click.argument("run", type=PATH)
@click.option("--data", type=FILE, required=True, help=DATA_HELP)
@data_options
@click.option("--device", type=DEVICE, default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the metrics and nothing else on standard output."
)
def command(run: Path, data: str, data_options: dict[str, Any], device: str, as_json: bool) -> None:
    """Score RUN, the folder of a fit, on labelled images: every stratum, the fusion, and the groups.

    The data that the run was fitted on is scored on its test split, a set with a test folder on that folder, and
    any other set whole.
    """
    diagnosis, name, notes = evaluate(run, data, device, data_options)
    if as_json:
        print_json({"data": name, "notes": notes, **diagnosis.to_metrics()})
    else:
        screen = console()
        from causalft.cli.diagnosis_tables import print_diagnosis

        screen.print(f"{name}, scored by {run}", style="dim")
        for note in notes:
            screen.print(f"note     {note}", style="bold", soft_wrap=True)
        print_diagnosis(screen, diagnosis)


def evaluate(
    run: Path, data: str, device: str = "auto", data_options: dict[str, Any] | None = None
) -> tuple[Any, str, list[str]]:
    """Return the diagnosis of a run on labelled images, the name of these images, and which of them it has seen."""
    import numpy as np

    from causalft.data.sources import open_images
    from causalft.errors import CausalFTError
    from causalft.methods.estimators.run_documents import open_fit
    from causalft.pipelines.workflows.settings import FitSettings, data_name

    opened = open_fit(run)
    metrics = opened.metrics
    settings = FitSettings.from_config(opened.config)
    own = data_name(data) == settings.data
    if own:
        for option, value in (data_options or {}).items():
            if settings.data_options.get(option) != value:
                raise CausalFTError(
                    f"--{option.replace('_', '-')} does nothing here: {run} was fitted on {data}, which is opened as "
                    "it was then; leave the option out"
                )
        from causalft.pipelines.workflows.fit_data import load_splits

        images = load_splits(settings, settings.seed).test
        if images.fingerprint != opened.config["data_fingerprint"][2]:
            raise CausalFTError(
                f"{data} has changed since {run} was fitted, so its test split is not known any more; restore it, or "
                "give labelled images that the run has not seen, in another folder"
            )
    else:
        images = open_images(data, min_classes=1, **(data_options or {}))
        if "test" in images.splits:
            images = images.subset(images.splits["test"], name=f"{images.name}/test")

    with phase("loading libraries"):
        from causalft.analysis.diagnosis import diagnose
        from causalft.methods.estimators.strata import StrataClassifier
        from causalft.models.strata.leakage import seen_in_run

    model = StrataClassifier.load(run, device=device)
    classes = model.classes_.tolist()
    images = images.align_classes(classes)
    strata = model.stratum_proba(images)
    diagnosis = diagnose(
        images.labels,
        np.array([metrics["class_counts"][name] for name in classes]),
        {name: strata[c][None] for c, name in enumerate(model.members_)},
        model.fuse_proba(strata)[None],
        {name: np.array(metrics["strata"][name]["label_prior"]) for name in model.members_},
        fusion=model.fusion,
        stratum_prior=model.mixing_.stratum_prior,
        temperature=model.temperature_,
        best_single=metrics["controls"]["best_single"]["name"],
        mention_missing_control=False,
    )
    notes = [] if own else seen_in_run(images, Path(run), settings.open_zoo())
    return diagnosis, images.name, notes
