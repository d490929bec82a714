"""Several processes of a launch as threads of one, which exchange objects through a list."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

import pytest

from causalft.models.tuning import team as module
from causalft.models.tuning.team import Team

__all__ = ["launch"]


def launch(monkeypatch: pytest.MonkeyPatch, count: int, scene: Callable[[Team], Any]) -> list[Any]:
    """What ``scene(team)`` returns or raises in each of ``count`` processes."""
    barrier, held = threading.Barrier(count, timeout=200), [None] * count
    ranks = threading.local()

    def meet(mine: Any) -> list[Any]:
        held[ranks.own] = mine
        barrier.wait()
        found = list(held)
        barrier.wait()
        return found

    def all_gather_object(into: list[Any], mine: Any, group: Any = None) -> None:
        into[:] = meet(mine)

    def gather_object(mine: Any, into: list[Any] | None, dst: int, group: Any = None) -> None:
        found = meet(mine)
        assert (into is not None) == (ranks.own == dst)
        if into is not None:
            into[:] = found

    def broadcast(tensor: Any, source: int, group: Any = None) -> None:
        tensor.copy_(meet(tensor.clone())[source])

    for name in ("all_gather_object", "gather_object", "broadcast"):
        monkeypatch.setattr(module.distributed, name, locals()[name])
    results: list[Any] = [None] * count

    def process(rank: int) -> None:
        ranks.own = rank
        own = Team(rank, count)
        token = module._current.set(own)
        try:
            results[rank] = scene(own)
        except Exception as error:
            results[rank] = error
        finally:
            module._current.reset(token)

    threads = [threading.Thread(target=copy_context().run, args=(process, rank)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(250)
    return results
