"""FixMatch against numbers by hand, the heads that all methods have, and the settings of a method."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from causalft.errors import CausalFTError
from causalft.methods.adaptation.settings import Tuning
from causalft.methods.semi.choices import METHODS
from causalft.methods.semi.fixmatch import fixmatch
from causalft.methods.semi.method import Answers, Method, Targets, Task, mean_loss
from causalft.methods.semi.settings import SemiSettings, check_semi, semi_tuning
from tests.methods.semi.gaussians import blank, gaussians, recall, train_directly


def task_of(counts=(3.0, 1.0), **options) -> Task:
    return Task(torch.tensor(counts), torch.eye(len(counts)), 8, 10, **options)


@pytest.mark.parametrize(("adjust", "share"), [(True, 3 / 4), (False, 1 / 2)])
def test_labelled_images_are_learnt_by_adjusted_or_plain_cross_entropy(adjust, share):
    method = fixmatch(task_of(adjust=adjust))
    answers = Answers(torch.zeros(2, 2), torch.zeros(2, 1, 2))
    assert method.labelled_loss(answers, torch.tensor([0, 0])).item() == pytest.approx(-math.log(share))


def test_a_class_without_an_image_counts_as_half_of_one():
    assert task_of((1.5, 0.0)).log_prior.exp().tolist() == pytest.approx([0.75, 0.25])


def test_the_confident_class_of_the_weak_view_is_the_target():
    method = fixmatch(task_of(), threshold=0.8)
    logits = torch.tensor([[[math.log(9), 0.0]], [[0.0, math.log(3)]], [[math.log(4), 0.0]]])
    beliefs = method.beliefs(Answers(torch.zeros(3, 2), logits))
    assert beliefs[:, 0, 0].tolist() == pytest.approx([0.9, 0.25, 0.8])
    targets = method.choose(torch.tensor([[[0.9, 0.1]], [[0.25, 0.75]], [[0.8, 0.2]]]), torch.arange(3))
    assert targets.probabilities[:, 0].tolist() == [[1, 0], [0, 1], [1, 0]]
    assert targets.weights[:, 0].tolist() == [1, 0, 1]  # as probable as the threshold is enough


def test_unlabelled_loss_is_a_mean_over_all_images_not_over_those_kept():
    """Two images of four count, with log(4/3) and log 4; the weight is 3."""
    method = fixmatch(task_of(), unlabelled_weight=3.0)
    strong = torch.tensor([math.log(3), 0.0]).expand(4, 1, 2)
    one_hot = torch.eye(2)[[0, 1, 0, 1]][:, None]
    loss = method.unlabelled_loss(
        Answers(torch.zeros(4, 2), strong), Targets(one_hot, torch.tensor([[1.0], [1.0], [0.0], [0.0]]))
    )
    assert loss.item() == pytest.approx(3 * (math.log(4 / 3) + math.log(4)) / 4)


def test_no_gradient_of_an_image_below_the_threshold():
    logits = torch.randn(3, 1, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    targets = Targets(torch.eye(4)[[0, 1, 2]][:, None], torch.tensor([[1.0], [0.0], [1.0]]))
    mean_loss(logits, targets).backward()
    expected = (logits.softmax(-1) - targets.probabilities) / 3
    assert logits.grad is not None
    assert torch.allclose(logits.grad[[0, 2]], expected[[0, 2]], atol=1e-6)
    assert logits.grad[1].abs().max() == 0


@pytest.mark.parametrize("name", [name for name, record in METHODS.items() if record.unlabelled])
def test_final_is_one_linear_map_of_the_unit_feature(name):
    """Weight (K, d) and bias (K,): the scale of the head is applied to the feature, whatever its length."""
    data = gaussians([20, 8, 3], [60, 40, 20])
    method = train_directly(METHODS[name].make(data.task(epochs=2), threshold=0.6), data)
    if method.needs_blank:
        method.see_blank(blank(method, data))
    weight, bias = method.final()
    assert weight.shape == data.weight.shape and bias.shape == (3,)
    assert not weight.requires_grad and not bias.requires_grad
    assert recall(method, data).mean() > 0.5
    if type(method).final is Method.final:
        logits = method.task.scale * F.normalize(data.test, dim=-1) @ weight.T + bias
        with torch.no_grad():
            assert torch.allclose(logits, method(7 * data.test).logits[:, method.main], atol=1e-4)


def test_unlabelled_images_raise_the_accuracy():
    """Few labelled images in many dimensions, and starts that are noisy: 400 unlabelled ones tell where classes lie."""
    data = gaussians([4] * 5, [80] * 5, spread=0.3, width=32)
    with_them = train_directly(fixmatch(data.task(), threshold=0.8), data)
    without = train_directly(fixmatch(data.task(), threshold=0.8, unlabelled_weight=0.0), data)
    assert recall(with_them, data).mean() > recall(without, data).mean() + 0.02


def test_settings_of_a_method_are_those_of_its_function():
    record = METHODS["fixmatch"]
    assert record.settings == {"threshold": 0.95, "unlabelled_weight": 1.0}
    assert record.settings_with({"threshold": 0.7})["threshold"] == 0.7
    with pytest.raises(CausalFTError, match="the method lp has no threshold; it has no setting"):
        METHODS["lp"].settings_with({"threshold": 0.7})
    with pytest.raises(
        CausalFTError, match="the method fixmatch has no window; it has threshold, unlabelled_weight"
    ):
        record.settings_with({"window": 3})


@pytest.mark.parametrize(
    ("name", "tuner"),
    [
        ("lp-fixmatch", "linear-probe"),
        ("lft-fixmatch", "adaptformer"),
        ("fft-fixmatch", "full"),
        ("lp", "linear-probe"),
    ],
)
def test_a_rung_of_the_ladder_names_its_tuner(name, tuner):
    found = semi_tuning(Tuning(), SemiSettings(method=name))
    assert found.tuner == tuner
    assert found.head == ("l2" if METHODS[name].unlabelled else Tuning().head)
    found.check()


@pytest.mark.parametrize(
    ("method", "tuning", "message"),
    [
        ("fixmatch", {"head": "tde"}, "heads of its own; leave head tde out"),
        ("fixmatch", {"loss": "LDAM"}, "by LA or CE; leave loss=LDAM out"),
        ("acr", {"loss": "CE"}, "the method acr has its own remedy for the long tail; leave loss=CE out"),
        ("fixmatch", {"loss_setting": "tau=0.8"}, "by LA without settings; leave loss_setting out"),
        ("fixmatch", {"sampler": "class-balanced"}, "uniformly; leave sampler class-balanced out"),
        ("fixmatch", {"wise_ft": 0.5}, "ends with new heads; leave wise_ft=0.5 out"),
        ("fixmatch", {"tuner": "zero-shot"}, "trains nothing, so the method fixmatch learns nothing"),
        ("lp-fixmatch", {"tuner": "full"}, "stands for the tuner linear-probe; leave tuner full out"),
    ],
)
def test_what_a_method_cannot_follow_is_refused(method, tuning, message):
    with pytest.raises(CausalFTError) as found:
        semi_tuning(Tuning(**tuning), SemiSettings(method=method))
    assert message in str(found.value)


def test_a_method_of_labelled_images_alone_takes_the_settings_of_the_loss():
    """It is trained by the usual loop, which honours them."""
    tuning = semi_tuning(Tuning(loss_setting="tau=0.8"), SemiSettings(method="lft"))
    assert tuning.loss_settings == {"tau": 0.8}


def test_strata_learn_together_by_shared_labels_not_jointly():
    with pytest.raises(CausalFTError, match="leave one of them out; strata learn together with share_labels"):
        check_semi(SemiSettings(method="fixmatch"), joint=True)
    check_semi(None, joint=True)
    check_semi(SemiSettings(), joint=True)
