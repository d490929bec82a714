"""Class accuracy along classes sorted by a prior: slopes, rank correlations and curves of every arm, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from causalft.analysis.diagnosis.parameter_imbalance import UNIT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from experiments.frame.measures import Contrast
    from experiments.frame.tested import Tested

__all__ = ["BINS", "curve_metrics", "curve_table", "draw_curves", "rank_rows", "slope_vectors"]

Floats = NDArray[np.float64]

BINS = 20
"""Points of a curve: means over as many classes each."""

TRAINING, ESTIMATED, KNOWN = "training count", "estimated prior", "known prior"


def slope_vectors(priors: Floats, there: NDArray[np.bool_]) -> Floats:
    """Vectors whose products with class accuracies are the least-squares slopes on the log priors, (M, K).

    In accuracy per factor 100 of the prior. A row is NaN for a prior without spread.

    Parameters
    ----------
    priors : (M, K) array of positive numbers
    there : (K,) array of bool
        Classes with a test image.

    Examples
    --------
    >>> prior = np.array([[100.0, 10.0, 1.0]])
    >>> (slope_vectors(prior, np.ones(3, bool)) @ np.array([0.9, 0.7, 0.5])).round(6)
    array([0.4])
    """
    x = np.where(there, np.log(np.maximum(priors, 1e-300)), 0.0)
    x = np.where(there, x - x.sum(axis=1, keepdims=True) / there.sum(), 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(UNIT * x / (x**2).sum(axis=1, keepdims=True))


def curve_metrics(found: Tested, contrasts: Sequence[Contrast] = ()) -> dict[str, Any]:
    """Slopes, rank correlations and curves along training counts, estimated priors and known priors.

    Returns
    -------
    dict
        ``slopes`` and ``ranks``: prior to arm to ``{estimate, ci95, p}``; the slope is accuracy per factor 100 of the
        prior, with class difficulty in it; the rank correlation is Spearman's. ``rank_changes``: prior to the words of
        a contrast to its difference of rank correlations. ``known``: the contrasts along the known priors
        (:func:`experiments.frame.measures.compare_arms`), if there are any. ``curves``: prior to arm to class
        accuracies along the sorted classes, in at most :data:`BINS` means.
    """
    from experiments.frame.measures import compare_arms

    priors = {TRAINING: np.repeat(found.counts[None].astype(float), len(found.estimated), axis=0)}
    priors[ESTIMATED] = found.estimated
    if found.known is not None:
        priors[KNOWN] = found.known
    ranks, changes = _rank_correlations(found, priors, contrasts)
    result = {
        "slopes": _slopes(found, priors),
        "ranks": ranks,
        "rank_changes": changes,
        "curves": _curves(found, priors),
    }
    if found.known is not None and contrasts:
        _, paired = compare_arms(
            found.labels, found.counts, found.known, found.baseline, found.arms, (), contrasts
        )
        result["known"] = {words: value.to_json_or_null() for words, value in paired.items()}
    return result


def _slopes(found: Tested, priors: Mapping[str, Floats]) -> dict[str, dict[str, Any]]:
    from causalft.analysis.diagnosis.intervals import bootstrap

    correct, rows = found.stacked
    there = np.bincount(found.labels, minlength=found.n_classes) > 0
    vectors = np.concatenate([slope_vectors(of, there) for of in priors.values()])
    n_priors = len(found.estimated)

    def statistics(products: Floats) -> dict[str, Floats]:
        return {
            f"{kind}\n{name}": found.mean_of_own(products[:, where, i * n_priors : (i + 1) * n_priors], name)
            for i, kind in enumerate(priors)
            for name, where in rows.items()
        }

    intervals = bootstrap(statistics, correct, found.labels, found.n_classes, vectors=vectors)
    return {kind: {name: intervals[f"{kind}\n{name}"].to_json_or_null() for name in rows} for kind in priors}


def rank_rows(values: Floats) -> Floats:
    """Ranks along the last axis, ties at their mean, centred and of length 1: products are Spearman correlations."""
    from scipy.stats import rankdata

    ranks = rankdata(np.round(values, 10), axis=-1)  # rounding noise makes no ranks
    ranks = ranks - ranks.mean(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(ranks / np.sqrt((ranks**2).sum(axis=-1, keepdims=True)))


def _rank_correlations(
    found: Tested, priors: Mapping[str, Floats], contrasts: Sequence[Contrast], n_boot: int = 400
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Rank correlations of arms, and their differences in the contrasts; images and seeds are resampled."""
    from causalft.analysis.diagnosis.intervals import Interval, resampled_accuracies
    from causalft.data.groups import class_accuracy

    correct, rows = found.stacked
    there = np.bincount(found.labels, minlength=found.n_classes) > 0
    by_prior = {kind: rank_rows(of[:, there]) for kind, of in priors.items()}

    def of_arms(accuracy: Floats) -> dict[str, Floats]:
        ranked = rank_rows(accuracy[..., there])
        return {
            f"{kind}\n{name}": found.mean_of_own(ranked[:, where] @ by_prior[kind].T, name)
            for kind in priors
            for name, where in rows.items()
        }

    observed = of_arms(class_accuracy(correct, found.labels, found.n_classes).mean(axis=1)[None])
    blocks = [
        (of_arms(drawn), of_arms(fixed))
        for drawn, fixed in resampled_accuracies(correct, found.labels, found.n_classes, n_boot, 0)
    ]
    samples = {
        key: (np.concatenate([a[key] for a, _ in blocks]), np.concatenate([b[key] for _, b in blocks]))
        for key in observed
    }

    def interval(kind: str, plus: Sequence[str], minus: Sequence[str] = ()) -> Any:
        signed = [(f"{kind}\n{name}", 1.0) for name in plus] + [(f"{kind}\n{name}", -1.0) for name in minus]
        whole, drawn, fixed = (
            sum(sign * of[key] for key, sign in signed)
            for of in (
                observed,
                {k: v[0] for k, v in samples.items()},
                {k: v[1] for k, v in samples.items()},
            )
        )
        return _debiased(Interval, float(whole[0]), drawn, fixed, correct.shape[1])  # type: ignore[index]

    ranks = {kind: {name: interval(kind, [name]) for name in rows} for kind in priors}
    changes = {kind: {c.words: interval(kind, c.plus, c.minus) for c in contrasts} for kind in priors}
    return ranks, changes


def _debiased(interval: Any, estimate: float, drawn: Any, fixed: Any, n_seeds: int) -> Any:
    """Resampled accuracies are noisier, which pulls correlations to 0: the draws are centred on the estimate."""
    centred = [np.asarray(of) - np.mean(of) + estimate for of in (drawn, fixed)]
    return interval.of(estimate, *centred, n_seeds).to_json_or_null()


def _curves(found: Tested, priors: Mapping[str, Floats]) -> dict[str, dict[str, list[float]]]:
    from causalft.data.groups import class_accuracy

    correct, rows = found.stacked
    accuracy = class_accuracy(correct, found.labels, found.n_classes).mean(axis=1)
    there = np.bincount(found.labels, minlength=found.n_classes) > 0
    result: dict[str, dict[str, list[float]]] = {}
    for kind, of in priors.items():
        orders = [np.flatnonzero(there)[np.argsort(-prior[there], kind="stable")] for prior in of]
        sorted_ = np.stack([accuracy[:, order] for order in orders], axis=1)[None]
        result[kind] = {}
        for name, where in rows.items():
            line = found.mean_of_own(sorted_[:, where], name)[0]
            result[kind][name] = [float(part.mean()) for part in np.array_split(line, min(BINS, len(line)))]
    return result


def draw_curves(metrics: Mapping[str, Any]) -> list[Axes]:
    """Class accuracy along the sorted classes, one panel for each prior, one line for each arm."""
    from causalft.report.style import SERIES, new_figure

    curves = metrics["curves"]
    figure = new_figure(3.3 * len(curves) + 0.4, 3.6)
    axes = np.atleast_1d(figure.subplots(1, len(curves), sharey=True))
    for panel, (kind, arms) in zip(axes, curves.items(), strict=True):
        for (name, line), colour in zip(arms.items(), SERIES, strict=False):
            x = (np.arange(len(line)) + 0.5) / len(line) * 100
            panel.plot(x, 100 * np.asarray(line), color=colour, label=name, marker=".", ms=4, lw=1.3)
        panel.set_xlabel(f"classes by {kind},\nmost frequent first (%)")
        panel.grid(axis="y")
    axes[0].set_ylabel("class accuracy (%)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(3, len(labels)))
    return list(axes)


def curve_table(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Columns, rows and caption: one row an arm, slope and rank correlation along each prior."""
    from causalft.analysis.diagnosis.conclusion import interval_text

    slopes, ranks = metrics["slopes"], metrics["ranks"]
    rows = []
    for name in next(iter(slopes.values())):
        row = [name]
        for kind in slopes:
            rank = ranks[kind][name]
            row += [interval_text(slopes[kind][name]), "none" if rank is None else f"{rank['estimate']:.2f}"]
        rows.append(row)
    columns = ["arm", *(f"{what} {kind}" for kind in slopes for what in ("slope,", "Spearman,"))]
    caption = (
        "Slope in points per factor 100, 95 % intervals over test images and seeds; Spearman correlation."
    )
    return {"columns": columns, "rows": rows, "caption": caption}
