"""A fitted run that is ready to predict: tuned strata, fusion, and predictions in a stream."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import networkx as nx
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.special import softmax
from torch import Tensor

from causalft.data.image_set import ImageSet
from causalft.errors import CausalFTError
from causalft.methods.adaptation.settings import Tuning, default_tuning
from causalft.methods.adaptation.tuned import TunedStratum, load_tuned
from causalft.methods.estimators.mixing import Mixing
from causalft.methods.estimators.run_documents import CLASSIFIERS, open_classifier, stratum_folder
from causalft.methods.estimators.settings import FitSettings
from causalft.methods.semi.settings import SemiSettings, semi_tuning
from causalft.models.features.encoder import stream_crops
from causalft.models.features.parts import Part, as_parts
from causalft.models.strata.stratum import Stratum
from causalft.models.strata.zoo import Zoo, open_zoo
from causalft.models.tuning.processes import pick_device
from causalft.models.tuning.team import current_team
from causalft.runs.documents import Document
from causalft.runs.lifecycle import new_run
from causalft.runs.progress import named
from causalft.runs.settings import defaults, values_of

__all__ = [
    "CLASSIFIERS",
    "FittedStrata",
    "Member",
    "Predicting",
    "StrataModel",
    "load_fitted",
    "predict_stream",
    "save_classifier",
    "stored_settings",
]


class _Fitted(Protocol):
    """What is needed of a fitted :class:`causalft.methods.estimators.strata.StrataClassifier`."""

    classes_: NDArray[Any]
    members_: dict[str, TunedStratum]
    mixing_: Mixing

    def get_params(self, deep: bool = True) -> dict[str, Any]: ...


def save_classifier(
    model: _Fitted, folder: str | os.PathLike[str], about: Mapping[str, Any] | None = None
) -> Path:
    """Write the settings and what was learnt; see `StrataClassifier.save`.

    ``about`` is added to ``metrics.json``.
    """
    with new_run(folder, "classifier") as new:
        new.create(_written(model))
        for name, tuned in model.members_.items():
            tuned.save(stratum_folder(new.run.path, name))
        metrics = {
            "zoo": new.run.config["zoo"],
            "weights": {name: tuned.stratum.sha256 for name, tuned in model.members_.items()},
            "sources": {name: tuned.stratum.source for name, tuned in model.members_.items()},
            "classes": model.classes_.tolist(),
            "mixing": model.mixing_.to_metrics(),
            **(about or {}),
        }
        new.finish(metrics, stamp=())
    return new.run.path


def _written(model: _Fitted) -> Document:
    """Every parameter, as JSON knows it."""
    config: Document = dict(model.get_params(deep=False))
    zoo = config["zoo"]
    if isinstance(zoo, Zoo):
        config["zoo"] = zoo.label
        for name in ("weights", "offline", "allow_pickle"):
            config[name] = getattr(zoo, name, config[name])
    if config["zoo"] not in ("mini", "pretrained"):
        config["zoo"] = os.path.abspath(os.path.expanduser(config["zoo"]))
    files = config["weights"] or {}
    config["weights"] = {name: os.path.abspath(os.path.expanduser(file)) for name, file in files.items()}
    for name in ("tuning", "semi"):
        config[name] = None if config[name] is None else asdict(config[name])
    if isinstance(config["stratum_prior"], np.ndarray):
        config["stratum_prior"] = config["stratum_prior"].tolist()
    if config["graph"] is not None:
        config["graph"] = nx.node_link_data(config["graph"], edges="edges")
    return config


@dataclass(frozen=True)
class FittedStrata:
    """What a prediction needs of a fitted run.

    Attributes
    ----------
    classes_ : numpy.ndarray of str, shape (n_classes,)
    members_ : dict of str to TunedStratum
    mixing_ : Mixing
    tuning : Tuning
        In the precision asked for.
    config : dict
        All settings, as :func:`stored_settings` reads them.
    """

    classes_: NDArray[Any]
    members_: dict[str, TunedStratum]
    mixing_: Mixing
    tuning: Tuning
    config: Document

    def fuse_proba(self, stratum_probs: np.ndarray) -> np.ndarray:
        """P(Y | do(X)), calibrated, (n, n_classes), of P(Y | b, c), (n_strata, n, n_classes)."""
        return self.mixing_(stratum_probs)


@named("loading the run")
def load_fitted(
    folder: str | Path,
    *,
    device: str | None = None,
    precision: str | None = None,
    merge_tokens: int = 0,
) -> FittedStrata:
    """Load the strata of a complete ``fit`` run, or of a saved classifier, and their fusion.

    Parameters
    ----------
    folder : path
    device : str, optional
        By default that of the settings where this machine has it, else ``"auto"``.
    precision : {"auto", "fp32", "bf16", "fp16", "int8"}, optional
        By default that of the run's settings.
    merge_tokens : int
        Patch tokens that each block merges (:mod:`causalft.models.tuning.merging`).

    Raises
    ------
    CausalFTError
        If the folder is not a complete fit run, the weights behind it have changed, or a stratum cannot merge tokens.
    """
    run = open_classifier(folder)
    metrics = run.metrics
    usual = {"weights": None, "semi": None, **defaults(FitSettings)}
    settings = {**usual, **stored_settings(run.config, list(usual))}
    tuning = settings["tuning"] or default_tuning(settings["zoo"])
    if precision is not None:
        tuning = replace(tuning, precision=precision)
    semi = settings["semi"]
    if isinstance(semi, SemiSettings) and semi.method is not None:
        tuning = semi_tuning(tuning, semi)  # a classifier keeps the tuning that it was given
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
        at = stratum_folder(run.path, name)
        members[name] = load_tuned(stratum, at, classes, tuning, gla=settings["gla"], release=True)
        members[name].merge_tokens(merge_tokens)
    mixing = Mixing.from_metrics(metrics["mixing"])
    return FittedStrata(np.asarray(classes), members, mixing, tuning, run.config)


def stored_settings(config: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return the parameters of a classifier that a configuration has; missing ones keep their defaults.

    Parameters
    ----------
    config : mapping
        Of a fit run, or of a saved classifier.
    names : sequence of str
        Of the parameters.
    """
    known = {**config, **values_of(FitSettings, config)}
    found = {name: known[name] for name in names if name in config}
    if found.get("tuning") is not None and "seed" in config:
        # a fit run trains its first repetition, the one that is kept, with its own seed
        found["tuning"] = replace(found["tuning"], seed=config["seed"])
    if "weights" in found:
        found["weights"] = found["weights"] or None
    if found.get("graph") is not None:
        import networkx as nx

        found["graph"] = nx.node_link_graph(found["graph"], edges="edges")
    if "device" in found and not _is_here(found["device"]):
        found["device"] = "auto"
    return found


def _is_here(device: str) -> bool:
    """Whether this machine has the device."""
    try:
        pick_device(device)
    except CausalFTError:
        return False
    return True


class Member(Protocol):
    """What a stream needs of a tuned stratum, or of one that adapts to the stream."""

    @property
    def stratum(self) -> Stratum: ...

    @property
    def view(self) -> str: ...

    @property
    def cut(self) -> Callable[[Image.Image], np.ndarray]: ...

    def logits_of(self, pixels: Tensor) -> Tensor: ...

    def move(self, device: torch.device, precision: str = "auto") -> None: ...


class StrataModel(Protocol):
    """What is needed of a fitted :class:`causalft.methods.estimators.strata.StrataClassifier`."""

    @property
    def members_(self) -> Mapping[str, Member]: ...

    def fuse_proba(self, stratum_probs: np.ndarray) -> np.ndarray: ...


def predict_stream(
    model: StrataModel,
    images: ImageSet,
    batch_size: int = 64,
    *,
    rows: Iterable[int] | None = None,
    on_error: str = "stop",
    bad: Callable[[int, str], None] | None = None,
    label: str = "predicting",
    progress: bool | None = None,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]]:
    """Yield predictions batch by batch, in order; the next batches are read while the models work.

    Parameters
    ----------
    model : StrataClassifier
        Fitted.
    images : ImageSet
    batch_size : int
    rows, on_error, bad, label, progress
        As in :func:`causalft.models.features.encoder.stream_crops`.

    Yields
    ------
    (rows, stratum_probs, fused)
        Shapes (b,), (n_strata, b, n_classes) and (b, n_classes): what ``stratum_proba`` and ``predict_proba`` give
        for these rows.

    Raises
    ------
    CausalFTError
        With ``on_error="stop"``, for the first image that cannot be read.
    """
    members = list(model.members_.values())
    # Strata that look at the same square (three ViT-B/16, say) share one crop as well as the decoding.
    cuts = {_look(tuned): tuned.cut for tuned in members}
    place = {look: number for number, look in enumerate(cuts)}
    stream = stream_crops(
        images,
        list(cuts.values()),
        batch_size,
        rows=rows,
        on_error=on_error,
        bad=bad,
        label=label,
        progress=progress,
    )
    for found, pictures in stream:
        logits = [tuned.logits_of(pictures[place[_look(tuned)]]).numpy() for tuned in members]
        probabilities = softmax(np.stack(logits), axis=2)
        yield found, probabilities, model.fuse_proba(probabilities)


@dataclass
class Predicting:
    """The work of a prediction, for an engine (:mod:`causalft.models.features.parts`).

    The values of its parts are ``strata``, (b, n_strata, n_classes), and ``fused``, (b, n_classes).

    Parameters
    ----------
    model : StrataClassifier or FittedStrata
    batch_size : int
    on_error : {"stop", "skip"}
    label : str
        Of the progress bar.
    progress : bool, optional
    device, precision : str
        Of a worker of Ray.
    """

    model: StrataModel
    batch_size: int = 64
    on_error: str = "stop"
    label: str = "predicting"
    progress: bool | None = None
    device: str = "auto"
    precision: str = "auto"

    def __call__(self, images: ImageSet, rows: Sequence[int]) -> Iterator[Part]:
        skipped: list[tuple[int, str]] = []
        stream = predict_stream(
            self.model,
            images,
            self.batch_size,
            rows=rows,
            on_error=self.on_error,
            bad=lambda row, message: skipped.append((row, message)),
            label=self.label,
            progress=self.progress if current_team().is_main else False,
        )
        named = (
            (found, {"strata": strata.transpose(1, 0, 2), "fused": fused}) for found, strata, fused in stream
        )
        return as_parts(named, skipped)

    def to_own_device(self) -> None:
        """Move the models to the device of the process that they have been sent to.

        There an unreadable image stops nothing: who asked for the work decides.
        """
        self.progress, self.on_error = False, "skip"
        for tuned in self.model.members_.values():
            tuned.move(pick_device(self.device), self.precision)


def _look(tuned: Member) -> tuple[str, int, str]:
    """What decides the crop; an unnamed geometry equals only itself."""
    return tuned.view, tuned.stratum.image_size, repr(tuned.stratum.geometry)
