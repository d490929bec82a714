"""Work sent to Ray: shards as bytes, results as tables, and one line for what cannot be."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from causalft.data.given import unlabelled_images
from causalft.errors import CausalFTError
from causalft.methods.estimators import fitted as fitted_module
from causalft.models.features import ray_workers as module
from causalft.models.features.encoder import stream_crops
from causalft.models.features.engines import Launched, open_engine
from causalft.models.features.parts import Part, as_parts
from tests.command_line import run, said


def brightness(images, rows):
    """The sum of the pixels of each image."""
    skipped: list[tuple[int, str]] = []
    stream = stream_crops(
        images,
        [np.asarray],
        3,
        rows=rows,
        on_error="skip",
        bad=lambda row, message: skipped.append((row, message)),
        progress=False,
    )
    named = ((found, {"sum": pixels.flatten(1).sum(1).numpy()}) for found, (pixels,) in stream)
    return as_parts(named, skipped)


@pytest.fixture
def files(tmp_path):
    rng, found = np.random.default_rng(0), []
    for number in range(11):
        found.append(tmp_path / f"{number:02d}.png")
        Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(found[-1])
    return found


@pytest.fixture
def without_ray(monkeypatch):
    """The steps of a shard in this process; Ray only carries them."""
    monkeypatch.setattr(module, "_opened", lambda held: held[0])

    def through(images, rows, batch_size, workers):
        reader, worker = module._Reader([images]), module._Worker([brightness], batch_size)
        for shard in module._shards(rows, batch_size, workers):
            yield module._part(worker(reader({"rows": [shard["rows"]]})))

    return through


def plain(parts: list[Part]):
    rows = [row for part in parts for row in part.rows.tolist()]
    values = [value for part in parts if len(part.rows) for value in part.values["sum"].tolist()]
    return dict(zip(rows, values, strict=True)), [each for part in parts for each in part.skipped]


@pytest.mark.parametrize("broken", [[], [0], [4, 5, 6], [10], list(range(11))])
def test_shards_give_what_this_process_gives(files, without_ray, broken):
    for number in broken:
        files[number].write_bytes(b"no image")
    if 4 in broken:
        files[4].unlink()  # cannot even be read
    images = unlabelled_images([*files[:4], "-", *files[5:]], [str(files[4])])
    here = plain(list(Launched().parts(images, range(1, 11), 3, brightness)))
    there = plain(list(without_ray(images, range(1, 11), 3, 2)))
    assert there == here
    assert [row for row, _ in here[1]] == [row for row in broken if row]


@pytest.mark.parametrize(("n", "batch", "workers"), [(1, 64, 2), (11, 3, 2), (5000, 64, 2), (100, 7, 50)])
def test_shards_are_whole_batches_and_all_rows(n, batch, workers):
    shards = [shard["rows"] for shard in module._shards(range(5, 5 + n), batch, workers)]
    assert np.concatenate(shards).tolist() == list(range(5, 5 + n))
    assert all(len(shard) % batch == 0 for shard in shards[:-1])
    assert max(map(len, shards)) <= max(batch, module._SHARD)


def test_the_error_of_a_worker_is_found_in_what_ray_wraps_around_it():
    outer = RuntimeError("a long trace\nof many lines")
    outer.cause = RuntimeError("inner")  # type: ignore[attr-defined]
    outer.cause.__cause__ = CausalFTError("features of rows 0 to 3 are not finite")  # type: ignore[attr-defined]
    assert str(module._one_line(outer)) == "features of rows 0 to 3 are not finite"
    lost = str(module._one_line(RuntimeError("a long trace\nof many lines")))
    assert "a worker of Ray failed (RuntimeError: a long trace of many lines)" in lost and "repeat" in lost


def test_ray_that_is_not_installed_is_named_with_its_extra(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(CausalFTError, match=r"pip install 'causalft\[ray\]'"):
        open_engine("ray")
    line = said(run("probe", "--engine", "ray", "--losses", "none"))
    assert "--engine ray needs Ray, which is not installed; pip install 'causalft[ray]'" in line


def test_ray_under_a_launcher_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(CausalFTError, match="run it without the launcher"):
        open_engine("ray")


def test_unknown_engines_and_workers_without_ray_are_refused():
    with pytest.raises(CausalFTError, match="unknown engine 'rai'"):
        open_engine("rai")
    with pytest.raises(CausalFTError, match="workers goes with engine ray"):
        open_engine("local", 3)
    assert "'rai' is not one of 'local', 'ray'" in said(run("probe", "--engine", "rai"))
    assert "--workers goes with --engine ray" in said(run("probe", "--workers", 2, "--losses", "none"))


# --- with Ray ----------------------------------------------------------------------------------------------------

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed (extra ray)"
)


@needs_ray
@pytest.mark.slow
def test_two_workers_go_on_after_an_interruption_and_a_kill(tiny_zoo, photos, tmp_path, monkeypatch):
    fitted = tmp_path / "run"
    options = ["--epochs", 1, "--n-validation", 5, "--n-test", 5, "--strata", "clip", "--out", fitted]
    assert run("fit", "--zoo", tiny_zoo, "--data", photos, *options).exit_code == 0
    command = ["predict", fitted, photos, "--top", "all", "--batch-size", 4]
    assert run(*command, "--out", tmp_path / "alone.jsonl").exit_code == 0

    whole = fitted_module.predict_stream

    def stops(*arguments, **options):
        for number, found in enumerate(whole(*arguments, **options)):
            if number == 3:
                raise KeyboardInterrupt
            yield found

    with monkeypatch.context() as patch:
        patch.setattr(fitted_module, "predict_stream", stops)
        assert run(*command, "--out", tmp_path / "rows.jsonl").exit_code == 130

    words = [*command, "--out", tmp_path / "rows.jsonl", "--engine", "ray", "--workers", 2]
    code = "from causalft.cli import main; main()"
    ray = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    killed: list[str] = []
    killer = threading.Thread(target=kill_a_worker, args=(ray.pid, killed))
    killer.start()
    _, told = ray.communicate(timeout=850)
    killer.join()
    assert ray.returncode == 0, told
    assert killed and "12 of 120 images are there already; going on" in told
    assert (tmp_path / "rows.jsonl").read_text() == (tmp_path / "alone.jsonl").read_text()


def kill_a_worker(driver: int, killed: list[str]) -> None:
    """Kill the first process of the driver's that holds the models."""
    import psutil

    while psutil.pid_exists(driver):
        with suppress(psutil.Error):
            for process in psutil.Process(driver).children(recursive=True):
                words = process.cmdline()
                if words and words[0].startswith("ray::") and "_Worker" in words[0]:
                    process.kill()
                    killed.append(words[0])
                    return
        time.sleep(0.02)
