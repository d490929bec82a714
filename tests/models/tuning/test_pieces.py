"""Pieces of a batch in threads: what each gives, in which order, and what the caller's settings are afterwards."""

from __future__ import annotations

import threading

import pytest
import torch

from causalft.models.tuning import pieces
from causalft.models.tuning.pieces import in_pieces


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


def test_two_pieces_run_at_once_each_with_its_share_of_the_threads(threads):
    threads(9)
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
    assert started_later == [9]


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


def test_where_threads_cannot_be_told_apart_or_autocast_is_set_pieces_follow_each_other(threads, monkeypatch):
    threads(2)
    seen = []

    def run(piece):
        seen.append((threading.get_ident(), torch.is_autocast_enabled("cpu")))
        return piece

    with torch.autocast("cpu"):
        in_pieces(run, torch.zeros(4, 1, 1), together=1)
    assert seen == [(threading.get_ident(), True)] * 4
    monkeypatch.setattr(pieces, "_threads_count_for_themselves", lambda: False)
    in_pieces(run, torch.zeros(4, 1, 1), together=1)
    assert seen[4:] == [(threading.get_ident(), False)] * 4


def test_an_error_in_a_piece_is_the_callers_and_leaves_its_threads(threads):
    threads(2)

    def run(piece):
        raise ValueError("no room")

    with pytest.raises(ValueError, match="no room"):
        in_pieces(run, torch.zeros(4, 1, 1), together=1)
    assert torch.get_num_threads() == 2
