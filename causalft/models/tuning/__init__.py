"""What is learnt on top of a stratum: adapters, heads, losses, and the one training loop."""
