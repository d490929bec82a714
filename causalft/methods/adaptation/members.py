"""One member of a fusion from start to end: zero-shot logits, GLA prior, tuned logits; a finished one is read back."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from causalft.data.groups import balancing_weights
from causalft.data.splits import Splits
from causalft.errors import CausalFTError
from causalft.methods.adaptation.prediction import MemberPrediction, read_prediction, write_prediction
from causalft.methods.adaptation.settings import Tuning
from causalft.methods.adaptation.tune import start_of_head, tune
from causalft.methods.adaptation.tuned import TunedStratum, load_tuned
from causalft.methods.adaptation.zero_shot import Untouched, check_gla, encode_zero_shot, prior_left_in_logits
from causalft.methods.estimators.fusion import nll
from causalft.methods.estimators.run_documents import PREDICTIONS, folder_name
from causalft.methods.priors import prior_on_validation
from causalft.models.features.cache import FeatureCache
from causalft.models.features.crops import Crops
from causalft.models.strata.zoo import Zoo
from causalft.models.tuning.processes import is_main_process, pick_device

__all__ = ["fit_member", "folder_name", "pick_device"]


def fit_member(
    splits: Splits,
    name: str,
    zoo: Zoo,
    tuning: Tuning,
    *,
    learning_rates: tuple[float, ...] = (),
    gla: bool = False,
    device: str = "auto",
    folder: Path | None = None,
    cache: FeatureCache | None = None,
    log_dir: Path | None = None,
    progress: bool | None = None,
) -> tuple[MemberPrediction, TunedStratum]:
    """Load a stratum, estimate its label prior, tune it, and predict validation and test images.

    Parameters
    ----------
    splits : Splits
        Long-tailed train; validation and test, balanced or not. The test images are only predicted, if there are any.
    name : str
    zoo : causalft.models.strata.zoo.Zoo
    tuning : Tuning
    learning_rates : tuple of float
        With two or more, each is tried and the one with the lowest validation risk (NLL, every class of the
        validation set counting alike) is kept.
    gla : bool
        GLA-FT: the tuned stratum adds the debiased zero-shot logits of the untouched model to its own. Training and the
        choice of a learning rate go without them.
    device : str
    folder : pathlib.Path, optional
        Adapter, head and predictions are written here; if they are complete, nothing is trained again.
    cache : causalft.models.features.cache.FeatureCache, optional
        Keeps the frozen features of validation and test images beyond this run.
    log_dir : pathlib.Path, optional
        Folder for TensorBoard.
    progress : bool, optional

    Returns
    -------
    (MemberPrediction, TunedStratum)

    Raises
    ------
    CausalFTError
        See :meth:`Zoo.load`, :func:`causalft.methods.adaptation.tune.tune` and, with ``gla``,
        :func:`causalft.methods.adaptation.zero_shot.check_gla`.
    """
    started = time.perf_counter()
    tuning.check()
    if gla:
        check_gla(tuning)
    stratum = zoo.load(name, device=pick_device(device))
    class_names = list(splits.train.class_names)
    made_with = {
        "tuning": asdict(tuning),
        "learning_rates": list(learning_rates),
        **({"gla": True} if gla else {}),
    }
    if folder is not None and (folder / PREDICTIONS).exists():
        found = read_prediction(folder / PREDICTIONS, stratum, splits, made_with)
        return found, load_tuned(stratum, folder, class_names, tuning, gla=gla, release=True)

    validation = Crops(splits.validation, stratum, progress=progress)
    test = Crops(splits.test, stratum, progress=progress) if len(splits.test) else None
    train_crops = Crops(splits.train, stratum, progress=progress)
    left = prior_left_in_logits(tuning, splits.train.class_counts) if gla else None
    if left is not None and left.min() == 0:
        raise CausalFTError(
            f"class {class_names[int(left.argmin())]!r} has no training image, and GLA-FT cannot take a share of 0 out "
            f"of logits tuned with {tuning.loss}; add images"
        )
    of_images = not stratum.has_text or tuning.head_start != "text"  # the anchors, or the head
    untuned = encode_zero_shot(
        stratum,
        class_names,
        tuning,
        (validation,) if test is None else (validation, test),
        train=train_crops if of_images else None,
        cache=cache,
        keep_train=False,
        progress=progress,
    )
    nothing = np.empty((0, len(class_names)))  # of no test images
    zero_shot = untuned.logits if test is not None else (*untuned.logits, nothing)
    prior = prior_on_validation(zero_shot[0], splits.validation.labels)
    # One for all learning rates.
    weight = start_of_head(stratum, train_crops, class_names, tuning, untuned.train)
    untouched = None
    if gla:
        shift = -np.log(prior.prior) - (0 if left is None else np.log(left))
        anchors = torch.from_numpy(untuned.scale * untuned.anchors)
        untouched = Untouched(stratum, anchors, torch.from_numpy(shift), tuning.precision)
    del untuned  # the features of the training images

    best: tuple[float, TunedStratum, np.ndarray, float] | None = None
    rates = learning_rates or (tuning.lr,)
    balance = balancing_weights(splits.validation.labels, len(class_names))
    for lr in rates:
        checkpoint = None if folder is None else folder / f".lr-{lr:g}.checkpoint.safetensors"
        tuned, _ = tune(
            stratum,
            train_crops,
            class_names,
            replace(tuning, lr=lr),
            validation=validation,
            model_prior=prior.prior,
            weight=weight,
            release=lr == rates[-1],
            progress=progress,
            checkpoint=checkpoint,
            log_dir=None if log_dir is None else log_dir / f"lr-{lr:g}",
        )
        logits = tuned.logits(validation)
        risk = nll(logits, splits.validation.labels, balance, kind="logits")
        if best is None or risk < best[0]:
            best = (risk, tuned, logits, lr)
    assert best is not None
    _, tuned, validation_logits, lr = best
    if untouched is not None:
        tuned.untouched = untouched
        validation_logits = tuned.logits(validation)
    prediction = MemberPrediction(
        name=name,
        zero_shot_validation=zero_shot[0],
        zero_shot_test=zero_shot[1],
        validation_logits=validation_logits,
        test_logits=nothing if test is None else tuned.logits(test),
        prior=prior,
        true_prior=None if stratum.card is None else stratum.card.prior_of(class_names),
        sha256=stratum.sha256,
        source=stratum.source,
        lr=lr,
        n_tuned=tuned.n_tuned,
        precision=tuned.precision,
        anchors="captions" if stratum.has_text else "class means",
        pretraining_loss=stratum.pretraining_loss,
        gla=gla,
        seconds=time.perf_counter() - started,
    )
    if folder is not None and is_main_process():
        tuned.save(folder)
        write_prediction(folder / PREDICTIONS, prediction, made_with, splits.validation.labels)
    return prediction, tuned
