"""Weights of pretrained models: their names, files, local store and hub."""
