"""P(C): the uniform stratum prior of the paper beside an estimated one, a placebo, and the fusion of its code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from experiments import Experiment

if TYPE_CHECKING:
    from causalft.methods.estimators.settings import FitSettings
    from causalft.runs.folder import Run

__all__ = ["COMPARISONS", "EXPERIMENT", "fuse_all"]

STRATA = ("clip", "openclip", "metaclip")
UNIFORM, ESTIMATED, PLACEBO = "mixture, P(c) = 1/3", "mixture, estimated P(c)", "mixture, placebo P(c)"
COMPARISONS = {
    "estimated": (ESTIMATED, UNIFORM, "accuracy"),
    "estimated, D-few": (ESTIMATED, UNIFORM, "few"),
    "placebo": (PLACEBO, UNIFORM, "accuracy"),
    "logit mean": ("logit mean", UNIFORM, "accuracy"),
    "best single": (UNIFORM, "best single stratum", "accuracy"),
}
"""Words -> method, method that is subtracted, measure."""


def fuse_all(validation: Any, labels: Any, test: Any, weights: Any, seed: int) -> tuple[dict[str, Any], Any]:
    """Fuse the strata in every way.

    Parameters
    ----------
    validation, test : (M, n, K) arrays
        P(Y | b, c) of each stratum; rows sum to 1.
    labels, weights : (n,) arrays
        Of the validation images; the weights balance the classes.
    seed : int
        Of the bootstrap behind the interval of P(c).

    Returns
    -------
    dict of str to (n, K) array, StratumPrior
        The placebo gives each stratum the estimated weight of the next.
    """
    import numpy as np

    from causalft.methods.estimators.fusion import fuse, nll
    from causalft.methods.estimators.mixing import estimate_stratum_prior

    prior = estimate_stratum_prior(validation, labels, seed, weights=weights)
    best = int(np.argmin([nll(each, labels, weights) for each in validation]))
    fused = {
        "best single stratum": test[best],
        UNIFORM: fuse(test),
        ESTIMATED: fuse(test, prior.weights),
        PLACEBO: fuse(test, np.roll(prior.weights, 1)),
        "logit mean": fuse(test, fusion="logit"),
    }
    return fused, prior


def trains(quick: bool) -> tuple[FitSettings, tuple[str, ...]]:
    """The strata, with a linear probe."""
    from causalft.methods.adaptation.settings import default_tuning
    from causalft.methods.estimators.settings import FitSettings

    tuning = replace(default_tuning("mini"), tuner="linear-probe", epochs=3 if quick else 10)
    return FitSettings(zoo="mini", tuning=tuning), STRATA


def compute(create: Callable[..., Run], quick: bool, seeds: int) -> dict[str, Any]:
    """Probe the strata for each downstream seed and fuse them."""
    import numpy as np

    from causalft.analysis.diagnosis.scores import compare_methods
    from causalft.data.groups import balancing_weights
    from causalft.methods.estimators.member import fit_member
    from causalft.models.features.cache import FeatureCache
    from causalft.models.strata.zoo import open_zoo
    from causalft.pipelines.pages.diagnosis import method_table
    from causalft.pipelines.workflows.fit_data import load_splits

    run, zoo, cache = create(), open_zoo("mini"), FeatureCache()
    settings, names = trains(quick)
    models: dict[str, list[Any]] = {}
    priors, sha256 = [], {}
    for seed in range(seeds):
        splits = load_splits(settings, seed)
        found = []
        for name in names:
            folder = run.path / "members" / str(seed) / name
            member, _ = fit_member(
                splits, name, zoo, replace(settings.tuning, seed=seed), folder=folder, cache=cache
            )
            found.append(member)
            sha256[name] = member.sha256
        labels = splits.validation.labels
        fused, prior = fuse_all(
            np.stack([member.validation_probs for member in found]),
            labels,
            np.stack([member.test_probs for member in found]),
            balancing_weights(labels, splits.validation.n_classes),
            seed,
        )
        priors.append({"weights": prior.weights.tolist(), "ci95": prior.ci95.tolist()})
        for method, probabilities in fused.items():
            models.setdefault(method, []).append(probabilities)
    scores = compare_methods(
        splits.test.labels,
        splits.train.class_counts,
        {method: [np.stack(of_seeds)] for method, of_seeds in models.items()},
        COMPARISONS,
    ).to_metrics()
    return {
        "strata": list(STRATA),
        "zoo": "mini",
        "weights": sha256,
        "stratum_prior": priors,
        **scores,
        "table": vars(method_table(scores["methods"])),
        "conclusion": _conclusion(scores["paired"], priors[0]),
    }


def _conclusion(paired: Mapping[str, Any], prior: Mapping[str, Any]) -> list[str]:
    from causalft.runs.intervals import interval_text

    def shown(words: str) -> str:
        return interval_text(paired[words]["estimate"], paired[words]["ci95"], sign=True)

    weights = ", ".join(
        f"{name} {interval_text(weight, ci95)} %"
        for name, weight, ci95 in zip(STRATA, prior["weights"], prior["ci95"], strict=True)
    )
    return [
        f"Estimated P(c), first seed: {weights}.",
        f"Accuracy against P(c) = 1/3: estimated {shown('estimated')} points ({shown('estimated, D-few')} on D-few), "
        f"placebo {shown('placebo')}, logit mean {shown('logit mean')}.",
        f"The mixture with P(c) = 1/3 gains {shown('best single')} points over the best single stratum.",
    ]


def page(run: Run, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Methods, and their paired differences."""
    from causalft.pipelines.pages.diagnosis import method_dots, method_table, paired_table
    from causalft.report.drawing import draw
    from causalft.report.html import Figure, Section
    from causalft.report.style import figure_style, new_figure

    with figure_style():
        figure = new_figure(7.2, 3.0)
        method_dots(figure.add_subplot(), metrics["methods"])
        figure.legend(loc="outside lower center", ncols=2)
        drawing = draw(figure, run.file("figures/stratum_prior.png"))
    caption = "Accuracy of each fusion, over all classes and on D-few."
    return {
        "title": "Does P(C) matter?",
        "verdict": metrics["conclusion"][1],
        "facts": {
            "data": "creatures-lt",
            "zoo": "mini: small models that this project pre-trained on the embedded world, not the real weights",
            "weights (sha256)": ", ".join(f"{name} {hash[:12]}" for name, hash in metrics["weights"].items()),
            "tuner": "linear probe",
            "downstream seeds": str(metrics["seeds"]),
        },
        "sections": [
            Section(
                "Fusions",
                list(metrics["conclusion"]),
                [method_table(metrics["methods"])],
                [Figure(drawing, caption, caption)],
            ),
            Section(
                "Paired comparisons",
                ["On the same test images."],
                [paired_table(metrics["paired"], COMPARISONS)],
            ),
        ],
    }


EXPERIMENT = Experiment(
    name="stratum_prior",
    reproduces="Objection: P(C) = 1/M is assumed",
    claim="an estimated P(C) changes the mixture little; controls: a placebo P(C), the logit mean, the best stratum",
    scale="creatures-lt, mini zoo, linear probes of clip, openclip, metaclip",
    minutes=1,
    compute=compute,
    trains=trains,
    page=page,
)
