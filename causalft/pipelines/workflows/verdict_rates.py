"""Error rates of the verdict: many replications of one design are combined into runs, and each run is judged."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from causalft.analysis.confounding.battery import all_rows, path_evidence
from causalft.analysis.confounding.verdict import judge_trial
from causalft.errors import CausalFTError
from causalft.pipelines.workflows.trial import run_trial, train_side_by_side
from causalft.pipelines.workflows.verify_confounder import Plan
from causalft.runs.folder import Run
from synthetic.design import Design

__all__ = ["VerdictRates", "verdict_rates"]


@dataclass(frozen=True)
class VerdictRates:
    """Verdicts of many runs of one design.

    Attributes
    ----------
    verdicts : verdict of each run; run k consists of replications k, k + 1, ... (cyclic)
    apart : verdicts of runs without a common replication
    gaps : name -> (N,) fractions, one per replication
    """

    verdicts: tuple[str, ...]
    apart: tuple[str, ...]
    gaps: dict[str, tuple[float, ...]]

    def rate(self, verdict: str) -> tuple[float, tuple[float, float]]:
        """Share of runs with that verdict, with the exact (Clopper-Pearson) 95 % interval from runs apart.

        Examples
        --------
        >>> VerdictRates(("verified",) * 4, ("verified",) * 2, {}).rate("verified")
        (1.0, (0.158, 1.0))
        """
        from scipy.stats import binomtest

        limits = binomtest(self.apart.count(verdict), len(self.apart)).proportion_ci(method="exact")
        share = self.verdicts.count(verdict) / len(self.verdicts)
        return share, (round(float(limits.low), 3), round(float(limits.high), 3))

    def to_metrics(self) -> dict[str, Any]:
        """A JSON document."""
        verified, limits = self.rate("verified")
        return {
            "runs": len(self.verdicts),
            "verdicts": dict(Counter(self.verdicts)),
            "runs_apart": len(self.apart),
            "verdicts_apart": dict(Counter(self.apart)),
            "verified": {"estimate": verified, "ci95": list(limits)},
            "gaps": {
                name: {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1))}
                for name, values in self.gaps.items()
            },
        }


def verdict_rates(
    design: Design,
    plan: Plan,
    replications: int,
    *,
    run: Run | None = None,
    n_jobs: int = 1,
    progress: bool | None = None,
) -> VerdictRates:
    """Combine replications into as many runs of ``plan.seeds`` each, and judge each as `verify_confounder` does.

    Each replication (two networks, four image sets) is trained once and serves in ``plan.seeds`` runs: shares of
    verdicts stay unbiased, and only runs apart give their interval. No verdict depends on the adjusted network.

    Parameters
    ----------
    plan : size of one run; its seeds are 2 or more.
    replications : at least ``plan.seeds``.
    run : stores the predictions of each network, so that an interrupted call resumes.
    n_jobs : processes of one thread each; more than one only with ``run``.

    Raises
    ------
    CausalFTError
        For too few replications.
    """
    if plan.seeds < 2 or replications < plan.seeds:
        raise CausalFTError(
            f"{replications} replications for runs of {plan.seeds} seeds: use 2 seeds or more, and no fewer "
            "replications than seeds"
        )
    table = design.counts("B_train", plan.n_per_class)
    recipe = plan.recipe(int(table.sum()))

    trial = partial(
        run_trial,
        design,
        plan.backbone,
        recipe,
        n_per_class=plan.n_per_class,
        size=plan.size,
        adjust=False,
        run=run,
    )
    seeds = tuple(range(replications))
    if run is not None and n_jobs != 1:
        train_side_by_side(trial, seeds, n_jobs, f"{design.name}: replications", progress=progress)
        progress = False
    whole = trial(seeds, progress=progress)
    smallest = int(table[table > 0].min())
    verdicts = []
    for start in seeds:
        chosen = [(start + offset) % replications for offset in range(plan.seeds)]
        part = replace(whole, correct={cell: found[chosen] for cell, found in whole.correct.items()})
        evidence = path_evidence(all_rows(design, plan.n_per_class, chosen), seed=start)
        verdicts.append(judge_trial(design, part, evidence, smallest_group=smallest).judgement.verdict)
    accuracy = {cell: found.mean(1) for cell, found in whole.correct.items()}
    gaps = {
        "gap_B": accuracy["B->B"] - accuracy["B->A"],
        "A_minus_B_on_A": accuracy["A->A"] - accuracy["B->A"],
    }
    return VerdictRates(
        tuple(verdicts),
        tuple(verdicts[: replications - plan.seeds + 1 : plan.seeds]),
        {name: tuple(map(float, values)) for name, values in gaps.items()},
    )
