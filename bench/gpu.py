"""Measure training, inference and loading on one GPU beside plain PyTorch; prints a table, writes bench/gpu.json.

ViT-B/16 with AdaptFormer and random weights (`bench/vit_b16.py`), every row in a process of its own. A row that this
machine cannot run says why.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from loader import write_jpegs
from timing import HERE, summary

SIDES = ("reference", "causalft")
PRECISIONS = ("fp32", "bf16", "fp16")
MODES = ("eager", "compile")


def measured(script: str, *words: str) -> dict[str, Any]:
    """The document that a script of this folder prints; ``{"error": why}`` if it fails."""
    command = [sys.executable, str(HERE / script), *words]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return {"error": lines[-1].removeprefix("causalft.errors.CausalFTError: ")[:200]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def speeds(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Images per second and memory of training and inference, one row per side, precision and mode."""
    rows = []
    for task in ("train", "infer"):
        for precision in given.precisions:
            for mode in given.modes:
                for side in SIDES:
                    timing = ["--steps", given.repeats, "--block", given.block, "--warm-up", given.warm_up]
                    found = measured(
                        "vit_b16.py", side, task, *words(given, precision, mode), *map(str, timing)
                    )
                    row = {"task": task, "precision": precision, "mode": mode, "side": side, **found}
                    for name in ("losses", "n_trained"):
                        row.pop(name, None)
                    if "error" not in row:
                        rate = [row["batch"] / seconds for seconds in row.pop("seconds")]
                        row["images_per_second"] = summary(rate, "images per second")
                    rows.append(row)
                    baseline = baseline_of(rows, row)
                    if baseline is not None and "error" not in row:
                        own, other = (r["images_per_second"]["median"] for r in (row, baseline))
                        row["times_reference"] = own / other
                    say(speed_line(row))
    return rows


def words(given: argparse.Namespace, precision: str, mode: str) -> list[str]:
    """Options of `bench/vit_b16.py`."""
    chosen = ["--device", given.device, "--size", given.size, "--precision", precision]
    chosen += ["--batch", str(given.batch)] if given.batch else []
    return chosen + (["--compile", given.backend] if mode == "compile" else [])


def baseline_of(rows: Sequence[dict[str, Any]], row: dict[str, Any]) -> dict[str, Any] | None:
    """The eager reference of the same task and precision."""
    wanted = {"task": row["task"], "precision": row["precision"], "mode": "eager", "side": "reference"}
    return next((r for r in rows if wanted.items() <= r.items() and "error" not in r), None)


def speed_line(row: dict[str, Any]) -> str:
    """A row of the table."""
    start = f"{row['task']:6s} {row['precision']:5s} {row['mode']:8s} {row['side']:10s}"
    if "error" in row:
        return f"{start} not measured: {row['error']}"
    rate, times = row["images_per_second"], row.get("times_reference")
    ratio = "" if times is None else f"{times:6.2f} x"
    spread = f"({rate['min']:,.0f} to {rate['max']:,.0f})"
    return f"{start} {rate['median']:10,.0f} {spread:20s} {ratio:9s} {row['peak_mib']:10,.0f} MiB"


def agreements(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Top-1 and logits of every side, precision and mode against the eager reference in fp32.

    Classes are the means of the reference's features; a logit is 25 times the cosine with one.
    """
    import numpy as np

    exact = measured("vit_b16.py", "reference", "agree", *words(given, "fp32", "eager"))
    if "error" in exact:
        say(f"agreement not measured: {exact['error']}")
        return []
    labels, wanted = np.array(exact["labels"]), np.array(exact["features"])
    means = np.stack([wanted[labels == k].mean(0) for k in range(labels.max() + 1)])
    means = 25.0 * means / np.linalg.norm(means, axis=1, keepdims=True)
    rows = []
    for precision in given.precisions:
        for mode in given.modes:
            for side in SIDES:
                row: dict[str, Any] = {"precision": precision, "mode": mode, "side": side}
                found = measured("vit_b16.py", side, "agree", *words(given, precision, mode))
                start = f"agree  {precision:5s} {mode:8s} {side:10s}"
                if "error" in found:
                    rows.append({**row, "error": found["error"]})
                    say(f"{start} not measured: {found['error']}")
                    continue
                logits = np.array(found["features"]) @ means.T
                row["top1"] = float((logits.argmax(1) == (wanted @ means.T).argmax(1)).mean())
                row["largest_logit_difference"] = float(np.abs(logits - wanted @ means.T).max())
                rows.append(row)
                say(f"{start} top-1 {row['top1']:.3f}, logits within {row['largest_logit_difference']:.2g}")
    return rows


def loaders(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Images per second from JPEG files to squares, by number of workers."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        write_jpegs(Path(name), given.images)
        for workers in given.workers:
            for side in SIDES:
                timing = ["--workers", workers, "--side", given.side, "--repeats", given.repeats]
                timing += ["--batch", min(64, max(1, given.images // 4))]
                found = measured("loader.py", side, name, *map(str, timing))
                row: dict[str, Any] = {"workers": workers, "side": side}
                start = f"load   {workers:2d} workers     {side:10s}"
                if "error" in found:
                    rows.append({**row, "error": found["error"]})
                    say(f"{start} not measured: {found['error']}")
                    continue
                rate = summary([1 / seconds for seconds in found["seconds"]], "images per second")
                rows.append({**row, "images_per_second": rate})
                say(f"{start} {rate['median']:10,.0f} ({rate['min']:,.0f} to {rate['max']:,.0f})")
    return rows


def machine(device: str) -> dict[str, Any]:
    """What ran, and the switches that change the speed of fp32."""
    import torch

    found: dict[str, Any] = {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("causalft", "torch", "open_clip_torch")},
        "device": device,
        "tf32_in_matrices": torch.get_float32_matmul_precision() != "highest",
        "tf32_in_convolutions": torch.backends.cudnn.allow_tf32,
    }
    if device.startswith("cuda"):
        about = torch.cuda.get_device_properties(device)
        found |= {"gpu": about.name, "gpu_mib": about.total_memory / 2**20, "cuda": torch.version.cuda}
    return found


def say(line: str) -> None:
    print(line, flush=True)


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def names_of(known: Sequence[str]) -> Any:
    def read(text: str) -> list[str]:
        unknown = [name for name in text.split(",") if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown {unknown[0]!r}; choose from {', '.join(known)}")
        return text.split(",")

    return read


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure everything and write it."""
    cores = os.cpu_count() or 1
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu to try the code")
    parser.add_argument("--size", choices=["vit-b16", "tiny"], default="vit-b16")
    parser.add_argument("--batch", type=int, default=128, help="images per step")
    parser.add_argument("--repeats", type=int, default=5, help="times that are taken of each row")
    parser.add_argument("--block", type=int, default=10, help="steps in each of them")
    parser.add_argument("--warm-up", type=int, default=5, help="steps before")
    parser.add_argument("--precisions", type=names_of(PRECISIONS), default=list(PRECISIONS))
    parser.add_argument("--modes", type=names_of(MODES), default=list(MODES))
    parser.add_argument("--backend", default="inductor", help="of torch.compile")
    parser.add_argument("--images", type=int, default=2048, help="JPEG files to load")
    parser.add_argument("--side", type=int, default=224, help="of a loaded square, in pixels")
    parser.add_argument(
        "--workers", type=numbers, default=[n for n in (1, 2, 4, 8, 16, 32) if n <= cores], metavar="N,N,..."
    )
    parser.add_argument("--out", type=Path, default=HERE / "gpu.json")
    given = parser.parse_args(arguments)
    if given.device != "cpu":
        import torch

        if not torch.cuda.is_available():
            parser.error("there is no GPU here; try the code with --device cpu --size tiny")
    results = {"machine": machine(given.device)}
    say(json.dumps(results["machine"]))
    results |= {"speeds": speeds(given), "agreement": agreements(given), "loaders": loaders(given)}
    given.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    say(f"written to {given.out}")


if __name__ == "__main__":
    main()
