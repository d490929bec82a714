"""Is a factor a confounder? Estimates, tests, truth and verdict of the A/B experiment."""
