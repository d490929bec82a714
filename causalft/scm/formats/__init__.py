"""Graph files: one record per format in a file of its own, and the reader that tells them apart."""

from __future__ import annotations

import os
import re
from pathlib import Path

import networkx as nx

from causalft.errors import CausalFTError, nearest, short
from causalft.runs.files import read_bytes
from causalft.scm.formats import dagitty, dot, edge_list, gml, mermaid, node_link
from causalft.scm.formats.graph_format import GraphFormat

__all__ = ["FORMATS", "KNOWN", "WRITERS", "read_graph"]

FORMATS = (edge_list.FORMAT, dot.FORMAT, gml.FORMAT, dagitty.FORMAT, mermaid.FORMAT, node_link.FORMAT)
"""Every format; of those whose ``opening`` matches a text, the first reads it."""

WRITERS = {each.name: each.write for each in FORMATS if each.write}
KNOWN = f"{', '.join(each.title for each in FORMATS[:-1])} or {FORMATS[-1].title}"
"""The formats in the words of help and errors."""

_MAX_BYTES = 64 << 20


def read_graph(path: str | os.PathLike[str]) -> nx.DiGraph:
    """Read a causal DAG from a file in any of `FORMATS`.

    The format is told by how the text begins, then by the file's ending; anything else is an edge list. Stated latency
    and direction are kept: a two-headed edge (``A <-> B``, in DOT ``dir=both``) becomes a latent common cause.
    Undirected edges and unknown marks are refused by name.

    Returns
    -------
    networkx.DiGraph
        Directed, acyclic; every node named and marked ``latent`` or not.

    Raises
    ------
    CausalFTError
        If the file is missing, unreadable or not a DAG; the message names the file, and the line or the cycle.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "graph.txt"
    >>> _ = file.write_text("X <- C -> Y\\nX -> Y\\n")
    >>> sorted(read_graph(file).edges)
    [('C', 'X'), ('C', 'Y'), ('X', 'Y')]
    """
    if not str(path).strip():
        raise CausalFTError(f"the name of the graph file is empty; give {KNOWN}")
    file = Path(path)
    text = _text(file)
    if not text.strip():
        raise CausalFTError(f"{file} is empty; write one edge per line, for example X -> Y")
    return _format_of(file, text).read(text, str(file))


def _format_of(file: Path, text: str) -> GraphFormat:
    """Tell the format by how the text begins, then by the ending; anything else is an edge list."""
    for each in FORMATS:
        if each.opening and re.match(each.opening, text, flags=re.DOTALL | re.MULTILINE):
            return each
    if re.match(r"\s*<[?!\w]", text):
        raise CausalFTError(f"{file} is XML, which is not read; give {KNOWN}")
    return next((each for each in FORMATS if file.suffix.lower() in each.endings), edge_list.FORMAT)


def _text(file: Path) -> str:
    if not os.path.lexists(file):
        siblings = [item.name for item in file.parent.iterdir()] if file.parent.is_dir() else []
        hint = nearest(file.name, siblings) if siblings else ""
        raise CausalFTError(
            f"{short(file, 300)}: no such graph file; {hint if hint.startswith('did') else 'check the path'}"
        )
    try:
        return read_bytes(file, limit=_MAX_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CausalFTError(f"{short(file, 300)} is not text (UTF-8); give {KNOWN}") from None
