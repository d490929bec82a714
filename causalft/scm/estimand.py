"""The results of identification: an estimand in words, as a formula and in LaTeX, and all estimands of one effect."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import networkx as nx

from causalft.runs.notebook import ShownAsTable
from causalft.scm.general_id import Expression, Hedge, Probability, Product, Ratio, Sum, needed_names

__all__ = ["Estimand", "Identification", "backdoor", "frontdoor", "general", "instrument"]


@dataclass(frozen=True)
class Estimand(ShownAsTable):
    """One way to identify the effect of a treatment on an outcome.

    Attributes
    ----------
    kind : {"backdoor", "front-door", "general ID", "instrument", "conditional instrument"}
    treatment, outcome : str
    variables : tuple of str
        The adjustment set, front-door set or instrument, or all variables of the ID formula.
    observed : bool
        Whether all variables are observed.
    words, formula, latex : str
        The estimand in a sentence, as text, and in LaTeX without delimiters. Small letters are values.
    given : tuple of str
        What a conditional instrument is conditioned on.
    """

    kind: str
    treatment: str
    outcome: str
    variables: tuple[str, ...]
    observed: bool
    words: str
    formula: str
    latex: str
    given: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Kind and variables, as in "conditional instrument {Z} given {W}"."""
        given = f" given {{{', '.join(self.given)}}}" if self.given else ""
        return f"{self.kind} {{{', '.join(self.variables)}}}{given}"

    def __repr__(self) -> str:
        return f"Estimand({self.title}: {self.formula})"

    def to_dict(self) -> dict[str, Any]:
        """Return plain types for JSON."""
        return {
            "kind": self.kind,
            "variables": list(self.variables),
            "given": list(self.given),
            "observed": self.observed,
            "words": self.words,
            "formula": self.formula,
            "latex": self.latex,
        }


@dataclass(frozen=True)
class Identification(ShownAsTable):
    """What a graph says about the effect of a treatment on an outcome.

    Attributes
    ----------
    has_effect : bool
        Whether a directed path leads from treatment to outcome; if not, the effect is zero.
    backdoor, frontdoor : tuple of Estimand
        All minimal sets of observed nodes, smallest first.
    instruments, conditional_instruments : tuple of Estimand
        One estimand per node; conditional ones with a smallest set.
    general : Estimand or None
        The formula of the general ID algorithm, sought if there is neither a backdoor nor a front-door set.
    hedge : Hedge or None
        Why no formula exists; None if the effect is identified.
    open_path : str or None
        A backdoor path that no observed set closes; None if there is a backdoor set.
    complete, instruments_complete : bool
        False if the graph is too large to list every set or conditional instrument. Those listed are valid.
    """

    treatment: str
    outcome: str
    has_effect: bool
    backdoor: tuple[Estimand, ...]
    frontdoor: tuple[Estimand, ...]
    instruments: tuple[Estimand, ...]
    open_path: str | None = None
    complete: bool = True
    conditional_instruments: tuple[Estimand, ...] = ()
    general: Estimand | None = None
    hedge: Hedge | None = None
    instruments_complete: bool = True

    @property
    def identified(self) -> bool:
        """Whether observed variables give P(y | do(x)), or the effect is zero."""
        return bool(self.backdoor or self.frontdoor or self.general) or not self.has_effect

    @property
    def estimands(self) -> tuple[Estimand, ...]:
        """All estimands: sets, the general formula, instruments."""
        general = (self.general,) if self.general else ()
        return (*self.backdoor, *self.frontdoor, *general, *self.instruments, *self.conditional_instruments)

    @property
    def adjustment_set(self) -> tuple[str, ...] | None:
        """The first smallest backdoor set, or None."""
        return self.backdoor[0].variables if self.backdoor else None

    def _table(self) -> tuple[list[str], list[list[Any]]]:
        found = [*self.backdoor, *self.frontdoor, *self.instruments, *self.conditional_instruments]
        if self.general is not None:
            found.append(self.general)
        return ["by", "variables", "formula"], [[e.kind, e.variables, e.formula] for e in found]

    def __repr__(self) -> str:
        lines = [
            f"Effect of {self.treatment} on {self.outcome}: {'identified' if self.identified else 'not identified'}"
        ]
        if not self.has_effect:
            lines.append(f"  no directed path from {self.treatment} to {self.outcome}: the effect is zero")
        for estimand in self.estimands:
            note = "" if estimand.observed else " (latent)"
            lines.append(f"  {estimand.title}{note}: {estimand.formula}")
        if self.open_path:
            lines.append(f"  no backdoor set of observed variables: {self.open_path} stays open")
        if not self.identified:
            lines.append(f"  {self.why_not}")
        if not self.complete:
            lines.append("  the graph has too many candidate sets to try all: more minimal sets may exist")
        return "\n".join(lines)

    @property
    def why_not(self) -> str:
        """Why no formula in observed variables gives the effect; empty if one does."""
        if self.identified:
            return ""
        if self.hedge is None:
            return f"{self.treatment} or {self.outcome} is latent, so that nothing observed tells its values"
        forest, root = (", ".join(names) for names in (self.hedge.forest, self.hedge.root))
        return (
            f"no formula over observed variables gives it: hidden common causes hold {{{forest}}} together, and "
            f"{{{root}}} without {self.treatment} (a hedge)"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain types for JSON."""
        return {
            "treatment": self.treatment,
            "outcome": self.outcome,
            "has_effect": self.has_effect,
            "identified": self.identified,
            "adjustment_set": None if self.adjustment_set is None else list(self.adjustment_set),
            "backdoor": [estimand.to_dict() for estimand in self.backdoor],
            "frontdoor": [estimand.to_dict() for estimand in self.frontdoor],
            "instruments": [estimand.to_dict() for estimand in self.instruments],
            "conditional_instruments": [estimand.to_dict() for estimand in self.conditional_instruments],
            "general": None if self.general is None else self.general.to_dict(),
            "hedge": None if self.hedge is None else [list(self.hedge.forest), list(self.hedge.root)],
            "open_path": self.open_path,
            "complete": self.complete,
            "instruments_complete": self.instruments_complete,
        }


def backdoor(graph: nx.DiGraph, treatment: str, outcome: str, variables: Sequence[str]) -> Estimand:
    """Return the backdoor estimand sum_c P(y | x, c) P(c) (paper, Eq. 7, with b for the content of x)."""
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


def instrument(
    graph: nx.DiGraph, treatment: str, outcome: str, name: str, given: Sequence[str] = ()
) -> Estimand:
    """Return the instrumental-variable estimand: the Wald ratio, for linear effects."""
    within = f"Within each value of {_listed(given)}, " if given else ""
    words = (
        f"{within}{name} moves {treatment} and reaches {outcome} in no other way. That alone bounds the effect; if the "
        f"effect is linear and alike for all, it is the slope of {outcome} on {name} divided by that of "
        f"{treatment} on {name}{', given ' + _listed(given) if given else ''}."
    )
    if graph.nodes[name].get("latent"):
        words += f" Here {name} is latent: an instrument by the graph, but of use only to who can measure it."
    bar = f" | {', '.join(given)}" if given else ""
    ratio = (
        f"d E[{outcome} | do({treatment})] / d {treatment} = "
        f"Cov({outcome}, {name}{bar}) / Cov({treatment}, {name}{bar})"
    )
    x, y, z = (_latex_name(each) for each in (treatment, outcome, name))
    latex_bar = rf" \mid {', '.join(map(_latex_name, given))}" if given else ""
    latex = (
        rf"\frac{{\mathrm{{d}}\,\mathbb{{E}}[{y} \mid \operatorname{{do}}({x})]}}{{\mathrm{{d}}\,{x}}} = "
        rf"\frac{{\operatorname{{Cov}}({y}, {z}{latex_bar})}}{{\operatorname{{Cov}}({x}, {z}{latex_bar})}}"
    )
    observed = not graph.nodes[name].get("latent")
    kind = "conditional instrument" if given else "instrument"
    return Estimand(kind, treatment, outcome, (name,), observed, words, ratio, latex, tuple(given))


#: A formula with more probabilities than this is not written out.
_MAX_SIZE = 200


def general(graph: nx.DiGraph, treatment: str, outcome: str, expression: Expression) -> Estimand:
    """Return the estimand of the general ID algorithm."""
    names = [name for name in graph if name in needed_names(expression)]
    others = [name for name in graph if name in expression.free and name not in (treatment, outcome)]
    words = (
        f"No set of variables does it alone, but this formula over {_listed(names)} gives the effect (general ID "
        "algorithm)."
    )
    if others:
        words += f" It is the same whatever the value of {_listed(others)}."
    value = _values(graph)
    effect = f"P({value(outcome)} | do({value(treatment)}))"
    latex_effect = (
        rf"P({_latex_name(value(outcome))} \mid \operatorname{{do}}({_latex_name(value(treatment))}))"
    )
    if expression.size > _MAX_SIZE:
        text = latex = f"(a formula of {expression.size} probabilities, too long to write out)"
        latex = rf"\text{{{latex}}}"
    else:
        scope = {name: value(name) for name in (treatment, outcome, *expression.free)}
        text = _written(expression, scope, value, latex=False)
        latex = _written(
            expression, {key: _latex_name(name) for key, name in scope.items()}, value, latex=True
        )
    return Estimand(
        "general ID",
        treatment,
        outcome,
        tuple(names),
        True,
        words,
        f"{effect} = {text}",
        f"{latex_effect} = {latex}",
    )


def _written(
    expression: Expression, scope: dict[str, str], value: Callable[[str], str], *, latex: bool
) -> str:
    """Write an expression; a variable that is summed over gets a prime if its plain value is in use outside."""
    if isinstance(expression, Probability):
        bar = r" \mid " if latex else " | "
        given = bar + ", ".join(scope[name] for name in expression.given) if expression.given else ""
        return f"P({scope[expression.of]}{given})"
    if isinstance(expression, Product):
        # a sum extends as far as it can: sums stand last, all but the last in brackets
        ordered = sorted(expression.factors, key=lambda factor: isinstance(factor, Sum))
        parts = [_written(factor, scope, value, latex=latex) for factor in ordered]
        for place, factor in enumerate(ordered):
            last = place == len(ordered) - 1
            if (isinstance(factor, Sum) and not last) or (
                isinstance(factor, Ratio) and not latex and len(ordered) > 1
            ):
                parts[place] = rf"\left[{parts[place]}\right]" if latex else f"[{parts[place]}]"
        return (r"\, " if latex else " ").join(parts) or "1"
    if isinstance(expression, Sum):
        inner = dict(scope)
        for name in expression.over:
            plain = _latex_name(value(name)) if latex else value(name)
            while plain in scope.values():
                plain += "'"
            inner[name] = plain
        body = _written(expression.body, inner, value, latex=latex)
        over = ", ".join(inner[name] for name in expression.over)
        if latex:
            return rf"\sum_{{{over}}} {body}"
        return f"{_sum_sign(over)} {body}"
    assert isinstance(expression, Ratio)
    top, bottom = (
        _written(part, scope, value, latex=latex) for part in (expression.numerator, expression.denominator)
    )
    return rf"\frac{{{top}}}{{{bottom}}}" if latex else f"({top}) / ({bottom})"


def _sum_sign(variables: str) -> str:
    return (
        f"sum_{{{variables}}}" if "," in variables or len(variables.rstrip("'")) > 1 else f"sum_{variables}"
    )


def _estimand(
    graph: nx.DiGraph,
    kind: str,
    treatment: str,
    outcome: str,
    chosen: tuple[str, ...],
    words: str,
    formula: Callable[..., Any],
) -> Estimand:
    value = _values(graph)

    def latex_value(name: str) -> str:
        return _latex_name(value(name))

    plain = formula(value, _sum_sign, " | ", "do")
    latex = formula(latex_value, lambda variables: rf"\sum_{{{variables}}}", r" \mid ", r"\operatorname{do}")
    observed = not any(graph.nodes[name].get("latent") for name in chosen)
    return Estimand(kind, treatment, outcome, chosen, observed, words, plain, latex)


def _values(graph: nx.DiGraph) -> Callable[[str], str]:
    """Return how to write values: c for a value of C, unless two names would then be the same."""
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
