"""The reconstruction of ULFine against numbers by hand, with each of its parts switched off, and at work."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from causalft.methods.semi.choices import METHODS
from causalft.methods.semi.method import Answers, Step, Task, hard_targets
from causalft.methods.semi.ulfine import Ulfine, apart
from tests.methods.semi.gaussians import gaussians, predict, recall, train_directly

COUNTS = torch.tensor([3.0, 1.0])


def method(adjust=False, **settings):
    settings = {"constraint": 0.0, "threshold": 0.7, **settings}
    return Ulfine(
        Task(COUNTS, torch.eye(2, 3), n_unlabelled=16, epochs=3, adjust=adjust, scale=2.0), **settings
    )


def observe(ulfine, features, labels, beliefs):
    """One batch: labelled features and labels, and fused beliefs of unlabelled images."""
    labelled = Answers(torch.tensor(features), torch.zeros(len(features), 3, 2))
    fused = torch.tensor(beliefs)[:, None].expand(-1, 3, -1)
    rows = torch.arange(len(beliefs))
    ulfine.observe(Step(labelled, torch.tensor(labels), labelled, fused, ulfine.choose(fused, rows), rows))


def test_fused_logits_are_the_weighted_mean_of_prototypes_and_probe():
    ulfine = method(fusion=0.25)
    ulfine.heads[0].weight.data.copy_(torch.tensor([[0.0, 0, 1], [0, 0, 2]]))
    ulfine.heads[0].bias.data.copy_(torch.tensor([0.0, 1]))
    logits = ulfine(torch.tensor([[3.0, 0, 4]])).logits[0].detach()  # unit (0.6, 0, 0.8), scale 2
    assert logits[1].tolist() == pytest.approx([1.2, 0])
    assert logits[2].tolist() == pytest.approx([1.6, 4.2])
    assert logits[0].tolist() == pytest.approx([0.75 * 1.2 + 0.25 * 1.6, 0.25 * 4.2])


def test_pseudo_labels_are_those_of_the_fused_logits():
    ulfine = method(threshold=0.7)
    beliefs = torch.tensor([[[0.8, 0.2], [0.0, 1.0], [0.0, 1.0]], [[0.6, 0.4], [1.0, 0.0], [1.0, 0.0]]])
    targets = ulfine.choose(beliefs, torch.arange(2))
    assert targets.probabilities.tolist() == [[[1, 0]], [[1, 0]]] and targets.weights.tolist() == [[1], [0]]


@pytest.mark.parametrize("fusion", [0.0, 0.25, 1.0])
def test_both_classifiers_learn_with_their_weights_in_the_fusion(fusion):
    ulfine = method(fusion=fusion)
    logits = torch.tensor([[[9.0, 9.0], [0.0, 0.0], [0.0, math.log(3)]]])
    shown = Answers(torch.zeros(1, 3), logits)
    expected = (1 - fusion) * math.log(2) + fusion * math.log(4)
    assert ulfine.labelled_loss(shown, torch.tensor([0])).item() == pytest.approx(expected)
    sure = hard_targets(torch.tensor([[[1.0, 0.0]]]), 0.7)
    assert ulfine.unlabelled_loss(shown, sure).item() == pytest.approx(expected)
    unsure = hard_targets(torch.tensor([[[0.6, 0.4]]]), 0.7)
    assert ulfine.unlabelled_loss(shown, unsure).item() == 0


def test_logit_adjustment_adds_the_label_law_to_both_classifiers():
    shown = Answers(torch.zeros(1, 3), torch.zeros(1, 3, 2))
    assert method(adjust=True).labelled_loss(shown, torch.tensor([1])).item() == pytest.approx(math.log(4))


def test_a_prototype_follows_its_class_mean_as_far_as_its_class_is_predicted():
    ulfine = method(mu=0.5, law_decay=0.0, threshold=0.7)
    # Class means (0, 0, 1) and (1, 0, 0); three pseudo-labels of class 0, one of class 1, one below the threshold.
    beliefs = [[0.9, 0.1]] * 3 + [[0.2, 0.8], [0.4, 0.6]]
    observe(ulfine, [[0.0, 0, 5], [0, 0, 1], [2, 0, 0]], [0, 0, 1], beliefs)
    ulfine.finish_batch(lambda tensor: tensor)
    assert ulfine.law.tolist() == pytest.approx([0.75, 0.25])
    # a = (1/2, 1/6): (1/2, 0, 1/2) and (1/6, 5/6, 0), then of unit length.
    first, second = math.hypot(0.5, 0.5), math.hypot(1 / 6, 5 / 6)
    assert ulfine.prototypes[0].tolist() == pytest.approx([0.5 / first, 0, 0.5 / first])
    assert ulfine.prototypes[1].tolist() == pytest.approx([1 / 6 / second, 5 / 6 / second, 0])


def test_averages_move_by_their_decay_and_a_class_without_an_image_in_the_batch_stays():
    ulfine = method(visual_decay=0.9, law_decay=0.5)
    observe(ulfine, [[0.0, 0, 1], [1, 0, 0]], [0, 1], [[0.9, 0.1]])
    ulfine.finish_batch(lambda tensor: 2 * tensor)  # two processes that saw the same
    assert ulfine.visual.tolist() == [[0, 0, 1], [1, 0, 0]]  # the first mean is taken as it is
    assert ulfine.law.tolist() == [0.75, 0.25]
    observe(ulfine, [[0.0, 1, 0]], [0], [[0.5, 0.5]])
    ulfine.finish_batch(lambda tensor: tensor)
    assert ulfine.visual[0].tolist() == pytest.approx([0, 0.1, 0.9])
    assert ulfine.visual[1].tolist() == [1, 0, 0]
    assert ulfine.law.tolist() == [0.75, 0.25]  # no pseudo-label: as it was


def test_a_class_that_was_never_labelled_keeps_its_text_prototype():
    ulfine = method(mu=1.0)
    observe(ulfine, [[0.0, 0, 1]], [0], [[0.1, 0.9]])
    ulfine.finish_batch(lambda tensor: tensor)
    assert ulfine.prototypes[1].tolist() == [0, 1, 0]


def test_the_constraint_is_a_gradient_step_on_the_squared_cosines_of_pairs():
    generator = torch.Generator().manual_seed(0)
    unit = F.normalize(torch.randn(5, 4, generator=generator, dtype=torch.float64), dim=-1)
    free = unit.clone().requires_grad_()
    cosines = free @ free.T
    pairs = cosines.triu(diagonal=1)
    (gradient,) = torch.autograd.grad(pairs.square().sum() / 2, free)
    torch.testing.assert_close(apart(unit, 0.01), F.normalize(unit - 0.01 * gradient, dim=-1))


@given(st.integers(0, 1000), st.floats(0.0, 0.05))
def test_the_constraint_never_brings_prototypes_together(seed, step):
    unit = F.normalize(torch.randn(6, 8, generator=torch.Generator().manual_seed(seed)), dim=-1)

    def overlap(vectors):
        return (vectors @ vectors.T).triu(diagonal=1).square().sum().item()

    moved = apart(unit, step)
    assert overlap(moved) <= overlap(unit) + 1e-5
    torch.testing.assert_close(moved.norm(dim=-1), torch.ones(6))


DATA = gaussians([120, 30, 8, 4], [40, 40, 80, 160], spread=0.3)


def learnt(task=None, **settings):
    task = DATA.task(epochs=3, scale=10.0) if task is None else task
    return train_directly(Ulfine(task, **settings), DATA)


@pytest.mark.parametrize("fusion", [0.0, 0.5, 1.0])
def test_the_final_classifier_is_the_fused_one(fusion):
    ulfine = learnt(fusion=fusion)
    with torch.no_grad():
        logits = ulfine(DATA.test).logits
    torch.testing.assert_close(predict(ulfine, DATA.test), logits[:, 0])
    row = {0.0: 1, 1.0: 2}.get(fusion)
    if row is not None:
        torch.testing.assert_close(logits[:, 0], logits[:, row])


def overlap(vectors):
    return (vectors @ vectors.T).triu(diagonal=1).square().sum()


def test_each_part_can_be_switched_off():
    start = F.normalize(DATA.weight, dim=-1)
    on = {"mu": 0.1, "constraint": 0.01}
    full = learnt(**on)
    torch.testing.assert_close(learnt(mu=0.0, constraint=0.0).prototypes, start)
    # Fitting brings prototypes nearer to the class means, the constraint keeps them apart.
    assert ((full.visual * full.prototypes).sum(1) > (full.visual * start).sum(1)).all()
    assert overlap(full.prototypes) < overlap(learnt(**{**on, "constraint": 0.0}).prototypes)
    # Without a weight in the fusion, the probe gets no gradient, and prototypes do not matter.
    torch.testing.assert_close(learnt(**on, fusion=0.0).heads[0].weight.detach(), start)
    same_probe = (learnt(mu=mu, fusion=1.0).final()[0] for mu in (0.0, 0.1))
    torch.testing.assert_close(*same_probe)


def test_fitting_mends_a_prototype_that_text_has_misplaced():
    """The text of class 2 lies nearer to class 3; its labelled images tell."""
    weight = DATA.weight.clone()
    weight[2] = F.normalize(0.45 * DATA.weight[2] + 0.55 * DATA.weight[3], dim=-1)
    task = replace(DATA.task(epochs=5, scale=10.0), weight=weight)
    fitted, unfitted = (recall(learnt(task, mu=mu, fusion=0.0), DATA) for mu in (0.1, 0.0))
    assert fitted[2] > unfitted[2] + 0.1


def test_the_record_says_that_it_is_a_reconstruction_and_what_is_ours():
    record = METHODS["ulfine"]
    assert "reconstruction" in record.help and "reconstruction" in Ulfine.__doc__
    for choice in ("constraint", "fusion", "mu", "threshold", "moving average"):
        assert choice in record.ours


def test_dual_logit_is_ulfine_whose_prototypes_stay_those_of_the_text():
    task = Task(COUNTS, torch.eye(2, 3), n_unlabelled=16, epochs=3, adjust=False, scale=2.0)
    dual, whole = (METHODS[name].make(task) for name in ("dual-logit", "ulfine"))
    for each in (dual, whole):
        observe(each, [[0.6, 0.0, 0.8], [0.0, 1.0, 0.0]], [0, 1], [[0.99, 0.01], [0.98, 0.02]])
        each.finish_batch(lambda counted: counted)
    assert torch.equal(dual.prototypes, torch.eye(2, 3))
    assert not torch.allclose(whole.prototypes, torch.eye(2, 3), atol=1e-4)
    settings = METHODS["ulfine"].settings
    assert METHODS["dual-logit"].settings == {key: settings[key] for key in METHODS["dual-logit"].settings}
