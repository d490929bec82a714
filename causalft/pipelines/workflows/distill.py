"""The work of ``causalft distill``: one student learns what a fitted run answers, and becomes a run of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from causalft.analysis.diagnosis import Diagnosis
from causalft.analysis.diagnosis.classes import ClassReport
from causalft.analysis.diagnosis.gain_share import GainShare, share_of_gain
from causalft.data.image_set import ImageSet
from causalft.data.splits import Splits
from causalft.errors import CausalFTError
from causalft.methods.adaptation.cost import PredictionCost, prediction_cost
from causalft.methods.adaptation.distill import Lessons
from causalft.methods.adaptation.settings import Tuning
from causalft.methods.adaptation.tuned import tuning_as_saved
from causalft.methods.estimators.member import MemberPrediction, fit_member
from causalft.methods.estimators.run_documents import stratum_folder
from causalft.methods.estimators.settings import FitSettings
from causalft.methods.estimators.teacher import Teacher, TeacherAnswers
from causalft.methods.priors.target_law import target_law
from causalft.models.features.cache import FeatureCache, cache_of
from causalft.models.features.encoder import view_cut
from causalft.models.strata.cards import MemberName
from causalft.models.strata.stratum import Stratum
from causalft.models.strata.zoo import Zoo
from causalft.models.tuning.processes import pick_device
from causalft.pipelines.workflows.distill_settings import DistillSettings, distill_command, student_settings
from causalft.pipelines.workflows.fit import finish_fit
from causalft.pipelines.workflows.fit_data import load_splits
from causalft.pipelines.workflows.room import require_room_for_fit
from causalft.pipelines.workflows.unlabelled_images import unlabelled_beside
from causalft.runs.documents import Document
from causalft.runs.folder import Run
from causalft.runs.lifecycle import new_run

__all__ = ["DistilledRun", "run_distill"]

_PROBED = 64  # images that the cost is timed on
_LEAST_SIDE = 0.5  # of what the teacher sees


@dataclass(frozen=True, repr=False)
class DistilledRun:
    """Result of :func:`run_distill`.

    Attributes
    ----------
    run : Run
        Of the student: a ``fit`` run with one stratum.
    metrics : dict
        Content of its ``metrics.json``; ``distilled`` compares it with its teacher.
    diagnosis : Diagnosis
        Of the student.
    worst_classes : tuple of ClassReport
    """

    run: Run
    metrics: dict[str, Any]
    diagnosis: Diagnosis
    worst_classes: tuple[ClassReport, ...] = ()

    @property
    def summary(self) -> Document:
        """The comparison of the student with its teacher and the best single stratum."""
        return {**self.metrics["distilled"], "run": str(self.run.path)}

    def __repr__(self) -> str:
        accuracy = 100 * self.metrics["fused"]["accuracy"]
        return f"DistilledRun({str(self.run.path)!r}, accuracy {accuracy:.1f} %)"


def run_distill(
    run: Run,
    settings: DistillSettings,
    out: str | os.PathLike[str],
    *,
    progress: bool | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> DistilledRun:
    """Distil a run into one model; an interrupted call with the same ``out`` resumes.

    Parameters
    ----------
    run : Run
        A complete ``fit`` run with tuned strata; of several seeds its first is the teacher.
    settings : DistillSettings
    out : path
        Folder of the student.
    progress : bool, optional
    say : callable
        Called with a line per step.

    Raises
    ------
    CausalFTError
        If nothing was tuned in the run, its images or backbones are missing or changed, the student is unknown or
        cannot name the classes or see the images, or no unlabelled image is left.
    """
    settings.check()
    settings = settings.absolute()
    own = FitSettings.from_config(run.config)
    if own.tuning.trains_nothing:
        raise CausalFTError(
            f"{run.path} has no tuned stratum (it was fitted with --tuner zero-shot), so it has nothing to teach; fit "
            "it with another tuner"
        )
    best = run.metrics["controls"]["best_single"]["name"]
    student = student_settings(settings, own, best)
    with new_run(out, "fit") as new:
        zoo = student.open_zoo()
        (name,) = student.strata
        splits = load_splits(own, own.seed)
        _check_unchanged(run, splits)
        cache = FeatureCache() if settings.cache else None
        teacher = Teacher(run, device=settings.device, cache=cache, progress=progress)
        student = _representable(zoo, student, splits, run, _least_side(teacher, splits), say)
        beside = None
        if settings.unlabeled is not None:
            beside = unlabelled_beside(
                settings.unlabeled,
                splits,
                at_most=settings.max_unlabeled,
                strict=settings.strict,
                say=say,
            )
        unlabelled = None if beside is None else beside.images
        left_out = {} if beside is None else dict(beside.left_out)
        law = target_law(own.target_law, splits.class_names)
        lessons = _lessons(settings, run, teacher.identity, unlabelled, law)
        config: Document = {
            **asdict(student),
            "zoo": student.zoo_name,
            "data_fingerprint": [part.fingerprint for part in (splits.train, splits.validation, splits.test)],
            **({"prior_sha256": student.prior_files.hashes()} if student.known_priors else {}),
            "distilled": {
                "command": distill_command(os.path.abspath(run.path), settings),
                "teacher": teacher.identity,
                "lessons": lessons.identity,
                "unlabelled": None if unlabelled is None else unlabelled.fingerprint,
            },
        }
        require_room_for_fit(student, [], splits, out)
        new.create(config, defaults={**FitSettings.defaults(), "distilled": None})
        say(f"teacher  {run.path}: {', '.join(own.strata)}, {run.metrics['mixing']['fusion']}")
        say(f"student  {name} of the {student.zoo_name} zoo, tuner {student.tuning.tuner}")
        tested = teacher(splits.test, "test images")
        lessons = replace(
            lessons,
            teacher=teacher(splits.train, "training images").probabilities,
            unlabelled_teacher=None
            if unlabelled is None
            else teacher(unlabelled, "unlabelled images").probabilities,
            # It keeps the strata in memory for the training, so only where images are augmented.
            same_view=None if student.tuning.augmentation == "none" else teacher.same_view,
        )
        costs = _costs(run, own, student, splits)
        del teacher
        known = student.prior_files.read(student.prior_names, splits.class_names).get(name)
        prediction, _ = fit_member(
            splits,
            MemberName.parse(name).weights,
            zoo,
            student.tuning,
            lessons=lessons,
            known_prior=None if known is None else known.prior,
            device=student.device,
            folder=stratum_folder(new.run.path, name),
            cache=cache_of(student.cache, student.data),
            progress=progress,
        )
        new.seconds_before += prediction.seconds if prediction.read_back else 0.0
        compared = _compare(run, own, name, splits, tested, prediction)
        distilled = _document(run, own, name, compared, costs, lessons, left_out)
        fitted = finish_fit(
            student,
            splits,
            {name: [prediction]},
            {},
            new,
            known={} if known is None else {name: known},
            distilled=distilled,
            unlabelled=beside,
            say=say,
        )
    return DistilledRun(fitted.run, fitted.metrics, fitted.diagnosis, fitted.worst_classes)


def _check_unchanged(run: Run, splits: Splits) -> None:
    parts = {"training": splits.train, "validation": splits.validation, "test": splits.test}
    for (what, images), known in zip(parts.items(), run.config["data_fingerprint"], strict=True):
        if images.fingerprint != known:
            raise CausalFTError(
                f"the {what} images of {run.config['data']} have changed since {run.path} was fitted; restore them, or "
                "fit it again"
            )


def _representable(
    zoo: Zoo, settings: FitSettings, splits: Splits, run: Run, seen: int, say: Callable[[str], None]
) -> FitSettings:
    """Refuse a student that cannot name the classes or see the images; its settings, with the start of its head."""
    (name,) = settings.strata
    stratum = zoo.load(MemberName.parse(name).weights)
    if not stratum.has_text and settings.tuning.head_start == "text":
        empty = np.flatnonzero(splits.train.class_counts == 0)
        if len(empty):
            raise CausalFTError(
                f"student {name!r} has no text tower, and class {splits.class_names[empty[0]]!r} has no training image "
                "to start its head from; name another student with --student, or add images"
            )
        say(f"note     {name} has no text tower: its head starts from class means")
        settings = replace(settings, tuning=replace(settings.tuning, head_start="class-mean"))
    elif stratum.has_text:
        try:
            stratum.prompt_tokens(list(splits.class_names), settings.tuning.template)
        except CausalFTError as error:
            why = error.on_command_line.partition(": use --zoo")[0]  # the student's zoo is the run's
            raise CausalFTError(
                f"student {name!r} cannot represent the classes of {run.path}: {why}; name another with --student"
            ) from None
    if stratum.image_size < _LEAST_SIDE * seen:
        raise CausalFTError(
            f"student {name!r} sees {stratum.image_size} pixels of images that the teacher sees at {seen}: less than "
            "half of each side; name a student of a larger image size with --student"
        )
    if stratum.image_size < seen:
        say(f"note     the student sees images at {stratum.image_size} pixels, the teacher at {seen}")
    return settings


def _least_side(teacher: Teacher, splits: Splits) -> int:
    """Pixels of the shorter side that every stratum of the teacher sees: at most those of the images themselves."""
    rows = np.linspace(0, len(splits.train) - 1, min(16, len(splits.train))).astype(int)
    native = int(np.median([min(splits.train.image(int(row)).size) for row in rows]))
    return min(native, *(tuned.stratum.image_size for tuned in teacher.model.members_.values()))


def _lessons(
    settings: DistillSettings,
    run: Run,
    teacher: Document,
    unlabelled: ImageSet | None,
    law: NDArray[np.float64] | None,
) -> Lessons:
    """The lessons, without the answers of the teacher yet."""
    prior = _mean_prior(run) if settings.balance else None
    return Lessons(
        teacher=np.empty((0, 0), dtype=np.float32),
        unlabelled=unlabelled,
        label_weight=settings.label_weight,
        prior=prior,
        target_law=law,
        identity={
            "teacher": teacher,
            "unlabelled": None if unlabelled is None else unlabelled.fingerprint,
            "label_weight": settings.label_weight,
            "teacher_sees": "the view of the student",
            "prior": None if prior is None else [round(float(value), 12) for value in prior],
            **({} if law is None else {"target_law": [round(float(value), 12) for value in law]}),
        },
    )


def _mean_prior(run: Run) -> NDArray[np.float64]:
    """Geometric mean of the label priors of the run's strata, (K,); a class that none knows counts as average."""
    priors = np.array(
        [run.metrics["strata"][name]["label_prior"] for name in run.config["strata"]], dtype=float
    )
    logs = np.log(priors)
    there = ~np.isnan(logs)
    mean = np.where(there, logs, 0.0).sum(axis=0) / np.maximum(there.sum(axis=0), 1)
    mean = np.where(there.any(axis=0), mean, mean[there.any(axis=0)].mean())
    found = np.exp(mean - mean.max())
    return found / found.sum()


def _costs(run: Run, own: FitSettings, student: FitSettings, splits: Splits) -> dict[str, PredictionCost]:
    """Cost of a prediction of the strata of the teacher and of the student."""
    device = pick_device(student.device)
    found = {}

    def measured(stratum: Stratum, tuning: Tuning, gla: bool) -> PredictionCost:
        cut = view_cut(stratum, tuning.test_view)
        rows = range(min(_PROBED, len(splits.test)))
        pixels = torch.from_numpy(np.stack([cut(splits.test.image(row)) for row in rows]))
        return prediction_cost(stratum, tuning, len(splits.class_names), pixels, gla=gla)

    zoo = own.open_zoo()
    for name in own.strata:
        stratum = zoo.load(MemberName.parse(name).weights, device=device)
        tuning = tuning_as_saved(stratum_folder(run.path, name), own.tuning)
        found[name] = measured(stratum, tuning, own.gla)
    (name,) = student.strata
    stratum = student.open_zoo().load(MemberName.parse(name).weights, device=device)
    return {**found, "": measured(stratum, student.tuning, False)}


def _compare(
    run: Run,
    own: FitSettings,
    student: str,
    splits: Splits,
    tested: TeacherAnswers,
    prediction: MemberPrediction,
) -> GainShare:
    labels, metrics = splits.test.labels, run.metrics
    same = student in own.strata and prediction.sha256 == metrics["weights"][student]
    return share_of_gain(
        labels,
        {name: np.array(metrics["strata"][name]["label_prior"], dtype=float) for name in own.strata},
        {name: tested.strata[name] == labels for name in own.strata},
        tested.predicted == labels,
        np.asarray(prediction.test_logits).argmax(axis=1) == labels,
        best_single=metrics["controls"]["best_single"]["name"],
        own=student if same else None,
        seed=own.seed,
    )


def _document(
    run: Run,
    own: FitSettings,
    student: str,
    found: GainShare,
    costs: Mapping[str, PredictionCost],
    lessons: Lessons,
    left_out: dict[str, int],
) -> Document:
    """The entry ``distilled`` of ``metrics.json``."""
    best = run.metrics["controls"]["best_single"]["name"]
    of = {
        "teacher": [costs[name] for name in own.strata],
        "student": [costs[""]],
        "best_single": [costs[best]],
    }
    about: dict[str, Document] = {
        "teacher": {
            "run": str(run.path),
            "strata": list(own.strata),
            "fusion": run.metrics["mixing"]["fusion"],
        },
        "student": {"name": student},
        "best_single": {"name": best},
    }
    document: Document = {
        who: {
            **about[who],
            "accuracy": found.accuracy[who].estimate,
            "ci95": found.accuracy[who].ci95,
            "gap": found.gap[who].to_json(),
            "cost_per_image": {
                "flops": sum(cost.flops for cost in parts),
                "seconds": sum(cost.seconds for cost in parts),
            },
        }
        for who, parts in of.items()
    }
    document["student"]["own_gap"] = found.gap["student_own"].to_json()
    n_unlabelled = 0 if lessons.unlabelled is None else len(lessons.unlabelled)
    return {
        **document,
        "gain_share": found.gain_share.to_json(),
        "student_minus_teacher": found.minus_teacher.to_json(),
        "student_minus_best_single": found.minus_best_single.to_json(),
        "images": {"labelled": len(lessons.teacher), "unlabelled": n_unlabelled, "left_out": left_out},
    }
