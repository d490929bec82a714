"""The stored documents of the gallery are what docs/gallery_runs.py writes."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.fixture
def gallery_runs(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    return importlib.import_module("gallery_runs")


def test_stored_documents_hold_what_the_figures_show(gallery_runs):
    assert gallery_runs.KEPT.keys() == gallery_runs.RUNS.keys()
    for name, paths in gallery_runs.KEPT.items():
        stored = json.loads((DOCS / "gallery" / f"{name}.json").read_text(encoding="utf-8"))
        assert gallery_runs.kept(stored, ("made", "seeds", *paths)) == stored, name


def test_documents_are_written_from_a_folder_of_runs(gallery_runs, tmp_path):
    import pandas as pd

    into, run = tmp_path / "gallery", tmp_path / "runs" / "fit"
    into.mkdir()
    run.mkdir(parents=True)
    (run / "metrics.json").write_text('{"classes": ["ant", "bee"], "n_test": 3, "seconds": 1.0}')
    rows = {"label": ["bee", "ant", "bee"], "prediction": ["ant", "ant", "ant"]}
    pd.DataFrame(rows).to_parquet(run / "predictions.parquet")
    assert gallery_runs.write(tmp_path / "runs", into) == ["fit"]
    written = json.loads((into / "fit.json").read_text())
    assert written == {"classes": ["ant", "bee"], "n_test": 3, "confusion": [[0, 0, 1], [1, 0, 2]]}
    assert [path.name for path in into.iterdir()] == ["fit.json"]


def test_the_gallery_shows_the_maps_of_the_strata_and_their_fusion(gallery_runs, tmp_path):
    from causalft.report.style import figure_style

    gallery = importlib.import_module("gallery")
    with figure_style():
        [(name, svg)] = gallery._maps(tmp_path).items()
    assert svg.count("<image") == 5 and f"gallery/{name}.svg" in (DOCS / "gallery.md").read_text()
