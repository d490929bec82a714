"""Figures, page and terminal tables of a diagnosis show its numbers, and cope with what has none."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from causalft.analysis.diagnosis import Diagnosis, diagnose, points
from causalft.analysis.diagnosis import figures as draw
from causalft.cli.evaluate import print_diagnosis
from causalft.methods.priors import prior_caveat
from causalft.pipelines.pages.diagnosis import diagnosis_sections
from causalft.pipelines.pages.fit import write_fit_report
from causalft.report.style import figure_style
from causalft.runs.folder import Run, to_json


@pytest.fixture(scope="module")
def metrics(found: Diagnosis) -> dict[str, Any]:
    return as_fit(found)


def as_fit(found: Diagnosis) -> dict[str, Any]:
    names = [f"class {k}" for k in range(found.n_classes)]
    document = json.loads(to_json(found.to_metrics()))
    return document | {
        "zoo": "mini",
        "weights": dict.fromkeys(found.strata, "0123456789abcdef" * 4),
        "data": {
            "name": "simulated",
            "n_train": 1,
            "n_validation": 2,
            "n_test": found.n,
            "imbalance_factor": 100.0,
        },
        "class_counts": dict(zip(names, document["class_counts"])),
        "seconds": 1.0,
    }


def one_stratum(name: str = "clip") -> Diagnosis:
    labels = np.repeat(np.arange(10), 10)
    probs = np.random.default_rng(0).dirichlet(np.ones(10), (1, 100))
    return diagnose(labels, np.full(10, 50), {name: probs}, probs, {name: np.arange(1, 11) / 55}, n_boot=100)


def texts(axes) -> list[str]:  # type: ignore[no-untyped-def]
    return [t.get_text() for t in axes.texts]


def test_cross_gap_heat_prints_each_gap_with_its_interval(metrics: dict[str, Any]) -> None:
    with figure_style():
        axes = draw.cross_gap_heat(metrics)
    shown = texts(axes)
    assert len(shown) == 4 * 3
    cell = metrics["cross_gap"]["openclip"]["metaclip"]
    assert shown[5].startswith(f"{100 * cell['estimate']:+.1f}\n[{100 * cell['ci95'][0]:.0f}")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["clip", "openclip", "metaclip", "fused"]


def test_bars_are_the_group_accuracies(metrics: dict[str, Any]) -> None:
    with figure_style():
        data, prior = draw.data_group_bars(metrics), draw.prior_group_bars(metrics)
    heights = [bar.get_height() for bar in data.patches]
    expected = [
        100 * metrics["strata"][n]["D"][g] for n in metrics["strata"] for g in ("many", "medium", "few")
    ]
    assert heights[:9] == pytest.approx(expected)
    assert prior.patches[3].get_height() == pytest.approx(100 * metrics["fused"]["P"]["clip"]["many"])
    sizes = [int(label.get_text().split("\n")[1].split()[0]) for label in data.get_xticklabels()]
    counts = np.array(list(metrics["class_counts"].values()))
    assert sizes == [(counts > 100).sum(), ((counts >= 20) & (counts <= 100)).sum(), (counts < 20).sum()]


def test_heat_tables_and_profiles_have_one_panel_per_stratum(metrics: dict[str, Any]) -> None:
    with figure_style():
        tables, profiles = draw.group_heat_tables(metrics), draw.class_profiles(metrics)
    assert len(tables) == 6 and len(profiles) == 3
    few_few = metrics["fused"]["DxP"]["metaclip"]["few"]["few"]
    assert texts(tables[5])[8] == ("none" if few_few is None else f"{100 * few_few:.0f}")
    accuracy = np.asarray(profiles[0].lines[0].get_ydata())
    order = np.argsort(-np.asarray(metrics["strata"]["clip"]["label_prior"]), kind="stable")
    np.testing.assert_allclose(accuracy, 100 * np.array(metrics["class_accuracy"]["clip"])[order])


def test_slope_plot_draws_the_fitted_slope(metrics: dict[str, Any]) -> None:
    with figure_style():
        before, after = draw.slope_plot(metrics)
    line = next(line for line in before.lines if line.get_linewidth() == 2.2)
    x, y = (np.asarray(values, float) for values in line.get_data())
    slope = (y[1] - y[0]) / (np.log(x[1]) - np.log(x[0])) * np.log(100)
    assert slope == pytest.approx(100 * metrics["prior_slope"]["before"]["estimate"])
    assert f"{100 * metrics['prior_slope']['after']['estimate']:.1f} [" in texts(after)[0]


def test_headline_figure_has_strata_and_control(metrics: dict[str, Any]) -> None:
    with figure_style():
        axes = draw.imbalance_before_after(metrics)
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[0].startswith("strata:") and labels[1].startswith("control seeds:\nclip@0")
    assert axes.lines[1].get_xdata()[0] == pytest.approx(
        100 * metrics["own_minus_off_gap"]["before"]["estimate"]
    )


def test_the_page_leads_with_parameter_imbalance_and_names_the_zoo(
    metrics: dict[str, Any], tmp_path: Path
) -> None:
    run = Run.create(
        tmp_path / "run", kind="fit", config={"strata": list(metrics["strata"]), "tuning": {"lr": 0.05}}
    )
    page = write_fit_report(run, metrics).read_text()
    assert page.index(metrics["conclusion"][0][:60]) < page.index("<dl>")
    assert "not the real weights" in page and "0123456789ab" in page and "causalft fit --out" in page
    assert page.count('<img src="data:image/svg+xml') == 7 and "data:image/png" not in page
    assert len(list((run.path / "figures").glob("*.png"))) == 7
    fused = 100 * metrics["fused"]["accuracy"]
    assert f"<td>{fused:.1f}</td>" in page


def test_the_page_of_one_stratum_omits_parameter_imbalance(tmp_path: Path) -> None:
    document = as_fit(one_stratum())
    sections = diagnosis_sections(document, tmp_path)
    names = {figure.path.stem for section in sections for figure in section.figures}
    assert names == {"cross_gap", "class_profiles", "prior_groups", "data_groups", "groups"}
    assert ["slope on log prior, per factor 100", "not measurable", "not measurable", ""] in sections[
        0
    ].tables[0].rows


def test_the_page_explains_the_estimate_by_pretraining_loss_and_old_documents_by_unknown(
    tmp_path: Path,
) -> None:
    document = as_fit(one_stratum())
    assert prior_caveat("unknown") in diagnosis_sections(document, tmp_path)[-1].paragraphs
    document["strata"]["clip"]["pretraining_loss"] = "in-batch"
    assert prior_caveat("in-batch") in diagnosis_sections(document, tmp_path)[-1].paragraphs


def test_the_terminal_shows_tables_and_ends_with_the_conclusion(found: Diagnosis) -> None:
    buffer = io.StringIO()
    print_diagnosis(Console(file=buffer, width=150), found)
    text = " ".join(buffer.getvalue().split())
    assert f"{100 * found.strata['clip'].accuracy.estimate:.1f}" in text and "prior of metaclip" in text
    assert text.index("models fused") < text.index("Parameter imbalance")
    assert text.endswith(" ".join(found.conclusion()[-1].split()))


def test_the_terminal_keeps_within_eighty_columns_and_breaks_no_interval(found: Diagnosis) -> None:
    buffer = io.StringIO()
    print_diagnosis(Console(file=buffer, width=80), found)
    lines = buffer.getvalue().splitlines()
    assert max(map(len, lines)) <= 80 and lines[0].startswith("stratum = one foundation model")
    row = next(line for line in lines if line.startswith("strata "))
    for value in (found.paired["fused_minus_mean_single"], found.own_minus_off_gap.before):
        assert points(value) in row
    assert "2 seeds" in buffer.getvalue() and any(
        "gap before" in line and "gap after" in line for line in lines
    )


def test_the_terminal_breaks_a_long_name_and_no_number() -> None:
    buffer = io.StringIO()
    print_diagnosis(Console(file=buffer, width=80), one_stratum("timm:vit_base_patch16_clip_224.openai"))
    text = buffer.getvalue()
    assert "\N{HORIZONTAL ELLIPSIS}" not in text and max(map(len, text.splitlines())) <= 80
    assert "openai" in text


def test_the_terminal_copes_with_one_stratum_and_empty_groups() -> None:
    buffer = io.StringIO()
    print_diagnosis(Console(file=buffer, width=100), one_stratum())
    assert "one stratum alone" in " ".join(buffer.getvalue().split())
