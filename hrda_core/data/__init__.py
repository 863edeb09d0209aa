"""Data sets and image transforms. OpenCV and numpy; no torch."""
