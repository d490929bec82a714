"""The DOT language: its grammar, and the arrows and marks that other tools write."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

import networkx as nx

from causalft.errors import CausalFTError
from causalft.scm.formats.graph_format import COMMENTS, FILL, Draft, GraphFormat, node_roles, quoted
from causalft.scm.graph import ARROW, TAIL, edge_marks, latency

__all__ = ["FORMAT", "DotEdge", "DotGraph", "DotNode", "parse_dot", "parse_dot_text", "to_dot"]


_TOKEN = re.compile(
    r"""(?P<skip>\s+|//[^\n]*|/\*.*?\*/|^\#[^\n]*)
      | (?P<op>[<@]-+[>@]?|-+[>@]+|--+|=+>)
      | (?P<id>-?(?:\.\d+|\d+(?:\.\d*)?)(?![\w.%])|[\w.%]+)
      | (?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<sign>[{}\[\];,=:+])""",
    flags=re.VERBOSE | re.DOTALL | re.MULTILINE,
)


@dataclass
class DotNode:
    """A node, its attributes (defaults included; a flag without value is "true"), and its line."""

    name: str
    line: int
    attributes: dict[str, str]


@dataclass
class DotEdge:
    """An edge as written: ``left op right``."""

    left: str
    op: str
    right: str
    line: int
    attributes: dict[str, str]


@dataclass
class DotGraph:
    """A parsed graph. ``kind`` is digraph, graph, dag, pdag, mag or pag."""

    kind: str
    strict: bool = False
    nodes: dict[str, DotNode] = field(default_factory=dict)
    edges: list[DotEdge] = field(default_factory=list)


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    line: int


@dataclass
class _Scope:
    """One pair of braces: its defaults, its nodes, and the statement being read."""

    node_defaults: dict[str, str]
    edge_defaults: dict[str, str]
    members: dict[str, None] = field(default_factory=dict)
    chain: list[list[str]] = field(default_factory=list)
    ops: list[_Token] = field(default_factory=list)
    single: str | None = None  # the one node of the statement, so far


def parse_dot_text(text: str, source: str, kinds: Mapping[str, tuple[str, ...]]) -> DotGraph:
    """Parse one graph.

    Parameters
    ----------
    kinds : mapping of str to tuple of str
        Words that may open a graph, each with its edge operators.

    Raises
    ------
    CausalFTError
        At the first unexpected token; source, line and token are named.
    """
    return _Parser(text, source, kinds).parse()


class _Parser:
    def __init__(self, text: str, source: str, kinds: Mapping[str, tuple[str, ...]]) -> None:
        self.source, self.kinds = source, kinds
        self.tokens = list(self._scan(text))
        self.place = 0
        self.graph = DotGraph("digraph")
        self.stated: dict[tuple[str, str], DotEdge] = {}

    def fail(self, line: int, what: str) -> NoReturn:
        language = "DAGitty code" if "dag" in self.kinds else "DOT"
        raise CausalFTError(
            f"{self.source} is not valid {language} (line {line}): {what}; fix it, or write an edge list (A -> B)"
        )

    def _scan(self, text: str) -> Iterator[_Token]:
        place, line = 0, 1
        while place < len(text):
            match = _TOKEN.match(text, place)
            if match is None and text[place] == "<":
                end = self._html_end(text, place, line)
                yield _Token("html", text[place:end], line)
            elif match is None:
                what = "a quote is not closed" if text[place] in "\"'" else f"{text[place]!r} is not expected"
                self.fail(line, what)
            else:
                end = match.end()
                kind, raw = str(match.lastgroup), match.group()
                if kind == "quoted":
                    yield _Token("quoted", _unquoted(raw), line)
                elif kind != "skip":
                    yield _Token(kind, raw, line)
            line += text.count("\n", place, end)
            place = end
        yield _Token("end", "the end of the file", line)

    def _html_end(self, text: str, place: int, line: int) -> int:
        depth = 0
        for index in range(place, len(text)):
            depth += {"<": 1, ">": -1}.get(text[index], 0)
            if depth == 0:
                return index + 1
        return self.fail(line, "'<' is not closed")

    def peek(self, *texts: str) -> bool:
        token = self.tokens[self.place]
        return token.kind in ("sign", "op", "id") and token.text.lower() in texts

    def take(self) -> _Token:
        token = self.tokens[self.place]
        self.place = min(self.place + 1, len(self.tokens) - 1)
        return token

    def expect(self, text: str) -> _Token:
        token = self.take()
        if token.kind != "sign" or token.text != text:
            self.fail(token.line, f"{text!r} is expected before {token.text[:40]!r}")
        return token

    def atom(self) -> str:
        """Take an identifier: a word, a number, a quoted string (``+`` joins several), or HTML."""
        token = self.take()
        if token.kind not in ("id", "quoted", "html"):
            self.fail(token.line, f"a name is expected before {token.text[:40]!r}")
        text = token.text
        while token.kind == "quoted" and self.peek("+"):
            self.take()
            token = self.take()
            if token.kind != "quoted":
                self.fail(token.line, "'+' joins quoted strings only")
            text += token.text
        return text

    def parse(self) -> DotGraph:
        if self.peek("strict"):
            self.take()
            self.graph.strict = True
        opening = self.take()
        self.graph.kind = opening.text.lower()
        if opening.kind != "id" or self.graph.kind not in self.kinds:
            self.fail(opening.line, f"{opening.text[:40]!r} opens no graph ({', '.join(self.kinds)})")
        if not self.peek("{"):
            self.atom()
        self.expect("{")
        scopes = [_Scope({}, {})]
        while scopes:
            self.statement(scopes)
        rest = self.take()
        while rest.kind == "sign" and rest.text == ";":
            rest = self.take()
        if rest.kind != "end":
            self.fail(rest.line, f"{rest.text[:40]!r} stands after the graph; one file holds one graph")
        return self.graph

    def statement(self, scopes: list[_Scope]) -> None:
        """Read up to the next end of a node, an edge's end, or a brace. Scopes stand in a list: nesting may be deep."""
        scope = scopes[-1]
        token = self.tokens[self.place]
        if scope.ops and (token.kind == "end" or self.peek("}", ";")):
            self.fail(scope.ops[-1].line, f"{scope.ops[-1].text[:20]!r} has no node behind it")
        if token.kind == "end":
            self.fail(token.line, "'}' is missing at the end")
        if self.peek("}"):
            self.take()
            scopes.pop()
            if scopes:
                scopes[-1].members.update(scope.members)
                self.endpoint(scopes[-1], list(scope.members), None)
            return
        if self.peek(";", ",") and not scope.ops:
            self.take()
        elif self.peek("{", "subgraph"):
            if self.take().text != "{":
                if not self.peek("{"):
                    self.atom()
                self.expect("{")
            scopes.append(_Scope(dict(scope.node_defaults), dict(scope.edge_defaults)))
        elif self.peek("node", "edge", "graph") and not scope.ops:
            which = self.take().text.lower()
            if not self.peek("["):
                self.fail(
                    token.line, f"{token.text!r} is a word of the language; a node of this name needs quotes"
                )
            said = self.attributes()
            if which != "graph":
                (scope.node_defaults if which == "node" else scope.edge_defaults).update(said)
        else:
            name = self.atom()
            if self.peek("=") and not scope.ops:
                self.take()
                self.atom()
                return
            while self.peek(":"):  # a port and a compass point
                self.take()
                self.atom()
            self.mention(scope, name, token.line)
            self.endpoint(scope, [name], name)

    def mention(self, scope: _Scope, name: str, line: int) -> None:
        if name not in self.graph.nodes:
            self.graph.nodes[name] = DotNode(name, line, dict(scope.node_defaults))
        scope.members[name] = None

    def endpoint(self, scope: _Scope, names: list[str], single: str | None) -> None:
        """Add one end to the statement of a scope; finish the statement unless an operator follows."""
        scope.chain.append(names)
        scope.single = single
        token = self.tokens[self.place]
        if token.kind == "op":
            if token.text not in self.kinds[self.graph.kind]:
                known = " or ".join(self.kinds[self.graph.kind])
                self.fail(
                    token.line, f"{token.text[:20]!r} is not an edge of a {self.graph.kind}; write {known}"
                )
            scope.ops.append(self.take())
            return
        said = self.attributes() if self.peek("[") else {}
        if scope.ops:
            for left, op, right in zip(scope.chain, scope.ops, scope.chain[1:]):
                self.edges(left, op, right, {**scope.edge_defaults, **said}, said)
        elif single is not None:
            self.graph.nodes[single].attributes.update(said)
        elif said:
            self.fail(token.line, "'[' stands behind a subgraph, which has no attributes")
        scope.chain, scope.ops = [], []

    def edges(
        self, left: list[str], op: _Token, right: list[str], said: dict[str, str], explicit: dict[str, str]
    ) -> None:
        for cause in left:
            for effect in right:
                edge = DotEdge(cause, op.text, effect, op.line, dict(said))
                if self.graph.strict:  # one edge a pair; a second statement only adds attributes
                    key = (min(cause, effect), max(cause, effect)) if op.text == "--" else (cause, effect)
                    if key in self.stated:
                        self.stated[key].attributes.update(explicit)
                        continue
                    self.stated[key] = edge
                self.graph.edges.append(edge)

    def attributes(self) -> dict[str, str]:
        said: dict[str, str] = {}
        while self.peek("["):
            self.take()
            while not self.peek("]"):
                key = self.atom()
                value = "true"
                if self.peek("="):
                    self.take()
                    value = self.atom()
                said[key.strip().lower()] = value
                if self.peek(",", ";"):
                    self.take()
            self.take()
        return said


def _unquoted(raw: str) -> str:
    """Take the quotes off: ``\\"`` is a quote, ``\\\\`` a backslash; a backslash at a line's end joins two lines."""
    return re.sub(r"\\(\r?\n|.)", lambda match: _escape(match.group(1)), raw[1:-1], flags=re.DOTALL)


def _escape(letter: str) -> str:
    if letter in "\"'\\":
        return letter
    return "" if letter.endswith("\n") else "\\" + letter


_KINDS = {"digraph": ("->",), "graph": ("--",)}


def parse_dot(text: str, source: str) -> nx.DiGraph:
    """Parse DOT: ``observed``, ``latent``, ``style=dashed`` of nodes, ``dir`` and arrow heads of edges, defaults.

    A node is named by its identifier; its ``label`` is another name for it on the command line.

    Raises
    ------
    CausalFTError
        If it is not valid DOT, an edge has no direction, or the graph is not a DAG; the line is named.

    Examples
    --------
    >>> graph = parse_dot("digraph { node [observed=no] U; node [observed=yes] X -> U [dir=back] }", "g.dot")
    >>> list(graph.edges), graph.nodes["U"]["latent"]
    ([('U', 'X')], True)
    """
    read = parse_dot_text(text, source, _KINDS)
    draft = Draft(source)
    names = _causal_learn_names(read)
    invisible = set()
    for node in read.nodes.values():
        where = f"{source} line {node.line}: node {node.name}"
        if "invis" in node.attributes.get("style", "").lower():
            invisible.add(node.name)
            continue
        latent = latency(node.attributes, where)
        if names and latent is None and node.attributes.get("shape") == "square":
            latent = True
        draft.node(names.get(node.name, node.name), latent=latent, meaning=node.attributes.get("meaning", ""))
        label = node.attributes.get("label", "")
        if label and not names and not label.startswith("<"):
            draft.other_names[label] = node.name
    default = (TAIL, ARROW) if read.kind == "digraph" else (TAIL, TAIL)
    for edge in read.edges:
        where = f"line {edge.line}"
        between = f"{source} {where}: edge {edge.left} {edge.op} {edge.right}"
        marks = edge_marks(edge.attributes, between, default)
        if marks is None:
            continue
        if hidden := invisible & {edge.left, edge.right}:
            raise CausalFTError(
                f"{between}: {hidden.pop()} is invisible (style=invis); show it, or remove the edge"
            )
        draft.edge(names.get(edge.left, edge.left), names.get(edge.right, edge.right), marks, where)
    return draft.graph()


def _causal_learn_names(read: DotGraph) -> Mapping[str, str]:
    """Return the labels of a graph as causal-learn writes it: numbered nodes, both ends of every edge described.

    Only there a square is a latent node; in path diagrams squares are observed.
    """
    labels = {node.name: node.attributes.get("label", "") for node in read.nodes.values()}
    numbered = all(name.isdigit() and label for name, label in labels.items())
    described = all({"arrowhead", "arrowtail"} <= set(edge.attributes) for edge in read.edges)
    return labels if numbered and described and len(set(labels.values())) == len(labels) else {}


def to_dot(
    graph: nx.DiGraph,
    *,
    treatment: str | None = None,
    outcome: str | None = None,
    adjustment: Iterable[str] = (),
) -> str:
    """Return the graph as DOT, which :func:`causalft.scm.read_graph` reads back.

    Examples
    --------
    >>> print(to_dot(nx.DiGraph([("X", "Y")]), treatment="X"))
    digraph causal {
      rankdir=LR;
      node [shape=circle];
      "X" [style="filled", fillcolor="#cfe6f5"];
      "Y";
      "X" -> "Y";
    }
    <BLANKLINE>
    """
    roles = node_roles(graph, treatment, outcome, adjustment)
    lines = ["digraph causal {", "  rankdir=LR;", "  node [shape=circle];"]
    for name, attributes in graph.nodes(data=True):
        words = []
        if attributes.get("latent"):
            words += ["latent=true", 'style="dashed"']
        elif name in roles:
            words += ['style="filled"', f'fillcolor="{FILL[roles[name]]}"']
        if attributes.get("meaning"):
            words.append(f"meaning={quoted(attributes['meaning'])}")
        lines.append(f"  {quoted(name)}{' [' + ', '.join(words) + ']' if words else ''};")
    lines += [f"  {quoted(cause)} -> {quoted(effect)};" for cause, effect in graph.edges]
    return "\n".join([*lines, "}"]) + "\n"


FORMAT = GraphFormat(
    name="dot",
    title="DOT",
    endings=(".dot", ".gv"),
    opening=COMMENTS + r"(?:strict\s+)?(?:digraph\b|graph\b(?:[ \t]*[\w.]+|\s*\"[^\"]*\")?\s*\{)",
    read=parse_dot,
    write=to_dot,
)
