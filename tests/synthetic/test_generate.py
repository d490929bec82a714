"""Image sets in memory and on disk: the same seed gives the same bytes, folders load with the usual tools."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import pytest
import tqdm.auto
import tqdm.std
from PIL import Image
from scipy.stats import chi2_contingency

from causalft.errors import CausalFTError
from synthetic.designs import DESIGNS, SETS, make_design
from synthetic.generate import Renderer, Request, generate, make_set, open_source, picture_seed
from synthetic.objects import PARTS
from tests.command_line import run


def test_a_larger_set_begins_with_the_smaller_one_and_no_picture_is_in_two_sets():
    design = make_design("paper", ["cat", "dog"])
    small, large = (make_set(design, "B_train", n, seed=3, size=16) for n in (10, 20))
    heads = small.pixels[(small.labels == 0) & (small.factors == 0)]
    assert np.array_equal(heads, large.pixels[(large.labels == 0) & (large.factors == 0)][: len(heads)])
    seen: set[bytes] = set()
    for which in SETS:
        for seed in (0, 1):
            pictures = make_set(design, which, 10, seed, size=16).pixels
            seen |= {picture.tobytes() for picture in pictures}
    assert len(seen) == 4 * 2 * 20


@pytest.mark.parametrize("name", DESIGNS)
def test_a_set_follows_the_rows_of_its_design(name):
    design = make_design(name, ["cat", "dog", "truck"])
    rows, pictures = design.rows("B_train", 40, seed=2), make_set(design, "B_train", 40, seed=2, size=8)
    for column in ("labels", "factors", "looks", "parts", "contents"):
        assert np.array_equal(getattr(rows, column), getattr(pictures, column))
    of_cell: Counter[tuple[int, int]] = Counter()
    for number in range(len(rows)):
        label, factor = int(rows.labels[number]), int(rows.factors[number])
        seed = picture_seed(2, name, "B_train", design.classes[label], factor, of_cell[label, factor])
        request = Request(design.classes[rows.looks[number]], int(rows.parts[number]), seed)
        assert np.array_equal(Renderer(8).draw([request])[0], pictures.pixels[number])
        of_cell[label, factor] += 1


def test_null_pictures_know_nothing_of_the_factor():
    pictures = make_set(make_design("null"), "B_train", 200, seed=0, size=8)
    assert not np.array_equal(pictures.parts, pictures.factors)
    for label in range(6):
        mine = pictures.labels == label
        table = np.histogram2d(pictures.factors[mine], pictures.parts[mine], bins=2)[0]
        assert chi2_contingency(table).pvalue > 0.001


def fingerprint(folder) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_command_writes_image_folders_bit_identically(tmp_path):
    for name in ("one", "two"):
        result = run(
            "generate",
            "--classes",
            "cat,truck",
            "--n-per-class",
            "6",
            "--ratio",
            "5:1",
            "--size",
            "16",
            "--seed",
            "4",
            "--out",
            str(tmp_path / name),
            "--json",
        )
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["counts"]["B_train"] == [[5, 1], [1, 5]]
    one, two = fingerprint(tmp_path / "one"), fingerprint(tmp_path / "two")
    assert one == two and sum(path.endswith(".png") for path in one) == 48

    rows = list(csv.DictReader((tmp_path / "one" / "metadata.csv").open()))
    assert list(rows[0])[:6] == ["file_name", "label", "factor", "design", "split", "seed"]
    assert len(rows) == 48 and {row["split"] for row in rows} == set(SETS)
    for row in rows:
        with Image.open(tmp_path / "one" / row["file_name"]) as picture:
            assert picture.size == (16, 16) and picture.mode == "RGB"
        assert row["file_name"].split("/")[:2] == [row["split"], row["label"]]
        assert row["part"].startswith(row["look"])

    from torchvision.datasets import ImageFolder

    folder = ImageFolder(str(tmp_path / "one" / "B_train"))
    assert folder.classes == ["cat", "truck"] and len(folder) == 12
    local = list(csv.DictReader((tmp_path / "one" / "B_train" / "metadata.csv").open()))
    assert all((tmp_path / "one" / "B_train" / row["file_name"]).exists() for row in local)


@dataclass
class Slow:
    """The renderer, slow enough to be interrupted; it may fail at one call."""

    size: int = 8
    batch_size: int = 5
    pause: float = 0.0
    fails_at: int = -1
    calls: int = 0
    name: str = "slow"
    parts: Mapping[str, tuple[str, str]] = field(default_factory=lambda: PARTS)

    def draw(self, requests):
        self.calls += 1
        if self.calls == self.fails_at:
            raise KeyboardInterrupt
        time.sleep(self.pause)
        return Renderer(self.size).draw(requests)

    def provenance(self):
        return {"model": "slow", "batch_size": str(self.batch_size)}

    def prompt(self, request):
        return f"a {request.look}"


def grey(pictures, looks, parts):
    """A judge that rejects about a third of the pictures, by their content."""
    return pictures.reshape(len(pictures), -1).sum(1) % 3 != 0


def test_an_interrupted_run_goes_on_and_ends_with_the_same_bytes(tmp_path):
    design = make_design("null", ["cat", "dog"])
    settings = {"n_per_class": 4, "judge": grey, "check": "grey", "max_rejects": 0.9}
    whole = Slow()
    generate(design, tmp_path / "whole", generator=whole, **settings)
    for stop in range(1, whole.calls + 1):
        out = tmp_path / f"stopped-{stop}"
        with pytest.raises(KeyboardInterrupt):
            generate(design, out, generator=Slow(fails_at=stop), **settings)
        assert not (out / "metrics.json").exists() and not (out / "metadata.csv").exists()
        again = Slow()
        generate(design, out, generator=again, **settings)
        assert again.calls == whole.calls - stop + 1, "drawn again although it was there"
        assert fingerprint(out) == fingerprint(tmp_path / "whole")


def test_a_torn_file_is_drawn_again_and_leftovers_are_removed(tmp_path):
    design = make_design("paper", ["cat", "dog"])
    generate(design, tmp_path / "whole", 4, size=8)
    with pytest.raises(KeyboardInterrupt):
        generate(design, tmp_path / "torn", 4, generator=Slow(fails_at=5))
    some = sorted((tmp_path / "torn").rglob("*.png"))
    assert len(some) == 20
    some[0].write_bytes(some[0].read_bytes()[:90])
    some[1].write_bytes(b"")
    (tmp_path / "torn" / "A_train" / "cat" / ".00000.png.part").write_bytes(b"half")
    (tmp_path / "torn" / ".metadata.part-k2jd8s_3.csv").write_bytes(b"half")
    generate(design, tmp_path / "torn", 4, generator=Slow())
    generate(design, tmp_path / "slow", 4, generator=Slow())
    assert fingerprint(tmp_path / "torn") == fingerprint(tmp_path / "slow")


def pixels_of(folder):
    return {
        path.relative_to(folder).as_posix(): Image.open(path).tobytes()
        for path in sorted(folder.rglob("*.png"))
    }


def test_rejects_are_counted_kept_aside_and_replaced(tmp_path):
    design = make_design("confounded", ["cat", "dog"])
    out = generate(design, tmp_path / "out", 10, generator=Slow(), judge=grey, check="grey", max_rejects=0.9)
    metrics = json.loads((out / "metrics.json").read_text())
    rejected = sorted((out / "rejected").rglob("*.png"))
    assert metrics["rejects"]["total"] == len(rejected) > 10 and metrics["check"] == "grey"
    assert sum(metrics["rejects"][which] for which in SETS) == len(rejected)
    rows = list(csv.DictReader((out / "metadata.csv").open()))
    assert len(rows) == 80
    for row in rows:
        picture = np.asarray(Image.open(out / row["file_name"]))[None]
        assert grey(picture, [], []).all()
        tried = len(list((out / "rejected").glob(row["file_name"].replace(".png", "-*.png"))))
        number = int(row["file_name"][-9:-4])
        index = (
            number
            if row["factor"] == "0"
            else number
            - sum(
                other["factor"] == "0" and other["label"] == row["label"] and other["split"] == row["split"]
                for other in rows
            )
        )
        seed = picture_seed(0, "confounded", row["split"], row["label"], int(row["factor"]), index, tried)
        assert int(row["image_seed"]) == seed
        part = PARTS[row["look"]].index(row["part"].removeprefix(row["look"] + " "))
        again = Renderer(8).draw([Request(row["look"], part, seed)])
        assert np.array_equal(again, picture), "a picture cannot be made again alone"
    for path in rejected:
        assert not grey(np.asarray(Image.open(path))[None], [], []).any()


def test_more_rejects_than_the_limit_stop_the_run_and_lose_nothing(tmp_path):
    design = make_design("confounded", ["cat", "dog"])
    whole = generate(design, tmp_path / "whole", 10, generator=Slow(), judge=grey, max_rejects=0.9)
    with pytest.raises(
        CausalFTError, match=r"rejected images, and 8 of 80 are allowed: look at .*rejected"
    ) as caught:
        generate(design, tmp_path / "out", 10, generator=Slow(), judge=grey, max_rejects=0.1)
    assert "\n" not in str(caught.value)
    kept = pixels_of(tmp_path / "out")
    with pytest.raises(CausalFTError, match="8 of 80 are allowed"):
        generate(design, tmp_path / "out", 10, generator=Slow(), judge=grey, max_rejects=8)
    assert pixels_of(tmp_path / "out") == kept
    generate(design, tmp_path / "out", 10, generator=Slow(), judge=grey, max_rejects=75)
    assert fingerprint(tmp_path / "out") == fingerprint(whole)


class Blank(Slow):
    """Leaves some pictures black, as a safety checker does."""

    def draw(self, requests):
        pictures = super().draw(requests)
        pictures[[request.seed % 4 == 0 for request in requests]] = 0
        return pictures


def test_blank_pictures_are_rejected_without_a_judge(tmp_path):
    design = make_design("paper", ["cat", "dog"])
    out = generate(design, tmp_path / "out", 10, generator=Blank(), max_rejects=0.9)
    assert json.loads((out / "metrics.json").read_text())["rejects"]["total"] > 5
    assert all(
        len(set(pixels)) > 1 for name, pixels in pixels_of(out).items() if not name.startswith("rejected")
    )
    memory = make_set(design, "A_train", 10, 0, generator=Blank(), size=8, max_rejects=0.9)
    files = [np.asarray(Image.open(path)) for path in sorted((out / "A_train").rglob("*.png"))]
    assert np.array_equal(memory.pixels, np.stack(files))
    with pytest.raises(CausalFTError, match="rejected images, and 0 of 20 are allowed"):
        make_set(design, "A_train", 10, 0, generator=Blank(), size=8, max_rejects=0)


def test_a_batch_that_was_halved_stays_halved_when_the_run_goes_on(tmp_path):
    design, source = make_design("paper", ["cat", "dog"]), Slow(batch_size=8, fails_at=4)
    draw = source.draw

    def halve(requests):
        if source.calls == 1:
            source.batch_size = 4
        return draw(requests)

    source.draw = halve
    with pytest.raises(KeyboardInterrupt):
        generate(design, tmp_path / "out", 8, generator=source)
    again = Slow(batch_size=8)
    metrics = json.loads(
        (generate(design, tmp_path / "out", 8, generator=again) / "metrics.json").read_text()
    )
    assert again.batch_size == 4 and metrics["batch_sizes"] == {"4": 56, "8": 8}
    rows = list(csv.DictReader((tmp_path / "out" / "metadata.csv").open()))
    assert [row["batch_size"] for row in rows] == ["8"] * 8 + ["4"] * 56


def test_the_files_say_what_they_are(tmp_path, tiny):
    source = open_source("stable-diffusion", model=str(tiny), steps=1, batch_size=16)
    out = generate(make_design("null", ["cat", "airplane"]), tmp_path / "out", 4, seed=3, generator=source)
    rows = list(csv.DictReader((out / "metadata.csv").open()))
    wanted = (
        "model",
        "revision",
        "prompt",
        "image_seed",
        "steps",
        "guidance",
        "scheduler",
        "size",
        "precision",
    )
    assert {*wanted, "batch_size", "negative_prompt", "diffusers", "torch"} <= rows[0].keys()
    for row in rows:
        assert row["prompt"] == f"a photo of a {row['part'].replace(' ', chr(39) + 's ', 1)}"
        with Image.open(out / row["file_name"]) as picture:
            text = dict(picture.text)
        name = row.pop("file_name")
        assert text == row, "the text of the file and its row differ"
        local = list(csv.DictReader((out / name.split("/")[0] / "metadata.csv").open()))
        assert {**row, "file_name": name.split("/", 1)[1]} in local
    part = ["cat head", "cat body"].index(rows[0]["part"])
    again = source.draw([Request("cat", part, int(rows[0]["image_seed"]))])[0]
    assert np.array_equal(again, np.asarray(Image.open(out / "A_train/cat/00000.png")))
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["provenance"]["model"] == str(tiny) and metrics["generator"] == "stable-diffusion"


def test_classes_of_ones_own_can_be_drawn(tmp_path, tiny):
    file = tmp_path / "prompts.yaml"
    file.write_text("classes:\n  horse: [head, tail]\n  ship: [bow, stern]\n")
    source = open_source("stable-diffusion", model=str(tiny), steps=1, prompts=str(file))
    design = make_design("paper", parts=source.parts)
    out = generate(design, tmp_path / "out", 4, generator=source)
    rows = list(csv.DictReader((out / "metadata.csv").open()))
    assert {row["part"] for row in rows} == {"horse head", "horse tail", "ship bow", "ship stern"}
    assert "a photo of a ship's bow" in {row["prompt"] for row in rows}
    with pytest.raises(CausalFTError, match="the generator renderer has no class 'horse'"):
        generate(design, tmp_path / "other", 4)


def test_a_cache_is_filled_once_and_shared_by_larger_sets(tmp_path):
    design, source = make_design("paper", ["cat", "dog"]), Slow(size=16)
    small = make_set(design, "B_train", 10, 3, generator=source, size=16, cache=tmp_path)
    assert source.calls == 4
    again = make_set(design, "B_train", 10, 3, generator=source, size=16, cache=tmp_path)
    assert source.calls == 4 and np.array_equal(small.pixels, again.pixels)
    memory = make_set(design, "B_train", 10, 3, generator="renderer", size=16)
    assert np.array_equal(small.pixels, memory.pixels) and np.array_equal(small.factors, memory.factors)
    make_set(design, "B_train", 20, 3, generator=source, size=16, cache=tmp_path)
    assert source.calls == 4 + 6, "batches with something missing only"
    half = make_set(design, "B_train", 10, 3, generator=source, size=8, cache=tmp_path)
    assert half.pixels.shape == (20, 8, 8, 3)
    means = memory.pixels.reshape(20, 8, 2, 8, 2, 3).mean((2, 4))
    assert np.abs(half.pixels - means).mean() < 12

    class Other(Slow):
        def provenance(self):
            return {"model": "another", "batch_size": "5"}

    with pytest.raises(CausalFTError, match="was drawn otherwise .it differs in model."):
        make_set(design, "B_train", 10, 3, generator=Other(size=16), size=16, cache=tmp_path)


def killed_and_resumed(tmp_path, make, kills, images, seed):
    """Kill a generation, each time at a random number of pictures, in one folder; then let it end."""
    make(tmp_path / "whole")
    rng, out, killed = np.random.default_rng(seed), tmp_path / "killed", 0
    for moment in np.sort(rng.integers(0, images, kills)):
        child = os.fork()
        if child == 0:
            with suppress(BaseException):
                # tqdm's own lock is shared by a fork: killed with it, the child would leave the parent waiting for ever
                for bar in (tqdm.std.tqdm, tqdm.auto.tqdm):
                    bar.set_lock(threading.RLock())
                make(out)
            os._exit(0)
        while len(list(out.rglob("[!.]*.png"))) < moment and os.waitpid(child, os.WNOHANG)[0] == 0:
            time.sleep(0.001)
        time.sleep(rng.random() * 0.01)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        with suppress(ChildProcessError):
            killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    if not (out / "metrics.json").exists():
        make(out)
    assert fingerprint(out) == fingerprint(tmp_path / "whole")
    return killed


@pytest.mark.parametrize("kills", [4, pytest.param(10, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["renderer", "judged", "stable-diffusion"])
def test_kill_9_at_random_moments_then_resume_gives_the_same_bytes(tmp_path, tiny, kind, kills):
    design = make_design("confounded", ["cat", "dog"])
    if kind == "stable-diffusion":
        source = open_source(kind, model=str(tiny), steps=1, batch_size=4)
    else:
        source = Renderer(8) if kind == "renderer" else Slow(pause=0.002)

    def make(out):
        judge = {"judge": grey, "check": "grey", "max_rejects": 0.9} if kind == "judged" else {}
        generate(design, out, 20, generator=source, progress=False, **judge)

    assert killed_and_resumed(tmp_path, make, kills, images=160, seed=kills) >= kills - 1


@pytest.mark.slow
def test_ten_kills_of_the_command_end_in_the_same_bytes(tmp_path, tiny):
    words = [sys.executable, "-c", "from causalft.cli import main; main()", "generate", "--n-per-class", "40"]
    words += [
        "--generator",
        "stable-diffusion",
        "--model",
        str(tiny),
        "--steps",
        "4",
        "--classes",
        "cat,dog",
        "--out",
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    subprocess.run([*words, str(tmp_path / "whole")], check=True, env=environment, capture_output=True)
    rng, out, killed = np.random.default_rng(0), tmp_path / "killed", 0
    for moment in np.sort(rng.integers(0, 300, 10)):
        child = subprocess.Popen([*words, str(out)], env=environment, stderr=subprocess.PIPE)
        while len(list(out.rglob("[!.]*.png"))) < moment and child.poll() is None:
            time.sleep(0.002)
        time.sleep(rng.random() * 0.05)
        child.send_signal(signal.SIGKILL)
        killed += child.wait() == -signal.SIGKILL
    if not (out / "metrics.json").exists():
        subprocess.run([*words, str(out)], check=True, env=environment, capture_output=True)
    assert killed >= 9 and fingerprint(out) == fingerprint(tmp_path / "whole")


@pytest.mark.parametrize(
    "options, message",
    [
        (["--classes", "cat,hound"], "no class 'hound'"),
        (["--ratio", "90-10"], "'--ratio': '90-10' is not a ratio"),
        (["--ratio", "1:0"], "out of range"),
        (["--n-per-class", "2"], "too small"),
        (["--size", "4"], "'--size': '4' is out of range; give a whole number from 8"),
        (["--seed", "-1"], "'--seed': '-1' is out of range"),
        (["--generator", "rendrer"], "did you mean 'renderer'"),
    ],
)
def test_bad_options_give_one_line_and_no_folder(tmp_path, options, message):
    result = run("generate", "--out", str(tmp_path / "out"), *options)
    assert result.exit_code == 2 and message in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(CausalFTError, match="not empty"):
        generate(make_design("paper", ["cat", "dog"]), tmp_path, 4, size=8)
