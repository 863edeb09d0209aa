"""Data sets, recordings and image transforms. Needs OpenCV and numpy, no torch."""
