"""Causal tools for foundation models under long-tailed data: verify a confounder, diagnose imbalance, adjust for it."""

from __future__ import annotations

__version__ = "0.1.0"
