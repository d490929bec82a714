"""The tuners: one file per kind of trained module."""
