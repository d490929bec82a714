"""Terms of strata that learn together, against closed forms, and what their gradients do."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from causalft.errors import CausalFTError
from causalft.methods.adaptation.terms import Term, alignment, likeness


def drawn(m=3, n=5, k=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(m, n, k, dtype=torch.float64, generator=generator)
    return logits, torch.randint(k, (n,), generator=generator)


def test_likeness_is_the_mean_cosine_of_the_doubts():
    logits, labels = drawn()
    found = []
    for a, b in ((0, 1), (0, 2), (1, 2)):
        for i, y in enumerate(labels.tolist()):
            rest = [k for k in range(4) if k != y]
            one, other = (logits[c, i].softmax(-1)[rest] for c in (a, b))
            found.append(float(one @ other / (one.norm() * other.norm())))
    assert float(likeness(logits, labels)) == pytest.approx(sum(found) / len(found))


def test_likeness_counts_the_chosen_images_alone_and_leaves_the_true_class_alone():
    logits, labels = drawn()
    chosen = torch.tensor([True, False, True, False, False])
    expected = likeness(logits[:, chosen], labels[chosen])
    assert torch.equal(likeness(logits, labels, chosen), expected)
    assert float(likeness(logits, labels, torch.zeros(5, dtype=torch.bool))) == 0
    assert float(likeness(logits[:1], labels)) == 0
    surer = logits.clone()
    surer[:, torch.arange(5), labels] += 3.0
    assert float(likeness(surer, labels)) == pytest.approx(float(likeness(logits, labels)))


def test_a_step_down_the_term_lets_members_doubt_apart():
    logits, labels = drawn()
    leaf = logits.requires_grad_()
    before = likeness(leaf, labels)
    before.backward()
    after = likeness(logits.detach() - 0.5 * leaf.grad, labels)
    assert float(after) < float(before.detach())


def test_alignment_is_the_distance_of_mean_directions():
    generator = torch.Generator().manual_seed(1)
    features = [torch.randn(6, 3, generator=generator) for _ in range(2)]
    chosen = [torch.tensor([True, True, False, False, False, True]), torch.zeros(6, dtype=torch.bool)]
    unit = F.normalize(features[0], dim=-1)
    apart = unit[[0, 1, 5]].mean(0) - unit[[2, 3, 4]].mean(0)
    assert float(alignment(features, chosen)) == pytest.approx(
        float(apart @ apart) / 2
    )  # the second counts 0


def test_a_term_knows_which_classes_each_member_saw_seldom():
    logits, labels = torch.randn(2, 4, 3), torch.tensor([0, 1, 2, 1])
    features = [torch.randn(4, 5), torch.randn(4, 5)]
    few = ((True, False, False), (False, True, False))
    rare = torch.tensor([True, True, False, True])
    found = Term("likeness", 2.0, few)(logits, features, labels)
    assert float(found) == pytest.approx(2 * float(likeness(logits, labels, rare)))
    of_each = [torch.tensor([True, False, False, False]), torch.tensor([False, True, False, True])]
    found = Term("alignment", 0.5, few)(logits, features, labels)
    assert float(found) == pytest.approx(0.5 * float(alignment(features, of_each)))
    nothing = Term("likeness", 0.0)(logits.requires_grad_(), features, labels)
    assert nothing.requires_grad and float(nothing.detach()) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("unlikeness", 1.0), "no term is named 'unlikeness'; choose likeness or alignment"),
        (("likeness", -1.0), "strength of a term is -1.0; give a number of at least 0"),
        (("likeness", float("nan")), "strength of a term is nan"),
        (("likeness", float("inf")), "strength of a term is inf"),
        (("alignment", 1.0), "an alignment needs the classes"),
    ],
)
def test_a_term_that_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(CausalFTError, match=message):
        Term(*arguments)


def test_few_classes_fit_the_members_and_whole_batches():
    term = Term("likeness", 1.0, ((True, False, False), (False, True, False)))
    term.check(2, 3, 1)
    Term("likeness", 1.0).check(5, 7, 4)  # about all classes it is a mean over images
    with pytest.raises(CausalFTError, match="2 rows of 3; give one row for each of the 3 members"):
        term.check(3, 3, 1)
    with pytest.raises(CausalFTError, match="one entry for each of the 4 classes"):
        term.check(2, 4, 1)
    with pytest.raises(CausalFTError, match="needs whole batches; train in one process, with accumulation 1"):
        term.check(2, 3, 2)
