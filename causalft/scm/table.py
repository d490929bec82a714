"""A table of observed variables: read from a file, matched with the nodes of a graph, and checked."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np

from causalft.errors import CausalFTError, nearest
from causalft.runs.tables import read_frame
from causalft.scm.graph import require_node

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MIN_ROWS", "Variable", "match_columns", "read_table"]

#: With fewer rows nothing is tested.
MIN_ROWS = 20


@dataclass(frozen=True)
class Variable:
    """One observed node of the graph and its column, checked.

    Attributes
    ----------
    name, column : str
    values : (n,) array
        Discrete: int codes from 0, in the order of ``levels``. Continuous: finite floats.
    levels : tuple of str
        Values of a discrete variable; empty for a continuous one.
    """

    name: str
    column: str
    values: np.ndarray
    levels: tuple[str, ...] = ()

    @property
    def discrete(self) -> bool:
        """Whether the values are categories."""
        return bool(self.levels)

    def __repr__(self) -> str:
        kind = f"{len(self.levels)} values" if self.discrete else "continuous"
        return f"{self.name} ({kind})"


def read_table(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a table with a header and one row per observation: CSV with any usual separator, TSV or Parquet.

    An empty field is a missing value; words such as ``NA`` or ``None`` are ordinary values.

    Raises
    ------
    CausalFTError
        If it cannot be read (:func:`causalft.runs.tables.read_frame`) or has no rows.
    """
    table = read_frame(path)
    if len(table) == 0:
        raise CausalFTError(f"{path} has no rows; give one row per observation, {MIN_ROWS} or more")
    return table


def match_columns(
    graph: nx.DiGraph,
    table: pd.DataFrame | Mapping[str, Any],
    columns: Mapping[str, str] | None = None,
    *,
    discrete: Collection[str] = (),
    continuous: Collection[str] = (),
    source: str = "the table",
) -> dict[str, Variable]:
    """Return the variable of every observed node, in graph order.

    A node's column has its name or the one in ``columns``. A latent node with a column counts as observed. Text, truth
    values, and whole numbers that repeat at least twice on average are categories; other numbers are continuous.
    ``discrete`` and ``continuous`` override this.

    Raises
    ------
    CausalFTError
        If a node or column is unknown, or a column has a missing value, one value only, or is an identifier, or the
        table has fewer than `MIN_ROWS` rows.

    Examples
    --------
    >>> from causalft.scm import as_dag
    >>> data = {"C": [0, 1] * 10, "height": np.linspace(1.5, 2, 20)}
    >>> list(match_columns(as_dag([("C", "H")]), data, {"H": "height"}).values())
    [C (2 values), H (continuous)]
    """
    import pandas as pd

    frame = table if isinstance(table, pd.DataFrame) else pd.DataFrame(dict(table))
    frame = frame.rename(columns=str)
    named = dict(columns or {})
    for name in (*named, *discrete, *continuous):
        require_node(graph, name, "variable")
    if both := sorted(set(discrete) & set(continuous)):
        raise CausalFTError(f"{both[0]} is said to be both discrete and continuous; choose one")
    if len(frame) < MIN_ROWS:
        raise CausalFTError(f"{source} has {len(frame)} rows; a test needs {MIN_ROWS} or more")
    found: dict[str, Variable] = {}
    for name in graph:
        column = named.get(name, name)
        if column not in frame:
            if graph.nodes[name].get("latent") and name not in named:
                continue
            raise CausalFTError(
                f"{source} has no column {column!r} for the node {name}; {nearest(column, frame.columns)} "
                f"(say which with --columns {name}=COLUMN)"
            )
        forced = True if name in discrete else False if name in continuous else None
        found[name] = _variable(name, column, frame[column], forced, source)
    used = [variable.column for variable in found.values()]
    if twice := sorted({column for column in used if used.count(column) > 1}):
        nodes = ", ".join(name for name, variable in found.items() if variable.column == twice[0])
        raise CausalFTError(f"column {twice[0]!r} stands for {nodes}; give every node a column of its own")
    return found


def _variable(name: str, column: str, series: pd.Series, forced: bool | None, source: str) -> Variable:
    import pandas as pd

    where = f"column {column!r} of {source}"
    if series.isna().any():
        row = int(np.flatnonzero(series.isna())[0]) + 1
        raise CausalFTError(
            f"{where} has {int(series.isna().sum())} missing values (first in row {row}); "
            "complete these rows, or remove them if they are missing at random"
        )
    numeric = pd.api.types.is_numeric_dtype(series) and not pd.api.types.is_bool_dtype(series)
    if not numeric and forced is not True:
        words = series[pd.to_numeric(series, errors="coerce").isna()] if series.dtype != bool else series
        if forced is False or len(words) < len(series) / 2:
            raise CausalFTError(
                f"{where} holds the text {str(words.iloc[0] if len(words) else series.iloc[0])!r} among numbers; "
                f"fix it, or give --discrete {name} if its values are names"
            )
    if numeric and not np.isfinite(series.to_numpy(float)).all():
        raise CausalFTError(f"{where} holds infinite values; fix or remove these rows")
    n, distinct = len(series), int(series.nunique())
    if distinct < 2:
        raise CausalFTError(
            f"{where} has one value only ({series.iloc[0]}): nothing can depend on it; "
            "give a column that varies, or take the node out of the graph"
        )
    whole = numeric and bool((series % 1 == 0).all())
    if forced if forced is not None else (not numeric or (whole and distinct <= n / 2)):
        if distinct > (n - 1 if forced else n / 2):
            raise CausalFTError(
                f"{where} has {distinct} values in {n} rows: an identifier, not a variable; "
                "give another column, or group its values"
            )
        levels, codes = np.unique(
            series.to_numpy() if numeric else series.astype(str).to_numpy(str), return_inverse=True
        )
        return Variable(name, column, codes.astype(np.int64), tuple(str(level) for level in levels))
    return Variable(name, column, series.to_numpy(float))
