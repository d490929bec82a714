"""The page of ``causalft explain``, and the maps on the pages of ``fit`` and ``diagnose``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from causalft.analysis.maps import FUSED
from causalft.models.maps import CAUTION, MAPS
from causalft.report.drawing import Drawing, draw, thumbnail_uri
from causalft.report.heat import heat_image
from causalft.report.html import Card, Figure, Section, Table, Thumbnail, made_line, place_name, render_report
from causalft.report.style import figure_style, new_figure
from causalft.runs.folder import Run
from causalft.runs.progress import named

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawn

__all__ = ["chosen_words", "map_card", "map_figure", "map_section", "method_words", "write_explain_page"]


def method_words(method: str) -> str:
    """A kind of map in one sentence.

    Examples
    --------
    >>> method_words("rollout")[:52]
    'rollout (Abnar and Zuidema, ACL 2020): how much of e'
    """
    record = MAPS[method]
    return f"{record.name} ({record.source}): {record.help}"


def chosen_words(metrics: Mapping[str, Any]) -> str:
    """Which kind of map is shown, and why it.

    Parameters
    ----------
    metrics : mapping
        Content of the ``metrics.json`` of an explanation.

    Examples
    --------
    >>> chosen_words({"method": "rollout", "chosen_from": {"rollout": 0.05, "occlusion": 0.0625}})
    'Map: rollout, which has the lowest deletion area on these images (rollout 5.0 %, occlusion 6.2 %).'
    >>> chosen_words({"method": "rollout", "chosen_from": {}})
    'Map: rollout, as asked for.'
    """
    kinds = sorted(metrics["chosen_from"].items(), key=lambda of: of[1])
    if not kinds:
        return f"Map: {metrics['method']}, as asked for."
    areas = ", ".join(f"{name} {100 * area:.1f} %" for name, area in kinds)
    return f"Map: {metrics['method']}, which has the lowest deletion area on these images ({areas})."


def map_figure(frame: NDArray[np.uint8], maps: NDArray[np.float64], titles: Sequence[str]) -> Drawn:
    """Draw an image, and beside it the map of each model: grey where it sees nothing, yellow where it sees most.

    Parameters
    ----------
    frame : (h, w, 3) array of uint8
    maps : (M, h, w) array
    titles : sequence of M + 1 str
        Above the image, then above each map.
    """
    figure = new_figure(2.0 * len(titles), 2.45)
    panels = figure.subplots(1, len(titles))
    for axes, title, heat in zip(panels, titles, [None, *maps], strict=True):
        axes.imshow(np.asarray(heat_image(frame, heat)), interpolation="none")  # a page of megabytes else
        axes.set_title(title, fontsize=8.5, fontweight="normal")
        axes.set_axis_off()
    return figure


def map_section(cards: Sequence[Card]) -> list[Section]:
    """The section of the pages of ``fit`` and ``diagnose``, or none without a card."""
    words = (
        "Misclassified test images of the classes that suffer most; classes that a pre-training rarely showed come "
        "first. Yellow marks the evidence for the wrong class, in the kind of map that has the lowest deletion curve "
        "on these images. The fused map mixes the strata's by what each contributes. "
        f"{CAUTION} After a fit, causalft explain RUN IMAGE does the same for your own images."
    )
    return [Section("What the strata look at in these images", [words], cards=cards)] if cards else []


def map_card(
    title: str,
    lines: Sequence[str],
    frame: NDArray[np.uint8],
    maps: NDArray[np.float64],
    captions: Sequence[str],
) -> Card:
    """Small images for a page: the image, and the map of each model over it.

    Parameters
    ----------
    title : str
    lines : sequence of str
    frame : (h, w, 3) array of uint8
    maps : (M, h, w) array
    captions : sequence of M + 1 str
        Under the image, then under each map.
    """
    shown = [
        Thumbnail(thumbnail_uri(heat_image(frame, heat)), caption, f"{title}: {caption}")
        for caption, heat in zip(captions, [None, *maps], strict=True)
    ]
    return Card(title, list(lines), [("", shown)])


@named("writing the report")
def write_explain_page(
    run: Run,
    metrics: Mapping[str, Any],
    frames: NDArray[np.uint8],
    maps: NDArray[np.float64],
    command: str,
) -> Path:
    """Write the figures and ``report.html`` of an explanation; return the path of the page.

    Parameters
    ----------
    run : Run
    metrics : mapping
        Content of its ``metrics.json``.
    frames : (n, S, S, 3) array of uint8
    maps : (M + 1, n, S, S) array
        Of the strata, and of the fusion last.
    command : str
        Repeats the run.
    """
    reading = [*_READING[: 2 if metrics["steps"] else 1], CAUTION]
    sections = [Section("How to read the numbers", reading)]
    with figure_style():
        for row, found in enumerate(metrics["images"]):
            drawing = _drawing(run, row, found, frames[row], maps[:, row])
            sections.append(
                Section(
                    place_name(found["file"]),
                    [_sentence(found)],
                    tables=[_table(found)],
                    figures=[Figure(drawing, f"Evidence for {found['of']}.", _alt(found))],
                )
            )
    n = len(metrics["images"])
    page = render_report(
        title=f"What the strata look at in {n} image{'' if n == 1 else 's'}",
        verdict=_verdict(metrics),
        details=[chosen_words(metrics).replace(" %", "\N{NO-BREAK SPACE}%"), *_details(metrics)],
        made=made_line(metrics),
        facts={
            "run": place_name(metrics["run"]),
            "zoo": str(metrics["zoo"]),
            "map": method_words(metrics["method"]),
            "fused map": "the strata's maps, mixed by their shares in the fused probability of the class",
        },
        sections=sections,
        command=command,
    )
    return run.write_page(page)


def _drawing(
    run: Run, row: int, found: Mapping[str, Any], frame: NDArray[np.uint8], maps: NDArray[np.float64]
) -> Drawing:
    titles = [place_name(found["file"])[-24:]]
    titles += [
        f"{name}: {found['of']}\n{100 * model['of_probability']:.0f} %"
        for name, model in found["models"].items()
    ]
    return draw(map_figure(frame, maps, titles), run.file("figures") / f"map-{row + 1:03d}.png")


def _sentence(found: Mapping[str, Any]) -> str:
    fused = found["models"][FUSED]
    words = f"The fusion says {fused['prediction']} ({100 * fused['probability']:.0f} %)."
    if found["of"] != fused["prediction"]:
        words += f" Shown is the evidence for {found['of']} ({100 * fused['of_probability']:.0f} %)."
    if found["overlap_of_strata"] is not None:
        words += f" The maps of the strata overlap by {100 * found['overlap_of_strata']:.0f} % on average."
    return words


_COLUMNS = {
    "evidence_share": "share",
    "spread": "spread",
    "overlap_with_fused": "overlap",
    "deletion_auc": "deletion",
    "insertion_auc": "insertion",
}

_READING = (
    "All numbers are percent. Share: what the stratum contributes to the fused probability of the class. Spread: the "
    "share of the image that the map covers in effect. Overlap: with the fused map.",
    "Deletion (lower is better) and insertion (higher is better): mean probability of the class while pixels go, or "
    "come, in the order of the map. metrics.json has those of a random map and of a map of the centre beside them.",
)


def _table(found: Mapping[str, Any]) -> Table:
    models = found["models"]
    columns = [key for key in _COLUMNS if any(key in model for model in models.values())]
    rows = [
        [
            name,
            f"{model['prediction']} ({100 * model['probability']:.0f} %)",
            f"{100 * model['of_probability']:.1f}",
            *(f"{100 * model[key]:.1f}" if key in model else "" for key in columns),
        ]
        for name, model in models.items()
    ]
    return Table(["model", "prediction", f"P({found['of']})", *(_COLUMNS[key] for key in columns)], rows)


def _alt(found: Mapping[str, Any]) -> str:
    return f"The image, and over it the map of {', '.join(found['models'])}, for the class {found['of']}"


def _verdict(metrics: Mapping[str, Any]) -> str:
    images = metrics["images"]
    fused = float(np.mean([found["models"][FUSED]["spread"] for found in images]))
    strata = float(
        np.mean(
            [model["spread"] for found in images for name, model in found["models"].items() if name != FUSED]
        )
    )
    return f"The fused map covers {100 * fused:.0f} % of an image in effect, a single stratum's {100 * strata:.0f} %."


def _details(metrics: Mapping[str, Any]) -> list[str]:
    """Whether the maps are truer to the models than maps that know nothing."""
    images = metrics["images"]
    if not images or "deletion_auc" not in images[0]["models"][FUSED]:
        return [
            "Without deletion and insertion curves nothing here says whether the maps are true to the models."
        ]

    def gain(model: Mapping[str, float], kind: str) -> float:
        own = model["insertion_auc"] - model["deletion_auc"]
        return own - (model[f"{kind}_insertion_auc"] - model[f"{kind}_deletion_auc"])

    models = [model for found in images for model in found["models"].values()]
    words = []
    for kind, name in (("random", "a random map"), ("centre", "a map of the centre")):
        better = sum(gain(model, kind) > 0 for model in models)
        words.append(
            f"{better} of {len(models)} maps are truer to their model than {name} (insertion less deletion)."
        )
    return words
