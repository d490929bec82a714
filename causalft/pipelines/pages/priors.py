"""The part of a page on label priors: the known ones, the estimates beside them, and what subtracting them does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from causalft.analysis.before_training.prior_distance import PriorDistance, prior_distance
from causalft.analysis.diagnosis.conclusion import interval_text
from causalft.data.groups import GROUPS
from causalft.methods.priors import prior_caveats
from causalft.models.strata.zoo import pretraining_losses
from causalft.report.html import Section, Table

__all__ = ["distance_table", "prior_section"]

Metrics = Mapping[str, Any]


def prior_section(metrics: Metrics) -> Section:
    """Return the section on the priors of a diagnosis.

    Parameters
    ----------
    metrics : mapping
        Content of ``metrics.json``.
    """
    return Section(
        "How to read the estimated prior",
        [
            *_known_priors(metrics),
            "The pre-training data are not at hand: the prior is the one that, taken out of the zero-shot logits, "
            "explains labelled validation images best (GLA).",
            *prior_caveats(pretraining_losses(metrics)),
        ],
        tables=[
            _priors(metrics),
            *_prior_groups(metrics),
            distance_table(_distance(metrics)),
            *_adjusted(metrics),
        ],
    )


def _distance(metrics: Metrics) -> PriorDistance:
    return prior_distance(
        {name: np.asarray(scores["label_prior"], dtype=float) for name, scores in metrics["strata"].items()}
    )


def distance_table(distance: PriorDistance) -> Table:
    """One row per two strata: how far apart their priors are."""
    rows = [
        [f"{pair.one} and {pair.other}", *map(_number, (pair.spearman, pair.kl, pair.kl_back))]
        for pair in distance.pairs
    ]
    caption = "How far apart the priors of the strata are."
    return Table(["strata", "Spearman", "KL (nats)", "KL back (nats)"], rows, caption)


def _number(value: float) -> str:
    return "not known" if np.isnan(value) else f"{value:z.2f}"


def _priors(metrics: Metrics) -> Table:
    rows = []
    for name, scores in metrics["strata"].items():
        prior = list(scores.get("estimated_label_prior", scores["label_prior"]))
        spearman = scores.get("prior_spearman")
        truth = scores.get("true_label_prior")
        truth = truth and [value for value in truth if value is not None]
        rows.append(
            [
                name,
                f"{100 * max(prior):.2g} %",
                f"{100 * min(prior):.2g} %",
                f"{max(prior) / min(prior):.0f}",
                "not known" if truth is None else f"{max(truth) / min(truth):.0f}",
                "not known" if spearman is None else f"{spearman:.2f}",
            ]
        )
    columns = ["stratum", "largest", "smallest", "imbalance", "true imbalance", "Spearman with the truth"]
    return Table(columns, rows, "Estimated label priors.")


def _known_priors(metrics: Metrics) -> list[str]:
    """What is said of the counts that files gave."""
    found = {
        name: scores["known_prior"] for name, scores in metrics["strata"].items() if "known_prior" in scores
    }
    if not found:
        return []
    names = ", ".join(found)
    gla = [name for name in found if metrics["strata"][name]["gla_prior_from"] == "known"]
    uses = (
        "GLA subtracts it" if len(gla) == len(found) else f"GLA subtracts it for {', '.join(gla) or 'none'}"
    )
    return [
        f"The prior of {names} is known from counts: P groups and slope use it, and {uses}. The estimate stands beside "
        "it below.",
        *(note for known in found.values() for note in known["notes"]),
        "What follows is on the estimate.",
    ]


def _prior_groups(metrics: Metrics) -> list[Table]:
    """Classes by P group under the known prior and under the estimate, where both exist."""
    rows = [
        [name, known, *(str(row[group]) for group in GROUPS)]
        for name, scores in metrics["strata"].items()
        for known, row in scores.get("prior_groups", {}).items()
    ]
    columns = ["stratum", "group by the known prior", *(f"estimated {group}" for group in GROUPS)]
    return [Table(columns, rows, "Number of classes in each P group, by both priors.")] if rows else []


def _adjusted(metrics: Metrics) -> list[Table]:
    """Effect of subtracting the prior from the logits, if the document holds it."""
    if not all("zero_shot" in scores for scores in metrics["strata"].values()):
        return []
    everyone = {**metrics["strata"], "fused": metrics["fused"]}
    by_gla = all(scores.get("gla") for scores in metrics["strata"].values())
    beside = any("gla_ft" in scores for scores in everyone.values())
    both = any("zero_shot_by_estimate" in scores for scores in everyone.values())
    columns = ["model", "zero-shot", "GLA-ZS", *(["GLA-ZS by the estimate"] if both else [])]
    columns.append("GLA-FT" if by_gla else "tuned")
    columns += ["GLA-FT", "GLA-FT minus tuned"] if beside else []
    rows = []
    for name, scores in everyone.items():
        before, adjusted = scores.get("zero_shot"), scores.get("gla_ft")
        row = (
            [name, "", ""]
            if before is None
            else [name, *map(_percent, (before["accuracy"], before["gla_accuracy"]))]
        )
        if both:
            estimate = scores.get("zero_shot_by_estimate")
            row.append("" if estimate is None else _percent(estimate["gla_accuracy"]))
        row.append(_percent(scores["accuracy"]))
        if adjusted is not None:
            row += [_percent(adjusted["accuracy"]), interval_text(adjusted["difference"])]
        rows.append(row + [""] * (len(columns) - len(row)))
    which = {scores.get("gla_prior_from", "estimated") for scores in metrics["strata"].values()}
    which_words = " or ".join(sorted(which, reverse=True))
    caption = (
        f"Accuracy in percent with and without the {which_words} priors. GLA-ZS: zero-shot logits less log q"
    )
    if by_gla or beside:
        caption += (
            ". GLA-FT: the same plus the tuned logits, less the class prior of the training set where the loss left it "
            f"in; {'so all strata of this run predict' if by_gla else 'no stratum of this run predicts so'}"
        )
    return [Table(columns, rows, f"{caption}.")]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
