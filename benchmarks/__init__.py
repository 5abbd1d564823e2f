"""What the README and the model card say of speed and memory, measured again."""
