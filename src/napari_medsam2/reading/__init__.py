"""Files of every kind as lazy slices; what `ImageStack` is built on, and nothing that a user calls."""
