"""Losses against closed forms: the optimum of logit adjustment, and which contrastive loss keeps the prior."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from causalft.models.pretraining.pretrain import caption_bank_loss, in_batch_contrastive_loss
from causalft.models.tuning.losses.logit_adjustment import logit_adjusted_loss

# A world of four kinds of images x and three classes y: balanced p(x|y), and a long-tailed class prior.
LIKELIHOOD = torch.tensor([[0.6, 0.2, 0.1, 0.1], [0.1, 0.6, 0.2, 0.1], [0.2, 0.1, 0.1, 0.6]]).double()
PRIOR = torch.tensor([0.7, 0.25, 0.05]).double()
JOINT = (PRIOR[:, None] * LIKELIHOOD).T  # (x, y)
POSTERIOR = JOINT / JOINT.sum(1, keepdim=True)
BALANCED = LIKELIHOOD.T / LIKELIHOOD.T.sum(1, keepdim=True)


def minimise(loss, start):
    free = start.clone().requires_grad_(True)
    optimizer = torch.optim.LBFGS(
        [free], max_iter=500, tolerance_grad=1e-10, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        value = loss(free)
        value.backward()
        return value

    optimizer.step(closure)
    return free.detach()


def test_ce_learns_the_posterior_and_la_the_balanced_one():
    x, y = (grid.flatten() for grid in torch.meshgrid(torch.arange(4), torch.arange(3), indexing="ij"))
    weight = JOINT[x, y]

    def expected(log_prior):
        def loss(table):
            each = torch.stack(
                [logit_adjusted_loss(table[i][None], j[None], log_prior) for i, j in zip(x, y)]
            )
            return (weight * each).sum()

        return minimise(loss, torch.zeros(4, 3).double()).softmax(1)

    assert torch.allclose(expected(None), POSTERIOR, atol=1e-5)
    assert torch.allclose(expected(PRIOR.log()), BALANCED, atol=1e-5)


@given(seed=st.integers(0, 999))
@settings(max_examples=25, deadline=None)
def test_la_is_cross_entropy_of_shifted_logits(seed):
    generator = torch.Generator().manual_seed(seed)
    logits, labels = (
        torch.randn(9, 3, generator=generator).double(),
        torch.randint(0, 3, (9,), generator=generator),
    )
    by_hand = -(logits + PRIOR.log()).log_softmax(1)[torch.arange(9), labels].mean()
    assert logit_adjusted_loss(logits, labels, PRIOR.log()) == pytest.approx(float(by_hand))
    assert logit_adjusted_loss(logits, labels, None) == pytest.approx(float(F.cross_entropy(logits, labels)))


def test_caption_bank_by_hand():
    """Two images of class 0, one of class 1, three captions; unit vectors in the plane."""
    image, bank = torch.tensor([[1.0, 0], [0, 1], [0, 1]]), torch.tensor([[1.0, 0], [0, 1], [-1, 0]])
    labels = torch.tensor([0, 0, 1])

    def minus_log_softmax(own, *others):
        return -math.log(math.exp(own) / sum(map(math.exp, (own, *others))))

    to_text = (minus_log_softmax(2, 0, -2) + minus_log_softmax(0, 2, 0) + minus_log_softmax(2, 0, 0)) / 3
    # a class's caption against the images of the batch, averaged over its own images; the absent class has none
    class_0 = (minus_log_softmax(2, 0, 0) + minus_log_softmax(0, 2, 0)) / 2
    class_1 = minus_log_softmax(2, 0, 2)
    expected = (to_text + (class_0 + class_1) / 2) / 2
    found = caption_bank_loss(image, bank, labels, torch.tensor(2.0))
    assert float(found) == pytest.approx(expected, rel=1e-6)


def test_in_batch_by_hand_counts_a_repeated_caption_as_a_negative():
    image, bank = torch.tensor([[1.0, 0], [1, 0]]), torch.tensor([[1.0, 0], [0, 1]])
    same = in_batch_contrastive_loss(image, bank, torch.tensor([0, 0]), torch.tensor(5.0))
    assert float(same) == pytest.approx(math.log(2), rel=1e-6)
    apart = in_batch_contrastive_loss(torch.eye(2), bank, torch.tensor([0, 1]), torch.tensor(5.0))
    assert float(apart) == pytest.approx(math.log(1 + math.exp(-5)), rel=1e-5)


def population_batch(n=2000):
    """Images and labels in their exact frequencies: (n,) and (n,)."""
    counts = (JOINT * n).round().long()
    x, y = (grid.flatten() for grid in torch.meshgrid(torch.arange(4), torch.arange(3), indexing="ij"))
    repeats = counts.flatten()
    return x.repeat_interleave(repeats), y.repeat_interleave(repeats)


def free_logits(criterion):
    """Optimise free logits s(x, y) under a contrastive loss: an image is e_x, the caption of y is column y of s."""
    x, y = population_batch()
    pictures, one = torch.eye(4).double()[x], torch.tensor(1.0).double()
    return minimise(lambda s: criterion(pictures, s.T, y, one), torch.zeros(4, 3).double())


def log_odds(table):
    return table - table.mean(1, keepdim=True)


@pytest.mark.slow
def test_the_caption_bank_keeps_the_class_prior_in_the_logits():
    """The image-to-text term alone has its optimum at log p(y|x): the prior of the pre-training data is in it."""
    x, y = population_batch()
    pictures, one = torch.eye(4).double()[x], torch.tensor(1.0).double()

    def image_to_text(table):
        return F.cross_entropy(one * pictures @ table, y)

    exact = minimise(image_to_text, torch.zeros(4, 3).double())
    assert torch.allclose(exact.softmax(1), POSTERIOR, atol=2e-3)
    # the whole loss: the caption bank's logits follow the posterior, the in-batch ones the balanced posterior
    bank, in_batch = free_logits(caption_bank_loss), free_logits(in_batch_contrastive_loss)
    kept, lost = log_odds(bank), log_odds(in_batch)
    to_posterior, to_balanced = log_odds(POSTERIOR.log()), log_odds(BALANCED.log())
    assert torch.allclose(kept, to_posterior, atol=0.02)
    assert torch.allclose(lost, to_balanced, atol=0.02)
    # what is left of log p(y) in the logits: all of it, and none of it
    share = (log_odds(PRIOR.log()[None]) ** 2).sum()
    for table, expected in ((kept, 1.0), (lost, 0.0)):
        left = ((table - to_balanced).mean(0) * log_odds(PRIOR.log()[None])).sum() / share
        assert float(left) == pytest.approx(expected, abs=0.02)
