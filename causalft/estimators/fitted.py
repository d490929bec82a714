"""A fitted run ready to predict: its strata with what was tuned, and their fusion. Does without scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalft.errors import CausalFTError
from causalft.estimators.mixing import Mixing
from causalft.estimators.run_files import folder_name
from causalft.runs import Run
from causalft.strata.tuned import TunedStratum, load_tuned
from causalft.strata.tuning_settings import Tuning
from causalft.strata.zoo import open_zoo
from causalft.tuning.devices import pick_device

__all__ = ["FittedStrata", "load_fitted"]


@dataclass(frozen=True)
class FittedStrata:
    """What a prediction needs of a fitted run.

    Attributes
    ----------
    classes_ : numpy.ndarray of str, shape (n_classes,)
    members_ : dict of str to TunedStratum
    mixing_ : Mixing
    tuning : Tuning
        Of the run, in the precision asked for.
    """

    classes_: NDArray[Any]
    members_: dict[str, TunedStratum]
    mixing_: Mixing
    tuning: Tuning

    def fuse_proba(self, stratum_probs: np.ndarray) -> np.ndarray:
        """P(Y | do(X)), calibrated, (n, n_classes), of P(Y | b, c), (n_strata, n, n_classes)."""
        return self.mixing_(stratum_probs)


def load_fitted(folder: str | Path, *, device: str = "auto", precision: str | None = None) -> FittedStrata:
    """Load the strata of a complete ``fit`` run and their fusion.

    Parameters
    ----------
    folder : path
    device : str
    precision : {"auto", "fp32", "bf16", "fp16"}, optional
        By default that of the run's settings.

    Raises
    ------
    CausalFTError
        If the folder is not a complete fit run, or the weights behind it have changed.
    """
    run = Run.open(folder, kind="fit")
    config, metrics = run.config, run.metrics
    tuning = Tuning(**config["tuning"])
    if precision is not None:
        tuning = replace(tuning, precision=precision)
    zoo = open_zoo(
        config["zoo"],
        config["weights"] or None,
        offline=config["offline"],
        allow_pickle=config["allow_pickle"],
    )
    classes = list(metrics["classes"])
    members = {}
    for name in config["strata"]:
        stratum = zoo.load(name, device=pick_device(device))
        if stratum.sha256 != metrics["weights"][name]:
            raise CausalFTError(
                f"{run.path} was fitted with other weights of {name!r} (sha256 "
                f"{metrics['weights'][name][:12]}...); restore them or fit again"
            )
        at = run.path / "strata" / folder_name(name)
        members[name] = load_tuned(stratum, at, classes, tuning, gla=config.get("gla", False), release=True)
    return FittedStrata(np.asarray(classes), members, Mixing.from_metrics(metrics["mixing"]), tuning)
