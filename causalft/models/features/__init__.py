"""Frozen features: what a model is shown, its encoder, and the cache of the results."""
