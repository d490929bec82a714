"""The work of ``causalft fit``: tune strata and controls, diagnose, report; each step resumes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from causalft.analysis.diagnosis import Diagnosis
from causalft.analysis.diagnosis.classes import ClassReport
from causalft.data.groups import imbalance_factor as measured_imbalance
from causalft.data.hidden import Unlabelled
from causalft.data.splits import Splits
from causalft.methods.adaptation.presets import advice
from causalft.methods.adaptation.settings import Tuning
from causalft.methods.estimators.member import MemberPrediction, fit_member, folder_name
from causalft.methods.estimators.settings import FitSettings, control_members, describe_control
from causalft.methods.estimators.sharing import fit_sharing
from causalft.methods.estimators.strata import StrataClassifier, logits_without_labels
from causalft.methods.priors.known import KnownPrior
from causalft.methods.priors.target_law import target_law
from causalft.methods.semi.tune import supervised_by
from causalft.models.features.cache import cache_of
from causalft.models.pretraining.leakage import write_seen
from causalft.models.strata.cards import MemberName
from causalft.models.strata.zoo import Zoo
from causalft.models.tuning.choices import LOSSES
from causalft.models.tuning.processes import pick_device
from causalft.models.tuning.team import work_together
from causalft.pipelines.pages.adjustment import adjustment_line
from causalft.pipelines.pages.fit import write_fit_report
from causalft.pipelines.pages.semi import semi_sentences
from causalft.pipelines.workflows.class_maps import class_map_cards
from causalft.pipelines.workflows.fit_data import check_words, load_splits, unlabelled_options
from causalft.pipelines.workflows.fit_predictions import write_predictions
from causalft.pipelines.workflows.outcome import class_reports, diagnose_run
from causalft.pipelines.workflows.room import require_room_for_fit
from causalft.pipelines.workflows.semi import law_note, laws_of_unlabelled, semi_document
from causalft.pipelines.workflows.unlabelled_images import unlabelled_of, without_outliers
from causalft.runs.documents import Document
from causalft.runs.folder import Run
from causalft.runs.lifecycle import NewRun, new_run
from causalft.runs.limits import BUILT_IN
from causalft.runs.notebook import ShownAsTable

__all__ = ["FittedRun", "finish_fit", "run_fit"]


@dataclass(frozen=True, repr=False)
class FittedRun(ShownAsTable):
    """Result of :func:`run_fit`.

    Attributes
    ----------
    run : Run
    metrics : dict
        Content of ``metrics.json``.
    diagnosis : Diagnosis
    worst_classes : tuple of ClassReport
        Classes with the lowest accuracy of the fused model, lowest first.
    """

    run: Run
    metrics: dict[str, Any]
    diagnosis: Diagnosis
    worst_classes: tuple[ClassReport, ...] = ()

    def _table(self) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        return self.diagnosis._table()

    def __repr__(self) -> str:
        return f"FittedRun({str(self.run.path)!r}, accuracy {100 * self.metrics['fused']['accuracy']:.1f} %)"


def run_fit(
    settings: FitSettings,
    out: str | os.PathLike[str],
    *,
    progress: bool | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> FittedRun:
    """Fit, diagnose and report; an interrupted run in ``out`` resumes.

    Processes of a launcher share the work; the first one evaluates and writes.

    Parameters
    ----------
    settings : FitSettings
    out : path
    progress : bool, optional
    say : callable
        Called with a line per step.

    Raises
    ------
    CausalFTError
        For wrong settings, data, weights or folder.
    """
    with work_together(pick_device(settings.device)) as team, new_run(out, "fit", writes=team.is_main) as new:
        settings.check()
        settings = settings.absolute()
        team.agree({**asdict(settings), "output folder": os.path.abspath(out)})
        zoo = settings.open_zoo()
        control, control_kind = control_members(settings, zoo)
        _classifier(settings, zoo, progress).check()
        splits = load_splits(settings, settings.seed)
        check_words(settings, splits.class_names)
        require_room_for_fit(settings, control, splits, out)
        parts = (splits.train, splits.validation, splits.test)
        known = _known_priors(settings, splits)
        unlabelled = _unlabelled(settings, splits, zoo, say)
        target_law(settings.target_law, splits.class_names)  # refused before anything is tuned
        config = {
            **asdict(settings),
            "zoo": settings.zoo_name,
            "data_fingerprint": [part.fingerprint for part in parts],
            **({"prior_sha256": settings.prior_files.hashes()} if settings.known_priors else {}),
            **({} if unlabelled is None else {"unlabeled_fingerprint": unlabelled.fingerprint}),
        }
        team.agree({"images": config["data_fingerprint"]})
        new.create(config, defaults=FitSettings.defaults())
        _describe(settings, zoo, splits, say)
        for prior in known.values():
            for note in prior.notes(splits.class_names):
                say(f"counts   {note}")
        if control:
            say(f"control  {describe_control(control, control_kind)}")
        members, controls, seen, seen_by_controls = _tune(
            settings, zoo, splits, control, known, new, progress, say, unlabelled=unlabelled
        )
        return team.from_main(
            lambda: finish_fit(
                settings,
                splits,
                members,
                controls,
                new,
                control_kind,
                known=known,
                unlabeled_logits=seen,
                control_logits=seen_by_controls,
                unlabelled=unlabelled,
                say=say,
            )
        )


def finish_fit(
    settings: FitSettings,
    splits: Splits,
    members: dict[str, list[MemberPrediction]],
    controls: dict[str, list[MemberPrediction]],
    new: NewRun,
    control_kind: str | None = None,
    *,
    known: Mapping[str, KnownPrior] | None = None,
    distilled: Document | None = None,
    unlabeled_logits: Mapping[str, Sequence[Any]] | None = None,
    control_logits: Mapping[str, Sequence[Any]] | None = None,
    unlabelled: Unlabelled | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> FittedRun:
    """Evaluate predictions of every member, kept in memory or in the run, and complete the run.

    Parameters
    ----------
    settings : FitSettings
    splits : Splits
        Of the first seed.
    members, controls : dict of str to list of ~causalft.methods.estimators.member.MemberPrediction
        One per seed.
    new : NewRun
        Created.
    control_kind : {"pre-training", "tuning"}, optional
        What differs between the members of the control.
    known : mapping of str to KnownPrior, optional
        Priors of files that the members were given.
    unlabeled_logits : mapping of str to sequence of (m, K) arrays, optional
        Logits of images without labels that choose the strength of an adjusted fusion.
    control_logits : mapping of str to sequence of (m, K) arrays, optional
        The same of members of the control, as far as they are no strata of the run.
    distilled : dict, optional
        Of a student: its entry of ``metrics.json``, in JSON.
    unlabelled : Unlabelled, optional
        Images that were used without their labels.
    say : callable
        Called with a line per step.
    """
    outcome = diagnose_run(
        settings, splits, members, controls, control_kind, known, unlabeled_logits, control_logits
    )
    for line in outcome.prior_lines():
        say(f"prior    {line}")
    if outcome.adjustments:
        chosen = outcome.adjustments[0]
        say(f"adjust   {adjustment_line(chosen.to_json())}")
        for note in chosen.notes:
            say(f"adjust   {note}")
    worst = class_reports(outcome)

    def page(run: Run, metrics: dict[str, Any]) -> None:
        if settings.data not in BUILT_IN:
            write_seen(run, splits, None if unlabelled is None else unlabelled.images)
        write_predictions(
            run,
            splits,
            {name: found[0] for name, found in members.items()},
            outcome.mixings[0],
            top=settings.top,
            all_probabilities=settings.all_probabilities,
        )
        maps = class_map_cards(run, settings, settings.open_zoo(), splits.test, worst, outcome.mixings[0])
        write_fit_report(run, metrics, worst, splits, maps)

    worst_classes = [report.to_json() for report in worst]
    metrics = {**outcome.to_metrics(), **new.stamp(), "worst_classes": worst_classes}
    if distilled is not None:
        metrics["distilled"] = distilled
    if settings.semi.method is None and unlabeled_logits:
        law = target_law(settings.target_law, splits.class_names)
        if note := law_note(splits, members, unlabeled_logits, outcome.mixings[0], law):
            metrics["adjustment"]["notes"].append(note)
            say(f"note     {note}")
    if settings.semi.method is not None:
        laws = {}
        if unlabelled is not None and unlabeled_logits:
            laws = laws_of_unlabelled(splits, members, unlabeled_logits, outcome.mixings[0])
        metrics["semi"] = semi_document(settings.semi, splits, members, unlabelled, laws)
        for line in semi_sentences(metrics["semi"]):
            say(f"semi     {line}")
        if laws and (warning := laws["fused"].outliers.warning) is not None:
            say(f"note     {warning}")
    return FittedRun(new.run, new.finish(metrics, page), outcome.diagnosis, tuple(worst))


def _tune(
    settings: FitSettings,
    zoo: Zoo,
    splits: Splits,
    control: Sequence[MemberName],
    known: Mapping[str, KnownPrior],
    new: NewRun,
    progress: bool | None,
    say: Callable[[str], None],
    *,
    unlabelled: Unlabelled | None = None,
) -> tuple[
    dict[str, list[MemberPrediction]],
    dict[str, list[MemberPrediction]],
    dict[str, list[Any]],
    dict[str, list[Any]],
]:
    """Predictions of every stratum and control member, and the logits of both for unlabelled images, one per seed."""
    seen: dict[str, list[Any]] = {}
    seen_by_controls: dict[str, list[Any]] = {}
    cache = cache_of(settings.cache, settings.data)
    members: dict[str, list[MemberPrediction]] = {name: [] for name in settings.strata}
    controls: dict[str, list[MemberPrediction]] = {str(member): [] for member in control}
    known_priors = {name: prior.prior for name, prior in known.items()}
    for number in range(settings.n_seeds):
        seed = settings.seed + number
        if number:
            splits_now = load_splits(settings, seed)
            unlabelled = _unlabelled(settings, splits_now, zoo)
            say(f"seed {seed}: {len(splits_now.train)} training images")
        else:
            splits_now = splits
        folder = new.run.path if number == 0 else new.run.path / "seeds" / str(seed)
        tuning = replace(settings.tuning, seed=seed)
        model = _classifier(settings, zoo, progress, tuning)
        log_dir = new.run.path / "tensorboard" / str(seed) if settings.tensorboard else None
        model.fit(
            splits_now.train,
            validation=splits_now.validation,
            test=splits_now.test,
            folder=folder,
            cache=cache,
            log_dir=log_dir,
            known_priors=known_priors,
            unlabeled=unlabelled,
        )
        for name, logits in model.unlabeled_logits_.items():
            seen.setdefault(name, []).append(logits)
        for name, prediction in model.predictions_.items():
            members[name].append(prediction)
            new.seconds_before += prediction.seconds if prediction.read_back else 0.0
            if number == 0 and prediction.anchors != "captions":
                say(f"note     {name} has no text tower: {prediction.anchors} stand in for captions")
            if not prediction.prior.converged:
                say(
                    f"note     the label prior of {name} did not converge; give more validation images per class"
                )
        supervision = None if settings.semi.method is None else supervised_by(settings.semi, unlabelled)
        if control and supervision is not None and settings.semi.share_labels:
            shared, tuned_of = fit_sharing(
                splits_now,
                [str(member) for member in control],
                zoo,
                tuning,
                supervision,
                learning_rates=settings.learning_rates,
                known_priors={
                    str(member): prior
                    for member in control
                    if (prior := _prior_of(member, known_priors)) is not None
                },
                device=settings.device,
                folder=folder / "controls",
                cache=cache,
                progress=progress,
            )
            for name, prediction in shared.items():
                controls[name].append(prediction)
                found = logits_without_labels(tuned_of[name], supervision.unlabelled.images, progress)
                seen_by_controls.setdefault(name, []).append(found)
                new.seconds_before += prediction.seconds if prediction.read_back else 0.0
            continue
        for member in control:
            name = str(member)
            if name in model.predictions_:
                controls[name].append(model.predictions_[name])
                continue
            prediction, tuned = fit_member(
                splits_now,
                member.weights,
                zoo,
                replace(tuning, seed=member.tuning_seed(seed)),
                learning_rates=settings.learning_rates,
                gla=settings.gla,
                known_prior=_prior_of(member, known_priors),
                supervision=supervision,
                device=settings.device,
                folder=folder / "controls" / folder_name(name),
                cache=cache,
                progress=progress,
            )
            controls[name].append(prediction)
            if unlabelled is not None:
                found = logits_without_labels(tuned, unlabelled.images, progress)
                seen_by_controls.setdefault(name, []).append(found)
            new.seconds_before += prediction.seconds if prediction.read_back else 0.0

    return members, controls, seen, seen_by_controls


def _prior_of(member: MemberName, known: Mapping[str, Any]) -> Any:
    """The known prior of a member, or of the stratum that it is a seed of."""
    return known.get(member.weights, known.get(member.stratum))


def _unlabelled(
    settings: FitSettings, splits: Splits, zoo: Zoo, say: Callable[[str], None] = lambda line: None
) -> Unlabelled | None:
    """The unlabelled images of one seed; None where nothing asks for any."""
    found = unlabelled_of(settings, splits, say)
    if found is None or not unlabelled_options(settings).drop_outliers:
        return found
    kept, line = without_outliers(settings, zoo, splits, found)
    say(f"images   {line}")
    return kept


def _known_priors(settings: FitSettings, splits: Splits) -> dict[str, KnownPrior]:
    """Known priors of the strata; GLA needs all classes."""
    found = settings.prior_files.read(settings.prior_names, splits.class_names)
    found = {name: prior for name, prior in found.items() if name in settings.strata}
    if settings.gla or LOSSES[settings.tuning.loss].needs_model_prior:
        for prior in found.values():
            prior.require_all(splits.class_names, "GLA")
    return found


def _classifier(
    settings: FitSettings, zoo: Zoo, progress: bool | None, tuning: Tuning | None = None
) -> StrataClassifier:
    return StrataClassifier(
        settings.strata,
        zoo=zoo,
        tuning=tuning or settings.tuning,
        learning_rates=settings.learning_rates,
        gla=settings.gla,
        fusion=settings.fusion,
        tolerance=settings.tolerance,
        target_law=settings.target_law,
        stratum_prior=settings.stratum_prior,
        calibrate_strata=settings.calibrate_strata,
        joint=settings.joint,
        semi=settings.semi,
        device=settings.device,
        progress=progress,
    )


def _describe(settings: FitSettings, zoo: Zoo, splits: Splits, say: Callable[[str], None]) -> None:
    counts = splits.train.class_counts
    say(
        f"data     {settings.data}: {len(splits.train)} training images of {len(counts)} classes, "
        f"{counts.max()} to {counts.min()} a class (imbalance {measured_imbalance(counts):.0f}); "
        f"{len(splits.validation)} validation, {len(splits.test)} test"
    )
    for note in splits.notes:
        say(f"note     {note}")
    if (wish := advice(settings.preset, settings.tuning, len(counts))) is not None:
        say(f"note     {wish}")
    kind = (
        "small models of this project, not the real ones"
        if settings.zoo_name != "pretrained"
        else "open_clip"
    )
    say(f"zoo      {zoo.label} ({kind})")
