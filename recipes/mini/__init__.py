"""The mini recipe: a tiny diffusion model trained on procedural portraits."""
