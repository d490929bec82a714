"""A fitted run ready to predict: its strata with what was tuned, and their fusion. Does without scikit-learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalft.errors import CausalFTError
from causalft.estimators.fit_run import CLASSIFIERS, open_classifier
from causalft.estimators.mixing import Mixing
from causalft.estimators.run_files import folder_name
from causalft.models.strata.zoo import open_zoo
from causalft.models.tuning.processes import pick_device
from causalft.runs.progress import named
from causalft.strata.tuned import TunedStratum, load_tuned
from causalft.strata.tuning_settings import Tuning, default_tuning

__all__ = ["CLASSIFIERS", "FittedStrata", "load_fitted", "stored_settings"]

_TUPLES = ("strata", "learning_rates", "stratum_prior")
_DEFAULTS: dict[str, Any] = {
    "weights": None,
    "offline": False,
    "allow_pickle": False,
    "gla": False,
    "device": "auto",
}


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
    config : dict
        All settings, as :func:`stored_settings` reads them.
    """

    classes_: NDArray[Any]
    members_: dict[str, TunedStratum]
    mixing_: Mixing
    tuning: Tuning
    config: dict[str, Any]

    def fuse_proba(self, stratum_probs: np.ndarray) -> np.ndarray:
        """P(Y | do(X)), calibrated, (n, n_classes), of P(Y | b, c), (n_strata, n, n_classes)."""
        return self.mixing_(stratum_probs)


@named("loading the run")
def load_fitted(
    folder: str | Path, *, device: str | None = None, precision: str | None = None
) -> FittedStrata:
    """Load the strata of a complete ``fit`` run, or of a saved classifier, and their fusion.

    Parameters
    ----------
    folder : path
    device : str, optional
        By default that of the settings where this machine has it, else ``"auto"``.
    precision : {"auto", "fp32", "bf16", "fp16"}, optional
        By default that of the run's settings.

    Raises
    ------
    CausalFTError
        If the folder is not a complete fit run, or the weights behind it have changed.
    """
    run = open_classifier(folder)
    metrics = run.metrics
    settings = {**_DEFAULTS, **stored_settings(run.config, [*_DEFAULTS, "strata", "zoo", "tuning"])}
    tuning = settings["tuning"] or default_tuning(settings["zoo"])
    if precision is not None:
        tuning = replace(tuning, precision=precision)
    zoo = open_zoo(
        settings["zoo"],
        settings["weights"],
        offline=settings["offline"],
        allow_pickle=settings["allow_pickle"],
    )
    classes = list(metrics["classes"])
    members = {}
    for name in settings["strata"]:
        stratum = zoo.load(name, device=pick_device(device or settings["device"]))
        if stratum.sha256 != metrics["weights"][name]:
            raise CausalFTError(
                f"{run.path} was fitted with other weights of {name!r} (sha256 "
                f"{metrics['weights'][name][:12]}...); restore them or fit again"
            )
        at = run.path / "strata" / folder_name(name)
        members[name] = load_tuned(stratum, at, classes, tuning, gla=settings["gla"], release=True)
    mixing = Mixing.from_metrics(metrics["mixing"])
    return FittedStrata(np.asarray(classes), members, mixing, tuning, run.config)


def stored_settings(config: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return the parameters of a classifier that a configuration has; those it lacks keep their defaults.

    Parameters
    ----------
    config : mapping
        Of a fit run, or of a saved classifier.
    names : sequence of str
        Of the parameters.
    """
    found = {name: config[name] for name in names if name in config}
    if found.get("tuning") is not None:
        found["tuning"] = Tuning(**found["tuning"])
        if "seed" in config:  # a fit run trains its first repetition, the one that is kept, with its own seed
            found["tuning"] = replace(found["tuning"], seed=config["seed"])
    for name in _TUPLES:
        if isinstance(found.get(name), list):
            found[name] = tuple(found[name])
    if "weights" in found:
        found["weights"] = found["weights"] or None
    if found.get("graph") is not None:
        import networkx as nx

        found["graph"] = nx.node_link_graph(found["graph"], edges="edges")
    if "device" in found and not _is_here(found["device"]):
        found["device"] = "auto"
    return found


def _is_here(device: str) -> bool:
    """Whether this machine has the device that a classifier was fitted on."""
    import torch

    return not str(device).startswith("cuda") or torch.cuda.is_available()
