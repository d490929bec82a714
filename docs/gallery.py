"""The figures of the gallery, from stored documents of small runs: one SVG each, light and dark, as on a phone."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["RUNS", "draw", "figures"]

HERE = Path(__file__).resolve().parent

RUNS: dict[str, str] = {
    "fit": "causalft fit --strata clip,openclip --control seeds",
    "diagnose": "causalft diagnose --data creatures-lt",
    "probe": "causalft probe --strata clip,openclip --losses CE,LA --epochs 3",
    "wise-ft": "causalft wise-ft runs/fit --alphas 0,0.2,0.4,0.6,0.8,1",
    "verify-confounder": "causalft verify-confounder --quick",
    "fig2": "causalft experiment run fig2",
    "fig3": "causalft experiment run fig3",
    "occlusion": "causalft experiment run occlusion",
    "loss_prior": "causalft experiment run loss_prior",
    "tab4": "causalft experiment run tab4",
}
"""Run -> the command that wrote ``gallery/RUN.json``: its ``metrics.json``, without what no figure shows; of ``fit``
also ``confusion``, rows of true class, predicted class and number of test images."""


def draw(folder: Path) -> None:
    """Write every figure into ``folder``.

    Raises
    ------
    RuntimeError
        ``gallery.md`` leaves a figure out, or shows one that is not drawn.
    """
    drawn = figures()
    page = (HERE / "gallery.md").read_text(encoding="utf-8")
    if odd := drawn.keys() ^ set(re.findall(r"_generated/gallery/([\w-]+)\.svg", page)):
        raise RuntimeError(f"docs/gallery.md and docs/gallery.py differ in {', '.join(sorted(odd))}")
    folder.mkdir(parents=True, exist_ok=True)
    for name, svg in drawn.items():
        (folder / f"{name}.svg").write_text(svg, encoding="utf-8")


def figures() -> dict[str, str]:
    """Every figure: name -> SVG."""
    from causalft.report.style import figure_style

    runs = {
        name: json.loads((HERE / "gallery" / f"{name}.json").read_text(encoding="utf-8")) for name in RUNS
    }
    with TemporaryDirectory() as name, figure_style():
        folder = Path(name)
        return {
            **_confounder(runs["verify-confounder"], folder),
            **_fit(runs["fit"], folder),
            **_others(runs, folder),
            **_class_tables(folder),
            **_maps(folder),
            **_experiments(runs, folder),
        }


def _svg(drawn: Figure | Axes | list[Axes], folder: Path) -> str:
    from matplotlib.figure import Figure

    from causalft.report.drawing import draw

    first = drawn[0] if isinstance(drawn, list) else drawn
    figure = first if isinstance(first, Figure) else first.figure
    return draw(figure, folder / "figure.png").narrow  # type: ignore[arg-type]


def _fit(metrics: Mapping[str, Any], folder: Path) -> dict[str, str]:
    from causalft.pipelines.pages.diagnosis import draw_figures

    return {f"fit-{name}": figure.source.narrow for name, figure in draw_figures(metrics, folder).items()}  # type: ignore[union-attr]


def _others(runs: Mapping[str, Any], folder: Path) -> dict[str, str]:
    import numpy as np

    from causalft.analysis.before_training.figures import prior_profiles
    from causalft.methods.estimators.plots import plot_confusion, plot_priors
    from causalft.pipelines.pages.probe import draw_probe
    from causalft.pipelines.pages.wise_ft import draw_wise_ft

    priors = runs["diagnose"]["priors"]
    estimated = {name: np.array([row["prior"] for row in of["classes"]]) for name, of in priors.items()}
    classes, confusion = np.array(runs["fit"]["classes"]), np.array(runs["fit"]["confusion"])
    truth, taken = (np.repeat(confusion[:, k], confusion[:, 2]) for k in (0, 1))
    return {
        "diagnose-priors": _svg(prior_profiles(priors), folder),
        "probe": _svg(draw_probe(runs["probe"]), folder),
        "wise-ft": _svg(draw_wise_ft(runs["wise-ft"]), folder),
        "python-priors": _svg(plot_priors(estimated), folder),
        "python-confusion": _svg(plot_confusion(truth, taken, classes), folder),
    }


def _confounder(metrics: Mapping[str, Any], folder: Path) -> dict[str, str]:
    from causalft.analysis.confounding import figures
    from causalft.analysis.confounding.curve import curve
    from causalft.pipelines.pages.confounder import draw_side_by_side
    from causalft.report.style import new_figure
    from causalft.scm.draw import draw_graph
    from synthetic.designs import make_design
    from synthetic.generate import make_set

    design = make_design("confounded")
    graph = new_figure(1, 1)
    graph.set_layout_engine("none")
    axes = graph.add_axes((0, 0, 1, 1))
    draw_graph(design.graph, axes, treatment="X", outcome="Y", adjustment="C", compact=True)
    samples = {which[0]: make_set(design, which, 20, 0, size=64) for which in ("A_train", "B_train")}
    return {
        "verify-graph": _svg(graph, folder),
        "verify-cells": _svg(figures.draw_cells(metrics["cells"], metrics["best_accuracy"]), folder),
        "verify-estimates": _svg(figures.draw_estimates(metrics["estimates"], metrics["truth"]), folder),
        "verify-samples": _svg(figures.draw_samples(samples, list(metrics["classes"])), folder),
        "verify-side-by-side": _svg(draw_side_by_side({metrics["design"]: metrics}), folder),
        "verify-curve": _svg(figures.draw_curve(curve(design, repetitions=20, progress=False)), folder),
    }


def _class_tables(folder: Path) -> dict[str, str]:
    """Three models on 60 classes, simulated: 30 points lost on a class a hundred times rarer in the pre-training."""
    import numpy as np
    import pandas as pd

    from causalft.methods.priors.settings import KnownPriorFiles
    from causalft.pipelines.workflows.class_evidence import diagnose_class_tables
    from causalft.pipelines.workflows.evidence_settings import EvidenceSettings

    rng = np.random.default_rng(0)
    models, classes = ("one", "two", "three"), [f"class {k}" for k in range(60)]
    log_counts = rng.uniform(1, 5, (3, 60))
    accuracy = 45 + rng.uniform(-15, 15, 60) + 15 * (log_counts - 3) + rng.normal(0, 5, (3, 60))
    table = pd.DataFrame({"class": classes, **dict(zip(models, accuracy.clip(0, 100).round(1)))})
    table.to_csv(folder / "accuracy.csv", index=False)
    counts = {model: folder / f"{model}.csv" for model in models}
    for file, logs in zip(counts.values(), log_counts):
        pd.DataFrame({"class": classes, "count": (10**logs).round().astype(int)}).to_csv(file, index=False)
    diagnose_class_tables(
        EvidenceSettings(class_accuracy=(str(folder / "accuracy.csv"),), n_boot=200, permutations=200),
        KnownPriorFiles(prior_of={model: str(file) for model, file in counts.items()}),
        folder / "run",
    )
    page = (folder / "run" / "report.html").read_text(encoding="utf-8")
    shown = re.findall(r'<figure id="(\w+)">(.*?)</figure>', page, re.DOTALL)
    encoded = {name: re.findall(r'base64,([^"]+)"', markup)[0] for name, markup in shown}
    return {f"tables-{name}": base64.b64decode(svg).decode("utf-8") for name, svg in encoded.items()}


def _maps(folder: Path) -> dict[str, str]:
    """Zero-shot strata on one test image."""
    import numpy as np

    from causalft.analysis.maps import FUSED, truest_map
    from causalft.data.creatures import creatures_longtail
    from causalft.methods.adaptation.settings import Tuning
    from causalft.methods.estimators.maps import FusedView, zero_shot_view
    from causalft.methods.estimators.mixing import Mixing
    from causalft.models.strata.zoo import open_zoo
    from causalft.pipelines.pages.explain import map_figure
    from causalft.report.drawing import draw as draw_forms

    zoo, test, names = open_zoo("mini"), creatures_longtail().test, ("clip", "openclip", "metaclip")
    classes = tuple(test.class_names)
    views = {name: zero_shot_view(zoo.load(name), list(classes), Tuning().template) for name in names}
    view = FusedView(views, Mixing("mixture", (1 / 3,) * 3, 1.0), classes)
    frames = np.stack([view.frame(test.image(0))])
    maps = truest_map(view, frames).look.maps[:, 0]
    drawn = map_figure(frames[0], maps, ["image", *names, FUSED])
    return {"explain-map": draw_forms(drawn, folder / "figure.png").wide}  # a phone would stack the panels


def _experiments(runs: Mapping[str, Any], folder: Path) -> dict[str, str]:
    from experiments import loss_prior, occlusion
    from experiments.frame.curves import draw_curves
    from experiments.frame.groups import draw_groups
    from experiments.frame.study import draw_arms

    draws = {
        "fig2": draw_groups,
        "fig3": draw_curves,
        "occlusion": occlusion.draw,
        "loss_prior": loss_prior.draw,
        "tab4": draw_arms,
    }
    return {f"experiment-{name}": _svg(draw(runs[name]), folder) for name, draw in draws.items()}
