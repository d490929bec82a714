"""The kit of every page: style, figures and one self-contained HTML page; takes results, computes nothing."""

from __future__ import annotations
