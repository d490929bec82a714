"""Foundation models as strata of the semantic factor C: names, loading, pre-training, frozen features."""
