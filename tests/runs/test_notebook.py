"""What results look like in a notebook: tables, escaped and of bounded length."""

from __future__ import annotations

from dataclasses import dataclass
from html.parser import HTMLParser

import numpy as np
import pytest

import causalft
from causalft import diagnose, estimate_prior, identify
from causalft.analysis.diagnosis.intervals import Interval
from causalft.data.image_set import ImageSet
from causalft.data.splits import cut_splits
from causalft.methods.estimators.mixing import estimate_stratum_prior, fit_mixing
from causalft.runs.notebook import MOST_ROWS, ShownAsTable, table_html, written
from causalft.scm import causal_graph


class Cells(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.caption, self._in = "", ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self._in = tag
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data):
        if self._in == "caption":
            self.caption += data
        elif self._in in ("td", "th"):
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def images():
    pixels = np.random.default_rng(0).integers(0, 256, (60, 4, 4, 3)).astype(np.uint8)
    return ImageSet.from_arrays(pixels, np.repeat([0, 1], [40, 20]), ["<lynx>", "otter"])


@pytest.fixture(scope="module")
def diagnosis():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(10), 10)
    probs = {name: rng.dirichlet(np.ones(10), (1, 100)) for name in ("a", "b")}
    priors = {"a": np.arange(1, 11) / 55, "b": np.arange(10, 0, -1) / 55}
    fused = (probs["a"] + probs["b"]) / 2
    return diagnose(labels, np.full(10, 50), probs, fused, priors, n_boot=100)


def test_a_set_and_its_splits_count_classes(images):
    found = Cells(images._repr_html_())
    assert found.rows == [["class", "images"], ["<lynx>", "40"], ["otter", "20"]]
    assert found.caption == repr(images)
    splits = cut_splits(images, n_validation=2, n_test=3, seed=0, duplicates=None)
    assert Cells(splits._repr_html_()).rows[1:] == [["<lynx>", "35", "2", "3"], ["otter", "15", "2", "3"]]


def test_priors_are_listed_from_the_most_favoured_class():
    logits = np.log([[0.2, 0.8], [0.2, 0.8], [0.5, 0.5]])
    found = Cells(estimate_prior(logits, [0, 1, 0])._repr_html_())
    assert [row[0] for row in found.rows] == ["class", "1", "0"]
    weights = estimate_stratum_prior([[[0.9, 0.1]] * 5, [[0.5, 0.5]] * 5], [0] * 5, n_boot=20)
    assert Cells(weights._repr_html_()).rows[0] == ["stratum", "P(c)", "low", "high"]


def test_an_identification_lists_its_estimands():
    rows = Cells(identify(causal_graph(), "X", "Y")._repr_html_()).rows
    assert ["backdoor", "C", "P(y | do(x)) = sum_c P(y | x, c) P(c)"] in rows


def test_a_diagnosis_lists_its_models_and_draws_its_figures(diagnosis):
    found = Cells(diagnosis._repr_html_())
    assert [row[0] for row in found.rows] == ["model", "a", "b", "fused"]
    assert found.rows[1][1] == written(diagnosis.strata["a"].accuracy)
    for name in ("gap", "cross_gap", "data_groups", "prior_groups"):
        assert hasattr(getattr(diagnosis, f"plot_{name}")(), "get_title"), name
    for name in ("group_table", "classes", "slope"):
        panels = getattr(diagnosis, f"plot_{name}")()
        assert panels and all(hasattr(axes, "get_title") for axes in panels), name


def test_results_without_a_table_show_their_fields():
    rows = Cells(fit_mixing([[[0.9, 0.1]] * 4], [0, 0, 0, 1])._repr_html_()).rows
    assert ["fusion", "mixture"] in rows and ["stratum_prior", "1"] in rows


def test_long_tables_and_texts_are_shortened():
    rows = Cells(table_html(["n"], [[k] for k in range(1000)])).rows
    assert len(rows) == MOST_ROWS + 2 and rows[-1] == ["999"] and rows[21] == ["... 960 more ..."]
    assert len(written("x" * 10_000)) < 400 and written(list(range(1000))).endswith("(1000 in all)")
    assert written(np.zeros((3, 2))) == "array of shape (3, 2)" and written(np.float32(0.5)) == "0.5"


@pytest.mark.parametrize("name", ["Diagnosis", "ImageSet", "Verification"])
def test_public_results_are_shown_as_tables(name):
    assert issubclass(getattr(causalft, name), ShownAsTable)


def test_the_html_of_a_value_is_escaped():
    @dataclass(frozen=True)
    class Result(ShownAsTable):
        name: str
        interval: Interval

    page = Result("<b>", Interval(0.5, 0.25, 0.75, 0.01))._repr_html_()
    assert "<b>" not in page and ["interval", "0.5 [0.25, 0.75]"] in Cells(page).rows
