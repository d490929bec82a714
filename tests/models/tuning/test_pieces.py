"""Pieces of a batch in threads: what each gives, in which order, and what the caller's settings are afterwards."""

from __future__ import annotations

import threading

import pytest
import timm
import torch
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from causalft.models.tuning import pieces
from causalft.models.tuning.pieces import in_pieces
from causalft.models.tuning.towers import open_tower


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
