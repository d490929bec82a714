"""Files of weights: wrappers are removed in pickles and safetensors alike, and only finite floats are weights."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from causalft.errors import CausalFTError
from causalft.models.weights.file import load_all, read_state_dict


@pytest.fixture
def model():
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


PREFIXES = [
    "",
    "module.",
    "model.",
    "module.model.",
    "model.module.",
    "state_dict.",
    "_orig_mod.module.",
    "state_dict.model.",
]


@pytest.mark.parametrize("kind", ["safetensors", "pickle"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_wrapper_prefixes_are_removed_in_both_file_kinds(model, tmp_path, kind, prefix):
    wanted = model.state_dict()
    wrapped = {f"{prefix}{name}": value.clone() for name, value in wanted.items()}
    file = tmp_path / "weights"
    if kind == "safetensors":
        save_file(wrapped, file)
    else:
        torch.save(wrapped, file)
    found = read_state_dict(file, allow_pickle=kind == "pickle")
    assert found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize(
    "wrap", [lambda t: {"state_dict": {"model": t}}, lambda t: {"model": {"state_dict": t}, "epoch": 3}]
)
def test_checkpoints_are_unwrapped_in_any_order(model, tmp_path, wrap):
    torch.save(wrap(model.state_dict()), tmp_path / "weights.pt")
    assert read_state_dict(tmp_path / "weights.pt", allow_pickle=True).keys() == model.state_dict().keys()


def test_a_prefix_that_not_all_names_have_stays(tmp_path):
    save_file({"model.a": torch.zeros(1), "b": torch.zeros(1)}, tmp_path / "w")
    assert read_state_dict(tmp_path / "w").keys() == {"model.a", "b"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda value: value.mul(100).to(torch.int64),
            "0.weight is int64 in the file and float32 in the model",
        ),
        (lambda value: value.to(torch.uint8), "0.weight is uint8 in the file"),
        (lambda value: value > 0, "0.weight is bool in the file"),
        (lambda value: value * torch.nan, "0.weight is not a number in the file"),
        (lambda value: value / 0, "0.weight is infinite in the file"),
        (lambda value: value.double() * 1e300, "0.weight is too large for float32"),
    ],
)
def test_only_finite_floats_are_weights(model, change, words):
    tensors = dict(model.state_dict())
    tensors["0.weight"] = change(torch.ones(2, 3))
    with pytest.raises(CausalFTError, match=words):
        load_all(model, tensors)


def test_half_precision_and_integer_counters_are_taken(model):
    tensors = {
        name: value.half() if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }
    load_all(model, tensors)
    assert model[1].num_batches_tracked.dtype == torch.int64 and model[0].weight.dtype == torch.float32
