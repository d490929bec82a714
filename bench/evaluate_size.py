"""A finished run of any size, made of class-structured random logits, and its evaluation: memory and seconds."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from timing import HERE, peak_mib, summary


@dataclass(frozen=True)
class Size:
    """Images, classes and members of a run; ``control`` adds two members beside the first stratum."""

    n_train: int
    n_validation: int
    n_test: int
    n_classes: int
    n_seeds: int
    control: bool
    strata: tuple[str, ...] = ("clip", "openclip", "metaclip")

    @property
    def names(self) -> list[str]:
        """Every member."""
        return [*self.strata, *([f"{self.strata[0]}@{number}" for number in (1, 2)] if self.control else [])]


SIZES = {
    "imagenet": Size(115_846, 20_000, 50_000, 1000, 3, True),
    "imagenet-one-seed": Size(115_846, 20_000, 50_000, 1000, 1, False),
    "inat": Size(437_513, 24_426, 24_426, 8142, 1, False),
}
"""ImageNet-LT; iNaturalist 2018 with three validation images of each class, as many as it has for testing."""


def labels_of(size: Size) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Labels: a long tail of 5 to 1,280 images for training (or as long as fits), balanced validation and test."""
    tail = 0.98 ** (np.arange(size.n_classes) * 300 / size.n_classes)
    counts = np.maximum(1, np.floor(tail / tail.sum() * size.n_train)).astype(np.int64)
    train = np.repeat(np.arange(size.n_classes), counts)
    return train, np.arange(size.n_validation) % size.n_classes, np.arange(size.n_test) % size.n_classes


def label_prior(size: Size, name: str) -> NDArray[np.float64]:
    """The label prior of a stratum, an imbalance of 100; members of the control share that of the first."""
    rng = np.random.default_rng([7, size.strata.index(name.split("@")[0])])
    prior = 100.0 ** (-rng.permutation(size.n_classes) / size.n_classes)
    return prior / prior.sum()


def logits_of(
    size: Size, labels: NDArray[np.int64], name: str, seed: int, tuned: bool, rows: slice
) -> NDArray[np.float32]:
    """Logits of some images: noise, the log prior, and a signal that depends on class, image and prior."""
    rng = np.random.default_rng([seed, size.names.index(name), tuned, len(labels), rows.start])
    hard = np.random.default_rng([11, rows.start]).normal(size=rows.stop - rows.start)
    easy = np.random.default_rng(13).normal(size=size.n_classes)
    prior = np.log(size.n_classes * label_prior(size, name)).astype(np.float32)
    found = rng.standard_normal((rows.stop - rows.start, size.n_classes), dtype=np.float32)
    found += (0.2 if tuned else 0.6) * prior
    of_label = labels[rows]
    signal = (4.6 if tuned else 3.2) + easy[of_label] + 1.3 * hard + (0.3 if tuned else 0.6) * prior[of_label]
    found[np.arange(len(found)), of_label] += signal.astype(np.float32)
    return 20 + found


def settings_of(size: Size) -> Any:
    """Settings of the run."""
    from causalft.methods.estimators.settings import FitSettings

    return FitSettings(
        strata=size.strata,
        data="made",
        zoo="pretrained",
        n_seeds=size.n_seeds,
        control="seeds" if size.control else "none",
        fusion="mixture",  # what the choice of a strength takes is not evaluation
    )


def config_of(size: Size) -> dict[str, Any]:
    """Its configuration."""
    return {**asdict(settings_of(size)), "data_fingerprint": ["", "", ""]}


def write_run(folder: Path, size: Size) -> None:
    """Write what an interrupted run of ``fit`` with all its strata done leaves behind, block by block."""
    from causalft.methods.estimators.member import PREDICTIONS
    from causalft.methods.estimators.run_documents import folder_name, stratum_folder
    from causalft.methods.estimators.stored_logits import as_kept, row_blocks
    from causalft.methods.priors import PriorEstimate
    from causalft.runs.folder import Run

    Run.create(folder, kind="fit", config=config_of(size))
    _, validation, test = labels_of(size)
    for seed in range(size.n_seeds):
        at = folder if not seed else folder / "seeds" / str(seed)
        for name in size.names:
            place = stratum_folder(at, name) if name in size.strata else at / "controls" / folder_name(name)
            place.mkdir(parents=True, exist_ok=True)
            prior = label_prior(size, name)
            estimate = {
                key: value
                for key, value in asdict(PriorEstimate(prior, 1.0, True, size.n_validation)).items()
                if key != "prior"
            }
            member = {
                "name": name,
                "sha256": "0" * 64,
                "source": "made at random",
                "lr": 0.01,
                "n_tuned": 1,
                "prior": estimate,
                "seconds": 0.0,
            }

            def blocks(
                labels: NDArray[np.int64], tuned: bool, name: str = name, seed: int = seed
            ) -> Callable[[], Iterator[NDArray[Any]]]:
                of_stratum = seed if tuned else 0  # the zero-shot model is the same for every seed
                return lambda: (
                    as_kept(logits_of(size, labels, name, of_stratum, tuned, rows))
                    for rows in row_blocks(len(labels), size.n_classes)
                )

            kind = as_kept(np.zeros((1, size.n_classes))).dtype
            logits = {
                "zero_shot_validation": (validation, False),
                "zero_shot_test": (test, False),
                "validation_logits": (validation, True),
                "test_logits": (test, True),
            }
            arrays = {
                key: ((len(labels), size.n_classes), kind, blocks(labels, tuned))
                for key, (labels, tuned) in logits.items()
            }
            arrays["prior"] = (prior.shape, prior.dtype, lambda prior=prior: iter([prior]))
            _write_blocks(place / PREDICTIONS, arrays, {"member": json.dumps(member), "made_with": "{}"})


_NAMES = {"float64": "F64", "float32": "F32", "float16": "F16"}


def _write_blocks(path: Path, arrays: dict[str, Any], metadata: dict[str, str]) -> None:
    """Write a safetensors file whose tensors come in blocks."""
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, (shape, dtype, _) in arrays.items():
        start, end = end, end + int(np.prod(shape)) * np.dtype(dtype).itemsize
        header[name] = {"dtype": _NAMES[str(dtype)], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, _, blocks in arrays.values():
            for block in blocks():
                file.write(np.ascontiguousarray(block).data)


def image_sets(size: Size) -> Any:
    """Splits of images of four pixels."""
    from causalft.data.image_set import ImageSet
    from causalft.data.splits import Splits

    names = [f"Genus{k // 12:03d} species{k:04d}" for k in range(size.n_classes)]
    parts = [
        ImageSet.from_arrays(
            np.broadcast_to(np.uint8(90), (len(labels), 2, 2, 3)), labels, names, name=f"made/{part}"
        )
        for part, labels in zip(("train", "validation", "test"), labels_of(size))
    ]
    return Splits(*parts)


def evaluate_run(folder: Path, size: Size) -> dict[str, Any]:
    """Evaluate what :func:`write_run` wrote as ``fit`` does, from the stored logits to the page; return metrics."""
    from causalft.methods.estimators.member import PREDICTIONS, open_prediction
    from causalft.methods.estimators.run_documents import folder_name, stratum_folder
    from causalft.pipelines.workflows.fit import finish_fit
    from causalft.runs.lifecycle import new_run

    splits = image_sets(size)
    found: dict[str, list[Any]] = {name: [] for name in size.names}
    for seed in range(size.n_seeds):
        at = folder if not seed else folder / "seeds" / str(seed)
        for name in size.names:
            place = stratum_folder(at, name) if name in size.strata else at / "controls" / folder_name(name)
            found[name].append(open_prediction(place / PREDICTIONS)[0])
    control = [size.strata[0], *size.names[len(size.strata) :]] if size.control else []
    with new_run(folder, "fit") as new:
        new.create(config_of(size))
        return finish_fit(
            settings_of(size),
            splits,
            {name: found[name] for name in size.strata},
            {name: found[name] for name in control},
            new,
            "pre-training" if control else None,
        ).metrics


@cache
def _measured(name: str) -> dict[str, float]:
    """Peak memory (GB), seconds and size on disk (GB) of one evaluation in a process of its own."""
    folder = Path(tempfile.mkdtemp(prefix="evaluate-size-"))
    try:
        _child("write", str(folder / "run"), name)
        started = time.perf_counter()
        peak = float(_child("evaluate", str(folder / "run"), name))
        return {
            "seconds": time.perf_counter() - started,
            "gb": peak,
            "disk": sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e9,
        }
    finally:
        shutil.rmtree(folder)


def _child(*words: str) -> str:
    found = subprocess.run(
        [sys.executable, str(HERE / "evaluate_size.py"), *words], check=True, capture_output=True, text=True
    )
    return (found.stdout.strip().splitlines() or [""])[-1]


def imagenet_peak_gb(repeats: int) -> dict[str, Any]:
    """Peak memory of evaluating 50,000 x 1,000, three strata and a control of three seeds, three seeds."""
    return {**summary([_measured("imagenet")["gb"]], "GB"), "disk_gb": _measured("imagenet")["disk"]}


def imagenet_seconds(repeats: int) -> dict[str, Any]:
    """Seconds of that evaluation, the whole process."""
    return summary([_measured("imagenet")["seconds"]], "seconds")


def inat_peak_gb(repeats: int) -> dict[str, Any]:
    """Peak memory of evaluating 24,426 x 8,142, three strata, one seed."""
    return {**summary([_measured("inat")["gb"]], "GB"), "disk_gb": _measured("inat")["disk"]}


def inat_seconds(repeats: int) -> dict[str, Any]:
    """Seconds of that evaluation, the whole process."""
    return summary([_measured("inat")["seconds"]], "seconds")


def run_folder_gb(repeats: int) -> dict[str, Any]:
    """Size of a run of 50,000 x 1,000 with 20,000 validation images, three strata, one seed, without adapters."""
    return summary([_measured("imagenet-one-seed")["disk"]], "GB")


def main() -> None:
    """Write a run, or evaluate one and print its peak memory in GB."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["write", "evaluate"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("size", choices=list(SIZES))
    given = parser.parse_args()
    if given.action == "write":
        write_run(given.folder, SIZES[given.size])
        return
    evaluate_run(given.folder, SIZES[given.size])
    print(peak_mib() * 2**20 / 1e9)


if __name__ == "__main__":
    main()
