"""The life of a run: what is refused, what is left behind, what `finish` adds."""

from __future__ import annotations

import pytest

from causalft.errors import CausalFTError
from causalft.runs.folder import Run
from causalft.runs.lifecycle import new_run


def test_a_run_that_fails_before_its_first_result_leaves_no_folder(tmp_path):
    with pytest.raises(CausalFTError, match="no such class"), new_run(tmp_path / "run", "fit") as new:
        new.create({"seed": 1})
        raise CausalFTError("no such class")
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_fails_later_is_resumed_and_counts_the_seconds_of_both(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt), new_run(folder, "fit") as new:
        new.create({"seed": 1})
        new.run.file("half.txt").write_text("one")
        raise KeyboardInterrupt
    with pytest.raises(CausalFTError, match="differs in seed"), new_run(folder, "fit") as new:
        new.create({"seed": 2})
    with new_run(folder, "fit") as new:
        new.create({"seed": 1})
        assert new.run.has("half.txt")
        new.seconds_before += 100
        new.finish({"accuracy": 0.5})
    metrics = Run.open(folder, "fit").metrics
    assert 100 < metrics["seconds"] < 110 and set(metrics["made"]) == {"date", "version"}


def test_an_occupied_folder_is_refused_before_anything_is_computed(tmp_path):
    (tmp_path / "photo.png").write_text("x")
    with pytest.raises(CausalFTError, match="is not empty and is not a run"):
        with new_run(tmp_path, "fit"):
            pytest.fail("computed")


def test_the_page_is_written_before_metrics_and_a_stamped_key_keeps_its_place(tmp_path):
    seen = []
    with new_run(tmp_path / "run", "probe") as new:
        new.create({})
        metrics = new.finish(
            {"seconds": None, "accuracy": 0.5}, lambda run, metrics: seen.append((run.complete, metrics))
        )
    assert seen == [(False, metrics)] and list(metrics) == ["seconds", "accuracy", "made"]
    assert new.run.complete and new.run.metrics == metrics


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with new_run(None, "probe") as new:
        new.create({})
        metrics = new.finish({"accuracy": 0.5}, lambda run, metrics: pytest.fail("page"))
    assert new.kept is None and set(metrics) == {"accuracy", "seconds", "made"}
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_only_computes_along_writes_nothing(tmp_path):
    with new_run(tmp_path / "run", "fit", writes=False) as new:
        new.create({"seed": 1})
        new.finish({"accuracy": 0.5}, lambda run, metrics: pytest.fail("page"))
    assert new.run.path == tmp_path / "run" and list(tmp_path.iterdir()) == []
