"""A stratum before and after tuning: settings, tuning, predictions of each member of a fusion."""
