"""Masks into space: points with classes where there is depth, the ground ahead where there is one camera alone."""
