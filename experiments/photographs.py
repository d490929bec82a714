"""Every method on photographs: CE, LA, GLA, the best single stratum, the logit mean, the backdoor mixture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments import Experiment

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from causalft.methods.estimators.settings import FitSettings
    from causalft.pipelines.workflows.plan import FitPlan
    from causalft.runs.folder import Run
    from experiments.frame.claims import Claim

__all__ = ["COMPARISONS", "EXPERIMENT", "draw"]

COMPARISONS: dict[str, tuple[str, str, str]] = {
    "CE, zero-shot": ("CE", "zero-shot", "accuracy"),
    "LA, zero-shot": ("LA", "zero-shot", "accuracy"),
    "LA, CE": ("LA", "CE", "accuracy"),
    "LA, CE: D-few": ("LA", "CE", "few"),
    "GLA, LA": ("GLA", "LA", "accuracy"),
    "mixture, best single": ("backdoor mixture", "best single", "accuracy"),
    "mixture, logit mean": ("backdoor mixture", "logit mean", "accuracy"),
    "mixture, control": ("backdoor mixture", "control: one model's seeds", "accuracy"),
    "mixture of GLA, mixture": ("backdoor mixture of GLA", "backdoor mixture", "accuracy"),
}
"""Words -> method, method that is subtracted, and in what."""


def compute(create: Callable[..., Run], quick: bool, seeds: int, data: str, zoo: str) -> dict[str, Any]:
    """Tune every member with CE and LA for each draw, fuse, compare."""
    from causalft.methods.estimators.member import fit_member, folder_name
    from causalft.models.features.cache import FeatureCache
    from causalft.pipelines.pages.diagnosis import method_table
    from causalft.pipelines.workflows.fit_data import load_splits
    from experiments.frame.photo_members import losses_of, settings_of

    settings, control = settings_of(quick, seeds, data, zoo)
    opened, strata, tuning = settings.open_zoo(), settings.strata, settings.tuning
    config: dict[str, Any] = {"data": settings.data, "zoo": settings.zoo_name}
    if settings.imbalance_factor is None:
        config["imbalance_factor"] = None
    splits = [load_splits(settings, seed) for seed in range(seeds)]
    config["data_fingerprint"] = splits[0].test.fingerprint
    run = create(**config)
    cache = FeatureCache()
    found: dict[tuple[str, str], list[Any]] = {}
    for seed, split in enumerate(splits):
        for name in dict.fromkeys(strata + control):
            for loss in losses_of(name, strata):
                folder = run.path / "members" / str(seed) / loss / folder_name(name)
                chosen = replace(tuning, loss=loss, seed=seed)
                prediction, _ = fit_member(split, name, opened, chosen, folder=folder, cache=cache)
                found.setdefault((loss, name), []).append(prediction)
    metrics = _compare(settings, splits, found, strata, control)
    table = vars(method_table(metrics["methods"]))
    return {**metrics, "zoo": zoo, "data": data, "table": table, "conclusion": _conclusion(metrics)}


def plan(out: Path, quick: bool, seeds: int, data: str, zoo: str) -> FitPlan:
    """Every member with each of its losses."""
    from experiments.frame.photo_members import plan_members_of

    return plan_members_of(out, quick, seeds, data, zoo)


def _compare(
    settings: FitSettings,
    splits: Sequence[Any],
    found: Mapping[tuple[str, str], list[Any]],
    strata: Sequence[str],
    control: Sequence[str],
) -> dict[str, Any]:
    from causalft.analysis.diagnosis.scores import compare_methods
    from causalft.methods.estimators.member import gla_members
    from causalft.methods.priors import debias
    from causalft.pipelines.workflows.answering import fit_fusions
    from causalft.pipelines.workflows.outcome import diagnose_run

    first = splits[0]
    tuned = {name: found["LA", name] for name in strata}
    of_one = {name: found["LA", name] for name in control}
    with_gla = gla_members(settings.tuning, first.train.class_counts, tuned)
    outcome = diagnose_run(settings, first, tuned, of_one, "pre-training")
    diagnosis = outcome.diagnosis

    def logits(members: Mapping[str, list[Any]], what: str = "test_logits") -> list[np.ndarray]:
        return [np.stack([getattr(p, what) for p in predictions]) for predictions in members.values()]

    def fuse(members: dict[str, list[Any]], fusion: str = "mixture") -> list[np.ndarray]:
        mixings = fit_fusions(replace(settings, fusion=fusion), first, members, None).mixings
        of_seeds = zip(*members.values(), strict=True)
        return [
            np.stack([m([p.test_logits for p in each], kind="logits") for m, each in zip(mixings, of_seeds)])
        ]

    models = {
        "zero-shot": logits(tuned, "zero_shot_test"),
        "GLA of zero-shot": [
            np.stack([debias(p.zero_shot_test, p.prior.prior) for p in m]) for m in tuned.values()
        ],
        "CE": logits({name: found["CE", name] for name in strata}),
        "LA": logits(tuned),
        "GLA": logits(with_gla),
        "best single": logits({diagnosis.best_single: tuned[diagnosis.best_single]}),
        "logit mean": fuse(tuned, "logit"),
        "backdoor mixture": fuse(tuned),
        "backdoor mixture of GLA": fuse(with_gla),
        "control: one model's seeds": fuse(of_one),
    }
    gap = {}
    for words, measured in (("strata", diagnosis), ("control", diagnosis.controls["seeds"])):
        gap[words] = measured.own_minus_off_gap.to_json()
        gap[f"{words}, difficulty included"] = measured.P_gap.to_json()
    return {
        "strata": list(strata),
        "control": list(control),
        "best_single": diagnosis.best_single,
        "class_counts": dict(zip(first.train.class_names, first.train.class_counts.tolist(), strict=True)),
        "n_test": len(first.test),
        "no_conclusion": list(diagnosis.no_conclusion),
        "test_counts": first.test.class_counts.tolist(),
        "weights": {name: predictions[0].sha256 for (_, name), predictions in found.items()},
        "P_gap": gap,
        **compare_methods(first.test.labels, first.train.class_counts, models, COMPARISONS).to_metrics(),
    }


def draw(metrics: Mapping[str, Any]) -> list[Axes]:
    """Accuracy of every method (left); the P gap before and after, strata beside control (right)."""
    from causalft.pipelines.pages.diagnosis import error_bars, method_dots
    from causalft.report.style import PALETTE, new_figure

    figure = new_figure(8.6, 3.8)
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    method_dots(left, metrics["methods"])
    left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2)
    shown = (("strata", "blue", "strata"), ("control", "orange", "seeds of one model"))
    for index, (name, colour, label) in enumerate(shown):
        found = [metrics["P_gap"][name][when] for when in ("before", "after")]
        y, error = error_bars(found)
        x = np.array([0, 1]) + 0.06 * index
        right.errorbar(x, y, error, color=PALETTE[colour], marker="os"[index], label=label)
    right.axhline(0, color="#AAAAAA", lw=1)
    right.set_xticks([0.03, 1.03], ["single models", "fused"])
    right.set_xlim(-0.3, 1.4)
    right.set_ylabel("own P gap beyond\nclass difficulty (points)")
    right.grid(axis="y")
    right.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2)
    return [left, right]


def _conclusion(metrics: Mapping[str, Any]) -> list[str]:
    from causalft.analysis.diagnosis.conclusion import interval_text as shown
    from causalft.analysis.diagnosis.no_conclusion import grouped
    from causalft.data.groups import data_groups

    paired, counts = metrics["paired"], list(metrics["class_counts"].values())
    change = {n: f"{shown(gap['before'])} to {shown(gap['after'])}" for n, gap in metrics["P_gap"].items()}
    gaps = f"from {change['strata']} points over the strata, from {change['control']} over seeds of one model"
    gaps = f"no conclusion, for {'; '.join(told)}" if (told := grouped(metrics["no_conclusion"])) else gaps
    tested = [n for n in metrics.get("test_counts", []) if n]
    unequal = []
    if tested and min(tested) < max(tested):
        unequal.append(
            f"The tested classes have {min(tested)} to {max(tested)} test images: accuracy over all classes is the "
            "share of the images, that of a group the mean over its classes."
        )
    return [
        f"The own P gap beyond class difficulty, single and fused: {gaps}.",
        f"Tuning with LA gains {shown(paired['LA, zero-shot'])} points over zero-shot, with CE "
        f"{shown(paired['CE, zero-shot'])}.",
        f"LA less CE: {shown(paired['LA, CE'])} points over all classes, {shown(paired['LA, CE: D-few'])} on the "
        f"D-few ({(data_groups(counts) == 'few').sum()} of {len(counts)}).",
        f"The backdoor mixture less the best single stratum: {shown(paired['mixture, best single'])}; less the logit "
        f"mean: {shown(paired['mixture, logit mean'])}; less the same over seeds of one model: "
        f"{shown(paired['mixture, control'])}.",
        f"GLA less LA: {shown(paired['GLA, LA'])}; the mixture over GLA less the mixture over LA: "
        f"{shown(paired['mixture of GLA, mixture'])}.",
        *unequal,
    ]


def page(run: Run, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Methods and paired comparisons."""
    from causalft.pipelines.pages.diagnosis import headline, method_table, paired_table
    from causalft.report.drawing import draw as drawn
    from causalft.report.html import Figure, Section
    from causalft.report.style import figure_style

    with figure_style():
        drawing = drawn(draw(metrics)[0].figure, run.path / "figures" / "photographs.png")  # type: ignore[arg-type]
    caption = "Accuracy of every method (left); own P gap beyond class difficulty, single and fused (right)."
    figure = Figure(drawing, caption, caption)
    counts = metrics["class_counts"]
    return {
        "title": "Every method on photographs",
        "verdict": headline({**metrics, "own_minus_off_gap": metrics["P_gap"]["strata"]}),
        "facts": {
            "data": f"{Path(metrics['data']).name}: {sum(counts.values())} training images of {len(counts)} classes, "
            f"{max(counts.values())} to {min(counts.values())} a class; {metrics['n_test']} test images",
            "zoo": f"{Path(metrics['zoo']).name}: minis pre-trained on the other half of the images",
            "strata": ", ".join(metrics["strata"]),
            "control": f"pre-trainings of one model: {', '.join(metrics['control'])}",
            "best single stratum (chosen on validation)": metrics["best_single"],
            "weights (sha256)": ", ".join(f"{n} {h[:12]}" for n, h in metrics["weights"].items()),
            "draws of the tail": str(metrics["seeds"]),
        },
        "sections": [
            Section("Methods", metrics["conclusion"], [method_table(metrics["methods"])], [figure]),
            Section(
                "Paired comparisons",
                [
                    "On the same test images and draws. GLA: debiased zero-shot logits added to those tuned with LA."
                ],
                [paired_table(metrics["paired"], COMPARISONS)],
            ),
        ],
    }


def claims() -> tuple[Claim, ...]:
    """What the method claims, on photographs, with its control."""
    from experiments.frame.claims import Claim

    single, control = "paired/mixture, best single", "paired/mixture, control"
    few = "On photographs, LA raises the accuracy of the rarest classes over CE"
    remains = "On photographs, a P gap beyond class difficulty remains under LA"
    ensemble = "On photographs, the mixture of strata beats as many seeds of one model"
    return (
        Claim(few, "paired/LA, CE: D-few", above=0.0, section="Fig. 2"),
        Claim(remains, "P_gap/strata/before", above=0.0, section="Fig. 2"),
        Claim("On photographs, the mixture beats the best single stratum", single, above=0.0, objection=4),
        Claim(ensemble, control, above=0.0, objection=4),
    )


EXPERIMENT = Experiment(
    name="photographs",
    reproduces="Tab. 1 to 3 and Fig. 7",
    claim="adjustment beats CE, LA, GLA and the best single stratum; control: pre-trainings of one model",
    scale="your images: half pre-trains the zoo (causalft zoo pretrain --data IMAGES --control-seeds 2 --out ZOO), the "
    "other half is drawn to imbalance 100 unless it is long-tailed",
    minutes=20,
    compute=compute,
    plans=plan,
    page=page,
    claims=claims,
    seeds=5,
    needs=("data", "zoo"),
)
