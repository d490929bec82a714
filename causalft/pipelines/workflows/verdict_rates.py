"""How often each verdict comes out: many replications of one design, put together to many runs, each judged."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch

from causalft.analysis.confounding.battery import all_rows, path_evidence
from causalft.analysis.confounding.verdict import judge_trial
from causalft.errors import CausalFTError
from causalft.pipelines.workflows.trial import run_trial
from causalft.pipelines.workflows.verify_confounder import Plan
from causalft.runs.folder import Run
from causalft.runs.progress import steps
from synthetic.design import Design

__all__ = ["VerdictRates", "verdict_rates"]


@dataclass(frozen=True)
class VerdictRates:
    """Verdicts of many runs of one design.

    Attributes
    ----------
    verdicts : the verdict of each run, run k made of the replications k, k + 1, ... (the first follow the last)
    apart : the verdicts of those runs that share no replication
    gaps : name -> (N,) of each replication, fractions
    """

    verdicts: tuple[str, ...]
    apart: tuple[str, ...]
    gaps: dict[str, tuple[float, ...]]

    def rate(self, verdict: str) -> tuple[float, tuple[float, float]]:
        """Share of runs with that verdict, and the exact (Clopper and Pearson) 95 % interval from the runs apart.

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
    """Make as many runs as replications, each of ``plan.seeds`` of them, and judge each as `verify_confounder` does.

    Training is what a run costs, so each replication (two networks, four picture sets) is made once and serves in
    ``plan.seeds`` runs. The share of a verdict is unbiased all the same; how sure it is, only the runs apart tell. The
    adjusted network is left out: no verdict depends on it.

    Parameters
    ----------
    plan : size of one run; its seeds are 2 or more.
    replications : at least ``plan.seeds``.
    run : where each network's predictions are kept; an interrupted call goes on from there.
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
        # spawned, not forked: a fork of a process that has started threads can hang
        with ProcessPoolExecutor(n_jobs, get_context("spawn"), _one_thread) as pool:
            made = [pool.submit(trial, (seed,), progress=False) for seed in seeds]
            label = f"{design.name}: replications"
            for one in steps(as_completed(made), label, len(made), leave=False, progress=progress):
                one.result()
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


def _one_thread() -> None:
    """A process has one core for itself."""
    torch.set_num_threads(1)
