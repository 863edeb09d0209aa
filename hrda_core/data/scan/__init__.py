"""Passes over a recording once and measures its cameras, their timing, and the quality of the frames."""
