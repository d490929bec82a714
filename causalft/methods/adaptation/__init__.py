"""A stratum before and after tuning: settings, tuning, the members of a fusion."""
