"""Accuracies with a known slope."""

from __future__ import annotations

import numpy as np


def counts_and_accuracy(n_models=3, n_classes=300, slope=0.2, noise=0.03, seed=0, apart=0.5):
    """Log counts and accuracies (fractions) with ``slope`` per factor 100, class and model effects."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(3.5, 0.8, n_classes)
    log_counts = shared + rng.normal(0, apart, (n_models, n_classes)) + np.arange(n_models)[:, None]
    hard = 0.12 * rng.standard_normal(n_classes) - 0.08 * (shared - 3.5)
    within = log_counts - log_counts.mean()
    accuracy = 0.5 + hard + 0.03 * np.arange(n_models)[:, None] + slope / 2 * within
    accuracy = accuracy + noise * rng.standard_normal(accuracy.shape)
    return log_counts, accuracy
