"""Room on the disk: the nearest folder that exists is asked, and commands that need more are refused in one line."""

from __future__ import annotations

import numpy as np
import pytest

from causalft.errors import CausalFTError
from causalft.pipelines.workflows.prediction_files import (
    Questions,
    least_bytes,
    open_rows,
    require_room_for_rows,
)
from causalft.runs import resources
from synthetic.designs import make_design
from synthetic.generate import generate


@pytest.fixture
def free(monkeypatch):
    """A disk with so many free bytes."""

    def fill(n_bytes: int) -> list:
        asked = []
        usage = type("Usage", (), {"free": n_bytes})
        monkeypatch.setattr(resources.shutil, "disk_usage", lambda place: asked.append(place) or usage)
        return asked

    return fill


def test_room_is_that_of_the_nearest_folder_that_exists(tmp_path, free):
    asked = free(1000)
    assert resources.free_bytes(tmp_path / "a" / "b") == 1000 and asked == [tmp_path]
    resources.require_room(tmp_path, 950, "the run", "stop")
    with pytest.raises(
        CausalFTError, match="the run needs at least 1 kB in .* which has 1 kB free; free some"
    ):
        resources.require_room(tmp_path, 960, "the run", "stop")  # 5 % are added


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("top", [None, 3])
def test_rows_of_predictions_take_at_least_what_is_asked_for(tmp_path, kind, top):
    rng = np.random.default_rng(0)
    questions = Questions([f"class {k}" for k in range(40)], ["clip", "openclip"], top)
    files = [f"{k:08d}.jpg" for k in range(2000)]
    probabilities = rng.dirichlet(np.ones(40), (3, len(files)))
    output = tmp_path / f"out.{kind}"
    with open_rows(str(output), kind, questions, []) as place:
        place.rows.add(files, probabilities[:2], probabilities[2])
    least = least_bytes(kind, questions, files)
    assert 0.1 * output.stat().st_size < least <= output.stat().st_size


def test_predictions_that_do_not_fit_are_refused(tmp_path, free):
    free(1_000_000)
    questions = Questions([str(k) for k in range(1000)], ["clip", "openclip"], None)
    with pytest.raises(
        CausalFTError, match=r"the file of predictions needs at least 12\.6 MB in .* 1\.0 MB free"
    ):
        require_room_for_rows(str(tmp_path / "out.csv"), "csv", questions, ["1.jpg"] * 1000)
    (tmp_path / ".out.csv.part").write_bytes(b"x" * 11_900_000)  # of an interrupted call
    require_room_for_rows(str(tmp_path / "out.csv"), "csv", questions, ["1.jpg"] * 1000)
    require_room_for_rows("-", "csv", questions, ["1.jpg"] * 1000)


def test_image_set_that_does_not_fit_is_refused_before_it_is_drawn(tmp_path, free):
    free(1_000_000)
    with pytest.raises(CausalFTError, match=r"the image set needs at least .* which has 1\.0 MB free"):
        generate(make_design("confounded"), tmp_path / "set", n_per_class=2000, progress=False)
    assert not (tmp_path / "set").exists()
