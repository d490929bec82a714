"""The methods: estimators, priors, and the adaptation of a stratum to a task."""
