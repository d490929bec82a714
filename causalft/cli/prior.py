"""``causalft prior``: the label prior in a model's logits, with intervals, P groups and caveats."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from causalft.cli.options import PATH, Number, VerbGroup, console, options_of, print_json, refuse_given
from causalft.errors import CausalFTError
from causalft.pipelines.workflows.settings import PriorSettings
from causalft.runs import limits

if TYPE_CHECKING:
    from rich.console import Console

    from causalft.pipelines.workflows.prior import LabelledLogits

__all__ = ["command"]


@click.group("prior", cls=VerbGroup)
def command() -> None:
    """Estimate the label prior in the logits of a model (GLA)."""


@command.command("estimate")
@options_of(PriorSettings)
@click.option(
    "--rows",
    type=Number(limits.ROWS),
    default=30,
    show_default=True,
    help="Classes shown: the highest and the lowest.",
)
@click.option("--out", type=PATH, help="Write one row per class: .csv or .parquet.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else on standard output.")
def estimate(settings: PriorSettings, rows: int, out: Path | None, as_json: bool) -> None:
    """Estimate the label prior from labelled images: per class, with interval and P group."""
    from causalft.methods.estimators.run_documents import open_fit
    from causalft.methods.priors import prior_caveat
    from causalft.runs.folder import check_place

    run, logits = settings.run, settings.file.logits
    if (run is None) == (logits is None):
        raise CausalFTError("give either --run RUNDIR or --logits FILE")
    if settings.pretraining_loss is not None:
        prior_caveat(settings.pretraining_loss)
    if out is not None and out.suffix.lower() not in (".csv", ".parquet"):
        raise CausalFTError(f"--out {out}: the ending decides the kind; use .csv or .parquet")
    if out is not None:
        check_place(out)
    names: list[str] = []
    if run is not None:
        names = list(open_fit(run).config["strata"])  # refused before heavy libraries are imported
    elif logits is not None:
        names = [logits.stem]
    settings.known.check(names)

    from causalft.pipelines.workflows.prior import (
        describe_prior,
        law_of_labels,
        read_labelled_logits,
        read_run_logits,
        write_priors,
    )

    found: dict[str, tuple[LabelledLogits, str]]
    if run is not None:
        refuse_given(("labels", "logits_name", "labels_name", "classes"), "belongs to --logits")
        found = read_run_logits(run, settings.stratum)
        if settings.target == "auto":  # the class counts were chosen, not drawn
            settings = replace(settings, target=law_of_labels(next(iter(found.values()))[0]))
    else:
        refuse_given(("stratum",), "belongs to --run")
        assert logits is not None
        found = {logits.stem: (read_labelled_logits(settings.file), "unknown")}
    known = settings.known.read(names, next(iter(found.values()))[0].classes)
    documents = [
        describe_prior(name, data, settings, loss, known.get(name)) for name, (data, loss) in found.items()
    ]
    if out is not None:
        write_priors(out, documents)
    if as_json:
        print_json({"estimates": documents})
        return
    for document in documents:
        _print(console(), document, rows)
    if out is not None:
        console().print(f"written  {out}")


def _print(out: Console, document: dict[str, Any], rows: int) -> None:
    from rich.table import Table

    order = sorted(document["classes"], key=lambda row: -row["prior"])
    table = Table(title=f"label prior of {document['name']}", title_justify="left", box=None, pad_edge=False)
    table.add_column("class", overflow="fold")
    truth = document["truth"]
    true = ("known %",) if truth else ()
    group = ("known P",) if truth else ()
    for column in ("prior %", "95 %", *true, "labelled", "P group", "probability %", *group):
        table.add_column(column, justify="right", no_wrap=column == "95 %")
    shown = order if len(order) <= rows else [*order[: (rows + 1) // 2], None, *order[-(rows // 2) :]]
    for row in shown:
        if row is None:
            table.add_row(f"... {len(order) - rows} more")
            continue
        low, high = (f"{100 * value:.3g}" for value in row["ci95"])
        probability = f"{100 * row['group_probability'][row['group']]:.0f}"
        prior = f"{100 * row['prior']:.3g}"
        true = ("-" if row["true_prior"] is None else f"{100 * row['true_prior']:.3g}",) if truth else ()
        cells = (f"{low} to {high}", *true, str(row["n_labelled"]), row["group"], probability)
        table.add_row(row["class"], prior, *cells, *((row["true_group"],) if truth else ()))
    out.print(table)
    if document["imbalance"] is None:
        ratio = f"not known ({document['imbalance_reason']})"
    else:
        low, high = document["imbalance_ci95"]
        ratio = f"{document['imbalance']:.3g} [{low:.3g}, {high:.3g}]"
    out.print(f"imbalance  {ratio}, of {document['n_classes']} classes")
    if truth:
        _print_truth(out, truth, document["n_classes"])
    labelled = (
        "taken as balanced"
        if document["target"] == "balanced"
        else "their own class shares taken as their prior"
    )
    out.print(f"labelled   {document['n']} images, {labelled}")
    how = "by cross-validation" if document["l2_path"] else "as given"
    pull = "none" if document["l2"] == 0 else f"{document['l2']:.3g} (sd of log q {_sd(document):.2g})"
    state = "converged" if document["converged"] else "NOT converged"
    out.print(f"pull       {pull} towards uniform, {how}; {state}")
    out.print(f"caveat     {document['caveat']}")
    out.print()


def _print_truth(out: Console, truth: dict[str, Any], n_classes: int) -> None:
    """The known prior beside the estimate."""
    for note in truth.get("notes", ()):
        out.print(f"counts     {note}")
    whose = "this zoo knows it" if truth["source"] == "card" else f"counts of {truth['source']}"
    of = f"{truth['n_known']}" if truth["n_known"] == n_classes else f"{truth['n_known']} known"
    spearman = "none" if truth["spearman"] is None else f"{truth['spearman']:.2f}"
    out.print(
        f"known      {whose}: imbalance {truth['imbalance']:.3g}; Spearman {spearman}, KL of the estimate from it "
        f"{truth['kl']:.3f} (uniform {truth['kl_of_uniform']:.3f}), {truth['n_inside_ci95']} of {of} classes inside "
        f"their interval, {truth['n_same_group']} in the same P group under both"
    )
    groups = truth["groups"]
    for known, row in groups.items():
        cells = ", ".join(f"{n} estimated {group}" for group, n in row.items())
        out.print(f"           known {known}: {cells}")
    wider = truth["n_inside_with_misfit"]
    inside = (
        ""
        if wider is None
        else f"; {wider} of {of} classes inside intervals that allow for the misfit of minis"
    )
    out.print(f"misfit     sd {truth['misfit']:.2f} of log q about the known prior, beyond sampling{inside}")


def _sd(document: dict[str, Any]) -> float:
    return float((document["n"] * document["l2"]) ** -0.5)
