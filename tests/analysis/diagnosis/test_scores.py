"""Methods side by side: closed forms of the estimates, intervals that know the pairing, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from causalft.analysis.diagnosis.conclusion import interval_text
from causalft.analysis.diagnosis.scores import compare_methods
from causalft.errors import CausalFTError
from causalft.pipelines.pages.diagnosis import method_dots, method_table, paired_table
from causalft.report.style import figure_style, new_figure

LABELS = np.repeat(np.arange(4), 100)
COUNTS = [500, 150, 40, 5]  # many, many, medium, few


def scores(accuracy: list[float], seed: int = 0, n_seeds: int = 2) -> np.ndarray:
    """Scores (n_seeds, n, 4) that are right for exactly that share of each class."""
    found = np.zeros((n_seeds, len(LABELS), 4))
    rng = np.random.default_rng(seed)
    for s in range(n_seeds):
        for k, share in enumerate(accuracy):
            rows = np.flatnonzero(LABELS == k)
            right = rng.permutation(len(rows)) < round(share * len(rows))
            found[s, rows, np.where(right, k, (k + 1) % 4)] = 1
    return found


MODELS = {
    "single": [scores([0.9, 0.7, 0.5, 0.1], 1), scores([0.7, 0.5, 0.3, 0.3], 2)],
    "fused": [scores([0.9, 0.7, 0.6, 0.5], 3)],
}
GAIN = {"gain": ("fused", "single", "accuracy"), "few": ("fused", "single", "few")}


def test_the_estimates_are_the_closed_forms() -> None:
    found = compare_methods(LABELS, COUNTS, MODELS, GAIN, n_boot=200)
    single = {measure: value.estimate for measure, value in found.methods["single"].items()}
    assert single == pytest.approx({"accuracy": 0.5, "many": 0.7, "medium": 0.4, "few": 0.2})
    assert found.paired["gain"].estimate == pytest.approx(0.675 - 0.5)
    assert found.paired["few"].estimate == pytest.approx(0.3)
    assert found.paired["few"].low > 0 and found.paired["few"].p < 0.05


def test_a_method_compared_with_itself_differs_by_zero() -> None:
    same = {"same": ("fused", "again", "accuracy")}
    found = compare_methods(LABELS, COUNTS, {**MODELS, "again": MODELS["fused"]}, same, n_boot=200)
    assert found.paired["same"].ci95 == [0, 0]  # the same images: nothing is left to vary


def test_an_unbalanced_test_set_weighs_the_classes_by_their_images() -> None:
    kept = np.r_[0:100, 100:150, 200:210, 300:310]
    models = {"m": [MODELS["fused"][0][:, kept]]}
    found = compare_methods(LABELS[kept], COUNTS, models, {}, n_boot=200)
    right = (models["m"][0].argmax(-1) == LABELS[kept]).mean()
    assert found.methods["m"]["accuracy"].estimate == pytest.approx(right)
    assert found.paired == {}


def test_a_group_without_a_tested_class_is_null() -> None:
    found = compare_methods(LABELS, [500, 150, 140, 130], MODELS, GAIN, n_boot=200).to_metrics()
    assert found["methods"]["fused"]["few"] is None and found["paired"]["few"] is None
    assert found["paired"]["gain"] is not None
    table = method_table(found["methods"])
    assert table.rows[0][0] == "single" and table.rows[0][2:] == ["50.0", "none", "none"]
    assert paired_table(found["paired"], GAIN).rows[1] == ["fused less single (few)", "not measurable", ""]


@pytest.mark.parametrize(
    ("comparison", "words"),
    [
        (("fusd", "single", "accuracy"), "no method 'fusd'; did you mean 'fused'"),
        (("fused", "single", "fev"), "no measure 'fev'; did you mean 'few'"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(comparison: tuple[str, str, str], words: str) -> None:
    with pytest.raises(CausalFTError, match=words):
        compare_methods(LABELS, COUNTS, MODELS, {"x": comparison})


def test_the_figure_shows_every_method_the_first_on_top() -> None:
    found = compare_methods(LABELS, COUNTS, MODELS, GAIN, n_boot=200)
    with figure_style():
        axes = new_figure(4, 3).subplots()
        method_dots(axes, found.to_metrics()["methods"])
        assert [text.get_text() for text in axes.get_yticklabels()] == ["fused", "single"]
        drawn = {c.get_label(): c.lines[0].get_xdata() for c in axes.containers}
    assert drawn["all classes"] == pytest.approx([67.5, 50]) and drawn["D-few"] == pytest.approx([50, 20])
    assert interval_text({"estimate": -0.01, "ci95": [-0.02, 0.0], "p": 0.05}) == "-1.0 [-2.0, 0.0]"
