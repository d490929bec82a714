"""How long an epoch of a semi-supervised probe takes over 100,000 unlabelled images whose features are encoded."""

from __future__ import annotations

import time
from typing import Any

from timing import summary

N_IMAGES = 100_000


class _Drawn:
    """Features that stand for those of three views, as a frozen tower leaves them in memory."""

    def __init__(self, n: int, width: int) -> None:
        import torch

        self.views = torch.randn(3, n, width, generator=torch.Generator().manual_seed(0))

    def weak(self, rows: Any, generator: Any) -> Any:
        return self.views[0][rows]

    def strong(self, rows: Any, generator: Any) -> Any:
        import torch

        return self.views[1 + int(torch.randint(2, (), generator=generator))][rows]

    def features(self, shown: Any) -> Any:
        return shown


def semi_epoch_seconds(repeats: int) -> dict[str, Any]:
    """One epoch of ``lp-fixmatch`` on 60 classes, in batches of 128 of both kinds; encoding is left out."""
    from unittest.mock import patch

    import numpy as np

    from causalft.data.creatures import creatures_longtail
    from causalft.data.hidden import Unlabelled
    from causalft.data.image_set import ImageSet
    from causalft.methods.adaptation.settings import Tuning
    from causalft.methods.semi import tune
    from causalft.methods.semi.settings import SemiSettings, semi_tuning
    from causalft.models.features.encoder import Crops
    from causalft.models.strata.prompts import text_weights
    from causalft.models.strata.zoo import open_zoo

    train = creatures_longtail(n_max=20, imbalance_factor=5, n_validation=1, n_test=1).train
    stratum, settings = open_zoo("mini").load("clip"), SemiSettings(method="lp-fixmatch")
    labelled, names = Crops(train, stratum, progress=False), list(train.class_names)
    weight = text_weights(stratum, names, "a photo of a {}.")
    pixels = np.zeros((N_IMAGES, 1, 1, 3), np.uint8)
    images = ImageSet.from_arrays(pixels, np.zeros(N_IMAGES, int), ["unlabelled"])
    supervision = tune.Supervision(settings, Unlabelled(images, np.zeros(N_IMAGES, dtype=np.int64)))
    shown = {len(part): _Drawn(len(part), weight.shape[1]) for part in (train, images)}
    tuning = semi_tuning(Tuning(lr=0.01, epochs=1), settings)
    unlabelled = Crops(images, stratum, progress=False, in_memory_bytes=0)
    taken = []
    with patch.object(tune, "views_of", lambda member, crops, *_, **__: shown[len(crops)]):
        for _ in range(repeats + 1):  # the first imports what the others have
            started = time.perf_counter()
            tune.tune_semi(
                [stratum],
                [labelled],
                [unlabelled],
                names,
                [tuning],
                supervision,
                weights=[weight],
                progress=False,
            )
            taken.append(time.perf_counter() - started)
    return summary(taken[1:], "seconds")
