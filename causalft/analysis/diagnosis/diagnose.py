"""Diagnose imbalance: from predictions of single and fused models to every number of ``fit``'s report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.analysis.diagnosis.answers import Answers
from causalft.analysis.diagnosis.conclusion import conclude, untold
from causalft.analysis.diagnosis.intervals import Interval, bootstrap
from causalft.analysis.diagnosis.no_conclusion import (
    PARTS,
    explain_missing,
    facts_of,
    groups_of,
    reasons,
    statistic,
)
from causalft.analysis.diagnosis.parameter_imbalance import PriorSlope, group_vectors
from causalft.analysis.diagnosis.result import CONTROL_KINDS, BeforeAfter, Control, Diagnosis, ModelScore
from causalft.analysis.diagnosis.statistics import DiagnosisStatistics
from causalft.data.groups import (
    GROUPS,
    balancing_weights,
    class_accuracy,
    cross_groups,
    data_groups,
    group_accuracy,
    prior_groups,
)
from causalft.errors import CausalFTError, nearest
from causalft.methods.estimators.fusion import LOGIT, calibration_error, stratum_weights
from causalft.methods.estimators.probabilities import MemberRows, member_blocks, members_rows
from causalft.methods.estimators.stored_logits import row_blocks
from causalft.runs.progress import named

__all__ = ["diagnose", "diagnose_answers"]

Floats = NDArray[np.float64]


def diagnose(
    labels: ArrayLike,
    class_counts: ArrayLike,
    member_probs: Mapping[str, ArrayLike],
    fused_probs: ArrayLike,
    priors: Mapping[str, ArrayLike],
    *,
    prior_from: Mapping[str, str] | None = None,
    controls: Mapping[str, Mapping[str, Any]] | None = None,
    fusion: str = "mixture",
    stratum_prior: Mapping[str, float] | Sequence[float] | None = None,
    temperature: float | Sequence[float] = 1.0,
    best_single: str | None = None,
    mention_missing_control: bool = True,
    n_boot: int = 1000,
    seed: int = 0,
) -> Diagnosis:
    """Measure data and parameter imbalance of M strata before and after their fusion.

    Parameters
    ----------
    labels : (n,) array of int in [0, K)
        Of the test images.
    class_counts : (K,) array of int
        Training images per class.
    member_probs : mapping of M names to (S, n, K) arrays
        P(y|b,c) of each stratum for S seeds; (n, K) is one seed.
    fused_probs : (S, n, K) array
        Fused (and calibrated) probabilities; seed s fuses seed s of each member.
    priors : mapping of the M names to (K,) arrays
        Label prior of each stratum, estimated or known; NaN where it is not known: such a class is in no P group, and a
        slope leaves it out.
    prior_from : mapping of str to str, optional
        Strata to "known" or "estimated" (default), recorded and named on pages.
    controls : mapping, optional
        Name to ``{"members": {name: (S, n, K)}, "fused": (S, n, K), "prior_of": stratum}``: the same fusion over
        members that share one stratum's prior. An optional ``"kind"`` says what differs between them: "pre-training",
        or "tuning" of the same weights, a weaker control.
    fusion, stratum_prior, temperature
        How ``fused_probs`` was made (recorded; P(c) also weighs the control ``logit_mean``).
    best_single : str, optional
        The stratum that validation data chose. Default: the best on the test set.
    mention_missing_control : bool
        Whether the conclusion says that no control was run.
    n_boot, seed : int
        Bootstrap draws and their seed.

    Raises
    ------
    CausalFTError
        If names, shapes or numbers of seeds do not agree.

    Notes
    -----
    ``accuracy`` is the share of right images. Everything else (``class_mean``, groups, gains, paired differences, NLL,
    calibration error) weighs all tested classes alike, since an unbalanced test set is mostly head. On a balanced test
    set both agree.

    ``own_minus_off_gap``: mean over j of gap[j, j] - mean over i != j of gap[i, j], where gap[i, j] is the accuracy of
    model i on the P-many classes of prior j minus that on its P-few classes. After fusion the first term is the fused
    model's gap; the baseline stays.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat(np.arange(10), 20)
    >>> probs = {name: rng.dirichlet(np.ones(10), (1, 200)) for name in ("a", "b")}
    >>> priors = {"a": np.arange(1, 11) / 55, "b": np.arange(10, 0, -1) / 55}
    >>> found = diagnose(y, np.full(10, 50), probs, (probs["a"] + probs["b"]) / 2, priors, n_boot=100)
    >>> found.strata["a"].D["many"] is None, found.n_seeds
    (True, 1)
    """
    y, counts = np.asarray(labels), np.asarray(class_counts)
    n, n_classes = len(y), len(counts)
    names = tuple(member_probs)
    _check_names(names, priors)
    fused = _probs(fused_probs, None, n, n_classes, "fused")
    n_seeds = fused.shape[0]
    members = {name: _probs(p, n_seeds, n, n_classes, name) for name, p in member_probs.items()}
    _check_controls(controls or {}, names)
    weights = _stratum_prior(stratum_prior, names)
    return diagnose_answers(
        y,
        counts,
        {name: Answers.of(probs, y) for name, probs in members.items()},
        _fused_answers(fused, y),
        _logit_mean(list(members.values()), weights, y),
        priors,
        controls={
            name: {
                **control,
                "members": {
                    member: Answers.of(_probs(p, n_seeds, n, n_classes, member), y)
                    for member, p in control["members"].items()
                },
                "fused": Answers.of(_probs(control["fused"], n_seeds, n, n_classes, name), y),
            }
            for name, control in (controls or {}).items()
        },
        fusion=fusion,
        stratum_prior=weights.tolist(),
        temperature=temperature,
        best_single=best_single,
        mention_missing_control=mention_missing_control,
        prior_from=prior_from,
        n_boot=n_boot,
        seed=seed,
    )


@named("comparing accuracy before and after")
def diagnose_answers(
    labels: NDArray[np.int64],
    class_counts: NDArray[Any],
    members: Mapping[str, Answers],
    fused: Answers,
    logit_mean: Answers,
    priors: Mapping[str, ArrayLike],
    *,
    prior_from: Mapping[str, str] | None = None,
    controls: Mapping[str, Mapping[str, Any]] | None = None,
    fusion: str = "mixture",
    stratum_prior: Mapping[str, float] | Sequence[float] | None = None,
    temperature: float | Sequence[float] = 1.0,
    best_single: str | None = None,
    mention_missing_control: bool = True,
    n_boot: int = 1000,
    seed: int = 0,
) -> Diagnosis:
    """:func:`diagnose` of answers: what is left of the probabilities of a test set too large to hold them all.

    ``logit_mean`` are the answers of the mean of the strata's log-probabilities, weighed by P(c). A control holds
    `Answers` where that of :func:`diagnose` holds probabilities.
    """
    y, counts = np.asarray(labels), np.asarray(class_counts)
    n, n_classes = len(y), len(counts)
    names = tuple(members)
    _check_names(names, priors)
    _check_controls(controls or {}, names)
    n_seeds = len(fused.predicted)
    q = np.stack([_prior(priors[name], n_classes, name) for name in names])
    weights = _stratum_prior(stratum_prior, names)

    models: dict[str, Answers] = {f"stratum {name}": members[name] for name in names}
    models |= {"fused": fused, "logit_mean": logit_mean}
    for name, control in (controls or {}).items():
        models |= {f"control {name}: {member}": answers for member, answers in control["members"].items()}
        models[f"control {name}"] = control["fused"]
    correct = np.stack([answers.right(y) for answers in models.values()])
    row = {name: index for index, name in enumerate(models)}

    test_counts = np.bincount(y, minlength=n_classes)
    tested = test_counts > 0
    shares = np.stack([test_counts / n, tested / tested.sum()])  # of images, and every tested class alike
    balance = balancing_weights(y, n_classes)
    d_groups = data_groups(counts)
    p_groups = {name: prior_groups(prior) for name, prior in zip(names, q)}
    groups = np.stack([group_vectors(g, tested) for g in (d_groups, *p_groups.values())])
    own = {name: names.index(control["prior_of"]) for name, control in (controls or {}).items()}
    control_rows = {
        name: [row[f"control {name}: {member}"] for member in control["members"]]
        for name, control in (controls or {}).items()
    }
    statistics = DiagnosisStatistics(q, tested, shares, groups, row, own, control_rows)
    found = explain_missing(
        bootstrap(statistics, correct, y, n_classes, vectors=statistics.vectors, n_boot=n_boot, seed=seed),
        names,
        fusion,
        tuple(own),
    )

    seed_accuracy = class_accuracy(correct, y, n_classes)

    def score(model: str) -> ModelScore:
        accuracy = seed_accuracy[row[model]].mean(axis=0)
        return ModelScore(
            accuracy=found["accuracy"][row[model]],
            class_mean=found["class_mean"][row[model]],
            per_seed=tuple(correct[row[model]].mean(axis=1).tolist()),
            class_accuracy=accuracy,
            D=group_accuracy(accuracy, d_groups),
            P={prior: group_accuracy(accuracy, groups) for prior, groups in p_groups.items()},
            DxP={prior: cross_groups(accuracy, d_groups, groups) for prior, groups in p_groups.items()},
            D_interval=dict(zip(GROUPS, found["groups"][row[model], 0])),
            P_interval={
                prior: dict(zip(GROUPS, found["groups"][row[model], j]))
                for j, prior in enumerate(names, start=1)
            },
        )

    strata = {name: score(f"stratum {name}") for name in names}
    best_on_test = max(names, key=lambda name: strata[name].class_mean.estimate)
    if best_single is not None and best_single not in names:
        raise CausalFTError(
            f"best_single '{best_single}' is no stratum of this fit; {nearest(best_single, names)}"
        )
    chosen = best_on_test if best_single is None else best_single
    gap = {
        model: {prior: found["gap"][i, j] for j, prior in enumerate(names)}
        for i, model in enumerate((*names, "fused"))
    }
    paired = {
        "fused_minus_best_single": found["fused_minus_single"][names.index(best_on_test)],
        "fused_minus_mean_single": found["gain"],
        "fused_minus_logit_mean": found["fused_minus_logit_mean"],
    }
    if best_single is not None:
        paired["fused_minus_chosen_single"] = found["fused_minus_single"][names.index(chosen)]
    difficulty = np.full(n_classes, np.nan)
    single_accuracy = np.stack([strata[name].class_accuracy for name in names])
    slope = PriorSlope(q, tested)
    difficulty[slope.tested] = slope.difficulty(single_accuracy)
    done = {
        name: Control(
            prior_of=control["prior_of"],
            score=score(f"control {name}"),
            member_accuracy={
                member: float(correct[row[f"control {name}: {member}"]].mean())
                for member in control["members"]
            },
            gain=found[statistic("gain", control=name)],
            P_gap=_before_after(found, "P_gap", name),
            own_minus_off_gap=_before_after(found, "own_minus_off_gap", name),
            prior_slope=_before_after(found, "prior_slope", name),
            strata_minus_control=found[statistic("strata_minus_control", control=name)],
            strata_gain_minus_control_gain=found[statistic("strata_gain_minus_control_gain", control=name)],
            ensemble_share=found[statistic("ensemble_share", control=name)],
            kind=control.get("kind"),
        )
        for name, control in (controls or {}).items()
    }
    if done:
        first = done["seeds"] if "seeds" in done else next(iter(done.values()))
        paired["fused_minus_control"] = first.strata_minus_control
        paired["fused_minus_control_gain"] = first.strata_gain_minus_control_gain
    temperatures = tuple(np.atleast_1d(np.asarray(temperature, dtype=float)).tolist())
    asked = {**{f"stratum {name}": f"stratum {name}" for name in names}, "fused": "the fusion"}
    doubts = reasons(
        [
            facts_of(
                words,
                models[model].predicted,
                y,
                n_classes,
                found["class_mean"][row[model]],
                loss=models[model].loss(),
                temperatures=temperatures if model == "fused" else (),
            )
            for model, words in asked.items()
        ],
        [group for name in names for group in groups_of(p_groups[name], test_counts, name)],
    )
    diagnosis = Diagnosis(
        n=n,
        n_classes=n_classes,
        n_seeds=n_seeds,
        class_counts=counts.astype(np.int64),
        priors=dict(zip(names, q)),
        prior_from={name: (prior_from or {}).get(name, "estimated") for name in names},
        strata=strata,
        fused=score("fused"),
        logit_mean=score("logit_mean"),
        fusion=fusion,
        stratum_prior=dict(zip(names, weights.tolist())),
        temperature=temperatures,
        test_counts=test_counts.astype(np.int64),
        nll=fused.loss(balance),
        ece=float(
            np.mean(
                [
                    calibration_error(right, sure, weights=balance)
                    for right, sure in zip(fused.right(y), fused.confidence, strict=True)
                ]
            )
        ),
        gap=gap,
        P_gap=_before_after(found, "P_gap"),
        own_minus_off_gap=_before_after(found, "own_minus_off_gap"),
        prior_slope=_before_after(found, "prior_slope"),
        class_difficulty=difficulty,
        fused_minus_members_gap=found["fused_minus_members_gap"],
        best_single=chosen,
        best_on_test=best_on_test,
        chosen_on="test" if best_single is None else "validation",
        controls=done,
        paired=paired,
    )
    reason = untold(diagnosis)
    diagnosis = replace(diagnosis, no_conclusion=((reason, *doubts) if reason else doubts))
    sentences = conclude(diagnosis, doubted=bool(doubts), mention_missing_control=mention_missing_control)
    return replace(diagnosis, sentences=tuple(sentences))


def _before_after(found: Mapping[str, Interval], measure: str, control: str = "") -> BeforeAfter:
    return BeforeAfter(*(found[statistic(measure, part, control)] for part in PARTS))


def _fused_answers(fused: Floats, y: NDArray[np.int64]) -> Answers:
    """Answers of the fused probabilities, their rows checked and brought to a sum of exactly 1."""
    found = Answers.empty(len(fused), len(y))
    for seed, probs in enumerate(fused):
        rows_of = MemberRows(probs, "probabilities", "fused")
        for rows in row_blocks(*probs.shape):
            found.put(seed, rows, np.exp(rows_of[rows]), y)
    return found


def _logit_mean(members: Sequence[Floats], weights: Floats, y: NDArray[np.int64]) -> Answers:
    """Answers of the mean of the log-probabilities of M members (S, n, K)."""
    found = Answers.empty(len(members[0]), len(y))
    for seed in range(len(members[0])):
        for rows, log_p in member_blocks(members_rows([probs[seed] for probs in members], "probabilities")):
            found.put(seed, rows, LOGIT.fuse(log_p, weights), y)
    return found


def _probs(values: ArrayLike, n_seeds: int | None, n: int, n_classes: int, name: str) -> Floats:
    probs = np.asarray(values)
    if probs.ndim == 2:
        probs = probs[None]
    if probs.ndim != 3 or probs.shape[1:] != (n, n_classes):
        raise CausalFTError(
            f"probabilities of '{name}' have shape {np.shape(values)}; the test set asks for (seeds, {n}, {n_classes})"
        )
    if n_seeds is not None and len(probs) != n_seeds:
        raise CausalFTError(
            f"'{name}' has {len(probs)} seeds, the fused model {n_seeds}; give the same seeds to all"
        )
    return probs


def _check_names(names: Sequence[str], priors: Mapping[str, ArrayLike]) -> None:
    if not names:
        raise CausalFTError("there is no stratum to diagnose; give at least one member")
    missing = [name for name in names if name not in priors]
    if missing:
        raise CausalFTError(f"stratum '{missing[0]}' has no label prior; {nearest(missing[0], priors)}")


def _check_controls(controls: Mapping[str, Mapping[str, Any]], strata: Sequence[str]) -> None:
    for name, control in controls.items():
        if control["prior_of"] not in strata:
            hint = nearest(control["prior_of"], strata)
            raise CausalFTError(
                f"control '{name}' has the prior of '{control['prior_of']}', which is no stratum; {hint}"
            )
        kind = control.get("kind")
        if kind is not None and kind not in CONTROL_KINDS:
            raise CausalFTError(f"control '{name}' is of no kind '{kind}'; {nearest(kind, CONTROL_KINDS)}")


def _prior(values: ArrayLike, n_classes: int, name: str) -> Floats:
    prior = np.asarray(values, dtype=float)
    known = prior[~np.isnan(prior)]
    if prior.shape != (n_classes,) or not (known > 0).all() or abs(known.sum() - 1) > 1e-3:
        raise CausalFTError(
            f"the label prior of '{name}' must hold {n_classes} positive numbers that sum to 1"
        )
    return prior / known.sum()


def _stratum_prior(value: Mapping[str, float] | Sequence[float] | None, names: Sequence[str]) -> Floats:
    if isinstance(value, Mapping):
        if set(value) != set(names):
            raise CausalFTError(f"stratum_prior names {sorted(value)}, the strata are {sorted(names)}")
        value = [value[name] for name in names]
    return stratum_weights(value, len(names))
