"""The answers as functions of arrays and tables."""
