"""One file per verb, from settings to a finished run."""
