"""Foundation models: weights, strata, features, tuning, pre-training."""
