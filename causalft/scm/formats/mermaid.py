"""Mermaid flowcharts: links, chains, labels, classes and subgraphs."""

from __future__ import annotations

import html
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from typing import NoReturn

import networkx as nx

from causalft.errors import CausalFTError, short
from causalft.scm.formats.graph_format import FILL, LINE, Draft, GraphFormat, node_roles
from causalft.scm.graph import ARROW, TAIL, latent_nodes

__all__ = ["FORMAT", "parse_mermaid", "to_mermaid"]

_HEADER = re.compile(r"(graph|flowchart(?:-elk)?)\b[ \t]*(TB|TD|BT|RL|LR|[<>^v])?[ \t]*(?=;|\n|$|%%)")
_SPACE = re.compile(r"(?:[ \t\r]|%%[^\n]*)+")
_ID = re.compile(r"(?:[\w./*#$!'+?\\]|-(?![-.>]))+")
#: A whole link: end mark, line (normal, thick, dotted), end mark; at least three long.
_LINK = re.compile(r"(?:\w+@)?(?P<left>[<xo])?(?P<line>-{2,}|={2,}|-\.+-)(?P<right>[>xo])?")
_INVISIBLE = re.compile(r"~~~+")
#: Opening and end of a link with text inside: -- text -->, == text ==>, -. text .->
_OPEN = re.compile(r"(?:\w+@)?(?P<left>[<xo])?(?P<line>--|==|-\.)(?=[^-=.>])")
_CLOSE = {
    "--": re.compile(r"-{2,}(?P<right>[>xo])|-{3,}"),
    "==": re.compile(r"={2,}(?P<right>[>xo])|={3,}"),
    "-.": re.compile(r"\.+-(?P<right>[>xo])?"),
}
_PAIRS = {"[": "]", "(": ")", "{": "}"}
_LATENT_CLASSES = {"latent", "latents", "unobserved", "hidden", "unmeasured"}


def parse_mermaid(text: str, source: str) -> nx.DiGraph:
    """Parse a Mermaid flowchart (``graph`` or ``flowchart``), also in a Markdown fence.

    A node is named by its label, or by its id without a label of its own; the id is another name for it on the command
    line. A node is latent if its class is called latent, unobserved or hidden, or a class or style of it has
    ``stroke-dasharray``. ``<-->`` is a latent common cause; ``~~~`` is layout only.

    Raises
    ------
    CausalFTError
        If it is another diagram or not valid, a link has no direction (``---``), ends in a circle or cross or at a
        subgraph, or the graph is not a DAG; the line is named.

    Examples
    --------
    >>> graph = parse_mermaid("graph LR; U[Genes]:::latent -.-> X & Y; X -->|causes| Y", "g.mmd")
    >>> list(graph.edges), graph.nodes["Genes"]["latent"]
    ([('Genes', 'X'), ('Genes', 'Y'), ('X', 'Y')], True)
    """
    return _Parser(text, source).parse()


class _Parser:
    def __init__(self, text: str, source: str) -> None:
        if fence := re.search(
            r"^[ \t]*(`{3,}|~{3,})\s*mermaid\b[^\n]*\n(.*?)^[ \t]*\1", text, re.DOTALL | re.MULTILINE
        ):
            text = "\n" * text.count("\n", 0, fence.start(2)) + fence.group(2)
        self.text, self.source, self.place = text, source, 0
        self.ends = [match.start() for match in re.finditer("\n", text)]
        self.labels: dict[str, str | None] = {}
        self.classes: dict[str, list[str]] = {}
        self.dashed: set[str] = set()  # classes and nodes whose outline is dashed
        self.edges: list[tuple[str, str, tuple[str, str], int]] = []
        self.subgraphs: dict[str, int] = {}
        self.open: list[int] = []

    def fail(self, what: str, place: int | None = None) -> NoReturn:
        raise CausalFTError(
            f"{self.source} line {self.line_at(self.place if place is None else place)}: {what}"
        )

    def line_at(self, place: int) -> int:
        return bisect_left(self.ends, place) + 1

    def parse(self) -> nx.DiGraph:
        self.skip(r"\s*---[ \t]*\n.*?\n---[ \t]*\n")  # front matter
        while self.skip(r"\s+|%%\{.*?\}%%|%%[^\n]*"):
            pass
        header = _HEADER.match(self.text, self.place)
        if header is None:
            word = self.text[self.place : self.place + 40].split("\n")[0]
            self.fail(f"{word!r} opens no flowchart; only `graph` and `flowchart` of Mermaid are read")
        self.place = header.end()
        while self.place < len(self.text):
            if not self.skip(r"(?:[\s;]|%%\{.*?\}%%|%%[^\n]*)+"):
                self.statement()
        if self.open:
            self.fail("a subgraph has no `end`", self.open[-1])
        return self.draft().graph()

    def skip(self, pattern: str) -> bool:
        match = re.compile(pattern, re.DOTALL).match(self.text, self.place)
        if match is None or match.end() == self.place:
            return False
        self.place = match.end()
        return True

    def line(self) -> str:
        """Take the rest of the line, or what is left of the statement before its semicolon."""
        match = re.compile(r"[^\n;]*").match(self.text, self.place)
        assert match is not None
        self.place = match.end()
        return match.group().split("%%")[0].strip()

    def statement(self) -> None:
        word = re.compile(
            r"(subgraph|end|direction|classDef|class|style|linkStyle|click|accTitle|accDescr)\b"
            r"(?![ \t]*(?:[-=.~<]{2}|&|@))"
        ).match(self.text, self.place)
        if word is None:
            self.chain()
            return
        start, self.place = self.place, word.end()
        if word.group() in ("accTitle", "accDescr"):
            self.skip(r"\s*\{.*?\}|[^\n]*")
            return
        words = self.line()
        if word.group() == "subgraph":
            title = re.match(r"[^\s\[]+", words)
            self.subgraphs[title.group() if title else ""] = start
            self.open.append(start)
        elif word.group() == "end":
            if not self.open or words:
                self.fail("`end` closes no subgraph; a node of this name is written End or END", start)
            self.open.pop()
        elif word.group() in ("classDef", "style"):
            for name in words.partition(" ")[0].split(","):
                if "stroke-dasharray" in words:
                    self.dashed.add(("class " if word.group() == "classDef" else "") + name)
        elif word.group() == "class":
            ids, _, name = words.rpartition(" ")
            for one in ids.split(","):
                self.classes.setdefault(one.strip(), []).append(name)

    def chain(self) -> None:
        left = self.group()
        while True:
            start = self.place
            self.skip(_SPACE.pattern)
            if self.skip(r"[;\n]") or self.place >= len(self.text):
                return
            marks = self.link()
            # a chain may go on in the next line after its link
            self.skip(r"(?:\s|%%[^\n]*)+")
            right = self.group()
            if marks is not None:
                self.edges += [(one, other, marks, start) for one in left for other in right]
            left = right

    def link(self) -> tuple[str, str] | None:
        """Take a link and its text; return the marks at its ends, or None if it is invisible."""
        start = self.place
        if self.skip(_INVISIBLE.pattern):
            return None
        match = _LINK.match(self.text, self.place)
        if match and match["line"] in ("--", "==") and not match["right"]:
            match = None
        if match is None:
            match = _OPEN.match(self.text, self.place)
            end = _CLOSE[match["line"]].search(self.text, match.end()) if match else None
            if match is None or end is None or "\n" in self.text[match.end() : end.start()]:
                token = re.split(r"\s", self.text[start : start + 40])[0] or self.text[start]
                self.fail(f"{token!r} is not a known link; write A --> B", start)
            left, right = match["left"], end.group("right")
            self.place = end.end()
        else:
            left, right = match["left"], match["right"]
            self.place = match.end()
        token = self.text[start : self.place].strip()
        token = token if len(token) < 40 else f"{token[:20]}...{token[-20:]}"
        self.skip(r'[ \t]*\|(?:"[^"]*"|[^|"])*\|')
        for end_mark in (left, right):
            if end_mark in ("o", "x"):
                self.fail(
                    f"the link '{token}' ends in a circle or cross, which says nothing of causes; write -->",
                    start,
                )
        if left and not right:
            self.fail(f"{token!r} is not a Mermaid link; swap the two ends and write -->", start)
        if not right:
            self.fail(f"the link '{token}' is undirected; give it a direction (A --> B)", start)
        return (ARROW if left else TAIL, ARROW)

    def group(self) -> list[str]:
        """Take one node, or several joined by ``&``."""
        names = [self.node()]
        while self.skip(r"[ \t]*&[ \t\n]*"):
            names.append(self.node())
        return names

    def node(self) -> str:
        match = _ID.match(self.text, self.place)
        if match is None:
            found = self.text[self.place : self.place + 20].split("\n")[0]
            self.fail(f"a node is expected at {found!r}")
        name = match.group()
        self.place = match.end()
        self.labels.setdefault(name, None)
        if self.text.startswith("@{", self.place):
            block = self.bracketed(self.place + 1)
            if label := re.search(r"""\blabel\s*:\s*(?:"([^"]*)"|'([^']*)'|([^,}]+))""", block):
                self.labels[name] = next(filter(None, label.groups()), "")
        elif self.text[self.place : self.place + 1] in _PAIRS:
            self.labels[name] = re.sub(r"^[\[({/\\]+|[\])}/\\]+$", "", self.bracketed(self.place)).strip()
        elif self.text.startswith(">", self.place):
            end = self.text.find("]", self.place)
            if end < 0:
                self.fail("'>' is not closed by ']'")
            self.labels[name] = self.text[self.place + 1 : end]
            self.place = end + 1
        while self.skip(r":::[ \t]*"):
            style = re.compile(r"[\w-]+").match(self.text, self.place)
            if style is None:
                self.fail("':::' has no class behind it")
            self.classes.setdefault(name, []).append(style.group())
            self.place = style.end()
        return name

    def bracketed(self, start: int) -> str:
        """Take a bracket and all inside it; brackets in quotes do not count."""
        wanted: list[str] = []
        place = start
        while place < len(self.text):
            letter = self.text[place]
            if letter == '"':
                place = self.text.find('"', place + 1)
                if place < 0:
                    break
            elif letter in _PAIRS:
                wanted.append(_PAIRS[letter])
            elif wanted and letter == wanted[-1]:
                wanted.pop()
                if not wanted:
                    self.place = place + 1
                    return self.text[start : self.place]
            place += 1
        return self.fail(f"{self.text[start]!r} is not closed", start)

    def draft(self) -> Draft:
        draft = Draft(self.source)
        written = {name: _plain(label) if label else (name, "") for name, label in self.labels.items()}
        titles = Counter(title for title, _ in written.values())
        names = {}
        for name, (title, meaning) in written.items():
            shared = titles[title] > 1 or not title
            names[name] = name if shared else title
            if shared and title != name:
                meaning = title
            if names[name] != name:
                draft.other_names[name] = names[name]
            draft.node(names[name], latent=self.is_latent(name), meaning=meaning)
        for left, right, marks, place in self.edges:
            for end in (left, right):
                if end in self.subgraphs:
                    self.fail(f"a link ends at the subgraph '{short(end)}'; link its nodes one by one", place)
            draft.edge(names[left], names[right], marks, f"line {self.line_at(place)}")
        return draft

    def is_latent(self, name: str) -> bool | None:
        classes = self.classes.get(name, [])
        if any(one.lower() in _LATENT_CLASSES or f"class {one}" in self.dashed for one in classes):
            return True
        return True if name in self.dashed or "class default" in self.dashed else None


def _plain(label: str) -> tuple[str, str]:
    """Return a label's first line and the rest of it, without quotes, Markdown's backquotes, tags and entities."""
    text = label.strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1].strip()
        if len(text) > 1 and text[0] == text[-1] == "`":
            text = text[1:-1].strip()
    title, *rest = re.split(r"<br\s*/?>", text, flags=re.IGNORECASE)
    return _unescaped(title), _unescaped(" ".join(rest))


def _unescaped(text: str) -> str:
    """Resolve Mermaid's entities, ``#35;`` and ``#quot;``, and take tags away."""
    text = re.sub(r"</?\w+[^<>]*>", "", text)
    text = re.sub(r"#(\d+);", lambda match: chr(int(match.group(1))), text)
    return re.sub(r"#([A-Za-z]\w*);", lambda match: html.unescape(f"&{match.group(1)};"), text).strip()


def to_mermaid(
    graph: nx.DiGraph,
    *,
    treatment: str | None = None,
    outcome: str | None = None,
    adjustment: Iterable[str] = (),
) -> str:
    """Return the graph as a Mermaid flowchart, for Markdown.

    Examples
    --------
    >>> print(to_mermaid(nx.DiGraph([("X", "Y")]), outcome="Y"))
    flowchart LR
      n0(("X"))
      n1(("Y"))
      n0 --> n1
      classDef outcome fill:#fbe3b5,stroke:#b07a00
      class n1 outcome
    <BLANKLINE>
    """
    roles = node_roles(graph, treatment, outcome, adjustment)
    latent = latent_nodes(graph)
    # Mermaid keeps some words (end, class, ...) for itself, so its ids are numbered and the names are labels.
    ids = {name: f"n{index}" for index, name in enumerate(graph.nodes)}
    lines = ["flowchart LR"]
    for name in graph.nodes:
        label = _entities(name)
        if meaning := graph.nodes[name].get("meaning"):
            label += f"<br/>{_entities(str(meaning))}"
        lines.append(f'  {ids[name]}(("{label}"))')
    lines += [
        f"  {ids[cause]} {'-.->' if cause in latent else '-->'} {ids[effect]}"
        for cause, effect in graph.edges
    ]
    if latent:
        lines.append("  classDef latent fill:#ffffff,stroke:#444444,stroke-dasharray:4 3")
        lines.append(f"  class {','.join(ids[name] for name in latent)} latent")
    for role in ("treatment", "outcome", "adjustment"):
        if members := [ids[name] for name in graph.nodes if roles.get(name) == role and name not in latent]:
            lines += [
                f"  classDef {role} fill:{FILL[role]},stroke:{LINE[role]}",
                f"  class {','.join(members)} {role}",
            ]
    return "\n".join(lines) + "\n"


def _entities(text: str) -> str:
    return re.sub(r'["<>#]', lambda match: f"#{ord(match.group())};", text)


FORMAT = GraphFormat(
    name="mermaid",
    title="a Mermaid flowchart",
    endings=(".mmd", ".mermaid"),
    opening=r"(?:.*^[ \t]*(?:`{3,}|~{3,})\s*mermaid\b)"
    r"|(?:\s++|---[ \t]*\n.*?\n---[ \t]*\n|%%[^\n]*+)*+(?:graph|flowchart(?:-elk)?)\b[ \t]*"
    r"(?:TB|TD|BT|RL|LR)?[ \t]*(?:;|\n|%%|$)",
    read=parse_mermaid,
    write=to_mermaid,
)
