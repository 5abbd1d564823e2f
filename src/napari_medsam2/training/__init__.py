"""Training of the embedded model: synthetic volumes, clips, simulated prompts, losses, the trainer."""
