"""The sentences say what the numbers say: a loss, nothing, a gain, no claim."""

from __future__ import annotations

import numpy as np
import pytest

from causalft.analysis.class_evidence import class_evidence
from causalft.analysis.class_evidence.families import summarise
from causalft.analysis.class_evidence.words import conclusion, headline
from tests.analysis.class_evidence.made_up import counts_and_accuracy


def document(slope=0.2, *, n_classes=200, apart=0.5, name="made up", seed=1):
    x, y = counts_and_accuracy(3, n_classes, slope=slope, noise=0.06, seed=seed, apart=apart)
    names = [f"class {k}" for k in range(n_classes)]
    found = class_evidence(np.clip(y, 0, 1), x, ["a", "b", "c"], names, n_boot=100, n_permutations=50)
    result = {**found.to_json(), "name": name, "set": "imagenet"}
    return {**result, "headline": headline(result)}


@pytest.mark.parametrize(
    ("settings", "start"),
    [
        ({"slope": 0.2}, "Parameter imbalance: a class a hundred times rarer"),
        ({"slope": 0.0}, "No parameter imbalance is seen: a class a hundred times rarer"),
        ({"slope": -0.2}, "The opposite of parameter imbalance: a class a hundred times rarer"),
        ({"slope": 0.2, "apart": 0.01}, "No slope is claimed, for the priors are too alike"),
        ({"slope": 0.2, "n_classes": 6}, "No slope is claimed, for 6 classes are too few"),
    ],
)
def test_headline_follows_the_slope_and_whether_it_may_be_claimed(settings, start):
    found = document(**settings)
    assert headline(found).startswith(start)
    if found["slope"]["estimate"] < 0 and found["slope"]["claimed"] and settings["slope"]:
        assert f"gains {-found['slope']['estimate']:.1f} [" in headline(found)


def test_conclusion_gives_placebos_rank_of_the_true_order_and_limits():
    text = " ".join(conclusion(document()))
    assert "Placebos, both around 0" in text and "the true one has the largest slope" in text
    assert "mentions in captions" in text


def test_nothing_but_the_numbers_is_said_of_unclaimed_slopes():
    text = " ".join(conclusion(document(apart=0.01)))
    assert "Placebos" not in text and "checks" not in text


def test_paragraph_over_families_counts_those_that_are_seen():
    families = {"vit_b_16": document(name="one"), "rn50": document(0.0, name="two")}
    families["alike"] = document(apart=0.01, name="three")
    found = summarise(families)
    [text] = found["conclusion"]
    assert text.startswith("In 1 of the 2 families") and "It is not seen in two" in text
    assert "no slope is claimed: three" in text
    slopes = [row[2] for row in found["table"]["rows"]]
    assert not slopes[0].startswith("(") and slopes[2].startswith("(")
    nothing = summarise({"rn50": document(0.0, name="two")})
    assert nothing["conclusion"][0].startswith("No family shows")
