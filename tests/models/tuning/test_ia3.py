"""(IA)^3 starts as the frozen model, scales keys, values and MLPs, and folds into the weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from causalft.errors import CausalFTError
from causalft.models.tuning.precision import lower_frozen_layers
from causalft.models.tuning.towers import open_tower
from causalft.models.tuning.tuners import apply_tuner
from causalft.models.tuning.tuners.scaling import ScaledLinear
from tests.models.tuning.test_tuners import BLOCKS, WIDTH, features, model, two_steps


def test_factors_on_outputs_and_inputs_are_those_of_the_weights():
    layer = nn.Linear(2, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
        layer.bias.copy_(torch.tensor([0.0, 1.0, -1.0]))
    x = torch.tensor([[1.0, 1.0]])
    outputs, inputs = ScaledLinear(layer, 2), ScaledLinear(layer, 2, on_input=True)
    with torch.no_grad():
        outputs.scale.copy_(torch.tensor([2.0, 10.0]))
        inputs.scale.copy_(torch.tensor([2.0, 10.0]))
    assert outputs(x).tolist() == [[3.0, 16.0, 100.0]]  # (3, 8, 10) with factors 1, 2 and 10
    assert inputs(x).tolist() == [[22.0, 47.0, 69.0]]  # the input is (2, 10)


@pytest.mark.parametrize("backbone", ["vit", "eva", "siglip"])
def test_it_starts_as_the_frozen_model_learns_and_folds_away(backbone):
    visual = model(backbone)
    tower = open_tower(visual)
    frozen = features(tower)
    tuned = apply_tuner(tower, "ia3", bottleneck=1, seed=0)
    assert torch.equal(features(tower), frozen)
    assert all(torch.equal(value, torch.ones_like(value)) for value in tuned.state().values())
    two_steps(tuned)
    learnt = features(tower)
    assert not torch.allclose(learnt, frozen, atol=1e-4)
    again = apply_tuner(open_tower(visual), "ia3", bottleneck=1, seed=1).load(tuned.state())
    assert torch.equal(features(again.tower), learnt)
    assert tuned.merge() == ()
    assert torch.allclose(features(tower), learnt, rtol=1e-4, atol=1e-5)
    assert not any(isinstance(module, ScaledLinear) for module in tower.modules())
    assert torch.equal(features(open_tower(visual)), frozen)


def test_how_much_it_trains_also_in_some_blocks_alone():
    per_block = 2 * WIDTH + 4 * WIDTH
    whole = apply_tuner(open_tower(model("vit")), "ia3", bottleneck=1, seed=0)
    last = apply_tuner(open_tower(model("vit")), "ia3@last-1", bottleneck=1, seed=0)
    assert (whole.n_parameters, last.n_parameters) == (BLOCKS * per_block, per_block)
    assert (whole.first_tuned_block, last.first_tuned_block) == (0, BLOCKS - 1)


def test_it_composes_with_the_others_that_fold():
    tower = open_tower(model("vit"))
    frozen = features(tower)
    tuned = apply_tuner(tower, "lora+lora-mlp+ssf+ia3+adaptformer", bottleneck=2, seed=0)
    assert tuned.spec == "ia3+ssf+lora+lora-mlp+adaptformer"
    assert torch.allclose(features(tower), frozen, atol=1e-5)
    two_steps(tuned)
    learnt = features(tower)
    assert tuned.merge() == ("adaptformer",)
    assert torch.allclose(features(tower), learnt, rtol=1e-4, atol=1e-5)


def test_it_runs_on_rounded_layers_but_is_not_merged_into_them():
    tuned = apply_tuner(open_tower(model("vit")), "ia3", bottleneck=1, seed=0)
    plain = features(tuned.tower)
    lower_frozen_layers(tuned.tower)
    assert torch.allclose(features(tuned.tower), plain, atol=0.1, rtol=0.1)
    with pytest.raises(CausalFTError, match="ia3 cannot be merged into layers that were rounded to bf16"):
        tuned.merge()
