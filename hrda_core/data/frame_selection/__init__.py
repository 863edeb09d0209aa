"""Chooses the frames of a drive that are worth adapting to, and writes them."""
