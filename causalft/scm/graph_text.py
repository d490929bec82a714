"""A causal graph as text that other tools read: DOT, DAGitty code, Mermaid. ``read_graph`` reads it back."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import networkx as nx

from causalft.scm.graph import latent_nodes, require_node

__all__ = ["FILL", "LINE", "WRITERS", "node_roles", "to_dagitty", "to_dot", "to_mermaid"]

# Okabe-Ito: readable without telling red from green. Fill, and the edge colour that goes with it.
FILL = {"treatment": "#cfe6f5", "outcome": "#fbe3b5", "adjustment": "#c9ebdf", "": "#f4f4f4"}
LINE = {"treatment": "#0072b2", "outcome": "#b07a00", "adjustment": "#00795a", "": "#444444"}


def node_roles(
    graph: nx.DiGraph, treatment: str | None, outcome: str | None, adjustment: Iterable[str]
) -> dict[str, str]:
    """Return the role of each node that has one: treatment, outcome or adjustment."""
    roles = {require_node(graph, name, "adjustment"): "adjustment" for name in adjustment}
    if treatment is not None:
        roles[require_node(graph, treatment, "treatment")] = "treatment"
    if outcome is not None:
        roles[require_node(graph, outcome, "outcome")] = "outcome"
    return roles


def to_dot(
    graph: nx.DiGraph,
    *,
    treatment: str | None = None,
    outcome: str | None = None,
    adjustment: Iterable[str] = (),
) -> str:
    """Return the graph as DOT text, which :func:`causalft.scm.read_graph` reads back.

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
            words.append(f"meaning={_quote(attributes['meaning'])}")
        lines.append(f"  {_quote(name)}{' [' + ', '.join(words) + ']' if words else ''};")
    lines += [f"  {_quote(cause)} -> {_quote(effect)};" for cause, effect in graph.edges]
    return "\n".join([*lines, "}"]) + "\n"


def to_dagitty(
    graph: nx.DiGraph,
    *,
    treatment: str | None = None,
    outcome: str | None = None,
    adjustment: Iterable[str] = (),
) -> str:
    """Return the graph as DAGitty code, for dagitty.net, its R package, pgmpy and DoWhy.

    Examples
    --------
    >>> print(to_dagitty(nx.DiGraph([("X", "Y")]), treatment="X"))
    dag {
      "X" [exposure]
      "Y"
      "X" -> "Y"
    }
    <BLANKLINE>
    """
    words = {"treatment": "exposure", "outcome": "outcome", "adjustment": "adjusted"}
    roles = node_roles(graph, treatment, outcome, adjustment)
    latent = latent_nodes(graph)
    lines = ["dag {"]
    for name in graph.nodes:
        marks = (["latent"] if name in latent else []) + ([words[roles[name]]] if name in roles else [])
        lines.append(f"  {_quote(name)}{' [' + ','.join(marks) + ']' if marks else ''}")
    lines += [f"  {_quote(cause)} -> {_quote(effect)}" for cause, effect in graph.edges]
    return "\n".join([*lines, "}"]) + "\n"


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def to_mermaid(
    graph: nx.DiGraph,
    *,
    treatment: str | None = None,
    outcome: str | None = None,
    adjustment: Iterable[str] = (),
) -> str:
    """Return the graph as a Mermaid flowchart (for Markdown that renders it).

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


#: The text formats by name.
WRITERS: dict[str, Callable[..., str]] = {"dot": to_dot, "dagitty": to_dagitty, "mermaid": to_mermaid}
