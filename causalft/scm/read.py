"""Reading a causal graph from a file in any of the formats of :mod:`causalft.scm.formats`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import networkx as nx

from causalft.errors import CausalFTError, nearest, short
from causalft.runs.files import read_bytes
from causalft.scm.formats.dagitty import parse_dagitty
from causalft.scm.formats.dot import parse_dot
from causalft.scm.formats.edge_list import parse_edge_list
from causalft.scm.formats.mermaid import parse_mermaid
from causalft.scm.formats.networkx_files import parse_gml, parse_node_link

__all__ = ["parse_edge_list", "read_graph"]

#: What a graph file may be, in the words of help and errors.
FORMATS = "an edge list, DOT, GML, DAGitty code, a Mermaid flowchart or node-link JSON"

_Parser = Callable[[str, str], nx.DiGraph]


def _refuse_xml(text: str, source: str) -> nx.DiGraph:
    raise CausalFTError(f"{source} is XML, which is not read; give {FORMATS}")


_BY_ENDING: dict[str, _Parser] = {
    ".gml": parse_gml,
    ".dot": parse_dot,
    ".gv": parse_dot,
    ".dagitty": parse_dagitty,
    ".mmd": parse_mermaid,
    ".mermaid": parse_mermaid,
    ".json": parse_node_link,
}
_COMMENTS = r"(?:\s++|//[^\n]*+|/\*.*?\*/|\#[^\n]*+)*+"
#: How the text of a file begins that is no edge list, whatever its ending.
_BY_OPENING: tuple[tuple[str, _Parser], ...] = (
    (_COMMENTS + r"(?:strict\s+)?(?:digraph\b|graph\b(?:[ \t]*[\w.]+|\s*\"[^\"]*\")?\s*\{)", parse_dot),
    (
        _COMMENTS
        + r"(?:[\w.]+\s*<-\s*)?(?:dagitty\s*\(\s*['\"]\s*)?p?(?:dag|mag|ag)\b\s*(?:\"[^\"]*\"\s*)?\{",
        parse_dagitty,
    ),
    (_COMMENTS + r"(?:Creator\s+\"[^\"]*\"\s*|Version\s+\S+\s*)*graph\s*\[", parse_gml),
    (r"(?:.*^[ \t]*(?:`{3,}|~{3,})\s*mermaid\b)", parse_mermaid),
    (
        r"(?:\s++|---[ \t]*\n.*?\n---[ \t]*\n|%%[^\n]*+)*+(?:graph|flowchart(?:-elk)?)\b[ \t]*"
        r"(?:TB|TD|BT|RL|LR)?[ \t]*(?:;|\n|%%|$)",
        parse_mermaid,
    ),
    (r"\s*(?:\[|\{\s*[\"}])", parse_node_link),
    (r"\s*<[?!\w]", _refuse_xml),
)
_MAX_BYTES = 64 << 20


def read_graph(path: str | os.PathLike[str]) -> nx.DiGraph:
    """Read a causal DAG from an edge list, DOT, GML, DAGitty code, a Mermaid flowchart or node-link JSON.

    The format is told by the ending (``.dot``, ``.gv``, ``.gml``, ``.dagitty``, ``.mmd``, ``.mermaid``, ``.json``) or
    by how the text begins; what is none of these is an edge list. What a file says of latency and direction is kept:
    a two-headed edge (``A <-> B``, in DOT ``dir=both``) stands for a latent common cause and becomes a latent node of
    its own; an edge without direction, and any mark that is not understood, is refused by name.

    Parameters
    ----------
    path : path-like
        A regular file. See :func:`parse_edge_list` for the lines of an edge list.

    Returns
    -------
    networkx.DiGraph
        Validated: directed, acyclic, every node named and marked ``latent`` or not.

    Raises
    ------
    CausalFTError
        If the file is missing, unreadable, or is not a DAG; the message names the file, and the line or the cycle.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "graph.txt"
    >>> _ = file.write_text("X <- C -> Y\\nX -> Y\\n")
    >>> sorted(read_graph(file).edges)
    [('C', 'X'), ('C', 'Y'), ('X', 'Y')]
    """
    if not str(path).strip():
        raise CausalFTError(f"the name of the graph file is empty; give {FORMATS}")
    file = Path(path)
    text = _text(file)
    if not text.strip():
        raise CausalFTError(f"{file} is empty; write one edge a line, for example X -> Y")
    return _parser(file.suffix.lower(), text)(text, str(file))


def _parser(ending: str, text: str) -> _Parser:
    """Tell the format: by what the text begins with, else by the ending, else it is an edge list."""
    for opening, parser in _BY_OPENING:
        if re.match(opening, text, flags=re.DOTALL | re.MULTILINE):
            return parser
    return _BY_ENDING.get(ending, lambda text, source: parse_edge_list(text, source=source))


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
        raise CausalFTError(f"{short(file, 300)} is not text (UTF-8); give {FORMATS}") from None
