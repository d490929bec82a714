"""``causalft graph design``: what it prints is what the design is."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest

from causalft.analysis.confounding.curve import truth
from synthetic.designs import make_design
from tests import command_line

run = partial(command_line.run, "graph", "design")


def test_tables_truth_and_graph(tmp_path):
    result = run("confounded", "--classes", "cat,dog", "--out", tmp_path / "graph.svg")
    assert result.exit_code == 0, result.output
    exact = truth(make_design("confounded", ["cat", "dog"]).scm("B"))
    assert "C -> X, C -> Y, U -> X, X -> B, B -> Y" in result.stdout
    assert "C=0, cat: cat head 0.95, cat body 0.05" in result.stdout
    assert f"{100 * exact.tv:.1f} points of total variation" in result.stdout
    line = next(line for line in result.stdout.splitlines() if line.startswith("dog body "))
    shown = [float(word) for word in line.split()[2:]]
    assert shown == pytest.approx(
        [exact.p_x[3], exact.p_y_given_x[3, 1], exact.p_y_do_x[3, 1], exact.tv_per_code[3]], abs=5e-5
    )
    assert (tmp_path / "graph.svg").read_text().lstrip().startswith("<?xml")


def test_json_holds_the_law():
    result = run("selection", "--set", "B", "--strength", 0.5, "--json")
    document = json.loads(result.stdout)
    design = make_design("selection", strength=0.5)
    assert np.allclose(document["p_c_given_y"], design.law("B")) and ["Y", "S"] in document["edges"]
    assert document["truth"]["selected"] and document["best_accuracy"] == pytest.approx(
        design.best_accuracy()
    )
    assert json.loads(run("selection", "--set", "A", "--json").stdout)["truth"]["selected"] is False


def test_impossible_image_has_no_truth():
    result = run("paper", "--strength", 1)
    assert result.exit_code == 0 and "no truth: P(Y | X) needs P(X) > 0" in result.stdout


def test_mistakes_are_one_line():
    for words, message in (
        (["papper"], "did you mean 'paper'"),
        (["paper", "--strength", 2], "out of range"),
    ):
        result = run(*words)
        assert (
            result.exit_code == 2
            and message in result.stderr
            and len(result.stderr.strip().splitlines()) == 1
        )
