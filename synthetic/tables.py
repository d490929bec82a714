"""The tables of a design as plain rows: for each node what it does, given each combination of its causes."""

from __future__ import annotations

from typing import Any

import numpy as np

from synthetic.design import Design

__all__ = ["design_tables"]


def design_tables(design: Design, which: str = "B") -> list[dict[str, Any]]:
    """List the tables of one set of a design, a row for each node and each combination of its causes.

    Parameters
    ----------
    design : Design
    which : a set (``"B_train"``) or its letter (``"B"``).

    Returns
    -------
    list of dict
        ``{"node", "meaning", "given": {cause: value}, "p": {value: probability}}`` in the order of the graph's nodes;
        values of probability 0 are left out of ``p``.

    Examples
    --------
    >>> from synthetic.designs import make_design
    >>> rows = design_tables(make_design("paper", ["cat", "dog"]))
    >>> rows[0]
    {'node': 'C', 'meaning': 'part in favour', 'given': {}, 'p': {'C=0': 0.9, 'C=1': 0.1}}
    >>> rows[2]["given"], rows[2]["p"]
    ({'C': 'C=0', 'U': 'cat'}, {'cat head': 1.0})
    """
    model = design.scm(which)
    rows = []
    for node in model.graph:
        table, causes = model.tables[node], model.parents(node)
        for cell in np.ndindex(*table.shape[:-1]):
            rows.append(
                {
                    "node": node,
                    "meaning": model.graph.nodes[node].get("meaning", ""),
                    "given": {cause: model.states[cause][i] for cause, i in zip(causes, cell)},
                    "p": {
                        value: round(float(p), 12)
                        for value, p in zip(model.states[node], table[cell])
                        if p > 0
                    },
                }
            )
    return rows
