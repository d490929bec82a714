"""Pieces of a batch in threads: what each gives, in which order, and what the caller's settings are afterwards."""

from __future__ import annotations

import threading

import pytest
import timm
import torch
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from causalft.models.strata.mini import MiniConfig, build_mini
from causalft.models.tuning import pieces, towers
from causalft.models.tuning.pieces import in_pieces
from causalft.models.tuning.precision import lower_frozen_layers, round_frozen_layers
from causalft.models.tuning.towers import open_tower
from causalft.models.tuning.tuners import TUNERS, apply_tuner


@pytest.fixture
def threads():
    """Set the number of threads for a test; the old one is set again after it."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("n_threads", [1, 2, 3, 16])
@pytest.mark.parametrize("n_images", [0, 1, 2, 5, 12])
def test_rows_come_in_their_order_in_pieces_that_are_small_enough(n_threads, n_images, threads):
    threads(n_threads)
    tokens, seen = torch.arange(n_images * 6.0).view(n_images, 3, 2), []

    def run(piece):
        seen.append(len(piece))
        return piece.flatten(1) * 2

    assert torch.equal(in_pieces(run, tokens, together=7), tokens.flatten(1) * 2)
    assert sum(seen) == n_images and max(seen) <= 2
    assert torch.get_num_threads() == n_threads


@pytest.mark.parametrize(
    ("n_threads", "n_images", "expected"),
    [
        (1, 9, 1),
        (2, 9, 2),
        (5, 9, 1),  # five threads share the work: four pieces would leave one without
        (6, 9, 3),
        (7, 9, 1),
        (8, 9, 4),
        (64, 9, 4),
        (64, 3, 2),
        (64, 1, 1),
        (64, 0, 1),
    ],
)
def test_pieces_that_run_at_once_leave_no_thread_without_work(n_threads, n_images, expected):
    assert pieces._at_once(n_threads, n_images) == expected


def test_pieces_run_at_once_each_with_its_share_of_the_threads(threads):
    if not pieces._threads_count_for_themselves():
        pytest.skip("this build of PyTorch has no OpenMP")
    threads(8)
    meet, seen = threading.Barrier(4, timeout=30), []

    def run(piece):
        meet.wait()  # a fifth of four would never come
        seen.append((threading.get_ident(), torch.get_num_threads()))
        return piece

    in_pieces(run, torch.zeros(8, 1, 1), together=2)
    assert len({who for who, _ in seen}) == 4 and {count for _, count in seen} == {2}
    assert threading.get_ident() not in {who for who, _ in seen}
    started_later = []
    thread = threading.Thread(target=lambda: started_later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert started_later == [8]


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_the_modes_of_the_caller_hold_in_its_threads(mode, threads):
    threads(2)
    seen = []

    def run(piece):
        seen.append((torch.is_grad_enabled(), torch.is_inference_mode_enabled()))
        return piece.add_(1)  # refused for a tensor of inference mode outside it

    with mode():
        found = in_pieces(run, torch.zeros(4, 1, 1), together=1)
    assert found.flatten().tolist() == [1] * 4
    assert set(seen) == {(False, mode is torch.inference_mode)}


class Counted(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "watching", [lambda: torch.autocast("cpu"), Counted, lambda: FlopCounterMode(display=False)]
)
def test_what_watches_the_operations_of_a_thread_sees_all_pieces(threads, watching):
    threads(2)
    seen = []
    with watching():
        in_pieces(lambda piece: seen.append(threading.get_ident()) or piece, torch.zeros(4, 1, 1), together=1)
    assert seen == [threading.get_ident()] * 4


def test_where_threads_cannot_be_told_apart_pieces_follow_each_other(threads, monkeypatch):
    threads(2)
    seen = []
    monkeypatch.setattr(pieces, "_threads_count_for_themselves", lambda: False)
    in_pieces(lambda piece: seen.append(threading.get_ident()) or piece, torch.zeros(4, 1, 1), together=1)
    assert seen == [threading.get_ident()] * 4


def test_a_tower_in_pieces_is_compiled_as_a_whole(threads):
    threads(2)
    tower = open_tower(timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1, num_classes=0).eval())
    pictures = torch.randn(4, 3, 32, 32)
    tower.in_pieces = True
    with torch.no_grad():
        expected = tower(pictures)
        assert torch.allclose(
            torch.compile(tower, backend="eager", fullgraph=True)(pictures), expected, atol=1e-5
        )


def test_an_error_in_a_piece_is_the_callers_and_leaves_its_threads(threads):
    threads(2)

    def run(piece):
        raise ValueError("no room")

    with pytest.raises(ValueError, match="no room"):
        in_pieces(run, torch.zeros(4, 1, 1), together=1)
    assert torch.get_num_threads() == 2


@pytest.fixture
def own_threads(threads):
    """As ``threads``, for tests that say which thread does what."""
    if not pieces._threads_count_for_themselves():
        pytest.skip("this build of PyTorch has no OpenMP")
    return threads


def tuned_tower(spec, lower=lambda tower: None):
    """A mini tower and its trained tensors, which have left their starting points."""
    torch.manual_seed(0)
    tower = open_tower(build_mini(MiniConfig()).visual)
    tuned = apply_tuner(tower, spec, bottleneck=4, seed=0)
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    lower(tower)
    return tower, tuned.parameters()


def gradients(tower, trained, n_images=9):
    """Of a loss that weighs every feature differently; features first."""
    generator = torch.Generator().manual_seed(2)
    found = tower(torch.randn(n_images, 3, 40, 40, generator=generator))
    loss = (found * torch.randn(found.shape, generator=generator)).sum()
    return found.detach(), torch.autograd.grad(loss, trained, allow_unused=True)


def nearly_equal(one, other, close):
    return (one - other).norm() <= close * other.norm()


HEAD_ALONE = {"linear-probe", "zero-shot"}
IN_BLOCKS = sorted(name.replace("K", "1") for name in TUNERS if name not in HEAD_ALONE | {"batchnorm"})


@pytest.mark.parametrize("spec", [*IN_BLOCKS, "adaptformer@last-1", "lora+ssf+bias"])
def test_every_tuner_has_the_gradients_of_the_whole_batch_in_pieces(spec, own_threads, monkeypatch):
    own_threads(2)
    monkeypatch.setattr(towers, "_TOGETHER", 60)  # two images
    tower, trained = tuned_tower(spec)
    features, expected = gradients(tower, trained)
    ran_in, run_blocks = set(), tower._run_blocks

    def listened(tokens, places):
        ran_in.add(threading.get_ident())
        return run_blocks(tokens, places)

    monkeypatch.setattr(tower, "_run_blocks", listened)
    tower.in_pieces = True
    wide = sum(p.numel() for p in trained) > 9 * 26 * tower.width
    found_features, found = gradients(tower, trained)
    assert (threading.get_ident() in ran_in) == wide and wide == (spec in ("full", "last-1"))
    assert nearly_equal(found_features, features, 1e-5)
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        assert one is None or nearly_equal(one, other, 1e-4)


@pytest.mark.parametrize("lower", [lower_frozen_layers, round_frozen_layers])
@pytest.mark.parametrize("n_threads", [2, 3])
def test_gradients_in_pieces_are_the_same_every_time(lower, n_threads, own_threads, monkeypatch):
    own_threads(n_threads)
    monkeypatch.setattr(towers, "_TOGETHER", 30)
    tower, trained = tuned_tower("adaptformer", lower)
    first = gradients(tower, trained, n_images=8)[1]
    for _ in range(3):
        assert all(map(torch.equal, gradients(tower, trained, n_images=8)[1], first))
    tower.in_pieces = False
    whole = gradients(tower, trained, n_images=8)[1]
    assert all(nearly_equal(one, other, 0.05) for one, other in zip(first, whole, strict=True))


def test_gradients_flow_to_the_tokens_and_to_what_is_trained(own_threads):
    own_threads(2)
    tokens, factor = torch.arange(12.0).view(4, 3, 1).requires_grad_(), torch.tensor(3.0, requires_grad=True)
    unused = torch.tensor(1.0, requires_grad=True)
    found = in_pieces(lambda x: factor * x**2, tokens, 3, [factor, unused])
    found.sum().backward()
    assert torch.equal(tokens.grad, 6 * tokens.detach()) and factor.grad == (tokens.detach() ** 2).sum()
    assert unused.grad is None


def test_where_nothing_trained_is_used_no_gradient_is_wanted(own_threads):
    own_threads(2)
    unused = torch.tensor(1.0, requires_grad=True)
    assert not in_pieces(lambda x: x**2, torch.ones(4, 3, 1), 3, [unused]).requires_grad


def test_a_second_way_back_through_pieces_is_refused(own_threads):
    own_threads(2)
    tokens = torch.ones(4, 3, 1, requires_grad=True)
    found = in_pieces(lambda x: x**2, tokens, 3).sum()
    found.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="once"):
        found.backward()


def test_who_keeps_watch_over_saved_tensors_sees_those_of_all_pieces(own_threads):
    own_threads(2)
    tokens, kept = torch.ones(4, 3, 1, requires_grad=True), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        in_pieces(torch.exp, tokens, 3)
    assert sum(map(len, kept)) == 4


@pytest.mark.parametrize("gradient", [False, True])
def test_a_hook_sees_the_whole_batch(gradient, own_threads, monkeypatch):
    own_threads(2)
    monkeypatch.setattr(towers, "_TOGETHER", 30)
    tower, trained = tuned_tower("adaptformer")
    tower.in_pieces = True
    seen, sizes, run_blocks = [], [], tower._run_blocks
    monkeypatch.setattr(tower, "_run_blocks", lambda x, places: sizes.append(len(x)) or run_blocks(x, places))
    hook = tower.blocks[1].register_forward_hook(lambda module, given, found: seen.append(len(found)))
    with torch.set_grad_enabled(gradient):
        tower(torch.randn(6, 3, 40, 40))
        hook.remove()
        tower(torch.randn(6, 3, 40, 40))
    assert seen == [6] and sizes == [6, *[1] * 6]


def test_a_hook_on_a_trained_tensor_acts_once(own_threads, monkeypatch):
    own_threads(2)
    monkeypatch.setattr(towers, "_TOGETHER", 30)
    tower, trained = tuned_tower("adaptformer")
    tower.in_pieces = True
    plain = gradients(tower, trained)[1]
    trained[0].register_hook(lambda gradient: 2 * gradient)
    doubled = gradients(tower, trained)[1]
    assert nearly_equal(doubled[0], 2 * plain[0], 1e-4) and nearly_equal(doubled[1], plain[1], 1e-4)


def test_gradients_that_are_one_tensor_are_not_changed_in_place(own_threads):
    own_threads(2)
    tokens = torch.zeros(4, 1, 1, requires_grad=True)
    first, second = (torch.zeros(1, 1, 1, requires_grad=True) for _ in range(2))
    found = in_pieces(lambda x: x + first + second, tokens, 1, [first, second])
    found.backward(torch.tensor([1.0, 10.0, 100.0, 1000.0]).view(4, 1, 1))
    assert first.grad.item() == second.grad.item() == 1111
    assert tokens.grad.flatten().tolist() == [1, 10, 100, 1000]


def test_the_way_back_is_in_threads_too_with_as_many_as_there_are_then(own_threads):
    own_threads(2)
    seen = []

    class Listens(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, gradient):
            seen.append((threading.get_ident(), torch.get_num_threads()))
            return gradient

    tokens = torch.ones(4, 3, 1, requires_grad=True)
    found = in_pieces(Listens.apply, tokens, 3)
    own_threads(1)
    found.sum().backward()
    assert len(seen) == 4 and {count for _, count in seen} == {1}
    assert threading.get_ident() not in {who for who, _ in seen}
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("watching", [lambda: FlopCounterMode(display=False), torch.profiler.profile])
def test_what_watches_the_way_back_alone_sees_all_pieces(watching, own_threads):
    own_threads(2)
    weight = torch.ones(2, 2, requires_grad=True)
    seen = []
    tokens = torch.ones(4, 3, 2)
    tokens.requires_grad_()

    def run(x):
        x = x @ weight
        x.register_hook(lambda gradient: seen.append(threading.get_ident()))
        return x

    found = in_pieces(run, tokens, 3, [weight]).sum()
    with watching():
        found.backward()
    assert set(seen) == {threading.get_ident()} and len(seen) == 4


def test_a_run_of_no_blocks_gives_the_tokens_back():
    tower, _ = tuned_tower("adaptformer")
    tower.in_pieces = True
    tokens = torch.zeros(4, 26, tower.width)
    assert tower.run(tokens, start=len(tower.blocks)) is tokens


@pytest.mark.parametrize("tiles", [False, True])
def test_a_lowered_tower_is_one_graph_to_the_compiler(tiles, own_threads, monkeypatch):
    own_threads(2)
    monkeypatch.setattr("causalft.models.tuning.frozen_layers._TILES", tiles)
    tower, _ = tuned_tower("adaptformer", lower_frozen_layers)
    pictures = torch.randn(4, 3, 40, 40)
    with torch.no_grad():
        compiled = torch.compile(tower, backend="eager", fullgraph=True)
        assert torch.allclose(compiled(pictures), tower(pictures), atol=0.02)
