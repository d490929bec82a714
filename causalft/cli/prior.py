"""``causalft prior``: the label prior in a model's logits, with intervals, P groups, and what it is not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from causalft.cli.options import PATH, SEED, TEXT, Number, VerbGroup, console, print_json, refuse_given
from causalft.errors import CausalFTError
from causalft.runs import limits
from causalft.runs.locks import writing

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console

    from causalft.cli.prior_files import LabelledLogits
    from causalft.methods.priors import PriorIntervals

__all__ = ["command"]


@click.group("prior", cls=VerbGroup)
def command() -> None:
    """The label prior that a model carries in its logits (GLA)."""


@command.command("estimate")
@click.option("--run", type=PATH, help="A complete fit: its strata, on its validation images.")
@click.option("--stratum", type=TEXT, help="Only this stratum of the run.")
@click.option("--logits", type=PATH, help="npz, npy, safetensors, Parquet or CSV: (n, K) logits.")
@click.option(
    "--labels",
    type=PATH,
    help="The same kinds or txt; by default, the file of the logits.",
)
@click.option(
    "--logits-name",
    type=TEXT,
    default="logits",
    show_default=True,
    help="Of the array, tensor or column of lists.",
)
@click.option(
    "--labels-name", type=TEXT, default="label", show_default=True, help="Of the array, tensor or column."
)
@click.option("--classes", type=PATH, help="A class name a line, in the order of the logits.")
@click.option(
    "--target",
    type=click.Choice(["auto", "balanced", "shares"]),
    default="auto",
    show_default=True,
    help="Class prior of the labelled images: balanced, or as they come. auto: as they come if that is not chance.",
)
@click.option(
    "--l2",
    type=Number(limits.PENALTY, "cv"),
    default="cv",
    show_default=True,
    help="Pull towards a uniform prior: cv, 0 or a number.",
)
@click.option(
    "--n-boot", type=Number(limits.BOOTSTRAP), default=500, show_default=True, help="Bootstrap draws."
)
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of the bootstrap and of the folds.")
@click.option(
    "--pretraining-loss",
    type=TEXT,
    help="caption-bank, in-batch contrastive, no captions or unknown. By default, what is known.",
)
@click.option(
    "--rows",
    type=Number(limits.ROWS),
    default=30,
    show_default=True,
    help="Classes shown: the highest and the lowest.",
)
@click.option("--out", type=PATH, help="Write one row a class: .csv or .parquet.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else on standard output.")
def estimate(
    run: Path | None,
    stratum: str | None,
    logits: Path | None,
    labels: Path | None,
    logits_name: str,
    labels_name: str,
    classes: Path | None,
    target: str,
    l2: float | str,
    n_boot: int,
    seed: int,
    pretraining_loss: str | None,
    rows: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Estimate a label prior from labelled images: each class with its interval and P group."""
    from causalft.cli.prior_files import read_labelled_logits
    from causalft.methods.priors import prior_caveat
    from causalft.runs.folder import check_place

    if (run is None) == (logits is None):
        raise CausalFTError("give either --run RUNDIR or --logits FILE")
    if pretraining_loss is not None:
        prior_caveat(pretraining_loss)
    if out is not None and out.suffix.lower() not in (".csv", ".parquet"):
        raise CausalFTError(f"--out {out}: the ending decides the kind; use .csv or .parquet")
    if out is not None:
        check_place(out)
    found: dict[str, tuple[LabelledLogits, str]]
    if run is not None:
        refuse_given(("labels", "logits_name", "labels_name", "classes"), "belongs to --logits")
        found = _of_run(run, stratum)
        if target == "auto":  # the splits were cut so: nothing is left to chance
            target = _law_of(next(iter(found.values()))[0])
    else:
        refuse_given(("stratum",), "belongs to --run")
        assert logits is not None
        data = read_labelled_logits(
            logits, labels, logits_name=logits_name, labels_name=labels_name, classes=classes
        )
        found = {logits.stem: (data, "unknown")}
    documents = [
        _document(name, data, target, l2, n_boot, seed, pretraining_loss or loss)
        for name, (data, loss) in found.items()
    ]
    if out is not None:
        _write(out, documents)
    if as_json:
        print_json({"estimates": documents})
        return
    for document in documents:
        _print(console(), document, rows)
    if out is not None:
        console().print(f"written  {out}")


def _of_run(folder: Path, only: str | None) -> dict[str, tuple[LabelledLogits, str]]:
    """Zero-shot logits of the strata of a fit on its validation images, and how each was pre-trained."""
    from safetensors import SafetensorError, safe_open

    from causalft.cli.prior_files import LabelledLogits
    from causalft.errors import nearest
    from causalft.methods.adaptation.member import PREDICTIONS, folder_name
    from causalft.methods.estimators.run_documents import open_fit
    from causalft.models.strata.zoo import pretraining_losses

    run = open_fit(folder)
    metrics = run.metrics
    strata, names = list(run.config["strata"]), list(metrics["classes"])
    if only is not None and only not in strata:
        raise CausalFTError(f"{folder} has no stratum {only!r}; {nearest(only, strata)}")
    losses = pretraining_losses(metrics, run.config.get("zoo"))
    labels: np.ndarray | None = None
    found = {}
    for name in strata if only is None else [only]:
        path = folder / "strata" / folder_name(name) / PREDICTIONS
        try:
            with safe_open(path, framework="np") as tensors:
                logits = tensors.get_tensor("zero_shot_validation")
                kept = set(tensors.keys())
                if "validation_labels" in kept:
                    labels = tensors.get_tensor("validation_labels")
                truth = tensors.get_tensor("true_prior") if "true_prior" in kept else None
        except FileNotFoundError:
            raise CausalFTError(
                f"{folder} holds no logits of the validation images (no {path.relative_to(folder)}), as after push and "
                "pull; estimate where it was fitted, or give --logits"
            ) from None
        except (SafetensorError, OSError) as error:
            raise CausalFTError(f"{path}: no zero-shot logits of the validation images ({error})") from error
        if labels is None:
            labels = _validation_labels(run)
        found[name] = (LabelledLogits(logits, labels, names, truth), losses[name])
    return found


def _law_of(data: LabelledLogits) -> str:
    """Whether validation images have the same number of every class, or each its share."""
    import numpy as np

    counts = np.bincount(data.labels, minlength=data.logits.shape[1])
    return "balanced" if counts.min() == counts.max() else "shares"


def _validation_labels(run: Any) -> np.ndarray:
    """Cut the splits of the run again: the same settings and images give the same labels."""
    from causalft.methods.estimators.settings import FitSettings
    from causalft.pipelines.workflows.fit_data import load_splits

    settings = FitSettings.from_config(run.config)
    validation = load_splits(settings, settings.seed).validation
    if validation.fingerprint != run.config["data_fingerprint"][1]:
        raise CausalFTError(
            f"{settings.data} has changed since {run.path} was fitted, so its validation labels are not known any "
            "more; restore it, or give --logits"
        )
    return validation.labels


def _document(
    name: str, data: LabelledLogits, target: str, l2: float | str, n_boot: int, seed: int, loss: str
) -> dict[str, Any]:
    """Everything the command says of one model."""
    import numpy as np
    from scipy.stats import chisquare

    from causalft.data.groups import GROUPS
    from causalft.methods.priors import bootstrap_prior, few_images_caveat, prior_caveat

    n_classes = data.logits.shape[1]
    counts = np.zeros(n_classes)
    if (
        data.labels.ndim == 1
        and len(data.labels)
        and 0 <= data.labels.min()
        and data.labels.max() < n_classes
    ):
        counts = np.bincount(data.labels, minlength=n_classes).astype(float)
    if target == "auto":
        by_chance = counts.sum() == 0 or chisquare(counts).pvalue > 0.001
        target = "balanced" if by_chance else "shares"
    # Half an image more in each class where one has none, so that it is rare and not impossible.
    law = counts if counts.min() > 0 else counts + 0.5
    shares = law / law.sum() if target == "shares" else None
    found = bootstrap_prior(data.logits, data.labels, n_boot, seed, target_prior=shares, l2=l2)
    low, high = np.exp(found.log_prior).T
    rows = zip(
        data.classes, found.estimate.prior, low, high, found.n_labelled, found.groups, found.group_probability,
        strict=True,
    )  # fmt: skip
    truth = data.true_prior
    few = few_images_caveat(found)
    known = bool(np.isfinite(found.imbalance).all())
    return {
        "name": name,
        "n": found.estimate.n,
        "n_classes": n_classes,
        "target": target,
        "imbalance": found.imbalance_estimate if known else None,
        "imbalance_ci95": found.imbalance if known else None,
        "imbalance_reason": None if known else "the labelled images say too little; the pull alone decides",
        "imbalance_of_estimate": found.estimate.imbalance,
        "loss": found.estimate.loss,
        "l2": found.estimate.l2,
        "l2_path": found.estimate.l2_path,
        "converged": found.estimate.converged,
        "n_boot": n_boot,
        "seed": seed,
        "pretraining_loss": loss,
        "caveat": " ".join(filter(None, [few, prior_caveat(loss)])),
        "truth": None if truth is None else _truth(found, truth),
        "classes": [
            {
                "class": label,
                "prior": float(q),
                "ci95": [float(a), float(b)],
                "n_labelled": int(n),
                "group": str(group),
                "group_probability": dict(zip(GROUPS, map(float, p), strict=True)),
                "true_prior": None if truth is None else float(truth[k]),
            }
            for k, (label, q, a, b, n, group, p) in enumerate(rows)
        ],
    }


def _truth(found: PriorIntervals, truth: np.ndarray) -> dict[str, Any]:
    """How near the estimate comes to the prior that the model was pre-trained with."""
    import numpy as np

    from causalft.data.groups import prior_groups
    from causalft.methods.priors import kl_divergence, rank_correlation

    log_truth = np.log(truth)
    inside = (found.log_prior[:, 0] <= log_truth) & (log_truth <= found.log_prior[:, 1])
    return {
        "imbalance": float(truth.max() / truth.min()),
        "spearman": rank_correlation(truth, found.estimate.prior),
        "kl": kl_divergence(truth, found.estimate.prior),
        "kl_of_uniform": kl_divergence(truth, np.full(len(truth), 1 / len(truth))),
        "n_inside_ci95": int(inside.sum()),
        "n_same_group": int((found.groups == prior_groups(truth)).sum()),
    }


def _print(out: Console, document: dict[str, Any], rows: int) -> None:
    from rich.table import Table

    order = sorted(document["classes"], key=lambda row: -row["prior"])
    table = Table(title=f"label prior of {document['name']}", title_justify="left", box=None, pad_edge=False)
    table.add_column("class", overflow="fold")
    truth = document["truth"]
    true = ("true %",) if truth else ()
    for column in ("prior %", "95 %", *true, "labelled", "P group", "probability %"):
        table.add_column(column, justify="right")
    shown = order if len(order) <= rows else [*order[: (rows + 1) // 2], None, *order[-(rows // 2) :]]
    for row in shown:
        if row is None:
            table.add_row(f"... {len(order) - rows} more")
            continue
        low, high = (f"{100 * value:.3g}" for value in row["ci95"])
        probability = f"{100 * row['group_probability'][row['group']]:.0f}"
        prior = f"{100 * row['prior']:.3g}"
        true = (f"{100 * row['true_prior']:.3g}",) if truth else ()
        table.add_row(
            row["class"], prior, f"{low} to {high}", *true, str(row["n_labelled"]), row["group"], probability
        )
    out.print(table)
    if document["imbalance"] is None:
        ratio = f"not known ({document['imbalance_reason']})"
    else:
        low, high = document["imbalance_ci95"]
        ratio = f"{document['imbalance']:.3g} [{low:.3g}, {high:.3g}]"
    out.print(f"imbalance  {ratio}, of {document['n_classes']} classes")
    if truth:
        out.print(
            f"truth      this zoo knows it: imbalance {truth['imbalance']:.3g}; Spearman {truth['spearman']:.2f}, KL "
            f"to the truth {truth['kl']:.3f} (uniform {truth['kl_of_uniform']:.3f}), {truth['n_inside_ci95']} of "
            f"{document['n_classes']} classes inside their interval, {truth['n_same_group']} in their true P group"
        )
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


def _sd(document: dict[str, Any]) -> float:
    return float((document["n"] * document["l2"]) ** -0.5)


def _write(path: Path, documents: list[dict[str, Any]]) -> None:
    import pandas as pd

    from causalft.runs.folder import atomic_path

    table = pd.DataFrame(
        {
            "model": document["name"],
            "class": row["class"],
            "prior": row["prior"],
            "low": row["ci95"][0],
            "high": row["ci95"][1],
            "n_labelled": row["n_labelled"],
            "group": row["group"],
            "true_prior": row["true_prior"],
            **{f"p_{group}": value for group, value in row["group_probability"].items()},
        }
        for document in documents
        for row in document["classes"]
    )
    with writing(path), atomic_path(path) as temporary:
        if path.suffix.lower() == ".csv":
            table.to_csv(temporary, index=False)
        else:
            table.to_parquet(temporary, index=False)
