"""The ground floor: the causal graph, what it identifies, its discrete mechanisms, exact answers. Imports no torch."""

from __future__ import annotations

from causalft.scm.draw import draw_graph, save_graph
from causalft.scm.estimand import Estimand, Identification
from causalft.scm.exact import (
    Distribution,
    PositivityError,
    backdoor_adjustment,
    conditional,
    frontdoor_adjustment,
    general_formula,
    interventional,
    query,
)
from causalft.scm.falsification import Falsification, falsify
from causalft.scm.formats import read_graph
from causalft.scm.formats.dagitty import to_dagitty
from causalft.scm.formats.dot import to_dot
from causalft.scm.formats.edge_list import parse_edge_list
from causalft.scm.formats.mermaid import to_mermaid
from causalft.scm.graph import as_dag, causal_graph, latent_nodes, observed_nodes
from causalft.scm.identify import check_adjustment_set, check_frontdoor_set, identify, open_backdoor_path
from causalft.scm.mechanisms import DiscreteSCM
from causalft.scm.part_scm import PartSCM, part_types
from causalft.scm.separation import Independence, implied_independencies
from causalft.scm.table import read_table
from causalft.scm.unobserved import Strength, bounding_factor, confounding_bounds, e_value, strength_of

__all__ = [
    "DiscreteSCM",
    "Distribution",
    "Estimand",
    "Falsification",
    "Independence",
    "Identification",
    "PartSCM",
    "PositivityError",
    "Strength",
    "as_dag",
    "backdoor_adjustment",
    "bounding_factor",
    "causal_graph",
    "check_adjustment_set",
    "check_frontdoor_set",
    "conditional",
    "confounding_bounds",
    "draw_graph",
    "e_value",
    "falsify",
    "frontdoor_adjustment",
    "general_formula",
    "identify",
    "implied_independencies",
    "interventional",
    "latent_nodes",
    "observed_nodes",
    "open_backdoor_path",
    "parse_edge_list",
    "part_types",
    "query",
    "read_graph",
    "read_table",
    "save_graph",
    "strength_of",
    "to_dagitty",
    "to_dot",
    "to_mermaid",
]
