"""Random discrete worlds in which an unobserved U confounds X and Y, with the truth beside bounds and estimates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from causalft.scm import DiscreteSCM

__all__ = ["random_world", "world_metrics"]


def random_world(edges: Sequence[tuple[str, str]], n_states: int, rng: np.random.Generator) -> DiscreteSCM:
    """Tables drawn from a Dirichlet distribution, mixed with a tenth of the uniform law, so that all cells occur."""
    from causalft.scm import DiscreteSCM, as_dag

    graph = as_dag(edges)
    tables = {}
    for name in graph:
        shape = (n_states,) * graph.in_degree(name)
        tables[name] = 0.9 * rng.dirichlet(np.full(n_states, 0.7), size=shape) + 0.1 / n_states
    return DiscreteSCM(graph, {name: [str(k) for k in range(n_states)] for name in graph}, tables)


def world_metrics(edges: Sequence[tuple[str, str]], n_worlds: int, quick: bool) -> dict[str, Any]:
    """Whether bounds and E-values hold, and how often the two doors disagree.

    Returns
    -------
    dict
        ``held`` (cells in which the truth lies in the bounds of the strength that U has) and ``doors_apart`` (worlds
        with p < 0.05), each ``{estimate, ci95, hits, n}``; ``reversed``: decisions that adjusting for U too changes,
        and how many of them have a U at least as strong as their E-value; mean ``width`` of the bounds, and mean
        ``gap`` of the truth from the estimate that adjusts for C alone; ``worlds``.
    """
    from causalft.analysis.uncertainty.second_opinion import doors_disagree
    from causalft.runs.progress import steps
    from causalft.scm import confounding_bounds, e_value, query, strength_of

    rng = np.random.default_rng(0)
    rows, draws = (2_000, 50) if quick else (20_000, 200)
    held, apart, width, gap = [], [], [], []
    needed = reversed_ = 0
    for world in steps(range(n_worlds), "random worlds", n_worlds):
        scm = random_world(edges, 2 + world % 3, rng)
        found = strength_of(scm, "U", "Y", "X", ["C"], checked=world > 0)
        low, high = confounding_bounds(found.adjusted, found.with_x[:, None], found.with_y, found.with_not_y)
        held += ((low <= found.true + 1e-12) & (found.true <= high + 1e-12)).ravel().tolist()
        width.append(float((high - low).mean()))
        gap.append(float(np.abs(found.adjusted - found.true).mean()))
        first, true = found.adjusted.argmax(axis=1), found.true.argmax(axis=1)
        for x in np.flatnonzero(first != true):
            ratio = found.adjusted[x, first[x]] / found.adjusted[x, true[x]]
            strength = max(found.with_x[x], found.with_y[x, [first[x], true[x]]].max())
            reversed_ += 1
            needed += bool(strength >= e_value(float(ratio) ** 0.5) - 1e-9)
        table = query(scm, ("C", "X", "B", "Y")).p
        counts = rng.multinomial(rows, table.ravel() / table.sum()).reshape(table.shape)
        doors = doors_disagree(counts, draws=draws, seed=world)
        if not np.isnan(doors.p):
            apart.append(doors.p < 0.05)
    return {
        "held": _share(held),
        "doors_apart": _share(apart),
        "reversed": {"n": reversed_, "needed": needed},
        "width": float(np.mean(width)),
        "gap": float(np.mean(gap)),
        "worlds": n_worlds,
        "rows": rows,
    }


def _share(hits: Sequence[bool]) -> dict[str, Any]:
    from causalft.analysis.uncertainty.summary import share

    found = share(np.asarray(hits, dtype=bool))
    return (
        {"estimate": None, "ci95": None, "hits": 0, "n": 0}
        if found is None
        else {**found, "hits": int(sum(hits))}
    )
