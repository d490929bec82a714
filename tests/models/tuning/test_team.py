"""Rows shared by processes: all rows once and in order, one error for all, no process left waiting."""

from __future__ import annotations

import numpy as np
import pytest

from causalft.errors import CausalFTError
from causalft.models.tuning.team import Team, current_team, rounds, work_together
from tests.models.tuning.fake_launch import launch


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("n", [0, 1, 2, 7, 20, 64])
@pytest.mark.parametrize("size", [1, 4, 100])
def test_rounds_are_all_rows_in_order_and_even(n, count, size):
    found = rounds(n, count, size, batches=2)
    flat = [row for shares in found for start, end in shares for row in range(start, end)]
    assert flat == list(range(n))
    for shares in found:
        sizes = [end - start for start, end in shares]
        assert len(shares) == count and max(sizes) - min(sizes) <= size and max(sizes) <= 2 * size
        assert all(start % size == 0 or start == n for start, _ in shares)


def squares(batch):
    def work(rows):
        rows = list(rows)
        for start in range(0, len(rows), batch):
            part = np.array(rows[start : start + batch])
            yield int(part[-1]), part**2

    return work


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("rows", [range(0), range(1), range(2), range(7), range(5, 30)])
@pytest.mark.parametrize("everywhere", [True, False])
def test_pieces_come_in_order_to_all_or_to_the_first(monkeypatch, count, rows, everywhere):
    def scene(team):
        return np.concatenate([[], *team.in_order(rows, 2, squares(2), batches=2, everywhere=everywhere)])

    found = launch(monkeypatch, count, scene)
    expected = [row**2 for row in rows]
    assert found[0].tolist() == expected
    for other in found[1:]:
        assert other.tolist() == (expected if everywhere else [])


def test_each_row_is_worked_on_once(monkeypatch):
    seen = []

    def scene(team):
        def work(rows):
            seen.extend(rows)
            return squares(3)(rows)

        return sum(len(part) for part in team.in_order(range(50), 3, work, batches=2))

    assert launch(monkeypatch, 3, scene) == [50, 50, 50]
    assert sorted(seen) == list(range(50))


@pytest.mark.parametrize("everywhere", [True, False])
def test_an_error_in_one_process_is_the_error_of_all(monkeypatch, everywhere):
    def scene(team):
        def work(rows):
            for last, part in squares(2)(rows):
                if 13**2 in part:
                    raise CausalFTError("cannot read 13.png")
                yield last, part

        return list(team.in_order(range(40), 2, work, batches=2, everywhere=everywhere))

    found = launch(monkeypatch, 3, scene)
    assert [str(error) for error in found] == ["cannot read 13.png"] * 3


def test_a_fault_keeps_its_type_where_it_happened_and_is_named_elsewhere(monkeypatch):
    def scene(team):
        return team.exchange(lambda: 1 // (team.rank - 1))

    first, second, third = launch(monkeypatch, 3, scene)
    assert isinstance(second, ZeroDivisionError)
    for other in (first, third):
        assert isinstance(other, CausalFTError) and "ZeroDivisionError" in str(other)


@pytest.mark.parametrize("n", [0, 1, 2, 9])
def test_rows_of_an_array(monkeypatch, n):
    whole = np.arange(2 * n).reshape(n, 2)
    for found in launch(monkeypatch, 3, lambda team: team.rows(n, lambda rows: whole[rows] + 1)):
        assert np.array_equal(found, whole + 1)


def test_processes_with_other_settings_are_refused_by_name(monkeypatch):
    def scene(team):
        team.agree({"seed": 3, "images": ["a", "b"], "model": "clip" if team.rank < 2 else "openclip"})

    for error in launch(monkeypatch, 3, scene):
        assert "process 2 of this launch has other model than process 0" in str(error)
    assert launch(monkeypatch, 2, lambda team: team.agree({"seed": np.int64(3)})) == [None, None]


def test_processes_with_other_numbers_of_images_do_not_wait_for_each_other(monkeypatch):
    def scene(team):
        return list(team.in_order(range(10 + team.rank), 2, squares(2)))

    for error in launch(monkeypatch, 2, scene):
        assert "other number of images" in str(error)


def test_what_the_first_does_alone_is_not_shared(monkeypatch):
    calls = []

    def scene(team):
        def alone():
            calls.append(current_team().count)
            return "written"

        return team.from_main(alone)

    assert launch(monkeypatch, 3, scene) == ["written"] * 3
    assert calls == [1]


def test_an_array_that_the_first_keeps_is_computed_by_all_and_sent(monkeypatch):
    helped = []

    def scene(team):
        def work(rows):
            helped.append((team.rank, len(rows)))
            return squares(2)(rows)

        def fill(start):
            return team.in_order(range(start, 10), 2, work, everywhere=False)

        def keep(fill):  # three rows are there from an interrupted call
            assert team.is_main
            return np.concatenate([[0.0, 1.0, 4.0], *fill(3)]).astype(np.float32)

        return team.kept_by_main(keep, fill)

    for found in launch(monkeypatch, 2, scene):
        assert found.tolist() == [row**2 for row in range(10)]
    assert sorted(helped) == [(0, 4), (1, 3)]


def test_an_array_that_is_there_already_is_sent(monkeypatch):
    def scene(team):
        return team.kept_by_main(lambda fill: np.ones((3, 2), np.float32), lambda start: iter(()))

    assert [found.tolist() for found in launch(monkeypatch, 2, scene)] == [[[1.0, 1.0]] * 3] * 2


def test_a_cache_that_cannot_be_written_stops_all(monkeypatch):
    def scene(team):
        def keep(fill):
            raise CausalFTError("the feature cache cannot be written")

        return team.kept_by_main(keep, lambda start: iter(()))

    for error in launch(monkeypatch, 2, scene):
        assert str(error) == "the feature cache cannot be written"


def test_a_dead_process_is_reported_in_one_line(monkeypatch):
    def gone(*arguments, **options):
        raise RuntimeError(
            "[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1234\n  trace"
        )

    monkeypatch.setattr("causalft.models.tuning.team.distributed.all_gather_object", gone)
    with pytest.raises(CausalFTError, match="another process of this launch has ended") as caught:
        Team(0, 2).exchange(lambda: 1)
    assert "\n" not in str(caught.value)


def test_alone_nothing_changes(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with work_together() as team:
        assert (team.count, team.is_main) == (1, True)
        assert list(team.in_order(range(3), 2, squares(2)))[1].tolist() == [4]
        assert team.exchange(lambda: 5) == [5] and team.from_main(lambda: 6) == 6
    assert current_team().count == 1
