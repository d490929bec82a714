"""The work of ``causalft probe``: neighbours and heads on frozen features, chosen on validation images."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalft.data.splits import Splits
from causalft.errors import CausalFTError
from causalft.methods.adaptation.tune import encode_zero_shot
from causalft.methods.estimators.member import pick_device
from causalft.methods.estimators.probes import FeatureKNN, Sweep, head_logits, sweep_heads
from causalft.methods.priors import prior_on_validation
from causalft.models.features.cache import FeatureCache, cache_of
from causalft.models.features.engines import Engine, open_engine
from causalft.models.strata.zoo import Zoo
from causalft.models.tuning.choices import LOSSES
from causalft.models.tuning.team import current_team, work_together
from causalft.pipelines.pages.probe import best_head, best_neighbours, write_probe_report
from causalft.pipelines.workflows.fit_data import data_document, load_splits
from causalft.pipelines.workflows.outcome import doubts, mean_class_accuracy, score_correct
from causalft.pipelines.workflows.settings import ProbeSettings, config_of
from causalft.runs.lifecycle import new_run

__all__ = ["ProbeSettings", "probe"]

Features = NDArray[np.float32]


def probe(
    settings: ProbeSettings,
    out: str | os.PathLike[str] | None = None,
    *,
    command: str = "causalft probe",
    engine: str = "local",
    workers: int | None = None,
    progress: bool | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Probe the frozen features of every stratum and return the metrics document.

    The number of neighbours maximises the mean class accuracy on validation images (ties: the smaller), the learning
    rate of a head minimises the validation risk. Test images choose nothing. Processes of a launcher share encoding,
    neighbours and training; the first one writes.

    Parameters
    ----------
    settings : ProbeSettings
    out : path, optional
        Folder for ``metrics.json`` and the page.
    command : str
        Command shown on the page for repeating the run.
    engine, workers
        Who encodes the images, as in :func:`causalft.models.features.engines.open_engine`.
    progress : bool, optional
    say : callable
        Called with a line per step.

    Raises
    ------
    CausalFTError
        For wrong settings, data, weights or folder.
    """
    with (
        work_together(pick_device(settings.fit.device)) as team,
        new_run(out, "probe", writes=team.is_main) as new,
    ):
        settings.check()
        settings = settings.absolute()
        team.agree({**config_of(settings), "output folder": None if out is None else os.path.abspath(out)})
        new.create(config_of(settings))
        found = _probe(settings, None if engine == "local" else open_engine(engine, workers), progress, say)
        return new.finish(found, lambda run, metrics: write_probe_report(run, metrics, command))


def _probe(
    settings: ProbeSettings, engine: Engine | None, progress: bool | None, say: Callable[[str], None]
) -> dict[str, Any]:
    fit = settings.fit
    zoo = fit.open_zoo()
    for name in fit.strata:
        zoo.check(name)
    splits = load_splits(fit, fit.seed)
    current_team().agree(
        {"images": [part.fingerprint for part in (splits.train, splits.validation, splits.test)]}
    )
    if max(settings.k) > len(splits.train):
        raise CausalFTError(
            f"{max(settings.k)} neighbours of {len(splits.train)} training images; --k takes "
            f"1 to {len(splits.train)} here"
        )
    cache = cache_of(fit.cache, fit.data)
    counts = splits.train.class_counts
    say(
        f"data     {fit.data}: {len(splits.train)} training images of {len(counts)} classes, {counts.max()} to "
        f"{counts.min()} a class; {len(splits.validation)} validation, {len(splits.test)} test"
    )
    for note in splits.notes:
        say(f"note     {note}")
    say(f"zoo      {zoo.label}")
    document: dict[str, Any] = {
        "zoo": fit.zoo_name,
        "weights": {},
        "sources": {},
        "data": data_document(fit, splits),
        "class_counts": dict(zip(splits.class_names, counts.tolist(), strict=True)),
        "seeds": list(range(fit.seed, fit.seed + fit.n_seeds)),
        "strata": {},
    }
    for name in fit.strata:
        say(f"features {name}")
        found = _probe_stratum(settings, zoo, name, splits, cache, engine, progress)
        document["weights"][name] = found.pop("sha256")
        document["sources"][name] = found.pop("source")
        document["strata"][name] = found
    document["no_conclusion"] = [
        reason
        for chosen in (best_neighbours(document), best_head(document))
        if chosen is not None
        for reason in chosen[1]["no_conclusion"]
    ]
    return document


def _probe_stratum(
    settings: ProbeSettings,
    zoo: Zoo,
    name: str,
    splits: Splits,
    cache: FeatureCache | None,
    engine: Engine | None,
    progress: bool | None,
) -> dict[str, Any]:
    fit, tuning = settings.fit, settings.fit.tuning
    stratum = zoo.load(name, device=pick_device(fit.device))
    parts = [splits.validation, splits.test]
    found = encode_zero_shot(
        stratum,
        splits.class_names,
        tuning,
        parts,
        train=splits.train,
        cache=cache,
        engine=engine,
        progress=progress,
    )
    train, (validation, test), labels = found.train, found.features, splits.train.labels
    assert train is not None
    document: dict[str, Any] = {"sha256": stratum.sha256, "source": stratum.source}
    document["precision"] = found.precision
    prior = None
    if stratum.has_text:
        zero_shot = found.logits
        prior = prior_on_validation(zero_shot[0], splits.validation.labels).prior
        guessed = zero_shot[1].argmax(1)
        scores = score_correct(guessed[None] == splits.test.labels, splits, fit.seed)
        document["zero_shot"] = {
            "validation_accuracy": mean_class_accuracy(zero_shot[0].argmax(1), splits.validation),
            **scores.to_metrics(),
            "no_conclusion": doubts(f"zero-shot {name}", scores, guessed, splits.test),
        }
    else:
        document["zero_shot"] = None
    document["knn"] = _neighbours(settings, name, train, validation, test, splits)
    document["heads"] = []
    document["chosen_head"] = None
    if settings.losses:
        for loss in settings.losses:
            if LOSSES[loss].needs_model_prior and prior is None:
                raise CausalFTError(
                    f"{name} has no text tower, so {loss} has no zero-shot prior; leave that loss out"
                )
        sweep = sweep_heads(
            train,
            labels,
            splits.train.class_counts,
            settings.losses,
            range(fit.seed, fit.seed + fit.n_seeds),
            settings.heads,
            recipe=tuning.recipe,
            learning_rates=fit.learning_rates,
            start=found.anchors,
            scale=tuning.head_scale,
            evaluate={"validation": (validation, splits.validation.labels)},
            model_log_prior=None if prior is None else np.log(prior),
            loss_settings={
                loss: {"scale": tuning.head_scale} for loss in LOSSES if LOSSES[loss].uses_head_scale
            },
            keep_heads=True,
            progress=progress,
        )
        document["heads"] = _heads(sweep, name, test, splits, fit.seed)
        best = max(document["heads"], key=lambda row: row["validation_accuracy"])
        document["chosen_head"] = {key: best[key] for key in ("head", "loss", "lr")}
    return document


def _neighbours(
    settings: ProbeSettings, name: str, train: Features, validation: Features, test: Features, splits: Splits
) -> dict[str, Any]:
    """kNN with k chosen on validation images; only this k is scored on test images."""
    numbers = sorted(settings.k)
    model = FeatureKNN(numbers[-1]).fit(train, splits.train.labels)
    tried = {
        k: mean_class_accuracy(predicted, splits.validation)
        for k, predicted in model.predict_each(validation, numbers).items()
    }
    chosen = max(numbers, key=lambda k: (tried[k], -k))
    predicted = model.predict_each(test, [chosen])[chosen]
    scores = score_correct((predicted == splits.test.labels)[None], splits, settings.fit.seed)
    return {
        "k": chosen,
        "validation_accuracy": tried[chosen],
        "tried": {str(k): accuracy for k, accuracy in tried.items()},
        **scores.to_metrics(),
        "no_conclusion": doubts(f"kNN on {name}", scores, predicted, splits.test),
    }


def _heads(sweep: Sweep, name: str, test: Features, splits: Splits, seed: int) -> list[dict[str, Any]]:
    """One row per head and loss: learning rate by validation risk, test scores over seeds."""
    rows = []
    for (kind, loss), tried in sweep.table.groupby(["head", "loss"], sort=False):
        rate = tried["lr"].to_numpy()
        risk = {lr: tried["validation_balanced_nll"].to_numpy()[rate == lr].mean() for lr in np.unique(rate)}
        lr = min(risk, key=lambda lr: risk[lr])
        accuracy = tried["validation_balanced_accuracy"].to_numpy()[rate == lr].mean()
        predicted = np.stack(
            [
                head_logits(head, test).argmax(axis=1)
                for (of_kind, of_loss, of_lr, _), head in sweep.heads.items()
                if (of_kind, of_loss, of_lr) == (kind, loss, lr)
            ]
        )
        scores = score_correct(predicted == splits.test.labels, splits, seed)
        rows.append(
            {
                "head": str(kind),
                "loss": str(loss),
                "lr": float(lr),
                "validation_accuracy": float(accuracy),
                "validation_nll": float(risk[lr]),
                "seconds": float(tried["seconds"].sum()),
                **scores.to_metrics(),
                "no_conclusion": doubts(
                    f"the {kind} head of {name} with {loss}", scores, predicted, splits.test
                ),
            }
        )
    return rows
