"""The page of a ``fit`` run: conclusion, parameter imbalance, groups, controls, priors."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from causalft.diagnosis import BeforeAfter, Interval, change, points
from causalft.report import diagnosis_figures as draw
from causalft.report.html import Figure, Section, Table, render_report
from causalft.report.style import figure_style, save_figure
from causalft.runs import Run, write_text

__all__ = ["draw_figures", "fit_command", "fit_sections", "write_fit_report"]

Metrics = Mapping[str, Any]
_GROUPS = ("many", "medium", "few")

# file -> (who draws it, caption)
_FIGURES: dict[str, tuple[Callable[[Metrics], Any], str]] = {
    "imbalance": (
        draw.imbalance_before_after,
        "How much better a model does on the classes its own pre-training had many of than on those it had few of, "
        "beyond what models with other priors show on the same classes. The control fuses models of one prior.",
    ),
    "cross_gap": (
        draw.cross_gap_heat,
        "P-many minus P-few accuracy of each model (row) on the groups by each prior (column), with 95 % intervals. A "
        "large diagonal beside a small rest is parameter imbalance; a large column is class difficulty.",
    ),
    "slope": (
        draw.slope_plot,
        "Class accuracy with class difficulty taken out, against the estimated pre-training prior. One point is one "
        "class under the prior of one stratum; before fusion its accuracy is that stratum's, after it the fusion's.",
    ),
    "class_profiles": (
        draw.class_profiles,
        "Accuracy of each class (points) and its running mean (line), classes sorted by each estimated prior.",
    ),
    "prior_groups": (
        draw.prior_group_bars,
        "Accuracy by the estimated pre-training prior: a stratum alone on its own groups, and the fusion on the same.",
    ),
    "data_groups": (draw.data_group_bars, "Accuracy by the number of downstream training images of a class."),
    "groups": (
        draw.group_heat_tables,
        "Accuracy in percent by training count (rows) and by prior (columns).",
    ),
}


def draw_figures(metrics: Metrics, folder: Path) -> dict[str, Figure]:
    """Draw every figure that the metrics allow into ``folder``; what has no number is left out.

    Returns
    -------
    dict
        Name to the figure for a page.
    """
    identified = metrics["own_minus_off_gap"]["before"] is not None
    figures = {}
    for name, (function, caption) in _FIGURES.items():
        if not identified and name in ("imbalance", "slope"):
            continue
        with figure_style():
            axes = function(metrics)
            first = axes[0] if isinstance(axes, list) else axes
            path = save_figure(first.figure, Path(folder) / f"{name}.png")
        figures[name] = Figure(path, caption, f"{name.replace('_', ' ')}: {caption}")
    return figures


def fit_sections(metrics: Metrics, figures_dir: Path) -> list[Section]:
    """Draw the figures of a ``fit`` run and return the sections of its page.

    Parameters
    ----------
    metrics : mapping
        The document of ``metrics.json``.
    figures_dir : Path
        Where the pictures go.

    Returns
    -------
    list of Section
    """
    figures = draw_figures(metrics, figures_dir)

    def shown(*names: str) -> list[Figure]:
        return [figures[name] for name in names if name in figures]

    return [
        Section(
            "Parameter imbalance, before and after",
            list(metrics["conclusion"]),
            tables=[_measures(metrics)],
            figures=shown("imbalance", "cross_gap"),
        ),
        Section(
            "Class by class",
            ["What remains of a slope here is what the pre-training does to single classes."],
            figures=shown("slope", "class_profiles"),
        ),
        Section(
            "Groups",
            [
                "D groups: more than 100, 20 to 100, fewer than 20 training images. P groups: the 30 % of classes "
                "with the largest estimated prior, the next 30 %, the last 40 %. Accuracies are means over classes."
            ],
            tables=[_groups(metrics)],
            figures=shown("prior_groups", "data_groups", "groups"),
        ),
        Section(
            "Is it just an ensemble?",
            [
                "Every row is an accuracy on the same test images. Fusing seeds of one model is an ordinary ensemble: "
                "what it gains too is not due to the strata, and what it does to the P gap is its share of that."
            ],
            tables=[_controls(metrics), _paired(metrics)],
        ),
        Section(
            "How to read the estimated prior",
            [
                "The pre-training data are not at hand: the prior is the one that, taken out of the zero-shot logits, "
                "explains labelled validation images best (GLA). A model trained contrastively with in-batch negatives "
                "need not carry its data's prior in its logits; then the estimate describes the logits only."
            ],
            tables=[_priors(metrics)],
        ),
    ]


def write_fit_report(run: Run, metrics: Metrics) -> Path:
    """Write ``report.html`` and the figures of a ``fit`` run and return the page's path.

    Parameters
    ----------
    run : Run
        Of kind ``fit``.
    metrics : mapping
        What its ``metrics.json`` will hold.
    """
    strata = ", ".join(metrics["strata"])
    page = render_report(
        title=f"{strata} on {metrics['data']['name']}",
        verdict=metrics["conclusion"][0],
        facts=_facts(metrics),
        sections=fit_sections(metrics, run.path / "figures"),
        command=fit_command(run.config, str(run.path)),
    )
    return write_text(run.file("report.html"), page)


_OPTIONS = {
    "data": "--data",
    "zoo": "--zoo",
    "control": "--control",
    "control_of": "--control-of",
    "fusion": "--fusion",
    "imbalance_factor": "--imbalance-factor",
    "profile": "--profile",
    "order": "--order",
    "n_validation": "--n-validation",
    "n_test": "--n-test",
    "seed": "--seed",
    "n_seeds": "--seeds",
}
_TUNING_OPTIONS = {
    "loss": "--loss",
    "epochs": "--epochs",
    "batch_size": "--batch-size",
    "augmentation": "--augmentation",
}


def fit_command(config: Mapping[str, Any], out: str) -> str:
    """The command that makes a ``fit`` run again, from its configuration: only what ``fit`` would not do by itself.

    Examples
    --------
    >>> fit_command({"strata": ["clip"], "data": "my photos", "seed": 1, "tuning": {"lr": 0.05}}, "runs/a")
    "causalft fit --strata clip --data 'my photos' --seed 1 --lr 0.05 --out runs/a"
    """
    from causalft.fitting.settings import FitSettings, default_tuning

    default = FitSettings(data=config.get("data", FitSettings.data))
    zoo = config.get("zoo") or default.zoo_name
    left_out = _decided_elsewhere(config, default.data, zoo)
    words = ["causalft", "fit"]
    if tuple(config["strata"]) != default.strata:
        words += ["--strata", ",".join(config["strata"])]
    usual = {**vars(default), "data": FitSettings.data, "zoo": default.zoo_name}
    for key, option in _OPTIONS.items():
        value = config.get(key)
        if value is not None and value != usual[key] and key not in left_out:
            words += [option, str(value)]
    if config.get("stratum_prior"):
        words += ["--stratum-prior", ",".join(str(p) for p in config["stratum_prior"])]
    for name, file in (config.get("weights") or {}).items():
        words += ["--weights", f"{name}={file}"]
    if config.get("drop_empty_classes") and "drop_empty_classes" not in left_out:
        words.append("--drop-empty-classes")
    tuning = config.get("tuning") or {}
    recipe = default_tuning(zoo)
    for key, option in _TUNING_OPTIONS.items():
        if tuning.get(key) is not None and tuning[key] != getattr(recipe, key):
            words += [option, str(tuning[key])]
    rates = config.get("learning_rates") or (
        [tuning["lr"]] if tuning.get("lr", recipe.lr) != recipe.lr else []
    )
    if rates:
        words += ["--lr", ",".join(f"{rate:g}" for rate in rates)]
    return shlex.join([*words, "--out", out])


def _decided_elsewhere(config: Mapping[str, Any], data: str, zoo: str) -> set[str]:
    """Options that ``fit`` refuses, because the data, the zoo or another option decides them."""
    from causalft.fitting.settings import FitSettings

    left_out: set[str] = set()
    if data == FitSettings.data:
        left_out |= {"n_validation", "n_test", "profile", "order", "drop_empty_classes"}
    elif (Path(zoo) / "manifest.parquet").exists():
        left_out |= {"n_validation", "n_test", "order"}
    if config.get("imbalance_factor") is None:
        left_out |= {"profile", "order"}
    if config.get("control", "none") == "none":
        left_out.add("control_of")
    return left_out


def _facts(metrics: Metrics) -> dict[str, str]:
    data, fused = metrics["data"], metrics["fused"]
    prior = ", ".join(f"{name} {p:.3g}" for name, p in fused["stratum_prior"].items())
    weights = ", ".join(f"{name} {digest[:12]}" for name, digest in metrics["weights"].items())
    zoo = str(metrics["zoo"])
    if zoo == "mini":
        zoo = "mini: small models that this project pre-trained on the embedded world, not the real weights"
    facts = {
        "zoo": zoo,
        "weights (sha256)": weights,
        "data": f"{data['name']}: {len(metrics['class_counts'])} classes",
        "images": f"{data['n_train']} train, {data['n_validation']} validation, {data['n_test']} test",
        "seeds": str(metrics["n_seeds"]),
        "fusion": f"{fused['fusion']}, P(c): {prior}; temperature {fused['temperature']:.3f}",
        "negative log-likelihood": f"{fused['nll']:.3f} nats, calibration error {100 * fused['ece']:.1f} %",
        "seconds": f"{metrics['seconds']:.0f}",
    }
    if data.get("imbalance_factor") is not None:
        facts["images"] += f"; imbalance factor {data['imbalance_factor']:.3g}"
    if data.get("notes"):
        facts["notes"] = "; ".join(data["notes"])
    return facts


def _measures(metrics: Metrics) -> Table:
    rows = []
    for title, key in (
        ("own P gap (raw)", "P_gap"),
        ("own P gap beyond class difficulty", "own_minus_off_gap"),
        ("slope on log prior, per factor 100", "prior_slope"),
    ):
        rows.append([title, *_before_after(metrics[key])])
        for name, control in metrics["controls"].items():
            if key in control:
                rows.append([f"    the same, control {name}", *_before_after(control[key])])
    rows.append(
        ["fused gap minus mean of its members' gaps", "", _points(metrics["fused_minus_members_gap"]), ""]
    )
    return Table(
        ["measure (points, 95 % interval)", "single models", "fused", "change"],
        rows,
        "Parameter imbalance, mean over the strata's priors.",
    )


def _before_after(measure: Metrics) -> list[str]:
    return [_points(measure["before"]), _points(measure["after"]), change(BeforeAfter.from_json(measure))]


def _groups(metrics: Metrics) -> Table:
    rows = []
    for name, scores in metrics["strata"].items():
        rows.append([name, name, *_cells(scores["D"]), *_cells(scores["P"])])
    for prior in metrics["strata"]:
        rows.append(["fused", prior, *_cells(metrics["fused"]["D"]), *_cells(metrics["fused"]["P"][prior])])
    columns = ["model", "prior of", *(f"D-{g}" for g in _GROUPS), *(f"P-{g}" for g in _GROUPS)]
    return Table(columns, rows, "Accuracy in percent.")


def _controls(metrics: Metrics) -> Table:
    rows = [[name, *_accuracy(scores)] for name, scores in metrics["strata"].items()]
    rows.append(["fused", *_accuracy(metrics["fused"])])
    for name, control in metrics["controls"].items():
        label = name.replace("_", " ")
        if name == "best_single":
            label = f"best single by {control['chosen_on']}: {control['name']}"
        elif "members" in control:
            label = f"control {name}: {', '.join(control['members'])}"
        rows.append([label, *_accuracy(control)])
    return Table(["model", "accuracy (%)", "95 % interval"], rows, "Overall accuracy.")


_PAIRED = {
    "fused_minus_best_single": "fused minus the single stratum that is best on the test set",
    "fused_minus_chosen_single": "fused minus the single stratum that validation chose",
    "fused_minus_mean_single": "fused minus the mean of the strata: the gain",
    "fused_minus_logit_mean": "fused minus the mean of log-probabilities",
    "fused_minus_control": "fused strata minus fused control",
    "fused_minus_control_gain": "gain of the strata minus gain of the control",
}


def _paired(metrics: Metrics) -> Table:
    rows = [
        [_PAIRED.get(name, name.replace("_", " ")), _points(value), _p_value(value["p"])]
        for name, value in metrics["paired"].items()
    ]
    return Table(["difference (points)", "95 % interval", "p"], rows, "Paired over the test images.")


def _priors(metrics: Metrics) -> Table:
    rows = []
    for name, scores in metrics["strata"].items():
        prior = list(scores["label_prior"])
        spearman = scores.get("prior_spearman")
        true = "not known" if spearman is None else f"{spearman:.2f}"
        rows.append(
            [
                name,
                f"{100 * max(prior):.2g} %",
                f"{100 * min(prior):.2g} %",
                f"{max(prior) / min(prior):.0f}",
                true,
            ]
        )
    columns = ["stratum", "largest", "smallest", "imbalance", "Spearman with the true prior"]
    return Table(columns, rows, "Estimated label priors.")


def _accuracy(scores: Metrics) -> list[str]:
    low, high = scores["ci95"]
    return [f"{100 * scores['accuracy']:.1f}", f"[{100 * low:.1f}, {100 * high:.1f}]"]


def _cells(groups: Mapping[str, float | None]) -> list[str]:
    return ["none" if groups[g] is None else f"{100 * groups[g]:.1f}" for g in _GROUPS]  # type: ignore[operator]


def _points(value: Metrics | None) -> str:
    return points(Interval.from_json(value))


def _p_value(p: float | None) -> str:
    if p is None:
        return ""
    return "< 0.002" if p < 0.002 else f"{p:.3f}"
