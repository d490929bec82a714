"""How well an estimated prior agrees with the known one, as far as validation images tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from causalft.runs.intervals import Z95

if TYPE_CHECKING:
    from collections.abc import Mapping

    from causalft.methods.estimators.member import MemberPrediction
    from experiments.frame.lab import Lab

__all__ = ["agreement", "agreement_of", "agreement_table", "mean_agreement", "prior_in_logits"]

Floats = NDArray[np.float64]


def agreement(
    logits: Floats, labels: NDArray[np.int64], known: Floats, n_boot: int = 100, seed: int = 0
) -> dict[str, Any]:
    """Spearman correlation of GLA's estimate with the known prior, with a 95 % interval over validation images.

    Images are drawn again within their class and the prior is estimated again, with the penalty of the estimate. The
    interval is normal on Fisher's scale around the estimate, with the standard deviation of the draws.

    Parameters
    ----------
    logits : (n, K) array
        Zero-shot logits of the validation images.
    labels : (n,) array of int
    known : (K,) array of positive numbers
    n_boot, seed : int

    Returns
    -------
    dict
        ``{estimate, ci95, error}``, the error on Fisher's scale, and ``imbalance``, ``known_imbalance``, ``kl``,
        ``kl_of_uniform`` of the estimate.
    """
    from causalft.methods.priors import compare_priors, prior_on_validation, rank_correlation

    estimate = prior_on_validation(logits, labels)
    compared = compare_priors(known, estimate)
    rng = np.random.default_rng(seed)
    of_class = [np.flatnonzero(labels == k) for k in range(logits.shape[1])]
    draws = []
    for _ in range(n_boot):
        rows = np.concatenate([rng.choice(rows, len(rows)) for rows in of_class if len(rows)])
        drawn = prior_on_validation(np.asarray(logits)[rows], labels[rows], l2=estimate.l2).prior
        draws.append(_fisher(rank_correlation(known, drawn)))
    error = float(np.std(draws, ddof=1))
    centre = _fisher(compared.spearman)
    return {
        **_interval(centre, error),
        "error": error,
        "imbalance": float(estimate.prior.max() / estimate.prior.min()),
        "known_imbalance": compared.imbalance,
        "kl": compared.kl,
        "kl_of_uniform": compared.kl_of_uniform,
    }


def mean_agreement(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Mean over models on Fisher's scale; the validation images are shared, so errors are added as if they were one."""
    centre = float(np.mean([_fisher(of["estimate"]) for of in found.values()]))
    return _interval(centre, float(np.mean([of["error"] for of in found.values()])))


def _fisher(correlation: float) -> float:
    return float(np.arctanh(np.clip(correlation, -0.9999, 0.9999)))


def _interval(centre: float, error: float) -> dict[str, Any]:
    low, high = np.tanh([centre - Z95 * error, centre + Z95 * error])
    return {"estimate": float(np.tanh(centre)), "ci95": [float(low), float(high)]}


def agreement_of(prediction: MemberPrediction, labels: NDArray[np.int64], n_boot: int) -> dict[str, Any]:
    """:func:`agreement` of a member with a known prior."""
    assert prediction.true_prior is not None
    return agreement(prediction.zero_shot_validation, labels, prediction.true_prior, n_boot)


def agreement_table(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Columns, rows and caption: one row a model."""
    rows = [
        [
            name,
            f"{of['estimate']:.2f} [{of['ci95'][0]:.2f}, {of['ci95'][1]:.2f}]",
            f"{of['imbalance']:.0f} ({of['known_imbalance']:.0f})",
            f"{of['kl']:.3f} ({of['kl_of_uniform']:.3f})",
        ]
        for name, of in found.items()
    ]
    columns = [
        "model",
        "Spearman with the known prior",
        "imbalance (known)",
        "KL from the known prior (uniform)",
    ]
    return {
        "columns": columns,
        "rows": rows,
        "caption": "Estimated from validation images; 95 % intervals over them.",
    }


def prior_in_logits(lab: Lab, name: str) -> dict[str, Any]:
    """A model's estimated prior beside the known one, and what taking the known one out of its logits changes.

    Returns
    -------
    dict
        ``agreement`` as :func:`agreement`, on validation images; ``gain``: zero-shot accuracy on test images with the
        known prior taken out less that without, ``{estimate, ci95, p}`` over test images.
    """
    from causalft.methods.adaptation.tune import encode_zero_shot
    from causalft.methods.priors import debias
    from experiments.frame.means import mean_over_images

    splits, settings = lab.world.splits(0), lab.world.settings
    card = lab.world.zoo.card(name)  # type: ignore[attr-defined]
    known = card.prior_of(splits.class_names)
    parts = [splits.validation, splits.test]
    stratum = lab.world.zoo.load(name, device="cpu")
    validation, test = encode_zero_shot(stratum, splits.class_names, settings.tuning, parts).logits
    lab.weights[name] = card.sha256
    labels = splits.test.labels
    before = np.asarray(test).argmax(axis=1) == labels
    after = np.asarray(debias(test, known)).argmax(axis=1) == labels
    return {
        "agreement": agreement(
            np.asarray(validation, dtype=float), splits.validation.labels, known, 20 if lab.quick else 100
        ),
        "gain": mean_over_images((after.astype(float) - before)[None]),
        "accuracy": float(before.mean()),
        "loss": card.loss,
    }
