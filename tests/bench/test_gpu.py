"""The bench of a GPU, on the CPU at a tiny size: every row, the table and the file."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"
NAMES = ("timing", "vit_b16", "loader", "gpu")
TINY = "--device cpu --size tiny --batch 4 --repeats 2 --block 2 --warm-up 1 --backend eager --images 8 --side 32"


@pytest.fixture
def bench(monkeypatch):
    """The modules of the folder; rows run in this process, which costs less."""
    monkeypatch.syspath_prepend(str(BENCH))
    for name in NAMES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    modules = {name: importlib.import_module(name) for name in NAMES}

    def measured(script, *words):
        try:
            return modules[script.removesuffix(".py")].measure(words)
        except Exception as error:
            return {"error": str(error)}

    monkeypatch.setattr(modules["gpu"], "measured", measured)
    yield modules["gpu"]
    for name in NAMES:
        sys.modules.pop(name, None)


def test_every_row_is_measured(bench, tmp_path, capsys):
    out = tmp_path / "gpu.json"
    bench.main([*TINY.split(), "--precisions", "fp32", "--workers", "0", "--out", str(out)])
    found = json.loads(out.read_text())
    shown = capsys.readouterr().out.splitlines()

    speeds = {(r["task"], r["mode"], r["side"]): r for r in found["speeds"]}
    assert len(speeds) == 8
    for row in speeds.values():
        rate = row["images_per_second"]
        assert rate["repeats"] == 2 and 0 < rate["min"] <= rate["median"] <= rate["max"]
        assert row["peak_mib"] > 10 and row["batch"] == 4 and row["precision"] == "fp32"
        other = speeds[row["task"], "eager", "reference"]["images_per_second"]["median"]
        assert row["times_reference"] == pytest.approx(rate["median"] / other)

    agreement = {(r["mode"], r["side"]): r for r in found["agreement"]}
    assert len(agreement) == 4 and agreement["eager", "reference"]["largest_logit_difference"] == 0
    for row in agreement.values():
        assert row["largest_logit_difference"] < 1e-4 and row["top1"] == 1

    assert [row["side"] for row in found["loaders"]] == ["reference", "causalft"]
    assert all(row["images_per_second"]["min"] > 0 for row in found["loaders"])
    assert [line.split()[0] for line in shown[1:-1]] == [
        *["train"] * 4,
        *["infer"] * 4,
        *["agree"] * 4,
        *["load"] * 2,
    ]
    assert found["machine"]["device"] == "cpu"


def test_a_row_that_cannot_be_measured_says_why(bench, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "measured", lambda *words: {"error": "no compiler"})
    bench.main([*TINY.split(), "--workers", "0", "--out", str(tmp_path / "gpu.json")])
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert {row["error"] for row in [*found["speeds"], *found["loaders"]]} == {"no compiler"}
    assert "train  fp16  compile  causalft   not measured: no compiler" in capsys.readouterr().out


def test_losses_of_both_sides_agree(bench):
    measure = sys.modules["vit_b16"].measure
    words = ["--size", "tiny", "--precision", "fp32", "--steps", "6"]
    exact, ours = measure(["reference", "train", *words]), measure(["causalft", "train", *words])
    assert ours["losses"] == pytest.approx(exact["losses"], rel=1e-5) and len(ours["losses"]) == 7
    assert ours["n_trained"] == exact["n_trained"]


def test_time_is_that_of_a_step_after_the_warm_up(bench, monkeypatch):
    watch = sys.modules["vit_b16"].Watch("cpu", warm_up=3, block=2)
    clock = iter(range(0, 100, 10))
    monkeypatch.setattr(sys.modules["vit_b16"], "now", lambda device: next(clock))
    for loss in range(3 + 4):
        watch(loss)
    assert watch.seconds == [5, 5] and watch.losses == list(range(7))


def test_rows_run_in_a_process_of_their_own_and_report_errors(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    for name in NAMES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    gpu = importlib.import_module("gpu")
    wrong = gpu.measured("loader.py", "another", "folder")
    assert wrong["error"].startswith("loader.py: error: argument loader: invalid choice: 'another'")
    for name in NAMES:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    "words, reason",
    [
        ("--device cuda", "there is no GPU here; try the code with --device cpu --size tiny"),
        ("--precisions fp8", "unknown 'fp8'; choose from fp32, bf16, fp16"),
    ],
)
def test_what_cannot_be_measured_is_refused(bench, monkeypatch, capsys, words, reason):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit) as caught:
        bench.main(words.split())
    assert caught.value.code == 2 and reason in capsys.readouterr().err
