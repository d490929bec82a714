"""A fitted classifier as a folder that :func:`causalft.estimators.fitted.load_fitted` reads."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from causalft.estimators.mixing import Mixing
from causalft.estimators.run_files import folder_name
from causalft.models.strata.zoo import Zoo
from causalft.runs.folder import Run
from causalft.strata.tuned import TunedStratum

__all__ = ["save_classifier"]


class _Fitted(Protocol):
    """What is needed of a fitted :class:`causalft.estimators.strata.StrataClassifier`."""

    classes_: NDArray[Any]
    members_: dict[str, TunedStratum]
    mixing_: Mixing

    def get_params(self, deep: bool = True) -> dict[str, Any]: ...


def save_classifier(model: _Fitted, folder: str | os.PathLike[str]) -> Path:
    """Write the settings and what was learnt; see `StrataClassifier.save`."""
    run = Run.create(folder, kind="classifier", config=_written(model))
    for name, tuned in model.members_.items():
        tuned.save(run.path / "strata" / folder_name(name))
    run.finish(
        {
            "zoo": run.config["zoo"],
            "weights": {name: tuned.stratum.sha256 for name, tuned in model.members_.items()},
            "sources": {name: tuned.stratum.source for name, tuned in model.members_.items()},
            "classes": model.classes_.tolist(),
            "mixing": model.mixing_.to_metrics(),
        }
    )
    return run.path


def _written(model: _Fitted) -> dict[str, Any]:
    """Every parameter, as JSON knows it."""
    config: dict[str, Any] = dict(model.get_params(deep=False))
    zoo = config["zoo"]
    if isinstance(zoo, Zoo):
        config["zoo"] = zoo.label
        for name in ("weights", "offline", "allow_pickle"):
            config[name] = getattr(zoo, name, config[name])
    if config["zoo"] not in ("mini", "pretrained"):
        config["zoo"] = os.path.abspath(os.path.expanduser(config["zoo"]))
    files = config["weights"] or {}
    config["weights"] = {name: os.path.abspath(os.path.expanduser(file)) for name, file in files.items()}
    config["tuning"] = None if config["tuning"] is None else asdict(config["tuning"])
    if isinstance(config["stratum_prior"], np.ndarray):
        config["stratum_prior"] = config["stratum_prior"].tolist()
    if config["graph"] is not None:
        config["graph"] = nx.node_link_data(config["graph"], edges="edges")
    return config
