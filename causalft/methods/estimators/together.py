"""Strata that learn together: read back or tuned, at the best of several learning rates, predicted and kept."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.data.splits import Splits
from causalft.methods.adaptation.settings import Tuning
from causalft.methods.adaptation.tuned import TunedStratum, load_tuned
from causalft.methods.estimators.member import keep_member, prepare_member, settings_of_member
from causalft.methods.estimators.member_prediction import MemberPrediction, read_prediction
from causalft.methods.estimators.run_documents import PREDICTIONS, folder_name
from causalft.methods.estimators.stored_logits import as_kept
from causalft.models.features.cache import FeatureCache
from causalft.models.features.encoder import Crops
from causalft.models.strata.cards import MemberName
from causalft.models.strata.stratum import Stratum
from causalft.models.strata.zoo import Zoo
from causalft.models.tuning.processes import is_main_process, pick_device
from causalft.models.tuning.team import current_team
from causalft.runs.documents import Document

__all__ = ["Together", "fit_together"]


class Tune(Protocol):
    """Tunes M strata on the training images; returns them and further fields of each :class:`MemberPrediction`."""

    def __call__(
        self,
        strata: Sequence[Stratum],
        crops: Sequence[Crops],
        class_names: Sequence[str],
        tunings: Sequence[Tuning],
        **options: Any,
    ) -> tuple[Sequence[TunedStratum], Mapping[str, Any]]: ...


@dataclass(frozen=True)
class Together:
    """How strata learn together.

    Attributes
    ----------
    name : str
        In the names of checkpoints.
    made_with : dict
        What the members depend on besides their tuning, a JSON document.
    tune : callable
        Called with the strata, their training crops, the class names and the tunings, and with the keywords
        ``validation``, ``weights``, ``release``, ``progress``, ``checkpoint`` and ``log_dir`` of
        :func:`causalft.methods.adaptation.joint.tune_together`.
    risk : callable
        Validation risk of the members' validation logits, M arrays (n, K); the lowest decides between learning rates.
    as_one : bool
        Whether only the fusion was fitted to the labels, so that a member alone is no classifier.
    """

    name: str
    made_with: Document
    tune: Tune
    risk: Callable[[Sequence[NDArray[Any]]], float]
    as_one: bool = False

    @property
    def key(self) -> str:
        """The name with a digest of what the members depend on: a training resumes only where it began."""
        depends = json.dumps(self.made_with, sort_keys=True).encode()
        return f"{self.name}-{hashlib.sha256(depends).hexdigest()[:8]}"


def fit_together(
    splits: Splits,
    names: Sequence[str],
    zoo: Zoo,
    tuning: Tuning,
    how: Together,
    *,
    learning_rates: tuple[float, ...] = (),
    known_priors: Mapping[str, ArrayLike] | None = None,
    device: str = "auto",
    folder: Path | None = None,
    cache: FeatureCache | None = None,
    log_dir: Path | None = None,
    progress: bool | None = None,
) -> tuple[dict[str, MemberPrediction], dict[str, TunedStratum]]:
    """Tune strata together and predict validation and test images.

    Parameters
    ----------
    splits, names, zoo, tuning, learning_rates, known_priors, device, folder, cache, log_dir, progress
        As in :func:`causalft.methods.estimators.joint.fit_joint`.
    how : Together

    Returns
    -------
    dict of str to MemberPrediction
        Their ``seconds`` add up to those of the call that finished them.
    dict of str to TunedStratum

    Raises
    ------
    CausalFTError
        For a folder made with other settings or images.
    """
    started = time.perf_counter()
    members = {name: MemberName.parse(name) for name in names}
    on = pick_device(device)
    strata = {name: zoo.load(member.weights, device=on) for name, member in members.items()}
    tunings = {name: replace(tuning, seed=m.tuning_seed(tuning.seed)) for name, m in members.items()}
    known = {name: np.asarray(prior, dtype=float) for name, prior in (known_priors or {}).items()}
    made_with = {
        name: settings_of_member(tunings[name], learning_rates, known.get(name)) | how.made_with
        for name in names
    }
    class_names = list(splits.train.class_names)
    places = {} if folder is None else {name: folder / folder_name(name) for name in names}

    there = [n for n, place in places.items() if current_team().from_main((place / PREDICTIONS).exists)]
    found = {n: read_prediction(places[n] / PREDICTIONS, strata[n], splits, made_with[n]) for n in there}
    if len(found) == len(names):  # otherwise the call that wrote some of them was killed
        return found, {
            n: load_tuned(strata[n], places[n], class_names, tunings[n], release=True) for n in names
        }

    ready = [prepare_member(splits, strata[n], tuning, cache=cache, progress=progress) for n in names]
    rates = learning_rates or (tuning.lr,)
    best: tuple[float, dict[str, TunedStratum], list[NDArray[Any]], float, Mapping[str, Any]] | None = None
    for lr in rates:
        tuned, fields = how.tune(
            list(strata.values()),
            [each.train for each in ready],
            class_names,
            [replace(each, lr=lr) for each in tunings.values()],
            validation=[each.validation for each in ready],
            weights=[each.weight for each in ready],
            release=lr == rates[-1],
            progress=progress,
            checkpoint=None if folder is None else folder / f".{how.key}-lr-{lr:g}.checkpoint.safetensors",
            log_dir=None if log_dir is None else log_dir / f"lr-{lr:g}",
        )
        logits = [as_kept(each.logits(r.validation)) for each, r in zip(tuned, ready, strict=True)]
        risk = how.risk(logits)
        if best is None or risk < best[0]:
            best = risk, dict(zip(names, tuned, strict=True)), logits, lr, fields
    assert best is not None
    _, by_name, validation_logits, lr, fields = best
    as_one = how.as_one and len(names) > 1
    for name, each, kept in zip(names, ready, validation_logits, strict=True):
        predicted = each.predict(name, by_name[name], kept, lr, joint=as_one, known_prior=known.get(name))
        found[name] = replace(predicted, **fields)
    seconds = (time.perf_counter() - started) / len(names)
    for name in names:
        found[name] = replace(found[name], seconds=seconds)
        if places and is_main_process():
            labels = splits.validation.labels
            found[name] = keep_member(places[name], by_name[name], found[name], made_with[name], labels)
    return found, by_name
