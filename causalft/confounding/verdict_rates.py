"""How often each verdict comes out: many replications of one design, put together to many runs, each judged."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from causalft.confounding.battery import all_rows, path_evidence
from causalft.confounding.decision import decide
from causalft.confounding.trial import Trial, run_trial
from causalft.confounding.verify import Plan
from causalft.errors import CausalFTError
from causalft.runs import Run
from synthetic.designs import Design

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
    n_jobs : processes, as joblib counts them (-1: one a core); more than one only with ``run``.

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

    def trial(seeds: tuple[int, ...], progress: bool | None) -> Trial:
        return run_trial(
            design,
            plan.backbone,
            recipe,
            seeds,
            plan.n_per_class,
            size=plan.size,
            adjust=False,
            run=run,
            progress=progress,
        )

    seeds = tuple(range(replications))
    if run is not None and n_jobs != 1:
        from joblib import Parallel, delayed
        from tqdm import tqdm

        made = Parallel(n_jobs, return_as="generator_unordered")(
            delayed(_made)(trial, seed) for seed in seeds
        )
        hide = None if progress is None else not progress
        for _ in tqdm(
            made, desc=f"{design.name}: replications", total=replications, disable=hide, leave=False
        ):
            pass
        progress = False
    whole = trial(seeds, progress)
    smallest = int(table[table > 0].min())
    verdicts = []
    for start in seeds:
        chosen = [(start + offset) % replications for offset in range(plan.seeds)]
        part = replace(whole, correct={cell: found[chosen] for cell, found in whole.correct.items()})
        evidence = path_evidence(all_rows(design, plan.n_per_class, chosen), seed=start)
        verdicts.append(decide(design, part, evidence, smallest_group=smallest).verdict)
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


def _made(trial: Any, seed: int) -> None:
    """Train what belongs to one seed; the run folder keeps it, so that nothing is sent back."""
    trial((seed,), False)
