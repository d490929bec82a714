"""The zoo of the scale ``photo``: minis pre-trained once on half of the photographs, for all experiments."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from causalft.runs.folder import METRICS

__all__ = ["CONTROL_SEEDS", "photo_zoo"]

CONTROL_SEEDS = 2
"""Further pre-trainings of the first stratum: with it, as many as there are strata."""


def photo_zoo(members: Path, data: str, say: Callable[[str], None] | None) -> str | None:
    """Folder of the zoo of these photographs.

    Parameters
    ----------
    members : pathlib.Path
        Folder of the members that experiments share.
    data : str
        Path of the photographs.
    say : callable, optional
        Prints a line. Without it, nothing is trained.

    Returns
    -------
    str or None
        None if it is not there and may not be trained.

    Raises
    ------
    CausalFTError
        If the photographs cannot be opened, or are too few; or as `causalft zoo pretrain` does.
    """
    place = os.path.abspath(os.path.expanduser(data))
    folder = members / f"photo-zoo-{hashlib.sha256(os.fsencode(place)).hexdigest()[:10]}"
    if (folder / METRICS).is_file():
        return str(folder)
    if say is None:
        return None
    from causalft.data.image_set import usable_cores
    from causalft.models.pretraining.settings import DEFAULT_VIEWS, PhotoZooSettings
    from causalft.pipelines.workflows.zoo import pretrain_photos

    members.mkdir(parents=True, exist_ok=True)
    say(f"no zoo is given: pre-training one on half of {data}, once for all experiments, into {folder}")
    settings = PhotoZooSettings(n_control_seeds=CONTROL_SEEDS, wide=True)
    pretrain_photos(folder, place, DEFAULT_VIEWS, jobs=usable_cores(), say=say, settings=settings)
    return str(folder)
