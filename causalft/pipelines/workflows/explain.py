"""The work of ``causalft explain``: what each stratum of a fitted run looks at in images, and what the fusion does."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalft.analysis.maps import FUSED, Curves, curves_of_maps, entropy, overlap, spread, truest_map
from causalft.data.given import given_images
from causalft.errors import CausalFTError, several
from causalft.methods.estimators.fitted import load_fitted
from causalft.methods.estimators.maps import Look, fused_view
from causalft.methods.estimators.run_documents import check_class, open_classifier
from causalft.models.maps import AUTO, CAUTION, check_map
from causalft.pipelines.pages.explain import write_explain_page
from causalft.runs.documents import Document
from causalft.runs.folder import Run
from causalft.runs.lifecycle import new_run
from causalft.runs.notebook import ShownAsTable
from causalft.runs.progress import phase

__all__ = ["Explanation", "explain"]


@dataclass(frozen=True, repr=False)
class Explanation(ShownAsTable):
    """Result of :func:`explain`.

    Attributes
    ----------
    run : Run, optional
        The folder, if one was given.
    metrics : dict
        Content of ``metrics.json``.
    names : tuple of M + 1 str
        The strata, then ``fused``.
    frames : (n, S, S, 3) array of uint8
        The square that the strata see of each image.
    maps : (M + 1, n, S, S) array
        Where each of ``names`` looks; each map sums to 1.
    """

    run: Run | None
    metrics: dict[str, Any]
    names: tuple[str, ...]
    frames: NDArray[np.uint8]
    maps: NDArray[np.float64]

    def _table(self) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        rows = [
            [
                found["file"],
                found["of"],
                name,
                found["models"][name]["of_probability"],
                found["models"][name]["spread"],
            ]
            for found in self.metrics["images"]
            for name in self.names
        ]
        return ["image", "class", "model", "probability", "spread"], rows

    def __repr__(self) -> str:
        return f"Explanation({len(self.frames)} images, {self.metrics['method']}, of {', '.join(self.names)})"


def explain(
    run: str | os.PathLike[str],
    images: Any,
    *,
    of: str | None = None,
    method: str = AUTO,
    out: str | os.PathLike[str] | None = None,
    steps: int = 10,
    fill: str = "mean",
    device: str | None = None,
    command: str = "",
    progress: bool | None = None,
) -> Explanation:
    """Show where every stratum of a fitted run looks in images, and where their fusion looks.

    Parameters
    ----------
    run : path
        Folder of a fit, or of a saved classifier.
    images : ImageSet, path, PIL image, array, or a sequence of such
        As in :meth:`causalft.StrataClassifier.predict_proba`. Of each, the centre square is shown to the strata.
    of : str, optional
        The class whose evidence is shown; by default the class that the fusion predicts for each image.
    method : str
        One of :data:`causalft.models.maps.MAPS`; ``auto`` computes each that the towers have (with ``of``, each that
        depends on the class), and keeps the one with the lowest deletion area, mean over these images, the strata and
        the fusion.
    out : path, optional
        Folder for ``metrics.json``, the figures and the page.
    steps : int
        Of the deletion and insertion curves; 0 leaves them out. ``auto`` needs 2 or more.
    fill : {"mean", "blur"}
        What takes the place of hidden pixels in the curves.
    device : str, optional
        By default that of the run's settings.
    command : str
        Shown on the page.
    progress : bool, optional

    Raises
    ------
    CausalFTError
        If the run is not complete, an image cannot be read, the class is unknown, a tower has no such map, or ``auto``
        has no curves to compare.

    Examples
    --------
    >>> found = explain("runs/fit", ["a.jpg", "b.jpg"])  # doctest: +SKIP
    >>> found.metrics["images"][0]["models"]["fused"]["deletion_auc"]  # doctest: +SKIP
    0.12
    """
    check_map(method, steps)
    if steps < 0:
        raise CausalFTError(f"steps is {steps}; give a number of steps, or 0 for no curves")
    opened = open_classifier(run)
    classes: list[str] = list(opened.metrics["classes"])
    if of is not None:
        check_class(opened, of)
    given = given_images(images)
    with new_run(out, "explain") as new:
        asked: Document = {
            "run": os.path.abspath(run),
            "of": of,
            "method": method,
            "steps": steps,
            "fill": fill,
        }
        new.create({**asked, "images": list(given.files), "fingerprint": given.fingerprint})
        fitted = load_fitted(Path(run), device=device, precision="fp32")
        view = fused_view(fitted.members_, fitted.mixing_, classes)
        with phase(f"reading {several(given, 'image', 'images')}", progress=progress):
            frames = np.stack([view.frame(given.image(row)) for row in range(len(given))])
        wanted = None if of is None else np.full(len(frames), classes.index(of))
        curves: Mapping[str, Mapping[str, Curves]] = {}
        deletion: dict[str, float] = {}
        if method == AUTO:
            with phase(
                "computing every kind of map, and its deletion and insertion curves", progress=progress
            ):
                kept = truest_map(view, frames, wanted, steps=steps, fill=fill)
            method, look, curves, deletion = kept.method, kept.look, kept.curves, kept.deletion
        else:
            with phase(f"computing maps ({method})", progress=progress):
                look = view.look(frames, method, wanted)
            if steps:
                with phase("deleting and inserting pixels", progress=progress):
                    curves = curves_of_maps(view, frames, look.maps, look.classes, steps=steps, fill=fill)
        names = (*view.strata, FUSED)
        found = _numbers(names, look, curves)
        metrics = {
            "run": asked["run"],
            "zoo": opened.metrics["zoo"],
            "weights": {name: each.stratum.sha256 for name, each in view.strata.items()},
            "method": method,
            "chosen_from": deletion,
            **{key: asked[key] for key in ("fill", "steps")},
            "caution": CAUTION,
            "images": [
                {"file": file, **_document(classes, names, look, found, row)}
                for row, file in enumerate(given.files)
            ],
        }

        def page(kept: Run, document: Document) -> None:
            write_explain_page(kept, document, frames, look.maps, command)

        return Explanation(new.kept, new.finish(metrics, page), names, frames, look.maps)


def _numbers(
    names: Sequence[str], look: Look, curves: Mapping[str, Mapping[str, Curves]]
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Numbers of the maps of each model, (n,) each."""
    rows = np.arange(len(look.classes))
    found: dict[str, dict[str, NDArray[np.float64]]] = {}
    for place, name in enumerate(names):
        maps = look.maps[place]
        found[name] = {
            "of_probability": look.probabilities[place, rows, look.classes],
            "entropy": entropy(maps),
            "spread": spread(maps),
        }
        if name != FUSED:
            found[name] |= {
                "evidence_share": look.shares[place],
                "overlap_with_fused": overlap(maps, look.maps[-1]),
            }
        for kind, curve in curves.get(name, {}).items():
            before = "" if kind == "map" else f"{kind}_"
            found[name] |= {
                f"{before}deletion_auc": curve.deletion_auc,
                f"{before}insertion_auc": curve.insertion_auc,
            }
    return found


def _document(
    classes: Sequence[str],
    names: Sequence[str],
    look: Look,
    found: Mapping[str, Mapping[str, NDArray[np.float64]]],
    row: int,
) -> Document:
    """What is known of one image."""
    models = {}
    for place, name in enumerate(names):
        probabilities = look.probabilities[place, row]
        best = int(probabilities.argmax())
        models[name] = {
            "prediction": classes[best],
            "probability": float(probabilities[best]),
            **{key: float(values[row]) for key, values in found[name].items()},
        }
    pairs = [
        float(overlap(look.maps[a, row], look.maps[b, row]))
        for a, b in combinations(range(len(names) - 1), 2)
    ]
    return {
        "of": classes[look.classes[row]],
        "overlap_of_strata": float(np.mean(pairs)) if pairs else None,
        "models": models,
    }
