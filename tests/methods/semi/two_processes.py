"""Train each method named in the arguments under a launcher; what each process ends with is written to a folder.

``two_processes.py FOLDER PHOTOS ZOO METHOD...``
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from causalft.data.hidden import Unlabelled
from causalft.data.opening import open_images
from causalft.data.splits import cut_splits
from causalft.methods.adaptation.settings import Tuning
from causalft.methods.semi.settings import SemiSettings, semi_tuning
from causalft.methods.semi.tune import Supervision, tune_semi
from causalft.models.features.encoder import Crops
from causalft.models.strata.zoo import open_zoo


def main(folder: Path, photos: Path, zoo: Path, methods: list[str]) -> None:
    """Two epochs of each."""
    stratum = open_zoo(zoo).load("clip")
    splits = cut_splits(open_images(photos), n_validation=10, n_test=5, seed=0, imbalance_factor=3)
    labelled, unlabelled = Crops(splits.train, stratum), Crops(splits.validation, stratum)
    tuning = Tuning(
        epochs=2, lr=0.002, batch_size=16, tuner="linear-probe", head_start="class-mean", head_scale=150.0
    )
    found = {}
    for name in methods:
        settings = SemiSettings(method=name, threshold=0.3)
        supervision = Supervision(settings, Unlabelled(splits.validation, splits.validation.labels))
        (member,), _, counts = tune_semi(
            [stratum],
            [labelled],
            [unlabelled],
            list(splits.class_names),
            [semi_tuning(tuning, settings)],
            supervision,
            progress=False,
        )
        found[f"{name}/weight"] = member.trained_state()["head.weight"]
        found |= {f"{name}/{key}": torch.from_numpy(value) for key, value in counts.arrays().items()}
    rank = os.environ.get("RANK", "0")
    save_file({key: value.contiguous() for key, value in found.items()}, folder / f"{rank}.safetensors")


if __name__ == "__main__":
    main(*(Path(each) for each in sys.argv[1:4]), sys.argv[4:])
