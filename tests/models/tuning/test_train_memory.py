"""Micro-batches give the step of the whole batch, by choice or after running out of memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from causalft.errors import CausalFTError
from causalft.models.tuning.choices import LOSSES
from causalft.models.tuning.losses import make_loss
from causalft.models.tuning.train import Recipe, out_of_memory, train

X = torch.randn(70, 5, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()

ERRORS = {
    "gpu": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "cpu": lambda: RuntimeError(
        "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"
    ),
    "windows": lambda: RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
    "python": lambda: MemoryError(),
}


def make_model() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 2))


def batch_loss(model, indices, generator):
    noise = 0.1 * torch.randn(len(indices), 5, generator=generator)
    return nn.functional.cross_entropy(model(X[indices] + noise), Y[indices])


def plain_loss(model, indices, generator):
    return nn.functional.cross_entropy(model(X[indices]), Y[indices])


def largest_difference(one: nn.Module, other: nn.Module) -> float:
    return max((a - b).abs().max().item() for a, b in zip(one.parameters(), other.parameters()))


def recipe_of(accumulation: int = 1, optimizer: str = "sgd") -> Recipe:
    # 70 in batches of 20 leaves one of 10: micro-batches of unequal sizes take part
    return Recipe(
        epochs=5, batch_size=20, lr=0.05, optimizer=optimizer, accumulation=accumulation, grad_clip=1.0
    )


@pytest.mark.parametrize("accumulation", [2, 3, 7, 64])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_micro_batches_give_the_step_of_the_whole_batch(accumulation, optimizer):
    whole, parts = make_model().double(), make_model().double()
    sizes = []

    def loss(model, indices, generator):
        sizes.append(len(indices))
        return nn.functional.cross_entropy(model(X[indices].double()), Y[indices])

    expected = train(whole, 70, loss, recipe_of(1, optimizer), progress=False)
    assert max(sizes) == 20
    sizes.clear()
    found = train(parts, 70, loss, recipe_of(accumulation, optimizer), progress=False)
    assert max(sizes) == -(-20 // accumulation) and min(sizes) >= 1
    assert largest_difference(whole, parts) < 1e-9
    assert found.losses == pytest.approx(expected.losses, abs=1e-12)


class Small:
    """A device that takes so many samples at once, from the given call on."""

    def __init__(self, room: int, error: str = "gpu", from_call: int = 0, where: str = "forward") -> None:
        self.room, self.error, self.from_call, self.where, self.calls = (
            room,
            ERRORS[error],
            from_call,
            where,
            0,
        )

    def __call__(self, model, indices, generator):
        self.calls += 1
        loss = batch_loss(model, indices, generator)
        if self.calls > self.from_call and len(indices) > self.room:
            if self.where == "forward":
                raise self.error()
            loss.register_hook(self.fail)
        return loss

    def fail(self, gradient):
        raise self.error()


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("where", ["forward", "backward"])
def test_batch_that_does_not_fit_is_halved_and_reported(error, where):
    said = []
    model, expected = make_model(), make_model()
    history = train(model, 70, Small(6, error, 0, where), recipe_of(), progress=False, say=said.append)
    assert history.notes == said and len(said) == 2
    assert said[0].startswith("training: 20 samples at once do not fit into memory; from step 1 on")
    assert "2 parts" in said[0] and "4 parts" in said[1]
    train(expected, 70, batch_loss, recipe_of(4), progress=False)
    # to the bit: a failed try leaves neither gradients nor drawn numbers behind
    assert largest_difference(model, expected) == 0


def test_running_out_of_memory_changes_only_rounding():
    model, expected = make_model(), make_model()
    small = Small(10, from_call=13)
    small_loss = lambda m, i, g: small(m, i, g) * 0 + plain_loss(m, i, g)  # noqa: E731
    history = train(model, 70, small_loss, recipe_of(), progress=False, say=lambda line: None)
    assert "from step 14 on" in history.notes[0] and len(history.notes) == 1
    train(expected, 70, plain_loss, recipe_of(), progress=False)
    assert 0 < largest_difference(model, expected) < 1e-5


def test_one_sample_that_does_not_fit_is_an_error():
    with pytest.raises(CausalFTError, match="one sample alone does not fit into memory"):
        train(make_model(), 70, Small(0), recipe_of(), progress=False, say=lambda line: None)


def test_a_batch_that_a_loss_needs_whole_is_not_halved():
    said, model = [], make_model()
    with pytest.raises(CausalFTError, match="20 samples at once do not fit .* take a smaller batch size"):
        train(model, 70, Small(10), recipe_of(), progress=False, cut_batches="never", say=said.append)
    assert said == [] and largest_difference(model, make_model()) == 0


def test_a_loss_that_depends_on_its_batch_is_cut_with_another_result():
    said = []
    options = {"progress": False, "cut_batches": "other", "say": said.append}
    train(make_model(), 70, Small(10), recipe_of(), **options)
    assert said[0].endswith("in 2 parts, with another result: the loss depends on which samples share a part")


@pytest.mark.parametrize("name", list(LOSSES))
def test_losses_of_whole_batches_are_marked_and_the_others_are_means_over_images(name):
    record = LOSSES[name]
    generator = torch.Generator().manual_seed(0)
    logits, labels = 3 * torch.randn(12, 4, generator=generator), torch.arange(12) % 4
    prior = {"model_log_prior": np.log([0.4, 0.3, 0.2, 0.1])} if record.needs_model_prior else {}
    loss = [make_loss(name, [60, 25, 10, 5], **prior) for _ in range(2)]  # some carry a state
    if isinstance(loss[0], torch.nn.Module):
        for each in loss:
            each.train()
    parts = [loss[0](logits[part], labels[part]) for part in (slice(0, 4), slice(4, 12))]
    mean = (4 * parts[0] + 8 * parts[1]) / 12
    assert torch.allclose(mean, loss[1](logits, labels), rtol=1e-5) != record.of_batch


def test_halving_is_a_warning_by_default():
    with pytest.warns(UserWarning, match="do not fit into memory"):
        train(make_model(), 70, Small(10), Recipe(epochs=1, batch_size=20, lr=0.1), progress=False)


def test_other_errors_are_not_treated_as_out_of_memory():
    def broken(model, indices, generator):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        train(make_model(), 70, broken, recipe_of(), progress=False)
    assert not out_of_memory(KeyError("x"))
    assert not out_of_memory(
        RuntimeError(torch.ops.aten.add.Tensor)
    )  # errors of PyTorch need not hold a text


def test_micro_batches_are_restored_from_a_checkpoint(tmp_path):
    expected, killed, resumed = make_model(), make_model(), make_model()
    checkpoint, small = tmp_path / "part.safetensors", Small(6)
    first = train(expected, 70, Small(6), recipe_of(), progress=False, say=lambda line: None)

    def dies(model, indices, generator):
        if small.calls > 24:
            raise KeyboardInterrupt
        return small(model, indices, generator)

    with pytest.raises(KeyboardInterrupt):
        train(killed, 70, dies, recipe_of(), progress=False, checkpoint=checkpoint, say=lambda line: None)
    # the second machine has room for all: it keeps the parts, and so the result
    history = train(resumed, 70, batch_loss, recipe_of(), progress=False, checkpoint=checkpoint)
    assert history.notes == first.notes
    assert largest_difference(expected, resumed) == 0
