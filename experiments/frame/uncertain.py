"""What stays uncertain, over seeds: sensitivity to P(c) beside its control, and coverage of prediction sets."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from causalft.methods.estimators.member import MemberPrediction
    from causalft.methods.estimators.mixing import Mixing
    from experiments.frame.adjusting import Fused
    from experiments.frame.lab import Lab

__all__ = ["SEEDS", "STRATA", "coverage_metrics", "difference_between", "group_rows", "sensitivity_metrics"]

Floats = NDArray[np.float64]

STRATA, SEEDS = "strata", "seeds of one model"
_FUSIONS = ("mixture", "logit", "adjusted")


def _families(lab: Lab, seed: int) -> dict[str, Fused]:
    """LA-tuned members of the strata and of the control."""
    from experiments.frame.adjusting import Fused
    from experiments.frame.members import Member

    roles = lab.world.roles
    return {
        family: Fused.of(lab, [Member(name) for name in names], seed)
        for family, names in ((STRATA, roles.strata), (SEEDS, roles.seeds))
    }


def _mixing(fused: Fused, fusion: str) -> Mixing:
    """Uniform P(c), and what the fusion fits to validation images."""
    from causalft.methods.estimators.mixing import fit_mixing
    from experiments.frame.adjusting import chosen

    if fusion == "adjusted":
        return chosen(fused)[0]
    logits: Any = [m.validation_logits for m in fused.members]
    return fit_mixing(logits, fused.labels, fusion=fusion, kind="logits")


def difference_between(values: Floats, chosen: NDArray[np.bool_]) -> dict[str, Any]:
    """Mean of the chosen images less that of the others, with a 95 % interval over images and seeds (linearised).

    Parameters
    ----------
    values : (S, n) array
    chosen : (S, n) array of bool

    Returns
    -------
    dict
        ``{estimate, ci95, p}``.

    Examples
    --------
    >>> found = difference_between(np.array([[1.0, 1.0, 0.0, 1.0]]), np.array([[True, True, False, False]]))
    >>> found["estimate"]
    0.5
    """
    from experiments.frame.means import mean_over_images

    one, other = values[chosen].mean(), values[~chosen].mean()
    pull = np.where(chosen, (values - one) / chosen.mean(), -(values - other) / (~chosen).mean())
    return mean_over_images(pull + one - other)


def sensitivity_metrics(lab: Lab) -> dict[str, Any]:
    """Certain predictions, what moves the others, and the front door: strata beside seeds of one model.

    Returns
    -------
    dict
        Fusion to family to ``certain``, ``certain_is_right`` (accuracy of certain less that of other predictions),
        ``changed_within`` a total variation of .05 and .1, ``changed_in_interval`` (95 % intervals of the estimated
        P(c)), ``second_opinion`` (share that the front door changes) and ``second_opinion_accuracy`` (its accuracy less
        that of uniform P(c)), each ``{estimate, ci95, p}`` over images and seeds; ``groups``; ``strata_less_seeds`` of
        ``certain``.
    """
    from causalft.data.groups import GROUPS
    from experiments.frame.means import mean_over_images

    shown: dict[str, Any] = {fusion: {} for fusion in _FUSIONS}
    tables: dict[tuple[str, str], dict[str, list[Any]]] = {}
    groups: dict[str, NDArray[np.str_]] = {}
    labels = lab.world.splits(0).test.labels
    for seed in range(lab.seeds):
        splits = lab.world.splits(seed)
        for family, fused in _families(lab, seed).items():
            if seed == 0 and family == STRATA:
                groups = _groups(fused.members, splits.train.class_counts)
            for fusion in _FUSIONS:
                rows = _one_seed(fused, labels, fusion)
                kept = tables.setdefault((fusion, family), {key: [] for key in rows})
                for key, value in rows.items():
                    kept[key].append(value)
    for (fusion, family), kept in tables.items():
        of = {key: np.stack(value).astype(float) for key, value in kept.items()}
        certain, right = of.pop("certain"), of.pop("right")
        found = {"certain": mean_over_images(certain)}
        found["certain_is_right"] = difference_between(right, certain > 0.5)
        found |= {key: mean_over_images(value) for key, value in of.items()}
        found["groups"] = {
            f"{kind}-{group}": mean_over_images(certain[:, names[labels] == group])
            for kind, names in groups.items()
            for group in GROUPS
            if (names[labels] == group).sum() > 1
        }
        shown[fusion][family] = found
    for fusion in _FUSIONS:
        pair = [np.stack(tables[fusion, family]["certain"]).astype(float) for family in (STRATA, SEEDS)]
        shown[fusion]["strata_less_seeds"] = mean_over_images(pair[0] - pair[1])
    return shown


def _one_seed(fused: Fused, labels: NDArray[np.int64], fusion: str) -> dict[str, Any]:
    """One value per test image of each measure."""
    from causalft.analysis.uncertainty.second_opinion import frontdoor_prior, labels_and_confidence
    from causalft.analysis.uncertainty.simplex import at_prior, sensitivity_to_prior
    from causalft.methods.estimators.mixing import stratum_prior_of

    mixing = _mixing(fused, fusion)
    validation: Any = [m.validation_logits for m in fused.members]
    test: Any = [m.test_logits for m in fused.members]
    of_label, confidence = labels_and_confidence(validation, fused.labels, mixing, kind="logits")
    interval = stratum_prior_of(of_label.T, fused.labels, fused.seed, n_boot=200).ci95
    found = sensitivity_to_prior(test, mixing, intervals=interval, kind="logits")
    weights = frontdoor_prior(of_label, confidence).weights
    other = at_prior(mixing, weights)(test, kind="logits").argmax(axis=1)
    right = found.prediction == labels
    assert found.within is not None
    return {
        "certain": found.certain,
        "right": right,
        "changed_within_0.05": found.radius <= 0.05,
        "changed_within_0.1": found.radius <= 0.1,
        "changed_in_interval": ~found.within,
        "changeable_by_u_of_1.5": found.e_value <= 1.5,
        "second_opinion": other != found.prediction,
        "second_opinion_accuracy": (other == labels).astype(float) - right,
    }


def _groups(members: Sequence[MemberPrediction], counts: NDArray[np.int64]) -> dict[str, NDArray[np.str_]]:
    """D groups, and P groups of the pooled prior."""
    from causalft.analysis.uncertainty.conformal import pooled_prior
    from causalft.data.groups import data_groups, prior_groups

    return {"D": data_groups(counts), "P": prior_groups(pooled_prior([m.label_prior for m in members]))}


def coverage_metrics(lab: Lab, coverage: float = 0.9, fusion: str = "mixture") -> dict[str, Any]:
    """Coverage of prediction sets by group less what was asked for, over random divisions of the labelled images.

    Validation and test images of a class are exchanged at random (as many of each stay). Fusion and thresholds are
    fitted to the first part, so the same images serve twice as they do in a run, and coverage is counted on the second.
    Of what members learnt from the validation images (label priors) nothing is fitted again.

    Returns
    -------
    dict
        ``deviation``: group to ``{estimate, ci95, n_validation}``, over seeds, each the mean of its divisions;
        ``largest``: the largest of them in size, of groups with 50 validation images; ``one_threshold``: the same
        without groups; ``mean_size`` and ``one_threshold_size``; ``as_fitted``: the division as it is, over seeds;
        ``cells`` and ``notes`` of the first seed.
    """
    from causalft.analysis.uncertainty.conformal import LEAST_IMAGES, pooled_prior, sets_of_labels

    divisions = 4 if lab.quick else 40
    kinds = {"deviation": LEAST_IMAGES, "one_threshold": sys.maxsize}
    over_seeds: dict[str, dict[str, list[float]]] = {key: {} for key in (*kinds, "as_fitted")}
    sizes: dict[str, list[float]] = {key: [] for key in kinds}
    n_validation: dict[str, int] = {}
    about: dict[str, Any] = {}
    for seed in range(lab.seeds):
        splits = lab.world.splits(seed)
        fused = _families(lab, seed)[STRATA]
        members, counts = fused.members, splits.train.class_counts
        prior = pooled_prior([m.label_prior for m in members])
        groups = _groups(members, counts)
        groups |= {f"P by {m.name}": _groups([m], counts)["P"] for m in members if len(members) > 1}
        groups["all"] = np.full(len(counts), "")
        labels = np.concatenate([splits.validation.labels, splits.test.labels])
        first = np.arange(len(labels)) < len(splits.validation)
        inside = _rows_of_groups(groups, labels)
        n_validation = {name: int((rows & first).sum()) for name, rows in inside.items()}
        rng = np.random.default_rng(seed)
        found: dict[str, dict[str, list[float]]] = {key: {} for key in over_seeds}
        for division in range(1 + divisions):
            order = np.arange(len(labels)) if division == 0 else _exchanged(labels, rng)
            probs = _refitted(fused, order, len(splits.validation), fusion)
            of_label = probs[np.arange(len(labels)), labels]
            for key, least in kinds.items():
                sets = sets_of_labels(of_label[first], labels[first], counts, prior, coverage, least=least)
                if division <= 5:
                    sizes[key].append(float(sets.contains(probs[~first]).sum(axis=1).mean()))
                if division == 0 and key == "one_threshold":
                    continue
                into = found["as_fitted" if division == 0 else key]
                covered = of_label >= sets.threshold[labels]
                for name, rows in inside.items():
                    into.setdefault(name, []).append(float(covered[rows & ~first].mean()) - coverage)
                if division == 0 and seed == 0:
                    about = {"cells": sets.to_metrics()["cells"], "notes": list(sets.notes)}
        for key, of in found.items():
            for name, values in of.items():
                over_seeds[key].setdefault(name, []).append(float(np.mean(values)))
    shown = {
        key: {name: {**_mean(values), "n_validation": n_validation[name]} for name, values in of.items()}
        for key, of in over_seeds.items()
    }
    large = [name for name, n in n_validation.items() if n >= LEAST_IMAGES]
    worst = max(large, key=lambda name: abs(shown["deviation"][name]["estimate"])) if large else None
    return {
        **shown,
        "largest": None if worst is None else {**shown["deviation"][worst], "group": worst},
        "mean_size": float(np.mean(sizes["deviation"])),
        "one_threshold_size": float(np.mean(sizes["one_threshold"])),
        "coverage": coverage,
        "repetitions": divisions,
        **about,
    }


def _rows_of_groups(
    groups: Mapping[str, NDArray[np.str_]], labels: NDArray[np.int64]
) -> dict[str, NDArray[np.bool_]]:
    """``KIND-GROUP`` to the images of its classes, (n,), many to few."""
    from causalft.data.groups import GROUPS, UNKNOWN

    return {
        f"{kind}-{group}".rstrip("-"): names[labels] == group
        for kind, names in groups.items()
        for group in sorted(set(names.tolist()), key=(*GROUPS, UNKNOWN, "").index)
    }


def _exchanged(labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows in an order that only exchanges images of one class."""
    found = np.arange(len(labels))
    for k in np.unique(labels):
        rows = np.flatnonzero(labels == k)
        found[rows] = rng.permutation(rows)
    return found


def _refitted(fused: Fused, order: NDArray[np.int64], n_validation: int, fusion: str) -> Floats:
    """Fused probabilities of all labelled images in an order of which the first part fits the fusion."""
    logits = [np.concatenate([m.validation_logits, m.test_logits])[order] for m in fused.members]
    members = [
        replace(m, validation_logits=each[:n_validation], test_logits=each[n_validation:])
        for m, each in zip(fused.members, logits, strict=True)
    ]
    found: Floats = _mixing(replace(fused, members=members), fusion)(logits, kind="logits")
    return found


def _mean(values: Sequence[float]) -> dict[str, Any]:
    from causalft.runs.intervals import mean_interval

    mean, low, high = mean_interval(values)
    return {"estimate": mean, "ci95": None if np.isnan(low) else [low, high]}


def group_rows(found: Mapping[str, Any]) -> list[list[str]]:
    """Rows of a table: a group, its deviation, that of the run as it is, and that of one threshold for all classes."""
    from causalft.runs.intervals import interval_text

    return [
        [
            name,
            str(of["n_validation"]),
            *(
                interval_text(found[key][name]["estimate"], found[key][name]["ci95"], sign=True)
                for key in ("deviation", "as_fitted", "one_threshold")
            ),
        ]
        for name, of in found["deviation"].items()
    ]
