"""Adjusted classifiers against the exact law: with features that are codes of the image they reach P(Y | do(X))."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from causalft.analysis.confounding.curve import Truth, law_and_truth, total_variation, truth
from causalft.analysis.confounding.result import estimate_from_pictures
from causalft.methods.estimators.adjusted_networks import ADJUSTED, adjust_pictures, log_stratum_prior
from causalft.scm import DiscreteSCM
from synthetic import designs
from synthetic.designs import make_design

N = 20_000
CLASSES = ["cat", "dog"]


class Codes(nn.Module):
    """A network whose features are the one-hot code of a picture, and whose logits are a table of codes."""

    def __init__(self, logits: np.ndarray) -> None:
        super().__init__()
        self.head = nn.Linear(len(logits), logits.shape[1], bias=False)
        with torch.no_grad():
            self.head.weight.copy_(torch.from_numpy(logits.T))

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x))


def pictures(codes: np.ndarray, n_codes: int) -> torch.Tensor:
    return torch.eye(n_codes)[torch.from_numpy(codes)][:, :, None, None]


def balanced_logits(joint: np.ndarray) -> np.ndarray:
    """log P(y | x, c) - log P(y | c), the best of it over c: what the LA loss of each stratum learns; (2 K, K)."""
    cxy = joint.sum(2)
    prior = cxy.sum(1) / cxy.sum((1, 2))[:, None]
    weights = cxy.sum(2, keepdims=True)
    logits = np.log(cxy / cxy.sum(2, keepdims=True)) - np.log(prior)[:, None]
    logits -= logits.mean(2, keepdims=True)
    return (weights * logits).sum(0) / weights.sum(0)


def solve(name: str | DiscreteSCM, seed: int = 0, **options):
    """Draw rows of B, let codes stand for pictures, and estimate."""
    joint, exact = law_and_truth(
        name if isinstance(name, DiscreteSCM) else make_design(name, CLASSES, **options)
    )
    rng = np.random.default_rng(seed)
    cells = rng.choice(joint.size, size=2 * N, p=joint.ravel() / joint.sum())
    c, x, b, y = (column.reshape(2, N) for column in np.unravel_index(cells, joint.shape))
    n_codes = joint.shape[1]
    found = adjust_pictures(
        Codes(balanced_logits(joint)),  # type: ignore[arg-type]
        (pictures(x[0], n_codes), y[0], c[0], b[0]),
        (pictures(x[1], n_codes), y[1], c[1]),
        pictures(np.arange(n_codes), n_codes),
        log_stratum_prior(y[0], c[0], joint.shape[3]),
        seed=0,
    )
    return found, exact


@pytest.fixture(scope="module")
def confounded():
    return solve("confounded", strength=0.8)


@pytest.mark.parametrize("name", ADJUSTED)
def test_each_adjusted_estimator_reaches_p_y_do_x_and_not_p_y_given_x(confounded, name):
    found, exact = confounded
    p = found.probabilities[name]
    assert p.shape == exact.p_y_do_x.shape and np.allclose(p.sum(1), 1)
    done = exact.p_x @ total_variation(p, exact.p_y_do_x)
    seen = exact.p_x @ total_variation(p, exact.p_y_given_x)
    assert exact.tv > 0.1, "the design must tell the two apart"
    # no logits make f(x) + log P(y | c) the law P(y | x, c) of this design, in which contents are misread: some points
    # are left to `backdoor` however many rows there are
    assert done < (0.04 if name == "backdoor" else 0.02) and seen > 0.1, (done, seen, exact.tv)


def test_stratified_logits_are_exact_where_nothing_is_misread():
    parts = [("head", "body")] * 2
    model = designs.visible(CLASSES, parts, strength=0.8, ambiguity=0.15, slip=0.05, arrow=True)
    found, exact = solve(model)
    assert exact.tv > 0.1 and found.temperature == pytest.approx(1, abs=0.1)
    assert exact.p_x @ total_variation(found.probabilities["backdoor"], exact.p_y_do_x) < 0.02


def test_an_unweighted_head_reaches_p_y_given_x():
    from causalft.methods.estimators.adjusted_networks import _head

    design = make_design("confounded", CLASSES, strength=0.8)
    exact = truth(design.scm("B"))
    law = design.joint("B")
    cells = np.random.default_rng(1).choice(law.size, size=N, p=law.ravel() / law.sum())
    _, x, _, y = np.unravel_index(cells, law.shape)
    p = _head(np.eye(law.shape[1])[x], y, 2, 0)(np.eye(law.shape[1]))
    assert exact.p_x @ total_variation(p, exact.p_y_given_x) < 0.02
    assert exact.p_x @ total_variation(p, exact.p_y_do_x) > 0.1


def test_weights_grow_with_the_strength(confounded):
    weak, _ = solve("confounded", strength=0.2)
    strong, _ = confounded
    assert 0 < strong.effective_share < weak.effective_share <= 1
    assert strong.largest_weight > weak.largest_weight >= 1
    assert strong.temperature > 0


def test_adjustment_does_not_correct_a_selected_sample():
    found, exact = solve("selection", strength=0.8)
    for name in ("backdoor", "ipw"):
        assert exact.p_x @ total_variation(found.probabilities[name], exact.p_y_do_x) > 0.05


def test_stratum_priors_by_hand_are_never_zero():
    p = np.exp(log_stratum_prior(np.array([0, 0, 0, 1]), np.zeros(4, int), 2))
    assert np.allclose(p, [[0.7, 0.3], [0.5, 0.5]])


@pytest.mark.parametrize("lost", ["labels", "factors", "contents"])
def test_columns_with_one_value_are_survived(lost):
    rng = np.random.default_rng(0)
    x = rng.integers(4, size=40)
    columns = {"labels": x // 2, "factors": rng.integers(2, size=40), "contents": x // 2}
    columns[lost] = np.zeros(40, int)
    found = adjust_pictures(
        Codes(np.eye(4)[:, :2]),  # type: ignore[arg-type]
        (pictures(x, 4), columns["labels"], columns["factors"], columns["contents"]),
        (pictures(x, 4), columns["labels"], columns["factors"]),
        pictures(np.arange(4), 4),
        log_stratum_prior(columns["labels"], columns["factors"], 2),
        seed=0,
    )
    for p in found.probabilities.values():
        assert np.isfinite(p).all() and np.allclose(p.sum(1), 1)


def test_estimates_are_scored_over_the_codes_that_images_show():
    exact = Truth(
        ("a", "b"),
        ("0", "1"),
        np.array([0.25, 0.75]),
        np.array([[1.0, 0.0], [0.0, 1.0]]),
        np.full((2, 2), 0.5),
    )
    tables = np.array([[[0.9, 0.1], [0.3, 0.7]], [[0.7, 0.3], [0.5, 0.5]]])
    found = estimate_from_pictures({"naive": tables}, exact)["naive"]
    assert found.per_seed == pytest.approx((0.25 * 0.4 + 0.75 * 0.2, 0.25 * 0.2))
    assert found.tv_to_do == pytest.approx(0.15) and found.ci95[0] == 0.0 < found.ci95[1]
    assert found.tv_to_seen == pytest.approx(np.mean([0.25 * 0.1 + 0.75 * 0.3, 0.25 * 0.3 + 0.75 * 0.5]))
    tables[0, 1] = np.nan
    assert estimate_from_pictures({"naive": tables}, exact)["naive"].per_seed == pytest.approx((0.4, 0.2))
    assert np.isnan(estimate_from_pictures({"naive": tables[1:]}, exact)["naive"].ci95).all()
