"""One file per format of labelled images."""
