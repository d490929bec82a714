"""Strata that learn from unlabelled images together: what all of them believe makes the pseudo-labels of each."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from causalft.data.groups import balancing_weights
from causalft.data.splits import Splits
from causalft.methods.adaptation.settings import Tuning
from causalft.methods.adaptation.tuned import TunedStratum, load_tuned
from causalft.methods.estimators.fusion import nll
from causalft.methods.estimators.member import keep_member, prepare_member, settings_of_member
from causalft.methods.estimators.member_prediction import MemberPrediction, read_prediction
from causalft.methods.estimators.run_documents import PREDICTIONS, folder_name
from causalft.methods.estimators.stored_logits import as_kept
from causalft.methods.semi.tune import Supervision, tune_semi
from causalft.models.features.cache import FeatureCache
from causalft.models.features.encoder import Crops
from causalft.models.strata.cards import MemberName
from causalft.models.strata.zoo import Zoo
from causalft.models.tuning.processes import is_main_process, pick_device
from causalft.models.tuning.team import current_team

__all__ = ["fit_sharing"]


def fit_sharing(
    splits: Splits,
    names: Sequence[str],
    zoo: Zoo,
    tuning: Tuning,
    supervision: Supervision,
    *,
    learning_rates: tuple[float, ...] = (),
    known_priors: Mapping[str, ArrayLike] | None = None,
    device: str = "auto",
    folder: Path | None = None,
    cache: FeatureCache | None = None,
    log_dir: Path | None = None,
    progress: bool | None = None,
) -> tuple[dict[str, MemberPrediction], dict[str, TunedStratum]]:
    """Tune strata by a semi-supervised method with shared pseudo-labels, and predict validation and test images.

    Each stratum has its own tuner, heads and losses; only the beliefs about the unlabelled images are averaged. So each
    is a posterior of its own, to be fused like any other.

    Parameters
    ----------
    splits, zoo, tuning, learning_rates, known_priors, device, folder, cache, log_dir, progress
        As in :func:`causalft.methods.estimators.joint.fit_joint`; of several learning rates the one with the lowest
        mean validation risk of the strata is kept.
    names : sequence of str
        Strata of the zoo; ``clip#1`` is ``clip`` again, with another seed.
    supervision : Supervision

    Raises
    ------
    CausalFTError
        As :func:`causalft.methods.semi.tune.tune_semi`; for a folder made with other settings.
    """
    started = time.perf_counter()
    members = {name: MemberName.parse(name) for name in names}
    on = pick_device(device)
    strata = {name: zoo.load(member.weights, device=on) for name, member in members.items()}
    tunings = {name: replace(tuning, seed=m.tuning_seed(tuning.seed)) for name, m in members.items()}
    known = {name: np.asarray(prior, dtype=float) for name, prior in (known_priors or {}).items()}
    shared = {**supervision.identity, "strata": list(names)}
    made_with = {
        name: settings_of_member(tunings[name], learning_rates, known.get(name)) | {"semi": shared}
        for name in names
    }
    class_names = list(splits.train.class_names)
    places = {name: None if folder is None else folder / folder_name(name) for name in names}
    files = [place / PREDICTIONS for place in places.values() if place is not None]
    there = all(current_team().from_main(file.exists) for file in files)
    if files and there:
        read = {
            name: read_prediction(file, strata[name], splits, made_with[name])
            for name, file in zip(names, files, strict=True)
        }
        return read, {
            name: load_tuned(strata[name], file.parent, class_names, tunings[name], release=True)
            for name, file in zip(names, files, strict=True)
        }

    ready = [prepare_member(splits, strata[n], tuning, cache=cache, progress=progress) for n in names]
    unlabelled = [Crops(supervision.unlabelled.images, strata[name], progress=progress) for name in names]
    rates, best = learning_rates or (tuning.lr,), None
    balance = balancing_weights(splits.validation.labels, len(class_names))
    for lr in rates:
        tuned, _, counted = tune_semi(
            list(strata.values()),
            [each.train for each in ready],
            unlabelled,
            class_names,
            [replace(each, lr=lr) for each in tunings.values()],
            supervision,
            validation=[each.validation for each in ready],
            weights=[each.weight for each in ready],
            release=lr == rates[-1],
            progress=progress,
            checkpoint=None if folder is None else folder / f".sharing-lr-{lr:g}.checkpoint.safetensors",
            log_dir=None if log_dir is None else log_dir / f"lr-{lr:g}",
        )
        logits = [as_kept(each.logits(r.validation)) for each, r in zip(tuned, ready, strict=True)]
        risk = float(np.mean([nll(z, splits.validation.labels, balance, kind="logits") for z in logits]))
        if best is None or risk < best[0]:
            best = (risk, tuned, logits, lr, counted)
    assert best is not None
    _, tuned, validation_logits, lr, counted = best
    found = {
        name: replace(each.predict(name, of, logits, lr, known_prior=known.get(name)), pseudo_labels=counted)
        for name, each, of, logits in zip(names, ready, tuned, validation_logits, strict=True)
    }
    by_name = dict(zip(names, tuned, strict=True))
    seconds = (time.perf_counter() - started) / len(names)
    for name, place in places.items():
        found[name] = replace(found[name], seconds=seconds)
        if place is not None and is_main_process():
            labels = splits.validation.labels
            found[name] = keep_member(place, by_name[name], found[name], made_with[name], labels)
    return found, by_name
