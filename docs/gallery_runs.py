"""Write ``gallery/RUN.json``, which the figures of the gallery are drawn from: ``python docs/gallery_runs.py FOLDER``.

FOLDER holds the runs by name (``FOLDER/fit``, ``FOLDER/fig2``, ...); those that are not there keep their document.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gallery import RUNS

__all__ = ["KEPT", "kept", "write"]

HERE = Path(__file__).resolve().parent / "gallery"

_ALWAYS = ("made", "seeds")

KEPT: dict[str, tuple[str, ...]] = {
    "fit": (
        *("zoo", "data", "classes", "n_test", "test_counts", "n_seeds", "class_counts", "strata", "cross_P"),
        *("cross_gap", "P_gap", "own_minus_off_gap", "prior_slope", "fused_minus_members_gap", "fused"),
        *("controls", "class_accuracy", "class_difficulty", "no_conclusion", "mixing", "spread", "confusion"),
    ),
    "diagnose": ("priors/*/classes/*/prior", "priors/*/classes/*/ci95", "priors/*/classes/*/true_prior"),
    "probe": ("class_counts", "strata", "no_conclusion"),
    "wise-ft": ("alphas", "strata", "fused", "fused_at_own_alphas", "no_conclusion"),
    "verify-confounder": (
        *("design", "classes", "cells", "best_accuracy", "estimates", "truth", "tests", "verdict"),
    ),
    "fig2": ("cells", "strata"),
    "fig3": ("curves", "strata"),
    "occlusion": ("losses",),
    "loss_prior": ("models", "losses", "by_loss"),
    "tab4": ("methods",),
}
"""Run -> what its figures show, as keys of ``metrics.json``; ``*`` is every key of a mapping or item of a list."""


def kept(metrics: Mapping[str, Any], paths: tuple[str, ...], digits: int = 5) -> dict[str, Any]:
    """The values at ``paths``, floats to ``digits`` significant digits.

    Examples
    --------
    >>> kept({"a": [{"b": 1.234567, "c": 2}], "d": 3}, ("a/*/b",))
    {'a': [{'b': 1.2346}]}
    """
    return _kept(metrics, [path.split("/") for path in paths], digits)  # type: ignore[no-any-return]


def _kept(value: Any, paths: list[list[str]], digits: int) -> Any:
    if [] in paths:
        return _rounded(value, digits)
    if isinstance(value, list):
        return [_kept(each, [rest for _, *rest in paths], digits) for each in value]
    below = {key: [rest for first, *rest in paths if first in (key, "*")] for key in value}
    return {key: _kept(value[key], rests, digits) for key, rests in below.items() if rests}


def _rounded(value: Any, digits: int) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(each, digits) for key, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each, digits) for each in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def _confusion(run: Path, classes: list[str]) -> list[list[int]]:
    """Rows of true class, predicted class and number of test images."""
    import pandas as pd

    rows = pd.read_parquet(run / "predictions.parquet", columns=["label", "prediction"])
    place = {name: number for number, name in enumerate(classes)}
    counts = rows.map(place.__getitem__).value_counts().sort_index()
    return [[*map(int, pair), int(n)] for pair, n in counts.items()]


def write(folder: Path, into: Path = HERE) -> list[str]:
    """Write the documents of the runs in a folder; return the names of those found."""
    found = [name for name in RUNS if (folder / name / "metrics.json").is_file()]
    for name in found:
        metrics = json.loads((folder / name / "metrics.json").read_text(encoding="utf-8"))
        if name == "fit":
            metrics["confusion"] = _confusion(folder / name, metrics["classes"])
        document = kept(metrics, (*_ALWAYS, *KEPT[name]))
        text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
        (into / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    return found


if __name__ == "__main__":
    if len(sys.argv) != 2 or not (written := write(Path(sys.argv[1]))):
        sys.exit(f"give the folder of one or more of these runs: {', '.join(RUNS)}")
    print(f"written: {', '.join(written)}; the others are as they were")
