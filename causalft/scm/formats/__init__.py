"""One file per format in which a causal graph may be written; each fills a :class:`~.draft.Draft`."""
