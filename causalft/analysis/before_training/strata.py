"""Diagnose strata before any training: zero-shot predictions, known or estimated priors, and what follows from both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.analysis.before_training.answers import answer_zero_shot
from causalft.analysis.before_training.disagreement import Disagreement, find_disagreement
from causalft.analysis.before_training.expectation import Expectation, Facts, expect
from causalft.analysis.before_training.mend import GLAEffect, data_gap, gla_effect
from causalft.analysis.before_training.prior_distance import PriorDistance, prior_distance
from causalft.analysis.before_training.spread import Spread, spread_of_accuracy
from causalft.analysis.class_evidence import ClassEvidence, class_evidence
from causalft.analysis.diagnosis.classes import ClassReport, Confusion, frequent_confusions, report_worst
from causalft.analysis.diagnosis.diagnose import diagnose_answers
from causalft.analysis.diagnosis.intervals import Interval
from causalft.analysis.diagnosis.result import Diagnosis
from causalft.data.groups import data_groups, imbalance_factor, prior_groups
from causalft.methods.priors import rank_correlation
from causalft.runs.documents import Document
from causalft.runs.notebook import ShownAsTable
from causalft.runs.progress import named

__all__ = ["ClassFacts", "StrataDiagnosis", "diagnose_strata", "mostly_few"]

FUSED = "fused"


@dataclass(frozen=True)
class ClassFacts:
    """What is known of one class beside its accuracies and P groups.

    Attributes
    ----------
    name : str
    n_train : int, optional
        Training images; None if not known, as D then is.
    D : str, optional
    taken_for : dict of str to tuple of Confusion
        The most frequent wrong classes of each stratum and of ``fused``.
    """

    name: str
    n_train: int | None
    D: str | None
    taken_for: dict[str, tuple[Confusion, ...]]

    def to_json(self) -> Document:
        """Part of an entry of ``classes``."""
        return {
            "n_train": self.n_train,
            "D": self.D,
            "taken_for": {
                model: [{"class": c.name, "share": c.share} for c in found]
                for model, found in self.taken_for.items()
            },
        }


@dataclass(frozen=True, repr=False)
class StrataDiagnosis(ShownAsTable):
    """What the pre-training of several strata does to the classes of a set of images, before any training.

    Attributes
    ----------
    class_names : tuple of K str
    class_counts : (K,) array, optional
        Training images; None where the data have no training split. Then no D group exists.
    zero_shot : Diagnosis
        Of the zero-shot strata and of the mean of their probabilities.
    priors : dict of str to (K,) array
        That define the P groups, known or estimated; NaN where a known prior lacks the class.
    estimated : dict of str to (K,) array
        GLA's estimates, which GLA-ZS takes out.
    evidence : ClassEvidence
        Cross-table and slope by ``priors``, with intervals over classes.
    by_estimate : ClassEvidence, optional
        The same by the estimates, if a known prior is used.
    gla : GLAEffect
    gla_known : GLAEffect, optional
        The same with known priors taken out where they cover every class.
    spread : Spread
    data_gap : Interval
        Accuracy on D-many less that on D-few classes.
    distance : PriorDistance
    disagreement : Disagreement
    counts_and_priors : dict of str to float
        Spearman correlation of the training counts with each prior; empty without counts.
    expectations : tuple of Expectation
        What LA, GLA and backdoor adjustment can be expected to mend.
    tail : tuple of ClassReport
        Classes that are few by data and by the prior of most strata, lowest accuracy first; without D-few classes,
        those few by prior.
    classes : tuple of ClassFacts
    """

    class_names: tuple[str, ...]
    class_counts: NDArray[np.int64] | None
    zero_shot: Diagnosis
    priors: dict[str, NDArray[np.float64]]
    estimated: dict[str, NDArray[np.float64]]
    evidence: ClassEvidence
    by_estimate: ClassEvidence | None
    gla: GLAEffect
    gla_known: GLAEffect | None
    spread: Spread
    data_gap: Interval
    distance: PriorDistance
    disagreement: Disagreement
    counts_and_priors: dict[str, float]
    expectations: tuple[Expectation, ...]
    tail: tuple[ClassReport, ...]
    classes: tuple[ClassFacts, ...]

    @property
    def has_few(self) -> bool:
        """Whether a class has fewer than 20 training images, as far as is known."""
        return self.class_counts is not None and bool((data_groups(self.class_counts) == "few").any())

    def to_metrics(self) -> Document:
        """A JSON document: ``strata``, ``cross_table``, ``slope``, ``classes`` and what else is known."""
        whole, found = self.zero_shot.to_metrics(), self.evidence.to_json()
        counted = self.class_counts is not None
        for name, scores in whole["strata"].items():
            found["strata"][name] |= _scores(scores, counted) | {
                "gla_zero_shot": self.gla.strata[name].to_json()
            }
        rows = zip(found["classes"], self.classes, strict=True)
        classes = [_class_row(row, each) for row, each in rows]
        return {
            **found,
            "prior_from": self.zero_shot.prior_from,
            "fused": _scores(whole["fused"], counted),
            "own_minus_off_gap": whole["own_minus_off_gap"],
            "P_gap": whole["P_gap"],
            "prior_slope": whole["prior_slope"],
            "gla_zero_shot": self.gla.to_json(),
            "gla_zero_shot_known": None if self.gla_known is None else self.gla_known.to_json(),
            "spread": self.spread.to_json(),
            "D_gap": self.data_gap.to_json_or_null(),
            "prior_distance": self.distance.to_json(),
            "counts_and_priors": self.counts_and_priors,
            "disagreement": self.disagreement.to_json(),
            "paired": whole["paired"],
            "expectations": {each.method: list(each.sentences) for each in self.expectations},
            "tail_tail": [report.name for report in self.tail] if self.has_few else [],
            "no_conclusion": whole["no_conclusion"],
            "by_estimate": None if self.by_estimate is None else _summary(self.by_estimate),
            "classes": classes,
        }

    def _table(self) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        names, evidence = list(self.priors), self.evidence
        groups = {name: prior_groups(prior) for name, prior in self.priors.items()}
        header = ["class", "D", *(f"P by {name}" for name in names), *names, FUSED]
        return header, [
            [each.name, each.D or "", *(str(group[k]) for group in groups.values()), *evidence.accuracy[:, k]]
            for k, each in enumerate(self.classes)
        ]

    def __repr__(self) -> str:
        gap = self.zero_shot.own_minus_off_gap
        return (
            f"StrataDiagnosis of {', '.join(self.priors)} on {self.zero_shot.n} test images, {len(self.classes)} "
            f"classes: parameter imbalance {gap.before!r}, fused {gap.after!r}"
        )


def _class_row(row: Document, facts: ClassFacts) -> Document:
    """An entry of ``classes``; the shares that the P groups are by are called priors."""
    return {("prior" if key == "count" else key): value for key, value in row.items()} | facts.to_json()


def _summary(evidence: ClassEvidence) -> Document:
    """Cross-table and slope, and what they rest on."""
    found = evidence.to_json()
    wanted = ("cross_table", "own_minus_off", "slope", "likeness", "n_classes", "left_out")
    return {key: found[key] for key in wanted if key in found}


_OF_DATA = ("D", "DxP", "D_ci95", "D_interval")


def _scores(found: Document, counted: bool) -> Document:
    """Scores of a model, without what needs training counts if there are none."""
    if counted:
        return found
    kept = {key: None if key in _OF_DATA else value for key, value in found.items()}
    return {**kept, "reasons": {**found["reasons"], "D": _NO_TRAINING}}


_NO_TRAINING = "the data have no training split"


@named("diagnosing the strata")
def diagnose_strata(
    labels: ArrayLike,
    class_names: Sequence[str],
    class_counts: ArrayLike | None,
    logits: Mapping[str, ArrayLike],
    estimated: Mapping[str, ArrayLike],
    *,
    known: Mapping[str, ArrayLike] | None = None,
    chosen: str | None = None,
    n_boot: int = 1000,
    n_permutations: int = 1000,
    seed: int = 0,
) -> StrataDiagnosis:
    """Diagnose strata from their zero-shot logits of the test images.

    Parameters
    ----------
    labels : (n,) array of int in [0, K)
        Of the test images.
    class_names : sequence of K str
    class_counts : (K,) array of int, optional
        Training images.
    logits : mapping of M names to (n, K) arrays
    estimated : mapping of the M names to (K,) arrays
        Label priors estimated on other images, for GLA-ZS.
    known : mapping of names to (K,) arrays, optional
        Known pre-training priors, which take the place of the estimates in P groups and slopes; NaN where unknown, the
        others sum to 1.
    chosen : str, optional
        The stratum that is best on other labelled images.
    n_boot, n_permutations, seed : int
        Of :func:`causalft.analysis.class_evidence.class_evidence`; the seed also of the other bootstraps.

    Raises
    ------
    CausalFTError
        If names or shapes do not agree.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> labels = np.repeat(np.arange(10), 30)
    >>> logits = {name: np.eye(10)[labels] + rng.normal(0, 0.7, (300, 10)) for name in ("a", "b")}
    >>> q = {name: rng.dirichlet(np.full(10, 5.0)) for name in logits}
    >>> found = diagnose_strata(labels, list("klmnopqrst"), None, logits, q)
    >>> found.classes[0].D is None, len(found.classes), list(found.to_metrics()["cross_table"])
    (True, 10, ['a', 'b', 'fused'])
    """
    y, names, n_classes = np.asarray(labels), list(logits), len(class_names)
    counts = None if class_counts is None else np.asarray(class_counts)
    q = {name: np.asarray(estimated[name], dtype=float) for name in names}
    given = {name: np.asarray(values, dtype=float) for name, values in (known or {}).items()}
    priors = {name: given.get(name, q[name]) for name in names}
    complete = {name: p for name, p in given.items() if np.isfinite(p).all()}
    answers = answer_zero_shot(y, n_classes, logits, q, *([{**q, **complete}] if complete else []))
    predicted = {name: found.predicted[0] for name, found in answers.strata.items()}
    fused = answers.fused.predicted[0]
    diagnosis = diagnose_answers(
        y,
        np.zeros(n_classes, dtype=np.int64) if counts is None else counts,
        answers.strata,
        answers.fused,
        answers.logit_mean,
        priors,
        prior_from={name: "known" if name in given else "estimated" for name in names},
        best_single=chosen,
        mention_missing_control=False,
        seed=seed,
    )
    gla, *by_known = (
        gla_effect(y, predicted, found.strata, fused, found.fused, priors) for found in answers.adjusted
    )
    correct = np.stack([found == y for found in predicted.values()])
    spread = spread_of_accuracy(correct, y, np.stack(list(priors.values())), counts, seed=seed)
    gap = Interval.none(_NO_TRAINING) if counts is None else data_gap(correct, y, counts)
    distance = prior_distance(priors)
    together = (
        {}
        if counts is None
        else {
            name: rank_correlation(counts[known], p[known])
            for name, p in priors.items()
            for known in [~np.isnan(p)]
        }
    )
    few = mostly_few(priors)
    if counts is not None and (data_groups(counts) == "few").any():
        few &= data_groups(counts) == "few"

    def evidence_by(by: Mapping[str, NDArray[np.float64]]) -> ClassEvidence:
        return class_evidence(
            np.stack([score.class_accuracy for score in diagnosis.strata.values()]),
            np.log10(np.stack([by[name] for name in names])),
            names,
            class_names,
            n_test=np.bincount(y, minlength=n_classes),
            outside={FUSED: diagnosis.fused.class_accuracy},
            n_boot=n_boot,
            n_permutations=n_permutations,
            seed=seed,
        )

    found = StrataDiagnosis(
        class_names=tuple(class_names),
        class_counts=counts,
        zero_shot=diagnosis,
        priors=priors,
        estimated=q,
        evidence=evidence_by(priors),
        by_estimate=evidence_by(q) if given else None,
        gla=gla,
        gla_known=by_known[0] if by_known else None,
        spread=spread,
        data_gap=gap,
        distance=distance,
        disagreement=find_disagreement(y, predicted, priors, class_names),
        counts_and_priors=together,
        expectations=(),
        tail=tuple(
            report_worst(
                y,
                class_names,
                diagnosis.class_counts,
                answers.fused,
                priors,
                zero_shot=answers.strata[diagnosis.best_single].predicted,
                among=few,
                n_classes=n_classes,
            )
        ),
        classes=_class_facts(class_names, counts, y, {**predicted, FUSED: fused}),
    )
    comparison = found.evidence.comparison
    facts = Facts(
        imbalance=None if counts is None else imbalance_factor(counts),
        n_classes=n_classes,
        n_few=0 if counts is None else int((data_groups(counts) == "few").sum()),
        n_tail=int(few.sum()) if found.has_few else 0,
        counts_and_priors=together,
        too_alike="" if comparison is None else comparison.likeness.reason,
    )
    return replace(found, expectations=expect(diagnosis, facts, gap, spread, gla, distance, found.gla_known))


def mostly_few(priors: Mapping[str, ArrayLike]) -> NDArray[np.bool_]:
    """Which classes are P-few by more than half of the priors: (K,).

    Examples
    --------
    >>> mostly_few({"a": [.5, .3, .2], "b": [.2, .3, .5], "c": [.6, .3, .1]}).tolist()
    [False, False, True]
    """
    few = np.stack([prior_groups(prior) == "few" for prior in priors.values()])
    return few.mean(axis=0) > 0.5


def _class_facts(
    names: Sequence[str],
    counts: NDArray[np.int64] | None,
    y: NDArray[np.int64],
    predicted: Mapping[str, NDArray[np.int64]],
) -> tuple[ClassFacts, ...]:
    of_data = None if counts is None else data_groups(counts)
    confused = {model: frequent_confusions(y, found, names) for model, found in predicted.items()}
    return tuple(
        ClassFacts(
            name=name,
            n_train=None if counts is None else int(counts[k]),
            D=None if of_data is None else str(of_data[k]),
            taken_for={model: found[k] for model, found in confused.items()},
        )
        for k, name in enumerate(names)
    )
