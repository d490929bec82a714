"""Table 8: M = 1, 2, 3 strata, beside the control that the table lacks: M = 1, 2, 3 seeds of one model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments import Experiment

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from causalft.methods.estimators.settings import FitSettings
    from causalft.runs.folder import Run

__all__ = ["EXPERIMENT", "analyse", "draw"]

STRATA = ("clip", "openclip", "metaclip")
SEEDS_OF_ONE = ("clip", "clip@1", "clip@2")
FAMILIES = {"strata": STRATA, "seeds of clip": SEEDS_OF_ONE}


def trains(quick: bool) -> tuple[FitSettings, tuple[str, ...]]:
    """The five members, with the default recipe."""
    from causalft.methods.adaptation.settings import default_tuning
    from causalft.methods.estimators.settings import FitSettings

    settings = FitSettings(zoo="mini", tuning=replace(default_tuning("mini"), epochs=3 if quick else 10))
    return settings, tuple(dict.fromkeys(STRATA + SEEDS_OF_ONE))


def compute(create: Callable[..., Run], quick: bool, seeds: int) -> dict[str, Any]:
    """Tune the five members for each downstream seed and fuse every subset."""
    from causalft.methods.estimators.member import fit_member
    from causalft.models.strata.zoo import open_zoo
    from causalft.pipelines.workflows.fit_data import load_splits

    run = create()
    (settings, names), zoo = trains(quick), open_zoo("mini")
    probs: dict[str, list[np.ndarray]] = {name: [] for name in names}
    priors, weights = {}, {}
    for seed in range(seeds):
        splits = load_splits(settings, seed)
        for name in names:
            folder = run.path / "members" / str(seed) / name
            found, _ = fit_member(splits, name, zoo, replace(settings.tuning, seed=seed), folder=folder)
            probs[name].append(found.test_probs)
            priors[name], weights[name] = found.prior.prior, found.sha256
    metrics = analyse(
        splits.test.labels,
        splits.train.class_counts,
        {name: np.stack(found) for name, found in probs.items()},
        {name: priors[name] for name in STRATA},
    )
    return {**metrics, "zoo": "mini", "weights": weights}


def analyse(
    labels: np.ndarray,
    class_counts: np.ndarray,
    probs: Mapping[str, np.ndarray],
    priors: Mapping[str, np.ndarray],
    n_boot: int = 1000,
) -> dict[str, Any]:
    """Accuracy, D groups and own P gap beyond class difficulty for every M, with paired intervals.

    Parameters
    ----------
    labels : (n,) array
    class_counts : (K,) array
    probs : mapping of the five members to (S, n, K) arrays
    priors : mapping of the strata to (K,) arrays

    Returns
    -------
    dict
        ``rows[family][M]`` with intervals, ``paired``, ``table``, ``conclusion``.
    """
    from causalft.analysis.diagnosis import bootstrap
    from causalft.analysis.diagnosis.parameter_imbalance import gap_vectors, group_vectors, off_gap
    from causalft.data.groups import GROUPS, data_groups
    from causalft.methods.estimators.fusion import fuse
    from causalft.models.strata.cards import MemberName

    n_classes = len(class_counts)
    subsets = [(f, s) for f, names in FAMILIES.items() for m in (1, 2, 3) for s in combinations(names, m)]
    fused = np.stack(
        [fuse(np.stack([probs[name] for name in s]), kind="probabilities").argmax(-1) for _, s in subsets]
    )
    shares = np.bincount(labels, minlength=n_classes) / len(labels)
    by_prior = gap_vectors(np.stack([priors[name] for name in STRATA]), shares > 0)
    by_count = group_vectors(data_groups(class_counts), shares > 0)
    rows = {
        (f, m): [i for i, (g, s) in enumerate(subsets) if g == f and len(s) == m]
        for f in FAMILIES
        for m in (1, 2, 3)
    }
    # A subset is judged on the groups of its members' own priors; seeds of clip all have clip's.
    owned = [sorted({STRATA.index(MemberName.parse(name).stratum) for name in s}) for _, s in subsets]

    def statistics(class_acc: np.ndarray) -> dict[str, np.ndarray]:
        a = np.nan_to_num(class_acc)
        accuracy, gap, counts = a @ shares, a @ by_prior.T, a @ by_count.T
        beyond = gap - off_gap(gap[:, rows["strata", 1]])[:, None]
        own = np.stack([beyond[:, i, j].mean(axis=-1) for i, j in enumerate(owned)], axis=1)
        found = {}
        for (family, m), chosen in rows.items():
            found[f"{family}/{m}/accuracy"] = accuracy[:, chosen].mean(axis=1)
            found[f"{family}/{m}/gap"] = own[:, chosen].mean(axis=1)
            found[f"{family}/{m}/D"] = counts[:, chosen].mean(axis=1)
        gain = {f: found[f"{f}/3/accuracy"] - found[f"{f}/1/accuracy"] for f in FAMILIES}
        fall = {f: found[f"{f}/1/gap"] - found[f"{f}/3/gap"] for f in FAMILIES}
        found |= {f"gain, {f}": value for f, value in gain.items()} | {
            f"gap fall, {f}": v for f, v in fall.items()
        }
        found["gain, strata minus seeds"] = gain["strata"] - gain["seeds of clip"]
        found["accuracy at M = 3, strata minus seeds"] = (
            found["strata/3/accuracy"] - found["seeds of clip/3/accuracy"]
        )
        return found

    found = bootstrap(statistics, fused == labels, labels, n_classes, n_boot=n_boot)
    result = {
        family: {
            str(m): {
                "accuracy": found[f"{family}/{m}/accuracy"].to_json(),
                "own_minus_off_gap": found[f"{family}/{m}/gap"].to_json(),
                "D": {g: v.to_json() if v.exists else None for g, v in zip(GROUPS, found[f"{family}/{m}/D"])},
            }
            for m in (1, 2, 3)
        }
        for family in FAMILIES
    }
    paired = {name: value.to_json() for name, value in found.items() if "/" not in name}
    return {"rows": result, "paired": paired, "table": _table(result), "conclusion": _conclusion(paired)}


def draw(metrics: Mapping[str, Any]) -> list[Axes]:
    """Accuracy (left) and own P gap beyond class difficulty (right) against M, strata beside seeds of one model."""
    from causalft.pipelines.pages.diagnosis import error_bars
    from causalft.report.style import PALETTE, new_figure

    figure = new_figure(7.2, 3.0)
    left, right = figure.subplots(1, 2)
    for index, (family, of_m) in enumerate(metrics["rows"].items()):
        for axes, key in ((left, "accuracy"), (right, "own_minus_off_gap")):
            values = [of_m[str(m)][key] for m in (1, 2, 3)]
            y, error = error_bars(values)
            colour = PALETTE["blue"] if index == 0 else PALETTE["orange"]
            axes.errorbar([1, 2, 3], y, error, color=colour, marker="o" if index == 0 else "s", label=family)
    for axes, label in ((left, "accuracy (%)"), (right, "own P gap beyond\nclass difficulty (points)")):
        axes.set_xticks([1, 2, 3])
        axes.set_xlabel("M, number of fused models")
        axes.set_ylabel(label)
        axes.grid(axis="y")
    right.axhline(0, color="#AAAAAA", lw=1)
    left.legend(loc="lower right")
    return [left, right]


def _table(result: Mapping[str, Any]) -> dict[str, Any]:
    from causalft.analysis.diagnosis.conclusion import interval_text

    columns = ["fused over", "M", "accuracy", "D-many", "D-medium", "D-few", "own P gap beyond difficulty"]
    rows = []
    for family, of_m in result.items():
        for m, values in of_m.items():
            groups = ["none" if v is None else f"{100 * v['estimate']:.1f}" for v in values["D"].values()]
            rows.append(
                [
                    family,
                    m,
                    interval_text(values["accuracy"]),
                    *groups,
                    interval_text(values["own_minus_off_gap"]),
                ]
            )
    return {
        "columns": columns,
        "rows": rows,
        "caption": "Percent and points, 95 % intervals; mean over subsets of size M.",
    }


def _conclusion(paired: Mapping[str, Any]) -> list[str]:
    from causalft.analysis.diagnosis.conclusion import interval_text as shown

    return [
        f"From M = 1 to 3 the own P gap falls by {shown(paired['gap fall, strata'])} points over the strata and by "
        f"{shown(paired['gap fall, seeds of clip'])} over seeds of one model.",
        f"Accuracy gains {shown(paired['gain, strata'])} points over the strata and "
        f"{shown(paired['gain, seeds of clip'])} over seeds of one model: a difference of "
        f"{shown(paired['gain, strata minus seeds'])}. What seeds give is an ordinary ensemble's gain.",
    ]


def page(run: Run, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Both tables and the figure."""
    from causalft.analysis.diagnosis.conclusion import interval_text, p_text
    from causalft.report.drawing import draw as drawn
    from causalft.report.html import Figure, Section, Table
    from causalft.report.style import figure_style

    with figure_style():
        drawing = drawn(draw(metrics)[0].figure, run.path / "figures" / "tab8.png")  # type: ignore[arg-type]

    def fall(family: str) -> str:
        return f"{100 * metrics['paired'][f'gap fall, {family}']['estimate']:.1f}"

    caption = "Accuracy and own P gap beyond class difficulty against the number of fused models."
    table = Table(**metrics["table"])
    paired = Table(
        ["difference (points)", "95 % interval", "p"],
        [[name, interval_text(v), p_text(v["p"])] for name, v in metrics["paired"].items()],
    )
    return {
        "title": "Table 8: how many strata, and is it their number?",
        "verdict": f"Three strata lower the own P gap by {fall('strata')} points, three seeds of one model by "
        f"{fall('seeds of clip')}.",
        "facts": {
            "zoo": "mini: small models that this project pre-trained on the embedded world, not the real weights",
            "weights (sha256)": ", ".join(f"{n} {h[:12]}" for n, h in metrics["weights"].items()),
            "data": "creatures-lt",
            "downstream seeds": str(metrics["seeds"]),
        },
        "sections": [
            Section("M = 1, 2, 3", list(metrics["conclusion"]), [table], [Figure(drawing, caption, caption)]),
            Section("Paired comparisons", ["On the same test images."], [paired]),
        ],
    }


EXPERIMENT = Experiment(
    name="tab8",
    reproduces="Tab. 8",
    claim="M = 1, 2, 3 strata lower the P gap; control: as many seeds of one model",
    scale="creatures-lt, mini zoo, every subset of clip, openclip, metaclip and of clip, clip@1, clip@2",
    minutes=5,
    compute=compute,
    trains=trains,
    page=page,
)
