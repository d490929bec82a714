"""Edge lists: one edge per line, in the arrows that people and tools write; also Tetrad and causal-learn text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import networkx as nx

from causalft.errors import CausalFTError, short
from causalft.scm.formats.graph_format import Draft, GraphFormat
from causalft.scm.graph import ARROW, CIRCLE, TAIL

__all__ = ["FORMAT", "parse_edge_list"]

_HEADERS = {("source", "target"), ("from", "to"), ("cause", "effect"), ("parent", "child")}
_LATENT_WORDS = {"latent": True, "latents": True, "unobserved": True, "hidden": True, "observed": False}

_DASH = "-=\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u2500"
_UNICODE = {
    **dict.fromkeys("\u2192\u27f6\u21d2\u27f9", "->"),
    **dict.fromkeys("\u2190\u27f5\u21d0\u27f8", "<-"),
    **dict.fromkeys("\u2194\u27f7\u21d4\u27fa", "<->"),
}
_SIGNS = "".join(_UNICODE)

_ARROW = re.compile(rf"(?P<left>[<o*@])?[{_DASH}]+(?P<right>[>o*@])?", flags=re.IGNORECASE)
#: An arrow, known or not: no letter or digit but an o or x at its ends.
_ARROWISH = re.compile(rf"[ox]?[{_DASH}{_SIGNS}<>|~*@.+/\\^:&]+[ox]?")
#: An arrow without blanks around it, as in X->Y.
_GLUED = re.compile(rf"(<?[{_DASH}]+[>|]+|<+[{_DASH}]*|>+|[{_DASH}]{{2,}}|[{_SIGNS}]|~+)")
_CHUNK = re.compile(r'"((?:[^"\\]|\\.)*)"|(,)|((?:[^\s,"()]|\([^\s"()]*\)|[()])+)')
_NAME = re.compile(r'(?:[^\s,;{}\[\]<>"()]|\([^\s"()]*\))+')


@dataclass(frozen=True)
class _Token:
    text: str
    kind: str  # "name", "arrow" or "comma"


def parse_edge_list(text: str, *, source: str = "edge list") -> nx.DiGraph:
    """Parse an edge list: on each line ``A -> B``, a chain ``X <- C -> Y``, ``A,B``, or ``A B``.

    Arrows are ``->``, ``-->``, ``=>`` and their Unicode signs, in both directions; ``A <-> B`` is a latent common
    cause. ``#`` starts a comment, ``;`` ends an edge, ``latent: U, D`` marks latent nodes, and a first line
    ``source,target`` (or ``from,to``; ``cause,effect``) is a header. Beside an arrow, a name with blanks, commas or
    arrows needs double quotes. The text of Tetrad and causal-learn (``Graph Nodes:``, ``Graph Edges:``) is read too.

    Raises
    ------
    CausalFTError
        If a line is none of these (line and token are named), an edge is undirected or ends in a circle (CPDAG, PAG),
        or the graph is not a DAG.

    Examples
    --------
    >>> graph = parse_edge_list("latent: U\\nU -> X; X --> Y")
    >>> list(graph.edges), graph.nodes["U"]["latent"]
    ([('U', 'X'), ('X', 'Y')], True)
    """
    if re.search(r"^\s*graph edges:\s*$", text, flags=re.IGNORECASE | re.MULTILINE):
        return _tetrad(text, source)
    draft = Draft(source)
    said: dict[str, bool] = {}
    first = True
    for number, statement in _statements(text, source):
        where = f"{source} line {number}"
        word, colon, rest = statement.partition(":")
        if colon and word.strip().lower() in _LATENT_WORDS:
            latent = _LATENT_WORDS[word.strip().lower()]
            for name in _fields(_tokens(rest, where)):
                if said.setdefault(name, latent) != latent:
                    raise CausalFTError(f"{where}: {name} is called latent and observed; keep what is true")
            continue
        tokens = _tokens(statement, where)
        if not (first and tuple(name.lower() for name in _fields(tokens)) in _HEADERS):
            _add_edges(draft, tokens, statement, source, number)
        first = False
    for name, latent in said.items():
        draft.node(draft.known(name), latent=latent)
    return draft.graph()


def _statements(text: str, source: str) -> Iterator[tuple[int, str]]:
    """Yield line numbers and statements, split at ``;``, without comments; quoted text is left alone."""
    for number, line in enumerate(text.splitlines(), start=1):
        start, quoted = 0, False
        for index, letter in enumerate(line):
            if letter == '"' and (index == 0 or line[index - 1] != "\\"):
                quoted = not quoted
            elif letter == "#" and not quoted:
                line = line[:index]
                break
            elif letter == ";" and not quoted:
                if line[start:index].strip():
                    yield number, line[start:index].strip()
                start = index + 1
        if quoted:
            raise CausalFTError(f'{source} line {number}: a quote is not closed; close it with "')
        if line[start:].strip():
            yield number, line[start:].strip()


def _tokens(statement: str, where: str) -> list[_Token]:
    tokens: list[_Token] = []
    for quoted, comma, bare in _CHUNK.findall(statement):
        if comma:
            tokens.append(_Token(",", "comma"))
        elif not bare:
            tokens.append(_Token(quoted.replace('\\"', '"').replace("\\\\", "\\"), "name"))
        elif _ARROWISH.fullmatch(bare) and (bare[0] not in "ox" or (tokens and tokens[-1].kind == "name")):
            tokens.append(_Token(bare, "arrow"))
        else:
            pieces = [piece for piece in _GLUED.split(bare) if piece]
            if len(pieces) > 1 and pieces[0] in ("o", "*", "@") and tokens and tokens[-1].kind == "name":
                pieces[:2] = [pieces[0] + pieces[1]]  # the circle of `C o->X`, not a node called o
            for piece in pieces:
                if _ARROWISH.fullmatch(piece):
                    tokens.append(_Token(piece, "arrow"))
                    continue
                if not _NAME.fullmatch(piece) or piece[0] in _DASH or piece[-1] in _DASH:
                    raise CausalFTError(
                        f"{where}: '{short(piece)}' is neither an arrow nor a name; write ->, <- or <-> between "
                        "nodes, and put a name with such signs in double quotes"
                    )
                tokens.append(_Token(piece, "name"))
    return tokens


def _fields(tokens: Sequence[_Token]) -> tuple[str, ...]:
    """Return the names that commas separate, or, without commas, the names one by one."""
    if any(token.kind == "comma" for token in tokens):
        fields: list[list[str]] = [[]]
        for token in tokens:
            if token.kind == "comma":
                fields.append([])
            else:
                fields[-1].append(token.text)
        return tuple(" ".join(field) for field in fields if field)
    return tuple(token.text for token in tokens)


def _add_edges(draft: Draft, tokens: list[_Token], statement: str, source: str, number: int) -> None:
    where = f"{source} line {number}"
    if not any(token.kind == "arrow" for token in tokens):
        names = _fields(tokens)
        if len(names) != 2:
            raise CausalFTError(f"{where}: '{short(statement)}' is not an edge; write A -> B, A,B or A B")
        draft.edge(names[0], names[1], (TAIL, ARROW), f"line {number}")
        return
    # in A,->,B the commas only separate columns
    tokens = [
        token
        for index, token in enumerate(tokens)
        if token.kind != "comma"
        or not any(other.kind == "arrow" for other in tokens[max(index - 1, 0) : index + 2])
    ]
    for left, right in zip(tokens, tokens[1:]):
        if left.kind == right.kind == "arrow":
            raise CausalFTError(
                f"{where}: '{short(left.text)}' and '{short(right.text)}' have no node between them"
            )
        if "arrow" not in (left.kind, right.kind):
            raise CausalFTError(
                f"{where}: '{short(statement)}' has no arrow between '{short(left.text)}' and "
                f"'{short(right.text)}'; write one edge for each node, and put a name "
                "with blanks or commas in double quotes"
            )
    if tokens[0].kind == "arrow" or tokens[-1].kind == "arrow":
        raise CausalFTError(
            f"{where}: '{short(statement)}' has an arrow with no node beside it; write A -> B"
        )
    for left, arrow, right in zip(tokens[::2], tokens[1::2], tokens[2::2]):
        draft.edge(left.text, right.text, _marks(arrow.text, where), f"line {number}")


def _marks(arrow: str, where: str) -> tuple[str, str]:
    """Return the marks at the two ends of an arrow."""
    match = _ARROW.fullmatch(_UNICODE.get(arrow, arrow))
    if match is None:
        raise CausalFTError(f"{where}: '{short(arrow)}' is not a known arrow; write ->, <- or <->")
    ends = {None: TAIL, "<": ARROW, ">": ARROW}
    return ends.get(match["left"], CIRCLE), ends.get(match["right"], CIRCLE)


def _tetrad(text: str, source: str) -> nx.DiGraph:
    """Read ``Graph Nodes:`` (a latent name is in parentheses) and ``Graph Edges:`` (``1. X --> Y``)."""
    draft, section = Draft(source), ""
    for number, line in enumerate(text.splitlines(), start=1):
        line, where = line.strip(), f"{source} line {number}"
        if line.lower() in ("graph nodes:", "graph edges:", "graph attributes:", "graph node attributes:"):
            section = line.lower()
        elif not line or section.endswith("attributes:"):
            continue
        elif section == "graph nodes:":
            for name in filter(None, (name.strip() for name in re.split("[;,]", line))):
                hidden = name.startswith("(") and name.endswith(")")
                draft.node(name[1:-1] if hidden else name, latent=True if hidden else None)
        elif section == "graph edges:" and (match := re.match(r"\d+\.\s+(?P<edge>.*)", line)):
            words = match["edge"].split()
            words = words[:3] + [word for word in words[3:] if word not in ("dd", "nl", "pd", "pl")]
            edge = " ".join(
                word[1:-1] if word.startswith("(") and word.endswith(")") else word for word in words
            )
            _add_edges(draft, _tokens(edge, where), edge, source, number)
        else:
            raise CausalFTError(f"{where}: '{short(line)}' is not a line of a Tetrad graph (1. X --> Y)")
    return draft.graph()


FORMAT = GraphFormat(
    name="edge-list",
    title="an edge list",
    endings=(".txt", ".csv"),
    opening=None,
    read=lambda text, source: parse_edge_list(text, source=source),
)
