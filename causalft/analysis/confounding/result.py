"""The result of one A/B experiment, and its document in metrics.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from causalft.analysis.confounding.curve import Curve, Truth, total_variation
from causalft.analysis.confounding.statistics import Estimate, Evidence, Power
from causalft.analysis.confounding.words import TEST_NAMES
from causalft.runs.documents import Document
from causalft.runs.intervals import mean_interval
from causalft.runs.notebook import ShownAsTable
from synthetic.design import Design

__all__ = ["PictureEstimate", "Verification", "estimate_from_pictures", "tables_of"]


_NO_INTERVAL = "one seed, or seeds that are equal, say nothing of how much seeds differ"


@dataclass(frozen=True)
class PictureEstimate(ShownAsTable):
    """One estimator's distance to the truth; total variations are fractions, averaged over P(X) of B.

    Attributes
    ----------
    tv_to_do : distance to P(Y | do(X)), mean over seeds.
    ci95 : its 95 % interval over the seeds (Student's t); NaN with one seed, or if all seeds are equal.
    tv_to_seen : distance to P(Y | X).
    per_seed : ``tv_to_do`` of each seed.
    p_y : (2 K, K), the estimate, mean over seeds.
    """

    tv_to_do: float
    ci95: tuple[float, float]
    tv_to_seen: float
    per_seed: tuple[float, ...]
    p_y: np.ndarray

    def __repr__(self) -> str:
        low, high = (100 * value for value in self.ci95)
        return f"{100 * self.tv_to_do:.1f} points [{low:.1f}, {high:.1f}] from P(Y | do(X))"

    def to_metrics(self) -> Document:
        """A JSON document."""
        return {
            "tv_to_truth": self.tv_to_do,
            "ci95": self.ci95,
            **({} if self.ci95[0] == self.ci95[0] else {"reason": _NO_INTERVAL}),
            "tv_to_p_y_given_x": self.tv_to_seen,
            "per_seed": self.per_seed,
            "p_y": self.p_y.tolist(),
            "source": "networks on pictures",
        }


def estimate_from_pictures(by_code: Mapping[str, np.ndarray], exact: Truth) -> dict[str, PictureEstimate]:
    """Score each estimator's mean predicted distribution by code.

    Parameters
    ----------
    by_code : estimator -> (S, 2 K, K); codes without an image are NaN and left out.
    exact : the truth of B.
    """
    found = {}
    for name, tables in by_code.items():
        seen = ~np.isnan(tables).any((0, 2))
        weight = exact.p_x[seen] / exact.p_x[seen].sum()
        per_seed = total_variation(tables[:, seen], exact.p_y_do_x[seen]) @ weight
        mean, low, high = mean_interval(per_seed)
        found[name] = PictureEstimate(
            tv_to_do=mean,
            ci95=(max(0.0, low) if low == low else low, min(1.0, high) if high == high else high),
            tv_to_seen=float((total_variation(tables[:, seen], exact.p_y_given_x[seen]) @ weight).mean()),
            per_seed=tuple(per_seed.tolist()),
            p_y=tables.mean(0),
        )
    return found


_NO_SHARE = "the gap itself is not clearly above zero, or the seeds do not differ"


@dataclass(frozen=True)
class Verification(ShownAsTable):
    """The outcome of the A/B experiment; accuracies are fractions.

    Attributes
    ----------
    design : Design
    generator, backbone : str
    provenance : what the generator says of its images (model, revision, steps, ...).
    seeds : the replications that were run.
    n_per_class : images of each class in each set.
    cells : ``"A->B"`` (trained on -> tested on), ``"adjusted->A"`` and so on -> Estimate of the accuracy.
    gaps : name of a contrast (`causalft.analysis.confounding.statistics.CONTRASTS`) -> Estimate.
    evidence : name of every further test -> Evidence.
    p_holm : name of every test that claims something -> p-value adjusted over them (Holm).
    truth : exact P(Y|X) and P(Y|do(X)) of B.
    estimates : ``naive``, ``backdoor``, ``ipw``, ``frontdoor`` -> PictureEstimate; only ``naive`` without overlap.
    share_closed : share of the gap on A that adjustment closes, with its interval; None without an adjusted model.
    power : what would be needed for the effect seen.
    curve : bias against the number of rows, if asked for.
    mcnemar_p : exact paired test of the two models on the images of A, the models taken as fixed.
    parts : trained on -> accuracy on A's images with each class's majority and minority part (of B), and
    with C=0 and C=1.
    verdict : a `causalft.analysis.confounding.verdict.Verdict`.
    reason : the same in words, with numbers.
    notes : what could not be done, and why.
    seconds : float
    quick : bool
    out : run folder, if any.
    extra : what else ``metrics.json`` holds.
    """

    design: Design
    generator: str
    backbone: str
    provenance: dict[str, str]
    seeds: tuple[int, ...]
    n_per_class: int
    cells: dict[str, Estimate]
    gaps: dict[str, Estimate]
    evidence: dict[str, Evidence]
    p_holm: dict[str, float]
    truth: Truth
    estimates: dict[str, PictureEstimate]
    share_closed: tuple[float, tuple[float, float]] | None
    power: Power | None
    curve: Curve | None
    mcnemar_p: float
    parts: dict[str, dict[str, float]]
    verdict: str
    reason: str
    notes: tuple[str, ...]
    seconds: float
    quick: bool
    out: Path | None
    extra: Document = field(default_factory=dict)

    @property
    def tests(self) -> dict[str, Estimate]:
        """The contrasts of accuracies; the same as ``gaps``."""
        return self.gaps

    def _table(self) -> tuple[list[str], list[list[Any]]]:
        rows: list[list[Any]] = [["verdict", self.verdict], ["reason", self.reason]]
        rows += [[name, gap] for name, gap in self.gaps.items()]
        return ["", ""], [*rows, *(["note", note] for note in self.notes)]

    @property
    def no_conclusion(self) -> tuple[str, ...]:
        """Why the experiment cannot tell, where its verdict is ``inconclusive``; empty otherwise."""
        return (self.reason,) if self.verdict == "inconclusive" else ()

    def __repr__(self) -> str:
        lines = [
            f"Verification(design={self.design.name}, {self.backbone}, {len(self.seeds)} seeds, "
            f"{self.n_per_class} images per class)",
            "              tested on A            tested on B",
        ]
        for trained in "AB":
            both = [repr(self.cells[f"{trained}->{tested}"]) for tested in "AB"]
            lines.append(f"trained on {trained}  {both[0]:<22} {both[1]}")
        lines.append(f"verdict: {self.verdict} ({self.reason})")
        return "\n".join(lines)

    def metrics(self) -> Document:
        """The document of ``metrics.json``."""
        tests: Document = {
            name: {
                "estimate": e.mean,
                "ci95": e.ci95,
                "p": e.p,
                "per_seed": e.per_seed,
                **_bootstrap(e),
                "words": f"{TEST_NAMES[name]}: {e.points()} points",
            }
            for name, e in self.gaps.items()
        }
        tests.update({name: found.to_metrics() for name, found in self.evidence.items()})
        for name, value in self.p_holm.items():
            tests[name]["p_holm"] = value
        coverage: Document = {}
        if self.curve is not None:
            largest = max(self.curve.ns)
            coverage = {name: self.curve.point(name, largest).coverage for name in self.curve.estimators}
        return {
            "design": self.design.name,
            "design_meaning": self.design.meaning,
            "strength": self.design.strength,
            "generator": self.generator,
            "provenance": self.provenance,
            "classes": list(self.design.classes),
            "class_parts": [list(pair) for pair in self.design.parts],
            "ratio": self.design.ratio,
            "p_c_given_y": {which: self.design.law(which).tolist() for which in ("A", "B")},
            "mutual_information_nats": {
                which: self.design.dependence(which) for which in ("A_train", "B_train")
            },
            "tables": {which: tables_of(self.design, which) for which in ("A", "B")},
            "best_accuracy": self.design.best_accuracy(),
            "backbone": self.backbone,
            "quick": self.quick,
            "seeds": list(self.seeds),
            "n_per_class": self.n_per_class,
            "cells": {
                name: {"mean": e.mean, "ci95": e.ci95, "per_seed": e.per_seed, **_bootstrap(e)}
                for name, e in self.cells.items()
            },
            "tests": tests,
            "truth": self.truth.to_metrics(),
            "estimates": {
                name: {**found.to_metrics(), "coverage": coverage.get(name)}
                for name, found in self.estimates.items()
            },
            "share_of_gap_closed": None
            if self.share_closed is None
            else {
                "estimate": self.share_closed[0],
                "ci95": self.share_closed[1],
                **({} if np.isfinite(self.share_closed[1]).all() else {"reason": _NO_SHARE}),
            },
            "power": None if self.power is None else self.power.to_metrics(),
            "curve": None if self.curve is None else self.curve.to_metrics(),
            "mcnemar_p": self.mcnemar_p,
            "parts": self.parts,
            "verdict": self.verdict,
            "reason": self.reason,
            "no_conclusion": list(self.no_conclusion),
            "notes": list(self.notes),
            "seconds": self.seconds,
            **self.extra,
        }


def _bootstrap(found: Estimate) -> Document:
    """The bootstrap interval as a check; null, with the reason, if its draws do not vary."""
    if found.bootstrap95 is not None:
        return {"bootstrap95": found.bootstrap95}
    return {"bootstrap95": None, "bootstrap95_reason": "no draw differs from another"}


def tables_of(design: Design, which: str) -> Document:
    """The tables of a set's model."""
    model = design.models[which]
    return {
        node: {"given": list(model.parents(node)), "table": np.round(model.tables[node], 6).tolist()}
        for node in model.graph
    }
