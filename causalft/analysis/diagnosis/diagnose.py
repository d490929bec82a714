"""Diagnose imbalance: from predictions of single and fused models to every number of ``fit``'s report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
from causalft.analysis.diagnosis.parameter_imbalance import (
    PriorSlope,
    gap_vectors,
    group_vectors,
    members_mean_gap,
    off_gap,
    own_gap,
)
from causalft.analysis.diagnosis.result import CONTROL_KINDS, BeforeAfter, Control, Diagnosis, ModelScore
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
from causalft.methods.estimators.fusion import expected_calibration_error, fuse, nll, stratum_weights
from causalft.runs.progress import named

__all__ = ["diagnose"]

Floats = NDArray[np.float64]


@named("comparing accuracy before and after")
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
    if not names:
        raise CausalFTError("there is no stratum to diagnose; give at least one member")
    missing = [name for name in names if name not in priors]
    if missing:
        raise CausalFTError(f"stratum '{missing[0]}' has no label prior; {nearest(missing[0], priors)}")
    fused = _probs(fused_probs, None, n, n_classes, "fused")
    n_seeds = fused.shape[0]
    members = {name: _probs(p, n_seeds, n, n_classes, name) for name, p in member_probs.items()}
    q = np.stack([_prior(priors[name], n_classes, name) for name in names])
    control_probs = {
        name: _control_probs(control, n_seeds, n, n_classes, name, names)
        for name, control in (controls or {}).items()
    }
    weights = _stratum_prior(stratum_prior, names)
    logit_mean = fuse(np.stack([members[name] for name in names]), weights, "logit", kind="probabilities")

    models: dict[str, Floats] = {f"stratum {name}": members[name] for name in names}
    models |= {"fused": fused, "logit_mean": logit_mean}
    for name, arrays in control_probs.items():
        models |= {f"control {name}: {member}": p for member, p in arrays.members.items()}
        models[f"control {name}"] = arrays.fused
    predicted = {name: p.argmax(axis=-1) for name, p in models.items()}
    correct = np.stack([classes == y for classes in predicted.values()])
    row = {name: index for index, name in enumerate(models)}

    test_counts = np.bincount(y, minlength=n_classes)
    tested = test_counts > 0
    shares = np.stack([test_counts / n, tested / tested.sum()])  # of images, and every tested class alike
    balance = balancing_weights(y, n_classes)
    d_groups = data_groups(counts)
    p_groups = {name: prior_groups(prior) for name, prior in zip(names, q)}
    groups = np.stack([group_vectors(g, tested) for g in (d_groups, *p_groups.values())])
    own = {name: names.index(arrays.prior_of) for name, arrays in control_probs.items()}
    control_rows = {
        name: [row[f"control {name}: {member}"] for member in arrays.members]
        for name, arrays in control_probs.items()
    }
    statistics = _Statistics(q, tested, shares, groups, row, own, control_rows)
    found = explain_missing(
        bootstrap(statistics, correct, y, n_classes, n_boot=n_boot, seed=seed),
        names,
        fusion,
        tuple(control_probs),
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
            prior_of=arrays.prior_of,
            score=score(f"control {name}"),
            member_accuracy={
                member: float(correct[row[f"control {name}: {member}"]].mean()) for member in arrays.members
            },
            gain=found[statistic("gain", control=name)],
            P_gap=_before_after(found, "P_gap", name),
            own_minus_off_gap=_before_after(found, "own_minus_off_gap", name),
            prior_slope=_before_after(found, "prior_slope", name),
            strata_minus_control=found[statistic("strata_minus_control", control=name)],
            strata_gain_minus_control_gain=found[statistic("strata_gain_minus_control_gain", control=name)],
            ensemble_share=found[statistic("ensemble_share", control=name)],
            kind=arrays.kind,
        )
        for name, arrays in control_probs.items()
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
                predicted[model],
                y,
                n_classes,
                found["class_mean"][row[model]],
                loss=_loss(models[model], y),
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
        nll=float(np.mean([nll(p, y, balance, kind="probabilities") for p in fused])),
        ece=float(
            np.mean([expected_calibration_error(p, y, weights=balance, kind="probabilities") for p in fused])
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


class _Statistics:
    """Every statistic of a diagnosis as a function of class accuracies (b, R, K)."""

    def __init__(
        self,
        priors: Floats,
        tested: NDArray[np.bool_],
        shares: Floats,
        groups: Floats,
        row: Mapping[str, int],
        own: Mapping[str, int],
        control_rows: Mapping[str, list[int]],
    ) -> None:
        self.vectors, self.slope = gap_vectors(priors, tested), PriorSlope(priors, tested)
        self.shares, self.groups, self.row, self.n_strata = shares, groups, row, len(priors)
        self.own, self.control_rows = own, control_rows

    def __call__(self, class_acc: Floats) -> dict[str, Floats]:
        a = np.nan_to_num(class_acc)  # classes without a test image have weight 0 in everything below
        of_images, accuracy = np.moveaxis(a @ self.shares.T, -1, 0)
        gap = a @ self.vectors.T
        fused = self.row["fused"]
        strata, strata_gap, fused_gap = a[:, : self.n_strata], gap[:, : self.n_strata], gap[:, fused]
        baseline = off_gap(strata_gap)
        gain = accuracy[:, fused] - accuracy[:, : self.n_strata].mean(axis=1)
        found = {
            "accuracy": of_images,
            "class_mean": accuracy,
            "gap": np.concatenate([strata_gap, fused_gap[:, None]], axis=1),
            "groups": (a @ self.groups.reshape(-1, a.shape[-1]).T).reshape(
                *a.shape[:2], *self.groups.shape[:2]
            ),
            "gain": gain,
            "fused_minus_single": accuracy[:, fused, None] - accuracy[:, : self.n_strata],
            "fused_minus_logit_mean": accuracy[:, fused] - accuracy[:, self.row["logit_mean"]],
            "fused_minus_members_gap": (fused_gap - members_mean_gap(strata_gap)).mean(axis=1),
        }
        own_before = own_gap(strata_gap)
        found |= _pair("P_gap", own_before.mean(axis=1), fused_gap.mean(axis=1))
        found |= _pair(
            "own_minus_off_gap", (own_before - baseline).mean(axis=1), (fused_gap - baseline).mean(axis=1)
        )
        slope_after = self.slope.of_model(a[:, fused], strata).mean(axis=1)
        found |= _pair("prior_slope", self.slope.before(strata), slope_after)
        for name, j in self.own.items():
            rows, whole = self.control_rows[name], self.row[f"control {name}"]
            control_gain = accuracy[:, whole] - accuracy[:, rows].mean(axis=1)
            before, after = gap[:, rows, j].mean(axis=1), gap[:, whole, j]
            found |= _pair("P_gap", before, after, name)
            found |= _pair("own_minus_off_gap", before - baseline[:, j], after - baseline[:, j], name)
            slopes = [self.slope.of_model(m, strata)[:, j] for m in (a[:, rows].mean(axis=1), a[:, whole])]
            found |= _pair("prior_slope", slopes[0], slopes[1], name)
            of_control = {
                "gain": control_gain,
                "strata_minus_control": accuracy[:, fused] - accuracy[:, whole],
                "strata_gain_minus_control_gain": gain - control_gain,
                "ensemble_share": _ratio(control_gain, gain),
            }
            found |= {statistic(key, control=name): value for key, value in of_control.items()}
        return found


def _pair(measure: str, before: Floats, after: Floats, control: str = "") -> dict[str, Floats]:
    values = (before, after, 1 - _ratio(after, before))
    return {statistic(measure, part, control): value for part, value in zip(PARTS, values, strict=True)}


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """A ratio that does not exist (NaN) where its denominator is 0."""
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator != 0)


def _before_after(found: Mapping[str, Interval], measure: str, control: str = "") -> BeforeAfter:
    return BeforeAfter(*(found[statistic(measure, part, control)] for part in PARTS))


def _loss(probs: Floats, labels: NDArray[np.int64]) -> float:
    """Mean negative log-likelihood over seeds and images, nats."""
    of_label = probs[:, np.arange(len(labels)), labels].astype(float)
    return float(-np.log(np.maximum(of_label, np.finfo(float).tiny)).mean())


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


@dataclass(frozen=True)
class _ControlProbs:
    """Probabilities (S, n, K) of a control's members and of their fusion."""

    members: dict[str, Floats]
    fused: Floats
    prior_of: str
    kind: str | None


def _control_probs(
    control: Mapping[str, Any], n_seeds: int, n: int, n_classes: int, name: str, strata: Sequence[str]
) -> _ControlProbs:
    if control["prior_of"] not in strata:
        hint = nearest(control["prior_of"], strata)
        raise CausalFTError(
            f"control '{name}' has the prior of '{control['prior_of']}', which is no stratum; {hint}"
        )
    kind = control.get("kind")
    if kind is not None and kind not in CONTROL_KINDS:
        raise CausalFTError(f"control '{name}' is of no kind '{kind}'; {nearest(kind, CONTROL_KINDS)}")
    members = {m: _probs(p, n_seeds, n, n_classes, m) for m, p in control["members"].items()}
    fused = _probs(control["fused"], n_seeds, n, n_classes, name)
    return _ControlProbs(members, fused, control["prior_of"], kind)


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
