"""What is known of data without opening any: the name of the built-in set, and of the orders against a label prior."""

from __future__ import annotations

__all__ = ["CREATURES", "PRIOR_ORDERS"]

CREATURES = "creatures-lt"
"""The built-in set (:mod:`causalft.datasets.creatures`)."""

PRIOR_ORDERS = ("consistency", "reverse", "balance")
"""How a downstream order can stand to a label prior (Chen et al., ICML 2025, Fig. 7)."""
