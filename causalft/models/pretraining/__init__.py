"""Pre-training of the mini foundation models and of the mini Stable Diffusion."""
