"""Losses for long-tailed sets: formulas by hand, where they coincide, their optimum, and extreme logits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from causalft.errors import CausalFTError
from causalft.models.tuning.choices import LOSSES, optimum_of
from causalft.models.tuning.losses import make_loss

COUNTS = [500, 60, 7, 1]
LOG_Q = np.log([0.1, 0.6, 0.05, 0.25])
UNDEFINED_WITHOUT_A_CLASS = ("LDAM", "CB", "GRW", "BS", "LA", "LADE", "GLA-Train", "LA-PW", "LA-DRO")
NEED_A_PRIOR = ("GLA-Train", "LA-PW", "LA-DRO")
WRITTEN_OUT = ("CE", "Focal", *UNDEFINED_WITHOUT_A_CLASS[:-1])


def make(name, counts=COUNTS, **options):
    return make_loss(name, counts, model_log_prior=LOG_Q if name in NEED_A_PRIOR else None, **options)


def batch(seed, n=12, n_classes=4, spread=5.0):
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(n, n_classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, n_classes, (n,), generator=generator)


# --- formulas, written out sample by sample in plain Python ---


def softmax(row):
    exps = [math.exp(value) for value in row]
    return [value / sum(exps) for value in exps]


def by_hand(name, logits, labels):
    """Each loss as in its paper, at the default settings."""
    rows, ys, n = logits.tolist(), labels.tolist(), len(labels)
    prior = [count / sum(COUNTS) for count in COUNTS]

    def mean_of(term):
        return sum(term(row, y) for row, y in zip(rows, ys)) / n

    def nll(row, y):
        return -math.log(softmax(row)[y])

    def shifted(shift):
        return mean_of(lambda row, y: nll([f + s for f, s in zip(row, shift)], y))

    def weighted(weights):
        average = sum(w * p for w, p in zip(weights, prior))
        return mean_of(lambda row, y: weights[y] / average * nll(row, y))

    if name == "CE":
        return mean_of(nll)
    if name == "Focal":
        return mean_of(lambda row, y: (1 - softmax(row)[y]) ** 2 * nll(row, y))
    if name == "LDAM":
        margin = [0.5 * (min(COUNTS) / count) ** 0.25 for count in COUNTS]
        return mean_of(lambda row, y: nll([f - 25 * margin[y] * (k == y) for k, f in enumerate(row)], y))
    if name == "CB":
        return weighted([(1 - 0.9999) / (1 - 0.9999**count) for count in COUNTS])
    if name == "GRW":
        return weighted([1 / p for p in prior])
    if name == "BS":
        return shifted([math.log(count) for count in COUNTS])
    if name == "LA":
        return shifted([math.log(p) for p in prior])
    if name == "GLA-Train":
        return shifted([math.log(p) + q for p, q in zip(prior, LOG_Q)])
    if name == "LA-PW":
        raw = [math.exp(-0.5 * q) for q in LOG_Q]
        w = [one / sum(r * p for r, p in zip(raw, prior)) for one in raw]
        return mean_of(
            lambda row, y: w[y] * nll([f + math.log(p) + math.log(v) for f, p, v in zip(row, prior, w)], y)
        )
    assert name == "LADE"
    regulariser = -sum(row[y] for row, y in zip(rows, ys)) / n
    for k in range(4):
        bound = math.log(sum(math.exp(row[k]) / (4 * prior[y]) for row, y in zip(rows, ys)) / n)
        regulariser += prior[k] * (bound + 0.1 * bound**2)
    return shifted([math.log(p) for p in prior]) + 0.1 * regulariser


@pytest.mark.parametrize("name", WRITTEN_OUT)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_losses_equal_their_formulas(name, seed):
    logits, labels = batch(seed)
    assert float(make(name)(logits, labels)) == pytest.approx(by_hand(name, logits, labels), rel=1e-9)


def test_lade_regulariser_equals_the_paper_on_the_whole_set():
    """-1/N_y sum over the images of y, weighted by P_S(y), where the batch has the counts of the training set."""
    counts = [6, 3, 1]
    labels = torch.arange(3).repeat_interleave(torch.tensor(counts))
    logits, _ = batch(0, n=10, n_classes=3)
    weight = (10 / (3 * torch.tensor(counts).double()))[labels]
    expected = 0.0
    for k in range(3):
        bound = (weight * logits[:, k].exp()).mean().log()
        expected += counts[k] / 10 * (-logits[labels == k, k].mean() + bound + 0.3 * bound**2)
    difference = make("LADE", counts, alpha=1.0, lam=0.3)(logits, labels) - make("BS", counts)(logits, labels)
    assert float(difference) == pytest.approx(float(expected), rel=1e-9)


# --- where losses coincide ---

AS_CE = {
    "Focal": {"gamma": 0},
    "LDAM": {"max_margin": 0},
    "CB": {"beta": 0},
    "GRW": {"rho": 0},
    "LA": {"tau": 0},
    "GLA-Train": {"tau": 0, "data_tau": 0},
}


@given(seed=st.integers(0, 10_000), count=st.integers(1, 10_000))
@settings(max_examples=40, deadline=None)
def test_losses_reduce_to_cross_entropy_in_their_limits(seed, count):
    logits, labels = batch(seed)
    plain = float(F.cross_entropy(logits, labels))
    for name in ("CE", "BS", "LA", "CB", "GRW"):
        assert float(make(name, [count] * 4)(logits, labels)) == pytest.approx(plain, rel=1e-9), name
    for name, options in AS_CE.items():
        assert float(make(name, **options)(logits, labels)) == pytest.approx(plain, rel=1e-9), name


@given(
    seed=st.integers(0, 10_000),
    counts=st.lists(st.integers(1, 5000), min_size=4, max_size=4),
    tau=st.floats(0, 3),
)
@settings(max_examples=40, deadline=None)
def test_bs_is_la_and_gla_train_with_a_uniform_prior_is_la(seed, counts, tau):
    logits, labels = batch(seed)
    la = float(make("LA", counts)(logits, labels))
    assert float(make("BS", counts)(logits, labels)) == pytest.approx(la, rel=1e-9)
    assert float(make("LADE", counts, alpha=0)(logits, labels)) == pytest.approx(la, rel=1e-9)
    uniform = make_loss("GLA-Train", counts, model_log_prior=np.full(4, -7.0), tau=tau)
    assert float(uniform(logits, labels)) == pytest.approx(la, rel=1e-9)


def test_cb_approaches_grw_as_beta_approaches_one():
    logits, labels = batch(1)
    grw, far, near = (
        make(name, **options)(logits, labels)
        for name, options in (("GRW", {}), ("CB", {"beta": 0.9}), ("CB", {"beta": 1 - 1e-9}))
    )
    assert float(near) == pytest.approx(float(grw), rel=1e-5)
    assert abs(float(far - grw)) > 1e-2


@pytest.mark.parametrize("name", ["CB", "GRW"])
def test_weights_have_mean_one_over_the_training_set(name):
    labels = torch.arange(4).repeat_interleave(torch.tensor(COUNTS))
    assert float(make(name)(torch.zeros(len(labels), 4), labels)) == pytest.approx(math.log(4), rel=1e-6)


# --- what they converge to ---

# Four kinds of images x, three classes y: p(x|y) and a long-tailed prior, as 1,000 rows.
LIKELIHOOD = torch.tensor([[0.6, 0.2, 0.1, 0.1], [0.1, 0.6, 0.2, 0.1], [0.2, 0.1, 0.1, 0.6]]).double()
PRIOR = torch.tensor([0.7, 0.25, 0.05]).double()


def optimum(loss):
    repeats = (1000 * PRIOR[:, None] * LIKELIHOOD).round().long()
    y, x = (grid.flatten() for grid in torch.meshgrid(torch.arange(3), torch.arange(4), indexing="ij"))
    x, y = x.repeat_interleave(repeats.flatten()), y.repeat_interleave(repeats.flatten())
    table = torch.zeros(4, 3).double().requires_grad_(True)
    solver = torch.optim.LBFGS(
        [table], max_iter=500, tolerance_grad=1e-10, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def closure():
        solver.zero_grad()
        value = loss(table[x], y)
        value.backward()
        return value

    solver.step(closure)
    return table.detach()


def test_lade_learns_the_density_ratio_itself_and_bs_learns_it_up_to_a_constant():
    counts = 1000 * PRIOR
    ratio = (LIKELIHOOD / LIKELIHOOD.mean(0)).log().T  # log p(x|y) / p_u(x), shape (x, y)
    lade, bs = optimum(make_loss("LADE", counts)), optimum(make_loss("BS", counts))
    assert torch.allclose(lade, ratio, atol=1e-3)
    assert torch.allclose(bs.softmax(1), ratio.softmax(1), atol=1e-5)
    assert not torch.allclose(bs, ratio, atol=0.05)


def test_gla_train_removes_the_model_prior_from_tuned_logits():
    q = torch.tensor([0.2, 0.7, 0.1]).double()
    found = optimum(make_loss("GLA-Train", 1000 * PRIOR, model_log_prior=q.log()))
    expected = (LIKELIHOOD.T / q).log()
    assert torch.allclose(found.softmax(1), expected.softmax(1), atol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_optimum_of_each_loss_is_as_its_record_says(name):
    """Free logits less the prior are the posterior under balanced classes, or they are not."""
    q = torch.tensor([0.2, 0.7, 0.1]).double()
    found = optimum(make_loss(name, 1000 * PRIOR, model_log_prior=q.log()))
    balanced = (LIKELIHOOD / LIKELIHOOD.sum(0)).T

    def error(log_prior):
        return float(((found - log_prior).softmax(1) - balanced).abs().max())

    left = {"training posterior": error(PRIOR.log()), "balanced posterior": error(0.0)}
    for what, distance in left.items():
        if what == optimum_of(name):
            assert distance < (0.01 if name == "CB" else 1e-5)  # CB's weights are almost 1 / n
        else:
            assert distance > 0.1
    if name == "GLA-Train":
        assert error(-q.log()) < 1e-5  # taking log q out once more would be once too often


def test_an_unknown_loss_has_no_optimum():
    with pytest.raises(CausalFTError, match="no loss is named 'LDMA'"):
        optimum_of("LDMA")


# --- numbers ---


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_is_the_derivative(name):
    logits, labels = batch(2, n=5, spread=1.0)
    assert torch.autograd.gradcheck(lambda f: make(name)(f, labels), logits.requires_grad_(True))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("height", [30.0, 300.0])
def test_extreme_logits_stay_finite_in_single_precision(name, height):
    logits = (height * (2 * torch.eye(4)[[0, 1, 2, 3, 0, 3]] - 1)).requires_grad_(True)
    labels = torch.tensor([0, 1, 2, 3, 3, 0])  # four surely right, two surely wrong
    loss = make(name)(logits, labels)
    loss.backward()
    assert loss.dtype == torch.float32 and torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[4:] != 0).any()


def test_focal_with_a_power_below_one_has_a_gradient_where_p_rounds_to_one():
    logits = torch.tensor([[90.0, -90.0]], requires_grad=True)
    make("Focal", [1, 1], gamma=0.5)(logits, torch.tensor([0])).backward()
    assert torch.equal(logits.grad, torch.zeros(1, 2))


@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_is_widened(name):
    logits, labels = batch(3)
    half = logits.bfloat16()
    found = make(name)(half, labels)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(float(make(name)(half.double(), labels)), rel=1e-5)


def test_loss_accepts_several_precisions():
    logits, labels = batch(4)
    loss = make("LA")
    wide, narrow, again = loss(logits, labels), loss(logits.float(), labels), loss(logits, labels)
    assert wide.dtype == again.dtype == torch.float64 and narrow.dtype == torch.float32
    assert torch.equal(wide, again) and float(narrow) == pytest.approx(float(wide), rel=1e-5)


# --- mistakes ---


@pytest.mark.parametrize("name", LOSSES)
def test_empty_class_is_named_if_the_loss_is_undefined(name):
    counts = [5, 0, 3, 0]
    if name in UNDEFINED_WITHOUT_A_CLASS:
        with pytest.raises(CausalFTError, match=rf"class 1 has no .*2 of 4 .* loss {name} is undefined"):
            make(name, counts)
        with pytest.raises(CausalFTError, match="class 'bee' has no training image"):
            make(name, counts, class_names=["ant", "bee", "cow", "doe"])
    else:
        logits, labels = batch(5)
        assert torch.isfinite(make(name, counts)(logits, labels))


def test_gla_train_without_the_data_prior_needs_no_image_of_a_class():
    logits, labels = batch(6)
    found = make("GLA-Train", [5, 0, 3, 0], data_tau=0)(logits, labels)
    assert float(found) == pytest.approx(float(F.cross_entropy(logits + torch.from_numpy(LOG_Q), labels)))


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("LAA", {}, "no loss is named 'LAA'; did you mean 'LA' or"),
        ("LA", {"tua": 1.0}, "LA has no setting 'tua'; did you mean 'tau'"),
        ("CE", {"tau": 1.0}, "CE has no setting 'tau'; it has none"),
        ("LA", {"tau": -1}, "tau of the loss LA is -1"),
        ("LA", {"tau": "1"}, "tau of the loss LA is '1'; give a number"),
        ("Focal", {"gamma": math.nan}, "gamma of the loss Focal is nan"),
        ("LDAM", {"scale": 0}, "scale of the loss LDAM is 0; give a positive"),
        ("LDAM", {"max_margin": -0.1}, "max_margin of the loss LDAM"),
        ("CB", {"beta": 1.0}, "beta of the loss CB is 1.0"),
        ("GRW", {"rho": math.inf}, "rho of the loss GRW is inf"),
        ("LADE", {"lam": -1}, "lam of the loss LADE"),
    ],
)
def test_bad_names_and_settings_are_refused(name, options, message):
    with pytest.raises(CausalFTError, match=message):
        make(name, **options)


@pytest.mark.parametrize(
    "counts, message",
    [
        ([[1, 2]], "not of shape"),
        ([3], "two or more classes"),
        ([3, -1], "count of class 1 is -1"),
        ([3, math.nan], "count of class 1 is nan"),
        ([0, 0], "every class count is 0"),
    ],
)
def test_bad_counts_are_refused(counts, message):
    with pytest.raises(CausalFTError, match=message):
        make_loss("CE", counts)


def test_gla_train_needs_a_valid_model_prior():
    with pytest.raises(CausalFTError, match="GLA-Train needs model_log_prior.*or use LA"):
        make_loss("GLA-Train", COUNTS)
    for wrong in (
        LOG_Q[:3],
        np.log([1.0, 0, 0, 0], where=[True, False, False, False], out=np.full(4, -np.inf)),
    ):
        with pytest.raises(CausalFTError, match="model_log_prior must hold 4 finite numbers"):
            make_loss("GLA-Train", COUNTS, model_log_prior=wrong)


@pytest.mark.parametrize("name", LOSSES)
def test_logits_of_another_number_of_classes_are_refused(name):
    with pytest.raises(CausalFTError, match=r"made for 4 classes, the logits have the shape \(2, 3\)"):
        make(name)(torch.zeros(2, 3), torch.tensor([0, 1]))


def test_settings_are_listed_with_their_defaults():
    assert {name: LOSSES[name].settings for name in ("CE", "Focal", "GLA-Train")} == {
        "CE": {},
        "Focal": {"gamma": 2.0},
        "GLA-Train": {"tau": 1.0, "data_tau": 1.0},
    }
