"""The pages of the answers, built from the kit in `causalft.report`."""
