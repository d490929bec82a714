"""Classifiers with scikit-learn's manners, adjusted for a confounder by strata."""

from __future__ import annotations
