"""Figures and the HTML report: they take results and compute nothing."""

from __future__ import annotations
