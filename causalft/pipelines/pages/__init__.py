"""Report pages, built from the kit in `causalft.report`."""
