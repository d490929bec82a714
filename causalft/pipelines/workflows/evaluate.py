"""The work of ``causalft evaluate``: score a fitted run on labelled images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalft.analysis.diagnosis import Diagnosis
from causalft.analysis.diagnosis.answers import Answers
from causalft.analysis.diagnosis.diagnose import diagnose_answers
from causalft.analysis.uncertainty.conformal import PredictionSets, describe_sets
from causalft.data.image_set import ImageSet
from causalft.data.opening import open_images
from causalft.errors import CausalFTError, several
from causalft.methods.estimators.fitted import Predicting
from causalft.methods.estimators.fusion import LOGIT
from causalft.methods.estimators.probabilities import FLOOR
from causalft.methods.estimators.settings import FitSettings, data_name
from causalft.methods.estimators.strata import StrataClassifier
from causalft.models.features.engines import Launched
from causalft.models.pretraining.leakage import seen_in_run
from causalft.models.tuning.processes import pick_device
from causalft.models.tuning.team import Team, work_together
from causalft.pipelines.workflows.agreement import precision_note
from causalft.pipelines.workflows.fit_data import load_splits
from causalft.pipelines.workflows.merged_agreement import MergedAgreement, merged_on_validation
from causalft.pipelines.workflows.outcome import with_caveat_of_joint
from causalft.pipelines.workflows.stored_run import StoredRun, sets_of_run
from causalft.runs.documents import Document
from causalft.runs.folder import Run
from causalft.runs.limits import BUILT_IN

__all__ = ["Evaluation", "evaluate"]


@dataclass(frozen=True)
class Evaluation:
    """Scores of a run on labelled images.

    Attributes
    ----------
    data : str
        Name of the images.
    notes : tuple of str
        Images that the run has seen; strata in another precision than was asked for.
    diagnosis : Diagnosis
    sets : dict, optional
        Prediction sets and their coverage, as ``sets`` of :func:`causalft.sensitivity`.
    merging : MergedAgreement, optional
        What merging tokens changes on validation images of the run.
    """

    data: str
    notes: tuple[str, ...]
    diagnosis: Diagnosis
    sets: Document | None = None
    merging: MergedAgreement | None = None


def evaluate(
    run: Run,
    data: str,
    *,
    device: str = "auto",
    data_options: Mapping[str, Any] | None = None,
    sets: float | None = None,
    precision: str | None = None,
    merge_tokens: int = 0,
) -> Evaluation:
    """Score a complete ``fit`` run on labelled images; processes of a launcher share the images.

    Parameters
    ----------
    run : Run
    data : str
        The data of the run (its test split is scored) or other images (their test folder, or all).
    device : str
    data_options : mapping, optional
        Options of :func:`causalft.data.opening.open_images`.
    sets : float, optional
        Coverage of prediction sets, in (0, 1).
    precision : {"auto", "fp32", "bf16", "fp16", "int8"}, optional
        Of the layers; by default that of the run.
    merge_tokens : int
        Patch tokens that each block of a ViT merges (:mod:`causalft.models.tuning.merging`); 0: none.

    Raises
    ------
    CausalFTError
        If the images cannot be read, have other classes, or have changed since the run was fitted; with ``sets``, if
        the run keeps no predictions of its validation images; with ``merge_tokens``, if a stratum cannot merge tokens.
    """
    with work_together(pick_device(device)) as team:
        team.agree(
            {
                "run": [run.config, run.metrics],
                "data": data,
                "data options": data_options,
                "sets": sets,
                "precision": precision,
                "merge tokens": merge_tokens,
            }
        )
        fitted = None if sets is None else sets_of_run(StoredRun.open(run.path), sets)
        found = _evaluate(team, run, data, device, data_options, fitted, precision, merge_tokens)
        if not merge_tokens or not team.is_main:
            return found
    cost = merged_on_validation(run, merge_tokens, device=device, precision=precision)
    if isinstance(cost, str):
        note = f"what merging tokens costs was not measured: {cost}"
        return replace(found, notes=(*found.notes, note))
    return replace(found, merging=cost)


def _evaluate(
    team: Team,
    run: Run,
    data: str,
    device: str,
    data_options: Mapping[str, Any] | None,
    sets: PredictionSets | None,
    precision: str | None,
    merge_tokens: int,
) -> Evaluation:
    metrics = run.metrics
    settings = FitSettings.from_config(run.config)
    own = data_name(data) == settings.data
    if own:
        for option, value in (data_options or {}).items():
            if settings.data_options.get(option) != value:
                raise CausalFTError(
                    f"--{option.replace('_', '-')} does nothing here: {run.path} was fitted on {data}, which is "
                    "opened as it was then; leave the option out"
                )
        images = load_splits(settings, settings.seed).test
        if images.fingerprint != run.config["data_fingerprint"][2]:
            raise CausalFTError(
                f"{data} has changed since {run.path} was fitted, so its test split is not known any more; restore "
                "it, or give labelled images that the run has not seen, in another folder"
            )
    elif data in BUILT_IN:
        raise CausalFTError(
            f"{run.path} was fitted on {settings.data}, and built-in images score the runs that were fitted on them; "
            "give --data labelled images of its classes"
        )
    else:
        images = open_images(data, min_classes=1, **(data_options or {}))
        if "test" in images.splits:
            images = images.subset(images.splits["test"], name=f"{images.name}/test")

    model = StrataClassifier.load(run.path, device=device, precision=precision)
    for member in model.members_.values():
        member.merge_tokens(merge_tokens)
    classes = model.classes_.tolist()
    images = images.align_classes(classes)
    team.agree({"images": images.fingerprint})
    members, fused, logit_mean, size = _answers(model, images, sets)
    scored = partial(
        diagnose_answers,
        images.labels,
        np.array([metrics["class_counts"][name] for name in classes]),
        members,
        fused,
        logit_mean,
        {name: np.array(metrics["strata"][name]["label_prior"], dtype=float) for name in model.members_},
        prior_from={name: metrics["strata"][name].get("prior_from", "estimated") for name in model.members_},
        fusion=model.fusion,
        stratum_prior=model.mixing_.stratum_prior,
        temperature=model.temperature_,
        best_single=metrics["controls"]["best_single"]["name"],
        mention_missing_control=False,
    )
    diagnosis = with_caveat_of_joint(team.from_main(scored), settings)
    notes = [] if own else seen_in_run(images, run.path, settings.open_zoo())
    if note := precision_note(model.members_, precision):
        notes = [*notes, note]
    if sets is None:
        return Evaluation(images.name, tuple(notes), diagnosis)

    def covered() -> Document:
        inside = fused.of_label[0] >= sets.threshold[images.labels]
        return describe_sets(sets, size, inside, images.labels, StoredRun(run).groups)

    return Evaluation(images.name, tuple(notes), diagnosis, team.from_main(covered))


def _answers(
    model: StrataClassifier, images: ImageSet, sets: PredictionSets | None
) -> tuple[dict[str, Answers], Answers, Answers, NDArray[np.int64]]:
    """Answers of each stratum, of their fusion, and of the mean of their log-probabilities; sizes of the sets.

    Of the processes of a launcher, the first one gets them.
    """
    members = {name: Answers.empty(1, len(images)) for name in model.members_}
    fused, logit_mean = Answers.empty(1, len(images)), Answers.empty(1, len(images))
    weights, size = np.array(model.mixing_.stratum_prior), np.zeros(len(images), dtype=np.int64)
    work = Predicting(model, label=f"predicting {several(images, 'image', 'images')}")
    for part in Launched().parts(images, range(len(images)), work.batch_size, work):
        rows, strata, mixed = part.rows, part.values["strata"].transpose(1, 0, 2), part.values["fused"]
        for answers, probs in zip(members.values(), strata, strict=True):
            answers.put(0, rows, probs, images.labels)
        fused.put(0, rows, mixed, images.labels)
        if sets is not None:
            size[rows] = sets.contains(mixed).sum(axis=1)
        logit_mean.put(0, rows, LOGIT.fuse(np.log(np.maximum(strata, FLOOR)), weights), images.labels)
    return members, fused, logit_mean, size
