"""The general ID algorithm: a formula for P(y | do(x)) in observed variables, or the proof that there is none.

Tian and Pearl's algorithm with c-factors (2002), complete by Huang and Valtorta (2006) and Shpitser and Pearl (2006).
y0, the usual library, is not used: up to release 0.2.11 it returns P(y | x) for the napkin graph, which is wrong (its
issues 372 and 404). Tests compare the formulas with exact interventions in random models.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import networkx as nx

from causalft.scm.graph import latent_nodes

__all__ = [
    "Expression",
    "Hedge",
    "Probability",
    "Product",
    "Ratio",
    "Sum",
    "identify_generally",
    "latent_projection",
]


class Expression:
    """A function of observed variables, built from their joint distribution."""

    #: The variable over which the expression sums to 1 for all values of the others, if any.
    head: str | None = None

    @cached_property
    def free(self) -> frozenset[str]:
        """The variables whose values the expression needs."""
        raise NotImplementedError

    @cached_property
    def size(self) -> int:
        """How many probabilities it holds, written out."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Probability(Expression):
    """P(of | given)."""

    of: str
    given: tuple[str, ...]

    @property
    def head(self) -> str:  # type: ignore[override]
        return self.of

    @cached_property
    def free(self) -> frozenset[str]:
        return frozenset((self.of, *self.given))

    @cached_property
    def size(self) -> int:
        return 1


@dataclass(frozen=True, eq=False)
class Product(Expression):
    """The product of factors; of none, 1."""

    factors: tuple[Expression, ...]

    @cached_property
    def free(self) -> frozenset[str]:
        return frozenset().union(*(factor.free for factor in self.factors))

    @cached_property
    def size(self) -> int:
        return sum(factor.size for factor in self.factors)


@dataclass(frozen=True, eq=False)
class Sum(Expression):
    """The sum of an expression over all values of some variables."""

    over: tuple[str, ...]
    body: Expression

    @cached_property
    def free(self) -> frozenset[str]:
        return self.body.free.difference(self.over)

    @cached_property
    def size(self) -> int:
        return self.body.size


@dataclass(frozen=True, eq=False)
class Ratio(Expression):
    """A conditional probability: a numerator over the same summed over ``head`` too, or over several variables."""

    numerator: Expression
    denominator: Expression
    head: str | None = None

    @cached_property
    def free(self) -> frozenset[str]:
        return self.numerator.free | self.denominator.free

    @cached_property
    def size(self) -> int:
        return self.numerator.size + self.denominator.size


def needed_names(expression: Expression) -> set[str]:
    """Return all variables of an expression, summed out or not."""
    names: set[str] = set()
    todo, seen = [expression], set()
    while todo:
        part = todo.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, Probability):
            names |= part.free
        elif isinstance(part, Product):
            todo += part.factors
        elif isinstance(part, Sum):
            todo.append(part.body)
        elif isinstance(part, Ratio):
            todo += [part.numerator, part.denominator]
    return names


@dataclass(frozen=True)
class Hedge:
    """Why there is no formula: two models agree on all observed variables and differ in the effect.

    Attributes
    ----------
    forest : tuple of str
        Nodes joined by hidden common causes, the treatment among them.
    root : tuple of str
        Those that stay joined without the treatment, which acts on them.
    """

    forest: tuple[str, ...]
    root: tuple[str, ...]


def latent_projection(graph: nx.DiGraph) -> tuple[nx.DiGraph, nx.Graph]:
    """Return the arrows between observed nodes, and the pairs of them with a hidden common cause.

    Examples
    --------
    >>> graph = nx.DiGraph([("X", "L"), ("L", "Y"), ("U", "X"), ("U", "Y")])
    >>> nx.set_node_attributes(graph, {"L": True, "U": True}, "latent")
    >>> arrows, pairs = latent_projection(graph)
    >>> list(arrows.edges), list(pairs.edges)
    ([('X', 'Y')], [('X', 'Y')])
    """
    latent = set(latent_nodes(graph))
    arrows: nx.DiGraph = nx.DiGraph()
    pairs: nx.Graph = nx.Graph()
    arrows.add_nodes_from(name for name in graph if name not in latent)
    pairs.add_nodes_from(arrows)
    below: dict[
        str, set[str]
    ] = {}  # the observed nodes that a node acts on, directly or through latent nodes
    for name in reversed(list(nx.topological_sort(graph))):
        below[name] = set()
        for child in graph.successors(name):
            below[name] |= below[child] if child in latent else {child}
    for name in graph:
        reached = [other for other in graph if other in below[name]]
        if name not in latent:
            arrows.add_edges_from((name, other) for other in reached)
        else:
            pairs.add_edges_from((a, b) for i, a in enumerate(reached) for b in reached[i + 1 :])
    return arrows, pairs


def identify_generally(graph: nx.DiGraph, treatment: str, outcome: str) -> Expression | Hedge:
    """Return a formula for P(outcome | do(treatment)) in observed variables, or the hedge that rules it out.

    Parameters
    ----------
    graph : networkx.DiGraph
        A DAG from :func:`causalft.scm.as_dag`; treatment and outcome are observed.

    Returns
    -------
    Expression or Hedge
        The expression may hold other variables, whose values do not matter.

    References
    ----------
    Tian & Pearl, "A general identification condition for causal effects", AAAI 2002; Huang & Valtorta, UAI 2006.

    Examples
    --------
    >>> from causalft.scm import parse_edge_list
    >>> identify_generally(parse_edge_list("X -> Y; X <-> Y"), "X", "Y")
    Hedge(forest=('X', 'Y'), root=('Y',))
    >>> napkin = parse_edge_list("W -> Z -> X -> Y; W <-> X; W <-> Y")
    >>> sorted(identify_generally(napkin, "X", "Y").free)
    ['X', 'Y', 'Z']
    """
    arrows, pairs = latent_projection(graph)
    ancestors = nx.ancestors(arrows, outcome) | {outcome}
    if treatment not in ancestors:
        return _marginal([], Probability(outcome, ()))
    arrows, pairs = arrows.subgraph(ancestors), pairs.subgraph(ancestors)
    problem = _Problem(arrows, pairs)
    rest = arrows.subgraph(ancestors - {treatment})
    wanted = nx.ancestors(rest, outcome) | {outcome}
    factors: list[Expression] = []
    for part in problem.components(wanted):
        whole = problem.component_of(part, ancestors)
        found = problem.c_factor(part, whole, problem.chain(whole))
        if isinstance(found, Hedge):
            return found
        factors.append(found)
    return _marginal(problem.sorted(wanted - {outcome}), _product(factors))


class _Problem:
    """The graph of one question; sets of nodes are in topological order."""

    def __init__(self, arrows: nx.DiGraph, pairs: nx.Graph) -> None:
        self.arrows, self.pairs = arrows, pairs
        self.order = {
            name: place for place, name in enumerate(nx.lexicographical_topological_sort(arrows, key=str))
        }

    def sorted(self, names: Iterable[str]) -> list[str]:
        return sorted(names, key=self.order.__getitem__)

    def components(self, names: Iterable[str]) -> list[set[str]]:
        """Return the c-components of a subgraph."""
        parts = nx.connected_components(self.pairs.subgraph(names))
        return sorted(parts, key=lambda part: min(map(self.order.__getitem__, part)))

    def component_of(self, part: set[str], names: Iterable[str]) -> set[str]:
        return set(nx.node_connected_component(self.pairs.subgraph(names), next(iter(part))))

    def chain(self, component: set[str]) -> Expression:
        """Return Q[component] of the whole graph: each node given the parents of its component so far."""
        factors: list[Expression] = []
        for name in self.sorted(component):
            earlier = [other for other in self.order if self.order[other] <= self.order[name]]
            near = self.component_of({name}, earlier)
            pillow = near.union(*(self.arrows.predecessors(other) for other in near)) - {name}
            factors.append(Probability(name, tuple(self.sorted(pillow))))
        return Product(tuple(factors))

    def c_factor(self, part: set[str], whole: set[str], known: Expression) -> Expression | Hedge:
        """Return Q[part] from Q[whole] (Tian & Pearl 2002, algorithm Identify), without recursion."""
        while True:
            inside = self.arrows.subgraph(whole)
            closed = part.union(*(nx.ancestors(inside, name) for name in part))
            if closed == part:
                return _marginal(self.sorted(whole - part), known)
            if closed == whole:
                return Hedge(tuple(self.sorted(whole)), tuple(self.sorted(part)))
            known = _marginal(self.sorted(whole - closed), known)
            smaller = self.component_of(part, closed)
            known = self.restrict(known, smaller, self.sorted(closed))
            whole = smaller

    def restrict(self, known: Expression, component: set[str], names: Sequence[str]) -> Expression:
        """Return Q[component] from Q[names], of which it is a c-component (Tian & Pearl 2002, lemma 4)."""
        if isinstance(known, Product) and [factor.head for factor in known.factors] == list(names):
            return Product(tuple(factor for factor in known.factors if factor.head in component))
        factors: list[Expression] = []
        place = 0
        while place < len(names):
            start = place
            while place < len(names) and names[place] in component:
                place += 1
            if place > start:  # the ratios of a run of neighbours telescope into one
                numerator, denominator = _marginal(names[place:], known), _marginal(names[start:], known)
                last = names[start] if place == start + 1 else None
                factors.append(Ratio(numerator, denominator, last) if start else numerator)
            place += 1
        return Product(tuple(factors))


def _product(factors: Sequence[Expression]) -> Expression:
    flat: list[Expression] = []
    for factor in factors:
        flat += factor.factors if isinstance(factor, Product) else [factor]
    return flat[0] if len(flat) == 1 else Product(tuple(flat))


def _marginal(over: Sequence[str], body: Expression) -> Expression:
    """Sum an expression over some variables; drop a factor that sums to 1 and that no other depends on."""
    left = list(over)
    if isinstance(body, Sum) and not set(body.over) & set(left):
        left, body = [*body.over, *left], body.body
    factors = list(body.factors) if isinstance(body, Product) else [body]
    again = True
    while again:
        again = False
        for factor in factors:
            if factor.head in left and not any(
                factor.head in other.free for other in factors if other is not factor
            ):
                left.remove(str(factor.head))
                factors.remove(factor)
                again = True
                break
    rest = _product(factors) if factors else Product(())
    return Sum(tuple(left), rest) if left else rest
