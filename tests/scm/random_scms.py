"""Random DAGs and random discrete models on them, for the property tests of the ground floor."""

from __future__ import annotations

import networkx as nx
import numpy as np
from hypothesis import strategies as st

from causalft.scm import DiscreteSCM, as_dag


@st.composite
def dags(draw: st.DrawFn, max_nodes: int = 6, latent: bool = False) -> nx.DiGraph:
    """Draw a DAG with two nodes or more and one edge or more, its nodes in a random order."""
    n = draw(st.integers(2, max_nodes))
    # A seeded generator reaches dense and tangled graphs, which lists of edges drawn one by one hardly do.
    rng = np.random.default_rng(draw(st.integers(0, 1 << 20)))
    density = draw(st.sampled_from((0.3, 0.5, 0.7)))
    names = rng.permutation(list("ABCDEFGH"[:n])).tolist()
    pairs = [(names[i], names[j]) for i in range(n) for j in range(i + 1, n)]
    graph = nx.DiGraph()
    graph.add_nodes_from(rng.permutation(names).tolist())
    graph.add_edges_from([pair for pair in pairs if rng.random() < density] or pairs[:1])
    hidden = rng.choice(names, size=rng.integers(0, 3), replace=False).tolist() if latent else []
    return as_dag(graph, latent=hidden)


def random_scm(graph: nx.DiGraph, seed: int, n_states: int = 2) -> DiscreteSCM:
    """Return a model with random positive tables on a DAG."""
    rng = np.random.default_rng(seed)
    tables = {}
    for name in graph:
        shape = (n_states,) * graph.in_degree(name)
        tables[name] = rng.dirichlet(np.full(n_states, 0.7), size=shape) * 0.9 + 0.1 / n_states
    return DiscreteSCM(graph, {name: [str(i) for i in range(n_states)] for name in graph}, tables)


def joint_table(scm: DiscreteSCM) -> np.ndarray:
    """Multiply the tables out: the joint distribution with one axis a node, in the order of the graph."""
    names = list(scm.graph)
    joint = np.ones([scm.n_states(name) for name in names])
    for name in names:
        axes = [names.index(parent) for parent in scm.parents(name)] + [names.index(name)]
        shape = [joint.shape[axis] if axis in axes else 1 for axis in range(len(names))]
        joint = joint * np.transpose(scm.tables[name], np.argsort(axes)).reshape(shape)
    return joint
