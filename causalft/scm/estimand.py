"""The answers of identification: one estimand in words, in a formula and in LaTeX, and all of them for one effect."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import networkx as nx

__all__ = ["Estimand", "Identification", "backdoor", "frontdoor", "instrument"]


@dataclass(frozen=True)
class Estimand:
    """One way to identify the effect of a treatment on an outcome.

    Attributes
    ----------
    kind : {"backdoor", "front-door", "instrument"}
    treatment, outcome : str
    variables : tuple of str
        The adjustment set, the front-door set, or the instrument.
    observed : bool
        Whether every one of the variables is observed. An instrument that is not cannot be used on data.
    words, formula, latex : str
        The estimand in a sentence, in plain text, and in LaTeX (without delimiters). Small letters are values.
    """

    kind: str
    treatment: str
    outcome: str
    variables: tuple[str, ...]
    observed: bool
    words: str
    formula: str
    latex: str

    def __repr__(self) -> str:
        return f"Estimand({self.kind} {{{', '.join(self.variables)}}}: {self.formula})"

    def to_dict(self) -> dict[str, Any]:
        """Return the estimand as plain types, ready for JSON."""
        return {
            "kind": self.kind,
            "variables": list(self.variables),
            "observed": self.observed,
            "words": self.words,
            "formula": self.formula,
            "latex": self.latex,
        }


@dataclass(frozen=True)
class Identification:
    """Everything a graph says about the effect of a treatment on an outcome.

    Attributes
    ----------
    has_effect : bool
        Whether a directed path leads from the treatment to the outcome. If not, the effect is zero.
    backdoor, frontdoor : tuple of Estimand
        All minimal sets of observed nodes, smallest first.
    instruments : tuple of Estimand
        One each; latent ones are marked not observed.
    open_path : str or None
        A backdoor path that no set of observed nodes closes; None if there is a backdoor set.
    complete : bool
        False if the graph is so large that the lists may lack some sets (those listed are valid all the same).
    """

    treatment: str
    outcome: str
    has_effect: bool
    backdoor: tuple[Estimand, ...]
    frontdoor: tuple[Estimand, ...]
    instruments: tuple[Estimand, ...]
    open_path: str | None = None
    complete: bool = True

    @property
    def identified(self) -> bool:
        """Whether observed variables give P(y | do(x)) by a backdoor or front-door set, or the effect is zero."""
        return bool(self.backdoor or self.frontdoor) or not self.has_effect

    @property
    def adjustment_set(self) -> tuple[str, ...] | None:
        """The first smallest backdoor set, or None if there is none."""
        return self.backdoor[0].variables if self.backdoor else None

    def __repr__(self) -> str:
        lines = [
            f"Effect of {self.treatment} on {self.outcome}: {'identified' if self.identified else 'not identified'}"
        ]
        if not self.has_effect:
            lines.append(f"  no directed path from {self.treatment} to {self.outcome}: the effect is zero")
        for estimand in (*self.backdoor, *self.frontdoor, *self.instruments):
            note = "" if estimand.observed else " (latent)"
            lines.append(f"  {estimand.kind} {{{', '.join(estimand.variables)}}}{note}: {estimand.formula}")
        if self.open_path:
            lines.append(f"  no backdoor set of observed variables: {self.open_path} stays open")
        if not self.complete:
            lines.append("  the graph has too many candidate sets to try all: more minimal sets may exist")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the identification as plain types, ready for JSON."""
        return {
            "treatment": self.treatment,
            "outcome": self.outcome,
            "has_effect": self.has_effect,
            "identified": self.identified,
            "adjustment_set": None if self.adjustment_set is None else list(self.adjustment_set),
            "backdoor": [estimand.to_dict() for estimand in self.backdoor],
            "frontdoor": [estimand.to_dict() for estimand in self.frontdoor],
            "instruments": [estimand.to_dict() for estimand in self.instruments],
            "open_path": self.open_path,
            "complete": self.complete,
        }


def backdoor(graph: nx.DiGraph, treatment: str, outcome: str, variables: Sequence[str]) -> Estimand:
    """Return the backdoor estimand: sum_c P(y | x, c) P(c) (paper, Eq. 7, where b stands for the content of x)."""
    chosen = tuple(variables)
    if chosen:
        words = (
            f"Within each value of {_listed(chosen)}, read off how {outcome} depends on {treatment}; then "
            f"average these with the weights P({', '.join(chosen)}) of the whole population, not with those of the "
            f"cases in which {treatment} took that value."
        )
    else:
        words = f"No backdoor path is open: how {outcome} depends on {treatment} in the data is the effect itself."

    def formula(value: Callable[[str], str], total: Callable[[str], str], bar: str, do: str) -> str:
        x, y, c = value(treatment), value(outcome), ", ".join(map(value, chosen))
        if not chosen:
            return f"P({y}{bar}{do}({x})) = P({y}{bar}{x})"
        return f"P({y}{bar}{do}({x})) = {total(c)} P({y}{bar}{x}, {c}){'' if bar == ' | ' else chr(92) + ','} P({c})"

    return _estimand(graph, "backdoor", treatment, outcome, chosen, words, formula)


def frontdoor(graph: nx.DiGraph, treatment: str, outcome: str, variables: Sequence[str]) -> Estimand:
    """Return the front-door estimand: sum_b P(b | x) sum_x' P(y | b, x') P(x')."""
    chosen = tuple(variables)
    mediators = _listed(chosen)
    words = (
        f"All of the effect runs through {mediators}. First read off how {treatment} sets {mediators}, then how "
        f"{outcome} depends on {mediators} within each value of {treatment}, averaged over P({treatment}); "
        "chain the two."
    )

    def formula(value: Callable[[str], str], total: Callable[[str], str], bar: str, do: str) -> str:
        x, y, b = value(treatment), value(outcome), ", ".join(map(value, chosen))
        return f"P({y}{bar}{do}({x})) = {total(b)} P({b}{bar}{x}) {total(x + chr(39))} P({y}{bar}{b}, {x}') P({x}')"

    return _estimand(graph, "front-door", treatment, outcome, chosen, words, formula)


def instrument(graph: nx.DiGraph, treatment: str, outcome: str, name: str) -> Estimand:
    """Return the instrumental-variable estimand: the Wald ratio, which holds for linear effects only."""
    words = (
        f"{name} moves {treatment} and reaches {outcome} in no other way. That alone bounds the effect; if the "
        f"effect is linear and alike for all, it is the slope of {outcome} on {name} divided by that of "
        f"{treatment} on {name}."
    )
    if graph.nodes[name].get("latent"):
        words += f" Here {name} is latent: an instrument by the graph, but of use only to who can measure it."
    ratio = f"d E[{outcome} | do({treatment})] / d {treatment} = Cov({outcome}, {name}) / Cov({treatment}, {name})"
    x, y, z = (_latex_name(each) for each in (treatment, outcome, name))
    latex = (
        rf"\frac{{\mathrm{{d}}\,\mathbb{{E}}[{y} \mid \operatorname{{do}}({x})]}}{{\mathrm{{d}}\,{x}}} = "
        rf"\frac{{\operatorname{{Cov}}({y}, {z})}}{{\operatorname{{Cov}}({x}, {z})}}"
    )
    observed = not graph.nodes[name].get("latent")
    return Estimand("instrument", treatment, outcome, (name,), observed, words, ratio, latex)


def _estimand(
    graph: nx.DiGraph,
    kind: str,
    treatment: str,
    outcome: str,
    chosen: tuple[str, ...],
    words: str,
    formula: Callable,
) -> Estimand:
    value = _values(graph)

    def total(variables: str) -> str:
        return (
            f"sum_{{{variables}}}"
            if "," in variables or len(variables.rstrip(chr(39))) > 1
            else f"sum_{variables}"
        )

    def latex_value(name: str) -> str:
        return _latex_name(value(name))

    plain = formula(value, total, " | ", "do")
    latex = formula(latex_value, lambda variables: rf"\sum_{{{variables}}}", r" \mid ", r"\operatorname{do}")
    observed = not any(graph.nodes[name].get("latent") for name in chosen)
    return Estimand(kind, treatment, outcome, chosen, observed, words, plain, latex)


def _values(graph: nx.DiGraph) -> Callable[[str], str]:
    """Return how to write the value of a variable: C takes the value c, unless two names would then be the same."""
    small = [name.lower() for name in graph]
    return str.lower if len(set(small)) == len(small) else str


def _latex_name(name: str) -> str:
    if len(name) == 1:
        return name
    escaped = "".join(rf"\{letter}" if letter in "_%&#${}" else letter for letter in name)
    return rf"\mathrm{{{escaped}}}"


def _listed(names: Iterable[str]) -> str:
    *head, last = names
    return f"{', '.join(head)} and {last}" if head else last
